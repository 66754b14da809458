"""Charts of agreement: the data that they carry, what can be chosen, what they refuse, and that they draw."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
import vl_convert
from test_plots import ecg, walk

from ecglib import plots
from ecglib.errors import DataError

PAIRS = ["CAM · mask", "CAM · slope", "CAM · uniform"]
SUMMARY = pd.DataFrame(
    [
        (
            pair,
            label,
            measure,
            mean,
            mean - 0.1,
            mean + 0.1,
            patients,
            "chance" if "uniform" in pair else "explanations",
        )
        for label, patients in (("PVC", 24), ("N", 33), ("SVTA", 3))
        for measure in ("rank, steps", "top 20 %", "same peak")
        for pair, mean in zip(PAIRS, (0.4, -0.2, np.nan if "rank" in measure else 0.11), strict=True)
    ],
    columns=["pair", "label", "measure", "mean", "low", "high", "patients", "group"],
)
MASS = pd.DataFrame(
    [
        (pair, label, mean, mean - 0.05, mean + 0.05, patients)
        for label, patients in (("PVC", 24), ("LBBB", 4))
        for pair, mean in (("CAM", 0.4), ("mask", 0.5), ("chance", 0.26))
    ],
    columns=["pair", "label", "mean", "low", "high", "patients"],
)


def windows(n=14, classes=("N", "PVC")):
    """Windows of several classes; the agreement of window i of a class is i / n."""
    frame = pd.DataFrame({"label": np.repeat(classes, n), "i": np.tile(np.arange(n), len(classes))})
    frame = frame.assign(
        record=[f"r{i}" for i in frame.i], patient=[f"p{i // 2}" for i in frame.i], time=10.0 + frame.i
    )
    return frame.assign(
        **{"peak": 0.9, "rank, steps": frame.i / n, "spans": [[(0.7, 0.86), (0.85, 0.95)]] * len(frame)}
    )


SIGNALS = np.stack([ecg()] * 28)
MAPS = {"CAM": np.maximum(SIGNALS, 0), "mask": np.abs(np.gradient(SIGNALS, axis=1))}

KINDS = {
    "agreement": lambda: plots.agreement(SUMMARY, title="Pairs"),
    "masses": lambda: plots.masses(MASS),
    "explorer": lambda: plots.explorer(SIGNALS, MAPS, windows()),
    "explorer, one window": lambda: plots.explorer(SIGNALS[:1], {"CAM": MAPS["CAM"][:1]}, windows(1, ("N",))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_described_small_and_draws(kind):
    chart = KINDS[kind]().to_dict()
    assert len(chart["description"]) > 10
    assert len(json.dumps(chart)) < 500_000
    svg = vl_convert.vegalite_to_svg(chart)
    assert svg.count("<path") > 2
    assert "NaN" not in svg
    assert "undefined" not in svg
    width, height = (float(v) for v in re.search(r'width="([\d.]+)" height="([\d.]+)"', svg).groups())
    assert width < 680
    assert height < 800


def rows_with(chart, *columns):
    found = [row for rows in chart.to_dict()["datasets"].values() for row in rows if set(columns) <= set(row)]
    return pd.DataFrame(found)


# Pairs


def test_agreement_has_a_panel_a_class_in_order_and_every_measure():
    chart = plots.agreement(SUMMARY)
    titles = [panel["title"]["text"] for panel in chart.to_dict()["concat"]]
    assert titles == ["N (33)", "PVC (24)", "SVTA (3)"]
    data = rows_with(chart, "pair", "mean").drop_duplicates()
    assert len(data) == SUMMARY["mean"].notna().sum()  # what has no value is not drawn
    one = data[(data.pair == "CAM · mask") & (data.label == "PVC")]
    assert one[["mean", "low", "high"]].drop_duplicates().to_numpy().tolist() == [[0.4, 0.3, 0.5]]
    (choice,) = [p for p in chart.to_dict()["params"] if "bind" in p]
    assert choice["bind"]["options"] == ["rank, steps", "top 20 %", "same peak"]
    assert choice["value"] == "rank, steps"


def test_agreement_marks_chance_where_it_is_known():
    known = rows_with(plots.agreement(SUMMARY), "measure", "at").drop_duplicates().set_index("measure")["at"]
    assert known.to_dict() == {"rank, steps": 0, "top 20 %": pytest.approx(1 / 9)}


def test_classes_of_few_patients_are_pale():
    for chart in (plots.agreement(SUMMARY), plots.masses(MASS)):
        faded = [d for d in walk(chart.to_dict()) if "datum.patients < 10" in str(d.get("test"))]
        assert faded
        assert {d["value"] for d in faded} == {0.45}


def test_only_the_first_column_names_the_pairs():
    chart = plots.agreement(SUMMARY, columns=2).to_dict()
    labels = [panel["layer"][1]["encoding"]["y"]["axis"]["labels"] for panel in chart["concat"]]
    assert labels == [True, False, True]


# Mass


def test_masses_carry_explanations_as_dots_and_chance_as_a_tick():
    chart = plots.masses(MASS)
    marks = [layer["mark"]["type"] for layer in chart.to_dict()["layer"]]
    assert marks == ["tick", "rule", "point"]
    ticks, dots = (pd.DataFrame(rows) for rows in chart.to_dict()["datasets"].values())
    ticks, dots = (ticks, dots) if set(ticks.pair) == {"chance"} else (dots, ticks)
    assert ticks["mean"].tolist() == [0.26, 0.26]
    assert set(dots.pair) == {"CAM", "mask"}
    scales = {tuple(d["scale"]["domain"]) for d in walk(chart.to_dict()) if d.get("field") == "mean" and "scale" in d}
    assert scales == {(0, 1)}


# Explorer


def test_explorer_draws_both_ends_of_each_class_and_patients_in_turn():
    chart = plots.explorer(SIGNALS, MAPS, windows())
    dots = rows_with(chart, "letter").drop_duplicates()
    assert len(dots) == 28
    shown = dots[(dots.letter != "") & (dots.label == "PVC")].set_index("letter").record
    # two windows a patient: 13 and 12 are of one, 11 of the next, 9 of the one after
    assert shown.sort_index().to_dict() == {"A": "r13", "B": "r11", "C": "r9", "D": "r4", "E": "r2", "F": "r0"}
    panels = rows_with(chart, "head", "t")
    assert len(panels) == 12
    first = panels[(panels.label == "PVC") & (panels.k == 0)].iloc[0]
    assert first["head"] == "A · r13 · 23.0 s · +0.93"
    assert first.spans == [{"a": 0.7, "b": 0.86}, {"a": 0.85, "b": 0.95}]


def test_explorer_bands_are_shares_of_the_maximum_and_keep_peaks():
    maps = {"CAM": np.zeros((28, 720))}
    maps["CAM"][:, 401], maps["CAM"][:, 100] = 5.0, -3.0  # between two drawn samples; and below zero
    first = rows_with(plots.explorer(SIGNALS, maps, windows()), "head", "r0").iloc[0]
    assert max(first.r0) == 100
    at = first.u[int(np.argmax(first.r0))]
    assert at <= 401 < first.u[int(np.argmax(first.r0)) + 1]
    assert sum(v > 0 for v in first.r0) == 1


def test_explorer_trace_is_to_scale_and_cut_at_the_edge():
    tall = SIGNALS.copy()
    tall[:, 300] = 6.0
    first = rows_with(plots.explorer(tall, MAPS, windows()), "head", "y").iloc[0]
    assert (min(first.y), max(first.y)) == (0, 112)
    small = rows_with(plots.explorer(0.1 * SIGNALS, MAPS, windows()), "head", "y").iloc[0]
    expected = 0.1 * np.ptp(SIGNALS[0]) * (188 / 2 * 0.2 / 0.5)  # a box of 0.2 s is as wide as one of 0.5 mV is high
    assert max(small.y) - min(small.y) == pytest.approx(expected, abs=0.2)


def test_explorer_leaves_out_what_has_no_value():
    frame = windows()
    frame.loc[frame.i > 3, "rank, steps"] = np.nan
    dots = rows_with(plots.explorer(SIGNALS, MAPS, frame), "letter").drop_duplicates()
    assert len(dots) == 8
    assert sorted(dots[dots.label == "N"].letter) == ["A", "B", "D", "E"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.agreement(SUMMARY.drop(columns="group")), r"none called \['group'\]"),
        (lambda: plots.masses(MASS.drop(columns="patients")), r"none called \['patients'\]"),
        (lambda: plots.explorer(SIGNALS, MAPS, windows().drop(columns="spans")), r"none called \['spans'\]"),
        (lambda: plots.explorer(SIGNALS, {"CAM": np.zeros((28, 7))}, windows()), r"of shape \(28, 720\), received"),
        (lambda: plots.explorer(SIGNALS, {}, windows()), "one or more explanations"),
        (lambda: plots.explorer(SIGNALS, MAPS, windows().assign(**{"rank, steps": np.nan})), "received 28 without"),
        (lambda: plots.explorer(SIGNALS[:3], MAPS, windows()), "one row for each of 28 windows, received"),
    ],
)
def test_errors_say_what_was_expected_and_received(call, message):
    with pytest.raises(DataError, match=message):
        call()
