"""What is removed and kept, whose relevance a window gets, and what a network that is trained anew can still learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecglib import models, roar
from ecglib.attribution import attribute
from ecglib.errors import DataError, UnknownNameError
from ecglib.evaluation import predict
from ecglib.fills import remove
from ecglib.grid import paired
from ecglib.roar import degrade, removed, silhouette, strangers
from ecglib.sanity import permute_labels
from ecglib.splits import Split
from ecglib.training import TrainConfig

pytestmark = pytest.mark.usefixtures("one_thread")


# What goes


def test_the_most_relevant_go_or_stay():
    r = np.array([[0.1, 0.9, -0.5, 0.3, 0.2], [5.0, 4.0, 3.0, 2.0, 1.0]])
    assert removed(r, fraction=0.4).tolist() == [[False, True, False, True, False], [True, True, False, False, False]]
    assert removed(r, fraction=0.4, keep=True).tolist() == (~removed(r, fraction=0.4)).tolist()
    x = torch.arange(10.0).reshape(2, 1, 5)
    assert degrade(x, r, fraction=0.4, fill=-1.0)[:, 0].tolist() == [[0, -1, 2, -1, 4], [-1, -1, 7, 8, 9]]
    assert degrade(x, r, fraction=0.4, fill=-1.0, keep=True)[:, 0].tolist() == [[-1, 1, -1, 3, -1], [5, 6, -1, -1, -1]]
    assert silhouette(r, fraction=0.4)[:, 0].tolist() == [[0, 1, 0, 1, 0], [1, 1, 0, 0, 0]]
    assert degrade(x, r, fraction=0.0).tolist() == x.tolist()
    assert degrade(x, r, fraction=1.0, keep=True).tolist() == x.tolist()


@pytest.mark.parametrize("fill", ["linear", "mean", "zero", "noise"])
def test_a_batch_is_its_windows_and_a_fill_that_of_fills(fill):
    rng = torch.Generator().manual_seed(0)
    x, r = torch.randn(5, 1, 60, generator=rng), torch.randn(5, 60, generator=rng).round(decimals=1)  # some tie
    whole = degrade(x, r, fraction=0.3, fill=fill, seed=4)
    alone = torch.cat([degrade(x[i : i + 1], r[i : i + 1], fraction=0.3, fill=fill, seed=4) for i in range(5)])
    torch.testing.assert_close(whole, alone)
    gone = removed(r, fraction=0.3, seed=4)
    assert gone.sum(1).tolist() == [18] * 5
    torch.testing.assert_close(whole, remove(x, gone, fill, seed=4))


def test_a_uniform_relevance_takes_the_same_scattered_samples_from_every_window():
    gone = removed(torch.ones(3, 720), fraction=0.5)
    assert torch.equal(gone[0], gone[1])
    runs = 1 + int((gone[0, 1:] != gone[0, :-1]).sum())
    assert 300 < runs < 420  # of a coin, 360


def test_a_stranger_is_somebody_else():
    r = np.arange(7)[:, None] * np.ones((7, 3))
    for seed in range(5):
        found = strangers(r, seed=seed)[:, 0].astype(int)
        assert sorted(found) == list(range(7))
        assert (found != np.arange(7)).all()
        assert strangers(torch.from_numpy(r), seed=seed)[:, 0].tolist() == found.tolist()
    assert not np.array_equal(strangers(r, seed=0), strangers(r, seed=1))


def test_relevance_is_of_the_class_that_the_network_names():
    net, x = models.build("compact", width=4, seed=0), np.random.default_rng(0).normal(size=(6, 1, 720)).astype("f4")
    named = torch.from_numpy(predict(net, x).argmax(1))
    expected = attribute("cam", net, torch.from_numpy(x), named)
    torch.testing.assert_close(torch.from_numpy(roar.relevance_of("cam", net, x)), expected, rtol=1e-4, atol=1e-5)
    assert roar.relevance_of("cam", net, x[:0]).shape == (0, 720)


def test_errors(one_line):
    x, r = torch.zeros(2, 1, 5), torch.zeros(2, 5)
    for call, kind, parts in (
        (lambda: removed(r[0], fraction=0.5), DataError, ("(N, T)", "(5,)")),
        (lambda: removed(r + torch.nan, fraction=0.5), DataError, ("NaN",)),
        (lambda: removed(r, fraction=1.5), DataError, ("fraction is 1.5", "0 to 1")),
        (lambda: degrade(x, r, fraction=0.5, fill="gauss"), UnknownNameError, ("fill 'gauss'",)),
        (lambda: strangers(r[:1], seed=0), DataError, ("received 1 window",)),
        (lambda: roar.contrast([run(0, 0, 9)], [run(1, 0, 9)]), DataError, ("seed and fold",)),
        (lambda: roar.contrast([run(0, 0, 9)], [run(0, 0, 9, "z")]), DataError, ("other patients",)),
    ):
        with pytest.raises(kind) as caught:
            call()
        one_line(caught, *parts)


# Over patients


def run(seed, fold, right, first="a", **more):
    """Two patients with ten windows of N each, of which so many are right; the others are called PVC."""
    cells = {p: [[0, 1], [right, 10 - right]] for p in (f"{first}{fold}", f"b{fold}")}
    return {"seed": seed, "fold": fold, "confusion": cells, **more}


def test_scores_pool_folds_and_average_seeds():
    found = roar.scores([run(0, 0, 9), run(0, 1, 5), run(1, 0, 3), run(1, 1, 3)])
    assert (found["seeds"], found["patients"]) == (2, 4)
    assert found["accuracy"] == pytest.approx((0.7 + 0.3) / 2)
    assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]
    wide = roar.scores([run(0, 0, 9), run(0, 1, 5)], together=20)
    assert wide["accuracy_low"] <= 0.5 + 1e-9  # all draws of one fold's patients


def test_contrasts_are_those_of_the_grid_and_of_shared_runs():
    first, second = [run(0, 0, 9), run(0, 1, 6), run(1, 0, 9)], [run(0, 0, 5), run(0, 1, 5), run(2, 0, 0)]
    found = roar.contrast(first, second)
    assert (found["seeds"], found["patients"]) == (1, 4)
    for score, (change, low, high) in paired(first[:2], second[:2]).items():
        assert (found[score], found[f"{score}_low"], found[f"{score}_high"]) == pytest.approx((change, low, high))
    same = roar.contrast(first, first)
    assert (same["accuracy_low"], same["accuracy_high"]) == (0, 0)


def test_a_table_has_a_row_for_each_condition():
    about = [
        {"name": n, "kind": "remove", "fill": "linear", "fraction": f} for n in ("cam", "random") for f in (0.1, 0.5)
    ]
    table = roar.table([run(s, 0, 9 - 4 * k, **a) for k, a in enumerate(about) for s in (0, 1) if k < 2 or s == 0])
    assert table.name.tolist() == ["cam", "cam", "random", "random"]
    assert table.fraction.tolist() == [0.1, 0.5, 0.1, 0.5]
    assert table.seeds.tolist() == [2, 2, 1, 1]
    assert table.accuracy.tolist()[:2] == pytest.approx([0.9, 0.5])


# Retrained


@pytest.fixture(scope="module")
def planted(phantom_clean):
    """Windows of the phantom that got a small wave somewhere, up in one class and down in the other, and where it lies."""
    windows = phantom_clean.subsample(60, seed=0)
    rng, t = np.random.default_rng(0), np.arange(720)
    at, y = rng.integers(60, 660, len(windows)), rng.integers(0, 2, len(windows))
    x = windows.x + ((2 * y - 1)[:, None] * np.exp(-0.5 * ((t - at[:, None]) / 10) ** 2))[:, None].astype("f4")
    train = rng.random(len(windows)) < 0.6
    part = Split(np.flatnonzero(train), np.flatnonzero(~train), "window")
    return replace(windows, x=x, y=y), part, np.exp(-(((t - at[:, None]) / 30) ** 2)).astype("f4")


def accuracy(windows, part, **options):
    """Share of the training and of the test part that a small network gets right after some training."""
    choices = {"epochs": 4, "draws": 512, "batch_size": 32, "lr": 5e-3, "bf16": False, "seed": 1, **options}
    net, run = roar.retrain(windows, part, config=TrainConfig(**choices), width=8, dropout=0.0)
    right = [float((predict(net, windows.x[i]).argmax(1) == windows.y[i]).mean()) for i in (part.train, part.test)]
    assert roar.scores([run])["accuracy"] == pytest.approx(right[1])
    return right


def test_planted_evidence_costs_more_than_random_samples(planted):
    """Without the planted wave nothing is left to learn; without as many samples of a random, coarse map nearly all is."""
    windows, part, truth = planted
    x = torch.from_numpy(windows.x)
    random = attribute("random", torch.nn.Identity(), x, 0)
    found = {}
    for name, r, keep in (("truth", truth, False), ("random", random, False), ("truth", truth, True)):
        left = replace(windows, x=degrade(x, r, fraction=0.15, keep=keep).numpy())
        found[name, keep] = accuracy(left, part)[1]
    assert found["truth", False] < 0.65  # chance is a half
    assert found["random", False] > 0.8
    assert found["truth", True] > 0.9


def test_the_place_alone_tells_a_class(planted):
    """A relevance that knows the annotation leaves it behind in what was removed, though the signal is gone."""
    windows, part, _ = planted
    early = np.arange(720) < 360
    told = np.where((windows.y == 0)[:, None], early, ~early).astype("f4")
    for r, low, high in ((told, 0.95, 1.01), (strangers(told, seed=0), 0.3, 0.7)):
        shape = replace(windows, x=silhouette(r, fraction=0.5).numpy())
        assert low < accuracy(shape, part, epochs=3)[1] < high


def test_permuted_labels_are_learnt_by_heart_and_no_further(planted):
    windows, part, _ = planted
    few = replace(part, train=part.train[:32])
    y = windows.y.copy()
    y[few.train] = permute_labels(windows[few.train], seed=0).y
    learnt, new = accuracy(replace(windows, y=y), few, epochs=50, draws=32)
    assert learnt > 0.9
    assert 0.3 < new < 0.7


def test_runs_of_two_classes_are_scored_as_two():
    """Right everywhere is 1, whatever the number of classes; runs of different ones are not compared."""
    cells = {"p1": [[0, 3], [4, 6]], "p2": [[0], [5]]}  # of two classes: places 0 and 3 are the diagonal
    run = {"seed": 0, "fold": 0, "confusion": cells, "classes": ["N", "PVC"]}
    assert roar.scores([run])["accuracy"] == 1
    wrong = run | {"confusion": {"p1": [[0, 1], [4, 6]], "p2": [[0], [5]]}}
    assert roar.scores([wrong])["accuracy"] == pytest.approx(9 / 15)
    assert roar.contrast([run], [wrong])["accuracy"] == pytest.approx(6 / 15)
    eight = {k: v for k, v in run.items() if k != "classes"}
    for both in (lambda: roar.scores([run, eight | {"seed": 1}]), lambda: roar.contrast([run], [eight])):
        with pytest.raises(DataError, match="expected runs of one label set, received 2"):
            both()
