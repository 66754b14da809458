"""Nothing crosses from training to test at the level that a split names, checked by brute force."""

from __future__ import annotations

import itertools
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecglib import CLASSES
from ecglib.errors import DataError, UnknownNameError
from ecglib.splits import DS1, DS2, LEVELS, Split, shared_samples, split, spread
from ecglib.windows import cut_database


def samples(windows, index):
    """(database, record, sample) of every sample of some windows."""
    first = np.round((windows.time[index] - 1) * 360).astype(int)
    names = zip(windows.database[index].tolist(), windows.record[index].tolist(), first.tolist(), strict=True)
    return [{(d, r, k) for k in range(f, f + 720)} for d, r, f in names]


def slow_shared(windows, part):
    train = set().union(*samples(windows, part.train))
    return np.array([len(w & train) / 720 for w in samples(windows, part.test)])


def shares(windows, part):
    """Share of each class that is in the test part, NaN for a class without windows."""
    used = np.concatenate([part.train, part.test])
    total, test = (np.bincount(windows.y[i], minlength=8) for i in (used, part.test))
    return np.divide(test, total, out=np.full(8, np.nan), where=total > 0)


def check_partition(parts, n, usable=None):
    """Each usable window is tested once and trained on otherwise; the others are in no part."""
    usable = np.arange(n) if usable is None else usable
    np.testing.assert_array_equal(np.sort(np.concatenate([p.test for p in parts])), usable)
    for k, part in enumerate(parts):
        assert part.fold == k
        np.testing.assert_array_equal(np.union1d(part.train, part.test), usable)
        assert not set(part.train) & set(part.test)
        assert (np.diff(part.train) > 0).all()
        assert (np.diff(part.test) > 0).all()


@pytest.fixture(scope="module")
def few(phantom_clean, phantom_deck):
    """Windows of either rule, few enough to be compared sample by sample."""
    return {"clean": phantom_clean[::3], "deck": phantom_deck[::3]}


# No sample crosses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["clean", "deck"])
@pytest.mark.parametrize("level", ["block", "patient"])
def test_no_sample_crosses(few, rule, level):
    for folds, seed in ((None, 0), (3, 1)):
        for part in split(few[rule], level=level, folds=folds, seed=seed):
            assert len(part.train) > 3 * len(part.test) / 2 > 0
            assert slow_shared(few[rule], part).max() == 0
            assert shared_samples(few[rule], part).max() == 0


@pytest.mark.parametrize("rule", ["clean", "deck"])
def test_samples_cross_at_the_level_of_windows_and_are_counted(few, rule):
    (part,) = split(few[rule], level="window", seed=0)
    shared = shared_samples(few[rule], part)
    np.testing.assert_allclose(shared, slow_shared(few[rule], part), atol=1e-12)
    assert 0.02 < shared.mean() < 1


def test_shared_samples_literally(make_windows):
    windows = make_windows(["100"] * 5 + ["101"], ["N"] * 6, [10.0, 10.5, 13.0, 1.0, 2.0, 10.0])
    part = split(windows, level="window", seed=0)[0]
    part = type(part)(np.array([0, 2, 3]), np.array([1, 4, 5]), "window")
    # 9.5 to 11.5 s against 9 to 11 and 12 to 14; 1 to 3 against 0 to 2; another record
    np.testing.assert_allclose(shared_samples(windows, part), [0.75, 0.5, 0.0])


def test_records_of_one_name_in_two_databases_share_nothing(make_windows):
    windows = make_windows(["100", "100"], ["N", "N"], [10.0, 10.0], database=["mitdb", "ltafdb"])
    part = split(windows, level="window", folds=2, seed=0)[0]
    assert shared_samples(windows, part).tolist() == [0.0]
    assert set(windows.patient) == {"mitdb/100", "ltafdb/100"}
    assert len(split(windows, level="patient", folds=2, seed=0)) == 2


