"""Scores of confusion matrices, and draws of whole groups."""

from __future__ import annotations

import numpy as np
import pytest

from ecglib.scores import SCORES, confusions, draws, ratio, score, scores_of


def test_scores_of_a_matrix():
    found = scores_of([[2, 1, 0], [0, 1, 1], [0, 0, 1]])
    assert list(found) == SCORES
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["f1_macro"] == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    assert found["recall_weighted"] == pytest.approx(4 / 6)
    assert found["precision_macro"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)


def test_a_batch_is_scored_one_by_one():
    matrices = np.random.default_rng(0).integers(0, 5, (20, 4, 4)).astype(float)
    matrices[3] = 0
    together, f1 = score(matrices)
    for k, matrix in enumerate(matrices):
        np.testing.assert_allclose(together[k], list(scores_of(matrix).values()))
        np.testing.assert_allclose(f1[k], score(matrix[None])[1][0])
    assert (together[3] == 0).all()


def test_confusion_of_each_group():
    found = confusions([0, 1, 1, 0], [0, 0, 1, 1], groups=np.array(["b", "a", "b", "b"]), n_classes=2)
    assert found.tolist() == [[[0, 0], [1, 0]], [[1, 1], [0, 1]]]
    assert confusions([0, 1, 1, 0], [0, 0, 1, 1], groups=None, n_classes=2).tolist() == [[[1, 1], [1, 1]]]


def test_draws_are_of_as_many_groups_as_there_are():
    drawn = draws(7, n_boot=4000, seed=0)
    assert (drawn.sum(1) == 7).all()
    assert drawn.mean(0) == pytest.approx([1] * 7, abs=0.06)
    assert (drawn == 0).mean() == pytest.approx((6 / 7) ** 7, abs=0.01)
    assert (drawn == draws(7, n_boot=4000, seed=0)).all()
    assert not (drawn == draws(7, n_boot=4000, seed=1)).all()


def test_ratio_without_a_whole():
    assert ratio(np.array([1.0, 2, 0]), np.array([2.0, 0, 0])).tolist() == [0.5, 0, 0]
