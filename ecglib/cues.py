"""What a window tells besides its rhythm: cues that a network can learn, each measured by a probe that sees nothing else."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ecglib import CLASSES, FS, averages, excerpts, probes
from ecglib.errors import DataError
from ecglib.rules import RHYTHM_CLASS, RULES
from ecglib.splits import shared_samples, split
from ecglib.windows import TABLE, cut, cut_database, labels
from ecglib.windowset import HALF_S, WindowSet, concat, eight

_LTAFDB_N = 10_756  # windows of LTAFDB's N that the deck counts; nobody knows which, so that many are drawn


def measure(root: str | os.PathLike[str] | None = None, *, seed: int = 0) -> dict[str, Any]:
    """Measure every cue on the three databases of the table: position, overlap, recorder.

    Needs the annotations of all three, the signals of MITDB, and the excerpts of the other two (`ecglib.excerpts`).

    Returns
    -------
    dict
        ``position`` rows of `position`; ``overlap`` rows of `overlap`; ``recorder`` rows of `recorder`; ``spectra`` rows
        of `spectra`; ``signals`` windows of each database and class of which signals were at hand.

    Raises
    ------
    DataError
        A database or its excerpts are not here (one that is here in part is measured as it is).
    """
    few = {rule: concat(labels(n, rule=rule, root=root, per_record=60, seed=seed) for n in TABLE) for rule in RULES}
    found = [*excerpts.excerpts("ltafdb", root=root), *excerpts.excerpts("ltdb", root=root)]
    if len({r.database for r in found}) < 2:
        raise DataError("the excerpts of LTAFDB or of LTDB are not here")
    mitdb = cut_database("mitdb", rule="clean", root=root, per_record=40, seed=seed)
    apart = concat([mitdb, *(cut(r, rule="clean", seed=seed) for r in found)])
    deck = concat(cut(r, rule="deck") for r in found)
    at_hand = pd.DataFrame({"database": deck.database, "class": np.array(CLASSES)[deck.y], "patient": deck.patient})
    at_hand = at_hand.groupby(["database", "class"]).patient.agg(windows="size", patients="nunique").reset_index()
    return {
        "position": [row for rule in RULES for row in position(few[rule], rule=rule, seed=seed)],
        "overlap": overlap(published(root, seed=seed), seed=seed).to_dict("records"),
        "recorder": recorder(apart, seed=seed).to_dict("records"),
        "spectra": spectra(apart).round(3).to_dict("records"),
        "signals": at_hand.to_dict("records"),
    }


def position(windows: WindowSet, *, rule: str, seed: int = 0) -> list[dict[str, Any]]:
    """Score `ecglib.probes.position_probe` on the eight classes, and on beats against rhythms (labels are enough)."""
    is_rhythm = np.isin(eight(windows).y, list(RHYTHM_CLASS.values()))
    families = replace(windows, y=np.where(is_rhythm, RHYTHM_CLASS["AFIB"], 0))
    rows = []
    for of, asked in (("eight classes", windows), ("beats or rhythms", families)):
        scored, chance = probes.position_probe(asked, seed=seed)
        low, high = scored.intervals["accuracy"]
        rows.append({"rule": rule, "of": of, "accuracy": scored.accuracy, "low": low, "high": high, "chance": chance})
    return rows


def published(root: str | os.PathLike[str] | None = None, *, seed: int = 0) -> WindowSet:
    """Every window that the deck's rules give, as labels alone; of LTAFDB's N as many as it counts, drawn at random."""
    rng = np.random.default_rng(seed)
    parts = [labels(n, rule="deck", root=root) for n in ("mitdb", "ltdb")]
    af = labels("ltafdb", rule="deck", root=root)
    ordinary = np.flatnonzero(af.y == 0)
    drawn = rng.choice(ordinary, _LTAFDB_N, replace=False) if len(ordinary) > _LTAFDB_N else ordinary
    return concat([*parts, af[np.sort(np.r_[np.flatnonzero(af.y != 0), drawn])]])


def overlap(windows: WindowSet, *, per_class: int = 2500, seed: int = 0) -> pd.DataFrame:
    """How much of a test window a split by window has put into training, by class.

    Parameters
    ----------
    windows : WindowSet
        Labels are enough.
    per_class : int
        ECGNet's code draws so many windows of a class at random before it splits them.

    Returns
    -------
    DataFrame
        Columns drawn ("all windows", "2500 a class"), class, shared (mean share of samples), untouched (share of test
        windows that share none), stranger (share of test windows whose patient is not in training), windows.
    """
    rng, rows = np.random.default_rng(seed), []
    few = [rng.permutation(np.flatnonzero(windows.y == c))[:per_class] for c in range(len(windows.classes))]
    for drawn, chosen in (("all windows", windows), (f"{per_class:,} a class", windows[np.sort(np.concatenate(few))])):
        part = split(chosen, level="window", seed=seed)[0]
        shared, y, patient = shared_samples(chosen, part), chosen.y[part.test], chosen.patient
        known = np.isin(patient[part.test], np.unique(patient[part.train]))
        for c, name in enumerate(windows.classes):
            if (own := y == c).any():
                mean, none = float(shared[own].mean()), float((shared[own] == 0).mean())
                rows.append((drawn, name, mean, none, float((~known[own]).mean()), int(own.sum())))
    return pd.DataFrame(rows, columns=["drawn", "class", "shared", "untouched", "stranger", "windows"])


def recorder(windows: WindowSet, *, seed: int = 0) -> pd.DataFrame:
    """Score `ecglib.probes.spectrum_probe` on all windows and on one class that two recorders show, AFIB.

    Returns
    -------
    DataFrame
        Columns windows ("all", "AFIB"), band ("all", "below 40 Hz"), databases, accuracy, low, high, chance, patients.
    """
    rows = []
    for which, chosen in (("all", windows), ("AFIB", windows[eight(windows).y == CLASSES.index("AFIB")])):
        for band, below in (("all", FS / 2), ("below 40 Hz", 40.0)):
            scored, names = probes.spectrum_probe(chosen, below=below, seed=seed)
            low, high = scored.intervals["accuracy"]
            rows.append((which, band, " ".join(names), scored.accuracy, low, high, 1 / len(names), scored.n_groups))
    return pd.DataFrame(rows, columns=["windows", "band", "databases", "accuracy", "low", "high", "chance", "patients"])


def spectra(windows: WindowSet, *, band_hz: float = 2.5) -> pd.DataFrame:
    """Spectrum of each database: median over patients of the share of power in each band, and their 10 and 90 %.

    A patient's share is the geometric mean of those of the windows.

    Returns
    -------
    DataFrame
        Columns database, hz (middle of the band), low, median, high (log10 of the share), patients.
    """
    edges, shares = probes.spectrum(windows.x, band_hz=band_hz)
    tables = []
    for name in np.unique(windows.database):
        own = windows.database == name
        people = pd.DataFrame(shares[own]).groupby(windows.patient[own]).mean()
        low, median, high = np.percentile(people, [10, 50, 90], axis=0)
        columns = {"database": name, "hz": edges + band_hz / 2, "low": low, "median": median, "high": high}
        tables.append(pd.DataFrame(columns | {"patients": len(people)}))
    return pd.concat(tables, ignore_index=True)


def average_window(windows: WindowSet) -> pd.DataFrame:
    """Average of whole windows by class, as they are cut: mean over patients, one standard deviation to either side.

    Each window is taken less its median, which is its offset.

    Returns
    -------
    DataFrame
        Columns label, time (s from the window's centre), mean, low, high (mV), patients; every other sample.
    """
    signal, patient = averages.beats(windows.x), windows.patient
    tables = []
    for c, label in enumerate(windows.classes):
        people = np.unique(patient[windows.y == c])
        if not len(people):
            continue
        means = np.stack([signal[(windows.y == c) & (patient == p)].mean(0) for p in people])[:, ::2]
        centre, spread = means.mean(0), means.std(0)
        time = np.arange(centre.size) * 2 / FS - HALF_S
        columns = {"label": label, "time": time, "mean": centre, "low": centre - spread, "high": centre + spread}
        tables.append(pd.DataFrame(columns | {"patients": len(people)}))
    return pd.concat(tables, ignore_index=True)
