"""What a chart of a whole record carries of its ECG: all of a short one, else stretches, packed as small numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ecglib.explained import Explained
from ecglib.plots.parts import decimate
from ecglib.records import Record

HEAT_S = 0.1  #: a cell of the heat band, s
POINTS = 20_000  #: samples drawn, in all


def positive(saliency: np.ndarray) -> np.ndarray:
    """Evidence for the class, 0 where no window lies."""
    return np.maximum(np.nan_to_num(saliency), 0)


def chosen(times: np.ndarray, span: tuple[float, float], kept_s: float) -> list[tuple[float, float]]:
    """Stretches whose ECG the chart carries, in order; the surest disagreements come first, until there is no room."""
    if span[1] - span[0] <= kept_s:
        return [span]
    kept = [(span[0], min(span[1], span[0] + 12))]
    for t in times:
        merged = _merged([*kept, (max(span[0], t - 5), min(span[1], t + 5))])
        if sum(b - a for a, b in merged) > kept_s:
            break
        kept = merged
    return _merged(kept)


def packed(
    explained: Explained, record: Record, kept: list[tuple[float, float]], top: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row a stretch: its samples (p: s, i: samples from there, v: 0.01 mV), and its cells (p, i, r: percent of top)."""
    traces, cells = [], []
    share = POINTS / max(1.0, sum(q - p for p, q in kept))  # samples a second
    for p, q in kept:
        i, j = (round((t - explained.start) * explained.fs) for t in (p, q))
        own, s = record.signal[i:j], positive(explained.saliency[i:j])
        index = decimate(own, min(len(own), int(share * (q - p))))
        at: dict[str, Any] = {"p": round(explained.start + i / explained.fs, 4)}
        traces.append({**at, "i": index.tolist(), "v": np.round(100 * np.nan_to_num(own[index])).astype(int).tolist()})
        edges = np.arange(0, len(s), round(HEAT_S * explained.fs))
        mean = np.add.reduceat(s, edges) / np.diff([*edges, len(s)])
        cells.append({**at, "i": edges.tolist(), "r": np.round(100 * np.minimum(mean / top, 1)).astype(int).tolist()})
    return pd.DataFrame(traces), pd.DataFrame(cells)


# Internals -----------------------------------------------------------------------------------------------------


def _merged(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    out: list[tuple[float, float]] = []
    for a, b in sorted(spans):
        if out and a <= out[-1][1]:
            out[-1] = (out[-1][0], max(b, out[-1][1]))
        else:
            out.append((float(a), float(b)))
    return out
