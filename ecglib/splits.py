"""Splits of a window set into training and test parts, at a named level of independence.

``"window"`` is what ECGNet's code does (and, very probably, the deck): windows of one patient, and overlapping windows,
stand on both sides.  Every other level is stricter; each result names the level that it belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd

from ecglib import FS, WINDOW
from ecglib.errors import DataError, check_name
from ecglib.windows import BLOCK_S, HALF_S, WindowSet

LEVELS = ("window", "block", "patient", "ds1-ds2")
_FINEST = 20  # a single split is made of so many folds at most

_SPREAD = "fold class train_patients test_patients train_windows test_windows patients gap"

# de Chazal, O'Dwyer & Reilly, IEEE TBME 51:1196-1206, 2004; the paced records 102, 104, 107, 217 are in neither.
DS1 = tuple("101 106 108 109 112 114 115 116 118 119 122 124 201 203 205 207 208 209 215 220 223 230".split())
DS2 = tuple("100 103 105 111 113 117 121 123 200 202 210 212 213 214 219 221 222 228 231 232 233 234".split())


@dataclass(frozen=True)
class Split:
    """Indices of one training and one test part, shapes (n_train,) and (n_test,), sorted; the rest is in neither."""

    train: np.ndarray
    test: np.ndarray
    level: str
    fold: int = 0
    seed: int = 0


def split(
    windows: WindowSet,
    *,
    level: str,
    folds: int | None = None,
    test_fraction: float = 0.2,
    seed: int,
    mended: bool = True,
) -> list[Split]:
    """Split windows for training and test.

    Parameters
    ----------
    windows : WindowSet
    level : {"window", "block", "patient", "ds1-ds2"}
        "window" shuffles the windows of each class.  "block" keeps 60-s stretches of a record whole and leaves out
        windows within half a window of a border, so no sample is on both sides; a patient who is in two databases (an
        excerpt in QTDB and the whole in MITDB) is one block.  "patient" keeps patients whole and spreads each class over
        the folds as far as its patients allow (`spread` says how far).  "ds1-ds2" is de Chazal's fixed division of MITDB.
    folds : int, optional
        Number of folds for cross-validation; None gives a single split with ``test_fraction`` of each class (for
        "patient" and "block" as near to it as whole groups allow).  Ignored by "ds1-ds2".
    seed : int
    mended : bool
        "ds1-ds2" only: leave record 201 out of DS1, since it is the same man as 202 of DS2.

    Returns
    -------
    list of Split

    Raises
    ------
    UnknownNameError, DataError
        No such level; fewer groups than folds; a fraction outside (0, 1); nothing to split.
    """
    check_name("level", level, LEVELS)
    if folds is not None and folds < 2:
        raise DataError(f"folds is {folds}; give 2 or more, or None for a single split")
    if not 0 < test_fraction < 1:
        raise DataError(f"test_fraction is {test_fraction}; give a number between 0 and 1")
    if not len(windows):
        raise DataError("there are no windows to split")
    if level == "ds1-ds2":
        return [_de_chazal(windows, seed=seed, mended=mended)]
    rng = np.random.default_rng(seed)
    usable = np.ones(len(windows), bool)
    if level == "window":
        n_test, n_folds = (1, folds) if folds else _ratio(test_fraction, _FINEST)
        fold = _by_window(windows, n_folds, rng)
    else:
        if level == "patient":
            group = windows.patient
        else:
            block = np.floor(windows.time / BLOCK_S).astype(int)
            group = np.char.add(np.char.add(_recording(windows), "@"), block.astype(str))
            databases = pd.Series(windows.database).groupby(windows.patient).transform("nunique").to_numpy()
            group = np.where(databases > 1, windows.patient, group)  # an excerpt and its whole are the same samples
            within = windows.time % BLOCK_S
            usable = (within >= 2 * HALF_S) & (within <= BLOCK_S - 2 * HALF_S)
        n_groups = len(np.unique(group[usable]))
        n_test, n_folds = (1, folds) if folds else _ratio(test_fraction, min(_FINEST, max(2, n_groups)))
        if n_groups < n_folds:
            raise DataError(f"{n_groups} {level} groups cannot fill {n_folds} folds; ask for fewer folds")
        fold = _by_group(group, windows.y, len(windows.classes), usable, n_folds, rng)
    held_out = [np.arange(k, k + n_test) for k in range(folds or 1)]
    test = [usable & np.isin(fold, k) for k in held_out]
    return [_checked(Split(np.flatnonzero(usable & ~t), np.flatnonzero(t), level, k, seed)) for k, t in enumerate(test)]


def shared_samples(windows: WindowSet, part: Split) -> np.ndarray:
    """Share of each test window's samples that also lie in a training window of the same record, shape (n_test,)."""
    first = np.round(windows.time * FS).astype(np.int64) - WINDOW // 2
    # records end to end on one axis, so far apart that no window meets the next record
    first += _recording_number(windows) * (np.ptp(first) + 2 * WINDOW)
    train, test = np.sort(first[part.train]), first[part.test]
    if not len(train):
        return np.zeros(len(test))
    # windows are equally long, so each adds the samples up to the next one's first: covered[k] lie before train[k]
    covered = np.r_[0, np.cumsum(np.minimum(np.diff(train), WINDOW))]

    def before(sample: np.ndarray) -> np.ndarray:  # samples below it that a training window covers
        last = np.searchsorted(train, sample) - 1
        return np.where(last < 0, 0, covered[last] + np.minimum(sample - train[last], WINDOW))

    return (before(test + WINDOW) - before(test)) / WINDOW


