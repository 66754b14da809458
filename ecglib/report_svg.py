"""Pictures for a report that is a single file: plain SVG, a few kilobytes each, without scripts or identifiers."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd

from ecglib.plots.style import ACCENT, AGAINST, CLASS_COLOURS, FINE, INK, MUTED, PAPER, RELEVANCE, STRONG

_BOX = 32  # px of a box of 0.2 s and 0.5 mV
_LEFT, _BOTTOM, _TOP = 46, 34, 8
_CELL_S = 0.02  # width of a cell of relevance
_LANE = 22  # px of a class in the timeline
_WIDE = 640  # px of the timeline's time
_GAP_S = 3.0  # beats further apart make no heart rate


def strip(
    signal: np.ndarray, relevance: np.ndarray, *, fs: float, start: float, top: float, label: str,
    beat: float | None = None,
) -> str:  # fmt: skip
    """ECG on paper over the relevance of its samples, as SVG.

    Parameters
    ----------
    signal, relevance : ndarray of shape (T,)
        Millivolts, and relevance; NaN where there is none.
    fs, start : float
        Rate, Hz, and time of the first sample, s.
    top : float
        Relevance that gets the darkest colour.
    label : str
        For readers who do not see it.
    beat : float, optional
        Time of the beat that was asked about, s: a triangle points at it.
    """
    low, high = (np.floor(signal.min() * 2 - 0.2) / 2, np.ceil(signal.max() * 2 + 0.2) / 2)
    boxes = int(min(max((high - low) * 2, 3), 10))  # a spike of 5 mV and more leaves the paper
    width, height = len(signal) / fs / 0.2 * _BOX, boxes * _BOX
    px = lambda t: _LEFT + t / 0.2 * _BOX  # noqa: E731
    py = lambda mv: _TOP + (low + boxes / 2 - mv) / 0.5 * _BOX  # noqa: E731
    out = [f'<rect x="{_LEFT}" y="{_TOP}" width="{width:.0f}" height="{height}" fill="{PAPER}"/>']
    per_cell = max(1, round(_CELL_S * fs))
    for k in range(0, len(signal), per_cell):
        cell = relevance[k : k + per_cell]
        if not np.isfinite(cell).any() or top <= 0:
            continue
        wide = len(cell) / fs / 0.2 * _BOX + 0.3  # over the seam
        colour = colour_of(float(np.nanmean(cell)) / top)
        out.append(f'<rect x="{px(k / fs):.1f}" y="{_TOP}" width="{wide:.1f}" height="{height}" fill="{colour}"/>')
    for step, colour in ((_BOX / 5, FINE), (_BOX, STRONG)):
        lines = [f"M{_LEFT + x:.1f} {_TOP}v{height}" for x in np.arange(0, width + 0.1, step)]
        lines += [f"M{_LEFT} {_TOP + y:.1f}h{width:.0f}" for y in np.arange(0, height + 0.1, step)]
        out.append(f'<path d="{"".join(lines)}" stroke="{colour}" stroke-opacity="0.7" fill="none"/>')
    inside = np.clip(signal, low, low + boxes / 2)
    points = " ".join(f"{px(k / fs):.1f},{py(mv):.1f}" for k, mv in enumerate(inside))
    out.append(f'<polyline points="{points}" fill="none" stroke="{INK}" stroke-width="1.3"/>')
    if beat is not None:
        out.append(f'<path d="M{px(beat - start) - 6:.1f} {_TOP}h12l-6 10z" fill="{INK}"/>')
    for t in np.arange(np.ceil(start / 0.4 - 1e-6) * 0.4, start + len(signal) / fs + 1e-6, 0.4):
        out.append(_text(px(t - start), _TOP + height + 15, f"{t + 0.0:.1f}", "middle"))
    out.append(_text(px(len(signal) / fs / 2), _TOP + height + 30, "time (s)", "middle"))
    for mv in np.arange(np.ceil(low), low + boxes / 2 + 1e-6):
        out.append(_text(_LEFT - 5, py(mv) + 4, f"{mv + 0.0:g}", "end"))
    out.append(_text(12, _TOP + height / 2 + 4, "mV", "middle"))
    return _svg(out, _LEFT + width + 12, _TOP + height + _BOTTOM, label)


def key() -> str:
    """What the colours of a strip say, as SVG: most against the class, nothing, most for it."""
    wide, cells = 240, 48
    out = [
        f'<rect x="{20 + wide * k / cells:.1f}" y="4" width="{wide / cells + 0.3:.1f}" height="14" '
        f'fill="{colour_of(2 * (k + 0.5) / cells - 1)}"/>'
        for k in range(cells)
    ]
    for x, words, anchor in ((20, "most against", "start"), (140, "none", "middle"), (260, "most for", "end")):
        out.append(_text(x, 33, words, anchor))
    out.append(f'<path d="M300 6h12l-6 10z" fill="{INK}"/>' + _text(318, 16, "the beat asked about", "start"))
    return _svg(out, 480, 40, "Key: orange spoke against the class, blue for it; a triangle points at the beat.")


def timeline(beats: pd.DataFrame, classes: Sequence[str], *, start: float, stop: float, label: str) -> str:
    """Predicted class of every beat along the record, the annotated one in grey under it, and the heart rate, as SVG."""
    shown = [c for c in classes if (beats.predicted == c).any() or (beats.expected == c).any()]
    left = 64
    px = lambda t: left + (t - start) / (stop - start) * _WIDE  # noqa: E731
    out = []
    for k, name in enumerate(shown):
        y = _TOP + k * _LANE
        out.append(f'<rect x="{left}" y="{y}" width="{_WIDE}" height="{_LANE - 3}" fill="#f4f4f4"/>')
        out.append(_text(left - 6, y + 14, name, "end"))
        for column, colour, at, tall in (
            ("predicted", CLASS_COLOURS.get(name, ACCENT), y, _LANE - 9),
            ("expected", "#8a8a8a", y + _LANE - 8, 5),
        ):
            places = np.unique(
                np.round(px(beats.time[beats[column] == name].to_numpy()) * 2) / 2
            )  # no finer than 1/2 px
            ticks = "".join(f"M{x:.1f} {at}v{tall}" for x in places)
            out.append(f'<path d="{ticks}" stroke="{colour}" stroke-width="1.4" fill="none"/>')
    base, tall = _TOP + len(shown) * _LANE + 24, 90
    rate, time = heart_rate(beats.time.to_numpy())
    high = max(120.0, np.ceil((np.percentile(rate, 99) if len(rate) else 0) / 30) * 30)
    for bpm in np.arange(0, high + 1, 30 if high <= 150 else 60):
        y = base + tall * (1 - bpm / high)
        out.append(f'<path d="M{left} {y:.1f}h{_WIDE}" stroke="#e6e6e6" fill="none"/>')
        out.append(_text(left - 6, y + 4, f"{bpm:.0f}", "end"))
    dots = {
        (round(px(t) * 2) / 2, round(base + tall * (1 - min(bpm, high) / high)))
        for t, bpm in zip(time, rate, strict=True)
    }
    marks = "".join(f"M{x:.1f} {y}h1.5" for x, y in sorted(dots))
    out.append(f'<path d="{marks}" stroke="{INK}" stroke-width="1.5" fill="none"/>')
    out.append(_text(left, base - 10, "heart rate (beats a minute), one dot an RR interval", "start"))
    steps = [s for s in (0.5, 1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21600) if (stop - start) / s <= 10]
    step = steps[0] if steps else 86400.0
    for t in np.arange(np.ceil(start / step) * step, stop + 1e-6, step):
        out.append(_text(px(t), base + tall + 15, f"{t:g}", "middle"))
    out.append(_text(left + _WIDE / 2, base + tall + 30, "time (s)", "middle"))
    return _svg(out, left + _WIDE + 16, base + tall + _BOTTOM, label)


def heart_rate(time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Beats a minute of each RR interval up to 3 s, and the time of its second beat, s."""
    rr = np.diff(time)
    good = (rr > 0) & (rr <= _GAP_S)
    return 60 / rr[good], time[1:][good]


def mean_rate(rate: np.ndarray) -> float:
    """Heart rate of the whole from those of its RR intervals, beats a minute: 60 s over the mean interval."""
    return float(60 / np.mean(60 / rate))


def colour_of(value: float) -> str:
    """Colour of relevance as a share of the maximum: from paper to blue, orange below zero.

    >>> colour_of(0), colour_of(1), colour_of(-2)
    ('#f7f4ec', '#2468b8', '#a4480f')
    """
    ramp = [*AGAINST, *RELEVANCE]
    places = [*np.linspace(-1, 0, len(AGAINST) + 1)[:-1], *np.linspace(0, 1, len(RELEVANCE))]
    rgb = np.array([[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in ramp])
    return "#" + "".join(f"{round(float(np.interp(value, places, rgb[:, k]))):02x}" for k in range(3))


# Internals -----------------------------------------------------------------------------------------------------


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="12" fill="{MUTED}">{escape(words)}</text>'


def _svg(parts: Sequence[str], width: float, height: float, label: str) -> str:
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return f'<svg role="img" aria-label="{escape(label)}" {size}>{"".join(parts)}</svg>'