def test_shared_samples_of_random_windows_is_the_slow_count(make_windows):
    rng = np.random.default_rng(0)
    time = np.r_[np.round(rng.uniform(1, 40, 150) * 360) / 360, rng.uniform(1, 40, 50)]
    windows = make_windows(rng.choice(["100", "101", "102"], 200), rng.integers(0, 8, 200), time)
    (part,) = split(windows, level="window", test_fraction=0.5, seed=0)
    shared = shared_samples(windows, part)
    np.testing.assert_allclose(shared, slow_shared(windows, part), atol=1e-12)
    assert shared.max() == 1
    assert 0 < np.mean((shared > 0) & (shared < 1)) < 1


def looped_shared(windows, part):
    """Share of samples in common by a mask of every sample of a record: the plain way."""
    names, first = windows.record, np.round(windows.time * 360).astype(int) - 360
    shared = np.zeros(len(part.test))
    for record in np.unique(names):
        covered = np.zeros(first.max() + 720, bool)
        for k in part.train[names[part.train] == record]:
            covered[first[k] : first[k] + 720] = True
        total = np.r_[0, np.cumsum(covered)]
        here = names[part.test] == record
        k = first[part.test[here]]
        shared[here] = (total[k + 720] - total[k]) / 720
    return shared


@pytest.mark.slow
def test_shared_samples_of_half_a_million_windows(make_windows):
    n, rng = 500_000, np.random.default_rng(0)
    time_s = rng.permutation(np.round(rng.uniform(1, 86_400, n) * 360) / 360)
    windows = make_windows(np.full(n, "100"), np.zeros(n, int), time_s)
    tested = np.arange(n) % 5 == 0
    part = Split(np.flatnonzero(~tested), np.flatnonzero(tested), "window")

    def timed(count):
        began = time.perf_counter()
        return count(windows, part), time.perf_counter() - began

    (fast, seconds), (slow, plain) = timed(shared_samples), timed(looped_shared)
    np.testing.assert_array_equal(fast, slow)
    assert 0.5 < fast.mean() < 1
    assert seconds < plain / 5  # some twenty times faster on an idle machine


