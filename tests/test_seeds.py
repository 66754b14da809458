"""Rankings over seeds: literal deals, t intervals, and what a few seeds can never show."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ecglib.errors import DataError
from ecglib.seeds import ranking


def test_two_models_and_two_seeds():
    """Of two deals (the first seed keeps its own) one lies as far apart: 0.7 + 0.6 against 0.9 + 0.8."""
    found = ranking({"b": [0.7, 0.6], "a": [0.9, 0.8]})
    assert found.table.model.tolist() == ["a", "b"]
    assert found.table["mean"].tolist() == pytest.approx([0.85, 0.65])
    assert found.table.sd.tolist() == pytest.approx([0.1 / 2**0.5] * 2)
    assert (found.p, found.smallest_p, found.n_seeds) == (0.5, 0.5, 2)
    (pair,) = found.pairs.to_dict("records")
    assert (pair["first"], pair["second"]) == ("a", "b")
    assert (pair["difference"], pair["low"], pair["high"]) == pytest.approx((0.2, 0.2, 0.2))  # 0.2 in both seeds
    assert found.settled
    assert not found.inside_noise


def test_p_is_the_share_of_all_deals():
    rng = np.random.default_rng(0)
    for _ in range(5):
        value = rng.normal(size=(3, 3))
        deals = [np.array(d) for d in product(*(permutations(row) for row in value))]  # 216
        far = [d.mean(0).var() >= value.mean(0).var() - 1e-12 for d in deals]
        found = ranking(pd.DataFrame(value))
        assert found.p == pytest.approx(np.mean(far))
        assert found.smallest_p == 1 / 36
        assert ranking(pd.DataFrame(value), n_deals=35).p == pytest.approx(np.mean(far), abs=0.3)


def test_deals_at_random_come_near_all_deals():
    value = pd.DataFrame(np.random.default_rng(3).normal(size=(4, 4)) + np.array([0, 0.3, 0.6, 0]))
    exact, drawn = ranking(value), ranking(value, n_deals=10_000, seed=1)
    assert exact.smallest_p == 1 / 24**3
    assert drawn.smallest_p == 1e-4
    assert 0.01 < exact.p < 0.99
    assert drawn.p == pytest.approx(exact.p, abs=0.02)
    assert drawn.p == ranking(value, n_deals=10_000, seed=1).p


def test_intervals_are_students():
    scores = {"a": [0.90, 0.94, 0.92], "b": [0.90, 0.91, 0.89], "c": [0.70, 0.72, 0.77]}
    found = ranking(scores)
    for row in found.table.itertuples():
        expected = stats.ttest_1samp(scores[row.model], 0).confidence_interval(0.95)
        assert (row.low, row.high) == pytest.approx(tuple(expected))
    for row in found.pairs.itertuples():
        paired = stats.ttest_rel(scores[row.first], scores[row.second]).confidence_interval(1 - 0.05 / 3)
        assert (row.low, row.high) == pytest.approx(tuple(paired))
        assert row.clear == (row.low > 0)
    assert found.pairs.clear.tolist() == [False, True, False]  # a and b are 0.02 apart; b and c 0.17, less steadily
    assert (found.inside_noise, found.settled) == (False, False)


def test_models_that_are_one_are_rarely_told_apart():
    rng = np.random.default_rng(1)
    found = [ranking(pd.DataFrame(rng.normal(0.95, 0.01, (3, 3)) + rng.normal(0, 0.05, (3, 1)))) for _ in range(300)]
    assert np.mean([not f.inside_noise for f in found]) < 0.08
    assert np.mean([f.p < 0.05 for f in found]) < 0.08


def test_what_all_models_share_in_a_seed_is_no_noise():
    """A seed with a hard split lowers all scores alike; the differences do not see it."""
    rng = np.random.default_rng(0)
    hard = np.array([0.0, -0.3, 0.2, -0.1, 0.1])
    scores = {"a": 0.9 + hard + rng.normal(0, 0.005, 5), "b": 0.8 + hard + rng.normal(0, 0.005, 5)}
    found = ranking(scores)
    assert found.settled
    assert found.p == found.smallest_p == 1 / 16
    assert found.table.low[0] < found.table["mean"][1]  # as single means they overlap widely


@pytest.mark.parametrize(
    ("scores", "part"),
    [
        ({"a": [1, 2]}, "received 1 by 2"),
        ({"a": [1], "b": [2]}, "received 2 by 1"),
        ({"a": [1, 2], "b": [2]}, "unequal numbers"),
        ({"a": [1, 2], "b": [2, float("nan")]}, "finite scores"),
    ],
)
def test_errors(one_line, scores, part):
    with pytest.raises(DataError) as caught:
        ranking(scores)
    one_line(caught, part)
