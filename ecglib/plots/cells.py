"""A confusion matrix whose cells open: the windows behind a number, drawn on ECG paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ecglib import CLASSES
from ecglib.errors import DataError, check_name
from ecglib.plots.charts import confusion
from ecglib.plots.counts import demand
from ecglib.plots.paper import BOX_MV, BOX_S
from ecglib.plots.parts import decimate, unique
from ecglib.plots.style import ACCENT, INK, PAPER, STRONG, finish

_COLUMNS, _EACH, _POINTS = 3, 6, 150  # panels in a row, windows of a cell at most, samples drawn of each
_WIDE, _TALL, _GAP, _HEAD = 196, 104, 12, 36  # px: a panel, between panels, two lines above one


def confusion_windows(
    frame: pd.DataFrame,
    signals: Any,
    *,
    fs: float = 360.0,
    labels: Sequence[str] = CLASSES,
    first: tuple[str, str] | None = None,
    title: str | None = None,
    description: str = "Confusion matrix; a click on a cell draws windows of it.",
    cell: int = 42,
) -> alt.VConcatChart:
    """Confusion matrix of windows, and up to six windows, patients in turn, of the cell that the reader clicks.

    Parameters
    ----------
    frame : DataFrame
        One row a window: annotated, predicted (names of ``labels``), record, patient, time (s, of the labelled R peak),
        peak (s, where it stands in the window), confidence (of the prediction).
    signals : array of shape (N, T) or (N, 1, T)
        Millivolts.
    fs : float
        Hz.
    labels : sequence of str
    first : (annotated, predicted), optional
        Cell that is open at first; by default the fullest off the diagonal.
    title, description : str
        Heading, and one sentence for readers who do not see the chart.
    cell : int
        Side of a cell, px.

    Raises
    ------
    DataError, UnknownNameError
        A column is not there, signals and frame do not fit, or a class is none of the labels; ``first`` names another.
    """
    names = [str(label) for label in labels]
    demand(frame, "annotated", "predicted", "record", "patient", "time", "peak", "confidence")
    values = np.array(signals, float)
    values = values[:, 0] if values.ndim == 3 and values.shape[1] == 1 else values
    if values.ndim != 2 or len(values) != len(frame) or not len(frame):
        raise DataError(f"signals: expected one row for each of {len(frame)} windows, received {values.shape}")
    pairs = frame[["annotated", "predicted"]]
    if not pairs.isin(names).all(axis=None):
        raise DataError(
            f"frame: expected classes of {', '.join(names)}, received {sorted(set(pairs.stack()) - set(names))}"
        )
    counts = pd.crosstab(frame.annotated, frame.predicted).reindex(index=names, columns=names, fill_value=0).to_numpy()
    if first is None:
        off = np.where(np.eye(len(names), dtype=bool), -1, counts)
        row, column = np.unravel_index(int(off.argmax()), off.shape)
        first = names[int(row)], names[int(column)]
    annotated, predicted = (check_name("class", name, names) for name in first)
    pick = alt.selection_point(
        unique("cell"), fields=["annotated", "predicted"], empty=False, toggle=False,
        value=[{"annotated": annotated, "predicted": predicted}],
    )  # fmt: skip
    matrix = confusion(counts, names, description=description, cell=cell)
    around = matrix.layer[0].copy().mark_rect(fillOpacity=0, stroke=ACCENT).encode(
        color=alt.value("transparent"), strokeWidth=alt.when(pick).then(alt.value(3.5)).otherwise(alt.value(0))
    )  # fmt: skip
    top = alt.layer(*matrix.layer, around.add_params(pick)).properties(
        width=cell * len(names), height=cell * len(names), data=matrix.data
    )
    sheet = _sheet(_panels(frame.reset_index(drop=True), values, fs), fs, values.shape[1] / fs, pick)
    return finish(alt.vconcat(top, sheet, spacing=14).resolve_scale(color="independent"), title, description)


# Internals -----------------------------------------------------------------------------------------------------


def _panels(frame: pd.DataFrame, values: np.ndarray, fs: float) -> pd.DataFrame:
    """One row a drawn window, its samples as (index, px from the top); the surest predictions first, patients in turn."""
    scale = _WIDE / (values.shape[1] / fs) * BOX_S / BOX_MV  # px a mV: boxes are square
    rows = []
    for (annotated, predicted), own in frame.sort_values("confidence", ascending=False).groupby(
        ["annotated", "predicted"]
    ):
        turn = own.groupby("patient", sort=False).cumcount()
        for k, i in enumerate(turn.sort_values(kind="stable").index[:_EACH]):
            kept = decimate(values[i], _POINTS)
            middle = (values[i].max() + values[i].min()) / 2
            y = np.clip(_TALL / 2 - (values[i, kept] - middle) * scale, 0, _TALL).round(1)
            window = frame.loc[i]
            rows.append(
                {"annotated": annotated, "predicted": predicted, "k": k, "peak": round(float(window.peak), 3),
                 "head": f"record {window.record}, {window.time:.1f} s",
                 "said": f"{annotated}, called {predicted} ({window.confidence:.2f})", "t": kept.tolist(), "y": y.tolist()}
            )  # fmt: skip
    return pd.DataFrame(rows)


def _sheet(panels: pd.DataFrame, fs: float, seconds: float, pick: alt.Parameter) -> alt.LayerChart:
    """Panels on a grid in px."""
    px, box, tall = _WIDE / seconds, _WIDE / seconds * BOX_S, _HEAD + _TALL + 6
    width, height = _COLUMNS * (_WIDE + _GAP) - _GAP, -(-_EACH // _COLUMNS) * tall
    x_scale, y_scale = alt.Scale(domain=[0, width], nice=False), alt.Scale(domain=[height, 0], nice=False)

    def at(x: str, y: str, **more: Any) -> dict[str, Any]:
        return {"x": alt.X(f"{x}:Q", scale=x_scale, axis=None), "y": alt.Y(f"{y}:Q", scale=y_scale, axis=None), **more}

    base = alt.Chart().transform_filter(pick).transform_calculate(
        left=f"(datum.k % {_COLUMNS}) * {_WIDE + _GAP}", top=f"floor(datum.k / {_COLUMNS}) * {tall} + {_HEAD}"
    ).transform_calculate(right=f"datum.left + {_WIDE}", bottom=f"datum.top + {_TALL}", line="datum.top - 16")  # fmt: skip
    upright = base.transform_calculate(p=f"sequence(datum.left, datum.right + 0.01, {box!r})").transform_flatten(["p"])
    level = base.transform_calculate(p=f"sequence(datum.top, datum.bottom + 0.01, {box!r})").transform_flatten(["p"])
    trace = base.transform_flatten(["t", "y"]).transform_calculate(
        x=f"datum.left + datum.t * {px / fs!r}", yy="datum.top + datum.y"
    )
    peak = base.transform_calculate(x=f"datum.left + datum.peak * {px!r}", yy="datum.top + 5")
    text: dict[str, Any] = {"align": "left", "baseline": "bottom", "fontSize": 12, "color": INK}
    layers = [
        base.mark_rect(fill=PAPER).encode(**at("left", "top", x2="right", y2="bottom")),
        upright.mark_rule(stroke=STRONG, strokeWidth=0.7).encode(**at("p", "top", y2="bottom")),
        level.mark_rule(stroke=STRONG, strokeWidth=0.7).encode(**at("left", "p", x2="right")),
        base.mark_text(dy=-3, fontWeight="bold", **text).encode(**at("left", "line", text="said:N")),
        base.mark_text(dy=-3, **text).encode(**at("left", "top", text="head:N")),
        trace.mark_line(color=INK, strokeWidth=1.1).encode(**at("x", "yy", detail="k:N", order="t:Q")),
        peak.mark_point(shape="triangle-down", filled=True, size=45, color=ACCENT, opacity=1).encode(**at("x", "yy")),
    ]
    chart: alt.LayerChart = alt.layer(*layers, data=panels)  # type: ignore[assignment]
    return chart.properties(width=width, height=height, view=alt.ViewConfig(stroke=None))
