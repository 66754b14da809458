"""Distributions by class: small multiples in which the reader chooses what is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ecglib.errors import DataError
from ecglib.plots import parts
from ecglib.plots.style import INK, MUTED, STRONG, dashes, finish, series
from ecglib.plots.tables import by_class


def distributions(
    frame: pd.DataFrame,
    *,
    bins: Mapping[str, Sequence[float] | np.ndarray],
    spans: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
    columns: int = 4,
    description: str = "Distributions by class; what is measured can be chosen.",
    width: int = 150,
    height: int = 100,
) -> alt.FacetChart:
    """Distributions by class, one panel each, a line for every series; a click on its name keeps one alone.

    Parameters
    ----------
    frame : DataFrame
        One row a series, class and quantity: series, label, quantity, share (sequence, one value a bin), median,
        patients and beats, as from `ecglib.intervals.shares`.
    bins : mapping of str to array of shape (K + 1,)
        Edges of the bins by quantity; the first quantity is shown until the reader chooses another.
    spans : mapping of quantity to mapping of class to (low, high), optional
        Shaded spans: where a criterion puts the class.
    columns : int
        Panels in a row.
    description : str
        One sentence for readers who do not see the chart.
    width, height : int
        Of a panel, px.  Every panel has its own vertical scale: shapes are to be compared, and the areas are equal.

    Raises
    ------
    DataError
        A column is not there, or a row does not have one share a bin.
    """
    wanted = ["series", "label", "quantity", "share", "median", "patients", "beats"]
    if absent := [name for name in wanted if name not in frame]:
        raise DataError(f"frame: expected columns {wanted}, received none called {absent}")
    quantities, names = list(bins), list(dict.fromkeys(frame.series))
    rows: list[dict[str, Any]] = []
    for row in frame[wanted].to_dict("records"):
        edges = np.asarray(bins.get(row["quantity"], []), float).round(6).tolist()
        if len(row["share"]) != len(edges) - 1:
            expected = f"{max(len(edges) - 1, 0)} shares of {row['quantity']!r}"
            raise DataError(f"frame: expected {expected}, one a bin, received {len(row['share'])}")
        share = np.round(np.asarray(row["share"], float), 5).tolist()
        # One more at the right end, of no width, brings the line down.
        closed = {"share": [*share, 0.0], "a": edges, "b": [*edges[1:], edges[-1]]}
        median = round(float(row["median"]), 3)
        rows.append(
            {**{str(k): v for k, v in row.items()}, **closed, "number": names.index(row["series"]), "median": median}
        )
    for quantity, of in (spans or {}).items():
        first, last = np.asarray(bins[quantity], float)[[0, -1]].tolist()
        rows += [
            {"label": name, "quantity": quantity, "span": True, "share": [0],
             "a": [max(low, first)], "b": [min(high, last)]}
            for name, (low, high) in of.items() if name in set(frame.label)
        ]  # fmt: skip

    radio = alt.binding_radio(options=quantities, name="measured: ")
    pick = alt.param(parts.unique("quantity"), value=quantities[0], bind=radio)
    alone = alt.selection_point(parts.unique("series"), fields=["series"], bind="legend")
    each = alt.Chart().transform_filter("!datum.span")
    axis = alt.Axis(grid=False, tickCount=4, title=None)
    x = alt.X("a:Q", scale=alt.Scale(zero=False, nice=False), axis=axis)
    y = alt.Y("share:Q", axis=None, scale=alt.Scale(domainMin=0, nice=False))
    colour = alt.Color("series:N", sort=names, scale=series(names), legend=_legend())
    faded = alt.when(alone).then(alt.value(1)).otherwise(alt.value(0.12))
    line = (
        each.mark_line(interpolate="step-after", strokeWidth=1.7, tooltip=None)
        .encode(
            x, y, colour, alt.StrokeDash("series:N", sort=names, scale=dashes(names), legend=_legend()), opacity=faded
        )
        .add_params(alone)
    )
    shaded = alt.Chart().transform_filter("datum.span").mark_rect(color=STRONG, opacity=0.35)
    # One column a bin over the whole panel: every series at once, by its number, as a name might hold a dot or a bracket.
    tip = [
        alt.Tooltip("label:N", title="class"),
        *(alt.Tooltip(f"{c}:Q", title=t, format=".4~g") for c, t in (("a", "from"), ("b", "to"))),
    ]
    tip += [alt.Tooltip(f"text{k}:N", title=name) for k, name in enumerate(names)]
    text = {f"text{k}": f"isFinite(datum.s{k}) ? format(datum.s{k}, '.1%') : 'none'" for k in range(len(names))}
    hover = alt.selection_point(parts.unique("bin"), fields=["a"], on="pointermove", clear="pointerout", empty=False)
    seen = alt.when(hover).then(alt.value(0.1)).otherwise(alt.value(0))
    pointed = each.transform_filter("datum.b > datum.a").transform_calculate(key="'s' + datum.number")
    pointed = pointed.transform_pivot("key", value="share", groupby=["label", "a", "b"]).transform_calculate(**text)
    pointed = pointed.mark_rect(fill=INK).encode(x, alt.X2("b"), opacity=seen, tooltip=tip).add_params(hover)
    middle = each.transform_aggregate(median="min(median)", groupby=["series", "label"]).mark_tick(
        orient="vertical", thickness=2, size=8, yOffset=-4
    )
    medians = middle.encode(alt.X("median:Q"), colour, y=alt.value(height), opacity=faded)
    panel = alt.layer(shaded.encode(x, alt.X2("b"), tooltip=alt.value(None)), line, medians, pointed)
    panel = panel.properties(width=width, height=height, view=alt.ViewBackground(stroke=MUTED, strokeOpacity=0.3))
    header = alt.Header(title=None, labelOrient="top", labelPadding=2)
    facet = alt.Facet("label:N", sort=by_class(frame.label), header=header)
    chart = panel.facet(facet, columns=columns, spacing={"row": 8, "column": 10}, data=alt.Data(values=rows))
    chart = chart.transform_filter(f"datum.quantity === {pick.name}").transform_flatten(["share", "a", "b"])
    # What is measured stands below, where the name of an axis does.
    name = alt.Title(alt.ExprRef(pick.name), orient="bottom", fontSize=13, fontWeight="normal")
    chart = chart.resolve_scale(y="independent").add_params(pick)
    return finish(chart, None, description).properties(title=name)


def _legend() -> alt.Legend:
    return alt.Legend(title=None, orient="top", symbolType="stroke", symbolSize=300, labelLimit=0)
