"""Charts of a run: the terms of an objective, and the confusion of a classifier."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ecglib import CLASSES
from ecglib.errors import DataError
from ecglib.plots.parts import hoverer, layered, pointer, vector
from ecglib.plots.style import INK, RELEVANCE, WIDTH, dashes, finish, series
from ecglib.plots.tables import columns_of

_POINTS = 1000  # iterations drawn; the terms change slowly


def mask_history(
    history: Mapping[str, Any],
    *,
    title: str | None = None,
    description: str = "Terms of the objective over the iterations.",
    log: bool = False,
    width: int = WIDTH,
    height: int = 260,
) -> alt.LayerChart:
    """Terms of an objective over the iterations.

    Parameters
    ----------
    history : mapping of str to array of shape (n_iter,)
        Value of each term after each iteration, one window's or an average.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    log : bool
        Logarithmic axis; values that are not positive leave a gap.
    width, height : int
        Size, px.

    Raises
    ------
    DataError
        No term, unequal lengths, or a term without a finite value.
    """
    if not history:
        raise DataError("history: expected at least one term, received none")
    length = np.size(next(iter(history.values())))
    terms = {name: vector(f"history {name!r}", values, length) for name, values in history.items()}
    kept = np.arange(0, length, -(-length // _POINTS))
    frame = pd.DataFrame({"t": kept + 1})
    for k, values in enumerate(terms.values()):
        shown = np.where(log & (values <= 0), np.nan, values)[kept]
        frame[f"v{k}"] = [float(f"{v:.4g}") for v in shown]
    names, base = list(terms), alt.Chart(frame)
    hover = hoverer()
    x = alt.X("t:Q", title="iteration", scale=alt.Scale(domain=[0, length], nice=False), axis=alt.Axis(tickCount=8))
    y = alt.Y("value:Q", title="value", scale=alt.Scale(type="log" if log else "linear", zero=False))
    # One row an iteration is sent; the browser folds the terms into one column for the lines.
    folded = base.transform_fold([f"v{k}" for k in range(len(names))], as_=["column", "value"])
    folded = folded.transform_calculate(term=f"{json.dumps(names)}[toNumber(slice(datum.column, 1))]")
    legend = alt.Legend(title=None, orient="top", symbolType="stroke", symbolSize=500)
    line = folded.mark_line(strokeWidth=2, tooltip=None).encode(
        x,
        y,
        alt.Color("term:N", sort=names, scale=series(names), legend=legend),
        alt.StrokeDash("term:N", sort=names, scale=dashes(names)),
    )
    tip = [alt.Tooltip("t:Q", title="iteration")]
    tip += [alt.Tooltip(f"v{k}:Q", title=name, format=".4~g") for k, name in enumerate(names)]
    chart = layered(line, pointer(base, x, float(length), params=[hover], tooltip=tip))
    return finish(chart, title, description).properties(width=width, height=height)


def confusion(
    matrix: Any,
    labels: Sequence[str] = CLASSES,
    *,
    title: str | None = None,
    description: str = "Confusion matrix: annotated classes in rows, predicted classes in columns.",
    cell: int = 54,
) -> alt.LayerChart:
    """Confusion matrix: counts as text, the share of the row as colour.

    Parameters
    ----------
    matrix : array of shape (K, K), int
        Number of windows, annotated class by row, predicted class by column.
    labels : sequence of K str
        Names of the classes.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    cell : int
        Side of a cell, px.

    Raises
    ------
    DataError
        The matrix is not square, does not fit the labels, or holds a negative or missing count.
    """
    counts = np.asarray(matrix, dtype=float)
    labels = [str(label) for label in labels]
    if counts.shape != (len(labels), len(labels)):
        expected = (len(labels), len(labels))
        raise DataError(f"matrix: expected shape {expected}, one row and column a label, received {counts.shape}")
    if not (counts >= 0).all():
        raise DataError("matrix: expected counts of at least 0, received a negative or missing one")
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    frame = pd.DataFrame(
        {
            "annotated": np.repeat(labels, len(labels)),
            "predicted": np.tile(labels, len(labels)),
            "count": counts.ravel(),
            "share": share.ravel().round(4),
        }
    )
    plain: dict[str, Any] = {"domain": False, "ticks": False, "labelPadding": 6}
    angle = 0 if max(map(len, labels)) * 8 <= cell else -45  # px that a letter takes
    share_text = alt.Tooltip("share:Q", title="share of the row", format=".1%")
    base = alt.Chart(frame).encode(
        alt.X("predicted:N", sort=labels, axis=alt.Axis(title="predicted", labelAngle=angle, **plain)),
        alt.Y("annotated:N", sort=labels, axis=alt.Axis(title="annotated", **plain)),
        tooltip=["annotated", "predicted", alt.Tooltip("count:Q", format=",~f"), share_text],
    )
    bar = alt.Legend(title="share of the row", format=".0%", gradientLength=160, values=[0, 0.5, 1])
    scale = alt.Scale(domain=[0, 1], range=["#ffffff", RELEVANCE[-1]], interpolate="lab")
    light = alt.when("datum.share > 0.8").then(alt.value("white"))
    ink = light.when("datum.count === 0").then(alt.value("#8a8a8a")).otherwise(alt.value(INK))
    cells = base.mark_rect(stroke="#d0d0d0", strokeWidth=1).encode(alt.Color("share:Q", scale=scale, legend=bar))
    text = base.mark_text(fontSize=13).encode(alt.Text("count:Q", format=",~f"), color=ink)
    side = cell * len(labels)
    return finish(layered(cells, text), title, description).properties(width=side, height=side)


def votes(
    frame: pd.DataFrame,
    *,
    title: str | None = None,
    description: str = "Logit of each class as the sum of its parts.",
    width: int = 460,
) -> alt.LayerChart:
    """Logits as sums of their parts: bars to either side of 0, one a branch, and a tick at their sum.

    Parameters
    ----------
    frame : DataFrame
        Columns class, logit, probability, and one for each part.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width : int
        Of the plot, px.

    Raises
    ------
    DataError
        A column is not there.
    """
    columns_of(frame, label="class", logit="logit", probability="probability")
    parts = [c for c in frame.columns if c not in {"class", "logit", "probability"}]
    long = frame.melt(["class", "logit", "probability"], parts, "branch", "part").round(3)
    y = alt.Y("class:N", sort=list(frame["class"]), title=None, axis=alt.Axis(ticks=False, domain=False))
    bars = alt.Chart(long).mark_bar(height={"band": 0.7}).encode(
        alt.X("part:Q", title="part of the logit (bars), logit (tick)"), y,
        alt.Color("branch:N", scale=series(parts), sort=parts, title=None, legend=alt.Legend(orient="top")),
        tooltip=["class", "branch", "part", "logit", "probability"],
    )  # fmt: skip
    total = alt.Chart(frame.round(3)).mark_tick(color=INK, thickness=3, height={"band": 0.9}).encode(
        alt.X("logit:Q"), y, tooltip=["class", "logit", "probability"]
    )  # fmt: skip
    chart: alt.LayerChart = alt.layer(bars, total)  # type: ignore[assignment]
    return finish(chart.properties(width=width, height=26 * len(frame)), title, description)
