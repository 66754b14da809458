"""Windows around beats whose waves are marked, and what of an explanation lies inside P, QRS and T."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from ecglib import FS, WINDOW, networks, pairing
from ecglib.attribution import attribute
from ecglib.evaluation import predict
from ecglib.experts import WAVES
from ecglib.intervals import measure
from ecglib.localisation import chance, mass_accuracy, span_mask
from ecglib.overlap import over_patients
from ecglib.records import read_annotations
from ecglib.source import Source
from ecglib.windows import HALF_S, WindowSet, concat, fill

CONTROLS = ("centre", "amplitude", "slope", "bump")  #: of `ecglib.attribution`; chance is the uniform one

_BEFORE_S, _AFTER_S = 0.5, 0.3  # a beat so far outside a window may reach into it with its T or P wave


@dataclass(frozen=True)
class Delineated:
    """Windows around beats whose waves are marked.

    Attributes
    ----------
    windows : WindowSet
        ``y`` is the class by beat and rhythm as in `ecglib.intervals.measure`, -1 where it is none of the eight.
    symbol : ndarray of shape (N,), str
        The beat's annotation in the record.
    truth, own : dict of str to ndarray of shape (N, 720), bool
        Samples inside P, QRS, T: of every marked beat, of the labelled beat.
    marked : dict of str to ndarray of shape (N,), bool
        Whether the labelled beat has the wave.
    complete : ndarray of shape (N,), bool
        Whether every beat that reaches into the window is marked, so that what lies outside ``truth`` is no wave.
    """

    windows: WindowSet
    symbol: np.ndarray
    truth: dict[str, np.ndarray]
    own: dict[str, np.ndarray]
    marked: dict[str, np.ndarray]
    complete: np.ndarray

    def __len__(self) -> int:
        return len(self.symbol)

    def __getitem__(self, index: np.ndarray) -> Delineated:
        """Subset by an index array or mask."""
        truth, own, marked = ({w: m[index] for w, m in t.items()} for t in (self.truth, self.own, self.marked))
        return Delineated(self.windows[index], self.symbol[index], truth, own, marked, self.complete[index])


def delineated(
    database: str,
    tables: Mapping[str, pd.DataFrame],
    *,
    root: str | os.PathLike[str] | None = None,
    per_record: int | None = None,
    seed: int = 0,
) -> Delineated:
    """Cut a window around each beat whose QRS is marked, its R peak anywhere between 0.5 and 1.5 s as in the clean rule.

    Parameters
    ----------
    database : str
    tables : mapping of str to DataFrame
        Waves by record, as of `waves`.
    per_record : int, optional
        Draw at most that many beats of a record.
    seed : int
        Of the placement and the draw; the record's name is mixed in.
    """
    sets, known = [], []
    for record, table in tables.items():
        whole = read_annotations(database, record, root=root)
        rng = np.random.default_rng([seed, *record.encode()])
        anchor = table.beat[table.wave == "QRS"].to_numpy()
        drawn = np.sort(rng.permutation(len(anchor))[:per_record])
        time = np.round((anchor + HALF_S - rng.uniform(0.5, 1.5, len(anchor))) * FS)[drawn] / FS
        inside = (time >= HALF_S) & (time <= whole.duration - HALF_S)
        anchor, time = anchor[drawn][inside], time[inside]
        place = np.searchsorted(whole.beats.time, anchor - 1e-6)
        y = measure(whole).label.cat.codes.to_numpy(np.int64)[place]
        name = np.full(len(y), record), np.full(len(y), database)
        sets.append(WindowSet(np.empty((len(y), 1, 0), np.float32), y, *name, time, anchor))
        known.append((whole.beats.symbol[place], *masks(sets[-1], table, whole.beats.time)))
    symbol, truth, own, complete = zip(*known, strict=True)
    every, mine = ({w: np.concatenate([t[w] for t in part]) for w in WAVES} for part in (truth, own))
    marked = {w: np.any(m, axis=1) for w, m in mine.items()}
    whole_set = fill(concat(sets), root=root)
    return Delineated(whole_set, np.concatenate(symbol), every, mine, marked, np.concatenate(complete))


def masks(
    windows: WindowSet, table: pd.DataFrame, beats: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Samples inside the waves of every marked beat and of the labelled one, and which windows show marked beats alone.

    Parameters
    ----------
    windows : WindowSet
        Of one record.
    table : DataFrame
        Of `waves`.
    beats : ndarray
        R peaks of all beats of the record, s, sorted.
    """
    begin, qrs = windows.time - HALF_S, table.beat[table.wave == "QRS"].to_numpy()

    def inside(rows: pd.DataFrame, start: float) -> np.ndarray:
        spans = list(zip(rows.start, rows.stop, strict=True))
        return span_mask(spans, start=start, length=WINDOW, fs=FS)

    def near(start: float, times: np.ndarray) -> np.ndarray:
        return times[(times > start - _BEFORE_S) & (times < start + 2 * HALF_S + _AFTER_S)]

    every, own = {}, {}
    for w in WAVES:
        rows = table[table.wave == w]
        every[w] = np.array([inside(rows, t) for t in begin]).reshape(-1, WINDOW)
        pairs = zip(begin, windows.anchor, strict=True)
        own[w] = np.array([inside(rows[np.abs(rows.beat - a) < 1e-6], t) for t, a in pairs]).reshape(-1, WINDOW)
    complete = np.array([len(near(t, beats)) == len(near(t, qrs)) for t in begin], bool)
    return every, own, complete


