"""Do two explanations point at the same samples?  Measures window by window, and what they say over patients.

What is asked of the CNN's map and the LSTM's mask, with which measure, against which control and in which classes, was
fixed here before the reference run: `QUESTIONS` and `TESTABLE`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from scipy import stats

from ecglib import CLASSES, FS
from ecglib.cam import step_edges
from ecglib.errors import DataError
from ecglib.scores import draws

MEASURES = ("rank, steps", "rank, samples", "top 10 %", "top 20 %", "same peak")
NEAR_S = 0.1  #: two peaks are the same if they are not further apart

#: pair of explanations, less a control, in "rank, steps": does it differ from 0?
QUESTIONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "the same samples": ("CAM · mask", ""),
        "more than the signal": ("CAM · mask", "CAM · amplitude"),
        "this window": ("CAM · mask, at the beat", "CAM · another window's mask, at the beat"),
    }
)
TESTABLE = (
    10  #: patients that a test asks for: the smallest p of a sign-flip test is 2 / 2^n, and of fewer none survives
)


@dataclass(frozen=True)
class Relevance:
    """One explanation of N windows: at samples (N, T), at steps (N, S), and where it says nothing (N,)."""

    samples: np.ndarray
    steps: np.ndarray
    silent: np.ndarray

    def __getitem__(self, index: np.ndarray) -> Relevance:
        """Subset by an index array or mask."""
        return Relevance(self.samples[index], self.steps[index], self.silent[index])


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of each row of (N, K) with its partner, shape (N,); NaN where a row is constant.

    >>> rank_correlation(np.array([[1.0, 2.0, 9.0]]), np.array([[7.0, 6.0, 5.0]]))
    array([-1.])
    """
    x, y = (stats.rankdata(r, axis=1) - (r.shape[1] + 1) / 2 for r in _pair(a, b))  # values that tie share a rank
    size = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.divide((x * y).sum(1), size, out=np.full(len(x), np.nan), where=size > 0)


def top_overlap(a: np.ndarray, b: np.ndarray, *, share: float) -> np.ndarray:
    """Intersection over union of the most relevant ``share`` of the samples of (N, T) and (N, T), shape (N,).

    Samples that tie at the border share its places, so that no order decides: beside a map without ties a constant one
    scores share / (2 - share), which is what two random choices of large size have in common.

    >>> top_overlap(np.array([[9.0, 8.0, 0.0, 0.0]]), np.array([[9.0, 0.0, 8.0, 0.0]]), share=0.5).round(3)
    array([0.333])
    """
    x, y = (_members(r, share) for r in _pair(a, b))
    return np.minimum(x, y).sum(1) / np.maximum(x, y).sum(1)


def same_peak(a: np.ndarray, b: np.ndarray, *, near_s: float = NEAR_S, fs: float = FS) -> np.ndarray:
    """1 where the maxima of (N, T) and (N, T) lie within ``near_s``, else 0; (N,).

    Of maxima that tie, the share of pairs that do: beside a constant map chance.

    >>> same_peak(np.array([[0.0, 1.0, 0.0, 0.0]]), np.array([[0.0, 0.0, 1.0, 1.0]]), near_s=1, fs=1)
    array([0.5])
    """
    x, y = (r == r.max(1, keepdims=True) for r in _pair(a, b))
    reach, at = int(near_s * fs + 1e-6), np.arange(x.shape[1])
    before = np.pad(np.cumsum(y, axis=1), ((0, 0), (1, 0)))
    near = before[:, np.minimum(at + reach + 1, len(at))] - before[:, np.maximum(at - reach, 0)]
    return (x * near).sum(1) / (x.sum(1) * y.sum(1))


def by_step(samples: np.ndarray) -> np.ndarray:
    """Mean of samples (N, 720) over each step of the CNN's map that lies over the window, in part or whole: (N, 46)."""
    edges = step_edges().numpy().astype(int).clip(0, samples.shape[1])[1:-1]  # the outermost steps lie over padding
    return np.add.reduceat(samples, edges[:-1], axis=1) / np.diff(edges)


def compare(first: Relevance, second: Relevance) -> dict[str, np.ndarray]:
    """Every one of `MEASURES` for two explanations of the same N windows, (N,) each; NaN where one of them is silent."""
    found = (
        rank_correlation(first.steps, second.steps),
        rank_correlation(first.samples, second.samples),
        top_overlap(first.samples, second.samples, share=0.1),
        top_overlap(first.samples, second.samples, share=0.2),
        same_peak(first.samples, second.samples),
    )
    silent = first.silent | second.silent
    return {name: np.where(silent, np.nan, values) for name, values in zip(MEASURES, found, strict=True)}


