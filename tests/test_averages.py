"""Averages stand on the R peak and count patients, not windows."""

from __future__ import annotations

import numpy as np
import pytest

from ecglib import CLASSES, FS
from ecglib.averages import aligned, beats, by_class, deflection, percentiles, relative
from ecglib.errors import DataError
from ecglib.windows import WindowSet

FIELDS = "y record database time anchor".split()


def spiked(make_windows, peaks, *, record=None, label=None, height=1.0):
    """Windows whose values are 0 but for the R peak, and 0.5 three samples after it."""
    n = len(peaks)
    values = np.zeros((n, 720))
    values[np.arange(n), peaks] = height
    values[np.arange(n), np.minimum(np.array(peaks) + 3, 719)] = 0.5 * np.asarray(height)
    time = 30.0 + np.arange(n) / FS
    anchor = time - 1 + np.asarray(peaks) / FS
    return make_windows(record or ["100"] * n, label or ["N"] * n, time, anchor=anchor), values


def test_aligned_puts_the_peak_in_the_middle(make_windows):
    peaks = [180, 181, 299, 360, 400, 539]
    windows, values = spiked(make_windows, peaks)
    around = aligned(windows, values)
    assert around.shape == (6, 361)
    assert (around[:, 180] == 1).all()
    assert (around[:, 183] == 0.5).all()
    np.testing.assert_array_equal(around.sum(1), 1.5)


def test_aligned_takes_the_right_samples(make_windows):
    windows, _ = spiked(make_windows, [180, 300, 539])
    place = np.tile(np.arange(720.0), (3, 1))
    around = aligned(windows, place)
    np.testing.assert_array_equal(around[:, 0], [0, 120, 359])
    np.testing.assert_array_equal(around[:, -1], [360, 480, 719])
    # a peak at 1.5 s is the last that the clean rule allows: its last sample lies just past the window
    last, _ = spiked(make_windows, [540])
    np.testing.assert_array_equal(aligned(last, place[:1])[0, -3:], [718, 719, 719])


def test_every_clean_window_can_be_aligned(phantom_clean):
    around = aligned(phantom_clean, phantom_clean.x[:, 0])
    assert around.shape == (len(phantom_clean), 361)
    # the R peak is the largest deflection of a normal beat
    normal = around[phantom_clean.y == 0]
    top = np.abs(normal - np.median(normal, axis=1, keepdims=True))[:, 100:261].argmax(1)
    assert np.mean(np.abs(top - 80) <= 3) > 0.9


@pytest.mark.parametrize("peak", [0, 179, 541, 719])
def test_aligned_refuses_a_peak_near_an_end(make_windows, one_line, peak):
    windows, values = spiked(make_windows, [360, peak])
    with pytest.raises(DataError) as caught:
        aligned(windows, values)
    one_line(caught, "0.5 s", "'clean'")


@pytest.mark.parametrize("shape", [(1, 720), (3, 720), (2, 719), (2, 1, 720), (720,)])
def test_aligned_refuses_other_shapes(make_windows, one_line, shape):
    windows, _ = spiked(make_windows, [360, 360])
    with pytest.raises(DataError) as caught:
        aligned(windows, np.zeros(shape))
    one_line(caught, "(2, 720)", str(shape))


def test_relative():
    relevance = np.array([[1.0, 3.0, 0.0, -8.0], [2.0, 2.0, 2.0, 2.0], [0.0, -1.0, 0.0, -2.0]])
    np.testing.assert_allclose(relative(relevance), [[1, 3, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]])
    np.testing.assert_allclose(relative(1e-6 * relevance), relative(relevance))
    assert relevance[0, 3] == -8


