"""ECG in a text file of columns: comma, semicolon, tab or space between them, heads or none, decimal point or comma.

A file may tell its rate by a column of times or in a line above the columns (``Sample Rate,512 hertz``), its units in
the head of a column (``MLII (mV)``), in a row of units under the heads, or in such a line (``Unit,µV``).
"""

from __future__ import annotations

import gzip
import io
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd

from ecglib.errors import DataError
from ecglib.own_layout import NO_VALUE, SECONDS, Layout, clock_column, counts, find, of_clock, words
from ecglib.own_leads import Channel, check_rate, choose, named


def read(
    path: Path, *, lead: str | int | None, native_fs: float | None, unit: str | None = None
) -> tuple[Channel, np.ndarray, Fraction]:
    """Read one column of a table.

    Parameters
    ----------
    path : Path
        Text, also compressed by gzip.
    lead : str or int, optional
        Head or number of the column, counted from 1.
    native_fs : float, optional
        Rate, Hz, for a file that does not tell it.
    unit : str, optional
        Whether it is given is all that counts here: a missing rate and a missing unit are asked for at once.

    Returns
    -------
    Channel, ndarray of shape (T,), Fraction
        The column, its samples in its own unit (NaN where there is none, also where times are left out), its rate, Hz.

    Raises
    ------
    DataError, UnknownNameError
        No text or no numbers in it, words among numbers, times that do not rise evenly, no rate, several leads.
    """
    name, text = path.name, _text(path)
    layout = find(text, name)
    clock = clock_column(layout)
    heads = [head or f"column {k + 1}" for k, head in enumerate(layout.heads)]
    channels = [named(k + 1, head, unit) for k, (head, unit) in enumerate(zip(heads, layout.units, strict=True))]
    others = [c for k, c in enumerate(channels) if k != clock]
    leads = [c for c in others if not counts(layout.heads, c.number - 1)]
    channel = choose(leads or others, lead, file=name)
    columns = _columns(text, layout, [channel.number - 1] if clock is None else [channel.number - 1, clock], name)
    values = _numbers(columns[channel.number - 1], channel.name, layout, name)
    told = layout.told.get("rate") if native_fs is None else native_fs
    rate = None
    if told is not None:
        source = "a line above the columns" if native_fs is None else "native_fs"
        rate = check_rate(float(told), file=name, source=source)
    if clock is None:
        if rate is None:
            what, also = "no rate", ""
            if not (unit or channel.unit):
                what, also = f"neither its rate nor the unit of lead {channel.name}", ", and unit='mV', 'uV' or 'V'"
            raise DataError(
                f"{name} has no column of times and tells {what}; give its rate in Hz with native_fs={also}"
            )
        return channel, values, rate
    times, timed = _times(columns[clock], clock, layout, name)
    there = np.isfinite(times) | np.isfinite(values)  # a line with neither says nothing
    times, values = times[there], values[there]
    if rate is not None and not timed:
        return channel, values, rate
    where = f"column {layout.heads[clock] or clock + 1!r}"
    index, found = _grid(times, where, name)
    if rate is not None and abs(float(found / rate) - 1) > 0.01:
        raise DataError(
            f"{where} of {name} makes a rate of {float(found):.6g} Hz where {float(rate):.6g} Hz is told; correct one"
        )
    found = check_rate(found, file=name, source=where)
    whole = np.full(int(index[-1]) + 1, np.nan)
    whole[index] = values
    return channel, whole, found


# Internals -----------------------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path.name} is a damaged gzip file ({error}); fetch it again") from error
    wide = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    if b"\0" in raw[:4096] and not wide:
        raise DataError(f"{path.name} is no text; give a CSV, EDF, BDF or WFDB file")
    try:
        text = raw.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # where older programs write µ in one byte
    text = text.replace("\r\n", "\n").replace("\r", "\n").rstrip()
    if not text:
        raise DataError(f"{path.name} is empty; give a file with numbers")
    return text


