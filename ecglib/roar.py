"""Remove and retrain (ROAR): what a network can still learn when the relevant samples are gone from every window.

Hooker et al., A benchmark for interpretability methods in deep neural networks, NeurIPS 2019, arXiv:1806.10758.  A
deletion curve asks a network about windows of a kind that it never saw; a network that is trained anew knows them.

Two biases are measured here and not assumed away.  The place of what was removed may tell the class (Rong et al., ICML
2022, arXiv:2202.00449): `silhouette` keeps that place alone.  And coarse maps remove whole stretches, scattered ones
leave neighbours from which a sample can be guessed (arXiv:2304.13836): `strangers` gives each window the map of another,
which is as coarse and says nothing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ecglib import CLASSES, grid, models
from ecglib.attribution import attribute
from ecglib.batching import AT_ONCE_GPU
from ecglib.errors import DataError
from ecglib.evaluation import predict
from ecglib.faithfulness import order
from ecglib.fills import Fill, remove
from ecglib.modes import evaluating
from ecglib.scores import SCORES, draws, score
from ecglib.splits import Split
from ecglib.training import TrainConfig, fit
from ecglib.windowset import WindowSet

SHOWN = ("accuracy", "f1_macro")  #: of `ecglib.scores.SCORES`


def removed(relevance: Any, *, fraction: float, keep: bool = False, seed: int = 0) -> Tensor:
    """Samples (N, T), bool, that go: the ``fraction`` of highest relevance, or with ``keep`` all but those.

    Ties are broken by one permutation of all positions, the same for every window, so that no order decides: of a
    uniform relevance the same scattered samples go everywhere.

    >>> removed(torch.tensor([[1.0, 4.0, 2.0, 3.0]]), fraction=0.5)
    tensor([[False,  True, False,  True]])
    """
    r = torch.as_tensor(relevance)
    if r.dim() != 2 or bool(r.isnan().any()):
        raise DataError(f"expected relevance of shape (N, T) without NaN, received {tuple(r.shape)}")
    if not 0 <= fraction <= 1:
        raise DataError(f"fraction is {fraction:g}; give 0 to 1")
    most = order(r, seed=seed) < round(fraction * r.shape[1])
    return ~most if keep else most


def degrade(
    x: Tensor, relevance: Any, *, fraction: float, fill: Fill = "linear", keep: bool = False, seed: int = 0
) -> Tensor:
    """Windows (N, 1, T) without their most relevant samples: the training and test windows of ROAR.

    Parameters
    ----------
    x : Tensor of shape (N, 1, T)
        In mV.
    relevance : Tensor or array of shape (N, T)
        Only its order counts, sign included.
    fraction : float
        Share of the samples of each window that goes, or stays with ``keep``.
    fill : float, {"zero", "mean", "linear", "blurred", "noise"} or Tensor broadcast to x
        What a removed sample becomes, see `ecglib.fills.remove`.  Hooker et al. fill with the mean of the training images.
    keep : bool
        Keep the most relevant samples and remove all others (their KAR, keep and retrain).
    seed : int
        Of the order among samples that tie, and of the fill "noise".

    Returns
    -------
    Tensor of shape (N, 1, T)

    Examples
    --------
    >>> x = torch.tensor([[[0.0, 9.0, 4.0, 6.0]]])
    >>> degrade(x, x[:, 0], fraction=0.25), degrade(x, x[:, 0], fraction=0.25, keep=True, fill="zero")
    (tensor([[[0., 2., 4., 6.]]]), tensor([[[0., 9., 0., 0.]]]))
    """
    r = torch.as_tensor(relevance).to(x.device)
    return remove(x, removed(r, fraction=fraction, keep=keep, seed=seed), fill, seed=seed)


def silhouette(relevance: Any, *, fraction: float, seed: int = 0) -> Tensor:
    """Windows (N, 1, T) of 1 where a sample would go and 0 elsewhere: no signal, only the place of what was removed.

    What a network learns from these it may have learnt from degraded windows too.
    """
    return removed(relevance, fraction=fraction, seed=seed)[:, None].float()


def strangers(relevance: Any, *, seed: int) -> Any:
    """Relevance (N, T) in which every window has that of another one: as coarse, and without anything about the window."""
    n = len(relevance)
    if n < 2:
        raise DataError(f"received {n} window; another's relevance needs at least 2")
    turn = np.random.default_rng(seed).permutation(n)
    whose = np.empty(n, int)
    whose[turn] = np.roll(turn, 1)
    return relevance[torch.from_numpy(whose)] if isinstance(relevance, Tensor) else relevance[whose]


def relevance_of(
    method: str, model: nn.Module, x: np.ndarray, *, device: str | torch.device = "cpu", **options: Any
) -> np.ndarray:
    """Relevance (N, T), float32, of windows x (N, 1, T) for the class that the network itself names.

    The annotated class would let the truth into the test windows.  On a GPU hundreds of windows pass at once.
    """
    if not len(x):
        return np.empty((0, x.shape[-1]), np.float32)
    net, out = model.to(device), []
    for part in torch.from_numpy(x).split(AT_ONCE_GPU):
        part = part.to(device)
        with evaluating(net), torch.no_grad():
            named = net(part).argmax(1)
        out.append(attribute(method, net, part, named, **options).float().cpu().numpy())
    return np.concatenate(out)


def retrain(
    windows: WindowSet,
    part: Split,
    *,
    config: TrainConfig,
    network: str = "compact",
    run_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """Train a network from scratch on the training part of (degraded) windows and score it on their test part.

    Parameters
    ----------
    windows : WindowSet
    part : Split
    config : TrainConfig
        Its seed is that of the initial weights, too.
    network : str
        Key of `ecglib.models.MODELS`; ``options`` are its constructor's.
    run_dir : path, optional
        See `ecglib.training.fit`; by default nothing stays.

    Returns
    -------
    model : nn.Module
    run : dict
        seed, fold, confusion by patient and classes, as `scores` and `contrast` read them.
    """
    with tempfile.TemporaryDirectory() as folder:
        net = models.build(network, seed=config.seed, **options)
        net = fit(net, windows, part, config=config, run_dir=run_dir or folder, progress=False).model
    test = windows[part.test]
    guess = predict(net, test.x).argmax(1)
    confusion = grid.packed(test.y, guess, test.patient, n_classes=len(windows.classes))
    return net, {"seed": config.seed, "fold": part.fold, "confusion": confusion, "classes": list(windows.classes)}


# Over patients ---------------------------------------------------------------------------------------------------


def scores(runs: Sequence[dict[str, Any]], *, together: int = 1, n_boot: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Accuracy and macro-F1 of the runs of one condition, with intervals over patients at 1 - 0.05 / ``together``.

    Parameters
    ----------
    runs : sequence of dict
        As in `ecglib.grid`: seed and confusion by patient; classes, the same in all, if not the eight.  Folds of a seed
        are pooled, seeds averaged, and a bootstrap draws the patients of all seeds together.

    Returns
    -------
    dict
        runs, seeds, patients, and for each score its mean, ``_low`` and ``_high``.
    """
    patients, matrices = grid.confusion_of(list(runs), classes=_classes(runs))
    out: dict[str, Any] = {"runs": len(runs), "seeds": len(matrices), "patients": len(patients)}
    return out | _interval(_drawn(matrices, n_boot=n_boot, seed=seed), together)


