"""Charts of tidy tables: estimates with intervals, and bars by class."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ecglib import CLASSES
from ecglib.errors import DataError
from ecglib.plots.parts import layered, unique
from ecglib.plots.style import ACCENT, CLASS_COLOURS, INK, MUTED, finish, series

WIDTH = 500  # px: less than a strip, as the names of the rows stand at the left


def intervals(
    frame: pd.DataFrame,
    *,
    value: str,
    low: str,
    high: str,
    label: str,
    group: str | None = None,
    axis: str | None = None,
    reference: float | None = None,
    domain: tuple[float, float] | None = None,
    title: str | None = None,
    description: str = "Estimates with their intervals.",
    width: int = WIDTH,
) -> alt.LayerChart:
    """Dots with whiskers, one row a label, in the order of the frame.

    Parameters
    ----------
    frame : DataFrame
        One row an estimate.
    value, low, high : str
        Columns of the estimate and of the ends of its interval.
    label : str
        Column that names the rows.
    group : str, optional
        Column of the series that share a row, told apart by colour and shape.
    axis : str, optional
        Title of the axis; by default the name of the column ``value``.
    reference : float, optional
        Value marked by a dashed line (chance, say).
    domain : (float, float), optional
        Ends of the axis.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width : int
        Width, px.

    Raises
    ------
    DataError
        A column is not there, no value is finite, or an interval ends before it starts.
    """
    data = columns_of(frame, value=value, low=low, high=high, label=label, group=group)
    if (data.low > data.high).any():
        wrong = int((data.low > data.high).sum())
        raise DataError(f"frame: expected {low!r} <= {high!r}, received {wrong} rows where it is not")
    scale = alt.Scale(domain=list(domain), nice=False) if domain else alt.Scale(zero=False, padding=8)
    rows = list(dict.fromkeys(data.label))
    tip = [
        alt.Tooltip("label:N", title=label),
        *(alt.Tooltip(f"{k}:Q", title=t, format=".4~g") for k, t in (("value", value), ("low", low), ("high", high))),
    ]
    y = alt.Y("label:N", sort=rows, axis=alt.Axis(title=None, grid=True, ticks=False))
    channels: dict[str, Any] = {"y": y, "tooltip": tip}
    lanes = 1
    if group:
        names = list(dict.fromkeys(data.group))
        lanes = len(names)
        legend = alt.Legend(title=None, orient="top")
        channels |= {
            "yOffset": alt.YOffset("group:N", sort=names),
            "color": alt.Color("group:N", sort=names, scale=series(names), legend=legend),
            "tooltip": [tip[0], alt.Tooltip("group:N", title=group), *tip[1:]],
        }
    base = alt.Chart(data).encode(**channels)
    one: dict[str, Any] = {} if group else {"color": ACCENT}
    x = alt.X("low:Q", title=axis or value, scale=scale, axis=alt.Axis(tickCount=8))
    whisker = base.mark_rule(strokeWidth=2, **one).encode(x, alt.X2("high"))
    dot = base.mark_point(filled=True, size=70, opacity=1, **one).encode(alt.X("value:Q", scale=scale))
    if group:
        dot = dot.encode(shape=alt.Shape("group:N", sort=names, scale=alt.Scale(domain=names), legend=legend))
    layers = [whisker, dot]
    if reference is not None:
        mark = alt.Chart(alt.Data(values=[{"at": reference}])).mark_rule(color=MUTED, strokeDash=[4, 3])
        layers.insert(0, mark.encode(alt.X("at:Q", scale=scale), tooltip=alt.Tooltip("at:Q", title="reference")))
    chart = finish(layered(*layers), title, description)
    return chart.properties(width=width, height=len(rows) * (18 * lanes + 8))


def class_bars(
    frame: pd.DataFrame,
    *,
    label: str,
    value: str,
    group: str | None = None,
    axis: str | None = None,
    title: str | None = None,
    description: str = "Bars by class.",
    width: int = WIDTH,
) -> alt.LayerChart:
    """Horizontal bars by class, optionally stacked by record.

    A click on a piece keeps its record in every bar and fades the others; a click beside the bars ends that.

    Parameters
    ----------
    frame : DataFrame
        One row a bar, or a piece of one.
    label, value : str
        Columns of the class and of the length (windows, seconds …).
    group : str, optional
        Column of the pieces (records), stacked from the largest.
    axis : str, optional
        Title of the axis; by default the name of the column ``value``.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width : int
        Width, px.

    Raises
    ------
    DataError
        A column is not there or no value is finite.
    """
    data = columns_of(frame, value=value, label=label, group=group)
    rows = by_class(data.label)
    y = alt.Y("label:N", sort=rows, axis=alt.Axis(title=None, ticks=False, domain=False))
    totals = data.groupby("label", as_index=False, sort=False)["value"].sum().round(4)
    reach = alt.Scale(domain=[0, 1.12 * float(totals["value"].max() or 1)], nice=False)  # room for the sums
    x = alt.X("value:Q", title=axis or value, stack="zero", scale=reach, axis=alt.Axis(format=",.4~f", tickCount=6))
    colours = [CLASS_COLOURS.get(name, ACCENT) for name in rows]
    tip = [alt.Tooltip("label:N", title=label), alt.Tooltip("value:Q", title=value, format=",.4~f")]
    bars = alt.Chart(data).mark_bar(stroke="white", strokeWidth=0.8).encode(
        x, y, alt.Color("label:N", sort=rows, scale=alt.Scale(domain=rows, range=colours), legend=None)
    )  # fmt: skip
    if group:
        pick = alt.selection_point(unique("pick"), fields=["group"])
        tip.insert(1, alt.Tooltip("group:N", title=group))
        faded = alt.when(pick).then(alt.value(1)).otherwise(alt.value(0.18))
        bars = bars.encode(order=alt.Order("value:Q", sort="descending"), opacity=faded).add_params(pick)
    sums = alt.Chart(totals).mark_text(align="left", dx=5, fontSize=13, color=INK)
    sums = sums.encode(x=alt.X("value:Q"), y=y, text=alt.Text("value:Q", format=",.4~f"))
    chart = layered(bars.encode(tooltip=tip), sums)
    chart = chart.properties(width=width, height=28 * len(rows), view=alt.ViewBackground(stroke=None))
    return finish(chart, title, description)


def by_class(labels: pd.Series) -> list[str]:
    """Names in the order of the classes; other names after them, as they came."""
    order = {name: k for k, name in enumerate(CLASSES)}
    return sorted(dict.fromkeys(labels), key=lambda name: order.get(name, len(order)))


def columns_of(frame: pd.DataFrame, **wanted: str | None) -> pd.DataFrame:
    """Wanted columns under fixed names (a chart's field must not hold dots or brackets): text or rounded numbers."""
    named = {new: old for new, old in wanted.items() if old is not None}
    if absent := [old for old in named.values() if old not in frame]:
        raise DataError(f"frame: expected columns {list(named.values())}, received none called {absent}")
    data = pd.DataFrame({new: frame[old].to_numpy() for new, old in named.items()})
    for column in data:
        if column in ("label", "group"):
            data[column] = data[column].astype(str)
            continue
        numbers = pd.to_numeric(data[column], errors="coerce").astype(float)
        # Significant digits, not decimals: a score may be 1e-6.
        data[column] = [float(f"{v:.7g}") if np.isfinite(v) else np.nan for v in numbers]
        if not data[column].notna().any():
            raise DataError(f"frame: expected finite numbers in {named[str(column)]!r}, received {len(data)} without")
    return data