# Over patients ---------------------------------------------------------------------------------------------------


def over_patients(
    values: np.ndarray, patient: np.ndarray, *, together: int = 1, n_boot: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Mean of the patients' means, its bootstrap interval over patients, and numbers of patients and windows.

    The interval has 1 - 0.05 / ``together``, so that as many hold together with 95 % (Bonferroni).  Windows without a
    value (NaN) do not count.  The interval of a single patient is NaN, that of a few is too narrow.
    """
    means = pd.Series(values).groupby(np.asarray(patient)).mean().dropna().to_numpy()
    n, low, high, tail = len(means), np.nan, np.nan, 2.5 / together
    if n > 1:
        low, high = np.percentile(draws(n, n_boot=n_boot, seed=seed) @ means / n, [tail, 100 - tail])
    mean, windows = float(means.mean()) if n else np.nan, int(np.isfinite(values).sum())
    return {"mean": mean, "low": float(low), "high": float(high), "patients": n, "windows": windows}


def summary(table: pd.DataFrame, *, measures: Sequence[str] = MEASURES) -> pd.DataFrame:
    """Average a table of windows over patients.

    Parameters
    ----------
    table : DataFrame
        Columns pair, label, patient, and one for each of ``measures``; as of `ecglib.pairing.pairs`.
    measures : sequence of str

    Returns
    -------
    DataFrame
        pair, label, measure, mean, low, high, patients, windows; classes in their order.
    """
    rows = [
        {"pair": pair, "label": label, "measure": m, **over_patients(own[m].to_numpy(), own.patient.to_numpy())}
        for (pair, label), own in table.groupby(["pair", "label"], sort=False)
        for m in measures
    ]
    return pd.DataFrame(rows).sort_values("label", key=lambda s: s.map(CLASSES.index), kind="stable", ignore_index=True)


def questions(table: pd.DataFrame) -> pd.DataFrame:
    """Ask the `QUESTIONS` of the windows of `ecglib.pairing.pairs`, class by class.

    Returns
    -------
    DataFrame
        question, label; mean, low, high, patients and windows of the difference; p of `sign_flip`; and adjusted, that p
        after Holm's correction over all tests made.  No test is made with fewer than `TESTABLE` patients: both NaN.
    """
    value = table.pivot(index="window", columns="pair", values=MEASURES[0])
    about = table.drop_duplicates("window").set_index("window").loc[value.index]
    rows = []
    for question, (pair, control) in QUESTIONS.items():
        excess = value[pair] - (value[control] if control else 0)
        for label in [c for c in CLASSES if c in set(about.label)]:
            own, who = excess[about.label == label], about.patient[about.label == label]
            row = {"question": question, "label": label, **over_patients(own.to_numpy(), who.to_numpy())}
            rows.append(row | {"p": sign_flip(own.groupby(who).mean().dropna().to_numpy())})
    out = pd.DataFrame(rows).assign(adjusted=np.nan)
    out.loc[out.p.notna(), "adjusted"] = holm(out.p.dropna().to_numpy())
    return out


def sign_flip(means: np.ndarray, *, least: int = TESTABLE) -> float:
    """Two-sided p that patients' means are as likely with the other sign; NaN with fewer than ``least`` patients.

    Over every pattern of signs up to 13 patients, over 9999 random ones (and the observed one) beyond.
    """
    if len(means) < least:
        return float("nan")
    test = stats.permutation_test((means,), np.mean, permutation_type="samples", n_resamples=9999, rng=0)
    return float(test.pvalue)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjustment of the p values of one family of tests, shape (M,).

    >>> holm(np.array([0.01, 0.04, 0.03])).round(2)
    array([0.03, 0.06, 0.06])
    """
    order = np.argsort(p)
    stepped = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1))
    return np.minimum(stepped, 1)[np.argsort(order)]


# Internals -----------------------------------------------------------------------------------------------------


def _pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape or a.ndim != 2 or not a.shape[1]:
        raise DataError(f"expected two explanations of one shape (N, T), received {a.shape} and {b.shape}")
    if np.isnan(a).any() or np.isnan(b).any():
        raise DataError("an explanation holds NaN; it must give every sample a value")
    return a, b


def _members(relevance: np.ndarray, share: float) -> np.ndarray:
    """How far each sample belongs to the most relevant ``share``: 1, 0, or what is left for the samples that tie."""
    k = max(1, round(share * relevance.shape[1]))
    border = np.partition(relevance, -k, axis=1)[:, [-k]]
    above, level = relevance > border, relevance == border
    return above + level * (k - above.sum(1, keepdims=True)) / level.sum(1, keepdims=True)
