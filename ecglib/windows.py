"""Windows of two seconds and their labels, cut from records by a named rule.

Labels come from annotations alone (`labels`), signals when they are wanted (`fill`), so that a database of a hundred days
passes through the memory of a laptop.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from tqdm import tqdm

from ecglib import CLASSES, FS, WINDOW
from ecglib.counting import TABLE, count_table
from ecglib.errors import DataError, check_name
from ecglib.labelsets import LabelSet, load
from ecglib.records import Record, annotated, read_signal
from ecglib.rules import BEAT_CLASS, BLOCK_S, RHYTHM_CLASS, RULES, Labels, label
from ecglib.windowset import HALF_S, WindowSet, concat, load_windows

__all__ = [
    "BLOCK_S", "RULES", "TABLE", "WindowSet", "at", "concat", "count_table", "cut", "cut_database", "fill", "labels",
    "load_windows",
]  # fmt: skip

Set = LabelSet | str | os.PathLike[str]  # a label set, its name, or the path of its file

_PART_S = 3600.0  # signal read at once
_GAP_S = 60.0  # a longer stretch without windows is not read


def cut(record: Record, *, rule: str, seed: int = 0, labels: Set | None = None) -> WindowSet:
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
    labels : LabelSet, or its name or the path of its file, optional
        What the classes are, see `ecglib.labelsets`; the eight (as described here) if not given.

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
    kinds = load(labels)
    found = label(record, rule=rule, seed=seed, labels=kinds)
    first = _first(found.time, record.start)
    to_the_end = record.start + len(record.signal) / FS >= record.duration - 1 / FS
    inside = (first >= 0) & ((first + WINDOW <= len(record.signal)) | to_the_end)
    whole = _unfilled(found, record.name, record.database, kinds.classes)[inside]
    return replace(whole, x=_slices(record.signal, first[inside])[:, None, :])


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
    y = BEAT_CLASS.get(symbol, -1)
    if rhythm in RHYTHM_CLASS and (symbol == "N" or (rhythm, symbol) == ("SVTA", "A")):
        y = RHYTHM_CLASS[rhythm]
    first = round((anchor - HALF_S - record.start) * FS)
    first = min(max(0, first), len(record.signal) - WINDOW)  # near an end of the record the beat is off the centre
    if first < 0:
        raise DataError(f"record {record.name} is shorter than the window of {2 * HALF_S:g} s")
    found = Labels(np.array([y]), np.array([record.start + first / FS + HALF_S]), np.array([anchor]))
    whole = _unfilled(found, record.name, record.database, CLASSES)
    return replace(whole, x=record.signal[None, None, first : first + WINDOW])


def labels(
    name: str,
    *,
    rule: str,
    root: str | os.PathLike[str] | None = None,
    records: Iterable[str] | None = None,
    per_record: int | None = None,
    seed: int = 0,
    progress: bool = False,
    labels: Set | None = None,
) -> WindowSet:
    """Label every window of a database from its annotations alone.

    Parameters
    ----------
    name, root : see `ecglib.records.read_record`
    rule, seed, labels : see `cut`
    records : iterable of str, optional
        All of them if not given.
    per_record : int, optional
        Keep at most that many windows of a class and record.
    progress : bool
        Show a progress bar over the records.

    Returns
    -------
    WindowSet
        Its ``x`` has shape (N, 1, 0); `fill` reads the signals of it or of any part of it.
    """
    check_name("rule", rule, RULES)
    parts, kinds = [], load(labels)
    for record in annotated(name, root=root, records=records, progress=progress):
        found = label(record, rule=rule, seed=seed, labels=kinds)
        part = _unfilled(found, record.name, record.database, kinds.classes)
        parts.append(part if per_record is None else part.subsample(per_record, seed=seed))
    return concat(parts)


def fill(windows: WindowSet, *, root: str | os.PathLike[str] | None = None, progress: bool = False) -> WindowSet:
    """Read the signals of labelled windows, an hour at a time: a day needs no more memory than its windows do.

    Parameters
    ----------
    windows : WindowSet
        Of any records and databases, in any order; see `labels`.
    root : path, optional
        Data root.
    progress : bool
        Show a progress bar over the records.

    Returns
    -------
    WindowSet
        The same windows with ``x`` of shape (N, 1, 720), less those of which the lead holds no value (a warning
        says how many).

    Raises
    ------
    DataError
        The signal of a record is not here, or damaged.
    """
    x = np.empty((len(windows), 1, WINDOW), np.float32)
    recording, group = np.unique(np.stack([windows.database, windows.record], axis=1), axis=0, return_inverse=True)
    for k, (database, record) in enumerate(tqdm(recording.tolist(), desc="signals", disable=not progress)):
        index = np.flatnonzero(group == k)
        index = index[np.argsort(windows.time[index], kind="stable")]
        for part, start, stop in _parts(windows.time[index]):
            signal, begin = read_signal(database, record, root=root, start=start, stop=stop)
            x[index[part], 0] = _slices(signal, _first(windows.time[index[part]], begin))
    there = np.isfinite(x[:, 0, 0])  # a part without a single value is all NaN
    if there.all():
        return replace(windows, x=x)
    warnings.warn(f"{(~there).sum()} windows lie where their lead holds no value; they are left out", stacklevel=2)
    return replace(windows, x=x)[there]


def cut_database(
    name: str,
    *,
    rule: str,
    root: str | os.PathLike[str] | None = None,
    records: Iterable[str] | None = None,
    per_record: int | None = None,
    seed: int = 0,
    progress: bool = False,
    labels: Set | None = None,
) -> WindowSet:
    """Cut every record of a database: `labels`, then `fill`; arguments as of `labels`."""
    found = _labels(name, rule=rule, root=root, records=records, per_record=per_record, seed=seed, labels=labels)
    return fill(found, root=root, progress=progress)


# Internals -----------------------------------------------------------------------------------------------------


def _demand_beats(record: Record) -> None:
    if not len(record.beats):
        raise DataError(f"record {record.name} has no annotated beats, so no window of it can be labelled")
    if record.fs != FS:
        raise DataError(f"record {record.name} is at {record.fs:g} Hz; read it at fs={FS:g} to cut windows")


_labels = labels  # where an argument has its name


def _unfilled(found: Labels, record: str, database: str, classes: tuple[str, ...]) -> WindowSet:
    n = len(found.y)
    return WindowSet(
        x=np.empty((n, 1, 0), np.float32),
        y=found.y.astype(np.int64),
        record=np.full(n, record),
        database=np.full(n, database),
        time=found.time,
        anchor=found.anchor,
        classes=classes,
    )


def _first(time: np.ndarray, start: float) -> np.ndarray:
    """First sample of windows around ``time`` in a signal from ``start`` on: rounded alike wherever the signal begins."""
    return np.round((time - HALF_S) * FS).astype(int) - round(start * FS)


def _slices(signal: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Stretches of 720 samples from ``first`` on, (N, 720); past the end the last value goes on."""
    view = sliding_window_view(signal, WINDOW) if len(signal) >= WINDOW else np.empty((1, WINDOW), np.float32)
    x = view[np.minimum(first, len(view) - 1)]
    for i in np.flatnonzero(first + WINDOW > len(signal)):
        x[i] = signal[np.minimum(first[i] + np.arange(WINDOW), len(signal) - 1)]
    return x


def _parts(time: np.ndarray) -> Iterator[tuple[slice, float, float]]:
    """Stretches to read for windows at sorted times: (windows, start s, stop s)."""
    begin = 0
    for i in range(1, len(time) + 1):
        if i == len(time) or time[i] - time[i - 1] > _GAP_S or time[i] - time[begin] > _PART_S - 2 * HALF_S:
            yield slice(begin, i), max(0.0, time[begin] - HALF_S - 1 / FS), time[i - 1] + HALF_S + 1 / FS
            begin = i
