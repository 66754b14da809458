"""The AAMI view: beats in the five groups of ANSI/AAMI EC57, the scores that papers on MITDB report, and the jκ index.

Groups (EC57, as de Chazal, O'Dwyer & Reilly, IEEE TBME 51:1196-1206, 2004, use them): N, any beat not in the others;
S, supraventricular ectopic; V, ventricular ectopic; F, fusion of V and N; Q, paced or not to be classified.  Escape beats
``e`` and ``j`` are N, as in EC57; the table of mondejar/ecg-classification has them in S.

EC57 leaves the first five minutes of a record out of the test; that is ``windows[windows.time >= LEARNING_S]``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from ecglib import CLASSES
from ecglib.errors import DataError
from ecglib.records import annotated
from ecglib.scores import confusions, draws
from ecglib.splits import DS1, DS2
from ecglib.windowset import HALF_S, WindowSet, concat

GROUPS = ("N", "S", "V", "F", "Q")
LEARNING_S = 300.0  #: the part of a record that EC57 leaves to a program to adapt itself in, s

#: group of each beat symbol of MITDB
OF_SYMBOL: Mapping[str, str] = MappingProxyType(
    {
        symbol: group
        for group, symbols in zip(GROUPS, ("NLRej", "AaJS", "VE", "F", "/fQ"), strict=True)
        for symbol in symbols
    }
)

#: Group of each class of window: that of its labelled beat.  Every beat in atrial fibrillation is annotated N; those of a
#: supraventricular tachyarrhythmia are A or J.  So it is in every clean window of MITDB; a deck window of a rhythm, which
#: lies on no beat, has the group of the rhythm.  No class is F or Q.
OF_CLASS: Mapping[str, str] = MappingProxyType(dict(zip(CLASSES, "NVSNSNNN", strict=True)))

_SCORES = ("accuracy", "kappa", "j", "jk")


@dataclass(frozen=True)
class AAMI:
    """Scores by the AAMI groups.

    Attributes
    ----------
    scores : dict of str to float
        accuracy, kappa, j, jk; NaN for what needs a group that is not there.
    intervals : dict of str to (low, high)
        95 % percentile bootstrap over patients; NaN without several.
    per_group : DataFrame
        By group: sensitivity, ppv (positive predictivity), each with ``_low`` and ``_high``, and support.
    confusion : ndarray of shape (5, 5), int
        Rows: truth; columns: prediction.
    n_groups : int
        Number of patients (1 if none were given).
    """

    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    per_group: pd.DataFrame
    confusion: np.ndarray
    n_groups: int


def beat_windows(*, root: str | os.PathLike[str] | None = None, records: Iterable[str] | None = None) -> WindowSet:
    """Window of every annotated beat of MITDB with its group, as papers on MITDB count beats: signals are not read yet.

    Parameters
    ----------
    root : path, optional
        Data root.
    records : iterable of str, optional
        By default those of de Chazal's DS1 and DS2, without the four paced ones.

    Returns
    -------
    WindowSet
        ``classes`` are `GROUPS`; x is (N, 1, 0) until `ecglib.windows.fill` reads it.  The beat stands in the
        middle, but for those within a second of an end of the record, whose window is moved inside.
    """
    parts = []
    for record in annotated("mitdb", root=root, records=sorted({*DS1, *DS2} if records is None else records)):
        known = np.isin(record.beats.symbol, list(OF_SYMBOL))
        anchor, n = np.asarray(record.beats.time, float)[known], int(known.sum())
        parts.append(
            WindowSet(
                x=np.empty((n, 1, 0), np.float32),
                y=np.array([GROUPS.index(OF_SYMBOL[s]) for s in record.beats.symbol[known]], np.int64),
                record=np.full(n, record.name),
                database=np.full(n, "mitdb"),
                time=np.clip(anchor, HALF_S, record.duration - HALF_S),
                anchor=anchor,
                classes=GROUPS,
            )
        )
    return concat(parts)


def report(
    y_true: np.ndarray, y_pred: np.ndarray, *, groups: np.ndarray | None = None, n_boot: int = 1000, seed: int = 0
) -> AAMI:
    """Score predictions of the eight classes by AAMI group: a class that is taken for another of its group is right.

    Parameters
    ----------
    y_true, y_pred : array of int, shape (N,)
        Indices into `ecglib.CLASSES`.
    groups : array of shape (N,), optional
        Patient of each window.
    n_boot, seed : int
        Of the bootstrap over patients.
    """
    by_patient = confusions(y_true, y_pred, groups=groups, n_classes=len(CLASSES))
    return of_classes(by_patient, n_boot=n_boot, seed=seed)


def of_classes(confusion: np.ndarray, *, n_boot: int = 1000, seed: int = 0) -> AAMI:
    """Score confusion matrices of the eight classes by AAMI group: one (8, 8), or one a patient (G, 8, 8)."""
    member = np.array([[OF_CLASS[c] == g for g in GROUPS] for c in CLASSES], float)  # (8, 5)
    return from_confusion(member.T @ confusion @ member, n_boot=n_boot, seed=seed)


def from_confusion(confusion: Any, *, n_boot: int = 1000, seed: int = 0) -> AAMI:
    """Score confusion matrices by AAMI group: one (K, K), or one a patient (G, K, K), of the first K of `GROUPS`.

    Accuracy and Cohen's κ are over N, S, V and F, without what is Q in truth or prediction.  With +P the positive
    predictivity and Se the sensitivity, j = Se_S + Se_V + +P_S + +P_V, from 0 to 4, and jκ = κ/2 + j/8, from 0 to 1 for
    a classifier better than chance (Mar, Zaunseder, Martínez, Llamedo & Poll, IEEE TBME 58:2168-2177, 2011, in the form
    of mondejar/ecg-classification, ``python/evaluation_AAMI.py``).  As EC57 has it, an F or Q that is called V, and a
    Q that is called S, does not count against +P; that code means the same and takes the cell of a V called F instead.

    Raises
    ------
    DataError
        Not square matrices of four or five groups.
    """
    given = np.asarray(confusion, float)
    if given.ndim not in (2, 3) or given.shape[-1] != given.shape[-2] or given.shape[-1] not in (4, 5):
        raise DataError(f"expected confusion matrices of the groups N, S, V, F and perhaps Q, received {given.shape}")
    missing = len(GROUPS) - given.shape[-1]
    by_patient = np.pad(given.reshape(-1, *given.shape[-2:]), ((0, 0), (0, missing), (0, missing)))
    whole, n = by_patient.sum(0), len(by_patient)
    drawn = np.full((1, len(_SCORES) + 2 * len(GROUPS)), np.nan)
    if n > 1:
        drawn = _scores(np.tensordot(draws(n, n_boot=n_boot, seed=seed), by_patient, axes=1))
    found, low, high = _scores(whole[None])[0], *_percentiles(drawn)
    at = {"sensitivity": slice(4, 9), "ppv": slice(9, 14)}
    columns = {
        f"{name}{end}": v[s] for name, s in at.items() for end, v in (("", found), ("_low", low), ("_high", high))
    }
    return AAMI(
        scores=dict(zip(_SCORES, map(float, found), strict=False)),
        intervals={s: (float(a), float(b)) for s, a, b in zip(_SCORES, low, high, strict=False)},
        per_group=pd.DataFrame({**columns, "support": whole.sum(1).astype(int)}, index=list(GROUPS)),
        confusion=whole.astype(int),
        n_groups=n,
    )


# Internals -----------------------------------------------------------------------------------------------------


def _scores(confusion: np.ndarray) -> np.ndarray:
    """Accuracy, κ, j, jκ, sensitivity by group, positive predictivity by group: (B, 5, 5) -> (B, 14)."""
    hit, true = np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(2)
    called = confusion.sum(1)
    called[:, 2] -= confusion[:, 3, 2] + confusion[:, 4, 2]  # neither right nor wrong: F and Q called V,
    called[:, 1] -= confusion[:, 4, 1]  # and Q called S
    beats = confusion[:, :4, :4]
    total = beats.sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = np.trace(beats, axis1=1, axis2=2) / total
        chance = (beats.sum(1) * beats.sum(2)).sum(1) / total**2
        kappa = (accuracy - chance) / (1 - chance)
        sensitivity, ppv = hit / true, np.where((called == 0) & (true > 0), 0, hit / called)  # a group never named: 0
    j = (sensitivity + ppv)[:, 1:3].sum(1)
    return np.column_stack([accuracy, kappa, j, kappa / 2 + j / 8, sensitivity, ppv])


def _percentiles(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """2.5 and 97.5 % of each column over the draws in which it is defined; NaN where that is in none."""
    low, high = np.full((2, drawn.shape[1]), np.nan)
    some = ~np.isnan(drawn).all(0)
    if some.any():
        low[some], high[some] = np.nanpercentile(drawn[:, some], [2.5, 97.5], axis=0)
    return low, high
