"""AAMI groups: published matrices give the published scores, and classes fall into the groups of their beats."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from ecglib import CLASSES, aami, networks
from ecglib.aami import GROUPS, OF_CLASS, OF_SYMBOL, from_confusion, report
from ecglib.errors import DataError
from ecglib.records import BEAT_SYMBOLS, read_annotations
from ecglib.splits import DS2
from ecglib.windows import cut_database

# Confusion matrices on DS2, rows and columns N, S, V, F, as mondejar/ecg-classification has them
# (python/aux/evaluation_cm.py), and the scores of the table in its README.
DE_CHAZAL = [[38444, 1904, 303, 3509], [173, 1395, 252, 16], [117, 321, 2504, 176], [33, 1, 7, 347]]
SINGLE_SVM = [[39446, 2404, 340, 1843], [443, 1374, 186, 47], [28, 162, 3005, 25], [240, 2, 35, 111]]


@pytest.mark.parametrize(
    ("confusion", "accuracy", "sensitivity", "jk"),
    [(DE_CHAZAL, 0.862, 0.832, 0.612), (SINGLE_SVM, 0.884, 0.696, 0.640)],
    ids=["de Chazal 2004", "single SVM"],
)
def test_published_scores(confusion, accuracy, sensitivity, jk):
    found = from_confusion(confusion)
    assert round(found.scores["accuracy"], 3) == accuracy
    assert round(found.per_group.sensitivity[:4].mean(), 3) == sensitivity
    assert round(found.scores["jk"], 3) == jk


def test_published_predictivities():
    """De Chazal 2004: SVEB Se 75.9, +P 38.5; VEB Se 77.7, +P 81.9; of DS2's 3221 V the matrix leaves out 103, called Q."""
    found = from_confusion(DE_CHAZAL).per_group
    assert found.ppv[["S", "V"]].round(3).tolist() == [0.385, 0.819]
    assert found.sensitivity["S"] == pytest.approx(0.7598, abs=1e-4)
    with_q = np.pad(np.array(DE_CHAZAL), (0, 1))
    with_q[2, 4] = 3221 - 3118
    assert from_confusion(with_q).per_group.sensitivity["V"] == pytest.approx(0.777, abs=5e-4)


def test_scores_literally():
    found = from_confusion([[8, 2, 0, 0], [1, 3, 0, 0], [0, 0, 4, 1], [0, 0, 2, 0]])
    assert found.per_group.sensitivity[:4].tolist() == [0.8, 0.75, 0.8, 0]
    assert found.per_group.ppv[:4].tolist() == pytest.approx([8 / 9, 3 / 5, 1, 0])  # two F called V are forgiven
    assert found.scores["j"] == pytest.approx(0.75 + 0.8 + 0.6 + 1)
    assert found.scores["accuracy"] == pytest.approx(15 / 21)
    chance = (10 * 9 + 4 * 5 + 5 * 6 + 2 * 1) / 21**2
    assert found.scores["kappa"] == pytest.approx((15 / 21 - chance) / (1 - chance))
    assert found.scores["jk"] == pytest.approx(found.scores["kappa"] / 2 + found.scores["j"] / 8)
    assert found.per_group.support.tolist() == [10, 4, 5, 2, 0]
    assert np.isnan(found.per_group.sensitivity["Q"])
    assert np.isnan(list(found.intervals.values())).all()


def test_perfect_and_hopeless():
    assert from_confusion(np.diag([9, 8, 7, 6, 5])).scores == {"accuracy": 1, "kappa": 1, "j": 4, "jk": 1}
    only_n = from_confusion([[9, 0, 0, 0], [2, 0, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0]])
    assert (only_n.scores["kappa"], only_n.scores["j"]) == (0, 0)
    assert only_n.per_group.ppv[["S", "V"]].tolist() == [0, 0]


def test_q_is_forgiven_and_left_out():
    without = from_confusion([[8, 2, 0, 0], [1, 3, 0, 0], [0, 0, 4, 0], [0, 0, 0, 2]])
    q = [[8, 2, 0, 0, 5], [1, 3, 0, 0, 0], [0, 0, 4, 0, 0], [0, 0, 0, 2, 0], [0, 6, 7, 0, 3]]
    found = from_confusion(q)
    for name in ("accuracy", "kappa", "j", "jk"):
        assert found.scores[name] == without.scores[name]
    assert found.per_group.sensitivity["N"] == 8 / 15  # N called Q is a miss
    assert found.per_group.ppv["Q"] == 3 / 8


