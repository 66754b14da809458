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

_SCORES = [
    "accuracy",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
]


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
    y_true, y_pred = np.asarray(y_true, int), np.asarray(y_pred, int)
    k = len(classes)
    if y_true.shape != y_pred.shape or y_true.ndim != 1 or not len(y_true):
        raise DataError(f"expected two label vectors of one length, received {y_true.shape} and {y_pred.shape}")
    lowest, highest = min(y_true.min(), y_pred.min()), max(y_true.max(), y_pred.max())
    if lowest < 0 or highest >= k:
        raise DataError(f"labels must lie in 0…{k - 1}; received {lowest}…{highest}")
    if groups is not None and len(groups) != len(y_true):
        raise DataError(f"expected a group for each of {len(y_true)} windows, received {len(groups)}")
    names, member = np.empty(0), np.zeros(len(y_true), int)
    if groups is not None:
        names, member = np.unique(groups, return_inverse=True)
    by_group = np.zeros((max(1, len(names)), k, k))
    np.add.at(by_group, (member, y_true, y_pred), 1)
    confusion = by_group.sum(0)
    scores, f1 = _scores(confusion[None])
    nan = np.full((1, len(_SCORES)), np.nan), np.full((1, k), np.nan)
    if len(names) > 1:
        rng = np.random.default_rng(seed)
        weight = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_boot)
        drawn, drawn_f1 = _scores(np.tensordot(weight, by_group, axes=1))
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
            "precision": _ratio(hit, predicted),
            "recall": _ratio(hit, true),
            "f1": f1[0],
            "f1_low": f1_low,
            "f1_high": f1_high,
            "support": true.astype(int),
        },
        index=list(classes),
    )
    return Report(
        scores=dict(zip(_SCORES, map(float, scores[0]), strict=True)),
        intervals={s: (float(a), float(b)) for s, a, b in zip(_SCORES, low, high, strict=True)},
        per_class=table,
        confusion=confusion.astype(int),
        n_groups=len(names),
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


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part, float), where=whole > 0)


def _scores(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores (B, len(_SCORES)) and F1 by class (B, K) of confusion matrices (B, K, K)."""
    hit = np.diagonal(confusion, axis1=1, axis2=2)  # (B, K)
    true, predicted = confusion.sum(2), confusion.sum(1)
    precision, recall = _ratio(hit, predicted), _ratio(hit, true)
    f1 = _ratio(2 * hit, true + predicted)
    occurs = (true + predicted) > 0
    total = confusion.sum((1, 2))
    columns = [_ratio(hit.sum(1), total)]
    for weight in (occurs, true):
        columns += [_ratio((value * weight).sum(1), weight.sum(1)) for value in (precision, recall, f1)]
    return np.stack(columns, axis=1), f1
