"""Intervals against literal beats, a slow count, and the annotations of real records."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ecglib import CLASSES
from ecglib.databases import record_names
from ecglib.errors import DataError
from ecglib.intervals import BINS, RATES, SPANS, if_here, measure, of_database, of_windows, shares
from ecglib.records import read_annotations, read_record
from ecglib.windows import at

RR, PACE, RATE = BINS


def test_rr_and_rate_of_every_beat(make_record):
    record = make_record([(t, "N") for t in (1.0, 1.8, 2.6, 3.0, 9.0)], 20)
    table = measure(record)
    np.testing.assert_allclose(table.rr, [np.nan, 0.8, 0.8, 0.4, 6.0])
    # 2.6 s has four beats within 5 s: three intervals in 2 s; 9 s has none but itself
    np.testing.assert_allclose(table.rate, [90, 90, 90, 90, np.nan])
    np.testing.assert_allclose(table.time, record.beats.time)
    assert table.patient.tolist() == ["mitdb/r1"] * 5


def test_rate_takes_intervals_whose_ends_are_both_near(make_record):
    record = make_record([(t, "N") for t in (0.5, 5.0, 6.0, 7.5, 10.5)], 20)
    np.testing.assert_allclose(measure(record).rate[1:3], [60 * 3 / 7.0, 60 * 3 / 5.5])


def test_labels_are_of_symbol_and_rhythm(make_record):
    marks = [
        (0.1, "(N"), (1, "N"), (2, "V"), (3, "A"), (4, "J"),
        (4.5, "(AFIB"), (5, "N"), (6, "V"), (7, "A"),
        (7.5, "(SVTA"), (8, "N"), (8.4, "A"), (8.8, "J"),
        (9.5, "(SBR"), (10, "N"), (12, "A"),
        (12.5, "(B"), (13, "N"), (14, "L"), (15, "R"), (16, "/"),
    ]  # fmt: skip
    expected = "N PVC PAC - AFIB PVC PAC SVTA SVTA - SBR PAC N LBBB RBBB -".split()
    label = measure(make_record(marks, 20)).label
    assert label.astype(object).where(label.notna(), "-").tolist() == expected


def test_without_rhythm_marks_a_beat_is_its_symbol(make_record):
    assert measure(make_record([(1, "N"), (2, "V")], 9)).label.tolist() == ["N", "PVC"]


def test_no_beats(make_record):
    assert len(measure(make_record([(1, "(N")], 9))) == 0


@pytest.mark.parametrize("name", ["p01", "p05", "p09"])
def test_labels_equal_those_of_single_windows(phantom_root, name):
    record = read_record("phantom", name, root=phantom_root)
    table = measure(record).iloc[5:-5:7]
    expected = [int(at(record, time=t).y[0]) for t in table.time]
    assert table.label.cat.codes.tolist() == expected
    assert len(set(expected)) > 1


def test_windows_find_their_beat(phantom_clean, phantom_root):
    some = phantom_clean[np.random.default_rng(0).permutation(len(phantom_clean))[:60]]
    table = of_windows(some, root=phantom_root)
    assert table.label.tolist() == [CLASSES[y] for y in some.y]
    assert table.patient.tolist() == some.patient.tolist()
    assert table.record.tolist() == some.record.tolist()
    np.testing.assert_array_equal(table.time, some.anchor)
    for k in range(len(some)):
        beats = read_annotations("phantom", some.record[k], root=phantom_root).beats.time
        before, near = beats[beats < some.anchor[k] - 1e-6], beats[np.abs(beats - some.anchor[k]) <= 5.0]
        assert table.rr[k] == pytest.approx(some.anchor[k] - before[-1] if len(before) else np.nan, nan_ok=True)
        assert table.rate[k] == pytest.approx(60 * (len(near) - 1) / (near[-1] - near[0]))


def test_the_clean_rule_shows_in_the_intervals(phantom_clean, phantom_root):
    table = of_windows(phantom_clean, root=phantom_root)
    normal = table.rr[table.label == "N"]
    assert normal.min() >= 0.6
    assert normal.max() < 1.0


def test_of_database_goes_record_after_record(phantom_root):
    tables = list(of_database("phantom", root=phantom_root, records=["p03", "p01"]))
    assert [t.patient.iloc[0] for t in tables] == ["phantom/p03", "phantom/p01"]
    assert len(list(of_database("phantom", root=phantom_root))) == len(record_names("phantom", phantom_root))


# Shares ----------------------------------------------------------------------------------------------------------


def beats(patient, rr, *, label="N", rate=60.0):
    names = pd.Categorical([label] * len(rr), categories=CLASSES)
    return pd.DataFrame({"label": names, "patient": patient, "rr": rr, "rate": rate})


def at_edge(quantity, value):
    """Number of the bin that begins at a value."""
    return int(np.flatnonzero(np.isclose(BINS[quantity], value))[0])


def test_patients_count_once():
    tables = [beats("a", [0.81] * 9 + [1.01]), beats("b", [0.41]), beats("a", [1.01] * 10)]  # 11 of 20 beats at 1.01 s
    found = shares(iter(tables), series="here")
    row = found[found.quantity == RR].iloc[0]
    assert (row.series, row.label, row.patients, row.beats) == ("here", "N", 2, 21)
    share = np.array(row.share)
    assert len(share) == len(BINS[RR]) - 1
    assert share[at_edge(RR, 0.80)] == pytest.approx(9 / 20 / 2)
    assert share[at_edge(RR, 1.00)] == pytest.approx(11 / 20 / 2)
    assert share[at_edge(RR, 0.40)] == pytest.approx(1 / 2)
    assert share.sum() == pytest.approx(1)


def test_median_lies_inside_its_bin():
    found = shares([beats("a", [0.81, 0.82, 0.83, 1.9])], series="s")
    assert found[found.quantity == RR]["median"].item() == pytest.approx(0.80 + 0.04 * 2 / 3)


def test_values_beyond_the_ends_count_in_the_outermost_bins():
    found = shares([beats("a", [0.05, 7.0, np.nan, 2.0], rate=np.array([1.0, 999.0, np.nan, 60.0]))], series="s")
    by = found.set_index("quantity")
    assert np.array(by.share[RR])[[0, -1]].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert np.array(by.share[PACE])[[0, -1]].tolist() == pytest.approx([1 / 3, 1 / 3])  # 8.6, 1200, 30
    assert np.array(by.share[RATE])[[0, -1]].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert by.beats.tolist() == [3, 3, 3]


def test_quantities_and_classes_apart():
    found = shares([beats("a", [0.5], label="PVC", rate=80.0), beats("b", [1.5], label="SBR", rate=41.0)], series="s")
    assert found.label.tolist() == ["PVC"] * 3 + ["SBR"] * 3
    assert found.quantity.tolist() == list(BINS) * 2
    peak = [int(np.argmax(share)) for share in found.share]
    assert peak[:3] == [at_edge(RR, 0.48), at_edge(PACE, 120), at_edge(RATE, 80)]
    assert peak[3:] == [at_edge(RR, 1.48), at_edge(PACE, 40), at_edge(RATE, 40)]


def test_a_patient_without_intervals_does_not_count():
    found = shares([beats("a", [np.nan]), beats("b", [0.9])], series="s")
    assert found[found.quantity == RR].patients.item() == 1
    assert found[found.quantity == RATE].patients.item() == 2


def test_a_database_is_shown_only_where_it_is(phantom_root):
    found = if_here("phantom", root=phantom_root)
    assert found.series.unique().tolist() == ["PHANTOM, all beats"]
    assert set(found.label) == set(CLASSES)
    assert if_here("ltafdb", root=phantom_root) is None


def test_nothing_to_share(one_line):
    for tables in ([], [beats("a", [])], [beats("a", [0.8], label=None)]):
        with pytest.raises(DataError) as caught:
            shares(tables, series="LTAFDB")
        one_line(caught, "LTAFDB", "received none")


def test_spans_are_rates_in_every_unit():
    assert set(RATES) == {"N", "SVTA", "SBR"}
    assert SPANS[RATE]["SVTA"] == SPANS[PACE]["SVTA"] == (150, 250)
    assert SPANS[RR]["SVTA"] == pytest.approx((0.24, 0.4))
    assert SPANS[RR]["N"] == pytest.approx((0.6, 1.0))
    assert SPANS[RR]["SBR"] == (1.0, np.inf)


# Real records ----------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_beats_of_mitdb(mitdb):
    tables = pd.concat(list(of_database("mitdb", root=mitdb)), ignore_index=True)
    count = tables.label.value_counts()
    assert len(tables) == 109_494
    assert {c: int(count[c]) for c in ("PVC", "LBBB", "RBBB", "SBR")} == {
        "PVC": 7130,
        "LBBB": 8075,
        "RBBB": 7259,
        "SBR": 0,
    }
    # N and A share their 75 052 + 2546 beats with the rhythms
    assert count[["N", "PAC", "AFIB", "SVTA"]].sum() == 75_052 + 2546
    assert tables.rr.isna().sum() == 48
    assert tables.patient.nunique() == 47


@pytest.mark.data
def test_beats_of_ltdb(ltdb):
    found = shares(of_database("ltdb", root=ltdb), series="LTDB")
    rows = found[found.quantity == RATE].set_index("label")
    assert rows.index.tolist() == ["N", "PVC"]  # no rhythm marks, and A once in the whole database: not a distribution
    assert rows.patients.tolist() == [7, 7]
