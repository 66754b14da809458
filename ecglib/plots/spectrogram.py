"""Spectrograms as images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ecglib.errors import DataError
from ecglib.plots.style import finish, hues


def spectrograms(
    images: Mapping[int, Any],
    *,
    segment: int = 64,
    fs: float = 360.0,
    title: str | None = None,
    description: str = "Log-spectrograms of one window, one panel a hop.",
    width: int = 235,
) -> alt.FacetChart:
    """Log-spectrograms side by side; a column stands over the middle of its segment, one hop wide.

    Parameters
    ----------
    images : mapping of int to array of shape (F, K)
        Logarithm of the power density (mV²/Hz) by frequency and segment, for each hop (samples).
    segment : int
        Samples in a segment.
    fs : float
        Sampling rate, Hz.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    width : int
        Of a panel, px.

    Raises
    ------
    DataError
        No image, or one that does not fit the segment.
    """
    if not images or any(np.shape(a)[:1] != (segment // 2 + 1,) for a in images.values()):
        shapes = {hop: np.shape(a) for hop, a in images.items()}
        raise DataError(f"images: expected arrays of {segment // 2 + 1} frequencies by hop, received {shapes}")
    cells = []
    for hop, image in images.items():
        f, k = np.indices(np.shape(image)).reshape(2, -1)
        cells.append(pd.DataFrame({"hop": hop, "k": k, "bin": f, "log": np.ravel(image).astype(float).round(1)}))
    frame = pd.concat(cells)
    colours = hues(*(float(v) for v in frame["log"].quantile([0.02, 1.0])))
    seconds, hertz = alt.Scale(domain=[0, 2], nice=False), alt.Scale(domain=[0, fs / 2], nice=False)
    legend = alt.Legend(title=["log power", "(mV²/Hz)"], type="gradient", gradientLength=130)
    tip = [
        alt.Tooltip("t:Q", title="from (s)", format=".3f"), alt.Tooltip("f:Q", title="from (Hz)", format=".0f"),
        alt.Tooltip("log:Q", title="log power"),
    ]  # fmt: skip
    # Places are computed in the browser, so that the chart stays small; cells overlap by half a pixel, or seams would show.
    base = alt.Chart(frame).transform_calculate(
        t=f"(datum.k * datum.hop + {segment / 2} - datum.hop / 2) / {fs}", t2=f"datum.t + datum.hop / {fs} + 0.004",
        f=f"(datum.bin - 0.5) * {fs / segment}", f2=f"datum.f + {fs / segment} + 0.5", panel="'hop ' + datum.hop",
    )  # fmt: skip
    cell = base.mark_rect(clip=True).encode(
        alt.X("t:Q", title="time (s)", scale=seconds, axis=alt.Axis(grid=False, tickCount=5)), alt.X2("t2:Q"),
        alt.Y("f:Q", title="frequency (Hz)", scale=hertz, axis=alt.Axis(grid=False)), alt.Y2("f2:Q"),
        alt.Color("log:Q", scale=colours, legend=legend), tooltip=tip,
    )  # fmt: skip
    order = [f"hop {hop}" for hop in images]
    chart = cell.properties(width=width, height=170).facet(
        column=alt.Column("panel:N", title=None, sort=order), spacing=26
    )
    return finish(chart, title, description)
