"""ECG paper: one lead drawn as a cardiologist prints it, 0.2 s as wide as 0.5 mV is high.

Drag to pan, Ctrl + scroll (or pinch) to zoom in time, double-click to reset; plain scrolling stays with the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ecglib.errors import DataError
from ecglib.plots.style import FINE, INK, PAPER, STRONG

BOX_S, BOX_MV = 0.2, 0.5  # one strong box: 5 mm at 25 mm/s and 10 mm/mV
FINE_S, FINE_MV = 0.04, 0.1  # one small square: 1 mm
MAX_HEIGHT = 400  # px; a tall signal gets smaller boxes rather than a chart taller than the screen
_MAX_MV = 50.0  # more than any surface ECG: the values are not in mV
_MIN_FINE = 3.5  # px; finer lines would blur into a tint
MIN_BOX = 8  # px; smaller boxes cannot be told apart, and the strip is no longer drawn to scale
_UNSCALED = 50.0  # px per mV where it is not
_LABEL_S = (0.04, 0.2, 0.4, 1, 2, 5, 10, 60, 300, 1800, 7200)  # s between numbers on the time axis
_LABEL_PX = 40  # px, their least distance
_BARE: dict[str, Any] = {"grid": True, "labels": False, "ticks": False, "domain": False, "title": None}
_NUMBERS: dict[str, Any] = {"grid": False, "domain": False, "tickColor": STRONG, "tickSize": 4, "titlePadding": 6}


def box_px(width: int, seconds: float) -> float:
    """Width of a strong box on a sheet of ``width`` px."""
    return width * BOX_S / seconds


@dataclass(frozen=True)
class Paper:
    """A sheet: what it spans (s, mV) and its size (px).

    ``scaled`` says that boxes are square; it is false only for stretches so long that boxes would vanish.
    """

    start: float
    stop: float
    low: float
    high: float
    width: int
    height: int
    scaled: bool

    @classmethod
    def fit(
        cls,
        values: np.ndarray,
        *,
        start: float,
        stop: float,
        width: int,
        height_mv: float | None,
        top: int = 0,
    ) -> Paper:
        """Smallest sheet of whole boxes around ``values``, with ``top`` px to spare above them."""
        box = box_px(width, stop - start)
        mv_px = box / BOX_MV if box >= MIN_BOX else _UNSCALED
        least, most = float(np.nanmin(values)) - 0.1, float(np.nanmax(values)) + 0.1 + top / mv_px
        if most - least > _MAX_MV:
            raise DataError(f"signal: expected mV, received values from {least:.4g} to {most:.4g}; divide by the gain")
        if height_mv is None:
            low, high = np.floor(least / BOX_MV) * BOX_MV, np.ceil(most / BOX_MV) * BOX_MV
        else:
            low = np.round((least + most - height_mv) / 2 / BOX_MV) * BOX_MV
            high = low + height_mv
        height = (high - low) * mv_px
        shrink = min(1.0, MAX_HEIGHT / height)
        scaled = box >= MIN_BOX
        width = round(width * shrink) if scaled else width
        return cls(start, stop, float(low), float(high), width, round(height * shrink), scaled)

    def x(self, field: str = "t:Q", **options: Any) -> alt.X:
        """Time channel on this sheet's scale; no axis unless given one."""
        # A hair wider than the sheet, or rounding could push the last number of the axis over the edge.
        scale = alt.Scale(domain=[self.start - 1e-6, self.stop + 1e-6], nice=False)
        return alt.X(field, scale=scale, **{"axis": None, **options})

    def y(self, field: str = "mv:Q", **options: Any) -> alt.Y:
        """Millivolt channel on this sheet's scale; no axis unless given one."""
        scale = alt.Scale(domain=[self.low, self.high], nice=False, zero=False)
        return alt.Y(field, scale=scale, **{"axis": None, **options})

    def time_ticks(self, zoom: alt.Parameter, steps: Sequence[float], least_px: float) -> alt.ExprRef:
        """Tick values that follow the zoom: the first of ``steps`` (s) whose ticks are ``least_px`` apart, or none."""
        a, b = self._view(zoom)
        choice = "[]"
        for step in reversed(steps):
            ticks = f"sequence(ceil({a}/{step:g} - 1e-6)*{step:g}, {b} + 1e-6, {step:g})"
            choice = f"{b} - {a} <= {self.width * step / least_px:.6g} ? {ticks} : {choice}"
        return alt.ExprRef(choice)

    def time_axis(self, zoom: alt.Parameter, *, first: float | None = None, title: str | None = "time (s)") -> alt.Axis:
        """Seconds, on strong lines only, from ``first`` on (the calibration pulse stands before time begins)."""
        a, b = self._view(zoom)
        tenths, hundredths = (self.width * step / _LABEL_PX for step in (0.4, 0.04))
        digits = f"{b} - {a} > {tenths:.6g} ? '.0f' : {b} - {a} > {hundredths:.6g} ? '.1f' : '.2f'"
        first = self.start if first is None else first
        shown = f"datum.value < {first - 1e-6!r} ? '' : format(datum.value, {digits})"
        values = self.time_ticks(zoom, _LABEL_S, _LABEL_PX)
        return alt.Axis(values=values, labelExpr=shown, title=title, orient="bottom", labelFlush=False, **_NUMBERS)

    def _view(self, zoom: alt.Parameter) -> tuple[str, str]:
        """Expressions for the first and the last second in view (the parameter has no ``t`` until the first zoom)."""
        first, last = (f"({zoom.name}.t ? {zoom.name}.t[{k}] : {t!r})" for k, t in enumerate((self.start, self.stop)))
        return first, last

    def layers(
        self, zoom: alt.Parameter, *, time_axis: alt.Axis | None = None, numbers: bool = True
    ) -> list[alt.Chart]:
        """Fine and strong lines (as axis grids, which cost no data) and the axes; put them first in a layer chart."""
        corners = pd.DataFrame({"t": [self.start, self.stop], "mv": [self.low, self.high]})
        sheet = alt.Chart(corners).mark_point(size=0, opacity=0, tooltip=None)
        mv_px = self.height / (self.high - self.low)

        def millivolts(step: float) -> list[float]:
            first, last = np.ceil(self.low / step - 1e-6), np.floor(self.high / step + 1e-6)
            return (np.arange(first, last + 1) * step).round(2).tolist()

        fine = {"gridColor": FINE, "gridWidth": 0.8, **_BARE}
        strong = {"gridColor": STRONG, "gridWidth": 1, **_BARE}
        squares = millivolts(FINE_MV) if self.scaled and mv_px * FINE_MV >= _MIN_FINE else []
        # No number at the upper edge: half of it would stand out and push the title up.
        written = [v for v in millivolts(BOX_MV if mv_px >= 40 else 1.0) if v < self.high]
        labelled = alt.Axis(values=written, title="mV", orient="left", **_NUMBERS)
        return [
            sheet.encode(
                self.x(axis=alt.Axis(values=self.time_ticks(zoom, [FINE_S], _MIN_FINE), **fine)),
                self.y(axis=alt.Axis(values=squares, **fine)),
            ),
            sheet.encode(
                self.x(axis=alt.Axis(values=self.time_ticks(zoom, [BOX_S, 1, 10, 60], 5), **strong)),
                self.y(axis=alt.Axis(values=millivolts(BOX_MV), **strong)),
            ),
            sheet.encode(self.x(axis=time_axis), self.y(axis=labelled if numbers else None)),
        ]


def trace(base: alt.Chart, paper: Paper) -> alt.Chart:
    """The line; round joins keep narrow R peaks from growing spikes."""
    mark = base.mark_line(color=INK, strokeWidth=1.2, strokeJoin="round", interpolate="linear", clip=True, tooltip=None)
    return mark.encode(paper.x(), paper.y())


def sheet(layers: Sequence[alt.Chart], paper: Paper) -> alt.LayerChart:
    """Layers over the colour of the paper; the grids keep axes of their own."""
    background = alt.ViewBackground(fill=PAPER, stroke=STRONG, strokeWidth=1, cursor="default")
    chart = alt.layer(*layers).resolve_axis(x="independent", y="independent")
    return chart.properties(width=paper.width, height=paper.height, view=background)
