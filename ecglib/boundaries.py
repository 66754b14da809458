"""Where P, QRS and T usually lie around R by the experts' marks, and how wrong it is to put them there.

A stand-in for a delineator: MITDB's annotations give R, and what experts marked on other patients' beats gives the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from ecglib.experts import WAVES

#: Two standard deviations of experts who mark the same beats, s, by wave and edge: what a delineator is held to (CSE
#: Working Party, Eur Heart J 6:815-825, 1985; as in Martinez et al., IEEE TBME 51:570-581, 2004).  None for T onsets.
TOLERANCE: Mapping[tuple[str, str], float] = MappingProxyType(
    {("P", "start"): 0.0102, ("P", "stop"): 0.0127, ("QRS", "start"): 0.0065, ("QRS", "stop"): 0.0116,
     ("T", "stop"): 0.0306}
)  # fmt: skip


def typical(tables: Mapping[str, pd.DataFrame], *, symbols: tuple[str, ...] = ("N",)) -> pd.DataFrame:
    """Start and stop of each wave relative to R, s, of beats with these symbols: the median over the records' medians."""
    rows = pd.concat([t[t.symbol.isin(symbols)].assign(record=r) for r, t in tables.items()])
    rows = rows.assign(start=rows.start - rows.beat, stop=rows.stop - rows.beat)
    return rows.groupby(["record", "wave"])[["start", "stop"]].median().groupby("wave").median()


def expected(beats: np.ndarray, usual: pd.DataFrame) -> pd.DataFrame:
    """Waves where they usually are, around R peaks at ``beats`` (s): a table as of `ecglib.experts.waves`."""
    rows = [
        (wave, b + u.start, b + u.stop, b)
        for b in beats
        for wave, u in zip(usual.index, usual.itertuples(), strict=True)
    ]
    return pd.DataFrame(rows, columns=["wave", "start", "stop", "beat"])


def boundary_errors(guess: Mapping[str, pd.DataFrame], truth: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How far boundaries lie from the marked ones, over the waves that both have.

    Returns
    -------
    DataFrame
        wave, edge ("start", "stop"), mean_ms (positive: too late) and sd_ms (over beats), beats, records, tolerance_ms (NaN
        where there is none).  T onsets count where they are marked.
    """
    both = pd.concat(
        [
            t.merge(guess[r], on=["beat", "wave"], suffixes=("", "_guess")).assign(record=r)
            for r, t in truth.items()
            if r in guess
        ]
    )
    rows = []
    for wave in WAVES:
        for edge in ("start", "stop"):
            own = both[(both.wave == wave) & ~((edge == "start") & both.guessed)]
            error = 1000 * (own[f"{edge}_guess"] - own[edge])
            limit = 1000 * TOLERANCE.get((wave, edge), np.nan)
            rows.append((wave, edge, error.mean(), error.std(), len(own), own.record.nunique(), limit))
    return pd.DataFrame(rows, columns=["wave", "edge", "mean_ms", "sd_ms", "beats", "records", "tolerance_ms"])


def onset_by_symmetry(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """T waves with a marked onset, moved to where it would be put if it were not marked: to be held against the marks."""
    known = {r: t[(t.wave == "T") & ~t.guessed] for r, t in tables.items()}
    return {r: t.assign(start=2 * t.peak - t.stop) for r, t in known.items() if len(t)}


def without(tables: Mapping[str, pd.DataFrame], **options: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    """`expected` waves of each record's beats by the marks in all *other* records; options are those of `typical`."""
    return {
        r: expected(t.beat[t.wave == "QRS"].to_numpy(), typical({k: v for k, v in tables.items() if k != r}, **options))
        for r, t in tables.items()
    }


def of_symbols(tables: Mapping[str, pd.DataFrame], *symbols: str) -> dict[str, pd.DataFrame]:
    """The waves of beats with these annotations alone."""
    return {r: t[t.symbol.isin(symbols)] for r, t in tables.items()}


def intervals(table: pd.DataFrame, beats: np.ndarray) -> pd.DataFrame:
    """Intervals of marked beats, ms, by annotation.

    Parameters
    ----------
    table : DataFrame
        Of `ecglib.experts.waves`.
    beats : ndarray
        R peaks of all beats of the record, s, sorted.

    Returns
    -------
    DataFrame
        symbol, beats, and the median of each interval, its extremes as ``…_low`` and ``…_high``: rr (from the beat before),
        rp (from the R peak before to the P peak), pr (P onset to QRS onset), p and qrs (durations).
    """
    side = table.pivot(index="beat", columns="wave", values=["start", "peak", "stop"])
    p, qrs, r = side.xs("P", axis=1, level=1), side.xs("QRS", axis=1, level=1), side.index.to_numpy()
    symbol = table.drop_duplicates("beat").set_index("beat").symbol.loc[r].to_numpy()
    place = np.searchsorted(beats, r - 1e-6)
    before = np.where(place > 0, beats[place - 1], np.nan)
    found = {"rr": r - before, "rp": p.peak - before, "pr": qrs.start - p.start, "p": p.stop - p.start,
             "qrs": qrs.stop - qrs.start}  # fmt: skip
    frame = 1000 * pd.DataFrame({k: np.asarray(v) for k, v in found.items()})
    rows = []
    for s in dict.fromkeys(symbol.tolist()):
        own = frame[symbol == s]
        row = {"symbol": s, "beats": len(own)}
        for name in found:
            row |= {name: own[name].median(), f"{name}_low": own[name].min(), f"{name}_high": own[name].max()}
        rows.append(row)
    return pd.DataFrame(rows)