def _columns(text: str, layout: Layout, keep: list[int], file: str) -> pd.DataFrame:
    body = text.split("\n", layout.first)[-1]
    try:  # all columns: with some of them alone, pandas says nothing of a row that is too long
        frame = pd.read_csv(
            io.StringIO(body), sep=r"\s+" if layout.sep == " " else layout.sep or "\x1f", header=None,
            decimal=layout.decimal, quotechar=layout.quote, skipinitialspace=True, skip_blank_lines=False,
            na_values=[*NO_VALUE, *map(str.upper, NO_VALUE)], low_memory=False,
        )  # fmt: skip
        return frame[keep]
    except Exception as error:  # pandas raises whatever its parser trips over
        line = (str(error).splitlines() or [type(error).__name__])[0].removeprefix("Error tokenizing data. C error: ")
        raise DataError(
            f"cannot read {file} from line {layout.first + 1} on: {line[:120]}; correct the file"
        ) from error


def _numbers(column: pd.Series, name: str, layout: Layout, file: str) -> np.ndarray:
    if column.dtype.kind in "iuf":
        return column.to_numpy(float)
    text = column.astype(str).str.replace(layout.decimal, ".", regex=False)
    values = pd.to_numeric(text, errors="coerce").to_numpy(float)
    wrong = np.flatnonzero(np.isnan(values) & column.notna().to_numpy())
    if len(wrong):
        k, cell = int(wrong[0]), str(column.iloc[int(wrong[0])])[:20]
        raise DataError(
            f"line {layout.first + k + 1} of {file} holds {cell!r} under {name}, which is no number; correct it"
        )
    return values


def _times(column: pd.Series, k: int, layout: Layout, file: str) -> tuple[np.ndarray, bool]:
    """Times, s, and whether their unit is known; numbers without a unit are taken as seconds."""
    head = layout.heads[k]
    cells = column.dropna().astype(str)
    if column.dtype.kind not in "iuf" and len(cells) and cells.str.contains(":").all():
        try:
            if cells.str.contains(r"\d-", regex=True).all():
                stamps = pd.to_datetime(column.astype(str).where(column.notna()), format="ISO8601", utc=True)
                return (stamps - stamps.dropna().iloc[0]).dt.total_seconds().to_numpy(float), True
            return np.array([np.nan if pd.isna(c) else of_clock(str(c).replace(",", ".")) for c in column]), True
        except (ValueError, TypeError, OverflowError) as error:
            raise DataError(f"the times of {file} cannot be read ({str(error)[:80]}); give native_fs=") from error
    unit = layout.units[k].lower() or next(iter(sorted(words(head) & set(SECONDS))), "")
    return _numbers(column, head or f"column {k + 1}", layout, file) * SECONDS.get(unit, 1.0), unit in SECONDS


def _grid(times: np.ndarray, where: str, file: str) -> tuple[np.ndarray, Fraction]:
    """Index of each time on an even grid, and the rate of the grid, Hz: stamps may be rounded, and samples left out."""
    with np.errstate(invalid="ignore"):  # of infinite times, which do not rise
        step = np.diff(times)
    wrong = np.flatnonzero(~(step > 0))
    if len(times) < 3 or len(wrong):
        what = f"row {int(wrong[0]) + 2}" if len(wrong) else "row 1"
        raise DataError(f"{where} of {file} is no rising time at {what} of the numbers; correct it or give native_fs=")
    usual = step[step <= 1.5 * np.median(step)].mean()
    index = np.concatenate([[0], np.cumsum(np.round(step / usual))])
    if index[-1] > 4 * len(times) or step.min() < usual / 2:
        raise DataError(f"{where} of {file} rises unevenly, by {step.min():.4g} to {step.max():.4g} s; give native_fs=")
    index, seconds = index.astype(int), float(times[-1] - times[0])
    off = float(np.abs(times - times[0] - index * (seconds / index[-1])).max())
    if off > 0.75 * usual + 1e-3:
        raise DataError(f"{where} of {file} is {off:.3g} s off an even grid; give native_fs= if its samples are even")
    rate = index[-1] / seconds
    slack = rate * (2 * off / seconds + 1e-9)
    for denominator in range(1, 1001):  # the simplest rate that the stamps allow
        if abs(round(rate * denominator) / denominator - rate) <= slack:
            return index, Fraction(round(rate * denominator), denominator)
    return index, Fraction(rate).limit_denominator(1000)
