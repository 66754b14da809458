"""The gallery: what it carries, where it puts it, and what a reader's choice changes."""

import re

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert

from ecglib import CLASSES, plots
from ecglib.errors import DataError
from ecglib.plots.gallery import ORDERS, POINTS

FS = 360.0


def window(peak=1.0, *, r=1.2, s=-0.3, t=0.4, offset=0.0):
    """One beat of two seconds: R at ``peak`` s, S 0.05 s and T 0.3 s after it, mV."""
    time = np.arange(720) / FS
    waves = [(r, peak, 0.01), (s, peak + 0.05, 0.01), (t, peak + 0.3, 0.04)]
    return offset + sum(a * np.exp(-0.5 * ((time - m) / w) ** 2) for a, m, w in waves)


def frame_of(n, *, label="N", patient=None, rate=None):
    return pd.DataFrame(
        {"label": label, "record": [f"{100 + k}" for k in range(n)], "time": np.arange(n) * 10.0 + 5,
         "patient": [f"mitdb/{100 + k}" for k in range(n)] if patient is None else patient,
         "rate": 60.0 + np.arange(n) if rate is None else rate, "peak": 1.0}
    )  # fmt: skip


def carried(chart):
    (rows,) = chart.to_dict()["datasets"].values()
    return pd.DataFrame(rows)


def drawn(chart, **chosen):
    """SVG of a chart in which some parameters (by the beginning of their names) have other values."""
    spec = chart.to_dict()
    for name, value in chosen.items():
        (param,) = [p for p in spec["params"] if p["name"].startswith(name)]
        param["value"] = value
    return vl_convert.vegalite_to_svg(spec)


def heads(svg):
    return re.findall(r">(\d+ · [\d.]+ s[^<]*)<", svg)


def group(svg, colour, tag="path"):
    """Numbers of every mark of a colour, as lists."""
    marks = re.findall(rf"<{tag}[^>]*stroke=\"{colour}\"[^>]*>", svg)
    return [[float(v) for v in re.findall(r"-?\d+\.?\d*", " ".join(re.findall(r'(?:d|transform|x2|y2)="([^"]*)"', m)))]
            for m in marks]  # fmt: skip


# The data


def test_samples_are_those_of_the_window():
    noise = np.random.default_rng(0).normal(0, 0.02, (3, 720))
    signals = np.stack([window(offset=2.0), window(r=-2.0), window(s=-1.0)]) + noise
    data = carried(plots.gallery(signals, frame_of(3)))
    for k, row in data.iterrows():
        kept, own = np.array(row.t), signals[k] - np.median(signals[k])
        assert len(kept) <= POINTS
        assert len(kept) == len(row.v)
        np.testing.assert_allclose(np.array(row.v) / 100, own[kept], atol=0.00501)
        assert max(row.v) == round(100 * own.max())
        assert min(row.v) == round(100 * own.min())
        assert (kept[0], kept[-1]) == (0, 719)
        assert all(isinstance(v, int) for v in row.v)


def test_ranks_in_the_three_orders():
    frame = frame_of(4, patient=["b", "a", "b", "a"], rate=[70, np.nan, 50, 70])
    signals = np.stack([window(r=r) for r in (1.0, 2.0, 0.2, 1.0)])
    ranks = np.array(carried(plots.gallery(signals, frame)).ranks.tolist())
    assert ORDERS == ("patient", "heart rate", "amplitude")
    assert ranks[:, 0].tolist() == [2, 0, 3, 1]  # a at 15 and 35 s, b at 5 and 25 s
    assert ranks[:, 1].tolist() == [2, 3, 0, 1]  # 50, then 70 of a, 70 of b, then the one without a rate
    assert ranks[:, 2].tolist() == [2, 3, 0, 1]


def test_ranks_are_counted_within_a_class():
    frame = frame_of(6, label=["N", "PVC", "N", "PVC", "PVC", "N"])
    data = carried(plots.gallery(np.stack([window(r=1 + 0.1 * k) for k in range(6)]), frame))
    for _, own in data.groupby("label"):
        assert np.sort(np.array(own.ranks.tolist()), axis=0).tolist() == [[0] * 3, [1] * 3, [2] * 3]


def test_amplitude_is_taken_near_the_peak():
    signal = window(peak=0.7, r=1.2, s=-0.5, t=3.0)
    (row,) = carried(plots.gallery(signal[None], frame_of(1).assign(peak=0.7))).itertuples()
    assert row.amplitude == pytest.approx(1.7, abs=0.02)  # S to R; the taller T lies 0.3 s away
    (row,) = carried(plots.gallery(-signal[None], frame_of(1).assign(peak=0.7))).itertuples()
    assert row.amplitude == pytest.approx(1.7, abs=0.02)


@pytest.mark.parametrize(
    ("r", "s", "shift"),
    [(2.4, -1.4, 0), (2.6, -0.3, 0.5), (3.2, -0.3, 1.0), (0.5, -1.9, -0.5), (0.2, -3.2, -2.0), (3.4, -2.0, 0)],
)
def test_windows_are_moved_by_whole_boxes(r, s, shift):
    """The last one does not fit: 5.4 mV in 4 mV, and every move that cuts least cuts 1.4 mV; none is the smallest."""
    (row,) = carried(plots.gallery(window(r=r, s=s)[None], frame_of(1))).itertuples()
    assert row.shift == shift


