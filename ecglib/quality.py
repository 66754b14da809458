"""What a record does not tell: samples without a value, at an end of the converter's range, or frozen.

The counts come from the digital values as they stand in the file, before any of them is bridged or resampled.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecglib import wfdb_files
from ecglib.databases import folder, record_names
from ecglib.errors import DataError, check_name
from ecglib.records import read_annotations
from ecglib.windowset import HALF_S, WindowSet

#: A value held this long is no signal.  The digits of MITDB, 0.005 mV apart, repeat for 11 samples (0.031 s) at most
#: where there is one; its shortest stretch without lasts 33 (0.092 s), so any bound between the two counts the same.
FLAT_S = 0.05
KINDS = ("missing", "saturated", "flat")


@dataclass(frozen=True)
class Quality:
    """What was found in one record or many.

    Attributes
    ----------
    leads : DataFrame
        One row a record and channel: record, channel, lead, used (the lead that `ecglib.records.read_record` takes),
        gain (digits per mV), bits, low and high (mV at the ends of the converter's range), samples; missing, saturated
        and flat (samples); held (most equal neighbours that are none of these) and repeated (equal samples that the
        channel begins with); windows (of 2 s, one after the other) and touched (those with a missing, saturated or flat
        sample).
    stretches : DataFrame
        One row a stretch: record, lead, used, what (one of `KINDS`), start and stop (s from the beginning of the file).
    """

    leads: pd.DataFrame
    stretches: pd.DataFrame


def quality(name: str, record: str, *, root: str | os.PathLike[str] | None = None) -> Quality:
    """Count what is missing, saturated and flat in every lead of a record.

    Missing is what WFDB's format marks as without a value.  Saturated are two or more neighbours at one end of the
    range ``adc_zero ± 2 ** (adc_res - 1)``: a single one may be a peak that just reached it.  Flat are neighbours of
    any other value that repeat for `FLAT_S` or longer.  No sample counts twice.

    Parameters
    ----------
    name, record, root
        As in `ecglib.records.read_record`.

    Raises
    ------
    UnknownNameError
        No such database or record.
    DataError
        The record has no signal here, or its file is damaged.

    Notes
    -----
    A header without a resolution means 12 bits (https://physionet.org/physiotools/wag/header-5.htm).  In format 212 the
    lowest of 12 bits marks a missing value, so that a channel of 12 bits, unlike one of 11, has no lower end to rest at.
    """
    import wfdb  # slow to import, and only reading needs it

    check_name("record", record, record_names(name, root), hint=f"records of {name}")
    try:
        file = wfdb.rdrecord(str(folder(name, root) / record), physical=False, return_res=32)
    except Exception as error:  # wfdb raises whatever its parser trips over
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"cannot read the signal of record {record}: {what}; fetch it, or fetch it again") from error
    if file.d_signal is None:
        raise DataError(f"record {record} has no signal to look at; give one that has")
    sums = zip(file.checksum or (), file.calc_checksum(), strict=False)
    if any(a is not None and (a - b) % 65536 for a, b in sums):  # also if the file is short: wfdb fills it up
        raise DataError(f"record {record}: its signal and the checksum in its header disagree; fetch both again")
    fs, unknown = float(file.fs), np.isnan(file.dac(return_res=32))
    preferred = file.sig_name.index("MLII") if "MLII" in file.sig_name else 0
    rows, stretches = [], []
    for k, lead in enumerate(file.sig_name):
        values, gain, bits, zero = file.d_signal[:, k], file.adc_gain[k], file.adc_res[k] or 12, file.adc_zero[k] or 0
        low, high = zero - 2 ** (bits - 1), zero + 2 ** (bits - 1) - 1
        found, held = _faults(values, unknown[:, k], low=low, high=high, least=int(np.ceil(FLAT_S * fs)))
        stretches += [(record, lead, k == preferred, what, a / fs, b / fs) for what, a, b in found]
        whole, per_window = int(len(values) / (2 * HALF_S * fs)), 2 * HALF_S * fs
        hit = {w for _, a, b in found for w in range(int(a / per_window), int((b - 1) / per_window) + 1)}
        rows.append(
            {"record": record, "channel": k, "lead": lead, "used": k == preferred, "gain": gain, "bits": bits}
            | {"low": (low - file.baseline[k]) / gain, "high": (high - file.baseline[k]) / gain, "samples": len(values)}
            | {kind: sum(b - a for what, a, b in found if what == kind) for kind in KINDS}
            | {"held": held, "repeated": int(np.argmax(values != values[0])) or len(values)}
            | {"windows": whole, "touched": sum(w < whole for w in hit)}
        )
    columns = ["record", "lead", "used", "what", "start", "stop"]
    # Without rows a column would forget that it holds flags, and could no longer choose rows.
    frame = pd.DataFrame(stretches, columns=columns).astype({"used": bool, "start": float, "stop": float})
    return Quality(pd.DataFrame(rows), frame)


def survey(name: str, *, root: str | os.PathLike[str] | None = None, records: Iterable[str] | None = None) -> Quality:
    """`quality` of several records, by default of every record of a database, one after the other."""
    names = record_names(name, root) if records is None else list(records)
    found = [quality(name, record, root=root) for record in names]
    if not found:
        raise DataError(f"records: expected at least one record of {name}, received none")
    parts = [q.stretches for q in found if len(q.stretches)] or [found[0].stretches]
    return Quality(pd.concat([q.leads for q in found], ignore_index=True), pd.concat(parts, ignore_index=True))


def touched(windows: WindowSet, stretches: pd.DataFrame) -> np.ndarray:
    """Windows (N,) that show part of a stretch, as a mask: those of the same record whose two seconds meet its time.

    ``stretches`` are those of the lead that the windows show: ``found.stretches[found.stretches.used]``.
    """
    hit = np.zeros(len(windows), bool)
    for record, start, stop in stretches[["record", "start", "stop"]].itertuples(index=False):
        here = (windows.time - HALF_S < stop) & (windows.time + HALF_S > start)
        hit |= here & (windows.record == record)
    return hit


def beats_within(name: str, stretches: pd.DataFrame, *, root: str | os.PathLike[str] | None = None) -> int:
    """Number of annotated beats of a database within stretches, counted once for each stretch that holds them."""
    count = 0
    for record, own in stretches.groupby("record"):
        time = read_annotations(name, str(record), root=root).beats.time
        count += int((np.searchsorted(time, own.stop) - np.searchsorted(time, own.start)).sum())
    return count


def channels(name: str, *, root: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Leads and gains as the headers of a database give them; no signal is needed.

    Returns
    -------
    DataFrame
        One row a record and channel: database, record, channel, lead, gain (digits per mV; 200 where a header gives none).
    """
    rows = []
    for record in record_names(name, root):
        header = wfdb_files.header(folder(name, root) / record)
        for channel, (lead, gain) in enumerate(zip(header.sig_name, header.adc_gain, strict=True)):
            rows.append((name, record, channel, lead, float(gain)))
    return pd.DataFrame(rows, columns=["database", "record", "channel", "lead", "gain"])


# Internals -----------------------------------------------------------------------------------------------------


def _faults(
    values: np.ndarray, unknown: np.ndarray, *, low: int, high: int, least: int
) -> tuple[list[tuple[str, int, int]], int]:
    """Kind, first sample and the one after the last of every stretch, by time; and the longest run that is none."""
    found = [("missing", a, b) for a, b in _runs(unknown).tolist()]
    for end in (values <= low, values >= high):
        found += [("saturated", a, b) for a, b in _runs(end & ~unknown).tolist() if b - a >= 2]
    equal = _runs(values[1:] == values[:-1])  # n equal pairs are n + 1 equal values
    value, length = values[equal[:, 0]], equal[:, 1] - equal[:, 0] + 1
    inside = (low < value) & (value < high) & ~unknown[equal[:, 0]]
    found += [("flat", a, b + 1) for a, b in equal[inside & (length >= least)].tolist()]
    return sorted(found, key=lambda stretch: stretch[1]), int(length[inside & (length < least)].max(initial=1))


def _runs(flags: np.ndarray) -> np.ndarray:
    """First index and the one after the last of every run of true flags, shape (K, 2)."""
    return np.flatnonzero(np.diff(flags, prepend=False, append=False)).reshape(-1, 2)
