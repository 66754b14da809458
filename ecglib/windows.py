"""Windows of two seconds and their labels, cut from records by a named rule.

``"deck"`` is the rule that reproduces the published counts; ``"clean"`` is ours and removes what the published rule
lets a network learn besides the rhythm: the place of the R peak, the rhythm before, and overlap between blocks.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd
from tqdm import tqdm

from ecglib import CLASSES, FS, WINDOW
from ecglib.databases import record_names
from ecglib.errors import DataError, check_name
from ecglib.records import BEAT_SYMBOLS, Record, read_annotations, read_record
from ecglib.windowset import HALF_S, WindowSet, concat, load_windows

__all__ = ["RULES", "WindowSet", "at", "concat", "count_table", "cut", "cut_database", "load_windows"]

RULES: Mapping[str, str] = MappingProxyType(
    {
        "deck": "±1 s around each annotation: beats by their symbol, rhythms by the mark of their onset (as published)",
        "clean": "inside one episode, no beat of another class, the labelled R peak anywhere from 0.5 to 1.5 s (ours)",
    }
)
BLOCK_S = 60.0  #: no clean window crosses, or comes within half a window of, a multiple of this time
_REACH_S = 1.5  # a clean R peak lies 0.5 to 1.5 s into its window, so no window reaches further than this from it

_BEAT_CLASS = {"N": 0, "V": 1, "A": 2, "L": 6, "R": 7}
_RHYTHM_CLASS = {"AFIB": 3, "SVTA": 4, "SBR": 5}


def cut(record: Record, *, rule: str, seed: int = 0) -> WindowSet:
    """Cut one record into labelled windows.

    Parameters
    ----------
    record : Record
        At 360 Hz, with beats.
    rule : {"deck", "clean"}
        "deck": a window is ±1 s around an annotation.  MITDB, and the rhythm marks of LTAFDB, follow rule A: dropped
        only if it begins before the record does (a window past the end is continued with its last value), and a class
        with a single window in a record yields none.  Beats of LTAFDB and LTDB follow rule B: the closed window lies
        between the first and the last annotation and every annotation in it carries the same label.  Both were
        inferred from the published counts, of which they reproduce 11 of 15 exactly.

        "clean": every class is anchored on a beat whose R peak is placed uniformly between 0.5 and 1.5 s of the
        window; everything within 1.5 s of that peak lies in one rhythm episode and shows no beat of another class
        (PVC and PAC windows may show N beats); no window touches two 60-s blocks.  N has both RR intervals in
        [0.6, 1.0) s; SBR is an `(SBR` episode, or an N beat between N beats with both RR intervals of 1.0 s or more
        (the definition of bradycardia: MITDB has a single `(SBR` mark).
    seed : int
        Of the random placement ("clean" only); the record's name is mixed in, so records can be cut in any order.

    Returns
    -------
    WindowSet

    Raises
    ------
    UnknownNameError, DataError
        No such rule; no beats; a record at another rate than 360 Hz.
    """
    check_name("rule", rule, RULES)
    _demand_beats(record)
    label, anchor, centre = _deck(record) if rule == "deck" else _clean(record, seed)
    first = np.round((centre - HALF_S - record.start) * FS).astype(int)
    to_the_end = record.start + len(record.signal) / FS >= record.duration - 1 / FS
    inside = (first >= 0) & ((first + WINDOW <= len(record.signal)) | to_the_end)
    label, anchor, centre, first = label[inside], anchor[inside], centre[inside], first[inside]
    index = np.minimum(first[:, None] + np.arange(WINDOW), len(record.signal) - 1)  # past the end: the last value
    n = len(label)
    return WindowSet(
        x=record.signal[index][:, None, :],
        y=label.astype(np.int64),
        record=np.full(n, record.name),
        database=np.full(n, record.database),
        time=centre,
        anchor=anchor,
    )


def at(record: Record, *, time: float) -> WindowSet:
    """Cut the window centred on the beat nearest to ``time``, as one `WindowSet`; for looking, not for training.

    Its label is that of the rhythm where the rhythm is one of the classes and the beat an ordinary one, else that of the
    beat's symbol; -1 if it is none of the eight.
    """
    _demand_beats(record)
    nearest = int(np.argmin(np.abs(record.beats.time - time)))
    anchor, symbol = float(record.beats.time[nearest]), str(record.beats.symbol[nearest])
    episode = np.flatnonzero((record.rhythms.start <= anchor) & (anchor < record.rhythms.stop))
    rhythm = str(record.rhythms.label[episode[-1]]) if len(episode) else ""
    label = _BEAT_CLASS.get(symbol, -1)
    if rhythm in _RHYTHM_CLASS and (symbol == "N" or (rhythm, symbol) == ("SVTA", "A")):
        label = _RHYTHM_CLASS[rhythm]
    first = round((anchor - HALF_S - record.start) * FS)
    first = min(max(0, first), len(record.signal) - WINDOW)  # near an end of the record the beat is off the centre
    if first < 0:
        raise DataError(f"record {record.name} is shorter than the window of {2 * HALF_S:g} s")
    return WindowSet(
        x=record.signal[None, None, first : first + WINDOW],
        y=np.array([label]),
        record=np.array([record.name]),
        database=np.array([record.database]),
        time=np.array([record.start + first / FS + HALF_S]),
        anchor=np.array([anchor]),
    )


def cut_database(
    name: str,
    *,
    rule: str,
    root: str | os.PathLike[str] | None = None,
    records: Iterable[str] | None = None,
    per_record: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> WindowSet:
    """Cut every record of a database; ``per_record`` keeps at most that many windows of a class and record."""
    check_name("rule", rule, RULES)
    parts = []
    records = record_names(name, root) if records is None else records
    for r in tqdm(list(records), desc=f"windows of {name}", disable=not progress):
        part = cut(read_record(name, r, root=root), rule=rule, seed=seed)
        parts.append(part if per_record is None else part.subsample(per_record, seed=seed))
    return concat(parts)


def count_table(root: str | os.PathLike[str] | None = None, *, rule: str = "deck") -> pd.DataFrame:
    """Windows by class and database, from annotations alone.

    Returns
    -------
    DataFrame
        Index `ecglib.CLASSES`, a column for each of mitdb, ltafdb, ltdb that is present; NaN where the deck has a dash.
    """
    check_name("rule", rule, RULES)
    columns = {}
    for name, dashes in (("mitdb", "SBR"), ("ltafdb", "LBBB RBBB"), ("ltdb", "PAC AFIB SVTA SBR LBBB RBBB")):
        try:
            records = record_names(name, root)
        except DataError:
            continue
        counts = np.zeros(len(CLASSES))
        for r in records:
            record = read_annotations(name, r, root=root)
            label = _deck(record)[0] if rule == "deck" else _clean(record, 0)[0]
            counts += np.bincount(label, minlength=len(CLASSES))
        columns[name] = pd.Series(counts, index=list(CLASSES)).mask(
            np.isin(CLASSES, dashes.split() if rule == "deck" else [])
        )
    if not columns:
        record_names("mitdb", root)  # raises, and says how to get it
    return pd.DataFrame(columns)


# Internals -----------------------------------------------------------------------------------------------------


def _demand_beats(record: Record) -> None:
    if not len(record.beats):
        raise DataError(f"record {record.name} has no annotated beats, so no window of it can be labelled")
    if record.fs != FS:
        raise DataError(f"record {record.name} is at {record.fs:g} Hz; read it at fs={FS:g} to cut windows")


def _codes(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Native sample and class (-1: none of the eight) of every mark."""
    marks = record.marks
    assert marks is not None
    beat = np.array([_BEAT_CLASS.get(s, -1) for s in marks.symbol], int)
    rhythm = np.array([_RHYTHM_CLASS.get(a.lstrip("("), -1) if a else -1 for a in marks.aux], int)
    is_rhythm = (marks.symbol == "+") & np.char.startswith(marks.aux, "(")
    return np.round(marks.time * record.native_fs).astype(int), np.where(is_rhythm, rhythm, beat)


