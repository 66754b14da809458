"""Scores of localisation on maps small enough to be scored by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ecglib.errors import DataError
from ecglib.localisation import (
    aup,
    aur,
    chance,
    complexity,
    mass_accuracy,
    pointing_game,
    rank_accuracy,
    roc_auc,
    span_mask,
    sparseness,
    top_k_intersection,
)  # fmt: skip

SCORES = (mass_accuracy, rank_accuracy, pointing_game)
AREAS = (aup, aur, roc_auc)
NAN = float("nan")


@pytest.mark.parametrize(
    ("relevance", "truth", "mass", "rank", "point"),
    [
        ([0, 3, 1, 0, 0], [0, 1, 0, 0, 0], 3 / 4, 1, 1),
        ([0, 3, 1, 0, 0], [0, 0, 1, 1, 0], 1 / 4, 1 / 2, 0),
        ([5, 4, 3, 2, 1], [1, 1, 1, 0, 0], 12 / 15, 1, 1),
        ([1, 2, 3, 4, 5], [1, 1, 0, 0, 0], 3 / 15, 0, 0),
        ([4, -9, 1, 0, 0], [0, 1, 1, 0, 0], 1 / 5, 1 / 2, 0),  # what speaks against the class has no mass
        ([1, 1, 1, 1, 1], [1, 1, 0, 0, 0], 2 / 5, 2 / 5, 2 / 5),  # says nothing: chance
        ([0, 0, 0, 0, 0], [1, 1, 0, 0, 0], NAN, 2 / 5, 2 / 5),
        ([-1, -2, -3, -4, -5], [1, 1, 0, 0, 0], NAN, 1, 1),
        ([7, 2, 2, 2, 0], [1, 1, 0, 0, 0], 9 / 13, (1 + 1 / 3) / 2, 1),  # three share one place
        ([2, 7, 2, 2, 7], [1, 1, 1, 0, 0], 11 / 20, (1 + 2 / 3) / 3, 1 / 2),  # three share one place, two the peak
        ([1, 2, 3, 4, 5], [0, 0, 0, 0, 0], NAN, NAN, NAN),
        ([1, 2, 3, 4, 5], [1, 1, 1, 1, 1], 1, 1, 1),
    ],
)
def test_by_hand(relevance, truth, mass, rank, point):
    for score, expected in zip(SCORES, (mass, rank, point), strict=True):
        for form in (np.array, torch.tensor):
            found = score(form([relevance], dtype=form([0.0]).dtype), form([truth]))
            assert isinstance(found, np.ndarray)
            np.testing.assert_allclose(found, [expected], atol=1e-12)
    np.testing.assert_allclose(chance(np.array([truth])), [np.mean(truth) or NAN])


def test_a_batch_is_one_at_a_time():
    rng = np.random.default_rng(0)
    relevance = rng.integers(-3, 6, (40, 60)).astype(float)  # many ties
    truth = rng.random((40, 60)) < rng.uniform(0.1, 0.4, (40, 1))
    truth[7] = False
    for score in (*SCORES, *AREAS):
        together = score(relevance, truth)
        assert together.shape == (40,)
        alone = [score(relevance[i : i + 1], truth[i : i + 1]) for i in range(40)]
        np.testing.assert_array_equal(together, np.concatenate(alone))
        assert np.flatnonzero(np.isnan(together)).tolist() == [7]
        assert np.nanmin(together) >= 0
        assert np.nanmax(together) <= 1


def test_ties_are_shared_whatever_the_order():
    """Shuffled ties decided by chance would score, on average, what sharing scores."""
    rng = np.random.default_rng(1)
    relevance, truth = rng.integers(0, 4, (1, 30)).astype(float), rng.random((1, 30)) < 0.3
    broken = relevance + 1e-6 * rng.random((20_000, 30))
    for score in (rank_accuracy, pointing_game):
        decided = score(broken, np.broadcast_to(truth, broken.shape)).mean()
        assert score(relevance, truth)[0] == pytest.approx(decided, abs=0.01)
        order = rng.permutation(30)
        np.testing.assert_allclose(score(relevance[:, order], truth[:, order]), score(relevance, truth))


def test_random_relevance_scores_chance():
    rng = np.random.default_rng(0)
    truth = np.zeros((4000, 100), bool)
    truth[:, 20:45] = True
    relevance = rng.random(truth.shape)
    for score in SCORES:
        assert score(relevance, truth).mean() == pytest.approx(0.25, abs=0.02)
    assert set(chance(truth)) == {0.25}


def test_scores_ignore_scale():
    rng = np.random.default_rng(0)
    relevance, truth = rng.standard_normal((5, 50)), rng.random((5, 50)) < 0.3
    for score in (*SCORES, *AREAS):
        np.testing.assert_allclose(score(1e-3 * relevance, truth), score(relevance, truth))


def test_inputs_are_left_alone():
    relevance = torch.tensor([[0.5, -1.0, 2.0]], requires_grad=True)
    truth = np.array([[0, 1, 1]])
    for score in SCORES:
        score(relevance, truth)
    assert relevance.detach().tolist() == [[0.5, -1.0, 2.0]]
    assert truth.tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("score", [*SCORES, *AREAS])
@pytest.mark.parametrize(
    ("relevance", "truth", "parts"),
    [
        (np.zeros((2, 5)), np.zeros((2, 4)), ("(2, 5)", "(2, 4)", "one shape")),
        (np.zeros(5), np.zeros(5), ("(N, T)", "(5,)")),
        (np.zeros((2, 1, 5)), np.zeros((2, 1, 5)), ("(N, T)", "(2, 1, 5)")),
        (np.zeros((1, 5)), np.zeros((2, 5)), ("(1, 5)", "(2, 5)")),
        (np.array([[0.0, NAN]]), np.ones((1, 2)), ("NaN", "every sample")),
    ],
)
def test_errors(one_line, score, relevance, truth, parts):
    with pytest.raises(DataError) as caught:
        score(relevance, truth)
    one_line(caught, *parts)


def test_no_windows():
    for score in (*SCORES, *AREAS):
        assert score(np.zeros((0, 7)), np.zeros((0, 7), bool)).shape == (0,)


# Areas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("relevance", "truth", "precision", "recall", "roc"),
    [
        ([4, 2, 0, 0], [1, 0, 0, 0], 0.5 + 0.5 * 0.5, 1, 1),  # alone above 1/2, one of two below
        ([2, 4, 0, 0], [1, 0, 0, 0], 0.5 * 0.5, 0.5, 2 / 3),
        ([4, 4, 1, 0], [1, 0, 1, 0], 0.75 * 0.5 + 0.25 * 2 / 3, (1 + 0.25) / 2, (0.5 + 1 + 0 + 1) / 4),
        ([1, 1, 1, 1], [1, 0, 0, 0], 1 / 4, 1, 0.5),  # says nothing: chance
        ([-3, 4, -9, 0], [1, 1, 0, 0], 1, 0.5, 3 / 4),  # what is negative is never named
        ([0, 0, -1, 0], [1, 0, 0, 0], NAN, NAN, (1 + 0.5 + 0.5) / 3),
        ([1, 2, 3, 4], [0, 0, 0, 0], NAN, NAN, NAN),
        ([1, 2, 4, 4], [1, 1, 1, 1], 1, 11 / 16, NAN),
    ],
)
def test_areas_by_hand(relevance, truth, precision, recall, roc):
    for score, expected in ((aup, precision), (aur, recall), (roc_auc, roc)):
        for form in (np.array, torch.tensor):
            np.testing.assert_allclose(score(form([relevance]), form([truth])), [expected], atol=1e-12)


def test_roc_auc_is_scikit_learns():
    rng = np.random.default_rng(0)
    relevance, truth = rng.integers(-3, 6, (50, 80)).astype(float), rng.random((50, 80)) < 0.2
    expected = [roc_auc_score(t, r) for r, t in zip(relevance, truth, strict=True)]
    np.testing.assert_allclose(roc_auc(relevance, truth), expected, atol=1e-12)


def test_areas_are_means_over_thresholds():
    rng = np.random.default_rng(0)
    relevance, truth = np.round(rng.standard_normal((6, 40)), 1), rng.random((6, 40)) < 0.3
    share = np.maximum(relevance, 0) / relevance.max(1, keepdims=True)
    thresholds = (np.arange(20_000) + 0.5) / 20_000
    for i in range(6):
        named = share[i] >= thresholds[:, None]
        hits = (named & truth[i]).sum(1)
        assert aup(relevance, truth)[i] == pytest.approx((hits / named.sum(1)).mean(), abs=1e-3)
        assert aur(relevance, truth)[i] == pytest.approx((hits / truth[i].sum()).mean(), abs=1e-3)
    np.testing.assert_allclose(aur(relevance, truth), [s[t].mean() for s, t in zip(share, truth, strict=True)])


def test_top_k():
    r, truth = np.array([[7.0, 2, 2, 2, 0]]), np.array([[1, 1, 0, 0, 0]])
    found = [top_k_intersection(r, truth, k=k)[0] for k in (1, 2, 3, 4, 5)]
    np.testing.assert_allclose(found, [1, (1 + 1 / 3) / 2, (1 + 2 / 3) / 3, 2 / 4, 2 / 5])
    np.testing.assert_allclose(top_k_intersection(r, truth, k=2), rank_accuracy(r, truth))
    assert np.isnan(top_k_intersection(r, 0 * truth, k=2)).all()
    for k in (0, 6):
        with pytest.raises(DataError, match=f"k is {k}; give 1 to 5"):
            top_k_intersection(r, truth, k=k)


# Without a truth ------------------------------------------------------------------------------------------------


def test_sparseness_and_complexity_by_hand():
    maps = np.array([[0, 0, -5, 0], [1, 1, -1, 1], [1, 0, 3, 0], [0, 0, 0, 0], [4, 3, 2, 1]])
    np.testing.assert_allclose(sparseness(maps), [0.75, 0, (-3 * 0 - 0 + 1 + 9) / 16, NAN, (-3 - 2 + 3 + 12) / 40])
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    last = -sum(p * np.log(p) for p in (0.4, 0.3, 0.2, 0.1))
    np.testing.assert_allclose(complexity(torch.tensor(maps)), [0, np.log(4), entropy, NAN, last], atol=1e-12)


def test_sparseness_is_the_mean_difference():
    """Gini: half the mean absolute difference of two samples, by the mean."""
    r = np.abs(np.random.default_rng(0).standard_normal((3, 50)))
    expected = np.abs(r[:, :, None] - r[:, None]).mean((1, 2)) / (2 * r.mean(1))
    np.testing.assert_allclose(sparseness(-r), expected)
    for score in (sparseness, complexity):
        np.testing.assert_allclose(score(1e3 * r), score(r))
        assert score(r[:0]).shape == (0,)
        with pytest.raises(DataError, match=r"shape \(N, T\), received \(50,\)"):
            score(r[0])


# Spans ----------------------------------------------------------------------------------------------------------


def test_span_mask_by_hand():
    mask = span_mask(
        [(10.2, 10.4), (10.7, 10.8), (9.0, 10.1), (10.95, 99.0), (3.0, 4.0)], start=10.0, length=10, fs=10.0
    )
    assert mask.dtype == bool
    assert mask.astype(int).tolist() == [1, 0, 1, 1, 0, 0, 0, 1, 0, 0]
    assert not span_mask([], start=10.0, length=10, fs=10.0).any()
    assert not span_mask([(10.41, 10.49)], start=10.0, length=10, fs=10.0).any()  # between two samples
    assert span_mask([(-np.inf, np.inf)], start=10.0, length=10, fs=10.0).all()


def test_span_mask_has_its_first_sample_and_not_its_last():
    """Borders on samples, as those of a phantom or around an R peak are: rounding must not move them."""
    rng = np.random.default_rng(0)
    for _ in range(3000):
        start, a = int(rng.integers(0, 24 * 3600 * 360)), int(rng.integers(0, 700))
        b = int(rng.integers(a + 1, 721))
        mask = span_mask([((start + a) / 360, (start + b) / 360)], start=start / 360, length=720, fs=360.0)
        assert (mask.sum(), mask.argmax()) == (b - a, a)


def test_touching_spans_do_not_overlap():
    for k in range(1, 719):
        left = span_mask([(5.0, 5.0 + k / 360)], start=5.0, length=720, fs=360.0)
        right = span_mask([(5.0 + k / 360, 7.0)], start=5.0, length=720, fs=360.0)
        np.testing.assert_array_equal(left, ~right)
