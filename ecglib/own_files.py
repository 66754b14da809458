"""Recordings of a person's own: EDF, EDF+, BDF, or text in columns.  `ecglib.records.open_record` is the way in.

EDF is decoded by edfio (https://github.com/the-siesta-group/edfio); what it would warn of, mend or leave uncalibrated
becomes an error here.  Format: https://www.edfplus.info/specs/edfplus.html.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ecglib import own_tables, signals
from ecglib.errors import DataError, EcglibError
from ecglib.own_leads import SHORTEST_S, Channel, check_amplitude, check_rate, choose, factor

_EDF, _BDF = b"0       ", b"\xffBIOSEMI"
_PAD_S, _TAPS = 0.5, 12  # as ecglib.signals pads a part before it is resampled


@dataclass(frozen=True)
class OwnFile:
    """What `read` gives: the part of the lead, marks (time s, symbol, aux), the file's rate in Hz and length in s."""

    part: signals.Part
    marks: np.recarray
    native_fs: float
    duration: float


def read(
    path: Path,
    *,
    start: float = 0.0,
    stop: float | None = None,
    fs: float,
    lead: str | int | None = None,
    native_fs: float | None = None,
    unit: str | None = None,
    beats: Collection[str] = (),
) -> OwnFile:
    """Read a part of one lead; see `ecglib.records.open_record`.  ``beats`` are the annotations that mark a beat."""
    name = path.name
    wfdb = path.suffix in {".hea", ".dat", ".atr"}  # whose header is missing, or it would not be read here
    if wfdb or not path.is_file() or not path.stat().st_size:
        what = "is a folder" if path.is_dir() else "is empty" if path.is_file() else "is not there"
        what = f"{path} {'is of WFDB' if wfdb and path.is_file() else what}"
        header = f"{path.stem if wfdb else name}.hea"
        raise DataError(f"{what} and there is no WFDB header {header} in {path.parent}; give a .hea, EDF or CSV file")
    try:
        with path.open("rb") as file:
            magic = file.read(8)
        if magic in (_EDF, _BDF):
            channel, fetch, length, rate, marks = _edf(path, magic, lead=lead, native_fs=native_fs)
        else:
            channel, values, rate = own_tables.read(path, lead=lead, native_fs=native_fs, unit=unit)
            fetch, length, marks = (lambda first, last: values[first:last]), len(values), []
    except EcglibError:
        raise
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror or error}; choose a file that can be read") from error
    except MemoryError as error:
        raise DataError(f"{name} is too large to be read at once; cut it") from error
    duration = length / rate
    if duration < SHORTEST_S:
        raise DataError(f"{name} holds {float(duration):.3g} s of signal; give a file of {SHORTEST_S:g} s or more")
    scale = factor(channel, unit, file=name)

    def millivolts(first: int, last: int) -> np.ndarray:
        signal = np.asarray(fetch(first, last), float) * scale
        check_amplitude(signal, channel, unit=unit, file=name)
        return signal

    part = _part(millivolts, length, rate, start=start, stop=stop, fs=fs, name=name, lead=channel.name)
    return OwnFile(part, _marks(marks, beats), float(rate), float(duration))


# Internals -----------------------------------------------------------------------------------------------------


