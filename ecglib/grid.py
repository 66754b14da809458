"""Tables of the reference runs: models by split, over seeds and folds, from each run's confusion matrix by patient.

A run (a row of ``results/grid.json``) names model, level, fold, seed and budget.  Folds of one seed test different
patients and are pooled; seeds are averaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ecglib import CLASSES, aami
from ecglib.errors import DataError
from ecglib.scores import SCORES, confusions, draws, score

Run = dict[str, Any]


def packed(y: np.ndarray, guess: np.ndarray, patient: np.ndarray, *, n_classes: int) -> dict[str, list[list[int]]]:
    """Confusion matrix of each patient as a run keeps it: places (n_classes * truth + prediction) and counts, 0 left out.

    >>> packed(np.array([0, 1]), np.array([1, 1]), np.array(["a", "a"]), n_classes=2)
    {'a': [[1, 3], [1, 1]]}
    """
    each = confusions(y, guess, groups=patient, n_classes=n_classes).astype(int)
    return {
        str(p): [c.ravel().nonzero()[0].tolist(), c[c > 0].tolist()]
        for p, c in zip(sorted(set(patient)), each, strict=True)
    }


def confusion_of(runs: Sequence[Run], *, classes: Sequence[str] = CLASSES) -> tuple[list[str], np.ndarray]:
    """Patients (P), and confusion matrices (seeds, P, K, K) with a seed's folds added up; 0 where a patient is absent."""
    seeds = sorted({r["seed"] for r in runs})
    patients = sorted({p for r in runs for p in r["confusion"]})
    out = np.zeros((len(seeds), len(patients), len(classes) ** 2), int)
    for run in runs:
        for patient, (place, count) in run["confusion"].items():
            out[seeds.index(run["seed"]), patients.index(patient), place] += count
    return patients, out.reshape(*out.shape[:2], len(classes), len(classes))


def table(runs: Iterable[Run], *, n_boot: int = 1000, seed: int = 0, classes: Sequence[str] = CLASSES) -> pd.DataFrame:
    """Scores of every model, level and budget.

    Returns
    -------
    DataFrame
        One row a cell: model, level, budget, seeds, runs, patients, windows, shared (share of a test window's samples
        that training saw), ece, jk, and each of accuracy and the macro and weighted precision, recall and F1 with
        ``_low`` and ``_high``: means over seeds; 95 % bootstrap over patients, who are drawn together for all seeds; and
        ``_sd``, the standard deviation over seeds (NaN for one).

    Raises
    ------
    DataError
        No runs.
    """
    runs = list(runs)
    if not runs:
        raise DataError("there are no runs to tabulate")
    eight = tuple(classes) == CLASSES
    cells: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        cells.setdefault((run["model"], run["level"], run["budget"]), []).append(run)
    rows = []
    for (model, level, budget), own in cells.items():
        patients, by_patient = confusion_of(own, classes=classes)
        each = score(by_patient.sum(1))[0]  # (seeds, scores)
        weight = draws(len(patients), n_boot=n_boot, seed=seed)
        drawn = np.mean([score(np.tensordot(weight, m, axes=1))[0] for m in by_patient], axis=0)
        low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
        row: dict[str, Any] = {
            "model": model, "level": level, "budget": budget, "seeds": len(by_patient), "runs": len(own),
            "patients": len(patients), "windows": int(by_patient.sum() / len(by_patient)),
            **({"ece": float(np.mean([r["ece"] for r in own]))} if "ece" in own[0] else {}),
            **({"jk": float(np.mean([aami.of_classes(m.sum(0)).scores["jk"] for m in by_patient]))} if eight else {}),
            "shared": own[0]["shared_samples"],
        }  # fmt: skip
        for i, name in enumerate(SCORES):
            sd = each[:, i].std(ddof=1) if len(each) > 1 else np.nan
            row |= {name: each[:, i].mean(), f"{name}_low": low[i], f"{name}_high": high[i], f"{name}_sd": sd}
        rows.append(row)
    return pd.DataFrame(rows)


def by_class(
    runs: Iterable[Run], *, n_boot: int = 1000, seed: int = 0, classes: Sequence[str] = CLASSES
) -> pd.DataFrame:
    """F1 by class for runs of one cell: class, f1 (mean over seeds), low, high (95 % over patients), patients, windows."""
    _, by_patient = confusion_of(list(runs), classes=classes)
    weight = draws(by_patient.shape[1], n_boot=n_boot, seed=seed)
    f1 = np.mean([score(m.sum(0)[None])[1][0] for m in by_patient], axis=0)
    drawn = np.mean([score(np.tensordot(weight, m, axes=1))[1] for m in by_patient], axis=0)
    there = np.tensordot(weight, by_patient.sum((0, 3)), axes=1) > 0  # the class was drawn at all
    rows = []
    for c, name in enumerate(classes):
        own = drawn[there[:, c], c]
        low, high = np.percentile(own, [2.5, 97.5]) if len(own) else (np.nan, np.nan)
        rows.append(
            (name, f1[c], low, high, int((by_patient.sum((0, 3))[:, c] > 0).sum()), int(by_patient[0, :, c].sum()))
        )
    return pd.DataFrame(rows, columns=["class", "f1", "low", "high", "patients", "windows"])


def paired(first: Sequence[Run], second: Sequence[Run], *, n_boot: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Difference (first - second) in accuracy and macro-F1 of two cells on the patients of both, paired over patients.

    Returns ``{score: (difference, low, high)}``: means over the seeds of each cell, of which an ensemble has one, and
    95 % bootstrap intervals.
    """
    (names, a), (others, b) = confusion_of(first), confusion_of(second)
    both = [p for p in names if p in others]
    if not both:
        raise DataError("the two cells have no patient in common")
    a, b = (m[:, [own.index(p) for p in both]] for m, own in ((a, names), (b, others)))
    weight = np.vstack([np.ones(len(both)), draws(len(both), n_boot=n_boot, seed=seed)])
    value = [np.mean([score(np.tensordot(weight, s, axes=1))[0] for s in m], axis=0) for m in (a, b)]
    change = value[0] - value[1]
    low, high = np.percentile(change[1:], [2.5, 97.5], axis=0)
    wanted = {"accuracy", "f1_macro"}
    return {s: (float(change[0, i]), float(low[i]), float(high[i])) for i, s in enumerate(SCORES) if s in wanted}


def over_seeds(runs: Iterable[Run], *, level: str, budget: str, value: str = "f1_macro") -> pd.DataFrame:
    """Scores by model (columns) and seed (rows) for `ecglib.seeds.ranking`: the seeds that every model has."""
    kept = [r for r in runs if (r["level"], r["budget"]) == (level, budget)]
    rows = {}
    for model in dict.fromkeys(r["model"] for r in kept):
        own = [r for r in kept if r["model"] == model]
        _, by_patient = confusion_of(own)
        values = score(by_patient.sum(1))[0][:, SCORES.index(value)]
        rows[model] = dict(zip(sorted({r["seed"] for r in own}), values, strict=True))
    return pd.DataFrame(rows).dropna().sort_index()
