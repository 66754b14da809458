"""Charts of how far scores can be relied on: confidence against accuracy, and models by the strictness of the split."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ecglib.errors import DataError
from ecglib.plots.parts import layered
from ecglib.plots.style import INK, LEVEL_NAMES, MUTED, WIDTH, finish, series
from ecglib.plots.tables import columns_of


def reliability(
    frame: pd.DataFrame,
    *,
    group: str | None = None,
    title: str | None = None,
    description: str = "Accuracy against confidence, by bin of the confidence.",
    side: int = 330,
) -> alt.VConcatChart:
    """Reliability diagram: a dot a bin, its whisker the interval; on the diagonal a network keeps what it says.

    The bars below, and the size of the dots, show where the windows are; whiskers of bins with fewer than 1 % are faint.

    Parameters
    ----------
    frame : DataFrame
        One row a bin: confidence, accuracy, accuracy_low, accuracy_high, windows, as in
        `ecglib.calibration.Reliability.curve`; several curves one after the other.
    group : str, optional
        Column of the curves, told apart by colour and shape.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    side : int
        Of the square, px.

    Raises
    ------
    DataError
        A column is not there, or an accuracy lies outside 0 to 1.
    """
    wanted = ("confidence", "accuracy", "windows")
    data = columns_of(frame, **{name: name for name in wanted}, group=group)
    for end in ("low", "high"):  # all missing where there is no interval, which columns_of refuses
        data[end] = (
            pd.to_numeric(frame[f"accuracy_{end}"]).to_numpy().round(5) if f"accuracy_{end}" in frame else np.nan
        )
    if not data[["confidence", "accuracy"]].map(lambda v: 0 <= v <= 1).all(axis=None):
        raise DataError("frame: expected confidence and accuracy from 0 to 1, received others")
    data["group"] = data.get("group", pd.Series("all windows", index=data.index))
    data["share"] = (data.windows / data.groupby("group").windows.transform("sum")).round(5)
    groups = list(dict.fromkeys(data.group))
    data["bar"] = data.confidence + 0.02 * (data.group.map(groups.index) - (len(groups) - 1) / 2)  # side by side
    scale = alt.Scale(domain=[0, 1], nice=False, padding=0)
    unit: dict[str, Any] = {"format": ".1f", "values": [0, 0.2, 0.4, 0.6, 0.8, 1], "grid": False}
    x = alt.X("confidence:Q", scale=scale, title=None, axis=alt.Axis(labels=False, **unit))
    y = alt.Y("accuracy:Q", scale=scale, title="accuracy", axis=alt.Axis(**unit))
    legend = (
        alt.Legend(title=None, orient="top", direction="vertical", labelLimit=side, symbolOpacity=1) if group else None
    )
    colour = alt.Color("group:N", sort=groups, scale=series(groups), legend=legend)
    shape = alt.Shape("group:N", sort=groups, scale=alt.Scale(domain=groups), legend=legend)
    share_axis = alt.Axis(format=".0%", values=[0, 0.5, 1])
    percent: dict[str, Any] = {"format": ".1%"}
    tip = [
        *([alt.Tooltip("group:N", title=group)] if group else []),
        alt.Tooltip("confidence:Q", **percent), alt.Tooltip("accuracy:Q", **percent),
        alt.Tooltip("low:Q", title="accuracy, low", **percent), alt.Tooltip("high:Q", title="accuracy, high", **percent),
        alt.Tooltip("windows:Q", format=",~f"),
    ]  # fmt: skip
    base = alt.Chart(data).encode(color=colour, tooltip=tip)
    size = alt.Size("share:Q", scale=alt.Scale(domain=[0, 1], range=[25, 220]), legend=None)
    seen = alt.when("datum.share < 0.01").then(alt.value(0.25)).otherwise(alt.value(1))  # a few windows span 0 to 1
    diagonal = alt.Chart(pd.DataFrame({"confidence": [0.0, 1.0], "accuracy": [0.0, 1.0]}))
    square = layered(
        diagonal.mark_line(color=MUTED, strokeDash=[4, 3], strokeWidth=1.5).encode(x, y),
        _note("too timid", 0.04, 0.93, "left"),
        _note("too sure", 0.96, 0.07, "right"),
        base.mark_line(strokeWidth=1.5, opacity=0.6).encode(x, y),
        base.mark_rule(strokeWidth=2).encode(x, alt.Y("low:Q", scale=scale), alt.Y2("high"), opacity=seen),
        base.mark_point(filled=True, opacity=1).encode(x, y, shape=shape, size=size),
    ).properties(width=side, height=side)
    bars = base.mark_bar(size=max(4, 12 // len(groups))).encode(
        alt.X("bar:Q", scale=scale, title="confidence", axis=alt.Axis(**unit)),
        alt.Y("share:Q", title="windows", stack=None, scale=alt.Scale(domain=[0, 1]), axis=share_axis),
    )
    bars = bars.properties(width=side, height=60)
    return finish(alt.vconcat(square, bars, spacing=8), title, description)


def levels(
    frame: pd.DataFrame,
    *,
    value: str,
    low: str,
    high: str,
    model: str = "model",
    level: str = "level",
    published: str | None = None,
    axis: str | None = None,
    domain: tuple[float, float] = (0.0, 1.0),
    title: str | None = None,
    description: str = "Scores of models by the level at which the test windows were held out.",
    width: int = WIDTH - 180,
) -> alt.LayerChart:
    """Models by rows, a dot with its interval for each level of split, and a bar at the number that was published.

    Parameters
    ----------
    frame : DataFrame
        One row a model and level, from the loosest split to the strictest.
    value, low, high : str
        Columns of the score and of the ends of its interval.
    model, level : str
        Columns of the rows and of the dots within one.
    published : str, optional
        Column of the published number, the same in each of a model's rows; none where it is missing.
    axis : str, optional
        Title of the axis; by default the name of the column ``value``.
    domain : (float, float)
        Ends of the axis.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width : int
        Of the plot, px.

    Raises
    ------
    DataError
        A column is not there, no value is finite, an interval ends before it starts, or a model has two published
        numbers.
    """
    data = columns_of(frame, value=value, low=low, high=high, label=model, group=level, published=published)
    if (data.low > data.high).any():
        raise DataError(
            f"frame: expected {low!r} <= {high!r}, received {int((data.low > data.high).sum())} rows where it is not"
        )
    data["group"] = data.group.map(lambda name: LEVEL_NAMES.get(name, name))
    rows, lanes = list(dict.fromkeys(data.label)), list(dict.fromkeys(data.group))
    scale = alt.Scale(domain=list(domain), nice=False)
    y = alt.Y("label:N", sort=rows, axis=alt.Axis(title=None, ticks=False, domain=False, labelFontWeight="bold"))
    legend = alt.Legend(title=None, orient="top", symbolOpacity=1)
    tip = [
        alt.Tooltip("label:N", title=model), alt.Tooltip("group:N", title="held out"),
        *(alt.Tooltip(f"{k}:Q", title=t, format=".3f") for k, t in (("value", value), ("low", low), ("high", high))),
    ]  # fmt: skip
    base = alt.Chart(data).encode(
        y, alt.Color("group:N", sort=lanes, scale=series(lanes), legend=legend),
        yOffset=alt.YOffset("group:N", sort=lanes, scale=alt.Scale(paddingOuter=0.6)), tooltip=tip,
    )  # fmt: skip
    ends = alt.X("low:Q", title=axis or value, scale=scale, axis=alt.Axis(tickCount=6, format=".1f"))
    shape = alt.Shape("group:N", sort=lanes, scale=alt.Scale(domain=lanes), legend=legend)
    beyond = data.value > data.get("published", np.nan)  # the number stands on the side where the bar is not
    numbers: dict[bool, Any] = {True: {"align": "left", "dx": 6}, False: {"align": "right", "dx": -6}}
    text = alt.Text("value:Q", format=".2f")
    layers = [
        base.mark_rule(strokeWidth=2).encode(ends, alt.X2("high")),
        base.mark_point(filled=True, size=80, opacity=1).encode(alt.X("value:Q", scale=scale), shape=shape),
    ]
    for right in set(beyond):
        at = alt.X("high:Q" if right else "low:Q", scale=scale)
        part = base.properties(data=data[beyond == right]).mark_text(fontSize=12, **numbers[right])
        layers.append(part.encode(at, text=text))
    if published:
        told = data.dropna(subset="published").drop_duplicates(["label", "published"])
        if told.label.duplicated().any():
            raise DataError(f"frame: expected one {published!r} a model, received several for {told.label.mode()[0]!r}")
        told = told[["label", "published"]].assign(text=[f"{published} {v:.2f}" for v in told.published])
        tip = [alt.Tooltip("label:N", title=model), alt.Tooltip("published:Q", title=published, format=".2f")]
        bar = alt.Chart(told).encode(y, alt.X("published:Q", scale=scale), tooltip=tip)
        layers.insert(0, bar.mark_tick(color=INK, thickness=3, height={"band": 0.7}))
        layers.append(bar.mark_text(dy=-10 * len(lanes) - 6, fontSize=12, color=INK).encode(text="text:N"))
    chart = finish(layered(*layers), title, description)
    return chart.properties(width=width, height=len(rows) * (20 * len(lanes) + 30))


# Internals -----------------------------------------------------------------------------------------------------


def _note(text: str, x: float, y: float, align: Any) -> alt.Chart:
    mark = alt.Chart(pd.DataFrame({"confidence": [x], "accuracy": [y]}))
    return mark.mark_text(text=text, align=align, color=MUTED, fontSize=13, fontStyle="italic").encode(
        x="confidence:Q", y="accuracy:Q"
    )
