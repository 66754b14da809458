"""Who the patient is, from features in which he was planted; maps compared with maps made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecglib import identity, models, networks
from ecglib.cam import class_activation_map
from ecglib.databases import record_names
from ecglib.errors import DataError
from ecglib.source import Source
from ecglib.windows import WindowSet, cut_database


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


# Windows that networks did not learn from ------------------------------------------------------------------------


@pytest.fixture
def book(phantom_root, monkeypatch) -> Source:
    """The small phantom, whose networks were trained on twenty windows of a class, so that others are left."""
    monkeypatch.setitem(networks._DRAWN, "phantom", (20, 4))
    return Source("phantom", phantom_root, tuple(record_names("phantom", phantom_root)))


def pairs(windows: WindowSet) -> set[tuple[str, float]]:
    return set(zip(windows.record.tolist(), windows.time.tolist(), strict=True))


def test_unseen_windows_are_of_no_training_and_of_both_halves(book, phantom_clean):
    found = identity.unseen(book, per_half=10)
    known = pairs(phantom_clean.subsample(20, seed=0))
    assert set(found.y.tolist()) == {0}
    assert not pairs(found) & known
    normal = phantom_clean[phantom_clean.y == 0]
    fresh = normal[np.array([p not in known for p in zip(normal.record.tolist(), normal.time.tolist(), strict=True)])]
    wanted = set()
    for who in np.unique(fresh.record):  # by hand: the minute of the middle one of such windows of this patient
        own = fresh[fresh.record == who]
        minute = own.anchor // 60
        half = sorted(minute.tolist())
        middle = (half[(len(half) - 1) // 2] + half[len(half) // 2]) / 2
        if min((minute < middle).sum(), (minute >= middle).sum()) < 10:
            continue
        wanted.add(who)
        drawn = found[found.record == who]
        assert ((drawn.anchor // 60 < middle).sum(), (drawn.anchor // 60 >= middle).sum()) == (10, 10)
        assert pairs(drawn) <= pairs(own)
    assert wanted == set(found.record.tolist())
    assert len(wanted) > 2
    cut = {p: k for k, p in enumerate(zip(phantom_clean.record.tolist(), phantom_clean.time.tolist(), strict=True))}
    at = [cut[p] for p in zip(found.record.tolist(), found.time.tolist(), strict=True)]
    assert np.array_equal(found.x, phantom_clean.x[at])  # the signals are those of these times
    assert (
        pairs(identity.unseen(book, per_half=10)) == pairs(found) != pairs(identity.unseen(book, per_half=10, seed=1))
    )


def test_where_training_left_too_few_its_windows_are_taken(book, phantom_clean, monkeypatch, one_line):
    monkeypatch.setitem(networks._DRAWN, "phantom", (10**6, 4))
    found = identity.unseen(book, per_half=10)
    assert pairs(found) <= pairs(phantom_clean.subsample(10**6, seed=0)) == pairs(phantom_clean)
    assert set(np.unique(found.record, return_counts=True)[1].tolist()) == {20}
    with pytest.raises(DataError) as caught:
        identity.unseen(book, label="PVC", per_half=1000)
    one_line(caught, "two patients with 2000 windows of PVC")


def test_a_probe_learns_from_as_many_windows_as_it_is_tested_on(book):
    found = identity.unseen(book, per_half=3)
    early = identity.earlier(found)
    assert {int(early[found.record == who].sum()) for who in np.unique(found.record)} == {3}


def test_held_by_window_is_the_part_that_training_left_out(book):
    trained_on = networks._windows(book)
    part = networks._parts("phantom", trained_on, "window")[0]
    found = identity.held_by_window(book, per_class=10**6)
    assert pairs(found) == pairs(trained_on[part.test])
    assert not pairs(found) & pairs(trained_on[part.train])
    few = identity.held_by_window(book, per_class=2)
    assert pairs(few) <= pairs(found)
    assert few.counts().to_dict() == found.counts().clip(upper=2).to_dict()
    whole = cut_database("phantom", rule="clean", root=book.root, records=(few.record[0],))
    assert np.array_equal(few.x[0], whole.x[whole.time == few.time[0]][0])


# Networks side by side -------------------------------------------------------------------------------------------


def test_maps_are_those_of_the_window_network_the_patients_own_and_the_others(make_windows, monkeypatch, tmp_path):
    """Four patients; of three networks by patient the second never saw 101, the third 103 and 105, and all saw 100."""
    rng = np.random.default_rng(3)
    windows = make_windows(["100", "101", "103", "105"], ["N", "PVC", "N", "RBBB"], [10.0] * 4)
    windows = replace(windows, x=rng.standard_normal((4, 1, 720)).astype(np.float32))
    nets = [models.build("murugesan-gap", width=4, seed=seed).eval() for seed in range(4)]
    held = ([], ["mitdb/900"], ["mitdb/101"], ["mitdb/103", "mitdb/105"])
    paths = [
        models.save(net, tmp_path / f"{k}.safetensors", notes={"patients_held_out": who})
        for k, (net, who) in enumerate(zip(nets, held, strict=True))
    ]
    by_level = {"window": paths[:1], "patient": paths[1:]}
    monkeypatch.setattr(networks, "checkpoints", lambda database, level: by_level[level])
    found = identity.maps(Source("mitdb", tmp_path, ("100", "101", "103", "105")), windows)
    assert list(found) == ["by window", "by patient", "another 1", "another 2"]
    asked = {"by window": [0] * 4, "by patient": [1, 2, 3, 3], "another 1": [2, 1, 1, 1], "another 2": [3, 3, 2, 2]}
    loaded = [models.load(p) for p in paths]  # in half precision, as the file has it
    for name, who in asked.items():
        for i, k in enumerate(who):
            x, y = torch.from_numpy(windows.x[[i]]), torch.from_numpy(windows.y[[i]])
            assert found[name]["maps"][i] == pytest.approx(class_activation_map(loaded[k], x, y)[0].numpy(), abs=1e-5)
            with torch.no_grad():
                assert found[name]["guess"][i] == loaded[k](x).argmax().item()


def test_the_phantom_has_no_other_network_by_patient(make_windows, monkeypatch, tmp_path):
    windows = make_windows(["p01", "p02"], ["N", "PVC"], [10.0, 20.0], database="phantom")
    windows = replace(windows, x=np.random.default_rng(3).standard_normal((2, 1, 720)).astype(np.float32))
    asked = []
    path = models.save(
        models.build("murugesan-gap", width=4, seed=0), tmp_path / "n.safetensors", notes={"patients_held_out": []}
    )
    monkeypatch.setattr(networks, "checkpoints", lambda *given: asked.append(given) or [path])
    found = identity.maps(Source("phantom", tmp_path, ("p01", "p02")), windows)
    assert list(found) == ["by window", "by patient"]
    assert np.array_equal(found["by window"]["maps"], found["by patient"]["maps"])  # here both are the same network
    assert set(asked) == {("phantom", "window"), ("phantom", "patient")}
    table = identity.compare(windows, found)
    assert table.pair.unique().tolist() == ["by window · by patient"]  # nothing to compare it with
    assert table["mean"].tolist() == pytest.approx([1, 1])
