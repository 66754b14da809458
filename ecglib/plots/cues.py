"""Charts of what a window tells besides its rhythm: where peaks stand, who supplies a class, what came before."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ecglib import CLASSES
from ecglib.plots.counts import demand
from ecglib.plots.parts import layered, unique
from ecglib.plots.style import ACCENT, CLASS_COLOURS, INK, MUTED, PAPER, RELEVANCE, STRONG, WIDTH, finish, series
from ecglib.plots.tables import by_class, columns_of


def peak_raster(
    frame: pd.DataFrame,
    *,
    title: str | None = None,
    description: str = "Share of windows with a beat at each moment, by class, for a database and rule to choose.",
    width: int = WIDTH - 40,
) -> alt.LayerChart:
    """Where beats stand in the windows of each class: one row a class, dark where most windows have a beat.

    Parameters
    ----------
    frame : DataFrame
        Columns database, rule, class, time (s from the window's centre, left edge of a bin), share (0…1).
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width : int
        Of the plot, px.
    """
    demand(frame, "database", "rule", "class", "time", "share")
    data = frame.assign(chosen=frame.database + ", " + frame.rule)[["chosen", "class", "time", "share"]].round(3)
    step = float(np.diff(np.unique(data.time)).min())
    names, choices = by_class(data["class"]), list(dict.fromkeys(data.chosen))
    pick = alt.param(unique("of"), value=choices[0], bind=alt.binding_select(options=choices, name="database, rule "))
    key = alt.Legend(orient="top", format=".0%", titleLimit=400)
    colour = alt.Color("share:Q", title="share of windows with a beat", legend=key,
                       scale=alt.Scale(type="sqrt", domain=[0, 1], range=list(RELEVANCE), interpolate="lab"))  # fmt: skip
    x = alt.X("time:Q", title="time from the centre of the window (s)", scale=alt.Scale(domain=[-1, 1], nice=False))
    cells = alt.Chart(data).transform_filter(f"datum.chosen === {pick.name}").transform_calculate(
        end=f"datum.time + {step:.4f}"
    ).mark_rect(stroke=None).encode(
        x, alt.X2("end"), alt.Y("class:N", sort=names, title=None), colour,
        tooltip=["class", alt.Tooltip("time:Q", title="from (s)", format=".2f"), alt.Tooltip("share:Q", format=".0%")],
    ).add_params(pick)  # fmt: skip
    middle = alt.Chart(alt.Data(values=[{"at": 0}])).mark_rule(color=MUTED, strokeDash=[3, 3]).encode(alt.X("at:Q"))
    return finish(layered(cells, middle), title, description).properties(width=width, height=24 * len(names))


def window_average(
    frame: pd.DataFrame,
    *,
    columns: int = 4,
    title: str | None = None,
    description: str = "Average of whole windows of each class, with the spread between patients.",
    width: int = 136,
    height: int = 120,
) -> alt.FacetChart:
    """Average of whole windows, one panel a class, on the strong lines of ECG paper.

    Parameters
    ----------
    frame : DataFrame
        As of `ecglib.cues.average_window`.
    columns : int
        Panels in a row.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width, height : int
        Of a panel, px.
    """
    demand(frame, "label", "time", "mean", "low", "high", "patients")
    people = frame.groupby("label").patients.first()
    data = frame.assign(panel=[f"{c} ({people[c]})" for c in frame.label])
    order = [f"{c} ({people[c]})" for c in by_class(frame.label)]
    data = data[["panel", "label", "time", "mean", "low", "high"]].round(3)
    grid: dict[str, Any] = {"gridColor": STRONG, "tickColor": STRONG, "domain": False}
    x = alt.X("time:Q", title=None, axis=alt.Axis(values=[-0.5, 0, 0.5], **grid), scale=alt.Scale(domain=[-1, 1]))
    y = alt.Y("mean:Q", title="mV", axis=alt.Axis(tickCount=5, **grid))
    base = alt.Chart(data)
    names = list(CLASS_COLOURS)
    colours = alt.Scale(domain=names, range=[CLASS_COLOURS[n] for n in names])
    band = base.mark_area(opacity=0.3).encode(
        x,
        alt.Y("low:Q", title="mV"),
        alt.Y2("high"),
        alt.Fill("label:N", scale=colours, legend=None),
        tooltip=["time", "mean", "low", "high"],
    )
    line = base.mark_line(color=INK, strokeWidth=1.5, tooltip=None).encode(x, y)
    header = alt.Header(title="time from the centre of the window (s)", titleOrient="bottom", labelOrient="top")
    panel = alt.layer(band, line).properties(
        width=width, height=height, view=alt.ViewBackground(fill=PAPER, stroke=STRONG)
    )
    chart = panel.facet(alt.Facet("panel:N", sort=order, header=header), columns=columns, spacing=10)
    return finish(chart, title, description)


def shares(
    frame: pd.DataFrame,
    *,
    label: str,
    part: str,
    value: str,
    order: Sequence[str] = (),
    title: str | None = None,
    description: str = "Parts of each bar, as shares of it.",
    width: int = 480,
) -> alt.LayerChart:
    """Horizontal bars of one length, divided into named parts.

    Parameters
    ----------
    frame : DataFrame
        One row a part.
    label, part, value : str
        Columns of the bar, of the part and of its size.
    order : sequence of str
        Parts from the left (by default the seven largest); all others are one grey part.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width : int
        Of the bars, px.
    """
    data = columns_of(frame, label=label, group=part, value=value)
    totals = data.groupby("label", sort=False)["value"].sum()
    sizes = data.groupby("group")["value"].sum().sort_values(ascending=False)
    names = [n for n in order if n in sizes] or list(sizes.index[:7])
    data["group"] = data.group.where(data.group.isin(names), "other")
    data = pd.DataFrame(data.groupby(["label", "group"], as_index=False, sort=False)["value"].sum())
    data["share"] = (data.value / totals[data.label].to_numpy()).round(4)
    names += ["other"] * bool((data.group == "other").any())
    spare = itertools.cycle(("#ef6c22", "#6f1a11", "#cc79a9", "#650e61", "#8a8a1f", "#1f7a8a"))
    greys = {"other": "#bdbdbd", "unknown": "#e3e3e3"}
    colours = [CLASS_COLOURS.get(n) or greys.get(n) or next(spare) for n in names]
    scale = alt.Scale(domain=names, range=colours)
    data["rank"] = data.group.map({n: k for k, n in enumerate(names)})
    y = alt.Y("label:N", sort=list(totals.index), title=None, axis=alt.Axis(ticks=False, domain=False, labelLimit=200))
    whole = alt.Scale(domain=[0, 1])
    tip = [alt.Tooltip("label:N", title=label), alt.Tooltip("group:N", title=part),
           alt.Tooltip("value:Q", title=value, format=",d"), alt.Tooltip("share:Q", format=".1%")]  # fmt: skip
    bars = alt.Chart(data).mark_bar(stroke="white", strokeWidth=0.8).encode(
        alt.X("share:Q", stack="zero", title=f"share of {value}", scale=whole, axis=alt.Axis(format=".0%")),
        y, alt.Color("group:N", sort=names, scale=scale, legend=alt.Legend(title=None, orient="top", columns=8)),
        alt.Order("rank:Q"), tooltip=tip,
    )  # fmt: skip
    sums = pd.DataFrame({"label": totals.index, "text": [f"{n:,.0f}" for n in totals]})
    text = alt.Chart(sums).mark_text(align="left", dx=6, fontSize=12, color=INK)
    chart = layered(bars, text.encode(x=alt.value(width), y=y, text="text:N"))
    chart = chart.properties(width=width, height=26 * len(totals), view=alt.ViewBackground(stroke=None))
    return finish(chart, title, description)


def suppliers(
    frame: pd.DataFrame,
    *,
    title: str | None = None,
    description: str = "Who supplies each class: its records from the largest, for a database to choose.",
    width: int = 520,
    named: float = 0.06,
) -> alt.LayerChart:
    """Who supplies each class of a database: records as pieces of a bar, the largest first, the large ones named.

    Parameters
    ----------
    frame : DataFrame
        Columns class, database, record, windows; as of `ecglib.survey.concentration`.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width : int
        Of the bars, px.
    named : float
        Pieces of a smaller share carry no name.
    """
    demand(frame, "class", "database", "record", "windows")
    data = frame.sort_values(["database", "class", "windows"], ascending=[True, True, False]).copy()
    whole = data.groupby(["database", "class"]).windows.transform("sum")
    data["share"] = data.windows / whole
    data["to"] = data.groupby(["database", "class"]).share.cumsum()
    data["from"] = data.to - data.share
    data["name"] = data.record.where(data.share >= named, "")
    data["shade"] = data.groupby(["database", "class"]).cumcount() % 2
    # the many small ones are one piece: nobody can see them apart, and half a million windows have hundreds
    small = data[data.share < 0.004].groupby(["database", "class"], as_index=False)
    tail = small.agg({"windows": "sum", "share": "sum", "from": "min", "to": "max", "shade": "first", "record": "size"})
    tail["record"], tail["name"] = [f"{n} records" for n in tail.record], ""
    data = pd.concat([data[data.share >= 0.004], tail], ignore_index=True).round(4)
    choices = list(dict.fromkeys(frame.database))
    pick = alt.param(unique("of"), value=choices[0], bind=alt.binding_radio(options=choices, name="database "))
    names = [c for c in CLASSES if c in set(data["class"])]
    base = alt.Chart(data[["database", "class", "record", "windows", "share", "from", "to", "name", "shade"]])
    base = base.transform_filter(f"datum.database === {pick.name}")
    x = alt.X("from:Q", title="share of the windows", axis=alt.Axis(format=".0%"), scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("class:N", sort=names, title=None, axis=alt.Axis(ticks=False, domain=False))
    colours = alt.Scale(domain=list(CLASS_COLOURS), range=list(CLASS_COLOURS.values()))
    pieces = base.mark_bar(stroke="white", strokeWidth=0.6).encode(
        x, alt.X2("to"), y, alt.Color("class:N", scale=colours, legend=None),
        opacity=alt.when("datum.shade === 0").then(alt.value(0.9)).otherwise(alt.value(0.65)),
        tooltip=["class", "record", alt.Tooltip("windows:Q", format=",d"), alt.Tooltip("share:Q", format=".1%")],
    )  # fmt: skip
    text = base.transform_filter("datum.name !== ''").transform_calculate(mid="(datum.from + datum.to) / 2").mark_text(
        fontSize=11, fontWeight="bold", color="white", stroke=INK, strokeWidth=2.5, strokeOpacity=0.55, strokeJoin="round",
    ).encode(alt.X("mid:Q"), y, text="name:N")  # fmt: skip
    crisp = text.mark_text(fontSize=11, fontWeight="bold", color="white")
    chart = layered(pieces, text, crisp).add_params(pick).properties(width=width, height=28 * len(names))
    return finish(chart, title, description)


def spectra(
    frame: pd.DataFrame,
    *,
    title: str | None = None,
    description: str = "Share of the signal's power by frequency in each database.",
    width: int = WIDTH - 40,
    height: int = 240,
) -> alt.LayerChart:
    """Spectra of databases: the median patient, and between 10 and 90 % of them.

    Parameters
    ----------
    frame : DataFrame
        As of `ecglib.cues.spectra`: columns database, hz, low, median, high (log10 of the share of power).
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width, height : int
        Of the plot, px.
    """
    demand(frame, "database", "hz", "low", "median", "high")
    names = list(dict.fromkeys(frame.database))
    x = alt.X("hz:Q", title="frequency (Hz)", scale=alt.Scale(domain=[0, 180], nice=False))
    title_y = "share of the power (log10)"
    colour = alt.Color("database:N", scale=series(names), legend=alt.Legend(title=None, orient="top"))
    base = alt.Chart(frame[["database", "hz", "low", "median", "high"]].round(2))
    band = base.mark_area(opacity=0.2).encode(x, alt.Y("low:Q", title=title_y), alt.Y2("high"), colour)
    tip = ["database", "hz", "median", "low", "high"]
    line = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=18)).encode(
        x, alt.Y("median:Q", title=title_y), colour, tooltip=tip
    )
    nyquist = alt.Chart(alt.Data(values=[{"at": 64}])).mark_rule(color=ACCENT, strokeDash=[4, 3]).encode(alt.X("at:Q"))
    return finish(layered(band, line, nyquist), title, description).properties(width=width, height=height)