def _edf(path: Path, magic: bytes, *, lead: str | int | None, native_fs: float | None) -> tuple[Any, ...]:
    """Channel, a function that gives its samples, their number and rate, and annotations (onset s, text)."""
    import edfio

    kind = "EDF" if magic == _EDF else "BDF"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # edfio warns of a short file and goes on
            file: Any = (edfio.read_edf if magic == _EDF else edfio.read_bdf)(path, header_encoding="latin-1")
            if file.reserved.startswith(f"{kind}+D") and not file.is_continuous:
                raise DataError(f"{path.name} is interrupted ({kind}+D); cut it into files without gaps")
            channels = [Channel(k + 1, s.label.strip(), s.physical_dimension) for k, s in enumerate(file.signals)]
            channel = choose(channels, lead, file=path.name)
            source = file.signals[channel.number - 1]
            if not file.data_record_duration > 0 or source.samples_per_data_record < 1:
                raise DataError(f"the header of {path.name} gives its data records no length; correct it")
            rate = source.samples_per_data_record / Fraction(str(file.data_record_duration))
            low, high = source.digital_range  # edfio leaves a signal whose ranges it cannot read uncalibrated
            if not (low < high and np.isfinite(source.physical_range).all() and np.ptp(source.physical_range)):
                raise DataError(f"the header of {path.name} gives lead {channel.name} no range of values; correct it")
            digital = source.digital
            gain = (source.physical_max - source.physical_min) / (high - low)
            marks = [(note.onset, note.text) for note in file.annotations if np.isfinite(note.onset)]
    except (DataError, EcglibError):
        raise
    except Exception as error:  # edfio raises whatever a damaged header makes it trip over
        line = (str(error).splitlines() or [""])[0].removesuffix(" Updating header.")
        line = line if isinstance(error, ValueError | Warning) and line else "its header is damaged"
        raise DataError(f"cannot read {path.name} as {kind}: {line[:160].rstrip('.')}; fetch it again") from error
    rate = check_rate(rate, file=path.name, source="the header")
    if native_fs is not None and native_fs != rate:
        raise DataError(
            f"native_fs is {native_fs} and the header of {path.name} tells {float(rate):g} Hz; leave it out"
        )

    def fetch(first: int, last: int) -> np.ndarray:
        raw = digital[first:last].astype(float)
        raw[(raw < low) | (raw > high)] = np.nan  # no value that the header allows
        return source.physical_min + (raw - low) * gain

    return channel, fetch, len(digital), rate, marks


def _marks(notes: list[tuple[float, str]], beats: Collection[str]) -> np.recarray:
    """Annotations as WFDB has them: a beat's symbol, "+" for a rhythm such as ``(AFIB``, else a note."""
    rows = []
    for onset, text in sorted((float(onset), text.strip()) for onset, text in notes):
        symbol = text if text in beats else "+" if text.startswith("(") else '"'
        rows.append((onset, symbol, "" if symbol == text else text))
    longest = max([len(aux) for *_, aux in rows], default=1) or 1
    kinds = [("time", float), ("symbol", "U2"), ("aux", f"U{longest}")]
    return np.array(rows, kinds).view(np.recarray)


def _part(
    fetch: Callable[[int, int], np.ndarray],
    length: int,
    native: Fraction,
    *,
    start: float,
    stop: float | None,
    fs: float,
    name: str,
    lead: str,
) -> signals.Part:
    """A stretch on the grid of the whole, as `ecglib.signals.read` cuts it from a WFDB file."""
    if not np.isfinite(fs) or fs <= 0:
        raise DataError(f"fs is {fs}; give a positive sampling rate in Hz")
    duration = float(length / native)
    end = duration if stop is None else min(float(stop), duration)
    low, high = (np.ceil(t * fs - 1e-6) for t in (start, end))
    if not (start >= 0 and low < high):
        what = f"no sample of {name}, which lasts {duration:g} s, lies from {start} s to {end:g} s"
        raise DataError(f"{what}; give 0 <= start < stop")
    ratio = Fraction(str(fs)) / native
    pad = max(_PAD_S, _TAPS / min(fs, float(native)))
    first = max(0, int((start - pad) * native)) // ratio.denominator * ratio.denominator
    last = min(length, int(np.ceil((end + pad) * float(native))))
    inside = slice(int(start * float(native)) - first, int(np.ceil(end * float(native))) - first)
    signal, missing = signals._bridge(fetch(first, last), inside, name=name, lead=lead, strict=True)
    # resample reads a rate as str() shows it, and a fraction is shown exactly
    signal = signals.resample(signal, native_fs=native, fs=fs)  # type: ignore[arg-type]
    offset = int(first * ratio)
    kept = np.ascontiguousarray(signal[int(low) - offset : int(high) - offset], np.float32)
    return signals.Part(kept, float(low / fs), end, lead, missing)
