"""Each cue against a slow count, on planted windows, and as the committed reference run found it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ecglib import CLASSES, cues
from ecglib.errors import DataError
from ecglib.networks import results
from ecglib.windowset import concat

T = np.arange(720) / 360

# What a random split shares -------------------------------------------------------------------------------------


@pytest.fixture
def parts(monkeypatch):
    """What `overlap` split, and how."""
    seen, split = [], cues.split

    def spy(windows, **options):
        found = split(windows, **options)
        seen.append((windows, found[0]))
        assert options["level"] == "window"
        return found

    monkeypatch.setattr(cues, "split", spy)
    return seen


def random_windows(make_windows, *, n=400, seconds=90, seed=0):
    rng = np.random.default_rng(seed)
    record = rng.choice(["100", "101", "201", "202", "lone"], n, p=[0.4, 0.3, 0.15, 0.14, 0.01])
    label = rng.choice(["N", "PVC", "LBBB"], n, p=[0.6, 0.3, 0.1])
    database = np.where(rng.random(n) < 0.8, "mitdb", "ltafdb")  # both have a record 100
    return make_windows(record, label, np.round(rng.uniform(1, seconds, n) * 360) / 360, database=database)


def slow_overlap(windows, part):
    """Rows by class: samples as sets, patients as sets."""
    samples = [
        {(d, r, k) for k in range(round((t - 1) * 360), round((t + 1) * 360))}
        for d, r, t in zip(windows.database, windows.record, windows.time, strict=True)
    ]
    man = {"202": "201"}
    people = [(d, man.get(r, r) if d == "mitdb" else r) for d, r in zip(windows.database, windows.record, strict=True)]
    seen = set().union(*(samples[i] for i in part.train))
    known = {people[i] for i in part.train}
    rows = {}
    for c in CLASSES:
        own = [i for i in part.test if CLASSES[windows.y[i]] == c]
        if own:
            shared = [len(samples[i] & seen) / 720 for i in own]
            strange = [people[i] not in known for i in own]
            rows[c] = [np.mean(shared), np.mean([s == 0 for s in shared]), np.mean(strange), len(own)]
    return rows


def test_overlap_is_the_slow_count(make_windows, parts):
    windows = random_windows(make_windows)
    found = cues.overlap(windows, per_class=25)
    assert found.columns.tolist() == ["drawn", "class", "shared", "untouched", "stranger", "windows"]
    assert list(dict.fromkeys(found.drawn)) == ["all windows", "25 a class"]
    assert len(parts) == 2
    for (drawn, rows), (chosen, part) in zip(found.groupby("drawn", sort=False), parts, strict=True):
        slow = slow_overlap(chosen, part)
        assert rows["class"].tolist() == list(slow), drawn
        np.testing.assert_allclose(
            rows[["shared", "untouched", "stranger", "windows"]], list(slow.values()), atol=1e-12
        )
    assert len(parts[0][0]) == 400
    assert parts[1][0].counts()[["N", "PVC", "LBBB"]].tolist() == [25, 25, 25]
    places = [{*zip(w.database, w.record, w.time, w.y, strict=True)} for w, _ in parts]
    assert places[1] < places[0]
    assert found.shared.between(0.02, 0.98).all()
    assert found.untouched.between(0, 1).all()


def test_overlap_draws_windows_not_patients(make_windows, parts):
    """As ECGNet's code does: who has more windows is drawn more often."""
    windows = make_windows(["100"] * 900 + ["101"] * 100, ["N"] * 1000, np.arange(1000.0) + 5)
    cues.overlap(windows, per_class=200)
    assert 150 < (parts[1][0].record == "100").sum() < 198