def test_block_leaves_out_what_is_near_a_border(make_windows):
    time = np.r_[0.5, 1.99, 2.0, 30.0, 58.0, 58.01, 60.0, 61.99, 62.0, 118.0, 118.5, np.arange(130, 170, 5)]
    windows = make_windows(["100"] * len(time), ["N"] * len(time), time)
    usable = np.flatnonzero((time % 60 >= 2) & (time % 60 <= 58))
    assert {2, 3, 4, 8, 9} <= set(usable.tolist())
    assert not {0, 1, 5, 6, 7, 10} & set(usable.tolist())
    parts = split(windows, level="block", folds=3, seed=0)
    check_partition(parts, len(windows), usable)
    for part in parts:
        assert len({t // 60 for t in time[part.test]}) == 1  # one whole block each
        assert not {t // 60 for t in time[part.test]} & {t // 60 for t in time[part.train]}


def test_blocks_of_two_records_are_two_blocks(make_windows):
    windows = make_windows(["100", "100", "101", "101"], ["N"] * 4, [10, 20, 10, 20])
    for part in split(windows, level="block", folds=2, seed=0):
        assert len(set(windows.record[part.test])) == 1


# No patient crosses ---------------------------------------------------------------------------------------------


def mitdb_like(make_windows, per_record=10):
    """Windows of the 48 records' names, classes spread at random but rare ones in few records."""
    names = "100 101 102 103 104 105 106 107 108 109 111 112 113 114 115 116 117 118 119 121 122 123 124 200 201 202"
    names = np.array([*names.split(), *"203 205 207 208 209 210 212 213 214 215 217 219 220 221 222 223".split(),
                      *"228 230 231 232 233 234".split()])  # fmt: skip
    assert len(names) == 48
    rng = np.random.default_rng(0)
    has = rng.random((48, 8)) < np.array([0.9, 0.7, 0.5, 0.2, 0.15, 0.3, 0.1, 0.15])
    has[:, 0] |= ~has.any(1)
    rows = [(r, c) for r, classes in zip(names, has, strict=True) for c in np.flatnonzero(classes)]
    record, label = zip(*[row for row in rows for _ in range(per_record)], strict=True)
    return make_windows(record, label, np.arange(len(record)) % 1800)


def test_201_and_202_are_never_apart(make_windows):
    windows = mitdb_like(make_windows)
    for seed in range(20):
        for folds in (None, 3, 5, 10, 47):
            parts = split(windows, level="patient", folds=folds, seed=seed)
            for part in parts:
                train, test = set(windows.record[part.train]), set(windows.record[part.test])
                assert not train & test
                assert ("201" in test) == ("202" in test)
                assert ("201" in train) == ("202" in train)
            if folds:
                check_partition(parts, len(windows))
    with pytest.raises(DataError):  # 48 records, 47 people
        split(windows, level="patient", folds=48, seed=0)


def test_patients_are_dealt_fairly(make_windows):
    """The greedy deal spreads each class as far as its patients go: no fold lacks a class that enough patients have."""
    windows = mitdb_like(make_windows)
    for seed in range(5):
        for part in split(windows, level="patient", folds=3, seed=seed):
            share = shares(windows, part)
            assert share.min() > 0.12
            assert share.max() < 0.55
            assert share[0] == pytest.approx(1 / 3, abs=0.09)


def test_patients_with_nothing_in_common_fill_every_fold(make_windows):
    """Where every fold costs the same, one that is empty comes first."""
    record = np.repeat(["100", "101", "103", "105", "106", "107"], 4)
    windows = make_windows(record, np.repeat([0, 1, 2, 3, 4, 5], 4), np.arange(24))
    for seed in range(30):
        for folds in (2, 3, 5, 6):
            parts = split(windows, level="patient", folds=folds, seed=seed)
            assert all(len(p.test) >= 4 and len(p.train) >= 4 for p in parts)
            check_partition(parts, 24)


NAMES = {"mitdb": ["100", "103", "201", "202", "213"], "qtdb": ["sel100", "sel103", "sel213", "sel30"], "ltdb": ["100"]}


@st.composite
def collections(draw):
    """Windows of several databases, some of the same patients: (database, record, class, sample) of each."""
    places = st.sampled_from([(d, r) for d, records in NAMES.items() for r in records])
    row = st.tuples(places, st.integers(0, 7), st.integers(360, 360 * 400))
    return draw(st.lists(row, min_size=12, max_size=60))


@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(rows=collections(), level=st.sampled_from(["block", "patient"]), folds=st.sampled_from([None, 2, 3, 5]),
       seed=st.integers(0, 9))  # fmt: skip
def test_nothing_crosses_in_any_collection(make_windows, rows, level, folds, seed):
    places, label, sample = zip(*rows, strict=True)
    database, record = zip(*places, strict=True)
    windows = make_windows(record, label, np.array(sample) / 360, database=database)
    try:
        parts = split(windows, level=level, folds=folds, seed=seed)
    except DataError:
        return  # too few groups for the folds
    for part in parts:
        train, test = windows[part.train], windows[part.test]
        assert len(train)
        assert len(test)
        assert not set(part.train) & set(part.test)
        assert slow_shared(windows, part).max() == 0
        both = set(train.patient) & set(test.patient)
        if level == "patient":
            assert not both
        for who in both:  # of one recording, never of an excerpt and its whole, whose samples are the same
            assert len({*train.database[train.patient == who], *test.database[test.patient == who]}) == 1
    tested = np.concatenate([p.test for p in parts])
    assert len(tested) == len(set(tested))


def test_excerpts_never_leave_their_patient(make_windows):
    """QTDB's sel100 is seven minutes into MITDB's 100: the same samples under another name and time."""
    rows = [("mitdb", r) for r in ("100", "103", "105", "106")] + [("qtdb", "sel100"), ("qtdb", "sele0104")]
    database, record = zip(*[row for row in rows for _ in range(20)], strict=True)
    windows = make_windows(record, [0, 1] * 60, np.tile(np.arange(20) * 45.0 + 10, 6), database=database)
    for level in ("patient", "block"):
        for seed in range(10):
            for part in split(windows, level=level, folds=3, seed=seed):
                sides = [{"100", "sel100"} & set(windows.record[i]) for i in (part.train, part.test)]
                assert sorted(map(len, sides)) == [0, 2]


def fewest_gaps(table, folds):
    """Fewest pairs of class and fold without each other, over every way of dealing the patients to all folds."""
    ways = (np.array(w) for w in itertools.product(range(folds), repeat=len(table)) if len(set(w)) == folds)
    return min(gaps(table, home, folds) for home in ways)


def gaps(table, home, folds):
    return sum(not (table[home == f, c] > 0).any() for f in range(folds) for c in np.flatnonzero(table.any(0)))


def test_classes_reach_as_many_folds_as_any_deal_could_give_them(make_windows):
    """Against every possible deal of few patients, in whom the classes meet at random."""
    rng, worse = np.random.default_rng(0), 0
    for trial in range(60):
        n, folds = int(rng.integers(4, 8)), int(rng.integers(2, 4))
        table = (rng.random((n, 8)) < rng.uniform(0.15, 0.6)) * rng.integers(1, 9, (n, 8))
        table[~table.any(1), 0] = 1
        who, label = np.repeat(np.indices(table.shape).reshape(2, -1), table.ravel(), axis=1)
        windows = make_windows(np.char.add("p", who.astype(str)), label, np.arange(len(who)), database="phantom")
        parts = split(windows, level="patient", folds=folds, seed=trial)
        home = np.array([next(p.fold for p in parts if (who[p.test] == k).any()) for k in range(n)])
        least = fewest_gaps(table, folds)
        assert gaps(table, home, folds) <= least + 1
        worse += gaps(table, home, folds) > least
        told = spread(windows, parts)
        assert (told.test_windows[told.patients > 0] == 0).sum() == gaps(table, home, folds)
    assert worse <= 3


def test_spread_says_where_a_class_is_missing(make_windows):
    windows = make_windows(["100", "100", "201", "202", "103"], ["N", "PVC", "N", "N", "N"], [9, 19, 9, 9, 9])
    part = Split(np.array([0, 1]), np.array([2, 3]), "patient", fold=4)
    table = spread(windows, [part, Split(np.array([2]), np.array([1]), "patient", fold=5)])
    assert table.shape == (16, 8)
    rows = table.set_index(["fold", "class"])
    assert rows.loc[(4, "N")].tolist() == [1, 1, 1, 2, 3, ""]  # 201 and 202 are one patient; 103 is in neither part
    assert rows.loc[(4, "PVC")].tolist() == [1, 0, 1, 0, 1, "not in test"]
    assert rows.loc[(5, "N")].tolist() == [1, 0, 1, 0, 3, "not in test"]
    assert rows.loc[(5, "PVC")].tolist() == [0, 1, 0, 1, 1, "not in training"]
    assert rows.loc[(4, "SBR")].tolist() == [0, 0, 0, 0, 0, "nowhere"]
    absent = spread(windows[[0, 1]], [Split(np.array([0]), np.array([0]), "window")])
    assert absent.set_index("class").gap["PVC"] == "in neither"


@pytest.mark.data
def test_every_class_of_mitdb_is_in_every_fold(mitdb_clean):
    """Three folds by patient, as the reference runs use: SVTA, in three patients, has one in each."""
    parts = split(mitdb_clean, level="patient", folds=3, seed=0)
    table = spread(mitdb_clean, parts)
    assert (table.gap == "").all()
    assert table[table["class"] == "SVTA"].test_patients.tolist() == [1, 1, 1]
    (fixed,) = split(mitdb_clean, level="ds1-ds2", seed=0)
    told = spread(mitdb_clean, [fixed]).set_index("class")
    assert told.loc["AFIB", ["train_patients", "patients"]].tolist() == [1, 7]  # 203 alone, once 201 is left out
    thin = spread(mitdb_clean, split(mitdb_clean, level="patient", folds=5, seed=0))
    assert set(thin[thin.gap != ""]["class"]) == {"SVTA", "LBBB", "RBBB"}  # of three, four and four patients


@pytest.mark.parametrize("level", ["window", "block", "patient"])
def test_folds_partition_the_windows(phantom_clean, level):
    for folds in (2, 3, 5):
        parts = split(phantom_clean, level=level, folds=folds, seed=0)
        assert [(p.level, p.fold, p.seed) for p in parts] == [(level, k, 0) for k in range(folds)]
        check_partition(parts, len(phantom_clean))  # clean windows are all usable at the level of blocks
        if level == "patient":
            assert all(not set(phantom_clean.patient[p.train]) & set(phantom_clean.patient[p.test]) for p in parts)


# Fractions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 1 / 3, 0.4, 0.5, 0.6, 0.75, 0.8, 0.95])
def test_window_level_takes_its_fraction_of_each_class(make_windows, fraction):
    counts = np.array([2000, 400, 60, 40, 45, 100, 333, 500])
    label = np.random.default_rng(0).permutation(np.repeat(np.arange(8), counts))
    windows = make_windows(["100"] * len(label), label, np.arange(len(label)))
    (part,) = split(windows, level="window", test_fraction=fraction, seed=0)
    test = np.bincount(windows.y[part.test], minlength=8)
    np.testing.assert_allclose(test, fraction * counts, atol=3)
    assert abs(test[0] - fraction * 2000) <= 1
    np.testing.assert_array_equal(np.sort(np.concatenate([part.train, part.test])), np.arange(len(label)))


@pytest.mark.parametrize("level", ["block", "patient"])
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.3, 0.5, 0.7])
def test_groups_come_near_the_fraction(make_windows, level, fraction):
    windows = mitdb_like(make_windows, per_record=30)
    (part,) = split(windows, level=level, test_fraction=fraction, seed=0)
    used = len(part.train) + len(part.test)
    assert len(part.test) / used == pytest.approx(fraction, abs=0.06)


def test_a_fraction_finer_than_the_groups(make_windows):
    windows = make_windows(np.repeat(["100", "101", "103"], 10), ["N"] * 30, np.arange(30))
    for fraction, n_test in ((0.01, 10), (0.2, 10), (0.34, 10), (0.66, 20), (0.99, 20)):
        (part,) = split(windows, level="patient", test_fraction=fraction, seed=0)
        assert len(part.test) == n_test


def test_windows_are_shuffled(make_windows):
    windows = make_windows(["100"] * 1000, [0, 1] * 500, np.arange(1000))
    (part,) = split(windows, level="window", seed=0)
    assert shares(windows, part)[:2].tolist() == [0.2, 0.2]
    # 200 of 1000 at random lie apart by 1, 2, 3, ... with falling frequency; dealt in order, all lie 5 apart
    gaps = np.diff(part.test)
    assert 0.1 < np.mean(gaps == 1) < 0.3
    assert abs(part.test.mean() - 500) < 60


@pytest.mark.parametrize("level", ["window", "block", "patient"])
def test_seed_decides(phantom_clean, level):
    once, twice, other = (split(phantom_clean, level=level, folds=3, seed=s) for s in (4, 4, 5))
    assert all(
        np.array_equal(a.test, b.test) and np.array_equal(a.train, b.train) for a, b in zip(once, twice, strict=True)
    )
    assert not all(np.array_equal(a.test, b.test) for a, b in zip(once, other, strict=True))
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    split(phantom_clean, level=level, seed=0)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


# De Chazal's division -------------------------------------------------------------------------------------------


def test_ds1_and_ds2():
    assert len(DS1) == len(DS2) == 22
    assert not set(DS1) & set(DS2)
    assert not (set(DS1) | set(DS2)) & {"102", "104", "107", "217"}  # paced
    assert " ".join(DS1) == "101 106 108 109 112 114 115 116 118 119 122 124 201 203 205 207 208 209 215 220 223 230"
    assert " ".join(DS2) == "100 103 105 111 113 117 121 123 200 202 210 212 213 214 219 221 222 228 231 232 233 234"


def test_ds1_ds2_split(make_windows):
    windows = mitdb_like(make_windows)
    (part,) = split(windows, level="ds1-ds2", seed=0)
    assert (part.level, part.fold) == ("ds1-ds2", 0)
    assert set(windows.record[part.train]) == set(DS1) - {"201"}
    assert set(windows.record[part.test]) == set(DS2)
    assert not set(windows.patient[part.train]) & set(windows.patient[part.test])
    (published,) = split(windows, level="ds1-ds2", seed=0, mended=False)
    assert set(windows.record[published.train]) == set(DS1)
    assert set(windows.patient[published.train]) & set(windows.patient[published.test]) == {"mitdb/201"}
    np.testing.assert_array_equal(published.test, part.test)


def test_ds1_ds2_takes_mitdb_alone(make_windows):
    windows = make_windows(["101", "100", "101"], ["N"] * 3, [9, 9, 9], database=["mitdb", "mitdb", "ltafdb"])
    (part,) = split(windows, level="ds1-ds2", seed=0)
    assert (part.train.tolist(), part.test.tolist()) == ([0], [1])


@pytest.mark.data
def test_ds1_ds2_of_mitdb(mitdb):
    """Beats of the deck's rule, as the method reference counts them (section 12; there N, V and A are rounded down)."""
    windows = cut_database("mitdb", rule="deck", root=mitdb, per_record=1, records=["201", "202", "100", "101", "102"])
    (part,) = split(windows, level="ds1-ds2", seed=0)
    assert set(windows.record[part.train]) == {"101"}
    assert set(windows.record[part.test]) == {"100", "202"}


# Errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "parts"),
    [
        ({"level": "patients"}, UnknownNameError, ("unknown level 'patients'", "did you mean 'patient'?", "ds1-ds2")),
        ({"level": "patient", "folds": 4}, DataError, ("3 patient groups cannot fill 4 folds", "fewer folds")),
        ({"level": "block", "folds": 9}, DataError, ("block groups cannot fill 9 folds",)),
        ({"level": "window", "folds": 1}, DataError, ("folds is 1", "give 2 or more, or None")),
        ({"level": "window", "folds": 0}, DataError, ("folds is 0",)),
        ({"level": "window", "folds": -3}, DataError, ("folds is -3",)),
        ({"level": "window", "folds": 31}, DataError, ("30 windows for training", "0 for the test", "fewer folds")),
        ({"level": "window", "test_fraction": 0}, DataError, ("test_fraction is 0", "between 0 and 1")),
        ({"level": "window", "test_fraction": 1.0}, DataError, ("test_fraction is 1.0", "between 0 and 1")),
        ({"level": "window", "test_fraction": float("nan")}, DataError, ("test_fraction is nan",)),
    ],
)
def test_errors(make_windows, one_line, options, error, parts):
    windows = make_windows(np.repeat(["100", "101", "103"], 10), ["N"] * 30, np.tile(np.arange(3, 13), 3))
    with pytest.raises(error) as caught:
        split(windows, **options, seed=0)
    one_line(caught, *parts)


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_to_split(make_windows, one_line, level):
    windows = make_windows(["100", "200"], ["N", "N"], [9.0, 9.0], database="ltafdb")
    with pytest.raises(DataError) as caught:
        split(windows[:0], level=level, seed=0)
    one_line(caught, "no windows to split")
    if level == "ds1-ds2":
        with pytest.raises(DataError) as caught:
            split(windows, level=level, seed=0)
        one_line(caught, "'ds1-ds2'", "MITDB")


