"""What the figures share: checked arrays, samples to draw, and the parameters that follow the pointer."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import Any, cast

import altair as alt
import numpy as np
import pandas as pd

from ecglib.errors import DataError
from ecglib.plots.style import INK, MUTED

MAX_POINTS = 2500  # a trace longer than this is thinned for display
SECONDS = alt.Tooltip("t:Q", title="time (s)", format=".3f")
MILLIVOLTS = alt.Tooltip("mv:Q", title="mV", format=".3f")
_serial = itertools.count(1)


def vector(name: str, values: Any, length: int | None = None) -> np.ndarray:
    """``values`` as float array of shape (T,), given (T,) or (1, T); infinities become NaN (a gap in the line).

    Raises
    ------
    DataError
        Not one lead, of another length than ``length``, or without a single finite value.
    """
    array = np.array(values, dtype=float)
    if array.ndim == 2 and len(array) == 1:
        array = array[0]
    expected = "(T,)" if length is None else f"({length},)"
    if array.ndim != 1 or not array.size or (length is not None and len(array) != length):
        raise DataError(f"{name}: expected an array of shape {expected}, received {array.shape}")
    array[~np.isfinite(array)] = np.nan
    if np.isnan(array).all():
        raise DataError(f"{name}: expected finite values, received {len(array)} samples that are all NaN or infinite")
    return array


def decimate(values: np.ndarray, limit: int = MAX_POINTS) -> np.ndarray:
    """Samples to draw: all, or the minimum and maximum of each of ``limit / 2`` stretches, so that peaks survive.

    Parameters
    ----------
    values : ndarray of shape (T,)
    limit : int
        Most samples to keep.

    Returns
    -------
    ndarray of shape (K,), int; K is at most ``limit``
        Sorted indices into ``values``, always with the first and the last.

    Examples
    --------
    >>> decimate(np.array([0.0, 9, 0, 0, 0, 0, -5, 0]), limit=6).tolist()
    [0, 1, 4, 6, 7]
    """
    if len(values) <= limit:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), max(limit // 2 - 1, 1) + 1).astype(int)
    low, high = (np.where(np.isnan(values), worst, values) for worst in (np.inf, -np.inf))
    kept = {0, len(values) - 1}
    for a, b in itertools.pairwise(edges):
        kept |= {a + int(low[a:b].argmin()), a + int(high[a:b].argmax())}
    return np.array(sorted(kept))


def samples(signal: np.ndarray, *, fs: float, start: float, limit: int = MAX_POINTS) -> tuple[pd.DataFrame, np.ndarray]:
    """Frame (t s, mv) of the samples to draw, rounded so that the chart stays small, and their indices."""
    kept = decimate(signal, limit)
    return pd.DataFrame({"t": (start + kept / fs).round(4), "mv": signal[kept].round(3)}), kept


def unique(name: str) -> str:
    """Parameter name of its own for every chart: Altair would merge equal ones and tie the charts of a concat."""
    return f"{name}_{next(_serial)}"


def zoomer() -> alt.Parameter:
    """Pan and zoom along time only; the wheel asks for Ctrl or ⌘ so that a chart never traps a page's scrolling."""
    wheel = "wheel![event.ctrlKey || event.metaKey]"
    return alt.selection_interval(unique("zoom"), bind="scales", encodings=["x"], zoom=wheel)


def hoverer(*also: str) -> alt.Parameter:
    """The sample under the pointer: its time and, under ``also``, further fields of its row."""
    return alt.selection_point(unique("hover"), fields=["t", *also], on="pointermove", clear="pointerout", empty=False)


def layered(*charts: alt.Chart) -> alt.LayerChart:
    """`altair.layer` of charts without facets."""
    return cast(alt.LayerChart, alt.layer(*charts))


def until_next(base: alt.Chart, stop: float, *, also: Sequence[str] = (), by: Sequence[str] = ()) -> alt.Chart:
    """``base`` with the next row's ``t`` as ``t2`` (of ``also`` likewise, within ``by``), computed in the browser.

    The last row reaches to ``stop``.
    """
    leads: dict[str, Any] = {f"{field}2": f"lead({field})" for field in ("t", *also)}
    ends = {f"{field}2": f"isValid(datum.{field}2) ? datum.{field}2 : datum.{field}" for field in also}
    return base.transform_window(groupby=list(by), **leads).transform_calculate(
        t2=f"isValid(datum.t2) ? datum.t2 : {stop!r}", **ends
    )


def pointer(
    base: alt.Chart,
    x: alt.X,
    stop: float,
    *,
    params: Sequence[alt.Parameter],
    tooltip: Sequence[alt.Tooltip],
    by: Sequence[str] = (),
) -> alt.Chart:
    """Invisible columns, one a row of ``base``, that take the pointer; the one under it shows as the hover rule.

    ``params`` are the hover and, where there is one, the zoom: in a concatenation every parameter goes to every layer
    that owns one, so that only one layer may.
    """
    opacity = alt.when(params[0]).then(alt.value(0.35)).otherwise(alt.value(0))
    column = until_next(base, stop, by=by).mark_rect(fill=INK, stroke=INK, strokeWidth=0.5, clip=True)
    return column.encode(x, alt.X2("t2"), opacity=opacity, tooltip=list(tooltip)).add_params(*params)


def hint(hover: alt.Parameter) -> alt.Chart:
    """How to zoom, shown only while the pointer is on the chart (so never in print)."""
    text = "drag to pan · Ctrl + scroll to zoom · double-click to reset"
    mark = alt.Chart(alt.Data(values=[{}])).mark_text(
        align="right", baseline="bottom", dx=-3, dy=-2, fontSize=11, color=MUTED, text=text
    )
    shown = alt.when(f"isDefined({hover.name}.t)").then(alt.value(1)).otherwise(alt.value(0))
    return mark.encode(x=alt.value("width"), y=alt.value("height"), opacity=shown)


def stack(*panels: alt.LayerChart) -> alt.VConcatChart:
    """Panels under each other with one time scale, so that zoom and hover rule are shared."""
    with warnings.catch_warnings():
        # Altair warns that it merges equal parameters; merging them is what links the panels.
        warnings.filterwarnings("ignore", "Automatically deduplicated selection parameter")
        chart = alt.vconcat(*panels, spacing=2)
    return chart.resolve_scale(x="shared", color="independent")
