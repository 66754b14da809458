"""Explanations drawn with the signal that they explain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ecglib.errors import DataError
from ecglib.plots import parts
from ecglib.plots.paper import Paper, sheet, trace
from ecglib.plots.parts import MILLIVOLTS, SECONDS
from ecglib.plots.style import ACCENT, INK, MUTED, WIDTH, finish, hues, key

_BAND, _NAME, _BRACKET = 16, 18, 24  # px: height of a heat band, of the name over it, of a row of brackets
_POINTS = 1500  # a row holds one value a method, so fewer rows than for a strip


def saliency(
    signal: Any,
    relevance: Any,
    *,
    fs: float = 360.0,
    start: float = 0.0,
    marks: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    domain: tuple[float, float] | None = None,
    title: str | None = None,
    description: str = "ECG on ECG paper, coloured by the relevance of each sample.",
    height_mv: float | None = None,
    width: int = WIDTH,
) -> alt.VConcatChart:
    """A window and what one or more methods say about it.

    The trace lies on a ribbon coloured by one method, the first until the reader chooses another; one heat band per
    method stands below.  Zoom, hover rule and colour scale are shared.

    Parameters
    ----------
    signal : array of shape (T,) or (1, T)
        Millivolts.
    relevance : mapping of str to array of shape (T,), or one such array
        Relevance of each sample by name of the method.
    fs : float
        Sampling rate, Hz.
    start : float
        Time of the first sample, s.
    marks : mapping of str to sequence of (start s, stop s), optional
        Spans drawn as labelled brackets: ``{"QRS": [(0.41, 0.50)], "evidence": [(0.2, 0.5)]}``.
    domain : (float, float), optional
        Relevance at the two ends of the colours.  By default each method is divided by its own maximum and the
        colours span 0 to 1; what is negative takes the lowest colour, and keeps its sign in the tooltip.  A domain
        that spans zero adds orange for what is below.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    height_mv, width : float, int
        As in `strip`.

    Raises
    ------
    DataError
        Arrays of unequal length or without a finite value, no method, a span or a domain that ends before it starts.
    """
    values = parts.vector("signal", signal)
    named = relevance if isinstance(relevance, Mapping) else {"relevance": relevance}
    low, high = domain or (0.0, 1.0)
    if not named or not low < high:
        raise DataError(f"expected at least one method and a rising domain, received {list(named)} and {(low, high)}")
    maps = {name: parts.vector(f"relevance {name!r}", r, len(values)) for name, r in named.items()}
    rows = _bracket_rows(marks or {})
    start, stop = float(start), float(start) + len(values) / float(fs)
    paper = Paper.fit(values, start=start, stop=stop, width=width, height_mv=height_mv)

    frame, kept = parts.samples(values, fs=fs, start=start, limit=_POINTS)
    for k, r in enumerate(maps.values()):
        # The most relevant of the samples that one row stands for: a peak must not fall between two rows.
        frame[f"r{k}"] = (np.fmax.reduceat(r, kept) / (1.0 if domain else _top(r))).round(3)
    base = alt.Chart(frame)
    zoom, hover = parts.zoomer(), parts.hoverer()
    methods = [alt.Tooltip(f"r{k}:Q", title=name, format=".3f") for k, name in enumerate(maps)]
    pointer = parts.pointer(base, paper.x(), stop, params=[hover, zoom], tooltip=[SECONDS, MILLIVOLTS, *methods])

    fields = [f"r{k}" for k in range(len(maps))]
    radio = alt.binding_radio(options=fields, labels=list(maps), name="ribbon: ") if len(maps) > 1 else alt.Undefined
    pick = alt.param(parts.unique("method"), value=fields[0], bind=radio)
    legend = key("relevance" if domain else "relevance, share of the maximum", low, high)
    ribbon = parts.until_next(base, stop, also=["mv"]).transform_calculate(r=f"datum[{pick.name}]")
    ribbon = ribbon.mark_rule(strokeWidth=8, strokeCap="round", clip=True, tooltip=None).encode(
        paper.x(), paper.y(), alt.X2("t2"), alt.Y2("mv2"), alt.Color("r:Q", scale=hues(low, high), legend=legend)
    )
    top = sheet([*paper.layers(zoom), ribbon, trace(base, paper), pointer, parts.hint(hover)], paper)

    axis = alt.Chart(pd.DataFrame({"t": [start, stop]})).mark_point(size=0, opacity=0, tooltip=None)
    layers = [axis.encode(paper.x(axis=paper.time_axis(zoom)))]
    for k, row in enumerate(rows):
        layers += _brackets(row, paper, y=10 + k * _BRACKET)
    y = len(rows) * _BRACKET + 4
    for k, name in enumerate(maps):
        layers += _band(base, f"r{k}", name, paper, hues(low, high), y=y + k * (_NAME + _BAND))
    bottom = alt.layer(*layers, pointer).resolve_axis(x="independent").properties(
        width=paper.width, height=y + len(maps) * (_NAME + _BAND), view=alt.ViewBackground(stroke=None, fill=None)
    )  # fmt: skip
    return finish(parts.stack(top, bottom).add_params(pick), title, description)


def cam_steps(
    signal: Any,
    cam: Any,
    *,
    edges: Any,
    upsampled: Any = None,
    fs: float = 360.0,
    start: float = 0.0,
    title: str | None = None,
    description: str = "ECG above the steps of its class activation map, with the map upsampled to every sample.",
    width: int = WIDTH,
    height: int = 160,
) -> alt.VConcatChart:
    """A class activation map as the network computed it, step by step, and upsampled to the signal's rate.

    Parameters
    ----------
    signal : array of shape (T,) or (1, T)
        Millivolts.
    cam : array of shape (K,)
        Activation of each step (48 for the networks here).
    edges : array of shape (K + 1,)
        Where the steps begin and end, s on the chart's time axis; what lies outside the window is cut off.
    upsampled : array of shape (T,), optional
        The map at every sample, drawn as a curve over the steps.
    fs, start : float
        Sampling rate, Hz, and time of the first sample, s.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width, height : int
        Width of the paper and height of the step chart, px.

    Raises
    ------
    DataError
        Arrays whose lengths do not fit, or edges that do not increase.
    """
    values = parts.vector("signal", signal)
    steps = parts.vector("cam", cam)
    bounds = parts.vector("edges", edges, len(steps) + 1)
    if not (np.diff(bounds) > 0).all():
        raise DataError(f"edges: expected increasing times in s, received {bounds[:4].round(4).tolist()}…")
    start, stop = float(start), float(start) + len(values) / float(fs)
    paper = Paper.fit(values, start=start, stop=stop, width=width, height_mv=None)

    frame, kept = parts.samples(values, fs=fs, start=start, limit=_POINTS)
    frame["step"] = np.searchsorted(bounds, start + kept / fs + 1e-9, side="right") - 1  # -1 or K: no step saw it
    frame["cam"] = np.append(steps, np.nan)[frame.step].round(4)  # both -1 and K find the NaN
    tooltip = [SECONDS, MILLIVOLTS, alt.Tooltip("step:Q"), alt.Tooltip("cam:Q", title="activation", format=".3f")]
    if upsampled is not None:
        frame["curve"] = parts.vector("upsampled", upsampled, len(values))[kept].round(4)
        tooltip.append(alt.Tooltip("curve:Q", title="upsampled", format=".3f"))
    bars = pd.DataFrame({"a": bounds[:-1], "b": bounds[1:], "cam": steps}).round(4).assign(step=range(len(steps)))
    base, blocks = alt.Chart(frame), alt.Chart(bars)
    zoom, hover = parts.zoomer(), parts.hoverer("step")
    pointer = parts.pointer(base, paper.x(), stop, params=[hover, zoom], tooltip=tooltip)

    # The samples under the hovered step, marked on the paper.
    under = blocks.transform_filter(f"{hover.name}.step && {hover.name}.step[0] === datum.step")
    under = under.mark_rect(color=ACCENT, opacity=0.15, clip=True, tooltip=None).encode(paper.x("a:Q"), alt.X2("b"))
    top = sheet([*paper.layers(zoom), under, trace(base, paper), pointer, parts.hint(hover)], paper)

    drawn = np.append(steps, 0.0 if upsampled is None else frame["curve"])
    low, high = min(0.0, np.nanmin(drawn)), max(0.0, np.nanmax(drawn))
    room = 0.06 * (high - low or 1.0)
    reach = alt.Scale(domain=[float(low - room * (low < 0)), float(high + room)], nice=False)
    axis = alt.Axis(title="activation", tickCount=4)
    bar = blocks.mark_rect(stroke=MUTED, strokeWidth=0.6, clip=True, tooltip=None).encode(
        paper.x("a:Q", axis=paper.time_axis(zoom)),
        alt.X2("b"),
        alt.Y("cam:Q", scale=reach, axis=axis),
        alt.Color("cam:Q", scale=hues(0.0, _top(steps)), legend=None),
        y2=alt.datum(0),
    )
    layers = [bar]
    if upsampled is not None:
        curve = base.mark_line(color=INK, strokeWidth=1.8, clip=True, tooltip=None)
        layers.append(curve.encode(paper.x(), alt.Y("curve:Q", scale=reach, axis=axis)))
    bottom = alt.layer(*layers, pointer).resolve_axis(x="independent")
    bottom = bottom.properties(width=paper.width, height=height, view=alt.ViewBackground(stroke="#cccccc"))
    return finish(parts.stack(top, bottom), title, description)


def _top(relevance: np.ndarray) -> float:
    """Divisor that brings the maximum to 1; a map that is nowhere positive is left as it is."""
    top = float(np.nanmax(relevance))
    return top if top > 0 else 1.0


def _band(base: alt.Chart, field: str, name: str, paper: Paper, scale: alt.Scale, *, y: int) -> list[alt.Chart]:
    """Heat band of one method, its name above it."""
    label = alt.Chart(alt.Data(values=[{}])).mark_text(
        align="left", baseline="bottom", fontSize=12, color=INK, text=name
    )
    # Each cell reaches under the next, or the ground would show through the seams.
    cells = parts.until_next(base, paper.stop).transform_calculate(t3=f"min(2*datum.t2 - datum.t, {paper.stop!r})")
    top, bottom = alt.value(y + _NAME), alt.value(y + _NAME + _BAND)
    return [
        label.encode(x=alt.value(0), y=alt.value(y + _NAME - 3)),
        cells.mark_rect(clip=True, tooltip=None).encode(
            paper.x(), alt.X2("t3"), alt.Color(f"{field}:Q", scale=scale, legend=None), y=top, y2=bottom
        ),
    ]


def _bracket_rows(marks: Mapping[str, Sequence[tuple[float, float]]]) -> list[pd.DataFrame]:
    """Rows of brackets: names whose spans do not meet share one."""
    rows: list[list[tuple[float, float, str]]] = []
    for name, spans in marks.items():
        if wrong := [(a, b) for a, b in spans if not a < b]:
            raise DataError(f"marks {name!r}: expected start < stop in s, received {wrong[:3]}")
        free = [row for row in rows if not any(a < d and c < b for a, b in spans for c, d, _ in row)]
        if not free:
            rows.append([])
        (free or rows[-1:])[0].extend((float(a), float(b), name) for a, b in spans)
    return [pd.DataFrame(row, columns=["a", "b", "name"]).round(4) for row in rows if row]


def _brackets(frame: pd.DataFrame, paper: Paper, *, y: int) -> list[alt.Chart]:
    """One row: a thin line with feet under each span, its name in the middle below."""
    base = alt.Chart(frame)
    ends = [alt.Tooltip(f"{k}:Q", title=t, format=".3f") for k, t in (("a", "from (s)"), ("b", "to (s)"))]
    tip = [alt.Tooltip("name:N", title="mark"), *ends]
    line = base.mark_rule(color=INK, strokeWidth=1.2, clip=True)
    return [
        line.encode(paper.x("a:Q"), alt.X2("b"), y=alt.value(y), tooltip=tip),
        *(line.encode(paper.x(f"{end}:Q"), y=alt.value(y - 5), y2=alt.value(y), tooltip=tip) for end in "ab"),
        base.transform_calculate(middle="(datum.a + datum.b) / 2")
        .mark_text(baseline="top", fontSize=12, color=INK, clip=True)
        .encode(paper.x("middle:Q"), y=alt.value(y + 3), text="name:N", tooltip=tip),
    ]
