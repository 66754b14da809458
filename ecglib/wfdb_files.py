"""WFDB files, read with suspicion: what wfdb would pad, guess or trip over becomes one clear line here."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
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
    line = next(line for line in _text(path).splitlines() if line.strip() and not line.startswith("#")).split()
    if not header.fs or header.fs <= 0 or (len(line) > 2 and not re.match(r"\.?\d", line[2])):  # wfdb would say 250
        raise DataError(f"the header of record {path.name} gives no sampling rate; correct it")
    if (described := len(header.file_name or [])) != header.n_sig:
        raise DataError(
            f"the header of record {path.name} promises {header.n_sig} signals and describes {described}; correct it"
        )
    header.sig_name = header.sig_name and [n or f"signal {k + 1}" for k, n in enumerate(header.sig_name)]
    return header


def samples(path: Path, header: Any, *, channel: int, first: int, last: int) -> np.ndarray:
    """Samples ``first`` to ``last`` of one channel in physical units, NaN where the file has no value."""
    import wfdb

    try:
        digital = wfdb.rdrecord(
            str(path), sampfrom=first, sampto=last, channels=[channel], physical=False, return_res=32
        )
        physical = digital.dac(return_res=32)[:, 0]
    except Exception as error:  # wfdb raises whatever a strange format makes it trip over
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
    return physical


#: bytes per sample of the WFDB storage formats whose size is fixed
_BYTES = {"8": 1, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2, "212": 1.5, "310": 4 / 3, "311": 4 / 3}
_PACKED = {"508", "516", "524"}  # FLAC


def check_size(path: Path, header: Any) -> None:
    """Compare each signal file with the size that the header promises: wfdb pads a short file silently."""
    for file in dict.fromkeys(header.file_name):
        channels = [i for i, f in enumerate(header.file_name) if f == file]
        where = path.parent / file
        if file != where.name:  # also where wfdb's own parser lets a folder pass
            raise DataError(f"the header of record {path.name} names the file {file!r}; give one of its own folder")
        if (skew := max((header.skew or [0])[i] or 0 for i in channels)) > (header.sig_len or 0):
            raise DataError(
                f"the header of record {path.name} shifts {file} by {skew} samples, past its end; correct it"
            )
        if not where.is_file():
            raise DataError(f"record {path.name} has no signal file {file} in {path.parent}; fetch it")
        kind = str(header.fmt[channels[0]])
        width = _BYTES.get(kind)
        if width is None and kind not in _PACKED:
            raise DataError(
                f"record {path.name} is stored in format {kind}, which WFDB does not know; correct its header"
            )
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


def by_symbol(symbols: np.ndarray, table: Mapping[str, Any], *, other: Any) -> np.ndarray:
    """``table[symbol]`` of every symbol (N,), ``other`` where it has none.

    >>> by_symbol(np.array(["N", "V", "|"]), {"N": 0, "V": 1}, other=-1).tolist()
    [0, 1, -1]
    """
    # By code point: a day of beats looked up one by one in a dict takes longer than all else that is done with it.
    values = np.full(129, other)
    values[[ord(s) for s in table]] = list(table.values())
    first, second = np.ascontiguousarray(symbols, "U2").view(np.uint32).reshape(-1, 2).T
    return values[np.where((second == 0) & (first < 128), first, 128)]


def marks(path: Path, fs: float) -> np.recarray:
    """All marks of ``<record>.atr`` sorted by time; none if there is no such file."""
    file = path.with_name(path.name + ".atr")
    if not file.is_file():
        return table(time=np.empty(0), symbol=np.empty(0, "U2"), aux=np.empty(0, "U1"))
    raw = file.read_bytes()
    _check_annotations(file.name, raw)
    # Files that define symbols or a time resolution of their own are rare and left to wfdb.
    sample, symbol, aux, own_fs = _by_wfdb(path) if b"## " in raw else _by_word(file.name, raw)
    order = np.argsort(sample, kind="stable")
    return table(time=sample[order] / (own_fs or fs), symbol=symbol[order], aux=aux[order])


# Internals -----------------------------------------------------------------------------------------------------

_SKIP, _AUX = 59, 63  # the two codes that are followed by words of their own
_Marks = tuple[np.ndarray, np.ndarray, np.ndarray, float]  # sample, symbol, note, rate of the samples (0: the record's)


def _by_word(name: str, raw: bytes) -> _Marks:
    """Marks of an ordinary file, all words at once.

    wfdb goes from mark to mark, 5 us each: a minute for the ten million of the long-term databases, 2 s here.
    The format: https://wfdb.io/spec/annotation-files.html.
    """
    from wfdb.io.annotation import ann_label_table

    word = np.frombuffer(raw, "<u2").astype(np.int64)
    code, value = word >> 10, word & 1023
    is_mark, step, notes, after = code < _SKIP, np.where(code < _SKIP, value, 0), [], np.int64(0)
    for i in np.flatnonzero((code == _SKIP) | (code == _AUX)):
        if i < after:  # a word of the one before, no code
            continue
        after = i + (3 if code[i] == _SKIP else 1 + (value[i] + 1) // 2)
        if after > len(word):
            raise DataError(f"{name} ends within a mark; fetch it again")
        is_mark[i:after], step[i:after] = False, 0
        if code[i] == _SKIP:  # a long step, its high word first
            step[i] = np.int32((word[i + 1] << 16 | word[i + 2]) - (word[i + 1] >> 15 << 32))
        else:
            notes.append((i, raw[2 * i + 2 : 2 * i + 2 + value[i]].decode("latin-1").rstrip("\0")))
    mark = np.flatnonzero(is_mark)
    ends = np.flatnonzero(word[mark] == 0)  # the word 0 ends the file
    if not len(ends):
        raise DataError(f"{name} ends within a mark; fetch it again")
    mark = mark[: ends[0]]
    aux = np.full(len(mark), "", f"U{max([len(note) for _, note in notes], default=1) or 1}")
    for i, note in notes:
        aux[np.searchsorted(mark, i) - 1] = note  # it belongs to the mark before
    symbols = np.full(_SKIP, "", "U2")
    symbols[ann_label_table.label_store.to_numpy(int)] = ann_label_table.symbol.to_numpy(str)
    return np.cumsum(step)[mark], symbols[code[mark]], aux, 0.0


def _by_wfdb(path: Path) -> _Marks:
    import wfdb

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas about wfdb's own code, once a file
            found = wfdb.rdann(str(path), "atr")
    except Exception as error:  # wfdb raises whatever its parser trips over
        raise DataError(f"cannot read the annotations {path.name}.atr: {_line(error)}; fetch it again") from error
    aux = [note.rstrip("\0") for note in found.aux_note]
    return found.sample, np.asarray(found.symbol, "U2"), np.asarray(aux or [""], str)[: len(aux)], float(found.fs or 0)


_DEFINITION = re.compile(rb"## (time resolution: \d+\.?\d*|annotation type definitions|end of definitions)\0?")


def _check_annotations(name: str, raw: bytes) -> None:
    """Refuse what wfdb would read as a few odd beats (a text, half a file) or never finish to read (a broken header)."""
    notes = (raw[m.end() :][: m[1][0]] for m in re.finditer(rb"\x00\x58(.)\xfc(?=## )", raw, re.DOTALL))
    if len(raw) % 2 or raw[-2:] != b"\0\0" or not all(map(_DEFINITION.fullmatch, notes)):
        raise DataError(f"{name} is no whole annotation file ({len(raw)} bytes); fetch it again")


def _text(path: Path) -> str:
    return path.with_name(f"{path.name}.hea").read_text(encoding="ascii", errors="ignore")  # as wfdb reads it


def _line(error: BaseException) -> str:
    line = (str(error).splitlines() or [""])[0]
    return line if line and not isinstance(error, TypeError | LookupError) else "its bytes make no sense"
