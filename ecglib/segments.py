"""The segments of a beat, laid around annotated R peaks: every sample of a window lies in one and one only.

Where waves usually lie, not where they were seen: MITDB has no marks of P, QRS and T.
"""

from __future__ import annotations

import numpy as np

from ecglib import FS, WINDOW

SEGMENTS = ("P", "PR", "QRS", "ST-T", "T–P")
OTHERS = tuple(f"{name}, other beats" for name in SEGMENTS)
P_S, PR_S, QRS_S, T_S = -0.22, -0.11, (-0.05, 0.05), 0.36  #: s from R; medians of `results/expert.json`, roughly
WIDE, WIDE_QRS_S, WIDE_T_S = (
    "VEFLR",
    (-0.06, 0.10),
    0.45,
)  #: broad beats, with the borders that `ecglib.clinic` gives them


def segments(
    beats: np.ndarray, symbols: np.ndarray, *, anchor: float, start: float, length: int = WINDOW
) -> np.ndarray:
    """Segment that each sample of a window lies in: one of `SEGMENTS` of the labelled beat, or of `OTHERS`.

    Where waves usually lie, not where they were seen: a P of 0.11 s before every beat that is not ventricular (in AFIB,
    too, where it is an empty name), PR up to the QRS, ST-T to 0.36 s after R, or to 0.45 s of a broad beat.  Where two
    meet, QRS comes before P and PR, and those before ST-T.  T–P, what is left, counts as the labelled beat's on both sides.

    Parameters
    ----------
    beats, symbols : ndarray of shape (K,)
        R peaks of the record, s, in order, and their annotations.
    anchor, start : float
        R peak of the labelled beat and the window's first sample, s.
    length : int

    Returns
    -------
    ndarray of shape (length,), str
    """
    t = start + np.arange(length) / FS + 1e-6
    r, broad = np.r_[-np.inf, beats, np.inf], np.r_[False, np.isin(symbols, list(WIDE)), False]
    no_p = np.r_[False, np.isin(symbols, ["V", "E"]), False]
    i = np.searchsorted(r, t, side="right") - 1  # beat before the sample; i + 1: the one after
    since, until, labelled = t - r[i], r[i + 1] - t, int(np.abs(r - anchor).argmin())
    (on, off), (wide_on, wide_off) = QRS_S, WIDE_QRS_S
    before, after = until <= -np.where(broad[i + 1], wide_on, on), since < np.where(broad[i], wide_off, off)
    pr, p = ~no_p[i + 1] & (until <= -PR_S), ~no_p[i + 1] & (until <= -P_S)
    kind = np.select([before | after, pr, p, since < np.where(broad[i], WIDE_T_S, T_S)], [2, 1, 0, 3], 4)
    earlier, later = i == labelled, i + 1 == labelled
    own = np.select([before | ((pr | p) & ~after), kind == 4], [later, earlier | later], earlier)
    return np.where(own, np.array(SEGMENTS)[kind], np.array(OTHERS)[kind])


def share(relevance: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Share of positive relevance (N, T) inside, (N,): 0 where nothing is inside, NaN where nothing is positive."""
    positive = np.maximum(relevance, 0).astype(float)
    whole = positive.sum(1)
    return np.divide((positive * inside).sum(1), whole, out=np.full(len(whole), np.nan), where=whole > 0)
