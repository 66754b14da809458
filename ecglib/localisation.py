"""Does relevance lie where it should? Scores of relevance (N, T) against truth (N, T), NaN where the truth is empty.

Definitions after Arras et al., Information Fusion 81, 2022 (mass and rank accuracy) and Zhang et al., IJCV 126, 2018
(pointing game).  Beside each score stands chance: the share of the window that the truth covers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ecglib.errors import DataError


def mass_accuracy(relevance: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> np.ndarray:
    """Share of the positive relevance that lies inside the truth, shape (N,); NaN also where nothing is positive.

    >>> mass_accuracy(np.array([[0.0, 3.0, 1.0, -2.0]]), np.array([[0, 1, 0, 0]]))
    array([0.75])
    """
    r, inside = _pair(relevance, truth)
    positive = np.maximum(r, 0)
    return _divide((positive * inside).sum(1), positive.sum(1), inside.any(1))


def rank_accuracy(relevance: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> np.ndarray:
    """Of the K most relevant samples, the share inside a truth of K samples, shape (N,).

    Samples that tie at the border share their places, so a constant relevance scores chance whatever the order.

    >>> rank_accuracy(np.array([[5.0, 4.0, 3.0, 0.0]]), np.array([[1, 0, 1, 0]]))
    array([0.5])
    """
    r, inside = _pair(relevance, truth)
    k = inside.sum(1)
    border = np.take_along_axis(-np.sort(-r, axis=1), np.maximum(k - 1, 0)[:, None], axis=1)  # K-th largest value
    above, level = r > border, r == border
    places = k - above.sum(1)
    hits = (above & inside).sum(1) + places * _divide((level & inside).sum(1), level.sum(1), k > 0)
    return _divide(hits, k, k > 0)


def pointing_game(relevance: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> np.ndarray:
    """1 where the most relevant sample lies inside the truth, else 0 (samples that tie share the hit), shape (N,)."""
    r, inside = _pair(relevance, truth)
    best = r == r.max(1, keepdims=True)
    return _divide((best & inside).sum(1), best.sum(1), inside.any(1))


def chance(truth: np.ndarray | Tensor) -> np.ndarray:
    """Share of the window inside the truth, shape (N,): what a uniform relevance scores in mass and rank accuracy."""
    inside = _array(truth).astype(bool)
    return np.where(inside.any(1), inside.mean(1), np.nan)


def span_mask(spans: list[tuple[float, float]], *, start: float, length: int, fs: float) -> np.ndarray:
    """Samples of a window that lie inside spans given in seconds, shape (length,), bool."""
    index = np.arange(length) + 1e-6  # a border that lies on a sample is a float, and may fall short of it
    inside = [(index >= (a - start) * fs) & (index < (b - start) * fs) for a, b in spans]
    return np.any(inside, axis=0) if spans else np.zeros(length, bool)


# Internals -----------------------------------------------------------------------------------------------------


def _array(values: np.ndarray | Tensor) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _pair(relevance: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> tuple[np.ndarray, np.ndarray]:
    r, inside = _array(relevance).astype(float), _array(truth).astype(bool)
    if r.shape != inside.shape or r.ndim != 2:
        raise DataError(f"expected relevance and truth of one shape (N, T), received {r.shape} and {inside.shape}")
    if np.isnan(r).any():
        raise DataError("relevance holds NaN; an explanation must give every sample a value")
    return r, inside


def _divide(part: np.ndarray, whole: np.ndarray, valid: Any) -> np.ndarray:
    out = np.full(len(part), np.nan)
    return np.divide(part, whole, out=out, where=valid & (whole > 0))