def contrast(
    first: Sequence[dict[str, Any]],
    second: Sequence[dict[str, Any]],
    *,
    together: int = 1,
    n_boot: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Scores of the first condition less those of the second, as `scores`, paired over patients, seeds and folds.

    Only runs whose seed and fold both conditions have are compared.
    """
    shared = set.intersection(*({(r["seed"], r["fold"]) for r in runs} for runs in (first, second)))
    if not shared:
        raise DataError("the two conditions have no seed and fold in common; train both")
    kept = [[r for r in runs if (r["seed"], r["fold"]) in shared] for runs in (first, second)]
    pair = [grid.confusion_of(runs, classes=_classes([*first, *second])) for runs in kept]
    if pair[0][0] != pair[1][0]:
        raise DataError("the two conditions were tested on other patients; test both on the same windows")
    change = np.subtract(*(_drawn(m, n_boot=n_boot, seed=seed) for _, m in pair))
    return {"seeds": len(pair[0][1]), "patients": len(pair[0][0])} | _interval(change, together)


def table(
    runs: Iterable[dict[str, Any]], *, keys: Sequence[str] = ("name", "kind", "fill", "fraction")
) -> pd.DataFrame:
    """`scores` of every condition among runs, one row each, in the order of their appearance."""
    cells: dict[tuple, list[dict[str, Any]]] = {}
    for run in runs:
        cells.setdefault(tuple(run[k] for k in keys), []).append(run)
    return pd.DataFrame([dict(zip(keys, cell, strict=True)) | scores(own) for cell, own in cells.items()])


# Internals -----------------------------------------------------------------------------------------------------


def _classes(runs: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    kinds = sorted({tuple(r.get("classes", CLASSES)) for r in runs})
    if len(kinds) != 1:
        raise DataError(f"expected runs of one label set, received {len(kinds)}; compare runs of the same classes")
    return kinds[0]


def _drawn(matrices: np.ndarray, *, n_boot: int, seed: int) -> np.ndarray:
    """`SHOWN` (1 + n_boot, 2) of matrices (seeds, patients, K, K): as observed, then of draws of patients."""
    n = matrices.shape[1]
    weight = np.vstack([np.ones(n), draws(n, n_boot=n_boot, seed=seed)])
    each = [score(np.tensordot(weight, m, axes=1))[0] for m in matrices]
    return np.mean(each, axis=0)[:, [SCORES.index(s) for s in SHOWN]]


def _interval(values: np.ndarray, together: int) -> dict[str, float]:
    tail = 2.5 / together
    low, high = np.percentile(values[1:], [tail, 100 - tail], axis=0)
    return {
        k: float(v)
        for i, s in enumerate(SHOWN)
        for k, v in ((s, values[0, i]), (f"{s}_low", low[i]), (f"{s}_high", high[i]))
    }
