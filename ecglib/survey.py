"""What the annotations of a database say about its windows, counted once: the numbers behind two chapters.

Everything is an aggregate that may be committed; `everything` takes a database's numbers from its records where they are
here, and from the committed results where they are not, and says which.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from ecglib import CLASSES, recount
from ecglib.databases import database, folder, record_names
from ecglib.errors import DataError
from ecglib.excerpts import excerpts
from ecglib.records import Record, annotated
from ecglib.rules import BEAT_CLASS, RHYTHM_CLASS, Labels, label
from ecglib.wfdb_files import by_symbol
from ecglib.windows import TABLE, cut
from ecglib.windowset import HALF_S

BIN_S = 0.02  #: width of the bins in which R peaks are counted
BINS = np.arange(-50, 51) * BIN_S  #: their edges, s from the centre of the window, which is one of them exactly
_DRAWN = 1000  # windows of a class and record of which peaks are counted: more change nothing that could be seen


def survey(name: str, *, root: str | os.PathLike[str] | None = None, progress: bool = False) -> dict[str, Any]:
    """Count what a database's annotations say about its windows under the deck's rule.

    Returns
    -------
    dict
        ``records``, ``marks`` : how many were read.
        ``counts`` : record -> windows by class (8,).
        ``steps``, ``forced`` : rule -> step -> windows by class (8,); rule -> step -> class -> records that lose some.
        ``rhythms`` : class -> rhythm at the labelled mark -> windows; ``previous`` the rhythm before a rhythm's mark.
        ``beats`` : class -> number of beats in [t - 1 s, t + 1 s) -> windows; ``impure`` : class of beats -> whether one
        of them is of another class or of none -> windows.
        ``peaks`` : rule -> class -> share of windows with a beat in each bin of `BINS` (100,).
        ``delay`` : class -> 5, 50, 95 % of the time from a rhythm's mark to the next beat, s.
    """
    out: dict[str, Any] = {"records": 0, "marks": 0, "counts": {}, "steps": {}, "forced": {}, "delay": {}}
    tables: dict[str, Counter[tuple[str, str]]] = {k: Counter() for k in ("rhythms", "previous", "beats", "impure")}
    peaks = {rule: np.zeros((len(CLASSES), len(BINS))) for rule in ("deck", "clean")}  # last column: windows drawn
    delays: dict[str, list[np.ndarray]] = {c: [] for c in RHYTHM_CLASS}
    steps: dict[str, dict[str, np.ndarray]] = {}
    for record in annotated(name, root=root, progress=progress):
        out["records"] += 1
        out["marks"] += len(record.marks)  # type: ignore[arg-type]
        windows = {rule: label(record, rule=rule) for rule in peaks}
        out["counts"][record.name] = np.bincount(windows["deck"].y, minlength=len(CLASSES)).tolist()
        for rule in peaks:
            peaks[rule] += _peaks(record, windows[rule])
        for key, table in _contents(record, windows["deck"]).items():
            tables[key] += table
        for c in RHYTHM_CLASS:
            own = (windows["deck"].y == CLASSES.index(c)) & (windows["deck"].time <= record.beats.time[-1:])
            delays[c].append(windows["deck"].anchor[own] - windows["deck"].time[own])
        _add_steps(steps, out["forced"], recount.steps(record), record.name)
    out["steps"] = {rule: {s: n.tolist() for s, n in by_step.items()} for rule, by_step in steps.items()}
    out |= {key: _nested(table) for key, table in tables.items()}
    with np.errstate(invalid="ignore"):
        out["peaks"] = {
            rule: {c: (n[k, :-1] / n[k, -1]).round(4).tolist() for k, c in enumerate(CLASSES) if n[k, -1]}
            for rule, n in peaks.items()
        }
    for c, waits in delays.items():
        if len(delay := np.concatenate(waits)):
            out["delay"][c] = np.percentile(delay, [5, 50, 95]).round(4).tolist()
    return out


def everything(
    root: str | os.PathLike[str] | None, committed: dict[str, Any], *, progress: bool = False
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Surveys of the table's three databases, and the names of those that were counted here and now.

    Parameters
    ----------
    root : path, optional
        Data root.
    committed : dict
        Surveys by database, to stand in for those whose records are not all here.
    """
    here = tuple(name for name in TABLE if is_whole(name, committed[name]["records"], root=root))
    return {n: survey(n, root=root, progress=progress) if n in here else committed[n] for n in TABLE}, here


def is_whole(name: str, records: int, *, root: str | os.PathLike[str] | None = None) -> bool:
    """Whether all records of a database are here with their annotations; signals are not asked for."""
    try:
        names = record_names(name, root)
    except DataError:
        return False
    return len(names) == records and all((folder(name, root) / f"{r}.atr").is_file() for r in names)


