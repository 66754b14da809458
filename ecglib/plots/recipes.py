"""Charts of mask recipes: a mask on its way, how alike recipes rank the samples, and what becomes of the picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ecglib.errors import DataError
from ecglib.plots import parts
from ecglib.plots.parts import MILLIVOLTS, SECONDS
from ecglib.plots.style import ACCENT, CLASS_COLOURS, INK, MUTED, WIDTH, finish, hues, key
from ecglib.plots.tables import columns_of

_DEPTH = 999  # a departure is sent as a whole number up to this, with one factor for each step
_POINTS = 240  # of a small panel


def mask_path(
    signal: Any,
    masks: Any,
    *,
    steps: Sequence[int],
    lr: float,
    fs: float = 360.0,
    start: float = 0.0,
    title: str | None = None,
    description: str = "ECG above its mask, with a slider over the iterations.",
    width: int = WIDTH - 20,
) -> alt.VConcatChart:
    """A mask on its way: a slider chooses the iteration.

    From the top: the trace; the mask between 0 and 1, with the bound that a rate sets; the mask less its mean, on a scale
    that follows the slider, as a picture with stretched contrast shows it; lowest, mean and highest value over all steps.

    Parameters
    ----------
    signal : array of shape (T,) or (1, T)
        Millivolts.
    masks : array of shape (K, T)
    steps : sequence of K int
        Number of iterations behind each mask, evenly spaced.
    lr : float
        Learning rate; dashed lines stand at the first mask's lowest - lr n and highest + lr n.
    fs, start : float
        Sampling rate, Hz, and time of the first sample, s.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width : int
        Width, px.

    Raises
    ------
    DataError
        Arrays whose lengths do not fit, or steps that are not evenly spaced.
    """
    start, stop = float(start), float(start) + np.size(signal) / fs
    values, m = parts.vector("signal", signal), np.asarray(masks, float)
    every = np.diff(steps)
    if m.shape != (len(steps), len(values)) or not np.isfinite(m).all():
        raise DataError(f"masks: expected finite values, shape {(len(steps), len(values))}, received {m.shape}")
    if not len(every) or every[0] <= 0 or (every != every[0]).any():
        raise DataError(f"steps: expected whole numbers evenly spaced, received {list(steps)[:5]}")
    slider = alt.binding_range(min=int(steps[0]), max=int(steps[-1]), step=int(every[0]), name="iteration ")
    at = alt.param(parts.unique("at"), value=int(steps[-1]), bind=slider)
    index, bound = f"round(({at.name} - {int(steps[0])}) / {int(every[0])})", f"{lr!r} * {at.name}"

    mean = m.mean(1)
    reach = np.abs(m - mean[:, None]).max(1)
    reach[reach < 1e-13] = 0  # rounding of a mask that is flat
    scaled = np.divide(m - mean[:, None], reach[:, None], out=np.zeros_like(m), where=reach[:, None] > 0)
    frame = pd.DataFrame({"t": (start + np.arange(len(values)) / fs).round(4), "mv": values.round(3)})
    frame["d"] = np.round(scaled * _DEPTH).astype(int).T.tolist()
    base = alt.Chart(frame).transform_calculate(departure=f"{_list(reach / _DEPTH)}[{index}] * datum.d[{index}]")
    base = base.transform_calculate(mask=f"{_list(mean)}[{index}] + datum.departure")
    params = [parts.hoverer(), parts.zoomer()]
    tip = [SECONDS, MILLIVOLTS, alt.Tooltip("mask:Q", format=".5f"), alt.Tooltip("departure:Q", format=".2e")]
    size = {"width": width, "height": 100}

    def panel(y: alt.Y, *under: alt.Chart, last: bool = False, colour: str = ACCENT) -> alt.LayerChart:
        axis = alt.Axis(tickCount=10, format="~f") if last else alt.Axis(tickCount=10, labels=False, ticks=False)
        domain = alt.Scale(domain=[start, stop], nice=False)
        x = alt.X("t:Q", title="time (s)" if last else None, scale=domain, axis=axis)
        line = base.mark_line(strokeWidth=1.4, clip=True, tooltip=None, color=colour).encode(x, y)
        return parts.layered(*under, line, parts.pointer(base, x, stop, params=params, tooltip=tip)).properties(**size)

    ends = alt.Scale(domain=[min(0.0, float(m.min())), max(1.0, float(m.max()))], nice=False)
    first = [{"from": float(m[0].min()), "way": -1}, {"from": float(m[0].max()), "way": 1}]
    limits = alt.Chart(alt.Data(values=first)).transform_calculate(limit=f"datum.from + datum.way * {bound}")
    limits = limits.mark_rule(color=MUTED, strokeDash=[5, 3], clip=True)
    limits = limits.encode(alt.Y("limit:Q", scale=ends, title="mask", axis=_axis()))
    words = f"'iteration ' + {at.name} + ': rate × iterations = ' + format({bound}, '.3~f')"
    said, auto = alt.Title(alt.ExprRef(words), fontSize=12, fontWeight="normal", offset=4), alt.Scale(zero=False)
    trace = panel(alt.Y("mv:Q", title="mV", scale=auto, axis=_axis()), colour=INK)
    mask = panel(alt.Y("mask:Q", title="mask", scale=ends, axis=_axis()), limits).properties(title=said)
    contrast = panel(alt.Y("departure:Q", title="mask − its mean", scale=auto, axis=_axis()), last=True)
    chart = alt.vconcat(parts.stack(trace, mask, contrast), _envelope(m, steps, lr, at, width), spacing=14)
    return finish(chart.add_params(at), title, description)


def rank_matrix(
    frame: pd.DataFrame,
    *,
    columns: Sequence[str] = (),
    title: str | None = None,
    description: str = "Rank correlations of relevance between every two settings.",
    cell: int = 14,
) -> alt.LayerChart:
    """Correlations of every two maps as a heat map; hover for numbers.

    Parameters
    ----------
    frame : DataFrame
        One row a pair: a, b, rho, low, high, windows, as from `ecglib.sweep_tables.agreement`.
    columns : sequence of str
        Names that make columns alone, at the right (controls).
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    cell : int
        Side of a cell, px.

    Raises
    ------
    DataError
        A column is not there or no correlation is finite.
    """
    data = columns_of(frame, label="a", group="b", rho="rho", low="low", high="high", windows="windows")
    names = list(dict.fromkeys([*data.label, *data.group]))
    data = data.rename(columns={"label": "a", "group": "b"})
    both = pd.concat([data, data.rename(columns={"a": "b", "b": "a"})])
    both = both[~both.a.isin(columns)].round(3)
    rows = [name for name in names if name not in columns]
    side = [*rows, *(name for name in names if name in columns)]
    text: dict[str, Any] = {"labelLimit": 220, "labelFontSize": 11, "ticks": False, "domain": False, "title": None}
    cells = alt.Chart(both).mark_rect().encode(
        alt.X("b:N", sort=side, axis=alt.Axis(labelAngle=-90, **text)),
        alt.Y("a:N", sort=rows, axis=alt.Axis(**text)),
        alt.Color("rho:Q", scale=hues(-1, 1), legend=key("rank correlation", -1, 1)),
        tooltip=[
            alt.Tooltip("a:N", title="relevance of"), alt.Tooltip("b:N", title="against"),
            alt.Tooltip("rho:Q", title="rank correlation", format=".2f"),
            alt.Tooltip("low:Q", title="95 % from", format=".2f"), alt.Tooltip("high:Q", title="to", format=".2f"),
            alt.Tooltip("windows:Q", title="windows"),
        ],
    )  # fmt: skip
    chart = parts.layered(cells).properties(width=cell * len(side), height=cell * len(rows))
    return finish(chart, title, description)


def relevance_grid(
    signals: Mapping[str, Any],
    relevance: Mapping[str, Mapping[str, Any]],
    *,
    stretch: Sequence[str] | None = None,
    fs: float = 360.0,
    title: str | None = None,
    description: str = "Windows by row and relevance by column, as colour behind each trace.",
    width: int = 124,
    height: int = 64,
) -> alt.FacetChart:
    """One window a row, one map a column: relevance as the colour behind the trace.

    Parameters
    ----------
    signals : mapping of str to array of shape (T,) or (1, T)
        Millivolts, by name of the row.
    relevance : mapping of str to mapping of str to array of shape (T,)
        By name of the column, then of the row.
    stretch : sequence of str, optional
        Columns whose maps are stretched, each between its own lowest and highest value, as printed pictures are (one that
        is constant keeps the lowest colour); by default all.  The others are drawn from 0 to 1 as they are.
    fs : float
        Sampling rate, Hz.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width, height : int
        Of a panel, px.

    Raises
    ------
    DataError
        A row without relevance, or arrays of unequal length.
    """
    frames, names = [], list(relevance)
    if absent := [(c, r) for c in names for r in signals if r not in relevance[c]] or not names:
        raise DataError(f"relevance: expected a map for every row, received none for {absent}")
    for row, signal in signals.items():
        values = parts.vector(f"signal {row!r}", signal)
        frame, kept = parts.samples(values - np.nanmedian(values), fs=fs, start=0.0, limit=_POINTS)
        for k, name in enumerate(names):
            r = parts.vector(f"relevance {name!r}", relevance[name][row], len(values))
            low, high = (np.nanmin(r), np.nanmax(r)) if stretch is None or name in stretch else (0.0, 1.0)
            frame[f"r{k}"] = (np.fmax.reduceat((r - low) / (high - low or 1), kept)).round(2)
        frames.append(frame.assign(row=row))
    data, base = pd.concat(frames, ignore_index=True), alt.Chart()
    stop, low, high = float(data.t.max()), float(data.mv.min()) - 0.1, float(data.mv.max()) + 0.1
    seconds = alt.Axis(values=[0, 1, 2], format="d")
    x = alt.X("t:Q", title="time (s)", scale=alt.Scale(domain=[0, stop], nice=False), axis=seconds)
    y = alt.Y("mv:Q", title=None, scale=alt.Scale(domain=[low, high], nice=False), axis=alt.Axis(tickCount=3))
    tip = [alt.Tooltip("row:N", title="window"), alt.Tooltip("column:N", title="recipe"), SECONDS, MILLIVOLTS]
    band = parts.until_next(base, stop, by=["row", "column"]).mark_rect(stroke=None).encode(
        x, alt.X2("t2"), alt.Color("r:Q", scale=hues(), legend=key("relevance")),
        y=alt.value(0), y2=alt.value(height), tooltip=[*tip, alt.Tooltip("r:Q", title="relevance", format=".2f")],
    )  # fmt: skip
    line = base.mark_line(color=INK, strokeWidth=1.1, tooltip=None).encode(x, y)
    panel = alt.layer(band, line, data=data).properties(width=width, height=height)
    side = alt.Header(title="mV from the median", labelAngle=0, labelAlign="left")
    rows = alt.Row("row:N", sort=list(signals), header=side)
    columns = alt.Column("column:N", sort=names, header=alt.Header(title=None, labelFontSize=12))
    chart = panel.facet(row=rows, column=columns, spacing=4)
    name_of = f"{json.dumps(names)}[toNumber(slice(datum.field, 1))]"
    chart.transform = [  # before the panels part: one row a sample is sent, the browser makes one a recipe of it
        alt.FoldTransform(fold=[f"r{k}" for k in range(len(names))], **{"as": ["field", "r"]}),
        alt.CalculateTransform(calculate=name_of, **{"as": "column"}),
    ]
    return finish(chart, title, description)


# Internals -----------------------------------------------------------------------------------------------------


def _axis() -> alt.Axis:
    """Few numbers, in a margin that is the same in every panel."""
    text = "datum.value && abs(datum.value) < 1e-3 ? format(datum.value, '.1~e') : format(datum.value, '~g')"
    return alt.Axis(tickCount=4, labelExpr=text, minExtent=44)


def _list(values: np.ndarray) -> str:
    """A list in an expression of the browser, to seven digits."""
    return json.dumps([float(f"{v:.7g}") for v in values])


def _envelope(m: np.ndarray, steps: Sequence[int], lr: float, at: alt.Parameter, width: int) -> alt.LayerChart:
    """Lowest, mean and highest value over the iterations; a rule stands at the chosen one."""
    n = np.asarray(steps)
    frame = pd.DataFrame({"n": n, "low": m.min(1), "mean": m.mean(1), "high": m.max(1)}).round(5)
    frame["bound"] = (m[0].max() + lr * (n - n[0])).clip(max=max(1.0, float(m.max()))).round(5)
    all_steps = alt.Scale(domain=[int(n[0]), int(n[-1])], nice=False)
    x = alt.X("n:Q", title="iteration", scale=all_steps, axis=alt.Axis(tickCount=10))
    base = alt.Chart(frame)
    tip = [alt.Tooltip("n:Q", title="iteration")]
    tip += [alt.Tooltip(f"{name}:Q", format=".4f") for name in ("low", "mean", "high")]
    y = alt.Y("low:Q", title="mask, range and mean", axis=_axis())
    band = base.mark_area(opacity=0.35, color=CLASS_COLOURS["SBR"]).encode(x, y, alt.Y2("high"))
    line = base.mark_line(color=ACCENT, strokeWidth=2).encode(x, alt.Y("mean:Q"), tooltip=tip)
    bound = base.mark_line(color=MUTED, strokeDash=[5, 3]).encode(x, alt.Y("bound:Q"))
    rule = alt.Chart(alt.Data(values=[{}])).transform_calculate(n=at.name).mark_rule(color=INK).encode(alt.X("n:Q"))
    return parts.layered(band, bound, line, rule).properties(width=width, height=110)
