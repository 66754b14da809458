"""Networks drawn on the time axis of the signal that they read."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ecglib.errors import DataError
from ecglib.plots import parts
from ecglib.plots.style import CLASS_COLOURS, INK, MUTED, finish

_LANES = {"signal": "N", "spectrogram": "SBR", "convolutions": "AFIB", "LSTM": "PVC", "classes": "RBBB"}  # and colours
_PIXELS = 0.0875  # height of a channel
_PITCH, _GAP, _TRACE = 17, 12, 56  # px: of a row at least, between lanes, of the signal
_RAILS, _SHAPE, _BAR, _COUNT = 24, 92, 40, 48  # px: the path of the data, and columns at the right
_CELLS = 96  # more steps than this are drawn without their borders


def architecture(
    table: pd.DataFrame,
    signal: Any,
    *,
    mark: Sequence[str] = (),
    window: float = 2.0,
    title: str | None = None,
    description: str = "Layers of a network as bands of steps on the time axis of its window.",
    width: int = 680,
) -> alt.ConcatChart:
    """Layers of a network, one band each, cut into their steps where these stand in the window.

    The rail at the left is the path of the data.  A band's height is its number of channels; the columns at the right
    give shapes and parameters.  Layers that compute nothing are left out.

    Parameters
    ----------
    table : DataFrame
        Of `ecglib.models.anatomy.layers`.
    signal : array of shape (T,) or (1, T)
        Window drawn above the layers.
    mark : sequence of str
        Names (column name) of layers that stand out.
    window : float
        Length of the window, s.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width : int
        Of the whole chart, px.

    Raises
    ------
    DataError
        The table has other columns, or no layer of a marked name.
    """
    wanted = ["name", "label", "kind", "shape", "channels", "steps", "parameters", "flops", "start", "step"]
    if absent := [c for c in wanted if c not in table]:
        raise DataError(f"table: expected the columns of anatomy.layers, received none called {absent}")
    if unknown := sorted(set(mark) - set(table["name"])):
        raise DataError(f"mark: expected names of layers, received {unknown}")
    rows = _placed(table[wanted], window=window, mark=mark)
    height = float(rows["bottom"].max()) + 6
    scale = alt.Scale(domain=[height, 0], nice=False, padding=0)
    lanes = [lane for lane in _LANES if lane in set(rows["lane"])]
    colours = alt.Scale(domain=lanes, range=[CLASS_COLOURS[_LANES[lane]] for lane in lanes])
    colour = alt.Color("lane:N", scale=colours, legend=None)
    tip = [
        alt.Tooltip("label:N", title="layer"), alt.Tooltip("name:N", title="in the code"), alt.Tooltip("kind:N"),
        alt.Tooltip("size:N", title="channels × steps"), alt.Tooltip("long:N", title="one step"),
        alt.Tooltip("parameters:Q", format=","), alt.Tooltip("million:Q", title="million operations", format=",.1f"),
    ]  # fmt: skip
    base = alt.Chart(rows).encode(tooltip=tip)
    axis = width - 6.4 * max(map(len, rows["label"])) - _RAILS - _SHAPE - _BAR - _COUNT - 36  # px left for time
    panels = [
        _rails(rows, base, scale, colour),
        _bands(rows, base, scale, colour, parts.vector("signal", signal), window).properties(width=round(axis)),
        _columns(base, scale, colour, heading=float(rows["middle"].min()) - 18),
    ]
    chart = alt.concat(*(panel.properties(height=height) for panel in panels), spacing=4, columns=3)
    return finish(chart.configure_view(stroke=None), title, description)


# Internals -----------------------------------------------------------------------------------------------------


def _placed(table: pd.DataFrame, *, window: float, mark: Sequence[str]) -> pd.DataFrame:
    """Rows to draw, lane by lane, with their place in px and what the tooltip says."""
    lane = {"LSTM": "LSTM", "Linear": "classes", "LogSpectrogram": "spectrogram"}
    rows = table[(table["flops"] > 0) | table["kind"].isin(lane)].copy()
    rows["lane"] = [lane.get(kind, "convolutions") for kind in rows["kind"]]
    rows = rows.sort_values("lane", key=lambda c: c.map(list(_LANES).index), kind="stable").reset_index(drop=True)
    tall = (rows["channels"] * _PIXELS).clip(4, 30)
    pitch = (tall + 4).clip(lower=_PITCH)
    jump = _GAP * (rows["lane"] != rows["lane"].shift()).cumsum()  # a lane begins a little lower
    rows["middle"] = _TRACE + 20 + jump + pitch.cumsum() - pitch / 2
    rows["top"], rows["bottom"] = rows["middle"] - tall / 2, rows["middle"] + tall / 2
    timeless = rows["step"].isna()
    rows["size"] = [
        " × ".join(map(str, (row["channels"], *row["shape"][1:-1], row["steps"])[: None if row["step"] > 0 else 1]))
        for row in rows.to_dict("records")
    ]
    rows["long"] = np.where(timeless, "no time left", [f"{1000 * s:.3g} ms" for s in rows["step"]])
    rows["start"], rows["step"] = rows["start"].fillna(0.0), rows["step"].fillna(window)
    rows["stop"] = rows["start"] + rows["steps"] * rows["step"]
    # An LSTM whose steps tile the window reads the window itself, beside the CNN and not behind it.
    rows["whole"] = (rows["lane"] == "LSTM") & (rows["start"] == 0) & np.isclose(rows["stop"], window)
    rows["million"], rows["shade"] = (rows["flops"] / 1e6).round(3), np.where(timeless, 0.25, 0.5)
    rows.loc[rows["name"].isin(mark), "shade"] = 1.0
    rows["count"] = [
        f"{p / 1e6:.2f} M" if p >= 99_500 else f"{p / 1e3:.1f} k" if p else "none" for p in rows["parameters"]
    ]
    rows["bar"] = _SHAPE + _BAR * rows["parameters"] / max(int(rows["parameters"].max()), 1)
    return rows.drop(columns="shape").round(
        {"start": 5, "stop": 5, "step": 6, "middle": 1, "top": 1, "bottom": 1, "bar": 1}
    )


def _rails(rows: pd.DataFrame, base: alt.Chart, scale: alt.Scale, colour: alt.Color) -> alt.LayerChart:
    """Names of the layers, and the path of the data through them; what runs beside it has a rail of its own."""
    rows["rail"] = np.where(rows["lane"] == "LSTM", rows["whole"] + rows.groupby("lane").cumcount(), 0)
    nodes = [(row["rail"], row["middle"], row["lane"]) for row in rows.to_dict("records")]
    lstm, head = ([node for node in nodes if node[2] == lane] for lane in ("LSTM", "classes"))
    trunk = [(0, _TRACE / 2 + 8, "signal"), *(node for node in nodes if node not in lstm and node not in head)]
    beside = bool(rows["whole"].any())
    edges = [
        *itertools.pairwise(trunk),
        *itertools.pairwise(head),
        *((trunk[0 if beside else -1], node) for node in lstm),
    ]
    edges += [(node, head[0]) for node in ([trunk[-1], *lstm] if beside else lstm or trunk[-1:])]
    points = []
    for k, (a, b) in enumerate(edges):
        turn = [(b[0], a[1] + 14)] if b[0] > a[0] else [(a[0], b[1] - 14)] if b[0] < a[0] else []
        lane = b[2] if a[2] == "signal" else a[2]
        points += [(k, n, px, round(y, 1), lane) for n, (px, y) in enumerate([a[:2], *turn, b[:2]])]
    x = alt.X("rail:Q", scale=alt.Scale(domain=[-0.4, 1.4], nice=False, padding=0), axis=None)
    y = alt.Y("middle:Q", scale=scale, axis=None)
    path = alt.Chart(pd.DataFrame(points, columns=["edge", "order", "rail", "middle", "lane"])).mark_line(tooltip=None)
    path = path.encode(x, y, colour, alt.Detail("edge:N"), alt.Order("order:Q"))
    dots = base.mark_circle(size=42, opacity=1).encode(x, y, colour)
    text: dict[str, Any] = {"align": "right", "baseline": "middle", "fontSize": 12, "color": INK}
    names = base.mark_text(**text).encode(y, x=alt.value(-4), text="label:N")
    signal = alt.Chart(alt.Data(values=[{"middle": trunk[0][1], "label": "ECG"}])).mark_text(**text)
    return parts.layered(path, dots, names, signal.encode(y, x=alt.value(-4), text="label:N")).properties(width=_RAILS)


def _bands(
    rows: pd.DataFrame, base: alt.Chart, scale: alt.Scale, colour: alt.Color, signal: np.ndarray, window: float
) -> alt.LayerChart:
    """The signal, and under it every layer as a band of steps."""
    end = max(float(rows["stop"].clip(upper=1.04 * window).max()), window)
    seconds = alt.Scale(domain=[min(float(rows["start"].min()), 0), end], nice=False)
    axis = alt.Axis(grid=False, tickCount=5, format=".1f")
    x = alt.X("start:Q", title="time in the window (s)", scale=seconds, axis=axis)
    y, y2 = alt.Y("top:Q", scale=scale, axis=None), alt.Y2("bottom:Q")
    bands = base.mark_rect(clip=True).encode(
        x, alt.X2("stop:Q"), y, y2, colour, opacity=alt.Opacity("shade:Q", scale=None)
    )
    few = rows[rows["steps"] <= _CELLS]
    border = few.loc[few.index.repeat(few["steps"] - 1), ["start", "step", "top", "bottom"]]
    border["at"] = (border["start"] + border["step"] * (border.groupby(level=0).cumcount() + 1)).round(5)
    cuts = alt.Chart(border[["at", "top", "bottom"]]).mark_rule(color="white", strokeWidth=1, clip=True, tooltip=None)
    ends = alt.Chart(alt.Data(values=[{"at": 0.0}, {"at": window}])).mark_rule(color=MUTED, strokeDash=[2, 3])
    frame, _ = parts.samples(signal, fs=len(signal) / window, start=0.0, limit=800)
    low, high = float(np.nanmin(signal)), float(np.nanmax(signal))
    frame["px"] = (8 + _TRACE * (high - frame["mv"]) / max(high - low, 1e-9)).round(2)
    trace = alt.Chart(frame).mark_line(color=INK, strokeWidth=1.2).encode(
        alt.X("t:Q"), alt.Y("px:Q", scale=scale, axis=None), tooltip=[parts.SECONDS, parts.MILLIVOLTS]
    )  # fmt: skip
    return parts.layered(bands, cuts.encode(alt.X("at:Q"), y, y2), ends.encode(alt.X("at:Q")), trace)


def _columns(base: alt.Chart, scale: alt.Scale, colour: alt.Color, *, heading: float) -> alt.LayerChart:
    """Shapes as text and parameters as bars."""
    right = _SHAPE + _BAR + _COUNT
    x = alt.X("bar:Q", scale=alt.Scale(domain=[0, right], nice=False, padding=0), axis=None)
    y = alt.Y("middle:Q", scale=scale, axis=None)
    text: dict[str, Any] = {"align": "left", "baseline": "middle", "fontSize": 12}
    titles = [
        {"bar": 0, "middle": heading, "text": "channels × steps"},
        {"bar": _SHAPE + 14, "middle": heading, "text": "parameters"},
    ]
    top = alt.Chart(alt.Data(values=titles)).mark_text(**text, color=MUTED).encode(x, y, text="text:N")
    shapes = base.mark_text(**text, color=INK).encode(y, x=alt.value(0), text="size:N")
    bars = base.transform_calculate(zero=str(_SHAPE)).mark_rule(strokeWidth=9, opacity=0.8)
    bars = bars.encode(alt.X("zero:Q", axis=None), alt.X2("bar:Q"), y, colour)
    counts = base.mark_text(**text, dx=5, color=MUTED).encode(x, y, text="count:N")
    return parts.layered(top, bars, shapes, counts).properties(width=right)
