"""Average relevance around the R peak: the values, the line of a map that says nothing, and where evidence is expected."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import vl_convert

from ecglib import plots
from ecglib.errors import DataError
from ecglib.plots.style import ACCENT, CLASS_COLOURS

TIME = [-0.4, -0.1, 0.0, 0.35]
FRAME = pd.DataFrame(
    [
        (label, t, mean, mean - 0.25, mean + 0.5, patients)
        for label, level, patients in (("PVC", 1.0, 12), ("N", 0.5, 30), ("mine", 2.0, 3))
        for t, mean in zip(TIME, level * np.array([1.0, 1.2345, 1.5, 0.75]), strict=True)
    ],
    columns=["label", "time", "mean", "low", "high", "patients"],
)
SPANS = {"PVC": [(-0.05, 0.1), (0.2, 0.3)], "N": [(-0.2, -0.1)]}


pytestmark = pytest.mark.filterwarnings("ignore:I don't know how to infer")  # see the last test


@pytest.fixture(scope="module")
def chart():
    return plots.relevance_average(FRAME, spans=SPANS, columns=2, title="Around R").to_dict()


def rows(chart, layer):
    return chart["datasets"][layer["data"]["name"]]


def test_panels_stand_in_the_order_of_the_classes(chart):
    assert [panel["title"]["text"] for panel in chart["concat"]] == ["N (30)", "PVC (12)", "mine (3)"]
    assert (chart["columns"], chart["title"]) == (2, "Around R")
    for panel, label in zip(chart["concat"], ("N", "PVC", "mine"), strict=True):
        data = pd.DataFrame(rows(chart, panel["layer"][2]))
        own = FRAME[FRAME.label == label]
        assert data.time.tolist() == TIME
        for column in ("mean", "low", "high"):
            assert data[column].tolist() == own[column].round(3).tolist()
        assert panel["layer"][2]["mark"]["color"] == CLASS_COLOURS.get(label, ACCENT)
        assert data.equals(pd.DataFrame(rows(chart, panel["layer"][3])))


def test_bands_lines_and_the_value_1(chart):
    for panel in chart["concat"]:
        spans, one, band, line = panel["layer"]
        assert rows(chart, one) == [{"one": 1.0}]
        assert (one["mark"]["type"], one["encoding"]["y"]["field"]) == ("rule", "one")
        assert (band["encoding"]["y"]["field"], band["encoding"]["y2"]["field"]) == ("low", "high")
        assert (line["mark"]["type"], line["encoding"]["y"]["field"]) == ("line", "mean")
        # one axis for all panels: from 0 to above the largest end of a band, 3.5
        assert [k["encoding"]["y"]["scale"]["domain"] for k in (band, line)] == [[0, 4]] * 2
        assert line["encoding"]["y"]["axis"]["values"] == [0, 1, 2, 3, 4]
        assert [k["encoding"]["x"]["scale"]["domain"] for k in (spans, band, line)] == [[-0.4, 0.35]] * 3


def test_spans_of_the_evidence_are_shaded_in_their_own_panel(chart):
    shaded = [rows(chart, panel["layer"][0]) for panel in chart["concat"]]
    assert shaded == [[{"a": -0.2, "b": -0.1}], [{"a": -0.05, "b": 0.1}, {"a": 0.2, "b": 0.3}], []]
    marks = [panel["layer"][0]["encoding"] for panel in chart["concat"]]
    assert {(e["x"]["field"], e["x2"]["field"]) for e in marks} == {("a", "b")}
    plain = plots.relevance_average(FRAME).to_dict()
    assert [rows(plain, panel["layer"][0]) for panel in plain["concat"]] == [[]] * 3
    assert "title" not in plain


def test_it_is_drawn_to_its_scale(chart):
    """In pixels: panels of 138 x 110 over 0.75 s and a relevance of 0 to 4."""
    svg = vl_convert.vegalite_to_svg(chart)
    assert "NaN" not in svg
    lines = re.findall(r'aria-roledescription="line mark"[^>]*d="M([^"]*)"', svg)
    points = [[tuple(map(float, p.split(","))) for p in line.split("L")] for line in lines]
    assert len(points) == 3
    for drawn, label in zip(points, ("N", "PVC", "mine"), strict=True):
        means = FRAME[FRAME.label == label]["mean"].round(3)
        assert [x for x, _ in drawn] == pytest.approx([138 * (t + 0.4) / 0.75 for t in TIME], abs=0.01)
        assert [y for _, y in drawn] == pytest.approx([110 * (1 - m / 4) for m in means], abs=0.01)


@pytest.mark.parametrize(
    ("frame", "said"),
    [(FRAME.drop(columns="patients"), "patients"), (FRAME.assign(mean=np.nan), "mean")],
)
def test_what_cannot_be_drawn_is_told(frame, said, one_line):
    with pytest.raises(DataError) as caught:
        plots.relevance_average(frame)
    one_line(caught, said)


def test_a_class_without_spans_draws_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.relevance_average(FRAME).to_dict()
