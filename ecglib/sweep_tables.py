"""Tables of a sweep of recipes, averaged over patients: where settings end, and how alike they rank the samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata

from ecglib.attribution import CONTROLS
from ecglib.mask_sweep import Outcome
from ecglib.scores import draws

SILENT = 0.01  #: a mask that nowhere deletes as much says nothing


def visible(relevance: np.ndarray) -> np.ndarray:
    """What a picture can show of relevance (N, T): a hundred levels between a window's lowest and highest value.

    On the kinks of its objective a mask trembles by a part of its rate, and ranks would take that for an order.  A mask
    that nowhere deletes as much as 0.01 is silent: it becomes 0 throughout.
    """
    low, high = relevance.min(1, keepdims=True), relevance.max(1, keepdims=True)
    level = np.divide(relevance - low, high - low, out=np.zeros_like(relevance), where=high > low)
    return np.where(high < SILENT, 0.0, np.round(100 * level) / 100)


def agreement(maps: Mapping[str, np.ndarray], patient: np.ndarray, *, n_boot: int = 2000) -> pd.DataFrame:
    """Spearman's rank correlation of every two maps (N, T): by window, averaged over patients.

    Returns
    -------
    DataFrame
        One row a pair: a, b, rho, low, high (95 % bootstrap interval over patients) and windows, those in which neither
        map is constant; NaN where there are none.
    """
    ranks, names = np.stack([_standard_ranks(m) for m in maps.values()]), list(maps)  # (S, N, T)
    a, b = np.triu_indices(len(names), 1)
    rho = np.einsum("ant,bnt->nab", ranks, ranks)[:, a, b]  # (N, pairs)
    mean, low, high = over_patients(rho, patient, n_boot=n_boot)
    pairs = {"a": [names[i] for i in a], "b": [names[i] for i in b]}
    return pd.DataFrame({**pairs, "rho": mean, "low": low, "high": high, "windows": np.isfinite(rho).sum(0)})


def ends(outcomes: Mapping[str, Outcome], patient: np.ndarray, *, n_boot: int = 2000) -> pd.DataFrame:
    """Where the settings of a sweep end: one row a setting, averaged over patients.

    Returns
    -------
    DataFrame
        Columns setting; reached, low, high (share of windows at the least J, 95 % bootstrap interval over patients); idle
        (share where no mask at all would count as there); area, least area, silent, least silent (share of silent masks,
        and of silent minima); before, after (score); at 0, at 1, between
        (shares of the mask within 0.01 of them, and the rest); and two medians over windows: gap (distance of J from the
        least) and spread (standard deviation of the mask).
    """
    rows = []
    for name, o in outcomes.items():
        zero, one = ((np.abs(o.mask - v) < 0.01).mean(1) for v in (0, 1))
        values = {
            "reached": o.reached(), "idle": o.reached(idle=True), "area": np.abs(o.relevance).mean(1),
            "least area": np.abs(1 - o.best).mean(1),
            "silent": o.relevance.max(1) < SILENT, "least silent": (1 - o.best).max(1) < SILENT,
            "before": o.before, "after": o.after, "at 0": zero, "at 1": one, "between": 1 - zero - one,
        }  # fmt: skip
        mean, low, high = over_patients(np.stack(list(values.values()), axis=1), patient, n_boot=n_boot)
        medians = {"gap": np.median(o.objective - o.least), "spread": np.median(o.mask.std(1))}
        rows.append(
            {"setting": name, **dict(zip(values, mean, strict=True)), "low": low[0], "high": high[0], **medians}
        )
    return pd.DataFrame(rows)


def over_patients(values: np.ndarray, patient: np.ndarray, *, n_boot: int = 2000, seed: int = 0) -> np.ndarray:
    """Means over patients of the patients' means of (N, K), and the ends of 95 % bootstrap intervals: (3, K).

    NaN is left out; a column without any other value stays NaN.
    """
    means = pd.DataFrame(values).astype(float).groupby(patient).mean().to_numpy()  # (P, K)
    known = np.isfinite(means)
    weight = np.vstack([np.ones(len(means), int), draws(len(means), n_boot=n_boot, seed=seed)])
    count = (weight @ known).astype(float)
    drawn = np.divide(weight @ np.where(known, means, 0), count, out=np.full_like(count, np.nan), where=count > 0)
    out = np.full((3, values.shape[1]), np.nan)
    out[0], some = drawn[0], known.any(0)
    out[1:, some] = np.nanpercentile(drawn[1:, some], [2.5, 97.5], axis=0)
    return out


def controls(x: np.ndarray, centre: np.ndarray) -> dict[str, np.ndarray]:
    """Maps that know no network, (N, T): amplitude, slope, and a bump at ``centre`` (samples, (N,)), the R peak."""
    net: Any = None
    options: dict[str, Any] = {"bump": {"centre": torch.from_numpy(centre)}}
    names = {"amplitude": "amplitude", "slope": "slope", "bump": "bump at R"}
    return {names[c]: CONTROLS[c](net, torch.from_numpy(x), 0, **options.get(c, {})).numpy() for c in names}


def surrogate(relevance: np.ndarray, *, seed: int) -> np.ndarray:
    """Random maps that are as smooth as those given, (N, T): the same spectrum with random phases."""
    spectrum = np.abs(np.fft.rfft(relevance - relevance.mean(1, keepdims=True)))
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, spectrum.shape)
    return np.fft.irfft(spectrum * np.exp(1j * phase), n=relevance.shape[1])


# Internals -----------------------------------------------------------------------------------------------------


def _standard_ranks(maps: np.ndarray) -> np.ndarray:
    """Ranks (N, T) with mean 0 and norm 1, so that products are Spearman's coefficients; NaN where a map is constant."""
    ranks = rankdata(maps, axis=1) - (maps.shape[1] + 1) / 2
    norm = np.sqrt((ranks**2).sum(1, keepdims=True))
    return np.divide(ranks, norm, out=np.full_like(ranks, np.nan), where=norm > 0)