def spread(windows: WindowSet, parts: Sequence[Split]) -> pd.DataFrame:
    """Say how far a split spreads each class, and where it cannot.

    Returns
    -------
    DataFrame
        One row a fold and class: fold, class, train_patients, test_patients, train_windows, test_windows, patients (who
        show the class at all), and gap: "" if both parts have the class, else "not in training", "not in test", "in
        neither" or "nowhere" (no window at all).
    """
    patient, y = np.unique(windows.patient, return_inverse=True)[1], windows.y
    gaps = {(0, 0): "in neither", (0, 1): "not in training", (1, 0): "not in test", (1, 1): ""}
    rows = []
    for part in parts:
        for c, name in enumerate(windows.classes):
            here = [i[y[i] == c] for i in (part.train, part.test, np.arange(len(y)))]
            n_train, n_test, n = map(len, here)
            people = [len(set(patient[i])) for i in here]
            gap = gaps[n_train > 0, n_test > 0] if n else "nowhere"
            rows.append((part.fold, name, people[0], people[1], n_train, n_test, people[2], gap))
    return pd.DataFrame(rows, columns=_SPREAD.split())


# Internals -----------------------------------------------------------------------------------------------------


def _by_window(windows: WindowSet, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Deal the shuffled windows of each class round the folds."""
    fold = np.empty(len(windows), int)
    for c in range(len(windows.classes)):
        index = rng.permutation(np.flatnonzero(windows.y == c))
        fold[index] = (np.arange(len(index)) + rng.integers(n_folds)) % n_folds
    return fold


def _by_group(
    group: np.ndarray, y: np.ndarray, n_classes: int, usable: np.ndarray, n_folds: int, rng: np.random.Generator
) -> np.ndarray:
    """Deal whole groups to folds so that each class is spread as evenly as its groups allow.

    Greedy: rarest classes first (those in the fewest groups decide the quality of a fold), and each group to the fold
    that holds the smallest share of the group's windows' classes so far; then `_mended`.
    """
    names, member = np.unique(group, return_inverse=True)
    table = np.zeros((len(names), n_classes))
    np.add.at(table, (member[usable], y[usable]), 1)
    share = table / np.maximum(table.sum(0), 1)  # of each class, the part that a group supplies
    rarity = np.where(table.sum(0) > 0, 1 / np.maximum((table > 0).sum(0), 1), 0)
    order = np.lexsort((rng.random(len(names)), -(share * rarity).sum(1)))
    load, home, empty = np.zeros((n_folds, n_classes)), np.empty(len(names), int), np.ones(n_folds, bool)
    for g in order:
        cost = ((load + share[g]) ** 2 - load**2) @ rarity + 1e-9 * rng.random(n_folds)
        home[g] = np.argmin(cost - empty)  # where groups have no class in common, every fold costs the same
        load[home[g]] += share[g]
        empty[home[g]] = False
    return _mended(home, share, rarity, n_folds)[member]


def _mended(home: np.ndarray, share: np.ndarray, rarity: np.ndarray, n_folds: int) -> np.ndarray:
    """Folds of the groups, without a fold that lacks a class although a move or a swap of groups would give it one."""
    has = share > 0  # (groups, classes)
    possible = np.minimum(n_folds, has.sum(0))

    def sums(home: np.ndarray, values: np.ndarray) -> np.ndarray:  # (folds, classes)
        return np.eye(n_folds)[home].T @ values

    def flaws(home: np.ndarray) -> tuple[float, float]:
        return (possible - (sums(home, has) > 0).sum(0)).sum(), (sums(home, share) ** 2).sum(0) @ rarity

    while (now := flaws(home))[0]:
        held = sums(home, has)
        short = (held > 0).sum(0) < possible
        trials = []
        for g in np.flatnonzero((has & short & (held[home] > 1)).any(1)):
            for f in np.flatnonzero((held[:, has[g] & short] == 0).any(1)):
                alone = [g] if (home == home[g]).sum() > 1 else []  # a fold must not become empty
                for h in alone + np.flatnonzero(home == f).tolist():
                    trials.append(home.copy())
                    trials[-1][h], trials[-1][g] = home[g], f
        best = min(trials, key=flaws, default=home)
        if flaws(best)[0] >= now[0]:
            break
        home = best
    return home


def _de_chazal(windows: WindowSet, *, seed: int, mended: bool) -> Split:
    known = windows.database == "mitdb"
    if not known.any():
        raise DataError("the level 'ds1-ds2' divides MITDB and these windows hold none of its records")
    first = [r for r in DS1 if not (mended and r == "201")]
    train = np.flatnonzero(known & np.isin(windows.record, first))
    test = np.flatnonzero(known & np.isin(windows.record, DS2))
    return _checked(Split(train, test, "ds1-ds2", 0, seed))


def _ratio(fraction: float, finest: int) -> tuple[int, int]:
    """Test folds and all folds whose ratio comes nearest to a fraction, with something on either side."""
    near = Fraction(fraction).limit_denominator(finest)
    near = min(max(near, Fraction(1, finest)), Fraction(finest - 1, finest))
    return near.numerator, near.denominator


def _recording(windows: WindowSet) -> np.ndarray:
    """Database and record of each window: MITDB and LTAFDB both have a record 100."""
    return np.char.add(np.char.add(windows.database, "/"), windows.record)


def _recording_number(windows: WindowSet) -> np.ndarray:
    """A number for each recording: names are compared along runs of windows, not sorted, which strings are slow at."""
    new = np.ones(len(windows), bool)
    new[1:] = (windows.record[1:] != windows.record[:-1]) | (windows.database[1:] != windows.database[:-1])
    return np.unique(_recording(windows[new]), return_inverse=True)[1][np.cumsum(new) - 1]


def _checked(part: Split) -> Split:
    if not len(part.train) or not len(part.test):
        raise DataError(
            f"fold {part.fold} of level {part.level!r} has {len(part.train)} windows for training and "
            f"{len(part.test)} for the test; give more windows or ask for fewer folds"
        )
    return part
