"""Scores of a classifier, with intervals over patients.

Everything is computed from confusion matrices, one per patient: a bootstrap draw is then a weighted sum of matrices,
and a thousand draws cost one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ecglib import CLASSES
from ecglib.errors import DataError
from ecglib.modes import evaluating
from ecglib.scores import SCORES, confusions, draws, ratio, score


@dataclass(frozen=True)
class Comparison:
    """Two models on the same windows: by score, ``difference`` (first minus second), its 95 % ``intervals``, and ``p``.

    ``p`` is two-sided: twice the smaller share of bootstrap draws on one side of zero, the observed difference counted as
    one of them, so that it is never 0; NaN without several patients, as the intervals are.
    """

    difference: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    p: dict[str, float]
    n_groups: int


@dataclass(frozen=True)
class Report:
    """Scores of one set of predictions.

    Attributes
    ----------
    scores : dict of str to float
        accuracy, and precision, recall and F1 as ``_macro`` and ``_weighted``; as scikit-learn defines them (macro over
        the classes that occur in truth or prediction, 0 where a ratio has no denominator).
    intervals : dict of str to (low, high)
        95 % percentile bootstrap over groups; NaN without ``groups``.
    per_class : DataFrame
        precision, recall, f1, support by class, with the F1's interval.
    confusion : ndarray of shape (n_classes, n_classes), int
        Rows: truth; columns: prediction.
    n_groups : int
        Number of patients (0 if none were given).
    """

    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    per_class: pd.DataFrame
    confusion: np.ndarray
    n_groups: int

    @property
    def accuracy(self) -> float:
        """Share of windows that are predicted right."""
        return self.scores["accuracy"]

    @property
    def macro_f1(self) -> float:
        """Mean of the classes' F1."""
        return self.scores["f1_macro"]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "scores": {k: round(v, 4) for k, v in self.scores.items()},
            "intervals": {k: [round(v, 4) for v in pair] for k, pair in self.intervals.items()},
            "per_class": self.per_class.round(4).reset_index(names="class").to_dict("records"),
            "confusion": self.confusion.tolist(),
            "n_groups": self.n_groups,
        }


def report(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    classes: Sequence[str] = CLASSES,
    n_boot: int = 1000,
    seed: int = 0,
) -> Report:
    """Score predictions.

    Parameters
    ----------
    y_true, y_pred : array of int, shape (N,)
        Indices into ``classes``.
    groups : array of shape (N,), optional
        Patient of each window; the bootstrap draws patients, because windows of one patient are not independent.
    n_boot, seed : int
        Of the bootstrap.

    Returns
    -------
    Report
    """
    k = len(classes)
    by_group = confusions(y_true, y_pred, groups=groups, n_classes=k)
    n_groups = 0 if groups is None else len(by_group)
    confusion = by_group.sum(0)
    scores, f1 = score(confusion[None])
    nan = np.full((1, len(SCORES)), np.nan), np.full((1, k), np.nan)
    if n_groups > 1:
        weight = draws(n_groups, n_boot=n_boot, seed=seed)
        drawn, drawn_f1 = score(np.tensordot(weight, by_group, axes=1))
        # a class whose patients were all left out of a draw has no F1 there
        drawn_f1 = np.where(np.tensordot(weight, by_group.sum(2), axes=1) > 0, drawn_f1, np.nan)
    else:
        drawn, drawn_f1 = nan
    with np.errstate(invalid="ignore"):
        low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    supported = ~np.isnan(drawn_f1).all(0)
    f1_low, f1_high = np.full(k, np.nan), np.full(k, np.nan)
    if supported.any():
        f1_low[supported], f1_high[supported] = np.nanpercentile(drawn_f1[:, supported], [2.5, 97.5], axis=0)
    true, predicted, hit = confusion.sum(1), confusion.sum(0), np.diag(confusion)
    table = pd.DataFrame(
        {
            "precision": ratio(hit, predicted),
            "recall": ratio(hit, true),
            "f1": f1[0],
            "f1_low": f1_low,
            "f1_high": f1_high,
            "support": true.astype(int),
        },
        index=list(classes),
    )
    return Report(
        scores=dict(zip(SCORES, map(float, scores[0]), strict=True)),
        intervals={s: (float(a), float(b)) for s, a, b in zip(SCORES, low, high, strict=True)},
        per_class=table,
        confusion=confusion.astype(int),
        n_groups=n_groups,
    )


def compare(
    y_true: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    groups: np.ndarray,
    classes: Sequence[str] = CLASSES,
    n_boot: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two models' predictions of the same windows by a paired bootstrap over patients.

    Both are scored on the same draws of patients, so what makes a patient hard for both cancels: the interval of the
    difference is narrower than those of the two scores, and the one to read.  It holds for other patients, not for
    other seeds of the training (`ecglib.seeds.ranking`).

    Parameters
    ----------
    y_true, first, second : array of int, shape (N,)
        Indices into ``classes``: the truth, and the predictions of two models.
    groups : array of shape (N,)
        Patient of each window.
    """
    pair = np.stack([confusions(y_true, y, groups=groups, n_classes=len(classes)) for y in (first, second)])
    whole = score(pair.sum(1))[0]  # (2, scores)
    n = pair.shape[1]
    drawn = np.full((1, len(SCORES)), np.nan)
    if n > 1:
        weight = draws(n, n_boot=n_boot, seed=seed)
        drawn = np.subtract(*(score(np.tensordot(weight, by_group, axes=1))[0] for by_group in pair))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    sides = np.minimum((drawn <= 0).sum(0), (drawn >= 0).sum(0))
    p = np.minimum(1, 2 * (1 + sides) / (1 + n_boot)) if n > 1 else drawn[0]
    return Comparison(
        difference=dict(zip(SCORES, map(float, whole[0] - whole[1]), strict=True)),
        intervals={s: (float(a), float(b)) for s, a, b in zip(SCORES, low, high, strict=True)},
        p=dict(zip(SCORES, map(float, p), strict=True)),
        n_groups=n,
    )


def predict(model: nn.Module, x: np.ndarray, *, batch_size: int = 512) -> np.ndarray:
    """Logits (N, n_classes), float32, of windows ``x`` (N, 1, 720), on whatever device the model lives."""
    device = next(model.parameters()).device
    with evaluating(model), torch.inference_mode():
        parts = [
            model(torch.from_numpy(x[i : i + batch_size]).to(device)).float().cpu().numpy()
            for i in range(0, len(x), batch_size)
        ]
    if not parts:
        raise DataError("there are no windows to predict")
    return np.concatenate(parts)
