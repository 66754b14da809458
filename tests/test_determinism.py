"""The same seed gives the same weights and tables: bit by bit on one machine, to a stated tolerance across threads."""

from __future__ import annotations

import ast
import datetime
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ecglib import attribution, evaluation, explain, models, phantom, records, splits, training, windows
from ecglib.masks import learn_mask, lstm_score

ROOT = Path(__file__).resolve().parent.parent
CONFIG = training.TrainConfig(epochs=2, draws=24, batch_size=8, lr=3e-3, device="cpu", seed=3)
LOSS, CHANCE = 1e-5, 1e-3  #: loss, relative, and a probability, after training on one thread and on two
MAPS = 1e-5  #: of a map, relative to its largest value


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    root = tmp_path_factory.mktemp("determinism")
    phantom.write(root, patients=4, minutes=2, seed=0)
    return windows.cut_database("phantom", rule="clean", root=root).subsample(12, seed=0)


def train(own, where: Path, *, threads: int = 1, seed: int = 3) -> training.Run:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        net = models.build("murugesan-gap", width=4, seed=seed)
        part = splits.split(own, level="window", seed=seed)[0]
        return training.fit(net, own, part, config=replace(CONFIG, seed=seed), run_dir=where, progress=False)
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def once(own, tmp_path_factory) -> training.Run:
    return train(own, tmp_path_factory.mktemp("once"))


def distance(a: torch.nn.Module, b: torch.nn.Module) -> float:
    return max(
        float((v - w).abs().max()) for v, w in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_the_same_seed_gives_the_same_weights_bit_by_bit(own, once, tmp_path):
    torch.manual_seed(99)  # nobody else's generator matters
    np.random.seed(99)  # noqa: NPY002
    again = train(own, tmp_path)
    assert distance(again.model, once.model) == 0
    assert again.history == once.history
    assert (tmp_path / "state.safetensors").stat().st_size == (once.run_dir / "state.safetensors").stat().st_size
    timed = ("duration_s", "windows_per_s")
    told = [
        {k: v for k, v in json.loads((r.run_dir / "run.json").read_text()).items() if k not in timed}
        for r in (again, once)
    ]
    assert told[0] == told[1]


def test_another_seed_gives_other_weights(own, once, tmp_path):
    assert distance(train(own, tmp_path, seed=4).model, once.model) > 0.01


def test_one_thread_or_two_agree_to_the_stated_tolerance(own, once, tmp_path):
    # Adam moves a weight whose gradient is nothing but rounding by a whole step, so weights are held by what they do
    two = train(own, tmp_path, threads=2)
    assert distance(two.model, once.model) < CONFIG.lr * 6  # six steps
    losses = [[row["loss"] for row in run.history] for run in (two, once)]
    assert np.allclose(*losses, rtol=LOSS)
    chance = [torch.from_numpy(evaluation.predict(run.model, own.x)).softmax(1) for run in (two, once)]
    assert float((chance[0] - chance[1]).abs().max()) < CHANCE


@pytest.mark.parametrize("method", ["cam", "grad_cam", "gradient"])
def test_maps_of_one_thread_or_two(own, once, method):
    x, y = torch.from_numpy(own.x[:2]), torch.from_numpy(own.y[:2])
    found, before = [], torch.get_num_threads()
    for threads in (1, 1, 2):
        torch.set_num_threads(threads)
        found.append(attribution.attribute(method, once.model, x, y))
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert float((found[0] - found[2]).abs().max()) <= MAPS * float(found[0].abs().max())


def test_a_mask_of_the_same_seed(own, once):
    x = torch.from_numpy(own.x[:2])
    found = [
        learn_mask(lstm_score(once.model, x, 0), x, n_iter=20, lr=0.05, init="random", seed=seed) for seed in (1, 1, 2)
    ]
    assert torch.equal(found[0].mask, found[1].mask)
    assert not torch.equal(found[0].mask, found[2].mask)


def test_tables_of_the_same_seed(own, once):
    guess = evaluation.predict(once.model, own.x).argmax(1)
    reports = [
        json.dumps(evaluation.report(own.y, guess, groups=own.patient, n_boot=50, seed=s).to_dict()) for s in (0, 0, 1)
    ]
    assert reports[0] == reports[1]
    assert reports[0] != reports[2]  # its intervals are drawn
    cuts = [splits.split(own, level="window", folds=3, seed=s) for s in (5, 5, 6)]
    assert all(np.array_equal(a.test, b.test) for a, b in zip(cuts[0], cuts[1], strict=True))
    assert not all(np.array_equal(a.test, b.test) for a, b in zip(cuts[0], cuts[2], strict=True))


def test_the_phantom_of_the_same_seed(tmp_path):
    first, again, other = (
        {p.name: p.read_bytes() for p in phantom.write(tmp_path / f"{k}", patients=1, minutes=2, seed=s).glob("p*")}
        for k, s in enumerate((0, 0, 1))
    )
    assert first == again
    assert first != other


# The clock -----------------------------------------------------------------------------------------------------------


def test_only_the_line_of_a_page_looks_at_the_wall_clock():
    # a clock that jumps can change nothing else: durations are measured by clocks that only go forward, and what is
    # stale is told by contents
    found = []
    for path in sorted((ROOT / "ecglib").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if text.endswith((".st_mtime", ".st_ctime", ".getmtime", "datetime.now", "datetime.utcnow", "date.today")):
                found.append((path.name, text))
            if text in {"time.time", "time.time_ns", "time.localtime", "time.gmtime", "time.ctime"}:
                found.append((path.name, text))
    assert found == [("source.py", "datetime.datetime.now")]


def test_a_clock_that_jumps_changes_no_number(own, once, tmp_path, monkeypatch):
    ticks = iter(range(2_000_000_000, 0, -86_400))
    monkeypatch.setattr(time, "time", lambda: float(next(ticks)))  # a day back at every look
    again = train(own, tmp_path / "run")
    assert distance(again.model, once.model) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert 0 < record["duration_s"] < 600
    folder = phantom.write(tmp_path / "data", patients=1, minutes=2, seed=0)
    found = explain.explain_record(records.open_record(folder / "p01", stop=10), model=once.model, progress=False)
    assert (np.diff(found.beats.time) > 0).all()


def test_a_line_of_a_page_names_the_day(monkeypatch):
    from ecglib import source

    class Jumped(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(1970, 1, 1, tzinfo=tz)

    monkeypatch.setattr(source.datetime, "datetime", Jumped)
    assert source.Source("phantom", Path("data"), ("p01",)).line.endswith(" · 1970-01-01")
