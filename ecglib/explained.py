"""What is known of a record once a network has been asked about every beat of it, and how to read that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecglib.errors import DataError
from ecglib.windowset import HALF_S

_LONGEST_S = 3.0  # two beats further apart are no interval: something between them was not annotated


@dataclass(frozen=True)
class Explained:
    """What a network says about every beat of a record, and where it looked.

    Attributes
    ----------
    beats : DataFrame
        One row a beat: time (s from the beginning of the file), symbol (annotated, "" where detected), rhythm (annotated
        label or ""), expected (class or "", see `expected`), predicted ("" where the lead is flat or without values),
        confidence (probability of the predicted class), and the probability of each class under its name.
    saliency : ndarray of shape (T,), float32
        One value a sample, in units of the method (CAM: logit); NaN where no window covers the sample.
    fs : float
        Rate of ``saliency``, Hz.
    name, database : str
    start : float
        Time of ``saliency[0]``, s from the beginning of the file.
    """

    beats: pd.DataFrame
    saliency: np.ndarray
    fs: float
    name: str
    database: str
    start: float

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in order."""
        return tuple(self.beats.columns[list(self.beats.columns).index("confidence") + 1 :])

    @property
    def stop(self) -> float:
        """End of the saliency signal, s."""
        return self.start + len(self.saliency) / self.fs


def disagreements(explained: Explained) -> pd.DataFrame:
    """Beats whose annotated class is one of the network's and not the predicted one, the surest first.

    The column ``neighbour`` says whether the predicted class is that of another beat within 1 s, thus in the same window:
    then the network may have seen rightly and been asked about the wrong beat.
    """
    beats = explained.beats
    wrong = beats[
        beats.expected.isin(explained.classes) & (beats.predicted != "") & (beats.expected != beats.predicted)
    ]
    time, known = beats.time.to_numpy(), beats.expected.to_numpy()
    low, high = (np.searchsorted(time, wrong.time + s * HALF_S, side=w) for s, w in ((-1, "left"), (1, "right")))  # type: ignore[call-overload]
    near = [p in known[a:b] for a, b, p in zip(low, high, wrong.predicted, strict=True)]
    return wrong.assign(neighbour=np.array(near, bool)).sort_values("confidence", ascending=False, kind="stable")


def timeline(explained: Explained, *, every_s: float = 10.0) -> pd.DataFrame:
    """Annotated beside predicted, one row a stretch of ``every_s`` seconds of the file's time.

    Returns
    -------
    DataFrame
        start, stop (s), beats, rate (per minute, from the mean RR interval; NaN without one), rhythm, annotated and
        predicted (the most frequent; "" without any), agreement (share of the beats that have both classes; NaN without),
        saliency (mean of its positive part; NaN where nothing is covered).
    """
    if every_s <= 0:
        raise DataError(f"every_s is {every_s:g}; give a length above 0 s")
    first, last = int(explained.start // every_s), max(1, int(np.ceil(explained.stop / every_s - 1e-9)))
    beats, edges = explained.beats, np.arange(first, last + 1) * every_s
    rr = np.diff(beats.time, prepend=np.nan)
    rr[rr > _LONGEST_S] = np.nan
    cut = np.searchsorted(beats.time, edges)
    sample = np.clip(np.round((edges - explained.start) * explained.fs).astype(int), 0, len(explained.saliency))
    rows = []
    for k in range(len(edges) - 1):
        own, s = beats.iloc[cut[k] : cut[k + 1]], explained.saliency[sample[k] : sample[k + 1]]
        both = own[(own.expected != "") & (own.predicted != "")]
        intervals = rr[cut[k] : cut[k + 1]]
        intervals, s = intervals[np.isfinite(intervals)], s[np.isfinite(s)]
        rows.append({
            "start": max(edges[k], explained.start), "stop": min(edges[k + 1], explained.stop), "beats": len(own),
            "rate": 60 / intervals.mean() if len(intervals) else np.nan, "rhythm": _most(own.rhythm),
            "annotated": _most(own.expected), "predicted": _most(own.predicted),
            "agreement": float((both.expected == both.predicted).mean()) if len(both) else np.nan,
            "saliency": float(np.maximum(s, 0).mean()) if len(s) else np.nan,
        })  # fmt: skip
    return pd.DataFrame(rows)


# Internals -----------------------------------------------------------------------------------------------------


def _most(values: pd.Series) -> str:
    """Most frequent value that is not empty."""
    counts = values[values != ""].value_counts()
    return str(counts.index[0]) if len(counts) else ""
