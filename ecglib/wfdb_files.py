"""WFDB files, read with suspicion: what wfdb would pad, guess or trip over becomes one clear line here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ecglib.errors import DataError


def header(path: Path) -> Any:
    """Header of the record at ``path`` (without suffix)."""
    import wfdb  # slow to import, and only reading needs it

    try:
        header = wfdb.rdheader(str(path))
    except FileNotFoundError as error:
        raise DataError(f"no header {path.name}.hea in {path.parent}; fetch the record or correct its name") from error
    except Exception as error:  # wfdb raises whatever its parser trips over
        raise DataError(
            f"cannot understand the header of record {path.name}: {_line(error)}; fetch it again"
        ) from error
    if isinstance(header, wfdb.MultiRecord):
        raise DataError(f"record {path.name} is made of segments; open one of them: {', '.join(header.seg_name)}")
    if not header.fs or header.fs <= 0:
        raise DataError(f"the header of record {path.name} gives no sampling rate; correct it")
    return header


def samples(path: Path, header: Any, *, channel: int, first: int, last: int) -> np.ndarray:
    """Samples ``first`` to ``last`` of one channel in physical units, NaN where the file has no value."""
    import wfdb

    try:
        digital = wfdb.rdrecord(
            str(path), sampfrom=first, sampto=last, channels=[channel], physical=False, return_res=32
        )
    except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
        raise DataError(f"cannot read the signal of record {path.name}: {_line(error)}; fetch it again") from error
    # wfdb averages the samples of a frame, the checksum is that of the file
    single = (header.samps_per_frame or [1] * (channel + 1))[channel] in (None, 1)
    if single and last - first == header.sig_len and digital.checksum and digital.checksum[0] is not None:
        expected, received = digital.checksum[0] % 65536, digital.calc_checksum()[0] % 65536
        if expected != received:
            raise DataError(
                f"record {path.name}: the header gives checksum {expected} for channel {channel} and the data have "
                f"{received}; header and .dat do not belong together, fetch both again"
            )
    return digital.dac(return_res=32)[:, 0]


#: bytes per sample of the WFDB storage formats whose size is fixed
_BYTES = {"8": 1, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2, "212": 1.5, "310": 4 / 3, "311": 4 / 3}


def check_size(path: Path, header: Any) -> None:
    """Compare each signal file with the size that the header promises: wfdb pads a short file silently."""
    for file in dict.fromkeys(header.file_name):
        channels = [i for i, f in enumerate(header.file_name) if f == file]
        where = path.with_name(file)
        if not where.is_file():
            raise DataError(f"record {path.name} has no signal file {file} in {path.parent}; fetch it")
        width = _BYTES.get(str(header.fmt[channels[0]]))
        if width is None or not header.sig_len:
            continue
        per_frame = sum((header.samps_per_frame or [1] * len(header.fmt))[i] or 1 for i in channels)
        expected = header.sig_len * per_frame * width + (header.byte_offset[channels[0]] or 0)
        received = where.stat().st_size
        if received < int(expected):
            raise DataError(
                f"{file} is truncated: {received} bytes where the header of record {path.name} promises "
                f"{int(np.ceil(expected))}; fetch it again"
            )


def table(**columns: np.ndarray) -> np.recarray:
    """Columns of equal length as one record array, so that ``t.time``, ``t["time"]`` and rows all work."""
    return np.rec.fromarrays(list(columns.values()), names=list(columns))  # type: ignore[call-overload]


def marks(path: Path, fs: float) -> np.recarray:
    """All marks of ``<record>.atr`` sorted by time; none if there is no such file."""
    import wfdb

    file = path.with_name(path.name + ".atr")
    if not file.is_file():
        samples, symbols, aux = np.empty(0, int), np.empty(0, "U1"), np.empty(0, "U1")
    else:
        _check_annotations(file)
        try:
            found = wfdb.rdann(str(path), "atr")
        except Exception as error:  # wfdb raises whatever its parser trips over
            raise DataError(f"cannot read the annotations {path.name}.atr: {_line(error)}; fetch it again") from error
        order = np.argsort(found.sample, kind="stable")
        samples = found.sample[order]
        symbols = np.asarray(found.symbol, "U2")[order] if len(order) else np.empty(0, "U1")
        aux = np.char.rstrip(np.asarray(found.aux_note, str), "\x00")[order] if len(order) else np.empty(0, "U1")
        fs = found.fs or fs  # an annotation file may count in ticks of its own
    return table(time=samples / fs, symbol=symbols, aux=aux)


_DEFINITION = re.compile(rb"## (time resolution: \d+\.?\d*|annotation type definitions|end of definitions)\0?")


def _check_annotations(file: Path) -> None:
    """Refuse what wfdb would read as a few odd beats (a text, half a file) or never finish to read (a broken header)."""
    raw = file.read_bytes()
    notes = (raw[m.end() :][: m[1][0]] for m in re.finditer(rb"\x00\x58(.)\xfc(?=## )", raw, re.DOTALL))
    if len(raw) % 2 or raw[-2:] != b"\0\0" or not all(map(_DEFINITION.fullmatch, notes)):
        raise DataError(f"{file.name} is no whole annotation file ({len(raw)} bytes); fetch it again")


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
