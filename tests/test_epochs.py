"""A run followed epoch by epoch, on phantom windows, and its measures by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecglib import cam, epochs, models
from ecglib.epochs import Course
from ecglib.splits import split
from ecglib.training import TrainConfig

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def seen(phantom_clean):
    return phantom_clean.subsample(3, seed=0)


def test_follow_begins_untrained_and_ends_with_the_run(phantom_clean, seen):
    windows = phantom_clean.subsample(12, seed=1)
    part = split(windows, level="window", seed=0)[0]
    net = models.build("compact", width=4, seed=2)
    untrained = cam.class_activation_map(net, torch.from_numpy(seen.x), torch.from_numpy(seen.y)).numpy()
    course = epochs.follow(net, windows, part, seen, at=[0, 2], config=TrainConfig(epochs=2, draws=64, batch_size=32))
    assert course.epochs == [0, 2]
    np.testing.assert_allclose(course.maps[0], untrained, atol=1e-5)
    trained = cam.class_activation_map(net, torch.from_numpy(seen.x), torch.from_numpy(seen.y)).numpy()
    np.testing.assert_allclose(course.maps[1], trained, atol=1e-5)
    assert np.abs(trained - untrained).max() > 1e-3


def test_measures_by_hand(seen):
    n = len(seen)
    rng = np.random.default_rng(0)
    last = rng.standard_normal((n, 48))
    maps = np.stack([-last, last]).astype(np.float32)
    logits = np.stack([np.roll(np.eye(8)[seen.y], 1, axis=1), np.eye(8)[seen.y]])
    truth = np.zeros((n, 720), bool)
    truth[:, :180] = True
    table = epochs.table(Course([0, 1], logits, maps), seen, truth).set_index(["measure", "epoch"])["mean"]
    assert table["accuracy", 0] == 0
    assert table["accuracy", 1] == table["macro-F1", 1] == 1
    assert table["final", 0] == pytest.approx(-1)
    assert table["final", 1] == pytest.approx(1)
    flat = epochs.table(Course([0], logits[:1], np.ones((1, n, 48), np.float32)), seen, truth).set_index("measure")[
        "mean"
    ]
    assert flat["mass"] == pytest.approx(0, abs=1e-6)  # a constant map has the mass of chance
    assert np.isnan(flat["final"])


def test_averages_stand_on_the_beat(seen):
    """A map that is 1 on the step over the R peak alone is highest at time 0."""
    place = cam.upsample(torch.eye(48)).numpy()  # (48, 720)
    step = np.array([place[:, int(r * 360)].argmax() for r in seen.r_position])
    maps = np.eye(48, dtype=np.float32)[step][None]
    table = epochs.averages(Course([3], np.zeros((1, len(seen), 8)), maps), seen)
    for _, own in table.groupby("class"):
        assert abs(own.t.iloc[own.value.argmax()]) <= 0.03
    assert set(table.epoch) == {3}


def test_two_classes_are_scored_as_two(seen):
    two = replace(seen, y=np.arange(len(seen)) % 2, classes=("V", "S"))
    maps = np.random.default_rng(0).random((1, len(seen), 48)).astype(np.float32)
    course = Course([0], np.eye(2)[two.y][None], maps)
    table = epochs.table(course, two, np.zeros((len(seen), 720), bool)).set_index("measure")["mean"]
    assert (table["accuracy"], table["macro-F1"]) == (1, 1)
    assert epochs.averages(course, two)["class"].unique().tolist() == ["V", "S"]