def _deck(record: Record) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sample, label = _codes(record)
    second = round(record.native_fs)
    # Rule A for every class of MITDB (and of records that are not in the table), for rhythms elsewhere.
    rule_a = (label >= 0) & (sample >= second)
    if record.database in {"ltafdb", "ltdb"}:
        is_beat = np.isin(label, list(_BEAT_CLASS.values()))
        rule_a &= ~is_beat
        low, high = np.searchsorted(sample, sample - second), np.searchsorted(sample, sample + second, side="right")
        change = np.cumsum(np.r_[False, label[1:] != label[:-1]]) if len(label) else np.empty(0, int)
        pure = change[low] == change[high - 1] if len(label) else np.empty(0, bool)
        inside = (sample - second >= sample[:1]) & (sample + second <= sample[-1:])
        rule_b = is_beat & pure & inside
    else:
        rule_b = np.zeros(len(label), bool)
    alone = np.bincount(label[rule_a], minlength=len(CLASSES)) == 1
    rule_a &= ~alone[label]
    keep = rule_a | rule_b
    time = sample[keep] / record.native_fs
    beat = np.searchsorted(record.beats.time, time - 1e-9)  # the labelled beat, or the first one after a rhythm mark
    anchor = np.where(beat < len(record.beats), record.beats.time[np.minimum(beat, len(record.beats) - 1)], time)
    return label[keep], anchor, time


