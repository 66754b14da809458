"""Nothing crosses from training to test at the level that a split names, checked by brute force."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ecglib import CLASSES
from ecglib.errors import DataError, UnknownNameError
from ecglib.splits import DS1, DS2, LEVELS, shared_samples, split
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
