"""Classifiers that see one cue and nothing of the rhythm: what they score is what a network could learn from the cue."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from ecglib import CLASSES
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
    usable = [c for c in range(len(CLASSES)) if len(set(patient[windows.y == c])) >= 2]
    if len(usable) < 2:
        raise DataError("the probe needs two classes with two patients each")
    windows = windows[np.isin(windows.y, usable)]
    windows = windows.subsample(min(per_class, int(windows.counts().to_numpy()[usable].min())), seed=seed)
    # Balanced anew in each fold: a class that is frequent in the test part is rare in training, and a guess at the prior
    # would score less than chance.
    tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=10, class_weight="balanced", random_state=seed)
    cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    guess = cross_val_predict(tree, windows.r_position[:, None], windows.y, groups=windows.patient, cv=cut)
    return report(windows.y, guess, groups=windows.patient, seed=seed), 1 / len(usable)
