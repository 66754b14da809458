"""Small multiples of distributions: what they carry, and what a reader's choice changes."""

import re

import numpy as np
import pandas as pd
import pytest
import vl_convert

from ecglib import CLASSES, plots
from ecglib.errors import DataError

BINS = {"RR (s)": np.array([0.0, 0.5, 1.0, 1.5]), "rate (1/min)": np.array([50.0, 100.0, 150.0])}


def row(series, label, quantity, share, **more):
    return {"series": series, "label": label, "quantity": quantity, "share": share, "median": 0.7, "patients": 2,
            "beats": 30, **more}  # fmt: skip


FRAME = pd.DataFrame(
    [
        row("MIT-BIH, clean", "PVC", "RR (s)", [0.25, 0.5, 0.25]),
        row("MIT-BIH, clean", "PVC", "rate (1/min)", [0.125, 0.875], median=120.0),
        row("MIT-BIH, clean", "N", "RR (s)", [0.0, 1.0, 0.0]),
        row("LTDB [all]", "N", "RR (s)", [0.0, 0.375, 0.625]),
        row("LTDB [all]", "N", "rate (1/min)", [0.625, 0.375], median=80.0),
    ]
)


def rows_of(chart):
    return chart.to_dict()["data"]["values"]


def drawn(chart, quantity=None):
    spec = chart.to_dict()
    if quantity:
        (param,) = [p for p in spec["params"] if p["name"].startswith("quantity")]
        param["value"] = quantity
    return vl_convert.vegalite_to_svg(spec)


def test_shares_and_edges_are_carried():
    rows = rows_of(plots.distributions(FRAME, bins=BINS))
    assert len(rows) == 5
    first = rows[0]
    assert first["share"] == [0.25, 0.5, 0.25, 0.0]  # and down to zero at the right end
    assert first["a"] == [0.0, 0.5, 1.0, 1.5]
    assert first["b"] == [0.5, 1.0, 1.5, 1.5]
    assert [r["number"] for r in rows] == [0, 0, 0, 1, 1]
    assert rows[4]["median"] == 80.0


def test_spans_are_cut_to_the_bins_and_to_classes_that_are_there():
    spans = {"RR (s)": {"N": (0.6, np.inf), "SBR": (1, 2)}, "rate (1/min)": {"PVC": (0, 60)}}
    rows = [r for r in rows_of(plots.distributions(FRAME, bins=BINS, spans=spans)) if "span" in r]
    assert [(r["label"], r["quantity"], r["a"], r["b"]) for r in rows] == [
        ("N", "RR (s)", [0.6], [1.5]),
        ("PVC", "rate (1/min)", [50.0], [60]),
    ]


def test_panels_stand_in_the_order_of_the_classes():
    svg = drawn(plots.distributions(FRAME, bins=BINS))
    assert re.findall(r">(N|PVC)<", svg) == ["N", "PVC"]
    assert ">MIT-BIH, clean<" in svg
    assert ">LTDB [all]<" in svg


def test_the_chosen_quantity_is_drawn_and_named():
    chart = plots.distributions(FRAME, bins=BINS)
    assert ">RR (s)<" in drawn(chart)
    assert ">rate (1/min)<" not in drawn(chart)
    other = drawn(chart, "rate (1/min)")
    assert ">rate (1/min)<" in other
    assert {"60", "80", "100"} & set(re.findall(r">(\d+)<", other))
    assert "NaN" not in drawn(chart)


def test_one_bin_holds_every_series():
    layer = plots.distributions(FRAME, bins=BINS).to_dict()["spec"]["layer"][-1]
    tips = {t["field"]: t.get("title") for t in layer["encoding"]["tooltip"]}
    assert tips == {"label": "class", "a": "from", "b": "to", "text0": "MIT-BIH, clean", "text1": "LTDB [all]"}


def test_size_and_description():
    many = pd.DataFrame(
        [
            row(s, c, q, [1 / (len(e) - 1)] * (len(e) - 1))
            for s in "abcd" for c in CLASSES for q, e in {"x": range(46), "y": range(46), "z": range(46)}.items()
        ]
    )  # fmt: skip
    with plots.use_theme():
        chart = plots.distributions(many, bins={q: np.arange(46.0) for q in "xyz"}, description="Three quantities.")
        assert len(chart.to_json(indent=None)) < 200_000
        assert chart.to_dict()["description"] == "Three quantities."
        svg = drawn(chart)
    width, height = (float(v) for v in re.search(r'width="([\d.]+)" height="([\d.]+)"', svg).groups())
    assert width < 700
    assert height < 500


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME.drop(columns="median"), r"none called \['median'\]"),
        (FRAME.assign(share=[[0.5, 0.5]] * 5), r"expected 3 shares of 'RR \(s\)'.*received 2"),
        (FRAME.assign(quantity="other"), r"expected 0 shares of 'other'"),
    ],
)
def test_errors(frame, message):
    with pytest.raises(DataError, match=message):
        plots.distributions(frame, bins=BINS)


@pytest.mark.browser
def test_choose_and_point_in_a_browser(tmp_path, browser):
    page_file = tmp_path / "distributions.html"
    chart = plots.distributions(FRAME, bins=BINS)
    chart.save(page_file, inline=True, embed_options={"renderer": "svg"})
    with browser.new_page(viewport={"width": 760, "height": 400}) as page:
        page.goto(page_file.as_uri())
        page.wait_for_selector("svg.marks")
        page.get_by_label("rate (1/min)", exact=True).check()
        page.wait_for_timeout(300)
        place = page.locator("svg.marks text", has_text=re.compile("^N$")).bounding_box()
        x, y = place["x"] - 25, place["y"] + 60  # left of the middle of the panel N: the first of two bins
        page.mouse.move(x, y)
        page.mouse.move(x + 1, y + 1)
        page.wait_for_selector("#vg-tooltip-element.visible")
        tip = re.sub(r"\s+", " ", page.locator("#vg-tooltip-element").inner_text())
        assert tip == "class N from 50 to 100 MIT-BIH, clean none LTDB [all] 62.5%"
        line = page.locator("svg.marks path[aria-label*='LTDB']").first
        page.locator("svg.marks text", has_text="MIT-BIH, clean").click()
        page.wait_for_timeout(300)
        assert line.get_attribute("opacity") == "0.12"