def test_beats_have_no_offset_and_stay_in_mv():
    x = np.random.default_rng(0).standard_normal((3, 1, 720)).astype(np.float32)
    out = beats(x + np.array([[[5.0]], [[-4.0]], [[0.0]]], np.float32))
    assert out.shape == (3, 720)
    np.testing.assert_allclose(np.median(out, axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(out, x[:, 0] - np.median(x[:, 0], axis=1)[:, None], atol=2e-6)
    assert (beats(np.full((1, 1, 720), 3.0, np.float32)) == 0).all()


def test_patients_weigh_equally(make_windows):
    record = ["100"] * 9 + ["101"] * 3 + ["201", "202"]  # the last two are one man
    height = np.array([1.0] * 9 + [4.0] * 3 + [6.0, 8.0])
    windows, values = spiked(make_windows, [200 + 20 * k for k in range(14)], record=record, height=height)
    table = by_class(windows, values)
    assert table["label"].unique().tolist() == ["N"]
    assert set(table["patients"]) == {3}
    peak = table[table["time"].abs() < 1e-9].iloc[0]
    assert peak["mean"] == pytest.approx((1 + 4 + 7) / 3)  # not (9 + 12 + 14) / 14
    spread = np.std([1, 4, 7])
    assert (peak["low"], peak["high"]) == pytest.approx((4 - spread, 4 + spread))
    assert table["mean"].sum() == pytest.approx(1.5 * 4)


def test_time_of_an_average(make_windows):
    windows, values = spiked(make_windows, [250, 470])
    table = by_class(windows, values)
    assert len(table) == 361
    assert (table["time"].min(), table["time"].max()) == (-0.5, 0.5)
    assert table.loc[table["mean"].idxmax(), "time"] == pytest.approx(0)
    assert table.loc[table["mean"] == 0.5, "time"].tolist() == pytest.approx([3 / 360])


def test_classes_apart_and_in_order(make_windows):
    label = ["RBBB", "N", "PVC", "PVC", "N", "AFIB"]
    record = ["100", "101", "102", "103", "104", "105"]
    height = [7.0, 1.0, 2.0, 4.0, 3.0, 9.0]
    windows, values = spiked(make_windows, [300] * 6, record=record, label=label, height=height)
    table = by_class(windows, values)
    top = table.groupby("label", sort=False)["mean"].max()
    assert top.to_dict() == {"N": 2, "PVC": 3, "AFIB": 9, "RBBB": 7}
    assert [c for c in CLASSES if c in top.index] == top.index.tolist()
    pairs = by_class(windows, values, least_patients=2)
    assert pairs["label"].unique().tolist() == ["N", "PVC"]


def test_too_few_patients(make_windows, one_line):
    windows, values = spiked(make_windows, [300, 300])
    with pytest.raises(DataError) as caught:
        by_class(windows, values, least_patients=2)
    one_line(caught, "no class has windows of 2 patients")
    with pytest.raises(DataError):
        by_class(windows[:0], values[:0])


def test_deflection_has_the_sign_of_the_beat(make_windows):
    windows, values = spiked(make_windows, [200, 300, 400], height=np.array([1.5, -2.0, 0.1]))
    values[0, 236 + 1] = 9.0  # more than 0.1 s from the peak
    values[2, 364] = -0.3  # the last sample that counts
    signal = WindowSet(values[:, None].astype(np.float32) + 4, *(getattr(windows, f) for f in FIELDS))
    np.testing.assert_allclose(deflection(signal), [1.5, -2.0, -0.3], atol=1e-6)


def test_percentiles_count_patients_once(make_windows):
    record = ["100"] * 8 + ["101"] * 2
    height = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 100, 200])
    windows, values = spiked(make_windows, [200 + 20 * k for k in range(10)], record=record, height=height)
    table = percentiles(windows, values)
    peak = table[table["time"].abs() < 1e-9].iloc[0]
    # each of the first eight windows has 1/16 of the weight, each of the last two a quarter
    assert (peak["low"], peak["median"], peak["high"]) == (1, 8, 200)
    assert peak["mean"] == pytest.approx((4.5 + 150) / 2)
    assert (peak["windows"], peak["patients"]) == (10, 2)
    beside = table[np.isclose(table["time"], 3 / FS)].iloc[0]
    assert (beside["low"], beside["median"], beside["high"]) == (0.5, 4, 100)
    assert len(table) == 361


def test_percentiles_against_repeated_windows(make_windows):
    """A patient with three windows and one with two weigh as if each window stood there twice and three times."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 720))
    windows = make_windows(["100"] * 3 + ["101"] * 2, ["PVC"] * 5, [30.0] * 5)
    table = percentiles(windows, values)
    plain = aligned(windows, values)[[0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4]]
    for column, q in (("low", 0.05), ("median", 0.5), ("high", 0.95)):
        np.testing.assert_array_equal(table[column], np.quantile(plain, q, axis=0, method="inverted_cdf"))
    np.testing.assert_allclose(table["mean"], plain.mean(0))
    np.testing.assert_allclose(table["mean"], by_class(windows, values)["mean"])


def test_percentiles_by_class_in_order(make_windows, one_line):
    windows, values = spiked(
        make_windows, [300] * 4, record=["100", "101", "102", "103"], label=["RBBB", "N", "N", "AFIB"]
    )
    assert percentiles(windows, values)["label"].unique().tolist() == ["N", "AFIB", "RBBB"]
    assert percentiles(windows, values, least_patients=2)["label"].unique().tolist() == ["N"]
    with pytest.raises(DataError) as caught:
        percentiles(windows, values, least_patients=3)
    one_line(caught, "no class has windows of 3 patients")
