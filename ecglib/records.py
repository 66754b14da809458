"""Records: one lead in mV at the rate that the models expect, with its beats and rhythm episodes.

The samples of a `Record` sit at ``start + k / fs``; all times are seconds from the beginning of the *file*, also
when only a part of it is read, so that a time names the same beat everywhere in the project.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ecglib import FS, wfdb_files
from ecglib.databases import database, folder, record_names
from ecglib.errors import DataError, check_name

#: WFDB codes that mark a heart beat (https://archive.physionet.org/physiobank/annotations.shtml)
BEAT_SYMBOLS = frozenset("N L R B A a J S V r F e j n E / f Q ?".split())

_PAD_S = 0.5  # signal read beyond both ends of a part before resampling, so that the filter has no edge there
_TAPS = 12  # samples, at the slower rate, that it must hold: the filter of scipy reaches 10 to either side


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
    return _assemble(path, header, database=name, signal=np.empty(0, np.float32), fs=header.fs, lead="")


def open_record(
    path: str | os.PathLike[str],
    *,
    start: float = 0.0,
    stop: float | None = None,
    fs: float = FS,
    lead: str | None = None,
) -> Record:
    """Open any WFDB record by its path (``.hea``, ``.dat`` or no suffix); arguments and errors as `read_record`."""
    path = Path(path).expanduser()
    path = path.with_suffix("") if path.suffix in {".hea", ".dat", ".atr"} else path
    if not Path(f"{path}.hea").is_file():
        raise DataError(f"no WFDB header {path.name}.hea in {path.parent}; give the path of a record's .hea file")
    return _read(path, database="", start=start, stop=stop, fs=fs, lead=lead)


def resample(signal: np.ndarray, *, native_fs: float, fs: float) -> np.ndarray:
    """Resample (T,) from ``native_fs`` to ``fs`` Hz by a polyphase filter; sample ``k`` of the result is at ``k / fs``.

    `scipy.signal.resample_poly` centres its linear-phase filter, so nothing shifts in time, and the ratio of the
    rates is kept exact, so nothing drifts either.
    """
    ratio = Fraction(str(fs)) / Fraction(str(native_fs))
    if ratio == 1:
        return np.asarray(signal, np.float32)
    if max(ratio.numerator, ratio.denominator) > 50_000:
        raise DataError(f"cannot resample {native_fs} Hz to {fs} Hz: give rates whose ratio is a small fraction")
    from scipy.signal import resample_poly

    return resample_poly(signal, ratio.numerator, ratio.denominator, padtype="line").astype(np.float32)


# Internals -----------------------------------------------------------------------------------------------------


def _read(path: Path, *, database: str, start: float, stop: float | None, fs: float, lead: str | None) -> Record:
    header = wfdb_files.header(path)
    length, native = header.sig_len or 0, float(header.fs)
    channel, lead = _choose_lead(header, lead)
    if not np.isfinite(fs) or fs <= 0:
        raise DataError(f"fs is {fs}; give a positive sampling rate in Hz")
    if not length:
        raise DataError(f"the header of record {path.name} gives no number of samples; correct it")
    duration = length / native
    end = duration if stop is None else min(float(stop), duration)
    low, high = (np.ceil(t * fs - 1e-6) for t in (start, end))  # a time k / fs is a float: it means sample k
    if not (start >= 0 and low < high):  # also where one of them is NaN
        what = f"no sample of record {path.name}, which lasts {duration:g} s, lies from {start} s to {end:g} s"
        raise DataError(f"{what}; give 0 <= start < stop")
    low, high = int(low), int(high)
    wfdb_files.check_size(path, header)

    # The part begins on a sample that both rates share, so that every part lies on the same grid as the whole.
    ratio = Fraction(str(fs)) / Fraction(str(native))
    pad = max(_PAD_S, _TAPS / min(fs, native))
    first = max(0, int((start - pad) * native)) // ratio.denominator * ratio.denominator
    last = min(length, int(np.ceil((end + pad) * native)))
    raw = wfdb_files.samples(path, header, channel=channel, first=first, last=last)
    inside = slice(int(start * native) - first, int(np.ceil(end * native)) - first)
    signal, missing = _bridge(raw, inside, name=path.name, lead=lead)
    signal = resample(signal, native_fs=native, fs=fs)
    offset = int(first * ratio)  # index of signal[0] on the grid of the whole file
    part = np.ascontiguousarray(signal[low - offset : high - offset])
    record = _assemble(path, header, database=database, signal=part, fs=fs, lead=lead, start=low / fs, missing=missing)
    if start == 0 and stop is None:
        return record
    beats = record.beats[(record.beats.time >= start) & (record.beats.time < end)]
    overlap = (record.rhythms.stop > start) & (record.rhythms.start < end)
    within = (record.marks.time >= start) & (record.marks.time < end)  # type: ignore[union-attr]
    return replace(record, beats=beats, rhythms=record.rhythms[overlap], marks=record.marks[within])  # type: ignore[index]


def _assemble(
    path: Path,
    header: Any,
    *,
    database: str,
    signal: np.ndarray,
    fs: float,
    lead: str,
    start: float = 0.0,
    missing: int = 0,
) -> Record:
    """Join a signal with the annotation file beside it."""
    native = float(header.fs)
    marks = wfdb_files.marks(path, native)
    duration = (header.sig_len or 0) / native
    end = duration or (float(marks.time[-1]) if len(marks) else 0.0)
    is_beat = np.isin(marks.symbol, list(BEAT_SYMBOLS))
    is_rhythm = (marks.symbol == "+") & np.asarray(np.char.startswith(marks.aux, "("))
    onset = marks.time[is_rhythm]
    offset = np.append(onset[1:], end) if len(onset) else onset
    labels = np.char.lstrip(marks.aux[is_rhythm], "(")
    return Record(
        signal=signal,
        fs=float(fs),
        lead=lead,
        beats=wfdb_files.table(time=marks.time[is_beat], symbol=marks.symbol[is_beat]),
        rhythms=wfdb_files.table(start=onset, stop=np.maximum(onset, offset), label=labels),
        name=path.name,
        database=database,
        start=start,
        duration=end,
        native_fs=native,
        marks=marks,
        missing=missing,
    )


def _choose_lead(header: Any, lead: str | None) -> tuple[int, str]:
    names = [str(n) for n in (header.sig_name or [])]
    if not names:
        raise DataError(f"record {header.record_name} has no signals; only its annotations can be read")
    wanted = lead or ("MLII" if "MLII" in names else names[0])
    check_name("lead", wanted, names, hint=f"leads of record {header.record_name}")
    return names.index(wanted), wanted


def _bridge(signal: np.ndarray, inside: slice, *, name: str, lead: str) -> tuple[np.ndarray, int]:
    """Fill missing samples by straight lines; a part with nothing in it is an error, not a line."""
    bad = ~np.isfinite(signal)
    if bad[inside].all():
        raise DataError(f"lead {lead} of record {name} holds no values in this part; choose another lead or part")
    if bad.any():
        index = np.arange(len(signal))
        signal = signal.copy()
        signal[bad] = np.interp(index[bad], index[~bad], signal[~bad])
    if signal.max() == signal.min():
        raise DataError(f"lead {lead} of record {name} is flat in this part; choose another lead or part")
    return signal, int(bad[inside].sum())
