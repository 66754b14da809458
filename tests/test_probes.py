"""Probes see the one cue that they are meant to see: planted cues are found, traits of a patient do not help."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_score

from ecglib.errors import DataError
from ecglib.probes import position_probe, spectrum, spectrum_probe

T = np.arange(720) / 360


def sine(hz, amplitude=1.0):
    return amplitude * np.sin(2 * np.pi * hz * T + 0.3)


def shares(x, **options):
    edges, found = spectrum(np.asarray(x, np.float32)[:, None], **options)
    return edges, 10**found


# Spectra --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("band_hz", [2.5, 5.0, 10.0])
def test_a_sine_lies_in_its_band(band_hz):
    n = int(180 / band_hz)
    edges, found = shares([sine((k + 0.5) * band_hz) for k in range(n)], band_hz=band_hz)
    np.testing.assert_allclose(edges, np.arange(n) * band_hz)
    np.testing.assert_allclose(found, np.eye(n), atol=0.02 if band_hz == 2.5 else 1e-4)  # the window leaks half a hertz


def test_shares_are_of_power_and_sum_to_one():
    _, found = shares([sine(12, 2.0) + sine(61, 1.0), sine(12, 0.02) + sine(61, 0.01)])
    np.testing.assert_allclose(found[:, [2, 12]], [[0.8, 0.2]] * 2, atol=1e-4)  # of the amplitudes' squares
    noise = np.random.default_rng(0).normal(size=(20, 720))
    for options in ({}, {"band_hz": 2.5}, {"below": 40.0}):
        np.testing.assert_allclose(shares(noise, **options)[1].sum(1), 1, atol=1e-5)


def test_the_offset_of_a_window_is_no_power():
    noise = np.random.default_rng(1).normal(size=(5, 720))
    np.testing.assert_allclose(shares(noise + 3.0)[1], shares(noise)[1], atol=1e-5)


def test_what_lies_above_is_not_seen_at_all():
    """Neither its shape nor how much it is: the shares are of what is left."""
    edges, found = shares([sine(12) + sine(100, hum) for hum in (0.0, 0.3, 5.0)], below=40.0)
    np.testing.assert_allclose(edges, np.arange(8) * 5.0)
    np.testing.assert_allclose(found, np.eye(8)[[2, 2, 2]], atol=1e-4)


def test_a_flat_window_has_no_spectrum():
    _, found = spectrum(np.full((2, 1, 720), [[[0.0]], [[1.5]]], np.float32))
    assert (found[0] == -12).all()
    assert np.isfinite(found).all()


# Which recorder it was ------------------------------------------------------------------------------------------


def two_recorders(make_windows, *, people=10, each=30, seed=0):
    """Noise of ``people`` patients in either of two databases, interleaved."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(2 * people), each)
    names = np.array(["mitdb", "ltafdb"])[who % 2]
    windows = make_windows([f"p{k}" for k in who], rng.integers(0, 8, len(who)), np.arange(len(who)), database=names)
    return replace(windows, x=rng.normal(0, 0.1, (len(who), 1, 720)).astype(np.float32)), who


def test_a_planted_recorder_is_found_and_without_one_there_is_chance(make_windows):
    windows, who = two_recorders(make_windows)
    found, names = spectrum_probe(windows)
    assert names == ("ltafdb", "mitdb")
    assert found.intervals["accuracy"][0] <= 0.5 <= found.intervals["accuracy"][1]
    hum = np.where(who % 2, 0.0, 0.1)[:, None, None] * sine(61)
    planted = replace(windows, x=(windows.x + hum).astype(np.float32))
    found, _ = spectrum_probe(planted)
    assert found.accuracy > 0.97
    assert found.intervals["accuracy"][0] > 0.9
    # the cue lies above 40 Hz, where the probe does not look, nor does it see that it took a share of the power
    found, _ = spectrum_probe(planted, below=40.0)
    low, high = found.intervals["accuracy"]
    assert low <= 0.5 <= high


