"""Charts of scores: the data that they carry, what they refuse, and that they draw."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import vl_convert
from test_plots import table, walk

from ecglib import plots
from ecglib.calibration import reliability, softmax
from ecglib.errors import DataError

CURVE = pd.DataFrame(
    {
        "low": [0.4, 0.6, 0.9], "high": [0.5, 0.7, 1.0], "confidence": [0.45, 0.66, 0.98], "accuracy": [0.5, 0.4, 0.9],
        "accuracy_low": [0.0, 0.3, 0.85], "accuracy_high": [1.0, 0.55, 0.93], "windows": [1, 20, 479],
    }
)  # fmt: skip
CURVES = pd.concat([CURVE.assign(net="by window"), CURVE.assign(net="by patient", accuracy=[0.4, 0.3, 0.6])])

LEVELS = pd.DataFrame(
    [
        ("Hannun", "window", 0.97, 0.95, 0.98, 0.93), ("Hannun", "patient", 0.45, 0.35, 0.56, 0.93),
        ("ours", "window", 0.90, 0.88, 0.93, np.nan), ("ours", "patient", 0.46, 0.30, 0.60, np.nan),
    ],
    columns=["model", "level", "f1", "lo", "hi", "deck"],
)  # fmt: skip
ENDS = {"value": "f1", "low": "lo", "high": "hi"}

KINDS = {
    "reliability": lambda: plots.reliability(CURVE),
    "reliability, two nets": lambda: plots.reliability(CURVES, group="net", title="Two nets"),
    "reliability, no intervals": lambda: plots.reliability(CURVE.assign(accuracy_low=np.nan, accuracy_high=np.nan)),
    "levels": lambda: plots.levels(LEVELS, **ENDS, published="deck", axis="macro-F1"),
    "levels, nothing published": lambda: plots.levels(LEVELS.drop(columns="deck"), **ENDS),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_described_small_and_draws(kind):
    chart = KINDS[kind]().to_dict()
    assert len(chart["description"]) > 10
    svg = vl_convert.vegalite_to_svg(chart)
    assert svg.count("<path") > 2
    assert "NaN" not in svg
    assert "undefined" not in svg
    width, height = (float(v) for v in re.search(r'width="([\d.]+)" height="([\d.]+)"', svg).groups())
    assert width < 680
    assert height < 800


# Reliability


def test_reliability_carries_the_curve():
    frame = table(plots.reliability(CURVES, group="net"), "share")
    assert frame.group.tolist() == ["by window"] * 3 + ["by patient"] * 3
    assert frame.confidence.tolist() == [0.45, 0.66, 0.98] * 2
    assert frame.accuracy.tolist() == [0.5, 0.4, 0.9, 0.4, 0.3, 0.6]
    assert frame.low.tolist() == [0.0, 0.3, 0.85] * 2
    assert frame.high.tolist() == [1.0, 0.55, 0.93] * 2
    assert frame.share.tolist() == pytest.approx([0.002, 0.04, 0.958] * 2)
    assert (frame.bar - frame.confidence).tolist() == pytest.approx([-0.01] * 3 + [0.01] * 3)  # bars side by side
    alone = table(plots.reliability(CURVE), "share")
    assert (alone.bar == alone.confidence).all()


def test_reliability_is_square_with_equal_axes_and_a_diagonal():
    chart = plots.reliability(CURVE, side=300).to_dict()
    square, bars = chart["vconcat"]
    assert (square["width"], square["height"], bars["width"]) == (300, 300, 300)
    domains = {
        (name, tuple(channel["scale"]["domain"]))
        for layer in square["layer"]
        for name, channel in layer.get("encoding", {}).items()
        if name in ("x", "y") and "scale" in channel
    }
    assert domains == {("x", (0, 1)), ("y", (0, 1))}
    ends = [rows for rows in chart["datasets"].values() if [r["confidence"] for r in rows] == [0, 1]]
    assert [r["accuracy"] for r in ends[0]] == [0, 1]
    titles = {d["title"] for d in walk(chart) if d.get("type") == "quantitative" and d.get("title")}
    assert {"accuracy", "confidence", "windows"} <= titles


def test_whiskers_of_a_few_windows_are_faint():
    svg = vl_convert.vegalite_to_svg(plots.reliability(CURVE).to_dict())
    whiskers = re.findall(r'windows: (\d+)"[^>]*"rule mark"[^>]* opacity="([\d.]+)"', svg)
    assert whiskers == [("1", "0.25"), ("20", "1"), ("479", "1")]


def test_reliability_takes_what_calibration_gives():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (400, 8))
    found = reliability(softmax(logits), rng.integers(0, 8, 400), groups=np.arange(400) % 9)
    frame = table(plots.reliability(found.curve), "share")
    np.testing.assert_allclose(frame.accuracy, found.curve.accuracy, atol=1e-6)
    np.testing.assert_allclose(frame.low, found.curve.accuracy_low, atol=1e-5)
    assert frame.share.sum() == pytest.approx(1, abs=1e-3)


# Levels


def test_levels_carry_scores_and_the_published_number():
    chart = plots.levels(LEVELS, **ENDS, published="deck")
    frame = pd.concat(
        pd.DataFrame(rows) for rows in chart.to_dict()["datasets"].values() if "group" in rows[0]
    ).drop_duplicates()
    assert sorted(frame.value) == [0.45, 0.46, 0.9, 0.97]
    assert set(frame.group) == {"by window", "by patient"}
    row = frame[frame.value == 0.45].iloc[0]
    assert (row.label, row.low, row.high) == ("Hannun", 0.35, 0.56)
    told = table(chart, "text")
    assert told.to_dict("list") == {"label": ["Hannun"], "published": [0.93], "text": ["deck 0.93"]}


def test_levels_keep_the_order_of_the_frame():
    chart = plots.levels(LEVELS[::-1], **ENDS).to_dict()
    sorts = {tuple(d["sort"]) for d in walk(chart) if d.get("field") == "label" and "sort" in d}
    assert sorts == {("ours", "Hannun")}
    lanes = {tuple(d["sort"]) for d in walk(chart) if d.get("field") == "group" and "sort" in d}
    assert lanes == {("by patient", "by window")}


def test_numbers_stand_on_the_side_where_the_bar_is_not():
    svg = vl_convert.vegalite_to_svg(plots.levels(LEVELS, **ENDS, published="deck").to_dict())
    anchors = {text: a for a, text in re.findall(r'"text mark" text-anchor="(\w+)"[^>]*>([^<]*)</text>', svg)}
    assert anchors == {"0.97": "start", "0.45": "end", "0.90": "end", "0.46": "end", "deck 0.93": "middle"}


def test_other_names_of_levels_are_kept():
    chart = plots.levels(LEVELS.replace({"patient": "by site"}), **ENDS)
    assert {"by window", "by site"} == {
        r["group"] for rows in chart.to_dict()["datasets"].values() for r in rows if "group" in r
    }


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.reliability(CURVE.drop(columns="windows")), r"none called \['windows'\]"),
        (lambda: plots.reliability(CURVE.assign(accuracy=95.0)), "from 0 to 1"),
        (lambda: plots.reliability(CURVE, group="net"), r"none called \['net'\]"),
        (lambda: plots.levels(LEVELS, value="f1", low="hi", high="lo"), "received 4 rows where it is not"),
        (lambda: plots.levels(LEVELS, **ENDS, published="paper"), r"none called \['paper'\]"),
        (lambda: plots.levels(LEVELS, **{**ENDS, "value": "model"}), "finite numbers in 'model'"),
        (
            lambda: plots.levels(LEVELS.assign(deck=[0.9, 0.8, 0.7, 0.7]), **ENDS, published="deck"),
            "one 'deck' a model, received several for 'Hannun'",
        ),
    ],
)
def test_errors_say_what_was_expected_and_received(call, message):
    with pytest.raises(DataError, match=message):
        call()
