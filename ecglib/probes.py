"""Classifiers that see one cue and nothing of the rhythm: what they score is what a network could learn from the cue."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from ecglib import FS
from ecglib.errors import DataError
from ecglib.evaluation import Report, report
from ecglib.windows import WindowSet


def position_probe(windows: WindowSet, *, per_class: int = 200, folds: int = 4, seed: int = 0) -> tuple[Report, float]:
    """Predict the class from the place of the labelled R peak alone.

    A decision tree, cross-validated by patient, on equally many windows of each class that has two patients or more.

    Returns
    -------
    Report
        With intervals over patients.
    float
        Chance: one over the number of classes.
    """
    patient = windows.patient
    usable = [c for c in range(len(windows.classes)) if len(set(patient[windows.y == c])) >= 2]
    if len(usable) < 2:
        raise DataError("the probe needs two classes with two patients each")
    windows = windows[np.isin(windows.y, usable)]
    windows = windows.subsample(min(per_class, int(windows.counts().to_numpy()[usable].min())), seed=seed)
    # Balanced anew in each fold: a class that is frequent in the test part is rare in training, and a guess at the prior
    # would score less than chance.
    tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=10, class_weight="balanced", random_state=seed)
    cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    guess = cross_val_predict(tree, windows.r_position[:, None], windows.y, groups=windows.patient, cv=cut)
    scored = report(windows.y, guess, groups=windows.patient, classes=windows.classes, seed=seed)
    return scored, 1 / len(usable)


def spectrum(x: np.ndarray, *, band_hz: float = 5.0, below: float = FS / 2) -> tuple[np.ndarray, np.ndarray]:
    """Spectrum of windows: the share of the power (without the mean) that lies in each band.

    Parameters
    ----------
    x : ndarray of shape (N, 1, T)
        At 360 Hz.
    band_hz : float
        Width of a band.
    below : float
        Bands that reach above it, Hz, are left out, and the shares are of the power in the others.

    Returns
    -------
    (bands,) and (N, bands)
        Lower edges of the bands in Hz; log10 of the shares, -12 where there is no power.
    """
    from scipy.signal import periodogram

    rate, power = periodogram(x[:, 0], FS, window="hann", detrend="constant")
    band = (rate / band_hz).astype(int)
    edges = np.arange(int(below / band_hz)) * band_hz
    total = np.stack([power[:, band == k].sum(1) for k in range(len(edges))], axis=1)
    whole = np.maximum(total.sum(1, keepdims=True), 1e-30)  # a flat window has no power at all
    return edges, np.log10(total / whole + 1e-12)


def spectrum_probe(
    windows: WindowSet, *, below: float = FS / 2, per_database: int = 1000, folds: int = 4, seed: int = 0
) -> tuple[Report, tuple[str, ...]]:
    """Predict the database from the spectrum alone: what a network could know of the recorder.

    A logistic regression on `spectrum`, cross-validated by patient, on equally many windows of each database.

    Parameters
    ----------
    windows : WindowSet
        Of two databases or more; patients take turns until ``per_database`` windows are there.
    below : float
        Leave out what lies above, Hz; the probe does not see how much that was either.

    Returns
    -------
    Report
        Of the databases, with intervals over patients; and their names, in order.
    """
    names = tuple(np.unique(windows.database).tolist())
    if len(names) < 2:
        raise DataError(f"the probe tells databases apart and these windows are all from {' '.join(names) or 'none'}")
    source = np.searchsorted(names, windows.database)
    turns = replace(windows, y=source.astype(np.int64), classes=names)  # subsample takes patients in turn within each
    few = min(per_database, int(np.bincount(source).min()))
    turns = turns.subsample(few, seed=seed)
    shares = spectrum(turns.x, below=below)[1]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
    cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    guess = cross_val_predict(model, shares, turns.y, groups=turns.patient, cv=cut)
    return report(turns.y, guess, groups=turns.patient, classes=names, seed=seed), names
