"""P, QRS and T as experts marked them, laid over the records that the networks see.

QT Database holds 15 excerpts of MITDB at 250 Hz on which cardiologists marked where waves begin and end, 30 to 85 beats
each: ``q1c`` by one, ``q2c`` by another, ``pu``, ``pu0``, ``pu1`` by a program on both leads or one (Laguna et al., CinC 24,
1997; https://physionet.org/content/qtdb/1.0.0/).  `align` measures where an excerpt lies in its record, `waves` reads
the marks; `ecglib.expert_windows` cuts windows around the marked beats.  Of the phantom, whose writer left his own marks,
the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import wfdb
from numpy.lib.stride_tricks import sliding_window_view

from ecglib import FS, phantom
from ecglib.databases import DATABASES, folder, record_names
from ecglib.errors import DataError, check_name
from ecglib.records import BEAT_SYMBOLS, open_record, read_annotations, read_record

WAVES = ("P", "QRS", "T")
MARKS = ("q1c", "q2c", "pu", "pu0", "pu1")

_REACH_S = 0.1  # lags that are tried to either side
_PIECE_S = 30.0  # an excerpt is correlated piece by piece: a clock that drifts would show
_NEAR_S = 0.15  # a mark and an annotation of one beat, as in EC57


@dataclass(frozen=True)
class Alignment:
    """Where an excerpt of QT Database lies in its record of MITDB.

    Attributes
    ----------
    record : str
        Of MITDB.
    start : float
        Of the excerpt in the record by its header, s.
    lag : float
        To be added to that, s: the median over the pieces.
    correlation : float
        Of both signals at the best whole sample, median over the pieces.
    lags, curve : ndarray of shape (K,)
        Lags tried, s, and the correlation at each, mean over the pieces.
    pieces : ndarray of shape (M,)
        Lag of each piece, s.
    """

    record: str
    start: float
    lag: float
    correlation: float
    lags: np.ndarray
    curve: np.ndarray
    pieces: np.ndarray


def align(record: str, *, root: str | os.PathLike[str] | None = None) -> Alignment:
    """Measure where QT Database's excerpt of an MITDB record lies in it, by the correlation of both signals at 360 Hz.

    Raises
    ------
    UnknownNameError
        QT Database here has no excerpt of the record.
    DataError
        A file is damaged, the header does not say where the excerpt begins, or nowhere near there are the signals alike.
    """
    check_name("excerpt", record, of_mitdb(root), hint="QT Database's excerpts of MITDB")
    path = folder("qtdb", root) / f"sel{record}.hea"
    found, whole = open_record(path), read_record("mitdb", record, root=root)
    start, reach, piece = _beginning(path), round(_REACH_S * FS), round(_PIECE_S * FS)
    lags = np.arange(-reach, reach + 1)
    curves = []
    for first in range(reach, len(found.signal) - piece - reach + 1, piece):
        at = first + round(start * FS) - reach
        around = whole.signal[at : at + piece + 2 * reach]
        if at >= 0 and len(around) == piece + 2 * reach:
            curves.append(_correlations(found.signal[first : first + piece], around))
    if not curves or (best := float(np.median(np.max(curves, axis=1)))) < 0.9:
        raise DataError(f"{path.name} is not alike record {record} from {start:g} s on; fetch both again")
    pieces = np.array([lags[c.argmax()] + _vertex(c) for c in curves]) / FS
    return Alignment(record, start, float(np.median(pieces)), best, lags / FS, np.mean(curves, axis=0), pieces)


def of_mitdb(root: str | os.PathLike[str] | None = None) -> list[str]:
    """Records of MITDB of which QT Database, on this machine, has an excerpt."""
    try:
        here = record_names("qtdb", root)
    except DataError:
        return []
    whose = [DATABASES["qtdb"].patient(name) for name in here]
    return sorted(who.removeprefix("mitdb/") for who in whose if who.startswith("mitdb/"))


def waves(
    database: str, record: str, *, marks: str = "q1c", lag: float = 0.0, root: str | os.PathLike[str] | None = None
) -> pd.DataFrame:
    """Waves that are marked in a record.

    Parameters
    ----------
    database : {"mitdb", "phantom"}
    record : str
    marks : str
        One of `MARKS`; the phantom has only its writer's.
    lag : float
        Of the excerpt, s: `Alignment.lag`.
    root : path, optional
        Data root.

    Returns
    -------
    DataFrame
        One row a beat and wave: wave, start, peak, stop (s of the record), guessed (T waves whose onset is not marked: it is
        put as far before the peak as the offset lies behind it, but not into the QRS), beat (R peak by the record's
        annotations) and symbol (its code there).  A wave that is marked on both leads reaches from the first onset to the
        last offset.
    """
    check_name("database", database, ("mitdb", "phantom"))
    check_name("marks", marks, MARKS)
    beats = read_annotations(database, record, root=root).beats
    if database == "phantom":
        table = pd.DataFrame(phantom.read_truth(record, root=root).waves).rename(columns={"beat": "qrs"})
    else:
        path = folder("qtdb", root) / f"sel{record}.hea"
        table = _read(path, marks).assign(record=record)
        table[["start", "peak", "stop", "qrs"]] += _beginning(path) + lag
    nearest = np.abs(beats.time[:, None] - table.qrs.to_numpy()).argmin(0)
    table = table.assign(beat=beats.time[nearest], symbol=beats.symbol[nearest])
    table = table[(np.abs(table.beat - table.qrs) <= _NEAR_S) & table.stop.notna()]
    how = {"start": "min", "peak": "first", "stop": "max", "symbol": "first"}
    table = table.groupby(["beat", "wave"], as_index=False).agg(how)
    end = table[table.wave == "QRS"].set_index("beat").stop.reindex(table.beat).to_numpy()
    guess = np.fmax(2 * table.peak - table.stop, end)
    table["guessed"] = table.start.isna() & (table.wave == "T")
    table["start"] = table.start.where(~table.guessed, guess)
    return table.dropna(subset="start", ignore_index=True)[
        ["wave", "start", "peak", "stop", "guessed", "beat", "symbol"]
    ]


def excerpt_tables(
    *, marks: str = "q1c", lags: Mapping[str, float], root: str | os.PathLike[str] | None = None
) -> dict[str, pd.DataFrame]:
    """`waves` of every excerpt whose lag is given, those without a mark left out."""
    found = {r: waves("mitdb", r, marks=marks, lag=lag, root=root) for r, lag in lags.items()}
    return {r: t for r, t in found.items() if len(t)}


def alignments(root: str | os.PathLike[str] | None = None, *, records: Iterable[str] | None = None) -> list[Alignment]:
    """`align` of every excerpt that is here."""
    return [align(r, root=root) for r in (of_mitdb(root) if records is None else records)]


def beat_offset(found: Alignment, *, root: str | os.PathLike[str] | None = None) -> dict[str, float]:
    """How much later MITDB's own annotations stand than those of the excerpt's ``.atr``, once its signal is aligned, ms.

    Returns
    -------
    dict of str to float
        atr_ms, atr_min_ms, atr_max_ms: median and the 1st and 99th percentile over the beats.
    """
    theirs = open_record(folder("qtdb", root) / f"sel{found.record}.hea").beats.time + found.start + found.lag
    ours = read_annotations("mitdb", found.record, root=root).beats.time
    late = 1000 * (ours[np.abs(ours[:, None] - theirs).argmin(0)] - theirs)
    low, middle, high = np.percentile(late[np.abs(late) < 1000 * _NEAR_S], [1, 50, 99])
    return {"atr_ms": float(middle), "atr_min_ms": float(low), "atr_max_ms": float(high)}


# Internals -----------------------------------------------------------------------------------------------------


def _beginning(header: Path) -> float:
    """Where an excerpt begins in its record, s: a comment in its header, ``7:00.000`` or ``0``."""
    found = re.search(r"beginning at ((?:\d+:)*\d+\.?\d*)", header.read_text())
    if not found:
        raise DataError(f"{header.name} does not say where in its record the excerpt begins; fetch it again")
    return sum(float(part) * 60**k for k, part in enumerate(reversed(found[1].split(":"))))


def _correlations(piece: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Pearson's correlation of ``piece`` (n,) with each stretch of ``around`` (n + 2 L,), shape (2 L + 1,)."""
    stretches = sliding_window_view(around.astype(float), len(piece))
    own = piece - piece.mean(dtype=float)
    spread = stretches.std(1) * np.sqrt(len(piece) * (own @ own))
    return np.divide(stretches @ own, spread, out=np.zeros(len(stretches)), where=spread > 0)


