"""The rhythm around a window: RR intervals of the labelled beat and of its neighbours, from annotated beats.

Two seconds hold two or three RR intervals, and several of the eight classes are defined by more.  A network that is given
these values is another task than the deck's: results name it "with RR context".
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from ecglib import WINDOW
from ecglib.records import read_annotations
from ecglib.windowset import WindowSet

#: logarithms of: RR before and after over the mean RR around, the mean RR (s), and the variation of RR (ratio)
NAMES = ("RR before", "RR after", "mean RR", "variation")
_AROUND = 5  # intervals on each side that make the mean
_LONGEST_S = 3.0  # a longer interval is a gap


def rr_context(windows: WindowSet, *, root: str | os.PathLike[str] | None = None) -> np.ndarray:
    """RR intervals around the labelled beat of each window.

    Parameters
    ----------
    windows : WindowSet
        Of catalogued records; the beat is the annotated one nearest to ``anchor``.
    root : path, optional
        Data root.

    Returns
    -------
    ndarray of shape (N, 4), float32
        In the order of `NAMES`: ln(RR before / mean), ln(RR after / mean), ln(mean / 1 s), and the mean of
        |ln(RR_i / RR_{i-1})|, the mean being the geometric one over up to 5 intervals on each side (de Chazal et al.
        2004 use the arithmetic mean over a record and over ten beats).  Intervals above 3 s count as 3 s; a record with
        fewer than three beats gives zeros.
    """
    out = np.zeros((len(windows), len(NAMES)), np.float32)
    pairs = np.char.add(np.char.add(windows.database, "/"), windows.record)
    for pair in np.unique(pairs):
        index = np.flatnonzero(pairs == pair)
        time = read_annotations(*pair.split("/", 1), root=root).beats.time
        if len(time) > 2:
            out[index] = _around(np.asarray(time), windows.anchor[index])
    return out


def with_context(windows: WindowSet, context: np.ndarray) -> WindowSet:
    """Windows (N, 1, 720) and values (N, C) as windows of 1 + C leads, the values constant over the window."""
    constant = np.repeat(np.asarray(context, np.float32)[:, :, None], WINDOW, axis=2)
    return replace(windows, x=np.concatenate([windows.x, constant], axis=1))


def _around(time: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    log_rr = np.log(np.clip(np.diff(time), 0.1, _LONGEST_S))  # log_rr[i] lies before beat i + 1
    change = np.abs(np.diff(log_rr, prepend=log_rr[0]))
    beat = _nearest(time, anchor)
    mean, variation = (np.empty(len(beat)) for _ in range(2))
    for i, b in enumerate(beat):
        near = slice(max(0, b - _AROUND), b + _AROUND)
        mean[i], variation[i] = log_rr[near].mean(), change[near].mean()
    before, after = log_rr[np.maximum(beat - 1, 0)], log_rr[np.minimum(beat, len(log_rr) - 1)]
    return np.stack([before - mean, after - mean, mean, variation], axis=1)


def _nearest(time: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    right = np.clip(np.searchsorted(time, anchor), 1, len(time) - 1)
    return right - (anchor - time[right - 1] <= time[right] - anchor)
