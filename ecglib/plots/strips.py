"""Strips of one lead on ECG paper, with beats and rhythms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ecglib.errors import DataError
from ecglib.plots import parts
from ecglib.plots.paper import MIN_BOX, Paper, box_px, sheet, trace
from ecglib.plots.style import INK, MUTED, STRONG, WIDTH, finish

_CALIBRATION_S = 0.4  # margin at the left that holds the 1 mV pulse
_LETTER_ROW, _RHYTHM_ROW = 20, 20  # px, at the top of the paper
_MIN_LETTER = 9  # px a letter needs
_GAP = 50  # px that a gallery loses at each gap between its columns


def strip(
    signal: Any,
    *,
    fs: float = 360.0,
    start: float = 0.0,
    beats: Any = None,
    rhythms: Any = None,
    title: str | None = None,
    description: str = "One lead of an ECG on ECG paper.",
    height_mv: float | None = None,
    width: int = WIDTH,
    calibration: bool = True,
) -> alt.LayerChart:
    """One lead on ECG paper.

    Parameters
    ----------
    signal : array of shape (T,) or (1, T)
        Millivolts; NaN leaves a gap.  Above 2500 samples the minimum and maximum of short stretches are drawn.
    fs : float
        Sampling rate, Hz.
    start : float
        Time of the first sample, s.
    beats : recarray of (time s, symbol), optional
        Letters above the trace; those outside the strip are left out, and N where letters would touch.
    rhythms : recarray of (start s, stop s, label), optional
        Band along the top.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    height_mv : float, optional
        Height of the paper, mV; by default whole boxes around the signal.
    width : int
        Width of the paper, px.
    calibration : bool
        Draw the 1 mV pulse (0.2 s wide) left of the trace.

    Returns
    -------
    altair.LayerChart
        Boxes are square, at most 440 px high: a tall signal gets smaller boxes.  A stretch so long that boxes would
        be under 8 px is drawn 50 px to the mV, out of scale.

    Raises
    ------
    DataError
        The signal is not one lead or has no finite sample.
    """
    values = parts.vector("signal", signal)
    chart = _strip(
        values,
        fs=fs,
        start=start,
        width=width,
        height_mv=height_mv,
        calibration=calibration,
        beats=beats,
        rhythms=rhythms,
    )
    return finish(chart, title, description)


def strips(
    signals: Sequence[tuple[Any, str]],
    *,
    fs: float = 360.0,
    columns: int = 2,
    description: str = "A gallery of ECG strips on ECG paper.",
    height_mv: float | None = None,
    width: int | None = None,
    calibration: bool = False,
) -> alt.ConcatChart:
    """Gallery of strips at one scale, each zoomed on its own, time from 0 s.

    Parameters
    ----------
    signals : sequence of (array of shape (T,) or (1, T), title)
        Millivolts; lengths may differ.
    fs : float
        Sampling rate, Hz.
    columns : int
        Strips in a row.
    description : str
        One sentence for readers who do not see the chart.
    height_mv : float, optional
        Height of every paper, mV; by default whole boxes around all the signals.
    width : int, optional
        Width of each paper, px; by default ``columns`` fill the book's column.
    calibration : bool
        Draw the 1 mV pulse left of each trace.

    Raises
    ------
    DataError
        No signal, or one that is not one lead or has no finite sample.
    """
    if not signals:
        raise DataError("signals: expected at least one (signal, title), received none")
    arrays = [parts.vector(f"signal {k} ({title})", s) for k, (s, title) in enumerate(signals)]
    width = width or round((WIDTH - (columns - 1) * _GAP) / columns)
    charts = []
    for k, (array, (_, title)) in enumerate(zip(arrays, signals, strict=True)):
        # One scale for all, so the numbers stand at the left only and the axis title under the last of a column.
        chart = _strip(
            array, fs=fs, start=0.0, width=width, height_mv=height_mv, calibration=calibration,
            seen=np.concatenate(arrays), first_column=k % columns == 0, last_row=k + columns >= len(arrays),
        )  # fmt: skip
        charts.append(chart.properties(title=title))
    return alt.concat(*charts, columns=columns, spacing={"row": 24, "column": 8}).properties(description=description)


def _strip(
    values: np.ndarray,
    *,
    fs: float,
    start: float,
    width: int,
    height_mv: float | None,
    calibration: bool,
    beats: Any = None,
    rhythms: Any = None,
    seen: np.ndarray | None = None,
    first_column: bool = True,
    last_row: bool = True,
) -> alt.LayerChart:
    """Layers of one strip, on paper that fits ``seen`` (by default the values)."""
    start, stop = float(start), float(start) + len(values) / float(fs)
    letters = _beat_frame(beats, start, stop)
    if len(letters) * _MIN_LETTER > width:
        letters = letters[letters.symbol != "N"]  # a row of touching letters says nothing; the others still do
    bands = _rhythm_frame(rhythms, start, stop)
    top = _LETTER_ROW * bool(len(letters)) + _RHYTHM_ROW * bool(len(bands))
    # Where boxes are too small for the eye, the pulse would be one stroke.
    calibration = calibration and box_px(width, stop - start + _CALIBRATION_S) >= MIN_BOX
    margin = _CALIBRATION_S if calibration else 0.0
    paper = Paper.fit(
        values if seen is None else seen, start=start - margin, stop=stop, width=width, height_mv=height_mv, top=top
    )
    zoom, hover = parts.zoomer(), parts.hoverer()
    frame, _ = parts.samples(values, fs=fs, start=start)
    base = alt.Chart(frame)
    axis = paper.time_axis(zoom, first=start, title="time (s)" if last_row else None)
    layers = paper.layers(zoom, time_axis=axis, numbers=first_column)
    if calibration:
        layers.append(_pulse(paper, start))
    layers.append(trace(base, paper))
    if len(bands):
        layers += _rhythm_band(bands, paper)
    if len(letters):
        layers.append(_beat_letters(letters, paper, y=_LETTER_ROW / 2 + _RHYTHM_ROW * bool(len(bands))))
    tip = [parts.SECONDS, parts.MILLIVOLTS]
    layers += [parts.pointer(base, paper.x(), stop, params=[hover, zoom], tooltip=tip), parts.hint(hover)]
    return sheet(layers, paper)


def _pulse(paper: Paper, start: float) -> alt.Chart:
    """Calibration: 1 mV for 0.2 s, between short ends at 0 mV."""
    corners = pd.DataFrame(
        {"t": np.array([-0.36, -0.3, -0.3, -0.1, -0.1, -0.04]) + start, "mv": [0, 0, 1, 1, 0, 0]}
    ).round(4)
    # Two corners share a time, so the line follows the order of the rows instead of sorting by time.
    line = alt.Chart(corners.assign(row=range(len(corners)))).mark_line(
        color=INK, strokeWidth=1.2, clip=True, tooltip=None
    )
    return line.encode(paper.x(), paper.y(), alt.Order("row:Q"))


def _beat_frame(beats: Any, start: float, stop: float) -> pd.DataFrame:
    """Beats inside the strip, as frame (t s, symbol)."""
    if beats is None:
        return pd.DataFrame()
    frame = pd.DataFrame({"t": np.asarray(beats["time"], float), "symbol": np.asarray(beats["symbol"]).astype(str)})
    return frame[(frame.t >= start) & (frame.t < stop)].round(3)


def _rhythm_frame(rhythms: Any, start: float, stop: float) -> pd.DataFrame:
    """Episodes cut to the strip, as frame (a s, b s, label)."""
    if rhythms is None:
        return pd.DataFrame()
    a, b = (np.clip(np.asarray(rhythms[k], float), start, stop) for k in ("start", "stop"))
    labels = [str(v).strip("(\x00 ") for v in rhythms["label"]]
    return pd.DataFrame({"a": a, "b": b, "label": labels})[b > a].round(3)


def _beat_letters(frame: pd.DataFrame, paper: Paper, *, y: float) -> alt.Chart:
    """One row of letters; all but N are bold, so that the eye finds them."""
    colour = alt.when("datum.symbol === 'N'").then(alt.value(MUTED)).otherwise(alt.value(INK))
    tip = [alt.Tooltip("t:Q", title="beat at (s)", format=".3f"), alt.Tooltip("symbol:N", title="symbol")]
    weight = alt.ExprRef("datum.symbol === 'N' ? 'normal' : 'bold'")
    mark = alt.Chart(frame).mark_text(fontSize=13, fontWeight=weight, clip=True)
    return mark.encode(paper.x(), y=alt.value(y), text="symbol:N", color=colour, tooltip=tip)


def _rhythm_band(frame: pd.DataFrame, paper: Paper) -> list[alt.Chart]:
    """Band with one span an episode, its name at the left end."""
    base = alt.Chart(frame).encode(paper.x("a:Q"))
    tip = [
        alt.Tooltip("label:N", title="rhythm"),
        alt.Tooltip("a:Q", title="from (s)", format=".2f"),
        alt.Tooltip("b:Q", title="to (s)", format=".2f"),
    ]
    span = base.mark_rect(fill="#e8ecf2", stroke=STRONG, strokeWidth=1, clip=True)
    name = base.mark_text(align="left", dx=6, fontSize=12, fontWeight="bold", color=INK, clip=True)
    return [
        span.encode(alt.X2("b"), y=alt.value(0), y2=alt.value(_RHYTHM_ROW - 2), tooltip=tip),
        name.encode(y=alt.value((_RHYTHM_ROW - 2) / 2), text="label:N", tooltip=tip),
    ]
