"""Scores are scikit-learn's, intervals come from whole patients, and predictions do not depend on how they are batched."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support
from torch import nn

from ecglib import CLASSES
from ecglib.errors import DataError
from ecglib.evaluation import compare, predict, report

NAMES = ("precision", "recall", "f1")


def labels(seed, n=500, truth=range(8), guess=range(8), skill=0.5):
    rng = np.random.default_rng(seed)
    y = rng.choice(list(truth), n, p=rng.dirichlet(np.ones(len(truth))))
    return y, np.where(rng.random(n) < skill, y, rng.choice(list(guess), n))


def check_against_sklearn(y, guess, classes=CLASSES):
    found = report(y, guess, classes=classes)
    for average in ("macro", "weighted"):
        expected = precision_recall_fscore_support(y, guess, average=average, zero_division=0)
        for name, value in zip(NAMES, expected, strict=False):
            assert found.scores[f"{name}_{average}"] == pytest.approx(value, abs=1e-12)
    assert found.accuracy == found.scores["accuracy"] == pytest.approx(accuracy_score(y, guess), abs=1e-12)
    assert found.macro_f1 == found.scores["f1_macro"]
    everyone = np.arange(len(classes))
    by_class = precision_recall_fscore_support(y, guess, labels=everyone, average=None, zero_division=0)
    for name, values in zip((*NAMES, "support"), by_class, strict=True):
        np.testing.assert_allclose(found.per_class[name], values, atol=1e-12)
    np.testing.assert_array_equal(found.confusion, confusion_matrix(y, guess, labels=everyone))
    assert found.confusion.dtype.kind == "i"
    assert found.per_class.index.tolist() == list(classes)


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_sklearn(seed):
    check_against_sklearn(*labels(seed))


@pytest.mark.parametrize(
    ("truth", "guess", "skill"),
    [
        ([0, 1, 2], [0, 1, 2], 0.5),  # five classes nowhere
        ([0, 1, 2], [0, 1, 2, 5], 0.5),  # one class that is predicted and never true
        ([0, 1, 2, 5], [0, 1], 0.0),  # classes that are true and never predicted
        ([3], [4], 0.0),  # nothing right
        ([3], [3], 1.0),  # one class, all right
    ],
)
def test_absent_classes_count_as_in_sklearn(truth, guess, skill):
    for seed in range(3):
        check_against_sklearn(*labels(seed, n=60, truth=truth, guess=guess, skill=skill))


def test_other_classes():
    check_against_sklearn(*labels(0, truth=range(3), guess=range(3)), classes=("a", "b", "c"))


def test_literal_scores():
    found = report([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2], classes=("a", "b", "c"))
    assert found.confusion.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert found.accuracy == pytest.approx(4 / 6)
    np.testing.assert_allclose(found.per_class["precision"], [1, 1 / 2, 1 / 2])
    np.testing.assert_allclose(found.per_class["recall"], [2 / 3, 1 / 2, 1])
    np.testing.assert_allclose(found.per_class["f1"], [4 / 5, 1 / 2, 2 / 3])
    assert found.scores["f1_macro"] == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    assert found.scores["f1_weighted"] == pytest.approx((3 * 4 / 5 + 2 * 1 / 2 + 2 / 3) / 6)
    assert found.scores["precision_weighted"] == pytest.approx((3 + 2 / 2 + 1 / 2) / 6)


# Intervals ------------------------------------------------------------------------------------------------------


def patients(seed=0, n_patients=25):
    """Patients of different size and difficulty."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(n_patients), rng.integers(5, 60, n_patients))
    y = rng.integers(0, 4, len(who))
    right = rng.random(len(who)) < rng.beta(2, 1, n_patients)[who]
    return y, np.where(right, y, rng.integers(0, 4, len(who))), np.char.add("p", who.astype(str))


def test_interval_is_deterministic_and_holds_the_score():
    y, guess, groups = patients()
    once, twice, other = (report(y, guess, groups=groups, seed=s) for s in (0, 0, 1))
    assert once.intervals == twice.intervals
    assert once.intervals != other.intervals
    assert once.scores == other.scores
    assert once.n_groups == 25
    for name, (low, high) in once.intervals.items():
        assert 0 < low < once.scores[name] < high < 1
    table = once.per_class.iloc[:4]
    assert (table["f1_low"] < table["f1"]).all()
    assert (table["f1"] < table["f1_high"]).all()


def slow_f1(y, guess):
    """Macro-F1 over the labels that occur, spelled out: sklearn's checks would take longer than the bootstrap."""
    return np.mean([2 * np.sum((y == k) & (guess == k)) / np.sum((y == k) * 1 + (guess == k)) for k in {*y, *guess}])


