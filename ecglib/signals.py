"""Samples of one lead of a WFDB record, in mV at a rate of our choice, without anything moved in time."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ecglib import wfdb_files
from ecglib.errors import DataError, check_name
from ecglib.own_leads import UNITS

_PAD_S = 0.5  # signal read beyond both ends of a part before resampling, so that the filter has no edge there
_NO_BODY_MV = 1e6  # a sample of a thousand volts is a slip of the file, and beyond float32 it would be infinite
_TAPS = 12  # samples, at the slower rate, that it must hold: the filter of scipy reaches 10 to either side


@dataclass(frozen=True)
class Part:
    """A stretch of one lead: samples (T,) float32 in mV, its ends in s, the lead's name, samples without a value."""

    signal: np.ndarray
    start: float
    stop: float
    lead: str
    missing: int


NOTHING = Part(np.empty(0, np.float32), 0.0, 0.0, "", 0)  #: of a record whose annotations alone are read


def read(
    path: Path, header: Any, *, start: float, stop: float | None, fs: float, lead: str | None, strict: bool = True
) -> Part:
    """Read a part of a lead; see `ecglib.records.read_record`.

    ``strict`` refuses a part that is flat or empty; without it the part comes as it is, NaN where it is empty.
    """
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
    raw = raw * _millivolts(header, channel, lead)
    signal, missing = _bridge(raw, inside, name=path.name, lead=lead, strict=strict)
    signal = resample(signal, native_fs=native, fs=fs)
    offset = int(first * ratio)  # index of signal[0] on the grid of the whole file
    return Part(np.ascontiguousarray(signal[low - offset : high - offset]), low / fs, end, lead, missing)


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


def _choose_lead(header: Any, lead: str | None) -> tuple[int, str]:
    names = [str(n) for n in (header.sig_name or [])]
    if not names:
        raise DataError(f"record {header.record_name} has no signals; only its annotations can be read")
    wanted = lead or ("MLII" if "MLII" in names else names[0])
    check_name("lead", wanted, names, hint=f"leads of record {header.record_name}")
    return names.index(wanted), wanted


def _millivolts(header: Any, channel: int, lead: str) -> float:
    unit = str((header.units or ["mV"])[channel] or "mV")
    if unit == "logit":  # saliency, as ecglib.explain_wfdb writes it
        return 1.0
    if unit.lower() not in UNITS:
        raise DataError(f"lead {lead} of record {header.record_name} is in {unit[:20]}, no ECG; choose another lead")
    return UNITS[unit.lower()]


def _bridge(signal: np.ndarray, inside: slice, *, name: str, lead: str, strict: bool) -> tuple[np.ndarray, int]:
    """Fill missing samples by straight lines; a part with nothing in it is an error (if ``strict``), not a line."""
    bad = ~(np.abs(signal) < _NO_BODY_MV)  # also what is no number at all
    if bad[inside].all() and not strict:
        return np.full_like(signal, np.nan), int(bad[inside].sum())
    if bad[inside].all():
        raise DataError(f"lead {lead} of record {name} holds no values in this part; choose another lead or part")
    if bad.any():
        index = np.arange(len(signal))
        signal = signal.copy()
        signal[bad] = np.interp(index[bad], index[~bad], signal[~bad])
    if strict and signal.max() == signal.min():
        raise DataError(f"lead {lead} of record {name} is flat in this part; choose another lead or part")
    return signal, int(bad[inside].sum())
