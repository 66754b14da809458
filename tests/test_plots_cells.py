"""A confusion matrix whose cells open: what is counted, which windows are drawn, to what scale, and what is refused."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import vl_convert
from test_plots import table, walk

from ecglib import plots
from ecglib.errors import DataError, UnknownNameError

FS = 360.0
COUNTS = {("N", "N"): 9, ("N", "PVC"): 3, ("PVC", "N"): 8, ("PVC", "PVC"): 5}


def windows():
    """Windows as `COUNTS` has them; window i has a triangle of 0.1 i mV at 0.5 s and one of -1 mV at 1.5 s."""
    rows = [pair for pair, n in COUNTS.items() for _ in range(n)]
    frame = pd.DataFrame(rows, columns=["annotated", "predicted"])
    i = np.arange(len(frame))
    frame = frame.assign(
        record=[f"r{k}" for k in i], patient=[f"p{k % 3}" for k in i], time=100.0 + i, peak=0.5 + i / 1000,
        confidence=0.5 + (7 * i % 25) / 100,
    )  # fmt: skip
    t = np.arange(720) / FS
    up, down = (np.maximum(0, 1 - np.abs(t - at) / 0.05) for at in (0.5, 1.5))
    return frame, 0.1 * i[:, None] * up - down


@pytest.fixture(scope="module")
def chart():
    return plots.confusion_windows(*windows(), labels=("N", "PVC"))


def test_counts_are_those_of_the_frame():
    matrix = table(plots.confusion_windows(*windows(), labels=("N", "PVC", "LBBB")), "count", "share")
    assert matrix.annotated.tolist() == ["N"] * 3 + ["PVC"] * 3 + ["LBBB"] * 3
    assert matrix.predicted.tolist() == ["N", "PVC", "LBBB"] * 3
    assert matrix["count"].tolist() == [9, 3, 0, 8, 5, 0, 0, 0, 0]
    assert matrix.share.tolist() == pytest.approx([0.75, 0.25, 0, 0.6154, 0.3846, 0, 0, 0, 0])


def test_the_surest_windows_are_drawn_patients_in_turn(chart):
    frame, shown = windows()[0], table(chart, "head", "k")
    for pair, n in COUNTS.items():
        own = frame[(frame.annotated == pair[0]) & (frame.predicted == pair[1])]
        left, order = own.sort_values("confidence", ascending=False), []
        while len(left):  # a round: the surest window of every patient that has one left
            turn = left.drop_duplicates("patient")
            order += turn.record.tolist()
            left = left.drop(turn.index)
        drawn = shown[(shown.annotated == pair[0]) & (shown.predicted == pair[1])]
        assert drawn.k.tolist() == list(range(min(n, 6)))
        assert [head.split(",")[0] for head in drawn["head"]] == [f"record {r}" for r in order[:6]]
    first = shown[(shown.annotated == "PVC") & (shown.predicted == "N")].iloc[0]
    best = frame[(frame.annotated == "PVC") & (frame.predicted == "N")].sort_values("confidence").iloc[-1]
    assert first["head"] == f"record {best.record}, {best.time:.1f} s"
    assert first.said == f"PVC, called N ({best.confidence:.2f})"
    assert first.peak == pytest.approx(best.peak)


def test_traces_are_to_scale(chart):
    """2 s on 196 px: a box of 0.2 s is 19.6 px wide, so one of 0.5 mV is as high and a millivolt takes 39.2 px."""
    frame, signals = windows()
    shown = table(chart, "t", "y")
    for row in shown.itertuples():
        values = signals[int(re.findall(r"\d+", row.head)[0])]
        assert len(row.t) <= 150
        assert {0, 719, int(values.argmax()), int(values.argmin())} <= set(row.t)  # peaks survive
        middle = (values.max() + values.min()) / 2
        assert row.y == pytest.approx(np.clip(52 - 39.2 * (values[row.t] - middle), 0, 104), abs=0.06)
    loud = table(plots.confusion_windows(frame, 10 * signals, labels=("N", "PVC")), "t", "y").y
    assert {(min(y), max(y)) for y in loud} == {(0.0, 104.0)}  # cut at the panel's borders
    slow = table(plots.confusion_windows(frame, signals, fs=180.0, labels=("N", "PVC")), "t", "y")  # 4 s: half as large
    assert max(max(y) - min(y) for y in slow.y) == pytest.approx(19.6 * np.ptp(signals, axis=1).max(), abs=0.2)


def calculations(chart):
    return {t["as"]: t["calculate"] for view in walk(chart.to_dict()) for t in view.get("transform", []) if "as" in t
            and "calculate" in t}  # fmt: skip


def test_panels_lie_on_a_grid_of_three_columns(chart):
    said = calculations(chart)
    at = {
        k: [eval(said[k].replace("floor", "int"), {"datum": SimpleNamespace(k=i)}) for i in range(6)]
        for k in ("left", "top")
    }
    assert at["left"] == [0, 208, 416] * 2  # 196 px and a gap of 12
    assert at["top"] == [36] * 3 + [182] * 3  # two lines of text above, 104 px of paper, 6 below
    spec = chart.to_dict()
    assert (spec["vconcat"][1]["width"], spec["vconcat"][1]["height"]) == (612, 292)
    assert (spec["vconcat"][0]["width"], spec["vconcat"][0]["height"]) == (84, 84)
    boxes = [t["calculate"] for view in walk(spec) for t in view.get("transform", []) if t.get("as") == "p"]
    assert {float(text.split(", ")[-1].rstrip(")")) for text in boxes} == {19.6}
    assert len(boxes) == 2  # upright and level lines, as far apart


def opened(chart):
    (value,) = [p["value"] for p in chart.to_dict()["params"] if "value" in p]
    return [(v["annotated"], v["predicted"]) for v in value]


def test_the_fullest_cell_off_the_diagonal_is_open_at_first(chart):
    frame, signals = windows()
    assert opened(chart) == [("PVC", "N")]
    assert opened(plots.confusion_windows(frame, signals, labels=("N", "PVC"), first=("N", "N"))) == [("N", "N")]


def test_the_open_cell_is_what_a_browser_draws():
    frame, signals = windows()
    chart = plots.confusion_windows(frame, signals[:, None], labels=("N", "PVC"), first=("N", "PVC"), title="Three")
    spec = chart.to_dict()
    assert spec["title"] == "Three"
    assert spec["description"].startswith("Confusion matrix")
    svg = vl_convert.vegalite_to_svg(spec)
    own = frame[(frame.annotated == "N") & (frame.predicted == "PVC")]
    wanted = [f"record {r}, {t:.1f} s" for r, t in zip(own.record, own.time, strict=True)]
    assert sorted(re.findall(r">(record [^<]*)<", svg)) == sorted(wanted)
    assert len(re.findall(r">N, called PVC \(0\.\d\d\)<", svg)) == 3
    assert "called N" not in svg
    assert "NaN" not in svg


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f, s: (f.drop(columns="peak"), s), ["peak"]),
        (lambda f, s: (f, s[1:]), ["one row for each of 25 windows", "(24, 720)"]),
        (lambda f, s: (f, s[:, None].repeat(2, 1)), ["(25, 2, 720)"]),
        (lambda f, s: (f[:0], s[:0]), ["0 windows"]),
        (lambda f, s: (f.assign(predicted="PAC"), s), ["expected classes of N, PVC", "['PAC']"]),
    ],
)
def test_what_does_not_fit_is_told(change, said, one_line):
    with pytest.raises(DataError) as caught:
        plots.confusion_windows(*change(*windows()), labels=("N", "PVC"))
    one_line(caught, *said)


@pytest.mark.parametrize("first", [("N", "PAC"), ("PAC", "N")])
def test_the_first_cell_is_one_of_the_matrix(first, one_line):
    with pytest.raises(UnknownNameError) as caught:
        plots.confusion_windows(*windows(), labels=("N", "PVC"), first=first)
    one_line(caught, "unknown class 'PAC'", "N, PVC")