#: rhythms in which a beat class may be shown: its own pattern (B, T: ventricular bigeminy, trigeminy) is not another
_HOSTS = {0: {"N"}, 1: {"N", "B", "T"}, 2: {"N", "AB"}, 3: {"AFIB"}, 4: {"SVTA"}, 5: {"N", "SBR"}, 6: {"N"}, 7: {"N"}}
#: beats that may stand in the window beside the labelled one
_COMPANY = {0: "N", 1: "NV", 2: "NA", 3: "N", 4: "NAaJS", 5: "N", 6: "L", 7: "R"}


def _clean(record: Record, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    marks, time, symbol = record.marks, record.beats.time, record.beats.symbol
    assert marks is not None
    rr = np.diff(time, prepend=np.nan, append=np.nan)  # beyond the ends it is unknown, not long
    before, after = rr[:-1], rr[1:]
    slow = (before >= 1.0) & (after >= 1.0)
    brisk = (before >= 0.6) & (after >= 0.6) & (before < 1.0) & (after < 1.0)
    episode = np.searchsorted(record.rhythms.start, time, side="right") - 1
    known = len(record.rhythms) > 0
    rhythm = np.where(episode >= 0, record.rhythms.label[episode], "") if known else np.full(len(time), "N")
    from_s = record.rhythms.start[episode] if known else np.zeros(len(time))
    to_s = record.rhythms.stop[episode] if known else np.full(len(time), record.duration)
    whole = (time - _REACH_S >= np.maximum(from_s, 0)) & (time + _REACH_S <= np.minimum(to_s, record.duration))
    own = {0: brisk, 5: slow | (rhythm == "SBR")}
    symbol_of = {0: "N", 1: "V", 2: "A", 3: "N", 4: "NAaJS", 5: "N", 6: "L", 7: "R"}
    label = np.full(len(time), -1)
    shown = BEAT_SYMBOLS | {"!", "[", "]", "x"}  # flutter waves and blocked P waves speak of a rhythm as beats do
    for c in range(len(CLASSES)):
        alien = marks.time[np.isin(marks.symbol, list(shown - set(_COMPANY[c])))]
        alone = np.searchsorted(alien, time - _REACH_S) == np.searchsorted(alien, time + _REACH_S, side="right")
        mine = np.isin(symbol, list(symbol_of[c])) & np.isin(rhythm, list(_HOSTS[c])) & alone & whole
        label[mine & own.get(c, True)] = c
    rng = np.random.default_rng([seed, zlib.crc32(f"{record.database}/{record.name}".encode())])
    centre = time + HALF_S - rng.uniform(2 * HALF_S - _REACH_S, _REACH_S, len(time))
    centre = np.round((centre - HALF_S) * FS) / FS + HALF_S  # on the grid of samples, so that time is exact
    in_block = centre % BLOCK_S
    label[(in_block < 2 * HALF_S) | (in_block > BLOCK_S - 2 * HALF_S)] = -1
    keep = label >= 0
    return label[keep], time[keep], centre[keep]
