"""The chart of a whole record: what it carries, what it shows at first, what brush and click do, what it refuses."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import vl_convert

from ecglib import CLASSES
from ecglib.errors import DataError
from ecglib.explained import Explained
from ecglib.plots import stretches
from ecglib.plots.timeline import timeline


@pytest.fixture
def pair(make_record):
    """``make(seconds, start, wrong)``: a record with a beat a second, and its explanation, wrong at some times."""

    def make(seconds=60.0, start=0.0, wrong=(20.5,)):
        times = np.arange(start + 0.5, start + seconds)
        record = make_record([(t, "N") for t in times], start + seconds, start=start)
        t = start + np.arange(round(seconds * 360)) / 360
        record = replace(record, signal=np.exp(-(((t % 1) - 0.5) ** 2) / 0.001).astype(np.float32))
        beats = pd.DataFrame({"time": times, "symbol": "N", "rhythm": "N", "expected": "N", "predicted": "N"})
        beats.loc[np.isin(times, wrong), "predicted"] = "PVC"
        beats["confidence"] = np.linspace(0.5, 1, len(beats)).astype(np.float32)
        for c in CLASSES:
            beats[c] = np.float32(0)
        saliency = np.where(t < start + 1, np.nan, np.sin(t)).astype(np.float32)
        return Explained(beats, saliency, 360.0, "r1", "mitdb", start), record

    return make


def frames(chart):
    return [pd.DataFrame(d) for d in chart.to_dict()["datasets"].values()]


KINDS = {
    "a minute": {},
    "a part": {"start": 100.0, "wrong": (120.5, 130.5)},
    "nothing differs": {"wrong": ()},
    "half an hour": {"seconds": 1800.0, "wrong": tuple(np.arange(30.5, 1800, 37))},
    "shorter than the first view": {"seconds": 4.0, "wrong": ()},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_described_small_and_draws(kind, pair):
    chart = timeline(*pair(**KINDS[kind]), title="A record").to_dict()
    assert len(chart["description"]) > 10
    assert len(json.dumps(chart)) < 500_000
    svg = vl_convert.vegalite_to_svg(chart)
    assert svg.count("<path") > 2
    assert "NaN" not in svg
    assert "undefined" not in svg
    width, height = (float(v) for v in re.search(r'width="([\d.]+)" height="([\d.]+)"', svg).groups())
    assert width < 690
    assert height < 800


def test_the_trace_keeps_its_peaks(pair):
    explained, record = pair(seconds=250.0)
    (trace,) = (f for f in frames(timeline(explained, record)) if "v" in f)
    assert trace.p.tolist() == [0.0]
    t, v = np.array(trace.i[0]) / 360, np.array(trace.v[0]) / 100
    assert len(t) <= stretches.POINTS
    assert (v == 1).sum() == 250  # the top of each beat, at half seconds, is among the samples drawn
    np.testing.assert_allclose(t[v == 1] % 1, 0.5, atol=1 / 360)
    (cells,) = (f for f in frames(timeline(explained, record)) if "r" in f and "i" in f)
    r = np.array(cells.r[0])
    assert (r[:9] == 0).all()  # no window lies there
    assert r[15] == pytest.approx(100 * np.sin(1.55), abs=2)


def test_a_long_record_keeps_what_differs_most_surely(pair):
    explained, record = pair(seconds=1800.0, wrong=(600.5, 604.5, 1500.5))
    kept = stretches.chosen(np.array([1500.5, 604.5, 600.5]), (0.0, 1800.0), 60.0)
    assert kept == [(0.0, 12.0), (595.5, 609.5), (1495.5, 1505.5)]
    assert stretches.chosen(np.array([1500.5, 604.5, 600.5]), (0.0, 1800.0), 24.0) == [(0.0, 12.0), (1495.5, 1505.5)]
    (trace,) = (f for f in frames(timeline(explained, record, kept_s=60.0)) if "v" in f)
    assert trace.p.tolist() == [0.0, 595.5, 1495.5]
    bars = [f for f in frames(timeline(explained, record, kept_s=60.0)) if "row" in f and set(f.row) == {"ECG kept"}]
    assert bars[0][["t", "t2"]].to_numpy().tolist() == [[0, 12], [595.5, 609.5], [1495.5, 1505.5]]


def test_the_first_view_is_the_surest_disagreement(pair):
    spec = json.dumps(timeline(*pair(wrong=(20.5, 40.5))).to_dict())
    assert '"value": {"x": [37.5, 43.5]}' in spec
    assert '"value": {"x": [7.0, 13.0]}' in json.dumps(timeline(*pair(wrong=(20.5,)), at=10.0).to_dict())


def test_rows_of_the_overview(pair):
    explained, record = pair(seconds=290.0, wrong=(20.5,))
    found = [f for f in frames(timeline(explained, record)) if "class" in f]
    rows = found[0]
    own = rows[(rows.t <= 20.5) & (rows.t2 > 20.5)].set_index("row")["class"]
    assert own.to_dict() == {"annotated": "N", "predicted": "PVC"}
    assert (rows["class"] == "PVC").sum() == 1
    rate = next(f for f in frames(timeline(explained, record)) if "rate" in f)
    assert set(rate.rate.dropna()) == {60.0}


def test_refused(pair, one_line):
    explained, record = pair()
    with pytest.raises(DataError) as caught:
        timeline(explained, replace(record, start=5.0))
    one_line(caught, "0 to 60 s", "5 to 65 s")
    with pytest.raises(DataError) as caught:
        timeline(replace(explained, beats=explained.beats[:0]), record)
    one_line(caught, "r1", "no explained beats")


@pytest.mark.browser
def test_brush_and_click_choose_the_ecg(pair, browser, tmp_path):
    import altair as alt

    with alt.data_transformers.enable("default"):
        timeline(*pair(wrong=(20.5, 40.5))).save(tmp_path / "c.html", inline=True)
    page = browser.new_page(viewport={"width": 800, "height": 700})
    failures = []
    page.on("pageerror", lambda e: failures.append(str(e)))
    page.goto((tmp_path / "c.html").as_uri())
    page.wait_for_selector("canvas, svg", timeout=60_000)
    page.wait_for_timeout(500)

    box = page.locator("canvas, svg.marks").first.bounding_box()
    before = page.screenshot()
    # the lanes lie some 85 px down; a drag from 100 to 200 px chooses about 10 s
    page.mouse.move(box["x"] + 300, box["y"] + 75)
    page.mouse.down()
    page.mouse.move(box["x"] + 380, box["y"] + 75, steps=5)
    page.mouse.up()
    page.wait_for_timeout(300)
    brushed = page.screenshot()
    assert brushed != before
    for x in range(240, 280, 4):  # how wide the names of the rows are depends on the fonts
        page.mouse.click(box["x"] + x, box["y"] + 14)
        page.wait_for_timeout(100)
        page.mouse.move(box["x"] + 300, box["y"] + 230)
        page.wait_for_timeout(200)
        if (clicked := page.screenshot()) != brushed:
            break
    assert clicked != brushed
    assert not failures
    page.close()
    (tmp_path / "b.png").write_bytes(brushed)
    (tmp_path / "k.png").write_bytes(clicked)