def test_a_batch_of_leads_and_a_gap():
    signal = window()
    signal[100:300] = np.nan
    one, other = (carried(plots.gallery(s, frame_of(1))).v[0] for s in (signal[None], signal[None, None]))
    assert one == other
    assert None in one
    assert 0.3 > sum(v is None for v in one) / len(one) > 0.1
    assert "NaN" not in drawn(plots.gallery(signal[None], frame_of(1)))


def test_size():
    rng = np.random.default_rng(0)
    frame = pd.concat([frame_of(24, label=c) for c in CLASSES], ignore_index=True)
    chart = plots.gallery(rng.normal(0, 1, (192, 1, 720)).astype(np.float32), frame)
    assert len(chart.to_json(indent=None)) < 500_000
    assert len(carried(chart)) == 192


# The drawing


def test_heading_counts_windows_and_patients():
    frame = frame_of(5, label=["N", "N", "N", "SVTA", "SVTA"], patient=["a", "a", "b", "c", "d"])
    chart = plots.gallery(np.stack([window()] * 5), frame)
    assert ">N: 3 windows of 2 patients, up to 2 of each<" in drawn(chart)
    assert ">SVTA: 2 windows of 2 patients<" in drawn(chart, **{"class": "SVTA"})
    assert ">N: 1 window of 1 patient<" in drawn(plots.gallery(window()[None], frame_of(1)))


def test_only_the_chosen_class_is_drawn_in_the_chosen_order():
    frame = frame_of(6, label=["N", "PVC"] * 3, rate=[90, 1, 70, 3, 80, 2])
    chart = plots.gallery(np.stack([window()] * 6), frame)
    assert heads(drawn(chart)) == ["100 · 5.0 s · 90/min", "102 · 25.0 s · 70/min", "104 · 45.0 s · 80/min"]
    places = [re.findall(r'translate\(([\d.]+),([\d.]+)\)"[^>]*>(\d{3}) ·', drawn(chart, order=k)) for k in (0, 1)]
    by_rate = sorted(places[1], key=lambda p: float(p[0]))
    assert [name for *_, name in sorted(places[0], key=lambda p: float(p[0]))] == ["100", "102", "104"]
    assert [name for *_, name in by_rate] == ["102", "104", "100"]
    assert len(heads(drawn(chart, **{"class": "PVC"}))) == 3


