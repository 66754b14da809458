"""A whole record on one screen: classes, saliency and heart rate over its time, and below them the ECG of what is chosen."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ecglib.errors import DataError
from ecglib.explained import Explained, disagreements
from ecglib.explained import timeline as stretches
from ecglib.plots import parts
from ecglib.plots import stretches as excerpts
from ecglib.plots.style import ACCENT, CLASS_COLOURS, INK, MUTED, PAPER, STRONG, finish, hues, key
from ecglib.records import Record

WIDE = 580  #: px; with the names of the rows it fills a column of 680 px
BINS = 290  # of the overview, 2 px each
KEPT_S, VIEW_S = 300.0, 6.0  #: seconds of ECG that a chart carries at most, and that it shows at first
_LEAST_S = 2.0  # a shorter stretch would often lie between two beats
_LETTERS_S = 16.0  # in a longer view the names of the beats would touch


def timeline(
    explained: Explained,
    record: Record,
    *,
    kept_s: float = KEPT_S,
    at: float | None = None,
    title: str | None = None,
    description: str = "Annotated and predicted classes, saliency and heart rate of a record, and the ECG of a chosen part.",
) -> alt.VConcatChart:
    """Overview of a record, and the ECG of what is brushed or of the disagreement that is clicked.

    Parameters
    ----------
    explained : Explained
    record : Record
        The same part, with its signal.
    kept_s : float
        Seconds of ECG that the chart carries (5 minutes are about 250 KB): all of a shorter record, else its beginning and
        5 s around the surest disagreements, whose places the overview marks.
    at : float, optional
        Middle of what is shown at first, s; by default the surest disagreement.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.

    Returns
    -------
    altair.VConcatChart
        A stretch of the overview has the colour of its most frequent class, and the mean of the positive saliency over
        its 99th percentile.  Drawn samples are the minimum and maximum of short stretches.

    Raises
    ------
    DataError
        Record and explanation are not of the same samples, or there are no beats.
    """
    if len(record.signal) != len(explained.saliency) or abs(record.start - explained.start) > 0.5 / explained.fs:
        raise DataError(
            f"expected the record from {explained.start:g} to {explained.stop:g} s, received {record.start:g} to "
            f"{record.start + len(record.signal) / record.fs:g} s"
        )
    if not len(explained.beats):
        raise DataError(f"record {explained.name} has no explained beats to show")
    span = (explained.start, explained.stop)
    wrong = disagreements(explained)
    top = max(float(np.nanpercentile(excerpts.positive(explained.saliency), 99)), 1e-9)
    kept = excerpts.chosen(wrong.time.to_numpy(), span, kept_s)
    middle = float(wrong.time.iloc[0]) if at is None and len(wrong) else (span[0] if at is None else at)
    view = _around(middle, span)
    brush = alt.selection_interval(
        parts.unique("brush"),
        encodings=["x"],
        value={"x": list(view)},
        mark=alt.BrushConfig(fill=INK, fillOpacity=0.2, stroke=INK),
    )
    # Any press of the pointer undoes the click, so that of brush and click the later one counts.
    pick = alt.selection_point(parts.unique("pick"), fields=["t"], on="click", clear="window:pointerdown", empty=False)
    panels: list[Any] = [
        _wrong(wrong, span, pick),
        _lanes(explained, kept, span, top, brush),
        _rate(explained, span),
        _detail(explained, record, kept, span, view, top, brush, pick if len(wrong) else None),
    ]
    if not len(wrong):
        panels = panels[1:]
    chart = alt.vconcat(*panels, spacing=6).resolve_scale(x="independent", y="independent", color="independent")
    return finish(chart, title, description)


# Internals -----------------------------------------------------------------------------------------------------


def _around(middle: float, span: tuple[float, float]) -> tuple[float, float]:
    low = min(max(span[0], middle - VIEW_S / 2), max(span[0], span[1] - VIEW_S))
    return round(low, 3), round(min(span[1], low + VIEW_S), 3)


def _x(span: tuple[float, float], field: str = "t:Q", axis: Any = None) -> alt.X:
    return alt.X(field, scale=alt.Scale(domain=list(span), nice=False), axis=axis)


def _classes() -> alt.Scale:
    return alt.Scale(domain=list(CLASS_COLOURS), range=list(CLASS_COLOURS.values()))


def _wrong(wrong: pd.DataFrame, span: tuple[float, float], pick: alt.Parameter) -> alt.Chart:
    """One triangle a disagreement; a click shows its ECG."""
    frame = wrong[["time", "expected", "predicted", "confidence"]].rename(columns={"time": "t"}).round(3).head(900)
    tip = [
        alt.Tooltip("t:Q", title="beat at (s)", format=".2f"), alt.Tooltip("expected:N", title="annotated"), "predicted:N",
        alt.Tooltip("confidence:Q", format=".2f"),
    ]  # fmt: skip
    mark = alt.Chart(frame.assign(row="differ")).mark_point(shape="triangle-down", filled=True, size=80)
    colour = alt.when(pick).then(alt.value(INK)).otherwise(alt.value(ACCENT))
    row = alt.Y("row:N", title=None, axis=alt.Axis(domain=False, ticks=False))
    chart = mark.encode(_x(span), row, color=colour, opacity=alt.value(0.75), tooltip=tip).add_params(pick)
    return chart.properties(width=WIDE, height=18, view=alt.ViewBackground(stroke=None, cursor="pointer"))


def _lanes(
    explained: Explained, kept: list[tuple[float, float]], span: tuple[float, float], top: float, brush: alt.Parameter
) -> alt.LayerChart:
    """Rows of annotated and predicted class and of saliency, with the brush."""
    frame = stretches(explained, every_s=max(_LEAST_S, (span[1] - span[0]) / BINS))
    frame = frame.rename(columns={"start": "t", "stop": "t2"})
    whole = kept == [span]
    rows = ["annotated", "predicted", "CNN map"] + ["ECG kept"] * (not whole)
    bare, order = alt.Axis(domain=False, ticks=False), alt.Scale(domain=rows, paddingInner=0.12)
    lane = alt.Y("row:N", title=None, scale=order, axis=bare)
    long = frame.melt(["t", "t2", "beats"], ["annotated", "predicted"], var_name="row", value_name="class")
    long = long[long["class"] != ""].round(2)
    heat = frame.assign(row="CNN map", r=(frame.saliency / top).round(2))[["t", "t2", "row", "r"]].dropna().round(2)
    tip = [
        alt.Tooltip("t:Q", title="from (s)", format=".1f"), alt.Tooltip("row:N", title="row"),
        alt.Tooltip("class:N", title="most frequent"), "beats:Q",
    ]  # fmt: skip
    used = [c for c in CLASS_COLOURS if c in set(long["class"])]
    legend = alt.Legend(title=None, orient="top", direction="horizontal", values=used, symbolType="square")
    axis = alt.Axis(title=None, grid=False, labelFlush=False)
    charts = [
        alt.Chart(long).mark_rect().encode(
            _x(span, axis=axis), lane, x2="t2", color=alt.Color("class:N", scale=_classes(), legend=legend), tooltip=tip
        ).add_params(brush),
        alt.Chart(heat).mark_rect().encode(
            _x(span, axis=axis), lane, x2="t2", color=alt.Color("r:Q", scale=hues(), legend=None), tooltip=["t", "r"]
        ),
    ]  # fmt: skip
    if not whole:
        bars = pd.DataFrame(kept, columns=["t", "t2"]).round(2).assign(row="ECG kept")
        charts.append(alt.Chart(bars).mark_bar(color=MUTED, height=6).encode(_x(span, axis=axis), lane, x2="t2"))
    chart = parts.layered(*charts).resolve_scale(color="independent", x="shared", y="shared")
    return chart.properties(width=WIDE, height=20 * len(rows))


def _rate(explained: Explained, span: tuple[float, float]) -> alt.Chart:
    """Heart rate, of stretches with a few beats in each."""
    frame = stretches(explained, every_s=max(5.0, (span[1] - span[0]) / BINS))
    frame = pd.DataFrame({"t": (frame.start + frame.stop) / 2, "rate": frame.rate}).round(1)
    y = alt.Y("rate:Q", title="beats a minute", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4, grid=True))
    line = alt.Chart(frame).mark_line(color=INK, strokeWidth=1.2, tooltip=None)
    chart = line.encode(_x(span, axis=alt.Axis(title="time (s)", grid=False, labelFlush=False)), y)
    return chart.properties(width=WIDE, height=64)


def _detail(
    explained: Explained, record: Record, kept: list[tuple[float, float]], span: tuple[float, float],
    view: tuple[float, float], top: float, brush: alt.Parameter, pick: alt.Parameter | None,
) -> alt.LayerChart:  # fmt: skip
    """ECG over a heat band, with both classes of each beat, of the part that brush or click choose."""
    low, high = (float(np.nanpercentile(record.signal, q)) for q in (0.05, 99.95))
    low, high = low - 0.36 * (high - low), high + 0.45 * (high - low)
    a, b = (f"({brush.name}.t ? {brush.name}.t[{k}] : {view[k]!r})" for k in (0, 1))
    if pick is not None:
        a, b = (
            f"(isDefined({pick.name}.t) ? {pick.name}.t[0] {s} {VIEW_S / 2!r} : {e})" for s, e in (("-", a), ("+", b))
        )
    scale = alt.Scale(domainMin=alt.ExprRef(a), domainMax=alt.ExprRef(b), nice=False, zero=False)
    axis = alt.Axis(title="time (s) in the chosen part", gridColor=STRONG, labelFlush=False, tickCount=10)

    def x(field: str = "t:Q") -> alt.X:
        return alt.X(field, scale=scale, axis=axis)

    limits = alt.Scale(domain=[round(low, 2), round(high, 2)], nice=False)
    y = alt.Y("mv:Q", title="mV", scale=limits, axis=alt.Axis(gridColor=STRONG))
    traces, cells = excerpts.packed(explained, record, kept, top)
    fs, step = explained.fs, round(excerpts.HEAT_S * explained.fs) / explained.fs
    line = alt.Chart(traces).transform_flatten(["i", "v"]).transform_calculate(
        t=f"datum.p + datum.i / {fs!r}", mv="datum.v / 100"
    )  # fmt: skip
    heat = alt.Chart(cells).transform_flatten(["i", "r"]).transform_calculate(
        t=f"datum.p + datum.i / {fs!r}", t2=f"datum.p + datum.i / {fs!r} + {step!r}", h="datum.r / 100"
    )  # fmt: skip
    beats = explained.beats[["time", "expected", "predicted"]].rename(columns={"time": "t"})
    inside = np.any([(beats.t >= p) & (beats.t <= q) for p, q in kept], axis=0)
    named = alt.Chart(beats[inside].round(3)).transform_filter(f"{b} - {a} <= {_LETTERS_S!r}")
    layers = [
        heat.mark_rect(clip=True, tooltip=None).encode(
            x(), x2="t2", y=alt.value(166), y2=alt.value(180),
            color=alt.Color("h:Q", scale=hues(), legend=key("CNN map, share of the record's 99th percentile")),
        ),
        line.mark_line(color=INK, strokeWidth=1.1, clip=True, strokeJoin="round", tooltip=None).encode(
            x(), y, detail="p:N", order="t:Q"
        ),
    ]  # fmt: skip
    for k, field in enumerate(("expected", "predicted")):
        weight: Any = "bold" if field == "predicted" else "normal"
        text = named.mark_text(fontSize=12, clip=True, fontWeight=weight, tooltip=None)
        colour = alt.Color(f"{field}:N", scale=_classes(), legend=None)
        layers.append(text.encode(x(), y=alt.value(10 + 15 * k), text=f"{field}:N", color=colour))
    note = "above: annotated, in bold: predicted · drag over the rows, or click a triangle, to choose"
    mark = alt.Chart(alt.Data(values=[{}])).mark_text(
        align="left", fontSize=11, color=MUTED, text=note, baseline="bottom"
    )
    layers.append(mark.encode(x=alt.value(4), y=alt.value(162)))
    chart = parts.layered(*layers).resolve_scale(color="independent")
    return chart.properties(width=WIDE, height=182, view=alt.ViewBackground(fill=PAPER, stroke=STRONG))
