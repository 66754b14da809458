"""Charts of a recount: the published table cell by cell, the clauses of a rule, and what a search found."""

from __future__ import annotations

import altair as alt
import pandas as pd

from ecglib import CLASSES
from ecglib.errors import DataError
from ecglib.plots.parts import layered, unique
from ecglib.plots.style import ACCENT, INK, MUTED, WIDTH, finish

#: verdicts with a colour and a sign each, so that neither has to be seen alone
VERDICTS = {
    "exact": ("#d9ead3", "✓"),
    "off": ("#fff2cc", "≈"),
    "unexplained": ("#f4cccc", "?"),
    "dash": ("#f3f3f3", ""),
}


def count_cells(
    frame: pd.DataFrame,
    *,
    title: str | None = None,
    description: str = "Published and counted windows of each class and database.",
    width: int = WIDTH,
) -> alt.LayerChart:
    """The table of windows: published number above, counted number below, coloured by verdict.

    Parameters
    ----------
    frame : DataFrame
        As of `ecglib.recount.verdicts`; databases stand in the order in which they come.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width : int
        Of the table, px.
    """
    demand(frame, "class", "database", "rule", "published", "counted", "difference", "verdict")
    data = frame.assign(
        printed=[_number(v) for v in frame.published],
        ours=["" if v == "dash" else _number(n) for n, v in zip(frame.counted, frame.verdict, strict=True)],
        sign=[VERDICTS[v][1] for v in frame.verdict],
    )
    shown = [v for v in VERDICTS if v in set(data.verdict)]
    columns = list(dict.fromkeys(data.database))
    scale = alt.Scale(domain=shown, range=[VERDICTS[v][0] for v in shown])
    base = alt.Chart(data).encode(
        alt.X("database:N", sort=columns, title=None, axis=alt.Axis(orient="top", labelAngle=0, ticks=False, domain=False)),
        alt.Y("class:N", sort=list(CLASSES), title=None, axis=alt.Axis(ticks=False, domain=False)),
        tooltip=[
            "database", "class", "rule", alt.Tooltip("printed", title="published"), alt.Tooltip("ours", title="counted"),
            alt.Tooltip("difference:Q", format="+,d"), "verdict",
        ],
    )  # fmt: skip
    legend = alt.Legend(title=None, orient="bottom", symbolType="square", symbolSize=200, symbolStrokeColor=MUTED)
    cells = base.mark_rect(stroke="white", strokeWidth=2).encode(alt.Color("verdict:N", scale=scale, legend=legend))
    printed = base.mark_text(dy=-8, fontSize=13, fontWeight="bold", color=INK).encode(text="printed:N")
    ours = base.mark_text(dy=9, fontSize=12, color=MUTED).encode(text="ours:N")
    sign = base.mark_text(dx=width / len(columns) / 2 - 14, fontSize=15, color=INK).encode(text="sign:N")
    chart = layered(cells, printed, ours, sign).properties(width=width, height=44 * data["class"].nunique())
    return finish(chart, title, description)


