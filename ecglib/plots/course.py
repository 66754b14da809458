"""Measures of a training run, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import altair as alt
import pandas as pd

from ecglib.errors import check_name
from ecglib.plots.counts import demand
from ecglib.plots.style import finish, series

#: measures of `ecglib.epochs.table` in the order and by the name in which they are drawn
MEASURES: Mapping[str, str] = MappingProxyType(
    {
        "accuracy": "accuracy",
        "macro-F1": "macro-F1",
        "mass": "mass less chance",
        "final": "correlation with the last map",
    }
)


def course(
    frame: pd.DataFrame,
    *,
    title: str | None = None,
    description: str = "Measures by epoch, for each split, with intervals.",
    width: int = 265,
) -> alt.FacetChart:
    """Draw each measure in a panel of its own, a line and a band for each split.

    Parameters
    ----------
    frame : DataFrame
        Columns epoch, measure (keys of `MEASURES`), split, mean, low, high, patients.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width : int
        Of a panel, px.

    Raises
    ------
    DataError, UnknownNameError
        A column is not there; a measure is none of `MEASURES`.
    """
    demand(frame, "epoch", "measure", "split", "mean", "low", "high", "patients")
    data = frame.assign(measure=[MEASURES[check_name("measure", m, MEASURES)] for m in frame.measure]).round(3)
    splits = list(dict.fromkeys(data.split))
    base = alt.Chart().encode(
        alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1)),
        alt.Color("split:N", title=None, legend=alt.Legend(orient="top", symbolOpacity=1), scale=series(splits)),
    )
    band = base.mark_area(opacity=0.18).encode(alt.Y("low:Q", title=None), alt.Y2("high:Q"))
    line = base.mark_line(point=True).encode(
        alt.Y("mean:Q", title=None, scale=alt.Scale(zero=False)),
        tooltip=["split", "measure", "epoch", "mean", "low", "high", "patients"],
    )
    panels = alt.layer(band, line, data=data).properties(width=width, height=140)
    facet = alt.Facet("measure:N", title=None, sort=list(MEASURES.values()))
    return finish(panels.facet(facet=facet, columns=2, spacing=14).resolve_scale(y="independent"), title, description)
