"""Who the patient is, from features in which he was planted; maps compared with maps made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecglib import identity, models
from ecglib.windows import WindowSet


@pytest.fixture
def people(make_windows) -> WindowSet:
    """Four patients with twelve windows each, one a minute."""
    record = np.repeat(["100", "101", "103", "105"], 12)
    return make_windows(record, np.zeros(48, int), np.tile(60.0 * np.arange(12) + 30, 4))


def test_the_earlier_half_is_by_patient_and_block(people):
    assert identity.earlier(people).tolist() == [True] * 6 + [False] * 6 + ([True] * 6 + [False] * 6) * 3
    late = replace(
        people, time=people.time + 600 * (people.record == "105"), anchor=people.anchor + 600 * (people.record == "105")
    )
    assert identity.earlier(late).tolist() == identity.earlier(people).tolist()


def test_a_planted_patient_is_named_and_noise_is_not(people):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((48, 8))
    planted = noise + 6 * np.eye(8)[np.repeat(np.arange(4), 12)]
    found = identity.probe(planted, people)
    assert found.chance == 0.25
    assert found.hit.all()
    assert found.test.tolist() == np.flatnonzero(~identity.earlier(people)).tolist()
    assert identity.probe(noise, people).hit.mean() < 0.6
    blank = identity.probe(planted, people, test=np.zeros_like(planted))  # what named the patient was taken away
    assert blank.hit.mean() == 0.25
    one = identity.accuracy(found, people, of=np.array(["mitdb/101"]))
    assert (one["mean"], one["patients"], one["windows"]) == (1, 1, 6)


def test_features_are_the_means_of_the_map(people):
    net = models.build("murugesan-gap", width=4, seed=0).eval()
    x = np.random.default_rng(0).standard_normal((40, 1, 720)).astype(np.float32)
    with torch.inference_mode():
        slow = net.feature_map(torch.from_numpy(x)).mean(-1).numpy()
    assert identity.features(net, x) == pytest.approx(slow, abs=1e-6)


def test_the_most_relevant_fifth_is_bridged(people):
    x = np.tile(np.arange(720, dtype=np.float32) ** 2, (48, 1, 1))
    relevance = np.zeros((48, 720))
    relevance[:, 100:244] = 1 + np.arange(144)
    out = identity.occluded(None, replace(people, x=x), relevance)
    assert np.flatnonzero((out != x)[0, 0]).min() >= 100
    assert np.flatnonzero((out != x)[0, 0]).max() <= 243
    middle = x[0, 0, 99] + (x[0, 0, 244] - x[0, 0, 99]) * (171 - 99) / (244 - 99)
    assert out[0, 0, 171] == pytest.approx(middle, rel=1e-4)


def test_maps_are_compared_by_class(make_windows):
    windows = make_windows(["100", "101", "103", "105"], ["N", "N", "PVC", "PVC"], [10.0] * 4)
    rise = np.tile(np.arange(48.0, dtype=np.float32), (4, 1))
    other = rise.copy()
    other[2:] *= -1
    found = {"by window": {"maps": other}, "by patient": {"maps": rise}, "another 1": {"maps": rise}}
    table = identity.compare(windows, found).set_index(["pair", "label"])["mean"]
    assert table["by window · by patient"].tolist() == pytest.approx([1, -1])
    assert table["two by patient"].tolist() == pytest.approx([1, 1])
    assert table["difference"].tolist() == pytest.approx([0, -2])
    bump = np.zeros((4, 48), np.float32)
    bump[:, 23:25] = 1  # on R, in the middle of the window
    spots = identity.places(windows, {"by window": {"maps": bump}, "by patient": {"maps": np.ones_like(bump)}})
    near = spots[spots["where"] == "QRS of the labelled beat"].set_index(["pair", "label"])["mean"]
    assert near["by patient"].tolist() == pytest.approx([43 / 720] * 2)  # within 60 ms: 21 samples to either side of R
    assert (near["by window"] > 0.6).all()
    assert (near["difference"] == near["by window"] - near["by patient"]).all()
