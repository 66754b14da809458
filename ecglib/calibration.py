"""Calibration: is a network that says 0.9 right nine times in ten?

Reliability curves and expected calibration error after Naeini, Cooper & Hauskrecht, AAAI 2015, and temperature scaling
after Guo, Pleiss, Sun & Weinberger, ICML 2017 (arXiv:1706.04599), both of the class that the network names.  Ours: the
bins of equal mass, and intervals from a bootstrap over patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from ecglib.errors import DataError
from ecglib.scores import draws

_COLDEST, _HOTTEST = 0.01, 100.0  # temperatures looked at; at the ends there is nothing left to learn


@dataclass(frozen=True)
class Reliability:
    """How far confidence and accuracy agree.

    Attributes
    ----------
    curve : DataFrame
        One row a bin that holds windows: low, high (ends of the bin, which holds the upper one), confidence (mean of its
        windows), accuracy with accuracy_low and accuracy_high, windows, patients.
    ece : float
        Expected calibration error: mean over the windows of |accuracy - confidence| of their bin.  It is above 0 for a
        perfect network too, by chance, and the more so the fewer windows a bin has.
    interval : (low, high)
        95 % percentile bootstrap of the ECE over patients, the bins held fixed.  As the estimate is biased upwards, so
        are the draws.  NaN without several patients.
    confidence, accuracy : float
        Means over all windows; their difference is what is left with a single bin.
    n_groups : int
        Number of patients (0 if none were given).
    """

    curve: pd.DataFrame
    ece: float
    interval: tuple[float, float]
    confidence: float
    accuracy: float
    n_groups: int


def softmax(logits: np.ndarray, *, temperature: float = 1.0) -> np.ndarray:
    """Probabilities (N, K) of logits (N, K), each divided by a temperature first: above 1 it makes them humbler."""
    return np.exp(log_softmax(np.asarray(logits, float) / temperature, axis=1))


def reliability(
    probability: np.ndarray,
    y_true: np.ndarray,
    *,
    bins: int = 10,
    equal_mass: bool = False,
    groups: np.ndarray | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> Reliability:
    """Compare the confidence in the named class with how often it is right.

    Parameters
    ----------
    probability : array of shape (N, K)
        Rows that sum to 1; `softmax` makes them of logits.
    y_true : array of int, shape (N,)
    bins : int
        Number of bins over the confidence.
    equal_mass : bool
        Bins of equally many windows instead of equal width: a confident network leaves most bins of equal width nearly
        empty.  Where confidences are equal there may be fewer bins.
    groups : array of shape (N,), optional
        Patient of each window; the bootstrap draws patients.
    n_boot, seed : int
        Of the bootstrap.

    Raises
    ------
    DataError
        Shapes that do not fit, or rows that are no probabilities.
    """
    probability, y = np.asarray(probability, float), np.asarray(y_true, int)
    if probability.ndim != 2 or y.shape != probability.shape[:1] or not len(y):
        raise DataError(f"expected probabilities (N, K) and labels (N,), received {probability.shape} and {y.shape}")
    if (probability < 0).any() or not np.allclose(probability.sum(1), 1, atol=1e-3):
        raise DataError("expected rows of probabilities that sum to 1, received others; softmax makes them of logits")
    if bins < 1 or (groups is not None and len(groups) != len(y)):
        raise DataError(f"expected 1 bin or more and a group for each of {len(y)} windows, received {bins} bins")
    confidence, right = probability.max(1), probability.argmax(1) == y
    edges = np.linspace(0, 1, bins + 1)
    if equal_mass:
        edges = np.unique(np.quantile(confidence, edges))
    inner = edges[1:-1]
    held = np.searchsorted(inner, confidence)  # a window on an edge is in the bin below
    filled, bin_of = np.unique(held, return_inverse=True)
    names, member = (
        np.unique(groups, return_inverse=True) if groups is not None else (np.empty(0), np.zeros(len(y), int))
    )
    sums = np.zeros((max(1, len(names)), len(filled), 3))  # by patient and bin: windows, their confidence, right ones
    np.add.at(sums, (member, bin_of), np.column_stack([np.ones(len(y)), confidence, right]))
    n, total, hits = np.moveaxis(sums.sum(0), -1, 0)
    low = high = np.full(len(filled), np.nan)
    interval = (float("nan"), float("nan"))
    if len(names) > 1:
        drawn = np.tensordot(draws(len(names), n_boot=n_boot, seed=seed), sums, axes=1)  # (n_boot, bins, 3)
        with np.errstate(invalid="ignore"):
            low, high = np.nanpercentile(drawn[..., 2] / drawn[..., 0], [2.5, 97.5], axis=0)
        a, b = np.percentile(_ece(drawn), [2.5, 97.5])
        interval = (float(a), float(b))
    curve = {
        "low": np.r_[edges[0], inner][filled], "high": np.r_[inner, edges[-1]][filled], "confidence": total / n,
        "accuracy": hits / n, "accuracy_low": low, "accuracy_high": high, "windows": n.astype(int),
        "patients": (sums[..., 0] > 0).sum(0) if len(names) else 0,
    }  # fmt: skip
    ece = float(_ece(sums.sum(0)[None])[0])
    return Reliability(pd.DataFrame(curve), ece, interval, float(confidence.mean()), float(right.mean()), len(names))


def temperature(logits: np.ndarray, y_true: np.ndarray) -> float:
    """Temperature that makes the labels most likely; for `softmax`.

    Fit it on windows that the network did not learn from and that are not the test: ``Run.validation`` of a run with a
    validation part.  It changes no prediction, as it keeps the order of the classes.  Between 0.01, for logits that are
    never wrong, and 100.

    Parameters
    ----------
    logits : array of shape (N, K)
    y_true : array of int, shape (N,)
    """
    logits, y = np.asarray(logits, float), np.asarray(y_true, int)
    if logits.ndim != 2 or y.shape != logits.shape[:1] or not len(y):
        raise DataError(f"expected logits (N, K) and labels (N,), received {logits.shape} and {y.shape}")
    # convex in the coldness 1/T, so a bracket holds the one minimum in log T too
    fit = minimize_scalar(
        lambda log_t: loss(logits, y, temperature=float(np.exp(log_t))),
        bounds=(np.log(_COLDEST), np.log(_HOTTEST)), method="bounded", options={"xatol": 1e-6},
    )  # fmt: skip
    return float(np.exp(fit.x))


def loss(logits: np.ndarray, y_true: np.ndarray, *, temperature: float = 1.0) -> float:
    """Cross-entropy of the labels, nat a window: what training and `temperature` make small."""
    return -float(log_softmax(np.asarray(logits, float) / temperature, axis=1)[np.arange(len(y_true)), y_true].mean())


# Internals -----------------------------------------------------------------------------------------------------


def _ece(sums: np.ndarray) -> np.ndarray:
    """ECE (B,) from windows, confidence and right ones by bin: (B, bins, 3)."""
    return np.abs(sums[..., 2] - sums[..., 1]).sum(1) / sums[..., 0].sum(1)