def test_overlap_at_its_ends(make_windows):
    """Far apart; on top of each other; a patient a window."""
    apart = make_windows(["100"] * 50, ["N"] * 50, np.arange(50) * 2.0 + 5)
    assert cues.overlap(apart)[["shared", "untouched", "stranger"]].to_numpy().tolist() == [[0, 1, 0]] * 2
    alike = make_windows(["100"] * 50, ["N"] * 50, np.full(50, 5.0))
    assert cues.overlap(alike)[["shared", "untouched", "stranger"]].to_numpy().tolist() == [[1, 0, 0]] * 2
    strangers = make_windows([f"{k}" for k in range(50)], ["N"] * 50, np.full(50, 5.0))
    assert cues.overlap(strangers)[["shared", "untouched", "stranger"]].to_numpy().tolist() == [[0, 1, 1]] * 2


def test_published_windows(make_windows, monkeypatch):
    """All of MITDB and LTDB; of LTAFDB all but N, of which as many are drawn as the deck counts."""
    n = 40
    sets = {
        "mitdb": make_windows(["100"] * 3, ["N", "LBBB", "SVTA"], [5.0, 6.0, 7.0]),
        "ltdb": make_windows(["14046"] * 2, ["N", "PVC"], [5.0, 6.0], database="ltdb"),
        "ltafdb": make_windows(
            ["06"] * n, ["N", "SBR", "N", "PAC", "N"] * 8, np.arange(float(n)) + 9, database="ltafdb"
        ),
    }
    asked = []

    def labels(name, *, rule, root):
        asked.append((name, rule, root))
        return sets[name]

    monkeypatch.setattr(cues, "labels", labels)
    monkeypatch.setattr(cues, "_LTAFDB_N", 10)
    found = cues.published("somewhere", seed=1)
    assert sorted(asked) == [(d, "deck", "somewhere") for d in ("ltafdb", "ltdb", "mitdb")]
    assert found.counts().to_dict() == {
        "N": 12,
        "PVC": 1,
        "PAC": 8,
        "AFIB": 0,
        "SVTA": 1,
        "SBR": 8,
        "LBBB": 1,
        "RBBB": 0,
    }
    af = found[found.database == "ltafdb"]
    assert len(set(af.time)) == len(af) == 26
    assert (np.diff(af.time) > 0).all()
    whole = dict(zip(sets["ltafdb"].time, sets["ltafdb"].y, strict=True))
    assert all(whole[t] == y for t, y in zip(af.time, af.y, strict=True))
    assert not np.array_equal(af.time, cues.published("somewhere", seed=2).time[-26:])
    monkeypatch.setattr(cues, "_LTAFDB_N", 24)
    assert len(cues.published("somewhere")) == 45  # no more than there are


# Where the peak stands ------------------------------------------------------------------------------------------


def planted(make_windows, place_of):
    rng = np.random.default_rng(0)
    y = np.tile(np.arange(8), 100)
    who = rng.integers(0, 10, 800)
    place = np.array([place_of(c) for c in y]) + rng.uniform(-0.01, 0.01, 800)
    return make_windows([f"p{k}" for k in who], y, np.full(800, 30.0), anchor=29 + place)


def test_position_tells_beats_from_rhythms_and_no_more(make_windows):
    rhythms = {CLASSES.index(c) for c in ("AFIB", "SVTA", "SBR")}
    classes, families = cues.position(planted(make_windows, lambda c: 1.3 if c in rhythms else 1.0), rule="deck")
    assert list(classes) == ["rule", "of", "accuracy", "low", "high", "chance"]
    assert (classes["rule"], classes["of"], classes["chance"]) == ("deck", "eight classes", 0.125)
    assert (families["of"], families["chance"]) == ("beats or rhythms", 0.5)
    assert (families["accuracy"], families["low"], families["high"]) == (1, 1, 1)
    assert classes["accuracy"] == pytest.approx(0.25, abs=0.06)  # one right among five, one among three
    assert classes["low"] <= classes["accuracy"] <= classes["high"]


def test_position_that_is_the_same_everywhere_tells_nothing(make_windows):
    for row in cues.position(planted(make_windows, lambda c: 1.0), rule="clean"):
        assert row["rule"] == "clean"
        assert row["low"] - 0.02 <= row["chance"] <= row["high"] + 0.02


