"""Measures by epoch: the values that the chart carries and how they are drawn."""

from __future__ import annotations

import pandas as pd
import pytest
import vl_convert
from test_plots import table, walk

from ecglib import plots
from ecglib.errors import DataError, UnknownNameError
from ecglib.plots.course import MEASURES

FRAME = pd.DataFrame(
    [
        (epoch, measure, split, mean, mean - 0.05, mean + 0.1004, patients)
        for measure, least in (("final", 0.1), ("accuracy", 0.5))
        for split, patients, more in (("window", 40, 0.2), ("patient", 12, 0.0))
        for epoch, mean in ((1, least + more), (4, least + more + 0.12345))
    ],
    columns=["epoch", "measure", "split", "mean", "low", "high", "patients"],
)


def test_a_course_carries_the_measures_by_their_names():
    data = table(plots.course(FRAME), "epoch", "mean")
    assert data.measure.tolist() == ["correlation with the last map"] * 4 + ["accuracy"] * 4
    assert data.split.tolist() == ["window", "window", "patient", "patient"] * 2
    assert data["mean"].tolist() == [0.3, 0.423, 0.1, 0.223, 0.7, 0.823, 0.5, 0.623]
    assert data.low.tolist() == pytest.approx([m - 0.05 for m in (0.3, 0.423, 0.1, 0.223, 0.7, 0.823, 0.5, 0.623)])
    assert data.high.tolist() == pytest.approx(data["mean"] + 0.1, abs=0.0011)
    assert data.patients.tolist() == [40, 40, 12, 12] * 2


def test_a_panel_a_measure_a_colour_a_split():
    chart = plots.course(FRAME, title="By epoch", width=200).to_dict()
    assert chart["title"] == "By epoch"
    assert chart["facet"]["field"] == "measure"
    assert chart["facet"]["sort"] == list(MEASURES.values())  # accuracy first, however the rows come
    assert chart["columns"] == 2
    assert chart["resolve"] == {"scale": {"y": "independent"}}  # shares and correlations have axes of their own
    assert (chart["spec"]["width"], chart["spec"]["height"]) == (200, 140)
    band, line = chart["spec"]["layer"]
    assert (band["mark"]["type"], band["encoding"]["y"]["field"], band["encoding"]["y2"]["field"]) == (
        "area", "low", "high",
    )  # fmt: skip
    assert (line["mark"]["type"], line["encoding"]["y"]["field"]) == ("line", "mean")
    assert line["encoding"]["y"]["scale"] == {"zero": False}
    scales = [e["color"]["scale"] for layer in (band, line) if (e := layer["encoding"])]
    assert scales == [scales[0]] * 2
    assert scales[0]["domain"] == ["window", "patient"]
    assert len(set(scales[0]["range"])) == 2
    assert {layer["encoding"]["x"]["field"] for layer in (band, line)} == {"epoch"}
    svg = vl_convert.vegalite_to_svg(chart)
    assert svg.index("accuracy<") < svg.index("correlation with the last map<")
    assert "NaN" not in svg
    assert not any("href" in node for node in walk(chart))


def test_a_missing_column_is_named(one_line):
    with pytest.raises(DataError) as caught:
        plots.course(FRAME.drop(columns="patients"))
    one_line(caught, "patients")


def test_an_unknown_measure_is_told(one_line):
    with pytest.raises(UnknownNameError) as caught:
        plots.course(FRAME.assign(measure="acuracy"))
    one_line(caught, "unknown measure 'acuracy'; did you mean 'accuracy'?")