def test_no_part_is_empty(make_windows, one_line):
    one = make_windows(["100"], ["N"], [9.0])
    for level in LEVELS:
        with pytest.raises(DataError):
            split(one, level=level, seed=0)
    with pytest.raises(DataError) as caught:  # all of DS2
        split(make_windows(["100", "103"], ["N", "N"], [9, 9]), level="ds1-ds2", seed=0)
    one_line(caught, "ds1-ds2", "0 windows for training", "2 for the test")
    with pytest.raises(DataError) as caught:  # none that is clear of a border
        split(make_windows(["100"] * 3, ["N"] * 3, [60, 120, 180]), level="block", seed=0)
    one_line(caught, "0 block groups")


def test_levels_share_less_and_less(phantom_deck):
    part = {level: split(phantom_deck, level=level, seed=0)[0] for level in ("window", "block", "patient")}
    shared = [shared_samples(phantom_deck, p).mean() for p in part.values()]
    assert shared[0] > 0.5
    assert shared[1:] == [0, 0]
    people = [len(set(phantom_deck.patient[p.train]) & set(phantom_deck.patient[p.test])) for p in part.values()]
    assert people[0] == 12
    assert people[2] == 0
    assert all(a >= b for a, b in pairwise(people))
    assert len(CLASSES) == 8
