"""A long record explained a block at a time, so that a day fits into memory and a kill loses one block.

A block of the saliency signal takes every window that reaches into it, also those of beats beyond its borders, so that
blocks joined are what `ecglib.explain.explain_record` returns.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from tqdm import tqdm

from ecglib import CLASSES, FS, WINDOW, detect, explain, explain_folder, signals, wfdb_files
from ecglib.databases import folder, record_names
from ecglib.errors import DataError, check_name
from ecglib.explained import Explained
from ecglib.files import write_atomically
from ecglib.records import Record, open_record, read_annotations, read_record

_LONG_S = 3600.0  # a longer record of a database is read a block at a time
_REACH_S = 30.0  # read beyond a block: missing values are bridged within what is read, and so alike in every block

Read = Callable[[int, int], np.ndarray]  # samples a … b of the file -> (b - a,) float32 mV


def explain_file(
    what: str | os.PathLike[str],
    record: str | None = None,
    *,
    model: nn.Module,
    out_dir: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    start: float = 0.0,
    stop: float | None = None,
    lead: str | None = None,
    native_fs: float | None = None,
    unit: str | None = None,
    classes: Sequence[str] = CLASSES,
    method: str = "cam",
    target: str | int | None = None,
    block_s: float = 600.0,
    batch_size: int = explain.BATCH,
    resume: bool = True,
    replace: bool = False,
    progress: bool = True,
    say: Callable[[str], object] | None = None,
) -> Explained:
    """Explain a record of a database, or a file of one's own, a block at a time.

    Parameters
    ----------
    what : str or path
        Database, with ``record``; or the path of a file that `ecglib.records.open_record` opens.
    record : str, optional
        Record of the database.
    out_dir : path
        Where each finished block is kept.  A run that was killed goes on there; one that was finished is read again.
    start, stop, lead
        See `ecglib.records.read_record`.
    native_fs, unit
        Of a file that does not tell them, see `ecglib.records.open_record`.
    block_s : float
        Length of a block, s.
    resume : bool
        False begins anew.
    replace : bool
        Begin anew, too, where ``out_dir`` holds the explanation of something else: of another file, or with another option.
    progress : bool
        Show a progress bar over the blocks.
    say : callable
        Gets one line where an earlier run is taken up, or removed by ``replace``; by default it is not shown.
    model, classes, method, target, batch_size
        See `ecglib.explain.explain_record`.

    Returns
    -------
    Explained
        Also written: ``beats.csv``.  A record of a database that is longer than an hour is never read whole: a missing
        stretch is then bridged by a straight line within a block and 30 s around, and one without any value left out.

    Raises
    ------
    DataError
        As `explain_record`; ``out_dir`` holds the explanation of something else, and ``replace`` is False.
    """
    if block_s * FS < WINDOW:
        raise DataError(f"block_s is {block_s:g}; give 2 s or more (600 is a good length)")
    if record is not None and (native_fs is not None or unit):
        raise DataError(f"record {record} of {what} tells its rate and unit; leave out native_fs and unit")
    told = {"native_fs": native_fs, "unit": unit}
    notes, read, first, end = _open(what, record, root=root, start=start, stop=stop, lead=lead, told=told)
    out, where = Path(out_dir), what if record is None else folder(str(what), root) / record
    aim = explain.class_of(target, classes)
    check_name("method", method, explain.METHODS)  # before anything is written
    settings = {
        "record": notes.name, "database": notes.database, "first": first, "end": end, "lead": notes.lead,
        "native_fs": notes.native_fs, "unit": unit or None, "sha256": explain_folder.content(where), "method": method,
        "target": aim, "classes": list(classes), "block_s": block_s, "batch_size": batch_size,
        "model": explain_folder.fingerprint(model),
    }  # fmt: skip
    line = explain_folder.claim(out, settings, resume=resume, replace=replace)
    if line and say:
        say(line)
    beats = notes.beats if len(notes.beats) else _find(read, first, end, out, progress=progress)
    begin = explain.window_starts(beats.time, first, end, name=notes.name)
    place = np.round(np.asarray(beats.time) * FS).astype(int)
    parts = []
    for k, (a, b) in enumerate(tqdm(list(_blocks(first, end, block_s)), desc="blocks", disable=not progress)):
        file = out / f"block-{k:05d}.npz"
        if not (kept := explain_folder.kept(file, "probability", "saliency")):
            touching = np.flatnonzero((begin < b) & (begin + WINDOW > a))
            low, high = min([a, *begin[touching]]), max([b, *(begin[touching] + WINDOW)])
            probability, total, count = explain.run(
                read(low, high), begin[touching] - low, model=model, n_classes=len(classes), method=method,
                target=aim, batch_size=batch_size, progress=False,
            )  # fmt: skip
            own = ((place >= a) | (a == first)) & ((place < b) | (b == end))
            saliency = explain.average(total, count)[a - low : b - low]
            kept = probability[own[touching]], saliency
            write_atomically(file, explain_folder.packed(probability=kept[0], saliency=kept[1]))
        parts.append(kept)
    table = explain.beat_table(notes, beats, np.concatenate([p for p, _ in parts]), classes)
    write_atomically(out / "beats.csv", table.to_csv(index=False, float_format="%.6g"))
    return Explained(table, np.concatenate([s for _, s in parts]), FS, notes.name, notes.database, first / FS)


# Internals -----------------------------------------------------------------------------------------------------


def _open(
    what: Any,
    record: str | None,
    *,
    root: Any,
    start: float,
    stop: float | None,
    lead: str | None,
    told: dict[str, Any],
) -> tuple[Record, Read, int, int]:
    """Annotations of the part, how to read samples of it, and its first sample and the one past its last."""
    if record is not None:
        check_name("record", record, record_names(str(what), root), hint=f"records of {what}")
        path = folder(str(what), root) / record
        header = wfdb_files.header(path)
        long = (header.sig_len or 0) > _LONG_S * header.fs and Path(f"{path}.atr").is_file()
        if long:
            notes = read_annotations(str(what), record, root=root)
            end = min(notes.duration if stop is None else stop, notes.duration)
            samples = [int(np.ceil(t * FS - 1e-6)) for t in (start, end)]
            inside = (notes.beats.time >= start) & (notes.beats.time < end)
            notes = dataclasses.replace(notes, beats=notes.beats[inside], lead=lead or "")
            return notes, lambda a, b: _stretch(path, header, a, b, *samples, lead=lead), samples[0], samples[1]
        whole = read_record(str(what), record, root=root, start=start, stop=stop, lead=lead)
    else:
        whole = open_record(what, start=start, stop=stop, lead=lead, **told)
    first = round(whole.start * FS)
    end_sample = first + len(whole.signal)
    return whole, lambda a, b: whole.signal[a - first : b - first], first, end_sample


def _stretch(path: Path, header: Any, a: int, b: int, first: int, end: int, *, lead: str | None) -> np.ndarray:
    low, high = max(first, a - round(_REACH_S * FS)), min(end, b + round(_REACH_S * FS))
    part = signals.read(path, header, start=low / FS, stop=high / FS, fs=FS, lead=lead, strict=False)
    return part.signal[a - low : b - low]


def _blocks(first: int, end: int, block_s: float) -> Iterator[tuple[int, int]]:
    yield from itertools.pairwise([*range(first, end, round(block_s * FS)), end])


def _find(read: Read, first: int, end: int, out: Path, *, progress: bool) -> np.recarray:
    """R peaks of a record without annotated beats, kept a stretch at a time."""
    found = []
    whole = list(detect.stretches(first, end))
    for k, (low, a, b, high) in enumerate(tqdm(whole, desc="R peaks", disable=not progress)):
        file = out / f"peaks-{k:05d}.npz"
        if not (kept := explain_folder.kept(file, "time")):
            kept = (detect.in_stretch(read(low, high), low, a, b),)
            write_atomically(file, explain_folder.packed(time=kept[0]))
        found.append(kept[0])
    time = np.concatenate(found)
    return wfdb_files.table(time=time, symbol=np.full(len(time), "", "U2"))