def test_slow_f1_is_sklearns():
    y, guess, _ = patients()
    for begin in range(0, len(y), 60):
        some = slice(begin, begin + 60)
        expected = precision_recall_fscore_support(y[some], guess[some], average="macro", zero_division=0)[2]
        assert slow_f1(y[some], guess[some]) == pytest.approx(expected)


def test_interval_is_that_of_a_slow_bootstrap_over_patients():
    y, guess, groups = patients()
    rng, names, drawn = np.random.default_rng(9), np.unique(groups), []
    for _ in range(1500):
        index = np.concatenate([np.flatnonzero(groups == g) for g in rng.choice(names, len(names))])
        drawn.append((np.mean(y[index] == guess[index]), slow_f1(y[index], guess[index])))
    slow = np.percentile(drawn, [2.5, 97.5], axis=0).T
    found = report(y, guess, groups=groups, n_boot=1500)
    np.testing.assert_allclose([found.intervals["accuracy"], found.intervals["f1_macro"]], slow, atol=0.012)
    # windows of a patient are alike: a bootstrap over windows would be far too sure
    single = report(y, guess, groups=np.arange(len(y)))
    width = [np.ptp(r.intervals["accuracy"]) for r in (found, single)]
    assert width[0] > 2 * width[1]


def test_order_of_the_windows_does_not_matter():
    y, guess, groups = patients()
    order = np.random.default_rng(0).permutation(len(y))
    a, b = report(y, guess, groups=groups), report(y[order], guess[order], groups=groups[order].tolist())
    assert a.intervals == b.intervals
    assert a.scores == b.scores


def test_class_of_one_patient():
    """Draws without the only patient of a class say nothing about its F1; they must not make it 0."""
    groups = np.repeat(np.arange(10), 20)
    y = np.where(groups == 0, 5, 0)
    guess = y.copy()
    found = report(y, guess, groups=groups)
    assert found.per_class.loc["SBR", ["f1", "f1_low", "f1_high"]].tolist() == [1, 1, 1]
    assert np.isnan(found.per_class.loc["PVC", ["f1_low", "f1_high"]].astype(float)).all()
    assert found.intervals["f1_macro"] == (1, 1)


@pytest.mark.parametrize("groups", [None, ["p1"] * 500])
def test_no_interval_without_several_patients(groups):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = report(*labels(0), groups=groups)
    assert np.isnan(list(found.intervals.values())).all()
    assert np.isnan(found.per_class[["f1_low", "f1_high"]]).all(axis=None)
    assert found.n_groups == (0 if groups is None else 1)
    assert found.accuracy > 0.5


def test_to_dict_is_json():
    y, guess, groups = patients()
    told = json.loads(json.dumps(report(y, guess, groups=groups).to_dict()))
    found = report(y, guess, groups=groups)
    assert told["scores"]["f1_macro"] == round(found.macro_f1, 4)
    assert told["intervals"]["accuracy"] == [round(v, 4) for v in found.intervals["accuracy"]]
    assert [row["class"] for row in told["per_class"]] == list(CLASSES)
    assert sum(row["support"] for row in told["per_class"]) == np.sum(told["confusion"]) == len(y)
    assert told["n_groups"] == 25


@pytest.mark.parametrize(
    ("y", "guess", "groups", "parts"),
    [
        ([0, 1], [0], None, ("two label vectors of one length", "(2,)", "(1,)")),
        ([[0, 1]], [[0, 1]], None, ("two label vectors", "(1, 2)")),
        ([], [], None, ("two label vectors", "(0,)")),
        ([0, 1], np.zeros((2, 8)), None, ("two label vectors", "(2, 8)")),  # logits by mistake
        ([0, 8], [0, 1], None, ("0…7", "8")),
        ([0, 1], [0, 9], None, ("0…7", "9")),
        ([0, -1], [0, 1], None, ("0…7", "-1")),
        ([0, 1], [-2, 1], None, ("0…7", "-2")),
        ([0, 1], [0, 1], ["a"], ("a group for each of 2 windows", "received 1")),
    ],
)
def test_errors(one_line, y, guess, groups, parts):
    with pytest.raises(DataError) as caught:
        report(y, guess, groups=groups)
    one_line(caught, *parts)


# Two models -----------------------------------------------------------------------------------------------------


def two_models(seed=0, gain=0.5):
    """The second model is right wherever the first is, and in some of the windows beyond."""
    y, first, groups = patients(seed)
    better = np.random.default_rng(seed + 100).random(len(y)) < gain
    return y, np.where(better, y, first), first, groups


