"""Scores from confusion matrices, and the bootstrap over patients that they make cheap.

A draw of patients is a weighted sum of their matrices, so a thousand draws cost one matrix product.
"""

from __future__ import annotations

import numpy as np

from ecglib.errors import DataError

SCORES = [
    "accuracy",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
]


def confusions(y_true: np.ndarray, y_pred: np.ndarray, *, groups: np.ndarray | None, n_classes: int) -> np.ndarray:
    """Confusion matrix of each group, in the order of their names (one of all without groups): (G, K, K)."""
    y_true, y_pred = np.asarray(y_true, int), np.asarray(y_pred, int)
    if y_true.shape != y_pred.shape or y_true.ndim != 1 or not len(y_true):
        raise DataError(f"expected two label vectors of one length, received {y_true.shape} and {y_pred.shape}")
    lowest, highest = min(y_true.min(), y_pred.min()), max(y_true.max(), y_pred.max())
    if lowest < 0 or highest >= n_classes:
        raise DataError(f"labels must lie in 0…{n_classes - 1}; received {lowest}…{highest}")
    if groups is not None and len(groups) != len(y_true):
        raise DataError(f"expected a group for each of {len(y_true)} windows, received {len(groups)}")
    names, member = np.empty(1), np.zeros(len(y_true), int)
    if groups is not None:
        names, member = np.unique(groups, return_inverse=True)
    by_group = np.zeros((len(names), n_classes, n_classes))
    np.add.at(by_group, (member, y_true, y_pred), 1)
    return by_group


def draws(n_groups: int, *, n_boot: int, seed: int) -> np.ndarray:
    """Bootstrap of whole groups: how often each is drawn, (n_boot, n_groups)."""
    return np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_boot)


def scores_of(confusion: np.ndarray) -> dict[str, float]:
    """Scores, as in a `Report`, of one confusion matrix (K, K)."""
    return dict(zip(SCORES, map(float, score(np.asarray(confusion, float)[None])[0][0]), strict=True))


def score(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores (B, len(SCORES)) and F1 by class (B, K) of confusion matrices (B, K, K)."""
    hit = np.diagonal(confusion, axis1=1, axis2=2)  # (B, K)
    true, predicted = confusion.sum(2), confusion.sum(1)
    precision, recall = ratio(hit, predicted), ratio(hit, true)
    f1 = ratio(2 * hit, true + predicted)
    occurs = (true + predicted) > 0
    total = confusion.sum((1, 2))
    columns = [ratio(hit.sum(1), total)]
    for weight in (occurs, true):
        columns += [ratio((value * weight).sum(1), weight.sum(1)) for value in (precision, recall, f1)]
    return np.stack(columns, axis=1), f1


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, 0 where there is no whole."""
    return np.divide(part, whole, out=np.zeros_like(part, float), where=whole > 0)
