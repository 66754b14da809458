"""Is a ranking of models more than the luck of their seeds?

A network trained again with another seed scores a little differently.  The ranking of several is worth telling where the
models lie further apart than runs of one model do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, permutations
from math import factorial
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ecglib.errors import DataError


@dataclass(frozen=True)
class Ranking:
    """Models in the order of their mean scores.

    Attributes
    ----------
    table : DataFrame
        model, mean, sd (over seeds), low, high (95 % t interval of the mean), best first.
    pairs : DataFrame
        first, second, difference of the means, low, high: t intervals of the differences within seeds, that hold for
        all pairs together with 95 % (Bonferroni), and clear, whether the interval leaves out 0.
    p : float
        Permutation test that all models are one: the share of ways to deal the scores of each seed to the models anew
        in which their means lie as far apart as they do.  It assumes nothing of the scores and has little power: one
        model apart from two alike is not seen with three seeds, which the intervals, that assume normal scores, do see.
    smallest_p : float
        The least that ``p`` could be with so many models and seeds: 0.25 for two models and three seeds.
    n_seeds : int
    """

    table: pd.DataFrame
    pairs: pd.DataFrame
    p: float
    smallest_p: float
    n_seeds: int

    @property
    def inside_noise(self) -> bool:
        """Whether seeds alone would do: no pair of models is clear."""
        return not self.pairs.clear.any()

    @property
    def settled(self) -> bool:
        """Whether the whole order holds: every pair of models is clear."""
        return bool(self.pairs.clear.all())


def ranking(scores: Mapping[str, Sequence[float]] | pd.DataFrame, *, n_deals: int = 20_000, seed: int = 0) -> Ranking:
    """Rank models by their scores over seeds, and ask whether the ranking is inside the noise of the seeds.

    The seeds' patients are the same, so this says nothing of other patients: `ecglib.evaluation.compare` does.

    Parameters
    ----------
    scores : mapping of str to sequence of float
        Scores of each model, the same seeds in the same order for all.  A seed also decides the split and the draws, so
        the scores of one seed belong together and are dealt among themselves.
    n_deals, seed : int
        All deals are looked at if they are this many or fewer, else this many at random.

    Returns
    -------
    Ranking

    Raises
    ------
    DataError
        Fewer than two models or seeds, unequal numbers, or a score that is not finite.

    Examples
    --------
    >>> found = ranking({"a": [0.90, 0.92, 0.91], "b": [0.92, 0.93, 0.90], "c": [0.80, 0.83, 0.81]})
    >>> found.table.model.tolist(), found.pairs.clear.tolist(), found.inside_noise, found.settled
    (['b', 'a', 'c'], [False, True, True], False, False)
    """
    if len({len(np.atleast_1d(v)) for v in scores.values()} if isinstance(scores, Mapping) else {0}) > 1:
        raise DataError("expected as many scores of every model, one a seed; received unequal numbers")
    frame = pd.DataFrame(scores)
    value = frame.to_numpy(float)  # (seeds, models)
    n, k = value.shape
    if n < 2 or k < 2 or not np.isfinite(value).all():
        raise DataError(f"expected finite scores of 2 models or more by 2 seeds or more, received {k} by {n}")
    order = np.argsort(-value.mean(0), kind="stable")
    rows: list[dict[str, Any]] = [
        {"model": str(frame.columns[i]), **_mean(value[:, i], 0.05), "sd": value[:, i].std(ddof=1)} for i in order
    ]
    both = list(combinations(order, 2))
    pairs = [
        {"first": str(frame.columns[a]), "second": str(frame.columns[b])}
        | _mean(value[:, a] - value[:, b], 0.05 / len(both), name="difference")
        for a, b in both
    ]
    p, smallest = _permutation_test(value, n_deals, seed)
    table, compared = pd.DataFrame(rows)[["model", "mean", "sd", "low", "high"]], pd.DataFrame(pairs)
    compared["clear"] = (compared.low > 0) | (compared.high < 0)
    return Ranking(table, compared, p, smallest, n)


# Internals -----------------------------------------------------------------------------------------------------


def _mean(values: np.ndarray, alpha: float, name: str = "mean") -> dict[str, float]:
    """Mean and its t interval."""
    half = stats.t.ppf(1 - alpha / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return {name: float(values.mean()), "low": float(values.mean() - half), "high": float(values.mean() + half)}


def _permutation_test(value: np.ndarray, n_deals: int, seed: int) -> tuple[float, float]:
    """Share of deals whose means vary as much as the true ones, and the least share that is possible.

    The first seed keeps its deal, since which model has which name does not matter.
    """
    n, k = value.shape
    n_all = factorial(k) ** (n - 1)
    if n_all <= n_deals:
        each = [row[np.array(list(permutations(range(k))))] for row in value[1:]]  # (k!, k) a seed
        sums = reduce(lambda a, b: (a[:, None] + b).reshape(-1, k), each, value[:1])
    else:
        rng = np.random.default_rng(seed)
        sums = value[0] + sum(rng.permuted(np.tile(row, (n_deals, 1)), axis=1) for row in value[1:])
        sums[0] = value.sum(0)  # the true deal is one of them, so that p is never 0
    spread = sums.var(1)
    return float((spread >= value.sum(0).var() * (1 - 1e-9)).mean()), 1 / min(n_all, n_deals)
