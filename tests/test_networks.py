"""The book's networks: trained once on the phantom, chosen so that they explain strangers, committed with their origin."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from ecglib import models, networks, phantom, source, training
from ecglib.errors import DataError, UnknownNameError
from ecglib.evaluation import predict
from ecglib.source import Source
from ecglib.splits import split
from ecglib.windows import WindowSet

RESULTS = Path(__file__).resolve().parent.parent / "results"
COMMITTED = sorted(RESULTS.glob("*.safetensors"))


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    networks.results.cache_clear()
    yield
    networks.results.cache_clear()
    torch.set_num_threads(before)


def settle(where, patch):
    """A checkout of its own, and a training so short that it teaches nothing."""
    (where / "_toc.yml").write_text("")
    patch.chdir(where)
    patch.delenv("ECGLIB_DATA", raising=False)
    patch.delenv("ECGLIB_DATABASE", raising=False)
    patch.setitem(networks._DRAWN, "phantom", (20, 4))
    training_ = {"epochs": 1, "draws": 64, "batch_size": 32}
    patch.setattr(networks, "_SMALL", {"model": {"width": 4, "dropout": 0.2}, "training": training_})


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A checkout with a tiny phantom and its networks."""
    where = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch:
        settle(where, patch)
        phantom.write(where / "data", patients=8, minutes=2)
        networks.train_phantom(source.find("phantom"), progress=False)
    return where


@pytest.fixture
def home(house, monkeypatch):
    """Stand in that checkout; gives the records of the phantom."""
    settle(house, monkeypatch)
    return source.find("phantom")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """An empty checkout."""
    settle(tmp_path, monkeypatch)
    return tmp_path


# The phantom's networks


def test_both_levels_are_there(home, house):
    assert networks.checkpoint("phantom", "window").is_relative_to(house)
    windows = networks._windows(home)
    for level in ("window", "patient"):
        net, notes = networks.network(home, level=level)
        assert net.options == {"n_classes": 8, "width": 4, "dropout": 0.2}
        assert not net.training
        assert notes["run"]["level"] == level
        assert notes["run"]["data_sha256"] == training.fingerprint(windows)
        assert "history" not in notes["run"]
        assert (notes["rule"], notes["database"], notes["checkpoint"]) == ("clean", "phantom", f"{level}.safetensors")
    part = split(windows, level="patient", folds=4, seed=0)[0]
    assert notes["patients_held_out"] == sorted(set(windows.patient[part.test]))
    assert networks.network(home, level="window")[1]["patients_held_out"] == []