def test_kappa_is_sklearns():
    confusion = np.random.default_rng(0).integers(1, 30, (4, 4))
    truth, guess = (np.repeat(i.ravel(), confusion.ravel()) for i in np.indices((4, 4)))
    assert from_confusion(confusion).scores["kappa"] == pytest.approx(cohen_kappa_score(truth, guess))


def test_groups_of_symbols_and_classes():
    assert "".join(s for s in OF_SYMBOL if OF_SYMBOL[s] == "N") == "NLRej"  # EC57; others put e and j in S
    assert {g: sorted(s for s in OF_SYMBOL if OF_SYMBOL[s] == g) for g in "SVFQ"} == {
        "S": ["A", "J", "S", "a"], "V": ["E", "V"], "F": ["F"], "Q": ["/", "Q", "f"],
    }  # fmt: skip
    assert set(OF_SYMBOL) <= set(BEAT_SYMBOLS)
    assert OF_CLASS == {
        "N": "N", "PVC": "V", "PAC": "S", "AFIB": "N", "SVTA": "S", "SBR": "N", "LBBB": "N", "RBBB": "N",
    }  # fmt: skip


def test_classes_of_one_group_may_be_taken_for_each_other():
    y = np.array([CLASSES.index(c) for c in ("N", "LBBB", "AFIB", "PAC", "SVTA", "PVC", "SBR")])
    guess = np.array([CLASSES.index(c) for c in ("SBR", "RBBB", "N", "SVTA", "PAC", "PVC", "PVC")])
    found = report(y, guess)
    assert found.confusion[:3, :3].tolist() == [[3, 0, 1], [0, 2, 0], [0, 0, 1]]
    assert found.confusion.sum() == 7
    assert found.scores["accuracy"] == pytest.approx(6 / 7)
    assert found.n_groups == 1


def test_intervals_are_over_patients():
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(20), 30)
    y = rng.integers(0, 8, 600)
    guess = np.where(rng.random(600) < rng.beta(4, 1, 20)[who], y, rng.integers(0, 8, 600))
    found = report(y, guess, groups=who, seed=3)
    assert found.n_groups == 20
    drawn = []
    for _ in range(400):
        index = np.concatenate([np.flatnonzero(who == g) for g in rng.integers(0, 20, 20)])
        one = report(y[index], guess[index])
        drawn.append([one.scores["jk"], one.per_group.ppv["S"]])
    slow = np.percentile(drawn, [2.5, 97.5], axis=0)
    np.testing.assert_allclose(found.intervals["jk"], slow[:, 0], atol=0.02)
    np.testing.assert_allclose(found.per_group.loc["S", ["ppv_low", "ppv_high"]].astype(float), slow[:, 1], atol=0.03)
    assert np.isnan(found.per_group.loc["Q", "sensitivity_low"])
    for name, (low, high) in found.intervals.items():
        assert low < found.scores[name] < high


@pytest.mark.parametrize("shape", [(3, 3), (4, 5), (6, 6), (5,)])
def test_errors(one_line, shape):
    with pytest.raises(DataError) as caught:
        from_confusion(np.ones(shape))
    one_line(caught, "N, S, V, F", str(shape))


@pytest.mark.data
def test_windows_have_the_group_of_their_beat(mitdb):
    """Clean windows of MITDB: the symbol of the labelled beat is in the group of the window's class."""
    windows = cut_database("mitdb", rule="clean", root=mitdb, records=["201", "207", "208", "209", "222", "232"])
    for record in np.unique(windows.record):
        beats = read_annotations("mitdb", record, root=mitdb).beats
        mine = windows[windows.record == record]
        symbols = beats.symbol[np.searchsorted(beats.time, mine.anchor - 1e-6)]
        expected = [OF_CLASS[CLASSES[c]] for c in mine.y]
        assert [OF_SYMBOL[s] for s in symbols] == expected
    assert {"N", "S", "V"} == {OF_CLASS[CLASSES[c]] for c in windows.y}
    assert aami.LEARNING_S == 300
    assert len(GROUPS) == 5


@pytest.mark.data
def test_beats_of_de_chazals_halves(mitdb):
    # the counts that papers on these halves give
    beats = aami.beat_windows(root=mitdb)
    assert beats.classes == GROUPS
    ds2 = np.isin(beats.record, list(DS2))
    assert np.bincount(beats.y[ds2]).tolist() == [44259, 1837, 3221, 388, 7]
    assert np.bincount(beats.y[~ds2]).tolist() == [45866, 944, 3788, 415, 8]


def test_the_committed_table_counts_beats_of_each_group():
    reference = networks.results("compact")["beats"]
    for found in reference["found"].values():
        support = {row["group"]: row["support"] for row in found["per_group"]}
        assert support == reference["beats"]
        assert np.sum(found["confusion"], axis=1).tolist() == list(support.values())
