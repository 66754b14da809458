"""Calibration: bins by hand, a network that is right as often as it says, and one that says too much."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.nn import functional as F

from ecglib.calibration import loss, reliability, softmax, temperature
from ecglib.errors import DataError


def two(confidence, right):
    """Probabilities of two classes, the first named, and labels that say whether that is right."""
    confidence = np.asarray(confidence, float)
    return np.column_stack([confidence, 1 - confidence]), np.where(np.asarray(right, bool), 0, 1)


def honest(n=20_000, scale=2.0, seed=0, classes=8):
    """Logits, and labels drawn with the probabilities that they mean."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, scale, (n, classes))
    return logits, (softmax(logits).cumsum(1) > rng.random((n, 1))).argmax(1)


def test_curve_and_error_by_hand():
    p, y = two([0.55, 0.65, 0.62, 0.95, 1.0, 0.91], [1, 0, 1, 1, 1, 0])
    found = reliability(p, y, bins=10)
    curve = found.curve
    assert curve.low.tolist() == pytest.approx([0.5, 0.6, 0.9])
    assert curve.high.tolist() == pytest.approx([0.6, 0.7, 1.0])
    assert curve.windows.tolist() == [1, 2, 3]
    assert curve.confidence.tolist() == pytest.approx([0.55, 0.635, 2.86 / 3])
    assert curve.accuracy.tolist() == pytest.approx([1, 0.5, 2 / 3])
    assert found.ece == pytest.approx((1 * 0.45 + 2 * 0.135 + 3 * (2.86 - 2) / 3) / 6)
    assert (found.accuracy, found.confidence) == pytest.approx((4 / 6, (0.55 + 1.27 + 2.86) / 6))
    assert found.n_groups == 0
    assert np.isnan(found.interval).all()
    assert np.isnan(curve[["accuracy_low", "accuracy_high"]]).all(axis=None)


def test_an_edge_belongs_to_the_bin_below():
    p, y = two([0.6, 0.8, 1.0], [1, 1, 1])
    assert reliability(p, y, bins=5).curve.high.tolist() == pytest.approx([0.6, 0.8, 1.0])


def test_bins_of_equal_mass():
    p, y = two(np.r_[np.linspace(0.5, 0.6, 10), np.linspace(0.99, 1, 30)], np.ones(40))
    curve = reliability(p, y, bins=4, equal_mass=True).curve
    assert curve.windows.tolist() == [10, 10, 10, 10]
    assert curve.low[0] == 0.5
    assert curve.high.iloc[-1] == 1
    assert reliability(p, y, bins=4).curve.windows.tolist() == [1, 9, 30]  # 0.5 is in the bin below
    p, y = two([0.7] * 5 + [1.0] * 95, [1] * 100)  # a network that is sure of nearly all
    assert reliability(p, y, bins=10, equal_mass=True).curve.windows.sum() == 100


def test_one_bin_is_the_difference_of_the_means():
    logits, y = honest(500)
    found = reliability(softmax(3 * logits), y, bins=1)
    assert found.ece == pytest.approx(abs(found.confidence - found.accuracy))
    assert found.ece > 0.05


@pytest.mark.parametrize("equal_mass", [False, True])
def test_an_honest_network_lies_on_the_diagonal(equal_mass):
    logits, y = honest()
    found = reliability(softmax(logits), y, equal_mass=equal_mass)
    assert found.ece < 0.012
    many = found.curve[found.curve.windows > 300]
    np.testing.assert_allclose(many.accuracy, many.confidence, atol=0.05)
    boaster = reliability(softmax(4 * logits), y, equal_mass=equal_mass)
    assert boaster.ece > 0.15
    assert (boaster.curve.accuracy < boaster.curve.confidence)[2:].all()


