"""Agreement: literal toy maps, what must come out of equal, opposite and unrelated ones, slow oracles, patients' weights."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from ecglib.cam import upsample
from ecglib.errors import DataError
from ecglib.overlap import (
    MEASURES,
    QUESTIONS,
    TESTABLE,
    Relevance,
    by_step,
    compare,
    holm,
    over_patients,
    questions,
    rank_correlation,
    same_peak,
    sign_flip,
    summary,
    top_overlap,
)

A = np.array([[5.0, 4, 3, 2, 1], [0, 0, 1, 0, 0]])
B = np.array([[1.0, 2, 3, 4, 5], [0, 1, 0, 0, 0]])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def relevance(samples, silent=None):
    return Relevance(samples, by_step(samples), np.zeros(len(samples), bool) if silent is None else np.array(silent))


# Measures


def test_literal_values():
    assert rank_correlation(A, B).tolist() == pytest.approx([-1, -0.25])  # one of five at the top, in two places
    assert top_overlap(A, B, share=0.2).tolist() == [0, 0]
    assert top_overlap(A, B, share=0.6).tolist() == pytest.approx(
        [1 / 5, 5 / 7]
    )  # 3 places; of the second two by halves
    assert same_peak(A, B, near_s=1, fs=1).tolist() == [0, 1]
    assert same_peak(A, B, near_s=4, fs=1).tolist() == [1, 1]


def test_equal_maps_agree_and_reversed_ones_do_not(rng):
    a = relevance(np.cumsum(rng.normal(size=(6, 720)), axis=1))
    assert {m: v.tolist() for m, v in compare(a, a).items()} == {m: pytest.approx([1.0] * 6) for m in MEASURES}
    found = compare(a, relevance(-a.samples))
    assert found["rank, samples"].tolist() == pytest.approx([-1] * 6)
    assert found["rank, steps"].tolist() == pytest.approx([-1] * 6)
    assert found["top 10 %"].tolist() == [0] * 6


def test_ranks_alone_count(rng):
    a, b = rng.normal(size=(2, 5, 60))
    assert rank_correlation(np.exp(a), 7 * b - 3).tolist() == pytest.approx(rank_correlation(a, b).tolist())


def test_a_constant_map_has_no_ranks_and_otherwise_scores_chance(rng):
    flat, a = np.full((4, 720), 0.3), rng.normal(size=(4, 720))
    assert np.isnan(rank_correlation(flat, a)).all()
    assert top_overlap(flat, a, share=0.2).tolist() == pytest.approx([0.2 / 1.8] * 4)
    assert top_overlap(flat, flat, share=0.2).tolist() == pytest.approx([1] * 4)
    a[0], a[1] = np.arange(720), -abs(np.arange(720) - 360.0)
    assert same_peak(flat, a)[:2].tolist() == pytest.approx([37 / 720, 73 / 720])  # 36 samples on one side, on both


@given(arrays.arrays(float, (2, 3, 12), elements=st.integers(0, 4).map(float)))
def test_measures_against_slow_ones(pair):
    """Small whole numbers: full of ties."""
    a, b = pair
    found = rank_correlation(a, b), top_overlap(a, b, share=0.25), same_peak(a, b, near_s=2, fs=1)
    for x, y, rank, top, peak in zip(a, b, *found, strict=True):
        if np.ptp(x) and np.ptp(y):
            assert rank == pytest.approx(stats.spearmanr(x, y).statistic)
        else:
            assert np.isnan(rank)
        u, v = slow_members(x, 3), slow_members(y, 3)
        assert top == pytest.approx(sum(map(min, u, v)) / sum(map(max, u, v)))
        near = [abs(i - j) <= 2 for i in range(12) for j in range(12) if x[i] == max(x) and y[j] == max(y)]
        assert peak == pytest.approx(np.mean(near))


def slow_members(x, k):
    """How often each sample is among the first k if ties are broken in every way."""
    level = sorted(x)[-k]
    above, tied = [i for i, v in enumerate(x) if v > level], [i for i, v in enumerate(x) if v == level]
    choices = list(itertools.combinations(tied, k - len(above)))
    return [float(i in above) or sum(i in c for c in choices) / len(choices) for i in range(len(x))]


def test_overlap_of_random_maps_is_that_of_chance(rng):
    a, b = rng.normal(size=(2, 400, 720))
    assert top_overlap(a, b, share=0.1).mean() == pytest.approx(0.1 / 1.9, abs=0.004)
    assert top_overlap(a, b, share=0.2).mean() == pytest.approx(0.2 / 1.8, abs=0.006)
    assert abs(rank_correlation(a, b).mean()) < 0.01


def test_steps_are_means_over_what_each_step_stands_for(rng):
    samples = rng.normal(size=(2, 720))
    steps = by_step(samples)
    assert steps.shape == (2, 46)
    assert steps[:, 0].tolist() == pytest.approx(samples[:, :8].mean(1).tolist())  # step 1: 8 of its 16 in the window
    assert steps[:, 1].tolist() == pytest.approx(samples[:, 8:24].mean(1).tolist())
    assert steps[:, -1].tolist() == pytest.approx(samples[:, 712:].mean(1).tolist())


def test_steps_and_samples_have_one_clock():
    """A map that is a straight line keeps its values on the way to samples and back."""
    there_and_back = by_step(upsample(torch.arange(48.0)[None]).numpy())
    np.testing.assert_allclose(there_and_back[0, 1:-1], np.arange(2, 46), atol=1e-4)


def test_silent_explanations_have_no_opinion(rng):
    a = relevance(rng.normal(size=(3, 720)))
    b = relevance(a.samples, silent=[False, True, False])
    for values in compare(a, b).values():
        assert values[[0, 2]].tolist() == pytest.approx([1, 1])
        assert np.isnan(values[1])
    assert b[np.array([1])].silent.tolist() == [True]


# Over patients


def test_patients_count_once():
    found = over_patients(np.array([1.0, 1, 1, 1, 0, np.nan]), np.array(list("aaaabb")))
    assert found["mean"] == 0.5
    assert (found["patients"], found["windows"]) == (2, 5)
    assert (found["low"], found["high"]) == (0, 1)
    alone = over_patients(np.array([0.25, 0.75]), np.array(["a", "a"]))
    assert alone["mean"] == 0.5
    assert np.isnan([alone["low"], alone["high"]]).all()
    nobody = over_patients(np.array([np.nan]), np.array(["a"]))
    assert nobody["patients"] == 0
    assert np.isnan(nobody["mean"])


def test_interval_of_unrelated_maps_contains_0():
    """Independent random maps of 20 patients, as smooth as an explanation, a hundred times over."""
    hits = []
    for seed in range(100):
        a, b = np.cumsum(np.random.default_rng(seed).normal(size=(2, 60, 46)), axis=2)
        found = over_patients(rank_correlation(a, b), np.arange(60) % 20)
        hits.append(found["low"] <= 0 <= found["high"])
    assert 0.85 < np.mean(hits) <= 0.99


def test_interval_is_that_of_a_slow_bootstrap(rng):
    values, patient = rng.normal(size=90) + 1, np.arange(90) % 15
    found = over_patients(values, patient)
    means = np.array([values[patient == p].mean() for p in range(15)])
    drawn = [rng.choice(means, 15).mean() for _ in range(4000)]
    assert [found["low"], found["high"]] == pytest.approx(np.percentile(drawn, [2.5, 97.5]).tolist(), abs=0.03)


def test_sign_flip_counts_every_pattern():
    means = np.array([0.3, 0.1, -0.05, 0.2, 0.4, 0.2, 0.1, 0.3, 0.2, 0.15])
    patterns = np.array(list(itertools.product([-1, 1], repeat=10)))
    expected = (np.abs(patterns @ means) >= abs(means.sum()) - 1e-12).mean()
    assert sign_flip(means) == pytest.approx(expected)
    assert sign_flip(-means) == pytest.approx(expected)
    assert sign_flip(np.full(10, 0.5)) == 2 / 2**10
    assert np.isnan(sign_flip(means[:9]))
    assert sign_flip(np.full(33, 0.5)) < 1e-3


def test_so_few_patients_cannot_pass():
    """Why `TESTABLE` is 10: the smallest p of 9 patients fails the first of Holm's tests, that of 10 passes it."""
    tests = len(QUESTIONS) * 8
    assert 2 / 2 ** (TESTABLE - 1) > 0.05 / tests > 2 / 2**TESTABLE


