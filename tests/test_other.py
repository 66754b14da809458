import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ecglib import models, networks, other
from ecglib.errors import DataError, UnknownNameError
from ecglib.labelsets import load
from ecglib.splits import split
from ecglib.windowset import WindowSet

CLASSES = ("N", "paced", "WPW")


@pytest.fixture
def windows():
    """A step of 1 mV over the spans of WPW before each labelled peak, nothing else; three patients."""
    anchor = np.array([10.4, 20.0, 29.6, 41.2])
    x = np.zeros((4, 1, 720), np.float32)
    for i, (r, t) in enumerate(zip(anchor, (10, 20, 30, 41), strict=True)):
        a, b = (int(np.ceil((r + s - t + 1) * 360 - 1e-6)) for s in (-0.16, -0.02))
        x[i, 0, a:b] = 1.0
    names = np.array(["1", "2", "2", "3"])
    return WindowSet(
        x, np.array([2, 2, 2, 2]), names, np.full(4, "phantom"), np.array([10.0, 20, 30, 41]), anchor, CLASSES
    )


def test_inside(windows):
    found = other.inside(windows, of="WPW")
    assert found.sum(1).tolist() == pytest.approx([0.14 * 360] * 4, abs=1)
    assert np.abs(found * 1.0 - windows.x[:, 0]).sum(1).max() <= 2  # but for the samples at its ends
    later = other.inside(windows, of="WPW", shift=0.36)
    assert [int(np.argmax(r)) for r in later] == pytest.approx([np.argmax(r) + 129.6 for r in found], abs=1)  # 0.36 s
    both = other.inside(windows, of="paced")
    assert both.sum(1).tolist() == pytest.approx([0.30 * 360] * 4, abs=1)
    with pytest.raises(UnknownNameError):
        other.inside(windows, of="N")


def test_masses(windows):
    inside = other.inside(windows, of="WPW")
    maps = np.where(inside, 3.0, -1.0)
    maps[2] = 1.0  # uniform: chance
    table = other.masses(windows, maps, of="WPW").set_index("patient")
    assert table.windows.to_dict() == {"phantom/1": 1, "phantom/2": 2, "phantom/3": 1}
    share = inside.mean(1)
    assert table.chance.tolist() == pytest.approx([share[0], share[1:3].mean(), share[3]])
    assert table.CAM.tolist() == pytest.approx([1.0, (1 + share[2]) / 2, 1.0])
    assert table.amplitude.min() > 0.95  # the signal is nothing but the evidence
    assert (table["R bump"] < 0.45).all()  # its middle lies behind the span