def test_position_that_names_each_class(make_windows):
    classes, families = cues.position(planted(make_windows, lambda c: 0.6 + 0.1 * c), rule="deck")
    assert families["accuracy"] == 1
    assert (
        classes["low"] > 0.6
    )  # a tree of four levels need not find all eight: every first split is as good as another


# Averages and spectra -------------------------------------------------------------------------------------------


def few_windows(make_windows):
    """Of N three windows of one patient and one of another; of SBR two of one; random signals with an offset."""
    rng = np.random.default_rng(2)
    windows = make_windows(["201", "202", "201", "100", "100", "100"], ["N"] * 4 + ["SBR"] * 2, np.arange(6) * 10.0 + 5)
    windows = replace(windows, database=np.array(["mitdb"] * 4 + ["ltafdb"] * 2))
    x = rng.normal(size=(6, 1, 720)) + rng.normal(size=(6, 1, 1))
    return replace(windows, x=x.astype(np.float32))


def test_average_windows_count_patients_once(make_windows):
    windows = few_windows(make_windows)
    found = cues.average_window(windows)
    assert found.columns.tolist() == ["label", "time", "mean", "low", "high", "patients"]
    assert found.groupby("label", sort=False).size().to_dict() == {"N": 360, "SBR": 360}
    x = [w - np.median(w) for w in windows.x[:, 0].astype(float)]
    one, other = (x[0] + x[1] + x[2]) / 3, x[3]  # 201 and 202 are one man
    n, sbr = found[found.label == "N"], found[found.label == "SBR"]
    np.testing.assert_allclose(n.time, np.arange(360) / 180 - 1)
    assert n.time.iloc[180] == 0
    np.testing.assert_allclose(n["mean"], (one + other)[::2] / 2, atol=1e-5)
    half = np.abs(one - other)[::2] / 2  # the standard deviation of two values
    np.testing.assert_allclose(n.high - n["mean"], half, atol=1e-5)
    np.testing.assert_allclose(n["mean"] - n.low, half, atol=1e-5)
    assert set(n.patients) == {2}
    np.testing.assert_allclose(sbr["mean"], (x[4] + x[5])[::2] / 2, atol=1e-5)
    np.testing.assert_allclose(sbr.low, sbr.high, atol=1e-6)
    assert set(sbr.patients) == {1}


def test_spectra_are_medians_of_patients(make_windows):
    rng = np.random.default_rng(4)
    record = [f"{k}" for k in rng.integers(100, 108, 60)]
    database = np.where(np.arange(60) % 3 == 0, "ltdb", "mitdb")
    windows = make_windows(record, ["N"] * 60, np.arange(60) * 9.0, database=database)
    x = rng.normal(size=(60, 1, 720)) * np.exp(rng.normal(size=(60, 1, 1))) + np.sin(2 * np.pi * 9 * T)
    windows = replace(windows, x=x.astype(np.float32))
    found = cues.spectra(windows, band_hz=20.0)
    assert found.columns.tolist() == ["database", "hz", "low", "median", "high", "patients"]
    assert found.hz.tolist() == list(np.arange(10.0, 180, 20)) * 2
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(720) / 720)
    for name in ("ltdb", "mitdb"):
        by_patient: dict[str, list] = {}
        for i in np.flatnonzero(database == name):
            power = np.abs(np.fft.rfft((x[i, 0] - x[i, 0].mean()) * hann)) ** 2  # from 0 to 180 Hz, half a hertz apart
            bands = np.array([power[40 * k : 40 * (k + 1)].sum() for k in range(9)])
            by_patient.setdefault(record[i], []).append(np.log10(bands / bands.sum()))
        people = np.array([np.mean(p, axis=0) for p in by_patient.values()])
        own = found[found.database == name]
        np.testing.assert_allclose(own["median"], np.median(people, axis=0), atol=1e-3)
        np.testing.assert_allclose(own.low, np.percentile(people, 10, axis=0), atol=1e-3)
        np.testing.assert_allclose(own.high, np.percentile(people, 90, axis=0), atol=1e-3)
        assert set(own.patients) == {len(by_patient)}


