"""Class averages aligned on the R peak, with every patient counted once."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecglib import FS, WINDOW
from ecglib.errors import DataError
from ecglib.windows import HALF_S, WindowSet

REACH_S = 0.5  #: a clean R peak lies at least this far from both ends of its window


def aligned(windows: WindowSet, values: np.ndarray) -> np.ndarray:
    """Values (N, 720) of clean windows, cut from 0.5 s before to 0.5 s after the labelled R peak: (N, 361)."""
    if values.shape != (len(windows), WINDOW):
        raise DataError(f"expected values of shape ({len(windows)}, {WINDOW}), received {values.shape}")
    reach = round(REACH_S * FS)
    peak = np.round((windows.anchor - windows.time + HALF_S) * FS).astype(int)
    if len(peak) and (peak.min() < reach or peak.max() > WINDOW - reach):
        raise DataError("the labelled R peak is nearer than 0.5 s to an end of some window; cut with the rule 'clean'")
    index = np.minimum(peak[:, None] + np.arange(-reach, reach + 1), WINDOW - 1)
    return np.take_along_axis(values, index, axis=1)


def relative(relevance: np.ndarray) -> np.ndarray:
    """Positive relevance (N, T) in multiples of its mean over the window: 1 everywhere if nothing stands out."""
    positive = np.maximum(relevance, 0)
    mean = positive.mean(1, keepdims=True)
    return np.divide(positive, mean, out=np.ones_like(positive), where=mean > 0)


def beats(x: np.ndarray) -> np.ndarray:
    """Windows (N, 1, 720) without their offset, the median, mV: (N, 720)."""
    return x[:, 0] - np.median(x[:, 0], axis=1, keepdims=True)


def by_class(windows: WindowSet, values: np.ndarray, *, least_patients: int = 1) -> pd.DataFrame:
    """Average of values by class over patients.

    Parameters
    ----------
    windows : WindowSet
        Cut with the rule "clean".
    values : ndarray of shape (N, 720)
    least_patients : int
        Classes with fewer patients are left out.

    Returns
    -------
    DataFrame
        Columns label, time (s from R), mean, low, high (one standard deviation between patients to either side) and
        patients.
    """
    around, patient = aligned(windows, values), windows.patient
    time = np.arange(around.shape[1]) / FS - REACH_S
    tables = []
    for c, label in enumerate(windows.classes):
        people = np.unique(patient[windows.y == c])
        if len(people) < max(1, least_patients):
            continue
        means = np.stack([around[(windows.y == c) & (patient == p)].mean(0) for p in people])
        centre, spread = means.mean(0), means.std(0)
        columns = {"label": label, "time": time, "mean": centre, "low": centre - spread, "high": centre + spread}
        tables.append(pd.DataFrame(columns | {"patients": len(people)}))
    if not tables:
        raise DataError(f"no class has windows of {least_patients} patients")
    return pd.concat(tables, ignore_index=True)


def deflection(windows: WindowSet) -> np.ndarray:
    """Largest deflection within 0.1 s of the labelled R peak, with its sign, mV from the window's median: (N,).

    Negative where the QRS points down: not every annotated R peak is an R wave.
    """
    middle = round(REACH_S * FS)
    near = aligned(windows, beats(windows.x))[:, middle - round(0.1 * FS) : middle + round(0.1 * FS) + 1]
    return np.take_along_axis(near, np.abs(near).argmax(1, keepdims=True), axis=1)[:, 0]


def percentiles(windows: WindowSet, values: np.ndarray, *, least_patients: int = 1) -> pd.DataFrame:
    """Average and 5, 50 and 95 % of values by class, every patient with the same weight.

    A window weighs one divided by the number of its patient's windows of the class, so a band holds nine tenths of the
    beats of a typical patient, not of the patient with the most beats; `by_class` shows how far patients' means lie
    apart, which is less.

    Parameters
    ----------
    windows : WindowSet
        Cut with the rule "clean".
    values : ndarray of shape (N, 720)
    least_patients : int
        Classes with fewer patients are left out.

    Returns
    -------
    DataFrame
        Columns label, time (s from R), mean, low (5 %), median, high (95 %), windows and patients.
    """
    around, patient = aligned(windows, values), windows.patient
    time = np.arange(around.shape[1]) / FS - REACH_S
    tables = []
    for c, label in enumerate(windows.classes):
        own = np.flatnonzero(windows.y == c)
        people, inverse, count = np.unique(patient[own], return_inverse=True, return_counts=True)
        if len(people) < max(1, least_patients):
            continue
        weight = 1 / (len(people) * count[inverse])
        # the smallest value that at least this share of the weight does not exceed
        low, median, high = np.quantile(around[own], [0.05, 0.5, 0.95], axis=0, weights=weight, method="inverted_cdf")
        columns = {
            "label": label,
            "time": time,
            "mean": weight @ around[own],
            "low": low,
            "median": median,
            "high": high,
        }
        tables.append(pd.DataFrame(columns | {"windows": len(own), "patients": len(people)}))
    if not tables:
        raise DataError(f"no class has windows of {least_patients} patients")
    return pd.concat(tables, ignore_index=True)
