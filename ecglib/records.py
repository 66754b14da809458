"""Records: one lead in mV at the rate that the models expect, with its beats and rhythm episodes.

The samples of a `Record` sit at ``start + k / fs``; all times are seconds from the beginning of the *file*, also
when only a part of it is read, so that a time names the same beat everywhere in the project.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ecglib import FS, own_files, signals, wfdb_files
from ecglib.databases import database, folder, record_names
from ecglib.errors import DataError, check_name
from ecglib.signals import resample

__all__ = [
    "BEAT_SYMBOLS", "Record", "annotated", "open_record", "read_annotations", "read_record", "read_signal", "resample",
]  # fmt: skip

#: WFDB codes that mark a heart beat (https://archive.physionet.org/physiobank/annotations.shtml)
BEAT_SYMBOLS = frozenset("N L R B A a J S V r F e j n E / f Q ?".split())

_SHORT_S = 3600.0  # a record up to this long is read whole


@dataclass(frozen=True)
class Record:
    """One lead of a recording.

    Attributes
    ----------
    signal : ndarray of shape (T,), float32
        Millivolts; missing samples are bridged linearly and counted in ``missing``.
    fs, native_fs : float
        Rate of ``signal`` and of the file, Hz.
    start : float
        Time of ``signal[0]``, s from the beginning of the file.
    duration : float
        Length of the whole file, s (not of the part that was read).
    lead : str
        Name of the lead that was taken.
    beats : recarray of (time s, symbol)
    rhythms : recarray of (start s, stop s, label)
        Episodes between rhythm marks, label without its parenthesis: ``AFIB``.
    marks : recarray of (time s, symbol, aux)
        Every annotation of the file, in order of time.
    missing : int
        Number of samples of this part (at the file's rate) that held no value.
    """

    signal: np.ndarray
    fs: float
    lead: str
    beats: np.recarray
    rhythms: np.recarray
    name: str
    database: str
    start: float = 0.0
    duration: float = 0.0
    native_fs: float = FS
    marks: np.recarray | None = None
    missing: int = 0

    @property
    def patient(self) -> str:
        """Patient identifier, unique across databases (MITDB 201 and 202 are one man)."""
        return database(self.database).patient(self.name) if self.database else self.name


def read_record(
    name: str,
    record: str,
    *,
    root: str | os.PathLike[str] | None = None,
    start: float = 0.0,
    stop: float | None = None,
    fs: float = FS,
    lead: str | None = None,
) -> Record:
    """Read one lead of a catalogued record, with its annotations.

    Parameters
    ----------
    name : str
        Database, a key of `ecglib.databases.DATABASES`.
    record : str
        Record name, ``"208"``.
    root : path, optional
        Data root; see `ecglib.databases.data_root`.
    start, stop : float, optional
        Part to read, seconds from the beginning of the file.
    fs : float
        Rate of the result, Hz; polyphase resampling whose delay is zero at every rate.
    lead : str, optional
        Lead to take; by default MLII where the record has it, else its first channel.

    Returns
    -------
    Record

    Raises
    ------
    UnknownNameError
        No such database, record or lead.
    DataError
        The files are absent, truncated or contradict each other, or the lead is flat or empty.

    Examples
    --------
    >>> record = read_record("mitdb", "208", start=60, stop=70)  # doctest: +SKIP
    >>> record.signal.shape, record.lead  # doctest: +SKIP
    ((3600,), 'MLII')
    """
    check_name("record", record, record_names(name, root), hint=f"records of {name}")
    return _read(folder(name, root) / record, database=name, start=start, stop=stop, fs=fs, lead=lead)


def read_annotations(name: str, record: str, *, root: str | os.PathLike[str] | None = None) -> Record:
    """Read a record's annotations alone: a `Record` with an empty signal (LTAFDB and LTDB need no more to be counted)."""
    check_name("record", record, record_names(name, root), hint=f"records of {name}")
    path = folder(name, root) / record
    header = wfdb_files.header(path)
    if not Path(f"{path}.atr").is_file():
        raise DataError(f"record {record} has no annotations {record}.atr in {path.parent}; fetch it")
    return _beside(path, header, database=name, fs=header.fs)


def annotated(
    name: str,
    *,
    root: str | os.PathLike[str] | None = None,
    records: Iterable[str] | None = None,
    progress: bool = False,
) -> Iterator[Record]:
    """`read_annotations` of some or all (``records`` None) records of a database, one after the other."""
    names = record_names(name, root) if records is None else list(records)
    for record in tqdm(names, desc=f"annotations of {name}", disable=not progress):
        yield read_annotations(name, record, root=root)


def read_signal(
    name: str, record: str, *, root: str | os.PathLike[str] | None = None, start: float = 0.0, stop: float | None = None
) -> tuple[np.ndarray, float]:
    """Read a stretch of a record's lead at 360 Hz and nothing else: the samples (T,) in mV, and the time of the first, s.

    Of a record up to an hour long all is read, which is what its checksum is for; of a longer one the stretch.
    A stretch that is flat comes as it is, one without any value as NaN: in a day there are such minutes.
    """
    path = folder(name, root) / record
    header = wfdb_files.header(path)
    if (header.sig_len or 0) <= _SHORT_S * header.fs:
        start, stop = 0.0, None
    part = signals.read(path, header, start=start, stop=stop, fs=FS, lead=None, strict=False)
    return part.signal, part.start


def open_record(
    path: str | os.PathLike[str],
    *,
    start: float = 0.0,
    stop: float | None = None,
    fs: float = FS,
    lead: str | int | None = None,
    native_fs: float | None = None,
    unit: str | None = None,
) -> Record:
    """Open a file of one's own: any WFDB record (``.hea``, ``.dat`` or no suffix), EDF, EDF+ or BDF, or CSV.

    Of EDF+, annotations that are beat symbols become beats, those like ``(AFIB`` rhythms, all others marks.

    Parameters
    ----------
    path : path
        A CSV may have commas, semicolons, tabs or spaces, decimal commas, heads or none, and be compressed (``.gz``).
    start, stop, fs
        As `read_record`: ``fs`` is the rate of the result.
    lead : str or int, optional
        Name, or in EDF and CSV also number counted from 1; to be given where several can be meant (WFDB: as `read_record`).
    native_fs : float, optional
        Rate of a CSV, Hz, where no column of times and no line of the file tells it.
    unit : {"mV", "uV", "V"}, optional
        Unit of EDF or CSV where the file does not tell it, or tells it wrongly.

    Raises
    ------
    UnknownNameError, DataError
        As `read_record`; also a file that is interrupted (EDF+D), under 2 s, without rate or unit, or like no ECG.
    """
    path = Path(path).expanduser()
    stem = path.with_suffix("") if path.suffix in {".hea", ".dat", ".atr"} else path
    if Path(f"{stem}.hea").is_file():
        if native_fs is not None or unit:
            raise DataError(f"the header of record {stem.name} tells its rate and unit; leave out native_fs and unit")
        return _read(stem, database="", start=start, stop=stop, fs=fs, lead=lead)  # type: ignore[arg-type]
    options: Any = dict(lead=lead, native_fs=native_fs, unit=unit, beats=BEAT_SYMBOLS)
    own = own_files.read(path, start=start, stop=stop, fs=fs, **options)
    name = Path(path.name.removesuffix(".gz")).stem
    whole = _assemble(name, own.marks, "", own.native_fs, own.duration, fs, own.part)
    return _within(whole, start, stop, own.part.stop)


# Internals -----------------------------------------------------------------------------------------------------


def _read(path: Path, *, database: str, start: float, stop: float | None, fs: float, lead: str | None) -> Record:
    header = wfdb_files.header(path)
    part = signals.read(path, header, start=start, stop=stop, fs=fs, lead=lead)
    return _within(_beside(path, header, database=database, fs=fs, part=part), start, stop, part.stop)


def _within(record: Record, start: float, stop: float | None, end: float) -> Record:
    """``record`` with the annotations of a part."""
    if start == 0 and stop is None:
        return record
    beats = record.beats[(record.beats.time >= start) & (record.beats.time < end)]
    overlap = (record.rhythms.stop > start) & (record.rhythms.start < end)
    within = (record.marks.time >= start) & (record.marks.time < end)  # type: ignore[union-attr]
    return replace(record, beats=beats, rhythms=record.rhythms[overlap], marks=record.marks[within])  # type: ignore[index]


def _beside(path: Path, header: Any, *, database: str, fs: float, part: signals.Part = signals.NOTHING) -> Record:
    """Join a signal with the annotation file beside it."""
    native = float(header.fs)
    return _assemble(
        path.name, wfdb_files.marks(path, native), database, native, (header.sig_len or 0) / native, fs, part
    )


def _assemble(name: str, marks: Any, database: str, native: float, duration: float, fs: float, part: Any) -> Record:
    end = duration or float(max([0, *marks.time[-1:]]))
    is_beat = wfdb_files.by_symbol(marks.symbol, dict.fromkeys(BEAT_SYMBOLS, True), other=False)
    changes = marks[wfdb_files.by_symbol(marks.symbol, {"+": True}, other=False)]
    changes = changes[np.char.startswith(changes.aux, "(")]
    onset = changes.time
    offset = np.append(onset[1:], end) if len(onset) else onset
    return Record(
        part.signal, float(fs), part.lead,
        beats=wfdb_files.table(time=marks.time[is_beat], symbol=marks.symbol[is_beat]),
        rhythms=wfdb_files.table(start=onset, stop=np.maximum(onset, offset), label=np.char.lstrip(changes.aux, "(")),
        name=name, database=database, start=part.start, duration=end, native_fs=native, marks=marks, missing=part.missing,
    )  # fmt: skip
