"""Charts: geometry of the paper, the data that they carry, and their limits."""

import functools
import itertools
import re
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert

from ecglib import CLASSES, plots
from ecglib.errors import DataError
from ecglib.plots import style
from ecglib.plots.parts import MAX_POINTS, decimate

FS = 360.0
ROOT = Path(__file__).resolve().parent.parent


def ecg(seconds=2.0, amplitude=1.2):
    """Beats of Gaussian waves at 80/min with a little noise, mV."""
    t = np.arange(round(seconds * FS)) / FS
    phase = (t + 0.3) % 0.75 - 0.375
    waves = [(amplitude, 0, 0.012), (-0.25, 0.035, 0.012), (0.15, -0.16, 0.025), (0.3, 0.24, 0.05)]
    noise = np.random.default_rng(0).normal(0, 0.01, t.size)
    return sum(a * np.exp(-0.5 * ((phase - m) / s) ** 2) for a, m, s in waves) + noise


def cam(start=0.0):
    steps = np.sin(np.arange(48) / 8)
    return {"cam": steps, "edges": start + np.linspace(0, 2, 49), "upsampled": np.repeat(steps, 15), "start": start}


def beats(*pairs):
    return np.rec.fromrecords(pairs, names="time,symbol")


def rhythms(*rows):
    return np.rec.fromrecords(rows, names="start,stop,label")


def averages():
    t = np.arange(-90, 144) / FS
    mean = np.exp(-0.5 * (t / 0.02) ** 2)
    parts = [
        pd.DataFrame(
            {"label": c, "time": t, "mean": mean, "low": mean - 0.1, "high": mean + 0.1, "rel": mean * (k + 1)}
        )
        for k, c in enumerate(CLASSES)
    ]
    return pd.concat(parts)


SCORES = pd.DataFrame(
    {"cls": ["N", "PVC"] * 2, "method": ["CAM", "CAM", "mask", "mask"], "f1": [0.9, 0.8, 0.7, 0.6]}
).assign(lo=lambda d: d.f1 - 0.05, hi=lambda d: d.f1 + 0.05)
COUNTS = pd.DataFrame({"cls": ["PVC", "N", "N"], "record": ["100", "100", "208"], "windows": [7, 123456, 5]})

KINDS = {
    "strip": lambda: plots.strip(ecg(), beats=beats((0.5, "N"), (1.2, "V")), rhythms=rhythms((0, 2, "(AFIB"))),
    "strips": lambda: plots.strips([(ecg(), "one"), (ecg(3), "two"), (ecg(), "three")]),
    "saliency": lambda: plots.saliency(ecg(), {"CNN map": ecg(), "LSTM [mask]": -ecg()}, marks={"QRS": [(0.4, 0.5)]}),
    "saliency, signed": lambda: plots.saliency(ecg(), ecg(), domain=(-1, 1)),
    "cam_steps": lambda: plots.cam_steps(ecg(), **cam()),
    "mask_history": lambda: plots.mask_history({"score": np.ones(9), 'total "variation"': np.arange(9)}, log=True),
    "confusion": lambda: plots.confusion([[5, 1], [0, 9]], ["N", "PVC"]),
    "intervals": lambda: plots.intervals(SCORES[:2], value="f1", low="lo", high="hi", label="cls", reference=0.5),
    "intervals, grouped": lambda: plots.intervals(
        SCORES, value="f1", low="lo", high="hi", label="cls", group="method", domain=(0, 1)
    ),
    "class_bars": lambda: plots.class_bars(COUNTS, label="cls", value="windows", group="record"),
    "class_average": lambda: plots.class_average(averages(), relevance="rel"),
}


@functools.cache
def spec(kind):
    return KINDS[kind]().to_dict()