def signals_at_hand(found: dict[str, Any], *, root: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Windows of the deck's rule whose signals are here, by database (rows) and class.

    Columns "records" (with a signal file), "excerpts" (of `ecglib.excerpts`, counted where no record is whole), and the
    classes; ``found`` are surveys by database.
    """
    rows = {}
    for name in TABLE:
        try:
            here = [r for r in record_names(name, root) if (folder(name, root) / f"{r}.dat").is_file()]
        except DataError:
            here = []
        counts = np.sum([found[name]["counts"][r] for r in here if r in found[name]["counts"]], axis=0, initial=0)
        parts = [] if here or name == "mitdb" else list(excerpts(name, root=root))
        for part in parts:
            counts = counts + cut(part, rule="deck").counts().to_numpy()
        per_class = dict(zip(CLASSES, np.broadcast_to(counts, len(CLASSES)), strict=True))
        rows[name] = {"records": len(here), "excerpts": len(parts)} | per_class
    return pd.DataFrame(rows).T.astype(int)


def table_of(found: dict[str, Any]) -> pd.DataFrame:
    """The table of windows, as `ecglib.windows.count_table` gives it, from surveys by database."""
    columns = {}
    for name, dashes in TABLE.items():
        total = pd.Series(np.sum(list(found[name]["counts"].values()), axis=0), index=list(CLASSES), dtype=float)
        columns[name] = total.mask(total.index.isin(dashes))
    return pd.DataFrame(columns)


def concentration(found: dict[str, Any]) -> pd.DataFrame:
    """Windows by class, database, patient and record: class, database, record, patient, windows."""
    rows = [
        (c, name, record, database(name).patient(record), n)
        for name in found
        for record, counts in found[name]["counts"].items()
        for c, n in zip(CLASSES, counts, strict=True)
        if n and c not in TABLE[name]
    ]
    return pd.DataFrame(rows, columns=["class", "database", "record", "patient", "windows"])


# Internals -----------------------------------------------------------------------------------------------------


def _peaks(record: Record, found: Labels) -> np.ndarray:
    """Windows of each class with a beat in each bin, and in the last column how many windows there are: (8, 101)."""
    out = np.zeros((len(CLASSES), len(BINS)))
    for c in range(len(CLASSES)):
        time = found.time[found.y == c]
        time = time[:: -(-len(time) // _DRAWN) or 1]
        # a beat on an edge belongs to the bin that begins there: rounding must not move it
        edges = np.searchsorted(record.beats.time, time[:, None] + (BINS - 1e-9))  # (windows, 101)
        out[c] = np.r_[(np.diff(edges, axis=1) > 0).sum(0), len(time)]
    return out


def _contents(record: Record, found: Labels) -> dict[str, Counter[tuple[str, str]]]:
    """Windows by class and, in turn, rhythm, rhythm before, beats within, whether another beat is within."""
    peaks, shown = record.beats.time, record.rhythms
    low = np.searchsorted(peaks, found.time - HALF_S - 1e-9)
    high = np.searchsorted(peaks, found.time + HALF_S - 1e-9)
    kind = by_symbol(record.beats.symbol, BEAT_CLASS, other=-1)
    # the episode at the window's centre, 0 before the first mark; a record without marks has one, of unknown rhythm
    shown_names, code = np.unique(np.r_[["none" if len(shown) else "unknown"], shown.label], return_inverse=True)
    episode = np.searchsorted(shown.start, found.time + 1e-9)
    is_rhythm = np.isin(found.y, list(RHYTHM_CLASS.values()))
    own = np.zeros(len(found.y), int)
    for c in np.unique(found.y):
        total, mine = np.r_[0, np.cumsum(kind == c)], found.y == c
        own[mine] = total[high[mine]] - total[low[mine]]

    def count(
        key: np.ndarray, keys: Iterable[str], among: np.ndarray | slice = slice(None)
    ) -> Counter[tuple[str, str]]:
        pairs = list(itertools.product(CLASSES, names := list(keys)))
        table = np.bincount(found.y[among] * len(names) + key[among], minlength=len(pairs))
        return Counter({pair: int(n) for pair, n in zip(pairs, table, strict=True) if n})

    return {
        "rhythms": count(code[episode], shown_names),
        "previous": count(code[np.maximum(episode - 1, 0)], shown_names, is_rhythm),
        "beats": count(high - low, [str(n) for n in range(int((high - low).max(initial=0)) + 1)]),
        "impure": count((high - low > own).astype(int), ["False", "True"], ~is_rhythm),
    }


def _add_steps(
    total: dict[str, dict[str, np.ndarray]],
    forced: dict[str, dict[str, dict[str, list[str]]]],
    found: dict[str, dict[str, np.ndarray]],
    record: str,
) -> None:
    """Add a record's counts, and note where it loses windows against the last step that was no variant."""
    for rule, by_step in found.items():
        last = None
        for step, n in by_step.items():
            total.setdefault(rule, {}).setdefault(step, np.zeros(len(CLASSES), int))
            total[rule][step] = total[rule][step] + n
            losses = forced.setdefault(rule, {}).setdefault(step, {})
            for c in np.flatnonzero((last if last is not None else n) > n):
                losses.setdefault(CLASSES[c], []).append(record)
            last = last if step in recount.ASIDE else n


def _nested(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (c, key), n in sorted(counts.items()):
        nested.setdefault(c, {})[str(key)] = n
    return nested