class Mean(torch.nn.Module):
    """Logit of WPW: ten times the mean of the window."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(10.0))

    def forward(self, x):
        z = self.weight * x[:, 0].mean(-1)
        return torch.stack([0 * z, 0 * z, z], dim=1)


def test_bridged(windows, monkeypatch):
    monkeypatch.setattr(other, "by_network", lambda w, level: [(Mean(), np.array([0, 1])), (Mean(), np.array([2, 3]))])
    table = other.bridged(windows, of="WPW", level="patient")
    assert table.patient.tolist() == ["phantom/1", "phantom/2", "phantom/3"]
    # the step is gone, or all but what a border leaves
    assert table.evidence.tolist() == pytest.approx([-10 * 0.14 / 2] * 3, abs=0.05)
    assert table.control.tolist() == pytest.approx([0] * 3, abs=0.02)


@pytest.fixture
def results(monkeypatch):
    """Two seeds by window and by patient; class c is of one patient."""
    clean = {"a": {"patients": 3}, "b": {"patients": 2}, "c": {"patients": 1}}
    both = {"p": [[0, 4], [5, 5]], "q": [[0, 4, 8], [2, 3, 5]]}
    rows = [{"model": "m", "level": "window", "fold": 0, "seed": s, "confusion": both} for s in (0, 1)]
    rows += [
        {"model": "m", "level": "patient", "fold": 0, "seed": s, "confusion": {"p": [[0, 1, 4], [4, 2, 6]]}}
        for s in (0, 1)
    ]
    rows += [
        {"model": "m", "level": "patient", "fold": 1, "seed": s, "confusion": {"q": [[0, 3, 8 - 2 * s], [1, 1, 5]]}}
        for s in (0, 1)
    ]
    found = {"classes": ["a", "b", "c"], "counts": {"clean": clean}, "runs": rows}
    monkeypatch.setattr(networks, "results", lambda name: found)


def test_scores(results):
    table = other.scores("m", n_boot=50).set_index(["level", "class"])
    assert table.f1["window"].tolist() == [1, 1, 1]
    # a: hit 5, true 7, named 6 or, in the second seed, 11; b: hit 6, true 7, named 8
    assert table.f1["patient"]["a"] == pytest.approx((10 / (7 + 6) + 10 / (7 + 11)) / 2)
    assert table.f1["patient"]["b"] == pytest.approx(2 * 6 / (7 + 8))
    assert np.isnan(table.f1["patient"]["c"])
    assert table.people["patient"].tolist() == [3, 2, 1]
    overall = other.macro("m", n_boot=50)
    assert overall["window"] == (1, 1, 1)
    assert overall["patient"][0] == pytest.approx(((10 / 13 + 10 / 18) / 2 + 12 / 15) / 2)
    assert overall["patient"][1] < overall["patient"][0] < overall["patient"][2]
    assert other.confusion("m", "patient").tolist() == [[5, 2, 0], [1, 6, 0], [2, 0, 2]]
    with pytest.raises(UnknownNameError):
        other.scores("n")


def test_networks_of_strangers(windows, monkeypatch, tmp_path, one_line):
    monkeypatch.setattr(other, "project_root", lambda: tmp_path)
    with pytest.raises(DataError) as caught:
        list(other.by_network(windows, level="patient"))
    one_line(caught, "no network compact-patient", "mitdb15", "reference_other.py")
    for fold, held in enumerate((["phantom/2"], ["phantom/1", "phantom/3"])):
        net = models.build("compact", n_classes=3, width=4, seed=fold)
        path = tmp_path / "results" / "mitdb15" / f"compact-patient{fold}.safetensors"
        models.save(net, path, notes={"patients_held_out": held})
    found = list(other.by_network(windows, level="patient"))
    assert [i.tolist() for _, i in found] == [[1, 2], [0, 3]]
    logits, maps = other.explain(windows, level="patient")
    alone, of_alone = other.explain(windows[[3]], level="patient", of="WPW")
    assert logits[3] == pytest.approx(alone[0], abs=1e-5)
    assert maps[3] == pytest.approx(of_alone[0], abs=1e-5)
    around = other.averages_of({"x": windows, "y": windows[[3]]}, of="WPW", level="patient")
    assert around.beats.value_counts().to_dict() == {"x": 361, "y": 361}
    own = around[around.beats == "y"]
    i = (own.time - -0.08).abs().idxmin()
    assert own.mV[i] == 1
    assert own.mV.max() == 1

    models.save(net, tmp_path / "results" / "mitdb15" / "compact-window.safetensors")
    ((alone, index),) = other.by_network(windows, level="window")
    assert index.tolist() == [0, 1, 2, 3]  # one network for all
    assert torch.equal(alone.head.bias, net.head.bias)
    with pytest.raises(UnknownNameError):
        next(other.by_network(windows, level="block"))


@pytest.fixture
def annotated(monkeypatch):
    """40 windows of N and of WPW in four records, 30 s apart; "signals" are read from nowhere."""
    record = np.tile(np.repeat(["100", "101", "230", "232"], 10), 2)
    time = np.tile(30.0 * np.arange(10) + 5, 8) + np.repeat([0, 7], 40)
    windows = WindowSet(
        np.empty((80, 1, 0), np.float32), np.repeat([0, 2], 40), record, np.full(80, "mitdb"), time, time, CLASSES
    )
    asked = []
    monkeypatch.setattr(other, "labels", lambda name, **more: asked.append((name, more)) or windows)
    monkeypatch.setattr(other, "fill", lambda found, root: found)
    return windows, asked


def pairs(windows):
    return set(zip(windows.record.tolist(), windows.time.tolist(), strict=True))


def test_unseen_by_window_is_what_was_not_learnt_from(annotated):
    windows, asked = annotated
    wpw = windows[windows.y == 2]
    found = other.unseen("WPW", level="window", root="there")
    assert asked == [("mitdb", {"rule": "clean", "labels": "mitdb15", "root": "there"})]
    part = split(windows, level="window", seed=0)[0]
    held = windows[part.test]
    assert pairs(found) == pairs(held[held.y == 2])
    # of twelve drawn windows of a class a few are held out, and none of the others was learnt from
    pack = windows.subsample(12, seed=0)
    learnt = pack[split(pack, level="window", seed=0)[0].train]
    few = other.unseen("WPW", level="window", per_class=12)
    assert pairs(few) == pairs(wpw) - pairs(learnt[learnt.y == 2])
    assert len(found) < len(few) < 40
    assert set(few.y.tolist()) == {2}


def test_unseen_by_patient_is_every_window_of_the_class(annotated):
    windows, _ = annotated
    wpw = windows[windows.y == 2]
    assert pairs(other.unseen("WPW", level="patient")) == pairs(wpw)
    turns = other.unseen("WPW", level="patient", most=6)
    assert sorted(np.unique(turns.record, return_counts=True)[1].tolist()) == [1, 1, 2, 2]  # patients in turn
    assert pairs(turns) <= pairs(wpw)
    own = other.unseen("WPW", level="patient", patient="mitdb/230")
    assert pairs(own) == pairs(wpw[wpw.record == "230"])
    with pytest.raises(UnknownNameError, match="unknown class 'WPV'"):
        other.unseen("WPV", level="patient")
    with pytest.raises(UnknownNameError, match="unknown level 'block'"):
        other.unseen("WPW", level="block")


@pytest.mark.parametrize("name", ["window", "patient0", "patient1", "patient2"])
def test_committed(name):
    """Networks, rows and packs of the reference runs belong together."""
    folder = Path(__file__).resolve().parent.parent / "results"
    found, path = json.loads((folder / "other.json").read_text()), folder / "mitdb15" / f"compact-{name}.safetensors"
    notes = models.metadata(path)
    assert tuple(notes["classes"]) == tuple(found["classes"]) == load("mitdb15").classes
    assert notes["run"]["data_sha256"] == found["windows"]["sha256"]
    row = [
        r for r in found["runs"] if r["model"] == "compact" and r["seed"] == 0 and name == r["level"] + str(r["fold"])
    ]
    row += [r for r in found["runs"] if r["model"] == "compact" and r["seed"] == 0 and name == r["level"] == "window"]
    assert row[0]["run"]["train_sha256"] == notes["run"]["train_sha256"]
    assert models.load(path)(torch.zeros(1, 1, 720)).shape == (1, 15)
    assert path.stat().st_size < 500_000
    held = set(notes["patients_held_out"])
    assert (held == set(row[0]["confusion"])) == name.startswith("patient")
    assert sum(found["counts"]["clean"][c]["patients"] == 1 for c in found["classes"]) == 2
