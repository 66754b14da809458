"""Does relevance lie where it should? Scores of relevance (N, T) against truth (N, T), NaN where the truth is empty.

Definitions after Arras et al., Information Fusion 81, 2022 (mass and rank accuracy), Zhang et al., IJCV 126, 2018
(pointing game), and Ismail et al., NeurIPS 2020, arXiv:2010.13924 (areas under precision and recall).  Beside each score
stands chance: the share of the window that the truth covers.  Two measures need no truth: how few samples a map names
(`sparseness`) and how many it needs (`complexity`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import stats
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
    return _divide(_hits(r, inside, k), k, k > 0)


def top_k_intersection(relevance: np.ndarray | Tensor, truth: np.ndarray | Tensor, *, k: int) -> np.ndarray:
    """Of the k most relevant samples, the share inside the truth, shape (N,); ties as in `rank_accuracy`.

    >>> top_k_intersection(np.array([[5.0, 4.0, 3.0, 0.0]]), np.array([[1, 0, 1, 0]]), k=3).round(3)
    array([0.667])
    """
    r, inside = _pair(relevance, truth)
    if not 1 <= k <= r.shape[1]:
        raise DataError(f"k is {k}; give 1 to {r.shape[1]} samples")
    return np.where(inside.any(1), _hits(r, inside, np.full(len(r), k)) / k, np.nan)


def pointing_game(relevance: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> np.ndarray:
    """1 where the most relevant sample lies inside the truth, else 0 (samples that tie share the hit), shape (N,)."""
    r, inside = _pair(relevance, truth)
    best = r == r.max(1, keepdims=True)
    return _divide((best & inside).sum(1), best.sum(1), inside.any(1))


def roc_auc(relevance: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> np.ndarray:
    """Probability that a sample inside the truth is more relevant than one outside, ties counting half, shape (N,).

    Its chance is 0.5, whatever the truth covers; NaN also where the truth covers all.

    >>> roc_auc(np.array([[5.0, 4.0, 3.0, 0.0]]), np.array([[1, 0, 1, 0]]))
    array([0.75])
    """
    r, inside = _pair(relevance, truth)
    k, outside = inside.sum(1), (~inside).sum(1)
    wins = (stats.rankdata(r, axis=1) * inside).sum(1) - k * (k + 1) / 2  # Mann-Whitney's U
    return _divide(wins, k * outside, k > 0)


def aup(relevance: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> np.ndarray:
    """Area under precision over thresholds, shape (N,); NaN also where nothing is positive.

    At a threshold, the samples count whose positive relevance, as a share of the window's largest, reaches it; the mean
    over all thresholds from 0 to 1, exactly.  Differs from Ismail et al., who take relevance from its smallest to its
    largest value and weigh the counts with it: here what speaks against the class is never named.  Chance as elsewhere.

    >>> aup(np.array([[0.0, 4.0, 2.0, -3.0]]), np.array([[0, 1, 0, 0]]))
    array([0.75])
    """
    steps, hits, named, _ = _thresholds(relevance, truth)
    return (steps * hits / named).sum(1)


def aur(relevance: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> np.ndarray:
    """Area under recall over thresholds, shape (N,), as `aup`.

    It is the mean over the truth of the positive relevance as a share of the window's largest: a uniform map scores 1, so
    read it beside `aup` only.

    >>> aur(np.array([[0.0, 4.0, 2.0, -3.0]]), np.array([[0, 1, 1, 0]]))
    array([0.75])
    """
    steps, hits, _, k = _thresholds(relevance, truth)
    return (steps * hits).sum(1) / k


def sparseness(relevance: np.ndarray | Tensor) -> np.ndarray:
    """Gini index of the absolute relevance (Chalasani et al. 2020), shape (N,): 0 is uniform, 1 - 1/T a single sample.

    NaN where all is 0.

    >>> sparseness(np.array([[0.0, -4.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]))
    array([0.75, 0.  ])
    """
    size = np.sort(np.abs(_maps(relevance)), axis=1)
    t = size.shape[1]
    whole = size.sum(1)
    return _divide((size * (2 * np.arange(1, t + 1) - t - 1)).sum(1) / t, whole, whole > 0)


def complexity(relevance: np.ndarray | Tensor) -> np.ndarray:
    """Entropy of the shares of the absolute relevance (Bhatt et al. 2020), nats, shape (N,): from 0 to the log of T.

    NaN where all is 0.

    >>> complexity(np.array([[0.0, -4.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])).round(4)
    array([0.    , 1.3863])
    """
    size = np.abs(_maps(relevance))
    silent = ~size.any(1)
    return np.where(silent, np.nan, stats.entropy(size + silent[:, None], axis=1))


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
    return _maps(r), inside


def _maps(relevance: np.ndarray | Tensor) -> np.ndarray:
    r = _array(relevance).astype(float)
    if r.ndim != 2:
        raise DataError(f"expected relevance of shape (N, T), received {r.shape}")
    if np.isnan(r).any():
        raise DataError("relevance holds NaN; an explanation must give every sample a value")
    return r


def _hits(r: np.ndarray, inside: np.ndarray, k: np.ndarray) -> np.ndarray:
    """How many of the k (N,) most relevant samples lie inside; those that tie at the border share its places."""
    border = np.take_along_axis(-np.sort(-r, axis=1), np.maximum(k - 1, 0)[:, None], axis=1)  # k-th largest value
    above, level = r > border, r == border
    places = k - above.sum(1)
    return (above & inside).sum(1) + places * _divide((level & inside).sum(1), level.sum(1), k > 0)


def _thresholds(relevance: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> tuple[np.ndarray, ...]:
    """Widths of the steps between thresholds, hits and samples named in each (N, T), and samples of the truth (N,)."""
    r, inside = _pair(relevance, truth)
    positive, k = np.maximum(r, 0), inside.sum(1).astype(float)
    k[k == 0] = np.nan
    top = positive.max(1, initial=0, keepdims=True)
    share = np.divide(positive, top, out=np.full_like(r, np.nan), where=top > 0)
    order = np.argsort(-share, axis=1)
    falling = np.take_along_axis(share, order, axis=1)
    steps = falling - np.pad(falling[:, 1:], ((0, 0), (0, 1)))  # 0 between samples that tie: no order decides
    hits = np.take_along_axis(inside, order, axis=1).cumsum(1)
    return steps + 0 * k[:, None], hits, np.arange(1, r.shape[1] + 1), k


def _divide(part: np.ndarray, whole: np.ndarray, valid: Any) -> np.ndarray:
    out = np.full(len(part), np.nan)
    return np.divide(part, whole, out=out, where=valid & (whole > 0))
