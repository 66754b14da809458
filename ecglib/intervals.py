"""Distances between beats: the RR interval that ends on a beat, and the heart rate around it, by class.

Annotations are enough for all of it, so databases whose signals are not at hand can be shown too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from ecglib import CLASSES
from ecglib.databases import record_names
from ecglib.errors import DataError
from ecglib.records import Record, read_annotations
from ecglib.windowset import WindowSet, eight

NEAR_S = 5.0  #: beats up to this far to either side make the heart rate around a beat

#: Rates by which a class is diagnosed, 1/min, as in `ecglib.clinic`; the other classes have none.
RATES: Mapping[str, tuple[float, float]] = MappingProxyType({"N": (60, 100), "SVTA": (150, 250), "SBR": (0, 60)})

#: What is measured, with the edges of its bins; a value beyond the ends counts in the outermost bin.
BINS: Mapping[str, np.ndarray] = MappingProxyType(
    {
        "RR before (s)": np.arange(0.2, 2.0 + 1e-9, 0.04).round(2),
        "60 s / RR (1/min)": np.arange(20.0, 240.0 + 1e-9, 5),
        "rate over 10 s (1/min)": np.arange(20.0, 240.0 + 1e-9, 5),
    }
)

#: `RATES` in the units of each quantity
SPANS: Mapping[str, Mapping[str, tuple[float, float]]] = MappingProxyType(
    {
        quantity: {c: (60 / high, 60 / low if low else np.inf) if "(s)" in quantity else (low, high)
                   for c, (low, high) in RATES.items()}
        for quantity in BINS
    }
)  # fmt: skip

_SYMBOLS = {"N": "N", "V": "PVC", "A": "PAC", "L": "LBBB", "R": "RBBB"}
_RHYTHMS = ("AFIB", "SVTA", "SBR")


def measure(record: Record) -> pd.DataFrame:
    """Measure the distances around every beat of a record.

    Returns
    -------
    DataFrame
        One row a beat: time (s), label (class, or missing), rr (s since the beat before; NaN for the first) and rate
        (1/min, from all intervals between beats within 5 s to either side; NaN where there is none).  The label is
        the rhythm's where the rhythm is a class and the beat an ordinary one (in SVTA also `A`), else that of the
        beat's symbol, as in `ecglib.windows.at`: what the annotation says of a beat, whatever stands beside it.
    """
    time, symbol = record.beats.time, record.beats.symbol
    rr = np.diff(time, prepend=np.nan)
    # Beats of the same instant (0 s apart) would give an infinite rate.
    first, last = np.searchsorted(time, time - NEAR_S), np.searchsorted(time, time + NEAR_S, side="right") - 1
    span = time[last] - time[first]
    rate = np.divide(60.0 * (last - first), span, out=np.full(len(time), np.nan), where=span > 0)
    label = np.full(len(time), -1)
    for mark, name in _SYMBOLS.items():
        label[symbol == mark] = CLASSES.index(name)
    for name in _RHYTHMS:
        for start, stop, _ in record.rhythms[record.rhythms.label == name]:
            a, b = np.searchsorted(time, [start, stop])
            own = (symbol[a:b] == "N") | ((symbol[a:b] == "A") & (name == "SVTA"))
            label[a:b][own] = CLASSES.index(name)
    names = pd.Categorical.from_codes(label, categories=pd.Index(CLASSES))
    return pd.DataFrame({"time": time, "label": names, "patient": record.patient, "rr": rr, "rate": rate})


def of_database(
    name: str, *, root: str | os.PathLike[str] | None = None, records: Iterable[str] | None = None
) -> Iterator[pd.DataFrame]:
    """`measure` record after record, by default of every record of a database, without its signals."""
    for record in record_names(name, root) if records is None else records:
        yield measure(read_annotations(name, record, root=root))


def of_windows(windows: WindowSet, *, root: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Measure the distances around the labelled beat of each window.

    Parameters
    ----------
    windows : WindowSet
        Of catalogued databases, in any order.
    root : path, optional
        Where their annotations are.

    Returns
    -------
    DataFrame
        One row a window, in their order: columns as of `measure`, the label that of the window, and record.

    Raises
    ------
    DataError
        The windows are of other classes than the eight.
    """
    found = np.full((len(eight(windows)), 2), np.nan)
    keys = np.char.add(np.char.add(windows.database, "/"), windows.record)
    for key in np.unique(keys):
        own = np.flatnonzero(keys == key)
        beats = measure(read_annotations(*key.split("/", 1), root=root))
        labelled = np.searchsorted(beats.time, windows.anchor[own] - 1e-6).clip(max=len(beats) - 1)
        found[own] = beats[["rr", "rate"]].to_numpy()[labelled]
    names = pd.Categorical.from_codes(windows.y, categories=pd.Index(CLASSES))
    table = pd.DataFrame({"time": windows.anchor, "label": names, "patient": windows.patient})
    return table.assign(rr=found[:, 0], rate=found[:, 1], record=windows.record)


def shares(tables: Iterable[pd.DataFrame], *, series: str) -> pd.DataFrame:
    """Distribute beats over bins by class, with every patient counted once.

    Parameters
    ----------
    tables : iterable of DataFrame
        As from `measure`, taken one at a time: a hundred days of beats need not stay in memory.
    series : str
        Name of the distributions, for the chart.

    Returns
    -------
    DataFrame
        One row a class and quantity (key of `BINS`): series, label, quantity, share (list, one value a bin: share of
        a patient's beats, averaged over patients), median (of that distribution), patients and beats.

    Raises
    ------
    DataError
        No table holds a beat of a class.
    """
    counts: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for table in tables:
        measured = np.stack([table.rr, 60 / table.rr, table.rate])  # in the order of BINS
        for label in CLASSES:
            of_class = (table.label == label).to_numpy()
            for patient in table.patient[of_class].unique():
                own = of_class & (table.patient == patient).to_numpy()
                for (quantity, edges), values in zip(BINS.items(), measured[:, own], strict=True):
                    known = np.clip(values[~np.isnan(values)], edges[0], edges[-1])
                    people = counts.setdefault((label, quantity), {})
                    people[patient] = people.get(patient, 0) + np.histogram(known, edges)[0]
    found_rows = []
    for (label, quantity), people in counts.items():
        full = np.array([c for c in people.values() if c.sum()])
        if len(full):
            share = (full / full.sum(1, keepdims=True)).mean(0)
            median = float(np.interp(0.5, np.r_[0, np.cumsum(share)], BINS[quantity]))
            row = {"series": series, "label": label, "quantity": quantity, "share": share.tolist(), "median": median}
            found_rows.append(row | {"patients": len(full), "beats": int(full.sum())})
    if not found_rows:
        raise DataError(f"{series}: expected beats of one of the classes, received none")
    return pd.DataFrame(found_rows)


def if_here(name: str, *, root: str | os.PathLike[str] | None = None) -> pd.DataFrame | None:
    """`shares` of all beats of a database, or None where its annotations are not on this machine."""
    try:
        return shares(of_database(name, root=root), series=f"{name.upper()}, all beats")
    except DataError:
        return None