def _vertex(curve: np.ndarray) -> float:
    """How far the top of the parabola through the largest value and its neighbours lies beside it, samples."""
    k = curve.argmax()
    if not 0 < k < len(curve) - 1:
        return 0.0
    a, b, c = curve[k - 1 : k + 2]
    return float((a - c) / (2 * (a - 2 * b + c)))


def _read(header: Path, marks: str) -> pd.DataFrame:
    """Marks of one file, a row a peak: wave, start, peak, stop and qrs (the peak of its QRS), s of the excerpt."""
    path = header.with_suffix("")
    if not path.with_suffix(f".{marks}").is_file():
        return pd.DataFrame(columns=["wave", "start", "peak", "stop", "qrs"], dtype=float)
    try:
        found = wfdb.rdann(str(path), marks)
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"cannot read {path.name}.{marks} ({error}); fetch it again") from error
    rows = []
    for lead in np.unique(found.chan):
        own = found.chan == lead
        time, symbol = found.sample[own] / wfdb.rdheader(str(path)).fs, np.array(found.symbol)[own]
        peaks = time[np.isin(symbol, list(BEAT_SYMBOLS))]
        for i, s in enumerate(symbol):
            wave = {"p": "P", "t": "T"}.get(s, "QRS" if s in BEAT_SYMBOLS else "")
            k = np.searchsorted(peaks, time[i]) - (wave == "T")  # of P the next QRS, of T the last
            if wave and 0 <= k < len(peaks):
                start = time[i - 1] if i and symbol[i - 1] == "(" else np.nan
                stop = time[i + 1] if i + 1 < len(time) and symbol[i + 1] == ")" else np.nan
                rows.append((wave, start, time[i], stop, peaks[k]))
    return pd.DataFrame(rows, columns=["wave", "start", "peak", "stop", "qrs"])
