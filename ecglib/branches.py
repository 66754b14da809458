"""Which branch decides: every logit of a network with two branches as CNN part + LSTM part + constant, exactly.

The split needs an affine head: z = A f + B h + c, with f what the head takes from the CNN and h the LSTM's features.
ECGNet's head is three affine layers without activations between them, and murugesan-gap's is one, so both qualify; the
parts are read off the live head (with one half of its input set to zero), not off its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ecglib.errors import DataError
from ecglib.models.murugesan import TwoBranches
from ecglib.modes import evaluating
from ecglib.scores import draws

#: how a branch is silenced: its part of the logits is set to its mean over the windows, or to zero
SILENCES = ("mean", "zero")


@dataclass(frozen=True)
class Parts:
    """Logits in parts: ``cnn`` and ``lstm`` (N, n_classes), ``bias`` (n_classes,); they add up to the logits."""

    cnn: np.ndarray
    lstm: np.ndarray
    bias: np.ndarray

    @property
    def logits(self) -> np.ndarray:
        """The whole: (N, n_classes)."""
        return self.cnn + self.lstm + self.bias

    def silenced(self, branch: str, *, by: str = "mean") -> np.ndarray:
        """Logits (N, n_classes) if ``branch`` ("cnn" or "lstm") tells nothing of the window.

        ``by`` "mean" puts the branch's mean over the windows in its place, "zero" nothing: what a branch adds to every
        window alike then goes as well, so that whole classes can gain or lose.
        """
        part = self.cnn if branch == "cnn" else self.lstm
        rest = self.lstm if branch == "cnn" else self.cnn
        return rest + self.bias + (part.mean(0) if by == "mean" else 0)

    def spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Standard deviation over the windows of each class's part of the CNN and of the LSTM, (n_classes,) each.

        Before it is taken, the mean over classes is: what all classes gain alike decides nothing.
        """
        return tuple((p - p.mean(1, keepdims=True)).std(0) for p in (self.cnn, self.lstm))  # type: ignore[return-value]


def separable(model: nn.Module) -> bool:
    """Whether a network has two branches under an affine head."""
    layers = list(model.head.modules()) if isinstance(model, TwoBranches) else [nn.ReLU()]  # type: ignore[operator, union-attr]
    return all(isinstance(layer, (nn.Linear, nn.Sequential)) for layer in layers)


def parts(model: nn.Module, x: np.ndarray | Tensor, *, batch_size: int = 256) -> Parts:
    """Split the logits of windows x (N, 1, 720).

    Raises
    ------
    DataError
        The network has not two branches under an affine head.
    """
    if not separable(model):
        raise DataError(f"{type(model).__name__} has not two branches under an affine head; take a murugesan network")
    size = 40  # features of the LSTM, the last columns of the head's input
    seen: list[Tensor] = []
    device = next(model.parameters()).device
    hook = model.head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))  # type: ignore[union-attr]
    try:
        with evaluating(model), torch.inference_mode():
            for batch in torch.as_tensor(x).split(batch_size):
                model(batch.to(device))
            hook.remove()
            joined = torch.cat(seen)
            only_cnn, only_lstm = joined.clone(), joined.clone()
            only_cnn[:, -size:], only_lstm[:, :-size] = 0, 0
            bias = model.head(torch.zeros_like(joined[:1]))  # type: ignore[operator]
            cnn, lstm = (model.head(half) - bias for half in (only_cnn, only_lstm))  # type: ignore[operator]
    finally:
        hook.remove()
    return Parts(cnn.cpu().numpy(), lstm.cpu().numpy(), bias[0].cpu().numpy())


def conditions(split: Parts) -> dict[str, np.ndarray]:
    """Logits (N, n_classes) of the whole network, "both", and without one branch, by each way of `SILENCES`."""
    return {"both": split.logits} | {
        f"without {branch}, {by}": split.silenced(branch, by=by) for by in SILENCES for branch in ("cnn", "lstm")
    }


def accuracies(split: Parts, y: np.ndarray) -> dict[str, float]:
    """Accuracy for labels y (N,) under each of `conditions`."""
    return {name: round(float((z.argmax(1) == y).mean()), 4) for name, z in conditions(split).items()}


def effects(
    logits: Mapping[str, np.ndarray], y: np.ndarray, patient: np.ndarray, *, n_boot: int = 2000
) -> pd.DataFrame:
    """What silencing does, averaged over patients (each counts once), with 95 % bootstrap intervals over patients.

    Parameters
    ----------
    logits : mapping of str to ndarray of shape (N, n_classes)
        Of `conditions`; the first is the whole network.
    y, patient : ndarray of shape (N,)

    Returns
    -------
    DataFrame
        condition; accuracy, and changed (share of windows whose predicted class is another than the whole network's),
        lost and gained (share that the whole network has right and this one wrong, and the reverse), each with ``_low``
        and ``_high``.
    """
    whole = next(iter(logits.values())).argmax(1)
    weight = None
    rows = []
    for name, z in logits.items():
        guess = z.argmax(1)
        values = {
            "accuracy": guess == y, "changed": guess != whole,
            "lost": (whole == y) & (guess != y), "gained": (whole != y) & (guess == y),
        }  # fmt: skip
        means = pd.DataFrame(values).groupby(np.asarray(patient)).mean().to_numpy()  # (patients, 4)
        weight = draws(len(means), n_boot=n_boot, seed=0) / len(means) if weight is None else weight
        low, high = np.percentile(weight @ means, [2.5, 97.5], axis=0)
        row: dict[str, float | str] = {"condition": name}
        for i, key in enumerate(values):
            row |= {key: means[:, i].mean(), f"{key}_low": low[i], f"{key}_high": high[i]}
        rows.append(row)
    return pd.DataFrame(rows)
