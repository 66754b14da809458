"""Charts of agreement: how far two explanations point at the same samples, and at those where the evidence is."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ecglib.plots.counts import demand
from ecglib.plots.parts import layered, unique
from ecglib.plots.style import INK, MUTED, WIDTH, finish, series
from ecglib.plots.tables import by_class

#: what two random choices have in common; of ranks nothing
CHANCE = {"rank, steps": 0.0, "rank, samples": 0.0, "top 10 %": 0.1 / 1.9, "top 20 %": 0.2 / 1.8}
FEW = 10  #: patients below which an interval is drawn pale


def agreement(
    frame: pd.DataFrame,
    *,
    columns: int = 4,
    title: str | None = None,
    description: str = "Agreement of pairs of explanations by class, of a measure to choose, with intervals over patients.",
    width: int = 90,
) -> alt.ConcatChart:
    """Agreement of pairs of explanations, one panel a class, of the measure that the reader chooses.

    Parameters
    ----------
    frame : DataFrame
        Columns pair, label, measure, mean, low, high, patients and, to colour the pairs by, group; pairs and measures in
        the order wanted.
    columns : int
        Panels in a row.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width : int
        Of a panel, px.

    Raises
    ------
    DataError
        A column is not there.
    """
    demand(frame, "pair", "label", "measure", "mean", "low", "high", "patients", "group")
    data = (
        frame[["pair", "label", "group", "measure", "mean", "low", "high", "patients"]].dropna(subset="mean").round(4)
    )
    rows, measures, groups = (list(dict.fromkeys(data[c])) for c in ("pair", "measure", "group"))
    pick = alt.param(unique("measure"), value=measures[0], bind=alt.binding_select(options=measures, name="measure: "))
    low, high = float(np.nanmin([data.low.min(), 0])), float(np.nanmax([data.high.max(), data["mean"].max()]))
    scale = alt.Scale(domain=[np.floor(10 * low) / 10, np.ceil(10 * high) / 10], nice=False)
    legend = alt.Legend(title=None, orient="top", columns=2, labelLimit=300)
    colour = alt.Color("group:N", sort=groups, scale=series(groups), legend=legend)
    seen = alt.when(f"datum.patients < {FEW}").then(alt.value(0.45)).otherwise(alt.value(1))
    known = pd.DataFrame([(m, CHANCE[m]) for m in measures if m in CHANCE], columns=["measure", "at"])
    tip: list[Any] = [
        "pair", "label", alt.Tooltip("mean:Q", format=".2f"), alt.Tooltip("low:Q", format=".2f"),
        alt.Tooltip("high:Q", format=".2f"), "patients",
    ]  # fmt: skip
    panels, order = [], by_class(data.label)
    for k, name in enumerate(order):
        own = data[data.label == name]
        axis = alt.Axis(title=None, ticks=False, domain=False, labels=k % columns == 0, labelLimit=260, grid=True)
        y = alt.Y("pair:N", sort=rows, scale=alt.Scale(domain=rows), axis=axis)
        below = "agreement" if k + columns >= len(order) else None
        x = alt.Axis(title=below, values=[-0.5, 0, 0.5, 1], format=".1f", grid=False)
        base = alt.Chart(own).transform_filter(f"datum.measure === {pick.name}").encode(y=y, opacity=seen, tooltip=tip)
        chance = alt.Chart(known).transform_filter(f"datum.measure === {pick.name}").mark_rule(
            color=MUTED, strokeDash=[4, 3]
        )  # fmt: skip
        layers = [
            chance.encode(alt.X("at:Q", scale=scale, axis=x)),
            base.mark_rule(strokeWidth=2).encode(alt.X("low:Q", scale=scale, axis=x), alt.X2("high"), color=colour),
            base.mark_point(filled=True, size=45).encode(alt.X("mean:Q", scale=scale, axis=x), color=colour),
        ]
        head = alt.Title(f"{name} ({int(own.patients.max())})", fontSize=13)
        panels.append(layered(*layers).properties(width=width, height=15 * len(rows), title=head))
    return finish(alt.concat(*panels, columns=columns, spacing=10).add_params(pick), title, description)


def masses(
    frame: pd.DataFrame,
    *,
    title: str | None = None,
    description: str = "Share of each explanation inside the marked samples, by class, with intervals over patients.",
    axis: str = "share of the relevance inside",
    width: int = WIDTH - 100,
) -> alt.LayerChart:
    """Share of relevance inside a truth: by class a dot with its interval for each explanation, and a tick at chance.

    Parameters
    ----------
    frame : DataFrame
        Columns pair (the explanation, or "chance"), label, mean, low, high, patients; as of `ecglib.pairing.mass`.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    axis : str
        Title of the axis.
    width : int
        Of the plot, px.

    Raises
    ------
    DataError
        A column is not there.
    """
    demand(frame, "pair", "label", "mean", "low", "high", "patients")
    data = frame[["pair", "label", "mean", "low", "high", "patients"]].dropna(subset="mean").round(4)
    rows, names = by_class(data.label), [p for p in dict.fromkeys(data.pair) if p != "chance"]
    scale = alt.Scale(domain=[0, 1], nice=False)
    legend = alt.Legend(title=None, orient="top", symbolOpacity=1, labelLimit=0)
    seen = alt.when(f"datum.patients < {FEW}").then(alt.value(0.45)).otherwise(alt.value(1))
    y = alt.Y("label:N", sort=rows, axis=alt.Axis(title=None, ticks=False, domain=False, labelFontWeight="bold"))
    tip: list[Any] = [
        "label", "pair", alt.Tooltip("mean:Q", format=".2f"), alt.Tooltip("low:Q", format=".2f"),
        alt.Tooltip("high:Q", format=".2f"), "patients",
    ]  # fmt: skip
    base = alt.Chart(data[data.pair != "chance"]).encode(
        y, alt.Color("pair:N", sort=names, scale=series(names), legend=legend), opacity=seen, tooltip=tip,
        yOffset=alt.YOffset("pair:N", sort=names, scale=alt.Scale(paddingOuter=0.5)),
    )  # fmt: skip
    shape = alt.Shape("pair:N", sort=names, scale=alt.Scale(domain=names), legend=legend)
    tick = alt.Chart(data[data.pair == "chance"]).mark_tick(color=INK, thickness=2, height={"band": 0.8})
    chart = layered(
        tick.encode(y, alt.X("mean:Q", scale=scale), tooltip=tip),
        base.mark_rule(strokeWidth=2).encode(alt.X("low:Q", title=axis, scale=scale), alt.X2("high")),
        base.mark_point(filled=True, size=60).encode(alt.X("mean:Q", scale=scale), shape=shape),
    )
    return finish(chart, title, description).properties(width=width, height=len(rows) * (12 * len(names) + 14))