def test_a_trait_of_patients_does_not_help(make_windows):
    """Each has a tone of his own: windows at random are told by it, patients that the probe has not seen are not."""
    windows, who = two_recorders(make_windows)
    tones = np.stack([sine(5 * k + 2.5, 0.1) for k in np.random.default_rng(3).permutation(36)[:20]])
    windows = replace(windows, x=(windows.x + tones[who][:, None]).astype(np.float32))
    at_random = KFold(4, shuffle=True, random_state=0)
    by_window = cross_val_score(LogisticRegression(max_iter=1000), spectrum(windows.x)[1], who % 2, cv=at_random)
    assert by_window.mean() > 0.9
    found, _ = spectrum_probe(windows)
    low, high = found.intervals["accuracy"]
    assert low <= 0.5 <= high


def test_databases_count_alike_and_their_patients_take_turns(make_windows):
    windows, who = two_recorders(make_windows, people=6)
    fewer = windows[(who % 2 == 1) | (who < 6)]  # 180 windows of LTAFDB, 90 of MITDB
    found, names = spectrum_probe(fewer)
    assert names == ("ltafdb", "mitdb")
    assert found.per_class.support.tolist() == [90, 90]
    assert found.confusion.sum() == 180
    assert found.n_groups == 9
    found, _ = spectrum_probe(fewer, per_database=24)
    assert found.per_class.support.tolist() == [24, 24]
    assert found.n_groups == 9  # every patient still has some


def test_scores_hang_on_the_seed_alone(make_windows):
    windows, _ = two_recorders(make_windows)
    one, again, other = (spectrum_probe(windows, per_database=100, seed=s)[0] for s in (0, 0, 1))
    assert (one.confusion == again.confusion).all()
    assert one.intervals == again.intervals
    assert (one.confusion != other.confusion).any()


def test_one_recorder_cannot_be_told_from_itself(make_windows, one_line):
    windows, who = two_recorders(make_windows)
    with pytest.raises(DataError) as caught:
        spectrum_probe(windows[who % 2 == 0])
    one_line(caught, "tells databases apart", "all from mitdb")
    with pytest.raises(DataError) as caught:
        spectrum_probe(windows[:0])
    one_line(caught, "all from none")


# Where the peak stands ------------------------------------------------------------------------------------------


def test_a_place_that_is_a_patients_own_does_not_help(make_windows):
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(24), 20)
    place = 0.6 + 0.035 * rng.permutation(24)[who] + rng.uniform(-0.005, 0.005, len(who))
    windows = make_windows([f"p{k}" for k in who], who % 2, np.full(len(who), 30.0), anchor=29 + place)
    found, chance = position_probe(windows)
    low, high = found.intervals["accuracy"]
    assert chance == 0.5
    assert low <= 0.5 <= high


def test_classes_of_one_patient_are_left_out_and_the_others_count_alike(make_windows):
    record = ["a"] * 30 + ["b"] * 10 + ["a"] * 8 + ["b"] * 4 + ["c"] * 50
    windows = make_windows(record, ["N"] * 40 + ["AFIB"] * 12 + ["SBR"] * 50, np.full(102, 30.0))
    found, chance = position_probe(windows, folds=2)
    assert chance == 0.5  # SBR is of one patient
    assert found.per_class.support[["N", "AFIB", "SBR"]].tolist() == [12, 12, 0]
    assert found.n_groups == 2
    found, _ = position_probe(windows, per_class=6, folds=2)
    assert found.per_class.support[["N", "AFIB"]].tolist() == [6, 6]


def test_two_classes_are_scored_by_their_names(make_windows):
    windows, _ = two_recorders(make_windows)
    y = np.arange(len(windows)) % 2
    anchor = windows.time - 0.3 + 0.6 * y  # the place tells the class
    found, chance = position_probe(replace(windows, y=y, anchor=anchor, classes=("V", "S")))
    assert (found.accuracy, found.macro_f1, chance) == (1, 1, 0.5)
    assert found.per_class.index.tolist() == ["V", "S"]
    three = np.array(["mitdb", "ltafdb", "ltdb"])[np.arange(len(windows)) % 3]
    assert spectrum_probe(replace(windows, y=y, database=three, classes=("V", "S")))[1] == ("ltafdb", "ltdb", "mitdb")
    told, _ = spectrum_probe(replace(windows, y=y, database=three, classes=("V", "S")))
    assert (told.confusion.sum(1) > 0).tolist() == [True] * 3  # all three databases were drawn
