"""Tables of runs: seeds, folds and patients against counting by hand."""

import numpy as np
import pytest

from ecglib import aami, grid
from ecglib.errors import DataError
from ecglib.evaluation import report
from ecglib.scores import confusions


def run(y, guess, patient, *, model="a", level="patient", fold=0, seed=0):
    by_patient = confusions(y, guess, groups=patient, n_classes=8).astype(int)
    return {
        "model": model, "level": level, "fold": fold, "seed": seed, "budget": "short", "ece": 0.1, "jk": 0.5,
        "shared_samples": 0.0,
        "confusion": {p: [c.ravel().nonzero()[0].tolist(), c[c > 0].tolist()]
                      for p, c in zip(sorted(set(patient)), by_patient, strict=True)},
    }  # fmt: skip


def draw(seed, n=300, people="abcdef", skill=0.6):
    rng = np.random.default_rng(seed)
    y = rng.integers(8, size=n)
    return y, np.where(rng.random(n) < skill, y, rng.integers(8, size=n)), rng.choice(list(people), n)


def test_one_run_is_its_report():
    y, guess, patient = draw(0)
    row = grid.table([run(y, guess, patient)], n_boot=500).iloc[0]
    expected = report(y, guess, groups=patient, n_boot=500)
    for name in ("accuracy", "f1_macro", "recall_weighted"):
        assert row[name] == pytest.approx(expected.scores[name])
        assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(expected.intervals[name])
    assert (row.seeds, row.patients, row.windows) == (1, 6, 300)
    assert np.isnan(row.accuracy_sd)


def test_folds_are_pooled_and_seeds_averaged():
    a, b, c = draw(1, people="ab"), draw(2, people="cd"), draw(3, people="abcd")
    rows = [run(*a, fold=0), run(*b, fold=1), run(*c, seed=1)]
    row = grid.table(rows).iloc[0]
    pooled = report(np.r_[a[0], b[0]], np.r_[a[1], b[1]]).macro_f1
    single = report(c[0], c[1]).macro_f1
    assert row.f1_macro == pytest.approx((pooled + single) / 2)
    assert row.f1_macro_sd == pytest.approx(abs(pooled - single) / np.sqrt(2))
    assert (row.seeds, row.runs, row.patients) == (2, 3, 4)


def test_by_class():
    y, guess, patient = draw(4)
    table = grid.by_class([run(y, guess, patient)]).set_index("class")
    expected = report(y, guess).per_class
    np.testing.assert_allclose(table.f1, expected.f1)
    assert table.windows.tolist() == expected.support.tolist()
    assert (table.low <= table.f1).all()
    assert (table.f1 <= table.high).all()


def test_a_cell_against_itself_differs_by_nothing():
    one = [run(*draw(5))]
    assert grid.paired(one, one)["f1_macro"] == (0, 0, 0)


def test_paired_over_the_patients_of_both():
    y, guess, patient = draw(6, people="abcd")
    better = np.where(np.arange(len(y)) % 3 == 0, y, guess)
    kept = patient != "d"
    found = grid.paired([run(y, better, patient)], [run(y[kept], guess[kept], patient[kept])])["accuracy"]
    assert found[0] == pytest.approx((better[kept] == y[kept]).mean() - (guess[kept] == y[kept]).mean())
    assert found[1] > 0
    with pytest.raises(DataError, match="no patient in common"):
        grid.paired([run(y[kept], guess[kept], patient[kept])], [run(y[~kept], guess[~kept], patient[~kept])])


def test_an_ensemble_is_compared_with_the_mean_of_the_seeds():
    one, two, together = draw(9), draw(10, skill=0.9), draw(11, skill=0.8)
    right = [float((y == guess).mean()) for y, guess, _ in (together, one, two)]
    found = grid.paired([run(*together)], [run(*one), run(*two, seed=1)])["accuracy"]
    assert found[0] == pytest.approx(right[0] - (right[1] + right[2]) / 2)


def test_jk_is_of_the_folds_together():
    a, b = draw(12, people="ab", skill=0.9), draw(13, people="cd", skill=0.3)
    pooled = aami.report(np.r_[a[0], b[0]], np.r_[a[1], b[1]]).scores["jk"]
    assert grid.table([run(*a, fold=0), run(*b, fold=1)]).jk[0] == pytest.approx(pooled)


def test_scores_by_seed():
    a, b = draw(7), draw(8)
    rows = [run(*a), run(*b, seed=1), run(*b, model="b"), run(*a, model="b", seed=1), run(*a, model="c")]
    table = grid.over_seeds(rows, level="patient", budget="short", value="accuracy")
    assert table.shape == (1, 3)  # only seed 0 has all three
    table = grid.over_seeds([r for r in rows if r["model"] != "c"], level="patient", budget="short", value="accuracy")
    accuracy = [(s[0] == s[1]).mean() for s in (a, b)]
    np.testing.assert_allclose(table.to_numpy(), [accuracy, accuracy[::-1]])


def test_nothing_to_tabulate():
    with pytest.raises(DataError, match="no runs"):
        grid.table([])
