"""A gallery to browse: windows of one class at a time on ECG paper, in the order that the reader chooses.

One chart holds every class.  A row of its data is a window; the browser keeps the class that is chosen, takes each
window's rank in the order that is chosen, and puts it at that place of the grid.
"""

from __future__ import annotations

import json
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ecglib.errors import DataError
from ecglib.plots import parts
from ecglib.plots.paper import BOX_MV, BOX_S, FINE_MV, FINE_S
from ecglib.plots.style import ACCENT, AGAINST, FINE, INK, MUTED, PAPER, STRONG
from ecglib.plots.tables import by_class, columns_of

ORDERS = ("patient", "heart rate", "amplitude")  #: rows of a window's ranks
LOW_MV, HIGH_MV = -1.5, 2.5  #: what a panel shows, around the window's median or whole boxes above or below it
COLUMNS = 4
POINTS = 180  # samples of a window that are drawn: with 160 px for 720 samples no more can be seen
_NEAR_S = 0.1  # to either side of the R peak: where the amplitude is taken
_PX_S = 80  # px a second: a box of 0.2 s is 16 px wide, and one of 0.5 mV as high
_PX_MV = _PX_S * BOX_S / BOX_MV
_TITLE, _GAP = 19, 8  # px above a panel, and between two
_KEY = "a large box: 0.2 s and 0.5 mV · triangle: labelled R peak · tick: median · brown: cut off"