def test_panels_stand_in_four_columns():
    svg = drawn(plots.gallery(np.stack([window()] * 7), frame_of(7)))
    panels = [m for m in re.findall(r'd="M([\d.]+),([\d.]+)h160v128h-160Z"', svg)]
    assert [(float(x), float(y)) for x, y in panels] == [(168 * (k % 4), 19 + 147 * (k // 4)) for k in range(7)]


@pytest.mark.parametrize(("colour", "step"), [(plots.style.STRONG, 16.0), (plots.style.FINE, 3.2)])
def test_the_paper_is_square(colour, step):
    """0.2 s and 0.5 mV are 16 px, 0.04 s and 0.1 mV a fifth of that; 2 s and 4 mV are whole boxes."""
    svg = drawn(plots.gallery(window()[None], frame_of(1)))
    upright = sorted(m[0] for m in group(svg, colour, "line") if m[3] == 128)  # translate(x, y), x2, y2
    level = sorted(m[1] for m in group(svg, colour, "line") if m[2] == 160)
    np.testing.assert_allclose(upright, np.arange(round(160 / step) + 1) * step, atol=1e-6)
    np.testing.assert_allclose(level, 19 + np.arange(round(128 / step) + 1) * step, atol=1e-6)


def test_the_trace_is_to_scale():
    signal = np.zeros((2, 720))
    signal[0, 360], signal[1, 90] = 1.0, -1.25
    svg = drawn(plots.gallery(signal, frame_of(2)))
    one, two = ([*zip(p[::2], p[1::2], strict=True)] for p in group(svg, plots.style.INK) if len(p) > 20)
    assert min(one, key=lambda p: p[1]) == pytest.approx((80, 19 + (2.5 - 1) * 32))  # 1 s, 1 mV
    assert max(two, key=lambda p: p[1]) == pytest.approx((168 + 20, 19 + (2.5 + 1.25) * 32))  # 0.25 s, -1.25 mV
    assert one[0] == pytest.approx((0, 19 + 2.5 * 32))


def test_what_does_not_fit_is_cut_at_the_edge_and_marked():
    signal = np.zeros((1, 720))
    signal[0, 360], signal[0, 400] = 4.0, -4.0
    chart = plots.gallery(signal, frame_of(1))
    svg = drawn(chart)
    (trace,) = [p for p in group(svg, plots.style.INK) if len(p) > 20]
    assert (min(trace[1::2]), max(trace[1::2])) == (19, 19 + 128)
    assert svg.count(f'fill="{plots.style.AGAINST[0]}"') == 2
    assert f'fill="{plots.style.AGAINST[0]}"' not in drawn(plots.gallery(signal / 4, frame_of(1)))


def test_described_and_narrow_enough_for_the_page():
    with plots.use_theme():
        chart = plots.gallery(np.stack([window()] * 24), frame_of(24), description="Twenty-four beats.")
        spec, svg = chart.to_dict(), drawn(chart)
    assert spec["description"] == "Twenty-four beats."
    width, height = (float(v) for v in re.search(r'width="([\d.]+)" height="([\d.]+)"', svg).groups())
    assert width < 700
    assert height < 960
    assert "undefined" not in svg
    assert vl_convert.vegalite_to_vega(spec)["background"] == "white"
    tips = [d["title"] for d in spec["layer"][-1]["encoding"]["tooltip"] if "title" in d]
    assert "mV from the median" in tips
    assert "heart rate (1/min)" in tips


@pytest.mark.parametrize(
    ("signals", "frame", "message"),
    [
        (np.zeros((2, 720)), frame_of(3), r"expected an array of shape \(3, T\).*received \(2, 720\)"),
        (np.zeros((2, 2, 720)), frame_of(2), r"received \(2, 2, 720\)"),
        (np.zeros((0, 720)), frame_of(0), r"received \(0, 720\)"),
        (np.full((1, 720), np.nan), frame_of(1), "finite values in every window"),
        (np.zeros((1, 720)), frame_of(1).drop(columns="rate"), r"none called \['rate'\]"),
        (np.zeros((1, 720)), frame_of(1).drop(columns="patient"), r"none called \['patient'\]"),
    ],
)
def test_errors(signals, frame, message):
    with pytest.raises(DataError, match=message):
        plots.gallery(signals, frame)


# Real windows and a browser


@pytest.mark.data
def test_real_windows_fit(mitdb):
    from ecglib.intervals import of_windows
    from ecglib.windows import cut_database

    some = cut_database("mitdb", rule="clean", root=mitdb, records=["100", "116", "207", "119"], per_record=9)
    data = carried(plots.gallery(some.x, of_windows(some, root=mitdb).assign(peak=some.r_position)))
    assert set(data.label) == {"N", "PVC", "PAC", "SVTA", "LBBB"}
    assert data.groupby("record").amplitude.median().idxmax() == "116"
    for row, x in zip(data.itertuples(), some.x[:, 0], strict=True):
        assert max(row.v) == pytest.approx(100 * (x.max() - np.median(x)), abs=0.51)


@pytest.mark.browser
def test_class_and_order_are_chosen_in_a_browser(tmp_path, browser):
    frame = frame_of(10, label=["N"] * 6 + ["PVC"] * 4, rate=[75, 72, 71, 74, 76, 73, 1, 4, 2, 3])
    frame["patient"] = list("ffeedd") + list("abcd")
    signals = np.stack([window(r=r) for r in (1.0, 0.9, 0.8, 0.4, 1.1, 0.5, 2, 1, 0.5, 1.5)])
    page_file = tmp_path / "gallery.html"
    plots.gallery(signals, frame).save(page_file, inline=True, embed_options={"renderer": "svg"})
    with browser.new_page(viewport={"width": 760, "height": 700}) as page:
        wrong = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(page_file.as_uri())
        page.wait_for_selector("svg.marks")

        def shown():
            """Names of the records, row by row."""
            found = page.evaluate(
                """() => [...document.querySelectorAll("svg.marks text")].filter((t) => t.textContent.includes("/min"))
                .map((t) => [t.getBoundingClientRect().y, t.getBoundingClientRect().x, t.textContent.slice(0, 3)])"""
            )
            return [name for _, _, name in sorted((round(y), x, name) for y, x, name in found)]

        def choose(name):
            page.get_by_label(name, exact=True).check()
            page.wait_for_timeout(300)
            return shown()

        assert shown() == ["104", "105", "102", "103", "100", "101"]  # by patient
        assert choose("heart rate") == ["102", "101", "105", "103", "100", "104"]
        assert choose("amplitude") == ["103", "105", "102", "101", "100", "104"]
        assert choose("PVC") == ["108", "107", "109", "106"]  # the order stays
        assert choose("patient") == ["106", "107", "108", "109"]
        assert "PVC: 4 windows of 4 patients" in page.locator("svg.marks").text_content()
        box = page.locator("svg.marks").bounding_box()
        page.mouse.move(box["x"] + 85, box["y"] + 130)
        page.mouse.move(box["x"] + 86, box["y"] + 131)
        page.wait_for_selector("#vg-tooltip-element.visible")
        tip = page.locator("#vg-tooltip-element").inner_text()
        assert re.search(r"record\s*106\s*class\s*PVC\s*time in the window \(s\)\s*\d\.\d{3}", tip)
        assert wrong == []


def test_altair_takes_it_beside_another_chart():
    one = plots.gallery(window()[None], frame_of(1))
    both = alt.vconcat(one, plots.gallery(window()[None], frame_of(1))).to_dict()
    names = [p["name"] for p in both["params"]]
    assert len(names) == len(set(names)) == 6
