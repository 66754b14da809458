"""Averaged beats by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ecglib.plots.paper import BOX_MV, BOX_S
from ecglib.plots.parts import SECONDS, hoverer, pointer, until_next
from ecglib.plots.style import ACCENT, CLASS_COLOURS, INK, MUTED, PAPER, STRONG, finish, hues, key
from ecglib.plots.tables import by_class, columns_of

SECONDS_FROM_R = alt.Tooltip("time:Q", title="from the R peak (s)", format=".3f")
_MAX_ROWS = 2000  # averages are smooth: fewer samples will do


def class_average(
    frame: pd.DataFrame,
    *,
    label: str = "label",
    time: str = "time",
    mean: str = "mean",
    low: str = "low",
    high: str = "high",
    relevance: str | None = None,
    columns: int = 4,
    title: str | None = None,
    description: str = "Averaged beat of each class with the spread of its beats.",
    width: int = 136,
) -> alt.FacetChart:
    """Averaged beats, one panel a class, on the strong lines of ECG paper.

    Parameters
    ----------
    frame : DataFrame
        One row a class and moment, moments in order.
    label : str
        Column of the class.
    time : str
        Column of the time relative to the R peak, s.
    mean, low, high : str
        Columns of the average and of the ends of the band around it (percentiles, or one standard deviation), mV.
    relevance : str, optional
        Column of the average relevance, drawn as a heat band below each beat; every class is divided by its maximum.
    columns : int
        Panels in a row.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width : int
        Width of a panel, px; the height makes the boxes square.

    Raises
    ------
    DataError
        A column is not there or no average is finite.
    """
    data = columns_of(frame, label=label, t=time, mv=mean, low=low, high=high, relevance=relevance)
    names = by_class(data.label)
    if relevance:
        top = data.groupby("label")["relevance"].transform("max")
        data["relevance"] = data.relevance / top.where(top > 0, 1.0)
    every = -(-len(data) // _MAX_ROWS)
    data = data[data.groupby("label").cumcount() % every == 0].round(4)

    first, last = float(data.t.min()), float(data.t.max())
    bottom = np.floor(data.low.min() / BOX_MV - 0.2) * BOX_MV
    ceiling = np.ceil(data.high.max() / BOX_MV + 0.1) * BOX_MV
    height = round(width / (last - first) * BOX_S / BOX_MV * (ceiling - bottom))
    band = 12 if relevance else 0
    # Every layer gets the same axis: one without would bring Vega-Lite's count of ticks, which thins out the boxes.
    lines: dict[str, Any] = {"grid": True, "gridColor": STRONG, "domain": False, "tickColor": STRONG, "tickSize": 4}
    boxes = np.arange(np.ceil(first / BOX_S - 1e-6), np.floor(last / BOX_S + 1e-6) + 1) * BOX_S
    x_axis = alt.Axis(values=boxes.round(2).tolist(), format=".1f", title=None, **lines)
    x = alt.X("t:Q", scale=alt.Scale(domain=[first, last], nice=False), axis=x_axis)
    # The paper ends above the heat band, so that its boxes stay square.
    sheet = alt.Scale(domain=[bottom - (ceiling - bottom) * band / height, ceiling], nice=False, zero=False)
    levels = np.arange(bottom, ceiling + 1e-6, BOX_MV).round(2).tolist()
    y_axis = alt.Axis(values=levels, format=".1f", title="mV", **lines)

    base = alt.Chart()
    colours = alt.Scale(domain=names, range=[CLASS_COLOURS.get(name, ACCENT) for name in names])
    once = base.transform_aggregate(n="count()", groupby=["label"])  # or every row would draw the rule again
    peak = once.mark_rule(color=MUTED, strokeDash=[3, 3], tooltip=None).encode(alt.X(datum=0, axis=x_axis))
    spread = base.mark_area(opacity=0.35, tooltip=None).encode(
        x, alt.Y("low:Q", scale=sheet, axis=y_axis), alt.Y2("high"), alt.Fill("label:N", scale=colours, legend=None)
    )
    line = base.mark_line(color=INK, strokeWidth=1.6, tooltip=None).encode(x, alt.Y("mv:Q", scale=sheet, axis=y_axis))
    shown = [("mv", "mean (mV)"), ("low", f"{low} (mV)"), ("high", f"{high} (mV)")]
    layers = [peak, spread, line]
    if relevance:
        shown.append(("relevance", "relevance"))
        layers.append(_heat(base, x, last, height, band))
    tip = [alt.Tooltip("label:N", title="class"), SECONDS]
    tip += [alt.Tooltip(f"{f}:Q", title=t, format=".3f") for f, t in shown]
    layers.append(pointer(base, x, last, params=[hoverer()], by=["label"], tooltip=tip))
    panel = alt.layer(*layers, data=data).properties(
        width=width, height=height + band, view=alt.ViewBackground(fill=PAPER, stroke=STRONG)
    )
    header = alt.Header(title="time from the R peak (s)", titleOrient="bottom", labelOrient="top")
    chart = panel.facet(alt.Facet("label:N", sort=names, header=header), columns=columns, spacing=10)
    return finish(chart, title, description)


def relevance_average(
    frame: pd.DataFrame,
    *,
    spans: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    columns: int = 4,
    title: str | None = None,
    description: str = "Average relevance of each class around the R peak.",
    width: int = 138,
    height: int = 110,
) -> alt.ConcatChart:
    """Average relevance around the R peak, one panel a class, beside the value 1 of a map that says nothing.

    Parameters
    ----------
    frame : DataFrame
        Columns label, time (s from the R peak), mean, low, high (multiples of the window's mean) and patients.
    spans : mapping of class to list of (start s, stop s), optional
        Where the evidence is expected, relative to the R peak; shaded.
    columns : int
        Panels in a row.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width, height : int
        Of a panel, px.

    Raises
    ------
    DataError
        A column is not there or no average is finite.
    """
    names = ["label", "time", "mean", "low", "high", "patients"]
    data = columns_of(frame, **{name: name for name in names}).round(3)
    top = float(np.ceil(data.high.max() + 0.1))
    x_scale = alt.Scale(domain=[float(data.time.min()), float(data.time.max())], nice=False)
    panels = []
    for name in by_class(data.label):
        own = data[data.label == name]
        axis = alt.Axis(values=[-0.4, 0, 0.4], format=".1f", grid=False)
        base = alt.Chart(own).encode(alt.X("time:Q", scale=x_scale, axis=axis, title=None))
        y = alt.Scale(domain=[0, top], nice=False, clamp=True)
        ticks = alt.Axis(values=list(range(int(top) + 1)), grid=False)
        tip = [SECONDS_FROM_R, *(alt.Tooltip(f"{c}:Q", title=c, format=".2f") for c in ("mean", "low", "high"))]
        layers = [
            alt.Chart(pd.DataFrame(list((spans or {}).get(name, [])), columns=["a", "b"], dtype=float))
            .mark_rect(color=STRONG, opacity=0.5, clip=True)
            .encode(alt.X("a:Q", scale=x_scale), alt.X2("b")),
            alt.Chart(pd.DataFrame({"one": [1.0]})).mark_rule(color=MUTED, strokeDash=[3, 3]).encode(alt.Y("one:Q")),
            base.mark_area(opacity=0.35, color=CLASS_COLOURS.get(name, ACCENT)).encode(
                alt.Y("low:Q", scale=y, axis=ticks, title=None), alt.Y2("high"), tooltip=tip
            ),
            base.mark_line(color=INK, strokeWidth=1.6).encode(alt.Y("mean:Q", scale=y, axis=ticks, title=None)),
        ]
        heading = f"{name} ({int(own.patients.iloc[0])})"
        panels.append(alt.layer(*layers).properties(width=width, height=height, title=alt.Title(heading, fontSize=13)))
    chart = alt.concat(*panels, columns=columns, spacing=8)
    return finish(chart, title, description)


def _heat(base: alt.Chart, x: alt.X, last: float, top: int, band: int) -> alt.Chart:
    """Heat band of the relevance, ``band`` px high below ``top``."""
    colour = alt.Color("relevance:Q", scale=hues(), legend=key("relevance, share of the maximum"))
    cells = until_next(base, last, by=["label"]).mark_rect()
    return cells.encode(x, alt.X2("t2"), colour, y=alt.value(top), y2=alt.value(top + band))