def clause_steps(
    frame: pd.DataFrame,
    *,
    cell: str,
    title: str | None = None,
    description: str = "Windows that are too many or too few after each clause of the rule, for a cell to choose.",
    width: int = 330,
) -> alt.LayerChart:
    """How far from the published number each clause leaves a cell; the cell is chosen in a list beside the chart.

    Parameters
    ----------
    frame : DataFrame
        As of `ecglib.recount.story`.
    cell : str
        The one to begin with, ``"mitdb PVC"``.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width : int
        Of the plot, px.

    Raises
    ------
    DataError
        A column is not there, or the cell.
    """
    demand(frame, "database", "class", "step", "windows", "published", "fits", "aside", "records")
    data = frame.assign(cell=frame.database + " " + frame["class"], excess=frame.windows - frame.published)
    data["name"] = [f"({s.strip('… ')}?)" if aside else s for s, aside in zip(data.step, data.aside, strict=True)]
    data["who"] = [_names(r) for r in data.records]
    data["text"] = [
        f"{n:,}  {'= published' if fits else f'{e:+,}'}"
        for n, fits, e in zip(data.windows, data.fits, data.excess, strict=True)
    ]
    data["zero"] = 0
    cells = list(dict.fromkeys(data.cell))
    if cell not in cells:
        raise DataError(f"cell: expected one of {', '.join(cells)}, received {cell!r}")
    pick = alt.param(unique("cell"), value=cell, bind=alt.binding_select(options=cells, name="cell of the table "))
    fields = ["cell", "zero", "name", "windows", "published", "excess", "text", "who", "fits", "aside"]
    base = alt.Chart(data[fields]).transform_filter(f"datum.cell === {pick.name}")
    y = alt.Y("name:N", sort=None, title=None,
              axis=alt.Axis(labelLimit=240, labelPadding=10, ticks=False, domain=False))  # fmt: skip
    x = alt.X("excess:Q", title="windows more or less than published",
              scale=alt.Scale(type="symlog", constant=1), axis=alt.Axis(format=",d", tickCount=5))  # fmt: skip
    tip = [
        alt.Tooltip("name:N", title="clause"),
        *(alt.Tooltip(f"{c}:Q", format=",d") for c in ("windows", "published")),
        alt.Tooltip("excess:Q", title="too many", format="+,d"),
        alt.Tooltip("who:N", title="records that it touches"),
    ]
    colour = alt.when("datum.fits").then(alt.value("#38761d")).when("datum.aside").then(alt.value("#b7b7b7"))
    rule = base.mark_rule(strokeWidth=3).encode(x, alt.X2("zero"), y, color=colour.otherwise(alt.value(ACCENT)))
    dot = base.mark_point(filled=True, size=110, opacity=1).encode(
        x, y, color=colour.otherwise(alt.value(ACCENT)), tooltip=tip
    )
    text = base.mark_text(align="left", fontSize=12, color=INK).encode(x=alt.value(width + 8), y=y, text="text:N")
    zero = base.mark_rule(color=MUTED, strokeDash=[4, 3]).encode(alt.X("zero:Q"))
    chart = layered(zero, rule, dot, text).add_params(pick).properties(width=width, height=170)
    return finish(chart, title, description)


def search_hits(
    frame: pd.DataFrame,
    *,
    title: str | None = None,
    description: str = "Rules that hit a cell exactly, beside the number that would by accident.",
    width: int = 360,
) -> alt.FacetChart:
    """Exact hits of families of rules beside the hits that accident would bring; cells in the order of the frame.

    Parameters
    ----------
    frame : DataFrame
        Columns cell, family, hypotheses, exact, expected, nearest (a rule and its number).
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width : int
        Of a panel, px.
    """
    demand(frame, "cell", "family", "hypotheses", "exact", "expected", "nearest")
    x = alt.X("exact:Q", title="rules that give the published number (dot; tick: by accident)")
    y = alt.Y("family:N", sort=None, title=None, axis=alt.Axis(labelLimit=230))
    base = alt.Chart(frame).encode(
        y, tooltip=["cell", "family", alt.Tooltip("hypotheses:Q", format=",d"), "exact", "expected", "nearest"]
    )
    found = base.mark_point(filled=True, size=70, opacity=1, color=ACCENT).encode(x)
    chance = base.mark_tick(thickness=2, color=INK).encode(alt.X("expected:Q"))
    panels = alt.layer(chance, found).properties(width=width, height=alt.Step(16)).facet(
        row=alt.Row("cell:N", sort=list(dict.fromkeys(frame.cell)), title=None,
                    header=alt.Header(labelAngle=0, labelAnchor="start", labelOrient="top"))
    )  # fmt: skip
    return finish(panels.resolve_scale(y="independent"), title, description)


def demand(frame: pd.DataFrame, *columns: str) -> None:
    """Refuse a frame without one of the columns."""
    if absent := [c for c in columns if c not in frame]:
        raise DataError(f"frame: expected columns {list(columns)}, received none called {absent}")


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:,.0f}"


def _names(records: list[str], most: int = 12) -> str:
    more = f" and {len(records) - most} more" if len(records) > most else ""
    return " ".join(records[:most]) + more if records else "none"