def test_difference_is_that_of_the_two_reports():
    y, first, second, groups = two_models()
    found = compare(y, first, second, groups=groups)
    a, b = report(y, first), report(y, second)
    assert list(found.difference) == list(a.scores)
    for name, value in found.difference.items():
        assert value == pytest.approx(a.scores[name] - b.scores[name])
    assert found.n_groups == 25
    mirrored = compare(y, second, first, groups=groups)
    assert mirrored.difference["f1_macro"] == -found.difference["f1_macro"]
    assert mirrored.intervals["f1_macro"] == pytest.approx([-v for v in found.intervals["f1_macro"][::-1]])
    assert mirrored.p == found.p


def test_difference_literally():
    y, groups = np.zeros(4, int), ["a", "a", "b", "b"]
    found = compare(y, [0, 0, 0, 1], [0, 1, 1, 0], groups=groups, n_boot=999)
    assert found.difference["accuracy"] == 0.25  # 0.75 - 0.5; in a 0.5, in b 0
    assert found.intervals["accuracy"] == (0, 0.5)
    assert found.difference["f1_macro"] == pytest.approx((6 / 7 + 0) / 2 - (4 / 6 + 0) / 2)
    # both draws of b, a quarter, have a difference of 0 or less; none has less than 0
    assert found.p["accuracy"] == pytest.approx(2 * 0.25, abs=0.07)


def test_difference_has_the_interval_of_a_slow_paired_bootstrap():
    y, first, second, groups = two_models(gain=0.1)
    rng, names, drawn = np.random.default_rng(9), np.unique(groups), []
    for _ in range(1500):
        index = np.concatenate([np.flatnonzero(groups == g) for g in rng.choice(names, len(names))])
        f1 = [slow_f1(y[index], m[index]) for m in (first, second)]
        drawn.append((np.mean(first[index] == y[index]) - np.mean(second[index] == y[index]), f1[0] - f1[1]))
    slow = np.percentile(drawn, [2.5, 97.5], axis=0).T
    found = compare(y, first, second, groups=groups, n_boot=1500)
    np.testing.assert_allclose([found.intervals["accuracy"], found.intervals["f1_macro"]], slow, atol=0.004)
    # the models err on the same patients: unpaired intervals would hide the difference
    a, b = (report(y, m, groups=groups).intervals["accuracy"] for m in (first, second))
    assert found.intervals["accuracy"][0] > 0
    assert a[0] < b[1]
    assert found.p["accuracy"] == 2 / 1501  # never 0


def test_equal_models_do_not_differ():
    y, first, _, groups = two_models()
    found = compare(y, first, first, groups=groups)
    assert set(found.difference.values()) == {0}
    assert set(found.intervals.values()) == {(0, 0)}
    assert set(found.p.values()) == {1}


def test_p_is_uniform_where_there_is_nothing():
    """Of models that err alike, about one in twenty is found to differ at 0.05."""
    found = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        y, _, groups = patients(seed, n_patients=30)
        first, second = (np.where(rng.random(len(y)) < 0.7, y, rng.integers(0, 4, len(y))) for _ in range(2))
        found.append(compare(y, first, second, groups=groups, n_boot=400).p["accuracy"])
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.06)
    assert np.mean(np.array(found) < 0.5) == pytest.approx(0.5, abs=0.15)


def test_one_patient_has_no_interval():
    y, first, second, _ = two_models()
    found = compare(y, first, second, groups=np.full(len(y), "p"))
    assert np.isnan([*found.intervals["accuracy"], found.p["accuracy"]]).all()
    assert found.difference["accuracy"] > 0


def test_comparison_of_unequal_lengths(one_line):
    with pytest.raises(DataError) as caught:
        compare([0, 1], [0, 1], [0], groups=["a", "b"])
    one_line(caught, "two label vectors of one length", "(1,)")


# Predictions ----------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Dropout and normalisation tell training from evaluation."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(720, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 8)
        )

    def forward(self, x):
        return self.body(x)


@pytest.mark.parametrize("training", [True, False])
def test_predict(training):
    net = Net().train(training)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    x = np.random.default_rng(0).standard_normal((23, 1, 720)).astype(np.float32)
    logits = predict(net, x)
    assert logits.shape == (23, 8)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(predict(net, x, batch_size=5), logits, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([predict(net, x[i : i + 1]) for i in range(23)]), logits, atol=1e-6)
    assert net.training is training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-6)


def test_predict_of_nothing(one_line):
    with pytest.raises(DataError) as caught:
        predict(Net(), np.zeros((0, 1, 720), np.float32))
    one_line(caught, "no windows to predict")


def test_predict_restores_after_a_failure():
    net = Net().train()
    with pytest.raises(RuntimeError):
        predict(net, np.zeros((2, 1, 700), np.float32))
    assert net.training