def test_networks_are_trained_once(home, house, monkeypatch):
    before = {p: p.stat().st_mtime_ns for p in (house / "_build").rglob("*.safetensors")}
    assert len(before) == 4  # two checkpoints and the states of their runs

    def refuse(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(training, "fit", refuse)
    networks.train_phantom(home, progress=False)
    assert {p: p.stat().st_mtime_ns for p in (house / "_build").rglob("*.safetensors")} == before


@pytest.mark.parametrize("what", ["training", "windows", "records"])
def test_networks_of_other_settings_are_others(home, monkeypatch, what):
    class Trained(Exception):
        pass

    def refuse(*_, **__):
        raise Trained

    monkeypatch.setattr(training, "fit", refuse)
    if what == "training":
        monkeypatch.setitem(networks._SMALL, "training", {"epochs": 1, "draws": 96, "batch_size": 32})
    elif what == "windows":
        monkeypatch.setitem(networks._DRAWN, "phantom", (15, 4))
    else:
        home = Source("phantom", home.root, home.records[:-1])
    with pytest.raises(Trained):
        networks.train_phantom(home, progress=False)


def test_an_unfinished_training_is_taken_up(checkout, house, monkeypatch):
    (checkout / "data").symlink_to(house / "data")
    here, inner = source.find("phantom"), training.fit
    fitted = []

    def interrupt(*arguments, **options):
        if options["run_dir"].name == networks.LEVELS[1]:
            raise KeyboardInterrupt
        return inner(*arguments, **options)

    monkeypatch.setattr(training, "fit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        networks.train_phantom(here, progress=False)
    with pytest.raises(DataError, match="no 'patient' network for 'phantom'"):
        networks.network(here)
    monkeypatch.setattr(training, "fit", lambda *a, **o: fitted.append(o["run_dir"].name) or inner(*a, **o))
    networks.train_phantom(here, progress=False)
    assert fitted[-1] == networks.LEVELS[1]
    for level in networks.LEVELS:  # and with the weights of a training that was not interrupted
        mine, theirs = (
            models.load(next((where / "_build").glob(f"ecglib/phantom-*/{level}.safetensors"))).state_dict()
            for where in (checkout, house)
        )
        assert all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_the_phantoms_network_says_whom_it_saw(home):
    held = networks.network(home)[1]["patients_held_out"]
    assert 0 < len(held) < 8
    for record in home.records:
        notes = networks.network(home, record=record)[1]
        assert notes["saw_patient"] == (f"phantom/{record}" not in held)
        assert networks.network(home, level="window", record=record)[1]["saw_patient"]


def test_reports_and_relevance_on_the_phantom(home):
    windows = networks._windows(home)
    scored = networks.held_out_report(home, level="patient", most=3)
    part = split(windows, level="patient", folds=4, seed=0)[0]
    test = windows[part.test]
    assert scored.confusion.sum(1).tolist() == np.minimum(np.bincount(test.y, minlength=8), 4).tolist()
    assert scored.n_groups <= len(set(test.patient))
    few = windows[[5, 60, 3, 150]]
    expected = np.abs(few.x[:, 0] - np.sort(few.x[:, 0], axis=-1)[:, [359]])
    found = networks.relevance(home, few, method="amplitude")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    votes = networks.branch_votes(home, windows)
    hits = predict(networks.network(home)[0], windows.x).argmax(1) == windows.y
    assert votes["accuracy, both branches"] == pytest.approx(hits.mean())
    assert list(votes) == ["accuracy, both branches", "accuracy, CNN alone", "accuracy, LSTM alone"]


# MITDB's networks: several by patient


def mitdb_windows():
    """Windows of twelve records, numbered by their first sample; 201 and 202 are one man."""
    records = "100 101 103 105 106 108 109 111 112 113 201 202".split()
    n = 240
    record = np.array([records[i % 12] for i in range(n)])
    x = np.random.default_rng(0).standard_normal((n, 1, 720)).astype(np.float32)
    x[:, 0, 0] = np.arange(n)
    time = np.arange(n) + 1.0
    return WindowSet(x, np.arange(n) // 12 % 8, record, np.full(n, "mitdb"), time, time)


@pytest.fixture
def mitdb(checkout, monkeypatch):
    """Committed networks of three folds, all untrained; gives records, windows and parts."""
    windows = mitdb_windows()
    monkeypatch.setattr(networks, "_windows", lambda _: windows)
    parts = split(windows, level="patient", folds=3, seed=0)
    for k, part in enumerate(parts):
        run = {"data_sha256": training.fingerprint(windows), "level": "patient", "fold": k}
        notes = {"run": run, "patients_held_out": sorted(set(windows.patient[part.test].tolist()))}
        path = checkout / "results" / f"murugesan-gap-mitdb-patient{k}.safetensors"
        models.save(models.build("murugesan-gap", width=4, seed=k), path, notes=notes)
    return Source("mitdb", checkout, tuple(np.unique(windows.record))), windows, parts


def test_a_stranger_explains(mitdb):
    records, windows, parts = mitdb
    chosen = {}
    for record in records.records:
        net, notes = networks.network(records, record=record)
        fold = notes["run"]["fold"]
        assert record in windows.record[parts[fold].test]
        assert record not in windows.record[parts[fold].train]
        assert notes["saw_patient"] is False
        assert notes["checkpoint"] == f"murugesan-gap-mitdb-patient{fold}.safetensors"
        expected = models.build("murugesan-gap", width=4, seed=fold).stem.norm.weight.shape
        assert net.stem.norm.weight.shape == expected
        chosen[record] = fold
    assert set(chosen.values()) == {0, 1, 2}
    assert chosen["201"] == chosen["202"]
    notes = networks.network(records, record="234")[1]  # held out by none
    assert notes["saw_patient"] is True
    assert notes["checkpoint"] == "murugesan-gap-mitdb-patient0.safetensors"
    assert networks.network(records)[1]["run"]["fold"] == 0


def test_every_window_goes_to_a_stranger(mitdb):
    records, windows, parts = mitdb
    seen = []
    for fold, (net, index) in enumerate(networks.by_network(records, windows)):
        assert sorted(index) == sorted(parts[fold].test)
        reference = models.build("murugesan-gap", width=4, seed=fold)
        torch.testing.assert_close(net.head.weight, reference.head.weight, atol=1e-3, rtol=1e-3)
        seen += index.tolist()
    assert sorted(seen) == list(range(len(windows)))


def test_relevance_keeps_the_order_of_the_windows(mitdb):
    records, windows, _ = mitdb
    few = windows[[200, 3, 17, 101]]
    found = networks.relevance(records, few, method="cam")
    for i in range(4):
        alone = networks.relevance(records, few[[i]], method="cam")
        np.testing.assert_allclose(found[i], alone[0], atol=1e-5)


@pytest.mark.parametrize("gone", [None, 0, 1])
def test_report_never_shows_a_network_its_training_part(mitdb, monkeypatch, gone):
    """Also when the checkpoint of one fold is missing."""
    records, _, parts = mitdb
    left = [k for k in range(3) if k != gone]
    if gone is not None:
        networks.checkpoint("mitdb", "patient", gone).unlink()
    shown = []

    def spy(model, x):
        shown.append(x[:, 0, 0].round().astype(int))
        return predict(model, x)

    monkeypatch.setattr(networks, "predict", spy)
    networks.held_out_report(records, level="patient", most=30)
    assert len(shown) == len(left)
    for fold, index in zip(left, shown, strict=True):
        assert set(index) <= set(parts[fold].test)


def test_report_of_other_windows(mitdb, monkeypatch):
    records, windows, _ = mitdb
    monkeypatch.setattr(networks, "_windows", lambda _: windows[:-1])
    with pytest.raises(DataError, match=r"patient0\.safetensors was trained on other windows") as caught:
        networks.held_out_report(records, level="patient")
    assert "\n" not in str(caught.value)


def test_network_of_the_readers_own(mitdb, tmp_path):
    records, *_ = mitdb
    path = models.save(models.build("murugesan-gap", width=8), tmp_path / "mine.safetensors")
    net, notes = networks.network(records, level=str(path), record="100")
    assert net.options["width"] == 8
    assert notes == {"saw_patient": True, "checkpoint": "mine.safetensors"}
    with pytest.raises(DataError, match="no checkpoint"):
        networks.network(records, level=str(tmp_path / "none.safetensors"))


def test_missing_networks(checkout):
    records = Source("mitdb", checkout, ("100",))
    with pytest.raises(DataError, match="no 'patient' network for 'mitdb'") as caught:
        networks.network(records)
    assert "\n" not in str(caught.value)
    with pytest.raises(UnknownNameError, match="unknown level 'pateint'; did you mean 'patient'"):
        networks.network(records, level="pateint")


# Committed results


def test_results_by_name(checkout):
    with pytest.raises(DataError, match=r"no results 'runs' in .*known: none"):
        networks.results("runs")
    (checkout / "results").mkdir()
    (checkout / "results" / "runs.json").write_text('{"a": [1, 2.5]}')
    assert networks.results("runs") == {"a": [1, 2.5]}
    with pytest.raises(DataError, match=r"no results 'rnus' in .*known: runs") as caught:
        networks.results("rnus")
    assert "\n" not in str(caught.value)


def test_committed_names():
    assert {p.name for p in COMMITTED} <= {
        "murugesan-gap-mitdb-window.safetensors", *(f"murugesan-gap-mitdb-patient{k}.safetensors" for k in range(3))
    }  # fmt: skip


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_committed_network(path):
    assert path.stat().st_size < 10e6
    net = models.load(path)
    assert all(torch.isfinite(p).all() for p in net.state_dict().values())
    with torch.inference_mode():
        logits = net(torch.randn(2, 1, 720, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (2, 8)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_committed_notes(path):
    """The notes speak of this very run."""
    notes = models.metadata(path)
    run, name = notes["run"], path.stem.removeprefix("murugesan-gap-mitdb-")
    assert (notes["rule"], notes["database"]) == ("clean", "mitdb")
    assert run["level"] == name.rstrip("012")
    assert run["fold"] == int(name[-1] if name[-1].isdigit() else 0)
    assert {len(run[k]) for k in ("data_sha256", "train_sha256", "records_sha256")} == {64}
    assert run["config"]["seed"] == run["split_seed"] == 0
    assert run["code_version"]
    assert run["device"]
    assert run["duration_s"] > 10
    if "history" in run:
        assert len(run["history"]) == run["config"]["epochs"]


def test_committed_networks_learned_from_different_windows():
    runs = {p.stem: models.metadata(p)["run"] for p in COMMITTED}
    for a, b in combinations(runs, 2):
        assert runs[a]["data_sha256"] == runs[b]["data_sha256"]
        assert runs[a]["train_sha256"] != runs[b]["train_sha256"], (a, b)
    heads = {p.stem: models.load(p).head.weight for p in COMMITTED}
    for a, b in combinations(heads, 2):
        assert not torch.equal(heads[a], heads[b]), (a, b)


def test_committed_folds_share_no_patient():
    held = [set(models.metadata(p)["patients_held_out"]) for p in COMMITTED if "patient" in p.stem]
    for a, b in combinations(held, 2):
        assert not a & b
    for patients in held:
        assert len(patients) >= 10
        assert "mitdb/202" not in patients  # 201 and 202 are one man, named after 201
    if len(held) == 3:
        assert len(set.union(*held)) >= 40
        assert "mitdb/201" in set.union(*held)
    window = [models.metadata(p)["patients_held_out"] for p in COMMITTED if "window" in p.stem]
    assert all(patients == [] for patients in window)


def test_committed_runs_are_those_of_the_networks():
    path = RESULTS / "reference_runs.json"
    if not path.is_file() or not COMMITTED:
        pytest.skip("nothing committed yet")
    runs = json.loads(path.read_text())
    for checkpoint in COMMITTED:
        run = models.metadata(checkpoint)["run"]
        assert run["data_sha256"] == runs["windows"]["clean"]["sha256"]
        assert run["records_sha256"] == runs["records_sha256"]
        assert {k: run["config"][k] for k in runs["config"]} == runs["config"]