def test_recorder_has_four_rows(make_windows):
    """A hum at 100 Hz gives one of two databases away, on all windows and within AFIB, and below 40 Hz nothing does."""
    rng = np.random.default_rng(0)
    who = np.arange(240) % 12
    names = np.array(["mitdb", "ltafdb"])[who % 2]
    windows = make_windows([f"p{k}" for k in who], ["N", "AFIB", "AFIB", "PVC"] * 60, np.arange(240.0), database=names)
    hum = np.where(names == "mitdb", 0.2, 0.0)[:, None, None] * np.sin(2 * np.pi * 101 * T)
    windows = replace(windows, x=(rng.normal(0, 0.1, (240, 1, 720)) + hum).astype(np.float32))
    found = cues.recorder(windows)
    assert found.columns.tolist() == [
        "windows", "band", "databases", "accuracy", "low", "high", "chance", "patients"
    ]  # fmt: skip
    assert found[["windows", "band"]].to_numpy().tolist() == [
        ["all", "all"], ["all", "below 40 Hz"], ["AFIB", "all"], ["AFIB", "below 40 Hz"]
    ]  # fmt: skip
    assert set(found.databases) == {"ltafdb mitdb"}
    assert found.chance.tolist() == [0.5] * 4
    assert found.accuracy[[0, 2]].min() > 0.95
    assert (found.low[[1, 3]] <= 0.5).all()
    assert (found.high[[1, 3]] >= 0.5).all()
    assert found.patients[0] == 12
    three = concat([windows, replace(windows[windows.y == 0], database=np.full(60, "ltdb"))])
    found = cues.recorder(three)  # LTDB has no AFIB
    assert found.databases.tolist() == ["ltafdb ltdb mitdb"] * 2 + ["ltafdb mitdb"] * 2
    assert found.chance.tolist() == pytest.approx([1 / 3, 1 / 3, 0.5, 0.5])


# Real records ---------------------------------------------------------------------------------------------------


def test_without_records_there_is_nothing_to_measure(tmp_path, one_line):
    with pytest.raises(DataError) as caught:
        cues.measure(tmp_path)
    one_line(caught, "no records of")


@pytest.mark.data
@pytest.mark.slow
def test_published_windows_add_up_to_the_totals_of_the_deck(mitdb, ltafdb, ltdb):
    found = cues.published(mitdb).counts().to_dict()
    # the deck's totals, but for AFIB (one digit off) and the bundle branch blocks (6580 and 5400 there)
    assert found == {
        "N": 603_171, "PVC": 13_576, "PAC": 17_456, "AFIB": 7443, "SVTA": 3287, "SBR": 11_323, "LBBB": 8070, "RBBB": 7254
    }  # fmt: skip


@pytest.mark.data
@pytest.mark.slow
def test_the_committed_cues_are_those_of_today(mitdb, ltafdb, ltdb, qtdb):
    committed = results("annotations")["cues"]
    try:
        found = cues.measure(mitdb)
    except DataError as error:
        pytest.skip(str(error))
    found = json.loads(json.dumps(found, allow_nan=False))
    assert found.keys() == committed.keys()
    assert found["signals"] == committed["signals"]
    for key, tolerance in (("position", 0.01), ("overlap", 1e-9), ("recorder", 0.02), ("spectra", 0.01)):
        new, old = pd.DataFrame(found[key]), pd.DataFrame(committed[key])
        assert new.columns.tolist() == old.columns.tolist()
        pd.testing.assert_frame_equal(new, old, check_dtype=False, rtol=0, atol=tolerance)


def test_average_windows_and_overlap_have_the_names_of_their_windows(make_windows):
    windows = replace(make_windows(["100", "101", "103", "105"], [0, 1, 0, 1], [10.0] * 4), classes=("V", "S"))
    assert cues.average_window(windows).label.unique().tolist() == ["V", "S"]
    many = windows[np.tile(np.arange(4), 20)]
    found = cues.overlap(replace(many, time=np.arange(80) * 10.0, anchor=np.arange(80) * 10.0))
    assert set(found["class"]) == {"V", "S"}