def walk(node):
    """Every dictionary inside a specification."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from walk(child)


def table(chart, *columns):
    """The one dataset of a chart that has the columns."""
    found = [pd.DataFrame(rows) for rows in chart.to_dict()["datasets"].values() if set(columns) <= set(rows[0])]
    assert len(found) == 1, f"{len(found)} datasets with {columns}"
    return found[0]


def samples(chart):
    return max((pd.DataFrame(rows) for rows in chart.to_dict()["datasets"].values() if "mv" in rows[0]), key=len)


def boxes(chart):
    """Width of 0.2 s and height of 0.5 mV, px, on each sheet of paper of a chart."""
    for view in walk(chart.to_dict()):
        layers = view.get("layer", [])
        scales = [
            (layer["encoding"]["x"]["scale"]["domain"], layer["encoding"]["y"]["scale"]["domain"])
            for layer in layers
            if "mv" in (layer.get("encoding", {}).get("y", {}).get("field"),)
        ]
        if scales:
            assert all(s == scales[0] for s in scales)
            (x0, x1), (y0, y1) = scales[0]
            yield 0.2 * view["width"] / (x1 - x0), 0.5 * view["height"] / (y1 - y0)


# The paper


@pytest.mark.parametrize(
    "chart",
    [
        lambda: plots.strip(ecg()),
        lambda: plots.strip(ecg(10)),
        lambda: plots.strip(ecg(), calibration=False, width=300),
        lambda: plots.strip(ecg(amplitude=9)),
        lambda: plots.strip(ecg(), height_mv=3.0),
        lambda: plots.strips([(ecg(), "a"), (ecg(3), "b")]),
        lambda: plots.saliency(ecg(), ecg()),
        lambda: plots.cam_steps(ecg(), **cam()),
    ],
)
def test_boxes_are_square(chart):
    pairs = list(boxes(chart()))
    assert pairs
    for wide, high in pairs:
        assert wide == pytest.approx(high, rel=0.01)


def test_paper_holds_the_signal_and_letters_clear_it():
    signal = ecg()
    chart = plots.strip(signal, beats=beats((0.5, "N")), rhythms=rhythms((0, 2, "N"))).to_dict()
    low, high = chart["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert low < signal.min()
    px = chart["height"] / (high - low)
    assert (high - signal.max()) * px >= 40  # a band of 20 px and a row of letters of 20 px


def test_height_in_mv():
    low, high = plots.strip(ecg(), height_mv=4).to_dict()["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert high - low == 4


def test_tall_signal_gets_smaller_paper():
    assert plots.strip(ecg(amplitude=9)).to_dict()["height"] <= 400


def test_long_strip_is_not_to_scale_but_visible():
    chart = plots.strip(ecg(120)).to_dict()
    assert chart["width"] == style.WIDTH
    assert chart["height"] >= 100


def test_grid_is_one_square_and_one_box():
    chart = plots.strip(ecg(), start=5.0).to_dict()
    assert np.diff(chart["layer"][0]["encoding"]["y"]["axis"]["values"]).round(6).tolist()[:2] == [0.1, 0.1]
    assert set(np.diff(chart["layer"][1]["encoding"]["y"]["axis"]["values"])) == {0.5}
    steps = [chart["layer"][k]["encoding"]["x"]["axis"]["values"]["expr"] for k in (0, 1)]
    assert "/0.04" in steps[0]
    assert "/0.2" in steps[1]
    assert all("zoom" in s for s in steps)  # they follow it


def test_gallery_has_one_scale():
    sizes = {pair for pair in boxes(plots.strips([(ecg(), "a"), (ecg(amplitude=2.5), "b")]))}
    assert len(sizes) == 1


def test_zoom_is_along_time_only():
    params = plots.strip(ecg()).to_dict()["params"]
    (zoom,) = [p for p in params if p.get("bind") == "scales"]
    assert zoom["select"]["encodings"] == ["x"]


# The data


def test_trace_equals_the_input():
    signal = ecg()
    frame = samples(plots.strip(signal, start=100.0))
    np.testing.assert_allclose(frame.mv, signal, atol=5.1e-4)
    np.testing.assert_allclose(frame.t, 100 + np.arange(720) / FS, atol=5.1e-5)


@pytest.mark.parametrize("start", [0.0, 12.3456])
def test_time_begins_at_start(start):
    for chart in (plots.strip(ecg(), start=start), plots.saliency(ecg(), ecg(), start=start)):
        assert samples(chart).t.iloc[0] == pytest.approx(start, abs=1e-4)


def test_batch_of_one_and_gap():
    signal = ecg().astype(np.float32)
    signal[10:20] = np.nan
    frame = samples(plots.strip(signal[None]))
    assert frame.mv.isna().sum() == 10


def test_peaks_survive_decimation():
    signal = ecg(600)
    spikes = {1001: 4.0, 77_777: 5.0, 200_003: -4.0}
    for k, mv in spikes.items():
        signal[k] = mv
    frame = samples(plots.strip(signal))
    assert len(frame) <= MAX_POINTS
    assert frame.t.is_monotonic_increasing
    for k, mv in spikes.items():
        assert frame.mv[(frame.t - k / FS).abs().idxmin()] == mv
    assert frame.t.iloc[-1] == pytest.approx((signal.size - 1) / FS, abs=1e-3)


def test_decimate_keeps_extremes_of_every_stretch_and_bears_gaps():
    values = np.random.default_rng(1).normal(size=1000)
    values[100:300] = np.nan
    kept = decimate(values, 100)
    assert len(kept) <= 100
    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0
    assert kept[-1] == 999
    assert np.nanmax(values[kept]) == np.nanmax(values)
    assert np.nanmin(values[kept]) == np.nanmin(values)
    assert np.isnan(values[kept]).any()  # the gap is still one


def test_sizes():
    assert len(plots.strip(ecg(10)).to_json(indent=None)) < 100_000
    assert len(plots.strip(ecg(1800)).to_json(indent=None)) < 200_000
    maps = {name: ecg(10) for name in "abcd"}
    assert len(plots.saliency(ecg(10), maps).to_json(indent=None)) < 200_000
    assert len(plots.class_average(averages(), relevance="rel").to_json(indent=None)) < 200_000
    assert len(plots.mask_history({n: np.arange(9999.0) for n in "abc"}).to_json(indent=None)) < 100_000


def test_beats_and_rhythms_are_cut_to_the_strip():
    chart = plots.strip(
        ecg(),
        start=60.0,
        beats=beats((59.9, "N"), (60.0, "V"), (61.5, "N"), (62.0, "N")),
        rhythms=rhythms((0, 60.5, "(N"), (60.5, 99, "(AFIB\x00"), (99, 120, "(N")),
    )
    assert table(chart, "symbol").to_dict("list") == {"t": [60.0, 61.5], "symbol": ["V", "N"]}
    assert table(chart, "label").to_dict("list") == {"a": [60.0, 60.5], "b": [60.5, 62.0], "label": ["N", "AFIB"]}


def test_letters_that_would_touch_are_left_out_but_for_the_abnormal():
    crowd = beats(*[(t, "N") for t in np.arange(0, 119, 0.7)], (50.0, "V"))
    assert table(plots.strip(ecg(120), beats=crowd), "symbol").symbol.tolist() == ["V"]


def test_calibration_pulse_is_1_mv_for_0_2_s():
    pulse = table(plots.strip(ecg(), start=7.0), "row")
    top = pulse[pulse.mv == 1]
    assert np.ptp(top.t) == pytest.approx(0.2)
    assert pulse.t.max() < 7.0
    assert not any("row" in r[0] for r in plots.strip(ecg(), calibration=False).to_dict()["datasets"].values())


# Relevance


def test_relevance_is_normalised_by_method():
    ramp = np.linspace(-2, 8, 720)
    frame = samples(plots.saliency(ecg(), {"a": ramp, "b": ramp / 100, "zero": np.zeros(720), "minus": ramp - 9}))
    assert frame.r0.max() == 1
    assert frame.r0.min() == -0.25  # the sign stays
    np.testing.assert_allclose(frame.r1, frame.r0)
    assert (frame.r2 == 0).all()
    assert frame.r3.max() == -1  # nowhere positive: as it is


def test_domain_keeps_raw_values_and_sets_the_colours():
    ramp = np.linspace(-2, 8, 720)
    chart = plots.saliency(ecg(), ramp, domain=(0, 4))
    np.testing.assert_allclose(samples(chart).r0, ramp, atol=5.1e-4)
    scales = [d["scale"] for d in walk(chart.to_dict()) if d.get("scale", {}).get("range")]
    assert len(scales) == 2  # ribbon and band
    for scale in scales:
        assert (scale["domain"][0], scale["domain"][-1], scale["clamp"]) == (0, 4, True)
        assert scale["range"] == list(style.RELEVANCE)


def test_peak_of_relevance_survives_decimation():
    relevance = np.zeros(7200)
    relevance[4321] = 3.0
    frame = samples(plots.saliency(np.zeros(7200), relevance))
    assert len(frame) <= 1500
    at = frame.t[frame.r0 == 1]
    assert len(at) == 1
    assert abs(at.iloc[0] - 4321 / FS) < 7200 / FS / 700


def test_first_method_colours_the_ribbon_and_the_others_can_be_chosen():
    params = plots.saliency(ecg(), {"CNN map": ecg(), "LSTM mask": ecg()}).to_dict()["params"]
    (pick,) = [p for p in params if "value" in p]
    assert pick["value"] == "r0"
    assert pick["bind"]["labels"] == ["CNN map", "LSTM mask"]


def test_brackets_share_a_row_unless_they_meet():
    marks = {"P": [(0.1, 0.2)], "QRS": [(0.3, 0.4)], "evidence": [(0.15, 0.35)]}
    chart = plots.saliency(ecg(), ecg(), marks=marks).to_dict()
    rows = [[r["name"] for r in rows] for rows in chart["datasets"].values() if "name" in rows[0]]
    assert sorted(rows) == [["P", "QRS"], ["evidence"]]


def test_cam_steps_carry_edges_and_values():
    bars = table(plots.cam_steps(ecg(), **cam(10.0)), "a", "cam")
    np.testing.assert_allclose(bars.a, 10 + np.arange(48) / 24, atol=1e-4)
    np.testing.assert_allclose(bars.cam, np.sin(np.arange(48) / 8), atol=1e-4)
    frame = samples(plots.cam_steps(ecg(), **cam(10.0)))
    assert frame.step.tolist() == np.repeat(np.arange(48), 15).tolist()
    np.testing.assert_allclose(frame.cam, frame.curve, atol=1e-4)


def test_samples_beyond_the_steps_have_none():
    frame = samples(plots.cam_steps(ecg(), [1.0, 2.0], edges=[0.5, 1.0, 1.5]))
    assert frame.cam[frame.t < 0.499].isna().all()
    assert frame.cam[frame.t > 1.501].isna().all()
    assert frame.cam.notna().sum() == 360


# The other charts


def test_confusion_counts_and_shares():
    chart = plots.confusion([[30, 10, 0], [0, 0, 0], [1, 2, 5]], ["a", "b", "c"])
    frame = table(chart, "annotated").set_index(["annotated", "predicted"])
    assert frame["count"].loc[("a", "b")] == 10
    assert frame["count"].loc[("c", "a")] == 1
    assert frame.share.loc[("a", "a")] == 0.75
    assert frame.share.loc["b"].tolist() == [0, 0, 0]
    axes = {
        c: d["axis"]["title"] for d in walk(chart.to_dict()) for c, d in d.get("encoding", {}).items() if "axis" in d
    }
    assert axes == {"x": "predicted", "y": "annotated"}


def test_votes_are_parts_that_stand_beside_their_sum():
    frame = pd.DataFrame(
        {"class": ["PVC", "N"], "cnn": [2.0, -1.00049], "lstm": [-0.5, 0.25], "bias": [0.1, 0.0],
         "logit": [1.6, -0.75049], "probability": [0.91, 0.09]}
    )  # fmt: skip
    chart = plots.votes(frame, title="Votes", width=300)
    bars = table(chart, "branch", "part")
    assert bars.branch.tolist() == ["cnn"] * 2 + ["lstm"] * 2 + ["bias"] * 2
    assert bars["class"].tolist() == ["PVC", "N"] * 3
    assert bars.part.tolist() == [2.0, -1.0, -0.5, 0.25, 0.1, 0.0]
    assert table(chart, "logit", "cnn").logit.tolist() == [1.6, -0.75]
    spec = chart.to_dict()
    assert (spec["width"], spec["height"], spec["title"]) == (300, 52, "Votes")
    parts, total = spec["layer"]
    assert (parts["mark"]["type"], parts["encoding"]["x"]["field"]) == ("bar", "part")
    assert (total["mark"]["type"], total["encoding"]["x"]["field"]) == ("tick", "logit")
    assert parts["encoding"]["y"]["sort"] == total["encoding"]["y"]["sort"] == ["PVC", "N"]  # as the frame has them
    assert parts["encoding"]["color"]["scale"]["domain"] == ["cnn", "lstm", "bias"]
    assert len(set(parts["encoding"]["color"]["scale"]["range"])) == 3
    with pytest.raises(DataError, match="probability"):
        plots.votes(frame.drop(columns="probability"))


def test_mask_history_values_and_gap_on_log_axis():
    frame = table(plots.mask_history({"a": [1.0, 0.5, 0.25], "b": [0.0, -1.0, 1e-6]}, log=True), "v0")
    assert frame.t.tolist() == [1, 2, 3]
    assert frame.v0.tolist() == [1, 0.5, 0.25]
    assert frame.v1.isna().tolist() == [True, True, False]
    assert frame.v1[2] == 1e-6


def test_bars_keep_counts_and_order_of_classes():
    chart = plots.class_bars(COUNTS, label="cls", value="windows", group="record")
    assert table(chart, "group").value.tolist() == [7, 123456, 5]
    totals = next(rows for rows in chart.to_dict()["datasets"].values() if "group" not in rows[0])
    assert {r["label"]: r["value"] for r in totals} == {"N": 123461, "PVC": 7}
    assert chart.to_dict()["layer"][0]["encoding"]["y"]["sort"] == ["N", "PVC"]


def test_intervals_keep_tiny_values():
    tiny = pd.DataFrame({"m": ["a"], "v": [2e-7], "l": [1e-7], "h": [3e-7]})
    row = table(plots.intervals(tiny, value="v", low="l", high="h", label="m"), "low").iloc[0]
    assert (row.low, row.value, row.high) == (1e-7, 2e-7, 3e-7)


def test_averages_are_normalised_by_class_and_square():
    chart = plots.class_average(averages(), relevance="rel").to_dict()
    frame = pd.DataFrame(next(rows for rows in chart["datasets"].values() if "relevance" in rows[0]))
    assert frame.groupby("label").relevance.max().round(3).tolist() == [1.0] * 8
    view = next(v for v in walk(chart) if "layer" in v)
    axes = [layer["encoding"] for layer in view["layer"]]
    (x0, x1), (y0, y1) = (next(e[c]["scale"]["domain"] for e in axes if "scale" in e.get(c, {})) for c in "xy")
    assert 0.2 * view["width"] / (x1 - x0) == pytest.approx(0.5 * view["height"] / (y1 - y0), rel=0.02)


# Every kind


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_described_small_and_draws(kind):
    chart = spec(kind)
    assert len(chart["description"]) > 10
    assert all(len(rows) < 5000 for rows in chart["datasets"].values())
    svg = vl_convert.vegalite_to_svg(chart)
    assert svg.count("<path") > 2
    assert "NaN" not in svg
    assert "undefined" not in svg
    width, height = (float(v) for v in re.search(r'width="([\d.]+)" height="([\d.]+)"', svg).groups())
    assert width < 740  # the book's column
    assert height < 800
    assert vl_convert.vegalite_to_vega(chart)["background"] == "white"


@pytest.mark.parametrize("kind", ["strip", "saliency", "cam_steps"])
def test_axes_and_tooltips_have_units(kind):
    dictionaries = list(walk(spec(kind)))
    titles = {d["axis"].get("title") for d in dictionaries if isinstance(d.get("axis"), dict)}
    assert {"time (s)", "mV"} <= titles
    tips = [
        [t["title"] for t in d["tooltip"] if "title" in t] for d in dictionaries if isinstance(d.get("tooltip"), list)
    ]
    assert any(t[:2] == ["time (s)", "mV"] for t in tips)


def test_description_and_title_are_the_callers():
    chart = plots.strip(ecg(), title="Record 100", description="Two normal beats.").to_dict()
    assert (chart["title"], chart["description"]) == ("Record 100", "Two normal beats.")


def test_numpy_scalars_do_not_leak_into_expressions():
    for chart in (plots.strip(ecg(), start=np.float64(10)), plots.cam_steps(ecg(), **cam(np.float32(10)))):
        assert "np." not in chart.to_json()
    svg = vl_convert.vegalite_to_svg(plots.strip(ecg(), start=np.float64(10)).to_dict())
    assert re.findall(r">(1\d\.\d)<", svg) == [f"{10 + k / 5:.1f}" for k in range(11)]  # both ends are numbered


def test_charts_can_stand_side_by_side():
    one, two = plots.strip(ecg()), plots.saliency(ecg(), ecg())
    both = (one & plots.strip(ecg()) & two).to_dict()
    names = [p["name"] for p in both["params"]]
    assert len(names) == len(set(names)) == 7
    assert vl_convert.vegalite_to_svg(both)


# Errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.strip(np.zeros((2, 720))), r"signal: expected .*\(T,\), received \(2, 720\)"),
        (lambda: plots.strip([]), r"received \(0,\)"),
        (lambda: plots.strip(np.full(720, np.nan)), "received 720 samples that are all NaN"),
        (lambda: plots.strip(np.linspace(0, 2048, 720)), "expected mV"),
        (lambda: plots.strips([]), "received none"),
        (lambda: plots.strips([(np.zeros((2, 9)), "bad")]), r"signal 0 \(bad\)"),
        (lambda: plots.saliency(ecg(), np.ones(48)), r"relevance 'relevance': expected .*\(720,\), received \(48,\)"),
        (lambda: plots.saliency(ecg(), {"m": np.full(720, np.nan)}), "relevance 'm': expected finite"),
        (lambda: plots.saliency(ecg(), {}), "at least one method"),
        (lambda: plots.saliency(ecg(), ecg(), domain=(1, 0)), r"received .*\(1, 0\)"),
        (lambda: plots.saliency(ecg(), ecg(), marks={"P": [(0.3, 0.2)]}), r"marks 'P': .*\(0.3, 0.2\)"),
        (
            lambda: plots.cam_steps(ecg(), np.ones(48), edges=np.arange(48)),
            r"edges: expected .*\(49,\), received \(48,\)",
        ),
        (lambda: plots.cam_steps(ecg(), np.ones(2), edges=[0, 2, 1]), "edges: expected increasing"),
        (lambda: plots.mask_history({"a": [1, 2], "b": [1]}), r"history 'b': expected .*\(2,\), received \(1,\)"),
        (lambda: plots.mask_history({}), "at least one term"),
        (lambda: plots.confusion([[1, 2]], ["a", "b"]), r"expected shape \(2, 2\).*received \(1, 2\)"),
        (lambda: plots.confusion([[1, -2], [0, 0]], ["a", "b"]), "at least 0"),
        (lambda: plots.class_bars(COUNTS, label="class", value="windows"), r"none called \['class'\]"),
        (lambda: plots.class_bars(COUNTS, label="windows", value="cls"), "finite numbers in 'cls'"),
        (lambda: plots.intervals(SCORES, value="f1", low="hi", high="lo", label="cls"), "received 4 rows"),
    ],
)
def test_errors_say_what_was_expected_and_received(call, message):
    with pytest.raises(DataError, match=message):
        call()


# Colours and theme


def linear(colour):
    c = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
# Machado, Oliveira & Fernandes, IEEE TVCG 15(6):1291-1298, 2009, severity 1: protan, deutan, tritan
SIGHTS = [
    np.eye(3),
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
]


def lab(colour, sight):
    xyz = TO_XYZ @ np.clip(np.asarray(sight) @ linear(colour), 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one, two):
    light, dark = sorted(((TO_XYZ @ linear(c))[1] + 0.05 for c in (one, two)), reverse=True)
    return light / dark


def test_class_colours_are_told_apart_by_every_sight():
    assert tuple(plots.CLASS_COLOURS) == CLASSES
    for one, two in itertools.combinations(plots.CLASS_COLOURS.values(), 2):
        assert min(np.linalg.norm(lab(one, s) - lab(two, s)) for s in SIGHTS) >= 24, (one, two)


def test_contrast_on_paper():
    assert all(contrast(c, "#ffffff") >= 3 for c in plots.CLASS_COLOURS.values())
    assert contrast(style.MUTED, "#ffffff") >= 7
    assert contrast(style.INK, style.RELEVANCE[-1]) >= 3  # the trace on the darkest ribbon


def in_the_dark(colour, opacity=1.0):
    """A colour over the paper as the stylesheet of the book shows it in dark mode."""
    css = (ROOT / "book" / "_static" / "book.css").read_text()
    colour = dict(re.findall(r'svg\.marks \[(?:fill|stroke)="(#\w+)"\] { (?:fill|stroke): (#\w+); }', css)).get(
        colour, colour
    )
    invert, turn = re.search(r"filter: invert\(([\d.]+)\) hue-rotate\((\d+)deg\)", css).groups()
    # Filter Effects Module Level 1, W3C 2018, sections 6.5 and 9.6
    cos, sin = np.cos(np.radians(float(turn))), np.sin(np.radians(float(turn)))
    grey = np.array([[0.213, 0.715, 0.072]] * 3)
    across = np.array([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])
    rgb = opacity * np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255 + (1 - opacity)
    shown = (grey + cos * (np.eye(3) - grey) + sin * across) @ (float(invert) + rgb * (1 - 2 * float(invert)))
    return "#" + "".join(f"{round(255 * v):02x}" for v in np.clip(shown, 0, 1))


def test_colours_hold_in_the_dark():
    assert in_the_dark("#ffffff") == "#121212"  # the ground of the page
    shown = [in_the_dark(c) for c in plots.CLASS_COLOURS.values()]
    assert all(contrast(c, "#121212") >= 3 for c in shown)
    apart = [np.linalg.norm(lab(a, s) - lab(b, s)) for a, b in itertools.combinations(shown, 2) for s in SIGHTS]
    assert min(apart) >= 19
    assert contrast(in_the_dark(style.MUTED), "#121212") >= 7
    ribbon = [in_the_dark(c, opacity=0.8) for c in style.RELEVANCE]
    assert (np.diff([lab(c, np.eye(3))[0] for c in ribbon]) > 4).all()
    assert contrast(in_the_dark(style.INK), ribbon[-1]) >= 3


def test_relevance_darkens_evenly():
    lightness = [lab(c, np.eye(3))[0] for c in style.RELEVANCE]
    assert (np.diff(lightness) < -5).all()


def test_theme_acts_only_when_called():
    before = alt.theme.active
    with plots.use_theme():
        assert alt.theme.active == "ecglib"
        assert plots.strip(ecg()).to_dict()["config"]["axis"]["labelFontSize"] == 13
    assert alt.theme.active == before
    assert "font" not in plots.strip(ecg()).to_dict().get("config", {})


# In a browser


@pytest.mark.browser
def test_zoom_and_hover_in_a_browser(tmp_path, browser):
    page_file = tmp_path / "strip.html"
    plots.strip(ecg(), start=10.0).save(page_file, inline=True, embed_options={"renderer": "svg"})
    with browser.new_page(viewport={"width": 760, "height": 500}) as page:
        page.goto(page_file.as_uri())
        page.wait_for_selector("svg")

        def labels():
            return [
                float(t) for t in page.locator("svg .role-axis-label text").all_text_contents() if re.match(r"1\d\.", t)
            ]

        first = labels()
        assert first[0] == 10.0
        page.mouse.move(400, 150)
        page.mouse.move(402, 151)
        page.wait_for_selector("#vg-tooltip-element.visible")
        assert re.search(r"time \(s\)\s*1\d\.\d{3}\s*mV", page.locator("#vg-tooltip-element").inner_text())
        page.mouse.wheel(0, -400)
        page.wait_for_timeout(150)
        assert labels() == first  # plain scrolling stays with the page
        page.keyboard.down("Control")
        for _ in range(4):
            page.mouse.wheel(0, -400)
            page.wait_for_timeout(50)
        page.wait_for_timeout(150)
        assert 0 < np.ptp(labels()) < np.ptp(first) / 3