def explain(source: Source, found: Delineated) -> dict[str, np.ndarray]:
    """Relevance of every sample (N, 720) by explanation and control, patients held out where possible.

    Of the annotated class; where it is none of the eight, of the class that the network names.  The rows of a mask that
    deletes nothing are NaN.
    """
    windows, n = found.windows, len(found)
    out = {name: np.full((n, WINDOW), np.nan, np.float32) for name in ("CAM", "mask")}
    for net, index in networks.by_network(source, windows):
        y = windows.y[index].copy()
        if (y < 0).any():
            y[y < 0] = predict(net, windows.x[index[y < 0]]).argmax(1)
        maps, hidden, _ = pairing.both(net, torch.from_numpy(windows.x[index]), torch.from_numpy(y))
        out["CAM"][index] = pairing.upsample(torch.from_numpy(maps)).numpy()
        out["mask"][index] = np.where(hidden.max(1, keepdims=True) < pairing.SILENT, np.nan, hidden)
    x, at = torch.from_numpy(windows.x), torch.from_numpy(np.round(windows.r_position * FS).astype(int))
    for name in CONTROLS:
        options = {"centre": at} if name == "bump" else {}
        out[name] = attribute(name, torch.nn.Identity(), x, 0, **options).numpy()
    return out


def masses(
    found: Delineated, relevance: Mapping[str, np.ndarray], labels: np.ndarray, *, own: bool = False
) -> pd.DataFrame:
    """Share of the positive relevance inside each wave, by label; patients count once.

    Parameters
    ----------
    found : Delineated
    relevance : mapping of str to ndarray of shape (N, 720)
        As of `explain`; a row of NaN says nothing.
    labels : ndarray of shape (N,)
        Windows of one label are averaged.
    own : bool
        Inside the wave of the labelled beat alone, in all windows; by default inside those of every beat, in complete
        windows.

    Returns
    -------
    DataFrame
        pair, label, wave, and mean, low, high, patients, windows as of `ecglib.overlap.over_patients`.  Beside the
        explanations stand "chance", the share of time, and for each of them "… less chance".
    """
    rows = []
    for wave in WAVES:
        truth = (found.own if own else found.truth)[wave]
        use = found.marked[wave] & (own | found.complete)
        share = {"chance": chance(truth)}
        for name, r in relevance.items():
            speaks = ~np.isnan(r[:, 0])
            share[name] = np.full(len(truth), np.nan)
            share[name][speaks] = mass_accuracy(r[speaks], truth[speaks])
            share[f"{name} less chance"] = share[name] - share["chance"]
        for label in dict.fromkeys(labels[use].tolist()):
            these = use & (labels == label)
            rows += [
                {"pair": pair, "label": label, "wave": wave, **over_patients(v[these], found.windows.patient[these])}
                for pair, v in share.items()
            ]
    return pd.DataFrame(rows)


def picture(found: Delineated, k: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Window k to be drawn: its trace (t s, mv), and the spans of its waves (wave, start, stop)."""
    t = np.arange(WINDOW + 1) / FS
    edges = {w: np.flatnonzero(np.diff(np.r_[0, m[k].astype(int), 0])).reshape(-1, 2) for w, m in found.truth.items()}
    spans = [(w, t[a], t[b]) for w, pairs in edges.items() for a, b in pairs]
    trace = pd.DataFrame({"t": t[:-1], "mv": found.windows.x[k, 0]})
    return trace.round(3), pd.DataFrame(spans, columns=["wave", "start", "stop"]).round(3)