def gallery(
    signals: Any,
    frame: pd.DataFrame,
    *,
    fs: float = 360.0,
    label: str = "label",
    record: str = "record",
    patient: str = "patient",
    time: str = "time",
    rate: str = "rate",
    peak: str = "peak",
    description: str = "Windows of one class on ECG paper, one panel each; class and order can be chosen.",
) -> alt.LayerChart:
    """Windows by class on ECG paper, to be sorted by patient, heart rate or amplitude.

    Parameters
    ----------
    signals : array of shape (N, T) or (N, 1, T)
        Millivolts.  Each window is drawn around its median, moved up or down by whole boxes of 0.5 mV where more of it
        fits into the 4 mV of a panel that way; what still does not fit is cut off at the edge and marked there.  All
        panels have one scale: a small beat looks small.
    frame : DataFrame
        One row a window.
    fs : float
        Sampling rate, Hz.
    label, record, patient : str
        Columns of the class, of the record's name (shown) and of the patient (counted, and the order "patient").
    time : str
        Column of the time of the labelled R peak, s from the beginning of the record (shown).
    rate : str
        Column of the heart rate, 1/min; windows without one come last in that order.
    peak : str
        Column of the place of the labelled R peak in its window, s; marked by a triangle.
    description : str
        One sentence for readers who do not see the chart.

    Returns
    -------
    altair.LayerChart
        The amplitude of a window is the difference between its highest and lowest value within 0.1 s of the peak.

    Raises
    ------
    DataError
        Signals and frame do not fit together, a column is not there, or a window has no finite sample.
    """
    fs, values = float(fs), np.array(signals, dtype=float)
    values = values[:, 0] if values.ndim == 3 and values.shape[1] == 1 else values
    if values.ndim != 2 or len(values) != len(frame) or not values.size:
        expected = f"an array of shape ({len(frame)}, T), one row a window"
        raise DataError(f"signals: expected {expected}, received {values.shape}")
    if not np.isfinite(values).any(axis=1).all():
        raise DataError("signals: expected finite values in every window, received one without any")
    data = columns_of(frame, time=time, rate=rate, peak=peak, label=label)
    data["record"], data["patient"] = (columns_of(frame, label=name).label for name in (record, patient))
    data = _place(data, values, fs)
    names = by_class(data.label)
    rows = -(-int(data.groupby("label").size().max()) // COLUMNS)
    wide, high = _PX_S * values.shape[1] / fs, _PX_MV * (HIGH_MV - LOW_MV)
    width, height = COLUMNS * (wide + _GAP) - _GAP, rows * (high + _TITLE) + 2

    pick = alt.param(parts.unique("class"), value=names[0], bind=alt.binding_radio(options=names, name="class: "))
    by = alt.binding_radio(options=[0, 1, 2], labels=list(ORDERS), name="sorted by: ")
    order = alt.param(parts.unique("order"), value=0, bind=by)
    x_scale, y_scale = alt.Scale(domain=[0, width], nice=False), alt.Scale(domain=[height, 0], nice=False)

    def at(x: str, y: str, **more: Any) -> dict[str, Any]:
        """Channels in px from the upper left corner."""
        return {"x": alt.X(f"{x}:Q", scale=x_scale, axis=None), "y": alt.Y(f"{y}:Q", scale=y_scale, axis=None), **more}

    panels = alt.Chart()
    samples = panels.transform_flatten(["t", "v"]).transform_calculate(
        x=f"datum.left + datum.t * {_PX_S / fs!r}",
        s=f"datum.t / {fs!r}", mv="isValid(datum.v) ? datum.v / 100 : null",
    )  # fmt: skip
    y = f"datum.top + clamp(({HIGH_MV} + datum.shift - datum.mv) * {_PX_MV!r}, 0, {high!r})"
    samples = samples.transform_calculate(y=f"isValid(datum.mv) ? {y} : null")
    layers = [
        panels.mark_rect(fill=PAPER).encode(**at("left", "top", x2="right", y2="bottom")),
        *_lines(panels, at, FINE_S, FINE_MV, {"stroke": FINE, "strokeWidth": 0.6}),
        *_lines(panels, at, BOX_S, BOX_MV, {"stroke": STRONG, "strokeWidth": 1}),
        panels.mark_text(align="left", baseline="bottom", dy=-3, fontSize=12, color=INK).encode(
            **at("left", "top", text="head:N")
        ),
        panels.transform_calculate(y=f"datum.top + ({HIGH_MV} + datum.shift) * {_PX_MV!r}")
        .mark_tick(orient="horizontal", size=6, thickness=1.5, xOffset=-2, color=MUTED)
        .encode(**at("left", "y")),
        panels.transform_calculate(x=f"datum.left + datum.peak * {_PX_S}", y="datum.top + 5")
        .mark_point(shape="triangle-down", filled=True, size=45, color=ACCENT, opacity=1)
        .encode(**at("x", "y")),
        samples.mark_line(color=INK, strokeWidth=1.1, strokeJoin="round", tooltip=None).encode(
            **at("x", "y", detail="id:N", order="t:Q")
        ),
        *_cuts(samples, at, high),
        _pointer(samples, at),
    ]
    chart: alt.LayerChart = alt.layer(*layers, data=data)  # type: ignore[assignment]
    chart = chart.transform_filter(f"datum.label === {pick.name}").transform_calculate(
        k=f"datum.ranks[{order.name}]",
        left=f"(datum.k % {COLUMNS}) * {wide + _GAP!r}",
        top=f"floor(datum.k / {COLUMNS}) * {high + _TITLE!r} + {_TITLE}",
    )
    chart = chart.transform_calculate(right=f"datum.left + {wide!r}", bottom=f"datum.top + {high!r}")
    heads = {name: _heading(name, data[data.label == name]) for name in names}
    return chart.add_params(pick, order).properties(
        width=width, height=height, view=alt.ViewBackground(stroke=None, fill=None), description=description,
        title=alt.Title(alt.ExprRef(f"({json.dumps(heads)})[{pick.name}]"), subtitle=_KEY),
    )  # fmt: skip


# Internals -----------------------------------------------------------------------------------------------------


def _place(data: pd.DataFrame, values: np.ndarray, fs: float) -> pd.DataFrame:
    """Add to each window its samples, amplitude, ranks within the class, heading, and the boxes that it is moved by."""
    values = values - np.nanmedian(values, axis=1, keepdims=True)
    t = np.arange(values.shape[1]) / fs
    near = np.abs(t - data.peak.to_numpy()[:, None]) <= _NEAR_S
    near |= ~near.any(axis=1, keepdims=True)  # a peak outside of its window
    around = np.where(near, values, np.nan)
    data["amplitude"] = (np.nanmax(around, axis=1) - np.nanmin(around, axis=1)).round(2)
    low, high = np.nanmin(values, axis=1), np.nanmax(values, axis=1)
    steps = sorted(np.arange(-10, 11) * BOX_MV, key=abs)  # of equal ones the smallest move
    lost = [np.maximum(high - HIGH_MV - s, 0) + np.maximum(LOW_MV + s - low, 0) for s in steps]
    data["shift"] = np.array(steps)[np.argmin(np.round(lost, 2), axis=0)]
    ranks = [
        data.sort_values(columns, na_position="last", kind="stable").groupby("label").cumcount().reindex(data.index)
        for columns in (["patient", "time"], ["rate", "patient", "time"], ["amplitude", "patient", "time"])
    ]
    data["ranks"] = np.stack(ranks, axis=1).tolist()
    pace = ["" if np.isnan(r) else f" · {r:.0f}/min" for r in data.rate]
    data["head"] = [f"{r} · {t:.1f} s{p}" for r, t, p in zip(data.record, data.time, pace, strict=True)]
    kept = [parts.decimate(row, POINTS) for row in values]
    data["t"] = [k.tolist() for k in kept]
    # Whole hundredths of a mV: half as long in the page as decimals, and below what 32 px a mV can show.
    data["v"] = [
        [None if np.isnan(v) else round(100 * v) for v in row[k].tolist()] for row, k in zip(values, kept, strict=True)
    ]
    data["id"] = np.arange(len(data))
    return data.round({"time": 3, "rate": 1, "peak": 3})


def _heading(name: str, own: pd.DataFrame) -> str:
    each = own.patient.value_counts()
    several = f", up to {each.iloc[0]} of each" if len(each) < len(own) else ""
    return f"{name}: {len(own)} window{'s' * (len(own) > 1)} of {len(each)} patient{'s' * (len(each) > 1)}{several}"


def _lines(panels: alt.Chart, at: Any, step_s: float, step_mv: float, stroke: dict[str, Any]) -> list[alt.Chart]:
    """Lines of the paper, ``step_s`` and ``step_mv`` apart, in every panel."""
    places = [f"sequence(datum.{a}, datum.{b} + 0.01, {px!r})" for a, b, px in (
        ("left", "right", _PX_S * step_s), ("top", "bottom", _PX_MV * step_mv))]  # fmt: skip
    upright, level = (panels.transform_calculate(p=p).transform_flatten(["p"]).mark_rule(**stroke) for p in places)
    return [upright.encode(**at("p", "top", y2="bottom")), level.encode(**at("left", "p", x2="right"))]


def _cuts(samples: alt.Chart, at: Any, high: float) -> list[alt.Chart]:
    """Strokes along the edge of a panel where the trace would leave it."""
    edges = {"top": f"datum.mv > {HIGH_MV} + datum.shift", "bottom": f"datum.mv < {LOW_MV} + datum.shift"}
    stroke: dict[str, Any] = {"shape": "square", "filled": True, "size": 16, "color": AGAINST[0], "opacity": 1}
    return [samples.transform_filter(test).mark_point(**stroke).encode(**at("x", edge)) for edge, test in edges.items()]


def _pointer(samples: alt.Chart, at: Any) -> alt.Chart:
    """Invisible columns, one a sample, that carry the tooltips."""
    hover = alt.selection_point(
        parts.unique("hover"), fields=["id", "t"], on="pointermove", clear="pointerout", empty=False
    )
    shown = alt.when(hover).then(alt.value(0.35)).otherwise(alt.value(0))
    tip = [
        alt.Tooltip("record:N"), alt.Tooltip("label:N", title="class"),
        alt.Tooltip("s:Q", title="time in the window (s)", format=".3f"),
        alt.Tooltip("mv:Q", title="mV from the median", format=".2f"),
        alt.Tooltip("time:Q", title="labelled R peak at (s)", format=".3f"),
        alt.Tooltip("rate:Q", title="heart rate (1/min)", format=".0f"),
        alt.Tooltip("amplitude:Q", title="amplitude at R (mV)", format=".2f"),
    ]  # fmt: skip
    # The last sample reaches to the edge of its panel.
    columns = samples.transform_window(next="lead(x)", groupby=["id"]).transform_calculate(
        next="isValid(datum.next) ? datum.next : datum.right"
    )
    mark = columns.mark_rect(fill=INK, stroke=INK, strokeWidth=0.5)
    return mark.encode(**at("x", "top", x2="next", y2="bottom", opacity=shown, tooltip=tip)).add_params(hover)