def test_interval_is_that_of_a_slow_bootstrap_over_patients():
    rng = np.random.default_rng(0)
    logits, y = honest(1500)
    who = np.sort(rng.integers(0, 30, 1500))
    wrong = rng.random(1500) < rng.beta(1, 6, 30)[who]  # patients of different difficulty
    y = np.where(wrong, rng.integers(0, 8, 1500), y)
    p = softmax(logits)
    found = reliability(p, y, bins=5, groups=who, n_boot=1500)
    assert found.n_groups == 30
    drawn, top = [], []
    for _ in range(1500):
        index = np.concatenate([np.flatnonzero(who == g) for g in rng.integers(0, 30, 30)])
        one = reliability(p[index], y[index], bins=5)
        drawn.append(one.ece)
        top.append(one.curve.accuracy.iloc[-1])
    np.testing.assert_allclose(found.interval, np.percentile(drawn, [2.5, 97.5]), atol=0.006)
    last = found.curve.iloc[-1]
    np.testing.assert_allclose([last.accuracy_low, last.accuracy_high], np.percentile(top, [2.5, 97.5]), atol=0.012)
    assert last.accuracy_low < last.accuracy < last.accuracy_high
    assert found.curve.patients.max() <= 30
    assert found.interval == reliability(p, y, bins=5, groups=who, n_boot=1500).interval
    assert found.interval != reliability(p, y, bins=5, groups=who, n_boot=1500, seed=1).interval


def test_softmax():
    np.testing.assert_allclose(softmax([[0.0, np.log(3)]]), [[0.25, 0.75]])
    np.testing.assert_allclose(softmax([[0.0, np.log(9)]], temperature=2), [[0.25, 0.75]])
    np.testing.assert_allclose(softmax([[1e4, 0.0]]), [[1, 0]])


@pytest.mark.parametrize("boast", [0.5, 1.0, 3.0])
def test_temperature_finds_the_planted_one(boast):
    logits, y = honest()
    found = temperature(boast * logits, y)
    assert found == pytest.approx(boast, rel=0.03)
    p = softmax(boast * logits, temperature=found)
    assert reliability(p, y).ece < 0.012
    assert (p.argmax(1) == logits.argmax(1)).all()


def test_temperature_is_the_minimum_of_the_loss():
    logits, y = honest(300, seed=5)
    found = temperature(4 * logits, y)
    slow = minimize_scalar(
        lambda t: float(F.cross_entropy(torch.from_numpy(4 * logits / t), torch.from_numpy(y))), bounds=(1, 20)
    )
    assert found == pytest.approx(slow.x, rel=1e-3)
    assert loss(4 * logits, y, temperature=found) == pytest.approx(slow.fun)
    assert loss(logits, y) == pytest.approx(float(F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(y))))


def test_temperature_of_what_is_never_wrong_is_cold():
    logits, _ = honest(100)
    assert temperature(logits, logits.argmax(1)) == pytest.approx(0.01, rel=0.05)
    assert temperature(logits, logits.argmin(1)) == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: reliability(np.ones(3), np.zeros(3)), "received (3,) and (3,)"),
        (lambda: reliability(np.ones((3, 2)) / 2, np.zeros(2)), "received (3, 2) and (2,)"),
        (lambda: reliability(np.ones((0, 2)), np.zeros(0)), "received (0, 2)"),
        (lambda: reliability(np.ones((3, 2)), np.zeros(3)), "softmax makes them of logits"),
        (lambda: reliability(np.array([[2.0, -1.0]]), np.zeros(1)), "sum to 1"),
        (lambda: reliability(np.ones((3, 2)) / 2, np.zeros(3), bins=0), "received 0 bins"),
        (lambda: reliability(np.ones((3, 2)) / 2, np.zeros(3), groups=["a"]), "a group for each of 3"),
        (lambda: temperature(np.ones(3), np.zeros(3)), "expected logits (N, K)"),
    ],
)
def test_errors(one_line, call, part):
    with pytest.raises(DataError) as caught:
        call()
    one_line(caught, part)
