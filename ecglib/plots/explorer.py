"""An explorer of agreement: every window of a class as a dot, and the windows with the most and the least of it, drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ecglib.errors import DataError
from ecglib.plots import parts
from ecglib.plots.counts import demand
from ecglib.plots.paper import BOX_MV, BOX_S
from ecglib.plots.parts import layered, unique
from ecglib.plots.style import ACCENT, CLASS_COLOURS, INK, MUTED, PAPER, STRONG, finish, hues, key
from ecglib.plots.tables import by_class

_EACH, _COLUMNS, _POINTS = 3, 3, 180  # windows at either end of a class, panels in a row, samples drawn of a window
_WIDE, _TRACE, _BAND, _GAP, _HEAD = 188, 112, 11, 10, 22  # px: panel, its trace, a heat band, between panels, above one
_NAMES = 44  # px at the left, for the names of the bands


def explorer(
    signals: Any,
    relevance: Mapping[str, Any],
    frame: pd.DataFrame,
    *,
    fs: float = 360.0,
    value: str = "rank, steps",
    title: str | None = None,
    description: str = "Agreement of every window of a class, and the windows with the most and the least of it.",
) -> alt.VConcatChart:
    """Every window of the class that the reader chooses by its agreement, and the windows at both ends, drawn.

    Parameters
    ----------
    signals : array of shape (N, T) or (N, 1, T)
        Millivolts.
    relevance : mapping of str to array of shape (N, T)
        Heat bands under each window, each divided by its maximum.
    frame : DataFrame
        One row a window: label, record, patient, time (s, of the labelled R peak), peak (s, where it stands in the window),
        spans (list of (start s, stop s) in the window: where the evidence is expected), and ``value``; windows without a
        value are left out.
    fs : float
        Sampling rate, Hz.
    value : str
        Column of the agreement.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.

    Raises
    ------
    DataError
        A column is not there, arrays and frame do not fit, or no window has a value.
    """
    demand(frame, "label", "record", "patient", "time", "peak", "spans", value)
    values = np.array(signals, float)
    values = values[:, 0] if values.ndim == 3 and values.shape[1] == 1 else values
    maps = {name: np.asarray(r, float) for name, r in relevance.items()}
    if values.ndim != 2 or len(values) != len(frame):
        raise DataError(f"signals: expected one row for each of {len(frame)} windows, received {values.shape}")
    if not maps or any(r.shape != values.shape for r in maps.values()):
        shapes = {name: r.shape for name, r in maps.items()}
        raise DataError(f"expected one or more explanations of shape {values.shape}, received {shapes}")
    dots = _dots(frame, value)
    shown = dots[dots.letter != ""]
    panels = _panels(shown, values, list(maps.values()), frame.spans.to_list(), fs)
    names = by_class(dots.label)
    pick = alt.param(unique("class"), value=names[0], bind=alt.binding_radio(options=names, name="class: "))
    chosen = f"datum.label === {pick.name}"
    width, rows = _COLUMNS * (_WIDE + _GAP) - _GAP, 2
    tall = _HEAD + _TRACE + len(maps) * (_BAND + 2) + 6
    colours = alt.Scale(domain=list(CLASS_COLOURS), range=list(CLASS_COLOURS.values()))
    tip: list[Any] = [
        "record",
        alt.Tooltip("time:Q", title="R peak at (s)", format=".1f"),
        alt.Tooltip("v:Q", title=value, format=".2f"),
    ]
    ends = alt.Axis(grid=False, values=[-1, -0.5, 0, 0.5, 1])
    strip = alt.Chart(dots).transform_filter(chosen).encode(
        alt.X("v:Q", title=f"agreement ({value})", scale=alt.Scale(domain=[-1, 1]), axis=ends),
        alt.Y("j:Q", axis=None, scale=alt.Scale(padding=14)), tooltip=tip,
    )  # fmt: skip
    top = layered(
        alt.Chart(alt.Data(values=[{"at": 0}])).mark_rule(color=MUTED, strokeDash=[4, 3]).encode(alt.X("at:Q")),
        strip.mark_circle(size=70, opacity=0.65).encode(alt.Color("label:N", scale=colours, legend=None)),
        strip.mark_text(fontSize=12, fontWeight="bold", dy=-10, color=INK).encode(text="letter:N"),
    ).properties(width=width + _NAMES, height=84)
    bottom = _sheet(panels, list(maps), fs, values.shape[1] / fs, tip, width=width, height=rows * tall)
    bottom = bottom.transform_filter(chosen).transform_calculate(
        left=f"(datum.k % {_COLUMNS}) * {_WIDE + _GAP}", top=f"floor(datum.k / {_COLUMNS}) * {tall} + {_HEAD}"
    ).transform_calculate(right=f"datum.left + {_WIDE}", bottom=f"datum.top + {_TRACE}")  # fmt: skip
    chart = alt.vconcat(top, bottom, spacing=12).resolve_scale(color="independent").add_params(pick)
    return finish(chart, title, description)


# Internals -----------------------------------------------------------------------------------------------------


def _dots(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    """Windows with a value, and which of them are drawn: A, B, C agree most, D, E, F least, patients in turn."""
    dots = pd.DataFrame({"label": frame.label.astype(str), "v": frame[value].astype(float).round(3)})
    dots = dots.assign(
        record=frame.record.astype(str), time=frame.time.astype(float).round(2), peak=frame.peak, letter=""
    )
    dots = dots.assign(patient=frame.patient).reset_index(drop=True).dropna(subset="v")
    if dots.empty:
        raise DataError(f"frame: expected windows with a {value!r}, received {len(frame)} without")
    dots["k"] = -1
    for _, own in dots.groupby("label"):
        order = own.sort_values("v", ascending=False, kind="stable")
        # of equal patients only the first comes before the others: three windows of one heart would tell less
        most = _in_turn(order).index[: min(_EACH, -(-len(own) // 2))]
        least = _in_turn(order[::-1].drop(most)).index[:_EACH]
        least = dots.loc[least].sort_values("v", ascending=False).index
        for first, picked in ((0, dots.loc[most].sort_values("v", ascending=False).index), (_EACH, least)):
            dots.loc[picked, "k"] = first + np.arange(len(picked))
    dots["letter"] = [chr(ord("A") + k) if k >= 0 else "" for k in dots.k]
    dots["j"] = dots.groupby("label").v.rank(method="first") * 5 % 7  # so that neighbours do not hide each other
    return dots


def _in_turn(order: pd.DataFrame) -> pd.DataFrame:
    turn = order.groupby("patient", sort=False).cumcount()
    return order.loc[turn.sort_values(kind="stable").index]


def _panels(
    shown: pd.DataFrame, values: np.ndarray, maps: list[np.ndarray], spans: list[Any], fs: float
) -> pd.DataFrame:
    """One row a drawn window: samples (index, px from the top of its trace) and bands (percent of their maximum)."""
    at = np.unique(np.linspace(0, values.shape[1] - 1, _POINTS).round().astype(int))
    scale = _WIDE / (values.shape[1] / fs) * BOX_S / BOX_MV  # px a mV: boxes are square
    rows = []
    for i, window in zip(shown.index.tolist(), shown.to_dict("records"), strict=True):
        kept = parts.decimate(values[i], _POINTS)
        middle = (values[i].max() + values[i].min()) / 2
        y = np.clip(_TRACE / 2 - (values[i, kept] - middle) * scale, 0, _TRACE).round(1)
        row: dict[str, Any] = {name: window[name] for name in ("label", "k", "record", "time", "v", "peak")}
        row["head"] = f"{window['letter']} · {window['record']} · {window['time']:.1f} s · {window['v']:+.2f}"
        row |= {"t": kept.tolist(), "y": y.tolist(), "u": at.tolist()}
        row["spans"] = [{"a": round(float(a), 3), "b": round(float(b), 3)} for a, b in spans[i]]
        for k, r in enumerate(maps):
            own = np.maximum.reduceat(np.maximum(r[i], 0), at)
            row[f"r{k}"] = (100 * own / max(own.max(), 1e-9)).round().astype(int).tolist()
        rows.append(row)
    return pd.DataFrame(rows)


def _sheet(
    panels: pd.DataFrame, names: list[str], fs: float, seconds: float, tip: list[Any], *, width: int, height: int
) -> alt.LayerChart:
    """Panels on a grid in px, ``left`` and ``top`` of each to be computed from its place k."""
    px, box = _WIDE / seconds, _WIDE / seconds * BOX_S
    x_scale, y_scale = alt.Scale(domain=[-_NAMES, width], nice=False), alt.Scale(domain=[height, 0], nice=False)

    def at(x: str, y: str, **more: Any) -> dict[str, Any]:
        return {"x": alt.X(f"{x}:Q", scale=x_scale, axis=None), "y": alt.Y(f"{y}:Q", scale=y_scale, axis=None), **more}

    base = alt.Chart()
    line = base.transform_flatten(["t", "y"]).transform_calculate(
        x=f"datum.left + datum.t * {px / fs!r}", yy="datum.top + datum.y"
    )
    upright = base.transform_calculate(p=f"sequence(datum.left, datum.right + 0.01, {box!r})").transform_flatten(["p"])
    level = base.transform_calculate(p=f"sequence(datum.top, datum.bottom + 0.01, {box!r})").transform_flatten(["p"])
    marks = base.transform_flatten(["spans"]).transform_filter("isValid(datum.spans)").transform_calculate(
        a=f"datum.left + datum.spans.a * {px!r}", b=f"datum.left + datum.spans.b * {px!r}", yy="datum.bottom + 3"
    )  # fmt: skip
    peak = base.transform_calculate(x=f"datum.left + datum.peak * {px!r}", yy="datum.top + 5")
    layers = [
        base.mark_rect(fill=PAPER).encode(**at("left", "top", x2="right", y2="bottom", tooltip=tip)),
        upright.mark_rule(stroke=STRONG, strokeWidth=0.7, tooltip=None).encode(**at("p", "top", y2="bottom")),
        level.mark_rule(stroke=STRONG, strokeWidth=0.7, tooltip=None).encode(**at("left", "p", x2="right")),
        base.mark_text(align="left", baseline="bottom", dy=-3, fontSize=12, color=INK).encode(
            **at("left", "top", text="head:N")
        ),
        line.mark_line(color=INK, strokeWidth=1.1, tooltip=None).encode(**at("x", "yy", detail="k:N", order="t:Q")),
        peak.mark_point(shape="triangle-down", filled=True, size=45, color=ACCENT, opacity=1).encode(**at("x", "yy")),
        marks.mark_rule(color=INK, strokeWidth=3).encode(**at("a", "yy", x2="b")),
    ]
    for k, name in enumerate(names):
        begin = 6 + k * (_BAND + 2)
        cells = base.transform_flatten(["u", f"r{k}"]).transform_window(
            next="lead(u)", groupby=["k"]
        ).transform_calculate(
            x=f"datum.left + datum.u * {px / fs!r}", r=f"datum.r{k} / 100", y1=f"datum.bottom + {begin}",
            x2=f"isValid(datum.next) ? datum.left + datum.next * {px / fs!r} + 0.5 : datum.right",
            y2=f"datum.bottom + {begin + _BAND}",
        )  # fmt: skip
        colour = alt.Color("r:Q", scale=hues(), legend=key("relevance, share of the maximum"))
        layers.append(cells.mark_rect(tooltip=None).encode(**at("x", "y1", x2="x2", y2="y2", color=colour)))
        first = base.transform_filter(f"datum.k % {_COLUMNS} === 0").transform_calculate(
            yy=f"datum.bottom + {begin + _BAND / 2}"
        )
        label = first.mark_text(align="right", dx=-4, fontSize=12, color=INK, text=name)
        layers.append(label.encode(**at("left", "yy")))
    chart: alt.LayerChart = alt.layer(*layers, data=panels)  # type: ignore[assignment]
    return chart.properties(width=width + _NAMES, height=height, view=alt.ViewBackground(stroke=None, fill=None))