def test_holm():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.6])).tolist() == [1, 1]
    assert holm(np.array([])).tolist() == []


def table(rows):
    """Windows as of `ecglib.pairing.pairs`, with one value in every measure: (pair, label, patient, window, value)."""
    frame = pd.DataFrame(rows, columns=["pair", "label", "patient", "window", "value"])
    return frame.assign(**{m: frame.value for m in MEASURES}, right=True)


def test_summary_by_pair_class_and_measure():
    rows = [("x", "PVC", "a", 0, 1.0), ("x", "PVC", "a", 1, 0.0), ("x", "N", "b", 2, 0.25), ("y", "PVC", "c", 0, 9.0)]
    found = summary(table(rows), measures=MEASURES[:1])
    assert found[["pair", "label", "mean"]].to_numpy().tolist() == [
        ["x", "N", 0.25],
        ["x", "PVC", 0.5],
        ["y", "PVC", 9],
    ]
    assert len(summary(table(rows))) == 3 * len(MEASURES)


def test_questions_are_differences_on_the_same_windows():
    rows = []
    for window in range(48):
        label, patient = ("N", f"n{window % 12}") if window < 24 else ("SVTA", f"s{window % 3}")
        values = {"CAM · mask": np.nan if window == 5 else 0.5, "CAM · amplitude": 0.1, "CAM · mask, at the beat": 0.3,
                  "CAM · another window's mask, at the beat": 0.3 + 0.01 * (-1) ** (window // 12)}  # fmt: skip
        rows += [(pair, label, patient, window, v) for pair, v in values.items()]
    found = questions(table(rows)).set_index(["question", "label"])
    expected = {"the same samples": 0.5, "more than the signal": 0.4, "this window": 0.0}
    assert found["mean"].round(6).to_dict() == {(q, c): v for q, v in expected.items() for c in ("N", "SVTA")}
    assert found.patients.to_dict() == {k: 12 if k[1] == "N" else 3 for k in found.index}
    assert found.windows["the same samples", "N"] == 23
    assert found.p["the same samples", "N"] == 2 / 2**12
    assert found.adjusted["the same samples", "N"] == pytest.approx(3 * 2 / 2**12)  # three tests were made
    assert found.adjusted["this window", "N"] == 1
    assert found.p.xs("SVTA", level="label").isna().all()


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), "one shape"),
        (np.zeros(3), np.zeros(3), "one shape"),
        (np.full((1, 3), np.nan), np.zeros((1, 3)), "holds NaN"),
    ],
)
def test_errors(a, b, message, one_line):
    for call in (rank_correlation, same_peak, lambda x, y: top_overlap(x, y, share=0.5)):
        with pytest.raises(DataError, match=message) as caught:
            call(a, b)
        one_line(caught)
