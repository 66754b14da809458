"""Training learns, resumes exactly, draws its classes evenly, and never looks at the test part."""

import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from ecglib import __version__, models, recipes, training
from ecglib.errors import DataError
from ecglib.evaluation import predict, report
from ecglib.splits import Split, split
from ecglib.training import TrainConfig, fingerprint, fit
from ecglib.windows import WindowSet

QUICK = TrainConfig(epochs=4, batch_size=16, draws=32, lr=5e-3, device="cpu", seed=2)


pytestmark = pytest.mark.usefixtures("one_thread")


def toy(n=40, seed=0, classes=3):
    """Windows of as many classes as tones; ten patients."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    t = np.arange(720) / 360
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    x = np.sin(2 * np.pi * (4 + 6 * y[:, None]) * t + phase) + 0.1 * rng.standard_normal((n, 720))
    record = np.array([f"p{i // 3 % 10:02d}" for i in range(n)])
    time = np.arange(n) * 2.0 + 1.0
    return WindowSet(x[:, None].astype(np.float32), y.astype(np.int64), record, np.full(n, "phantom"), time, time)


def half(windows, level="window"):
    return Split(np.arange(0, len(windows), 2), np.arange(1, len(windows), 2), level)


def small(seed=0, **options):
    return models.build("murugesan-gap", **{"width": 4, "dropout": 0.3, **options}, seed=seed)


def weights(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


def one_line(caught):
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


class Witness(nn.Module):
    """Notes which windows it is shown, by their first sample, in training and in evaluation."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, 8)
        self.trained, self.evaluated = [], []

    def forward(self, x):
        (self.trained if self.training else self.evaluated).append(x[:, 0, 0].round().long().tolist())
        return self.head(x[:, 0, 1:2])


def numbered(y, **columns):
    """Windows whose first sample is their number."""
    windows = toy(len(y))
    windows.x[:, 0, 0] = np.arange(len(y))
    return replace(windows, y=np.asarray(y, np.int64), **columns)


# It learns


def test_overfits(tmp_path):
    windows = toy(24)
    part = Split(np.arange(24), np.empty(0, int), "window")
    config = TrainConfig(epochs=8, batch_size=12, draws=96, lr=1e-2, device="cpu")
    run = fit(small(width=8, dropout=0.0), windows, part, config=config, run_dir=tmp_path, progress=False)
    assert (predict(run.model, windows.x).argmax(1) == windows.y).all()
    losses = [row["loss"] for row in run.history]
    assert losses[0] > 0.8
    assert losses[-1] < 0.1
    assert not any(m.training for m in run.model.modules())


def test_schedule_spans_the_whole_run(tmp_path, monkeypatch):
    progress = []
    monkeypatch.setattr(recipes, "one_cycle", lambda peak, at: progress.append((peak, at)) or peak)
    fit(small(), toy(), half(toy()), config=replace(QUICK, epochs=3), run_dir=tmp_path, progress=False)
    assert progress == [(5e-3, pytest.approx(i / 6)) for i in range(6)]


def one_step(tmp_path, **options):
    """A step of Witness, and what it should know: weight before, bias before, gradient of the weight by hand."""
    windows, model = numbered(np.arange(8)), Witness()
    w, b = model.head.weight.detach().clone(), model.head.bias.detach().clone()
    config = TrainConfig(epochs=1, batch_size=64, draws=64, bf16=False, device="cpu", **options)
    part = Split(np.arange(8), np.empty(0, int), "window")
    run = fit(model, windows, part, config=config, run_dir=tmp_path, progress=False)
    (drawn,) = run.model.trained
    a, y = torch.from_numpy(windows.x[drawn, 0, 1]), torch.from_numpy(windows.y[drawn])
    error = (a[:, None] * w[:, 0] + b).softmax(1) - nn.functional.one_hot(y, 8)  # of softmax cross-entropy
    return run.model.head.weight.detach(), w, (error * a[:, None]).mean(0)[:, None], error.mean(0)


def test_first_step_is_that_of_adamw(tmp_path):
    """One step: w (1 - lr * decay) - lr * sign(gradient), at a twentieth of the peak rate."""
    after, w, gradient, _ = one_step(tmp_path, lr=0.1, weight_decay=0.5)
    torch.testing.assert_close(after, w * (1 - 0.005 * 0.5) - 0.005 * gradient.sign())


def test_step_of_ecgnet(tmp_path):
    """Plain gradient descent at a constant rate."""
    after, w, gradient, _ = one_step(tmp_path, lr=0.01, weight_decay=0, optimizer="sgd", schedule="constant")
    torch.testing.assert_close(after, w - 0.01 * gradient)
    assert (after - w).abs().max() > 1e-6


def test_clipping_is_by_the_norm_of_all_weights(tmp_path):
    options = {"lr": 1.0, "weight_decay": 0, "optimizer": "sgd", "schedule": "constant"}
    after, w, gradient, of_bias = one_step(tmp_path, clip_norm=1e-3, **options)
    norm = (gradient.square().sum() + of_bias.square().sum()).sqrt()
    assert norm > 1e-2
    torch.testing.assert_close(after, w - gradient * 1e-3 / norm, atol=1e-7, rtol=1e-4)


def test_history_has_the_f1_of_what_was_drawn(tmp_path):
    windows = numbered([0, 1, 2] * 10)
    config = replace(QUICK, epochs=1, lr=0.0, weight_decay=0, batch_size=32, draws=64, bf16=False)
    run = fit(Witness(), windows, half(windows), config=config, run_dir=tmp_path, progress=False)
    drawn = np.concatenate(run.model.trained)
    logits = predict(run.model, windows.x[drawn])  # the weights have not moved
    assert run.history[0]["f1"] == pytest.approx(report(windows.y[drawn], logits.argmax(1)).macro_f1)
    loss = nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(windows.y[drawn]))
    assert run.history[0]["loss"] == pytest.approx(float(loss), abs=1e-6)


def test_progress_tells_windows_loss_and_f1(tmp_path, capsys):
    fit(small(), toy(), half(toy()), config=replace(QUICK, validation=0.3), run_dir=tmp_path)
    said = capsys.readouterr().err
    last = re.findall(r"128/128 [^\r]*", said)[-1]
    assert re.search(r"[\d.]+k? windows/s, loss=\d\.\d+, f1=\d\.\d+, valid f1=\d\.\d+", last)


def test_no_epoch_repeats_the_dropout_of_another(tmp_path):
    class Dice(Witness):
        def forward(self, x):
            self.rolled.append(float(torch.rand(1)))
            return super().forward(x)

    rolled = []
    for seed in (2, 3):
        model = Dice()
        model.rolled = rolled
        config = replace(QUICK, seed=seed)
        fit(model, toy(), half(toy()), config=config, run_dir=tmp_path / str(seed), progress=False)
    assert len(rolled) == len(set(rolled)) == 16


# It resumes


@pytest.fixture(scope="module")
def forked():
    """Processes to be killed, forked from one that has read the libraries once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ecglib.training", "ecglib.models"])
    return context


def killed_in_the_third_epoch(out):
    inner, steps = training.recipes.rate, []

    def rate(*arguments):
        steps.append(arguments)
        if len(steps) == 6:  # two epochs of two steps are done, and one step of the third
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*arguments)

    training.recipes.rate = rate
    torch.set_num_threads(1)
    fit(small(), toy(), half(toy()), config=QUICK, run_dir=out, progress=False)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Four epochs in one go."""
    torch.set_num_threads(1)
    where = tmp_path_factory.mktemp("straight")
    return fit(small(), toy(), half(toy()), config=QUICK, run_dir=where, progress=False)


def stop_after(epochs, monkeypatch):
    """Raise when the next epoch begins."""
    inner = training.batches

    def batches(windows, train, config, epoch, us):
        if epoch >= epochs:
            raise KeyboardInterrupt
        return inner(windows, train, config, epoch, us)

    monkeypatch.setattr(training, "batches", batches)


def test_killed_and_resumed(tmp_path, straight, forked):
    victim = forked.Process(target=killed_in_the_third_epoch, args=(tmp_path,))
    victim.start()
    victim.join(300)
    assert victim.exitcode == -signal.SIGKILL
    assert not (tmp_path / "run.json").exists()
    with safe_open(tmp_path / "state.safetensors", framework="pt") as file:
        assert len(json.loads(file.metadata()["state"])["history"]) == 2
    torch.manual_seed(1234)  # what happens between does not matter,
    run = fit(small(seed=9), toy(), half(toy()), config=QUICK, run_dir=tmp_path, progress=False)  # nor do first weights
    assert_same(weights(run.model), weights(straight.model))
    assert run.history == straight.history
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4]


LONG = replace(QUICK, epochs=24, validation=0.3)  # some seconds


def killed_anywhere(out, told):
    inner = training.batches
    training.batches = lambda *a: told.send_bytes(b"begins") or inner(*a)
    torch.set_num_threads(1)
    fit(small(), toy(), half(toy()), config=LONG, run_dir=out, progress=False)


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path, forked):
    """Killed with signal 9 wherever it happens to be, also while it writes, again and again."""
    once = fit(small(), toy(), half(toy()), config=LONG, run_dir=tmp_path / "once", progress=False)
    rng, kills, epochs = np.random.default_rng(), 0, []
    for _ in range(4):
        ear, told = forked.Pipe(duplex=False)
        run = forked.Process(target=killed_anywhere, args=(tmp_path / "killed", told))
        run.start()
        told.close()
        assert ear.recv_bytes() == b"begins"
        time.sleep(rng.uniform(0, 0.15) * once.record["duration_s"])
        run.kill()
        run.join()
        kills += run.exitcode == -signal.SIGKILL
        if (tmp_path / "killed" / "state.safetensors").exists():
            with safe_open(tmp_path / "killed" / "state.safetensors", framework="pt") as file:
                epochs.append(len(json.loads(file.metadata()["state"])["history"]))
    assert kills >= 2
    assert epochs == sorted(epochs)
    # whoever goes on takes nothing from the weights it begins with, unless every run was killed in its first epoch
    first = small(seed=9) if epochs else small()
    again = fit(first, toy(), half(toy()), config=LONG, run_dir=tmp_path / "killed", progress=False)
    assert_same(weights(again.model), weights(once.model))
    assert again.history == once.history
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == ["run.json", "state.safetensors"]


def test_what_a_killed_writer_left_is_swept_away(tmp_path):
    left = [tmp_path / "state.safetensors.123.part", tmp_path / "run.json.4.part"]
    for path in [*left, tmp_path / "notes.part"]:
        path.write_text("half")
    fit(small(), toy(), half(toy()), config=replace(QUICK, epochs=1), run_dir=tmp_path, progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.part", "run.json", "state.safetensors"]


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "sgd", "schedule": "constant", "clip_norm": 0.5},
        {"optimizer": "adam", "schedule": "plateau", "validation": 0.3, "patience": 3, "clip_norm": 1.0},
    ],
)
def test_every_optimiser_resumes(tmp_path, monkeypatch, options):
    config, windows = replace(QUICK, epochs=6, **options), toy()
    once = fit(small(), windows, half(windows), config=config, run_dir=tmp_path / "a", progress=False)
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            fit(small(), windows, half(windows), config=config, run_dir=tmp_path / "b", progress=False)
    twice = fit(small(), windows, half(windows), config=config, run_dir=tmp_path / "b", progress=False)
    assert_same(weights(once.model), weights(twice.model))
    assert once.history == twice.history


def test_record_names_the_machines_of_a_run_that_moved(tmp_path, monkeypatch, straight):
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        patch.setattr(training.Team, "name", "another machine")
        with pytest.raises(KeyboardInterrupt):
            fit(small(), toy(), half(toy()), config=QUICK, run_dir=tmp_path, progress=False)
    run = fit(small(), toy(), half(toy()), config=QUICK, run_dir=tmp_path, progress=False)
    assert run.record["device"] == "CPU, 1 threads"
    assert [m["device"] for m in run.record["earlier_machines"]] == ["another machine"]
    monkeypatch.setattr(training.Team, "name", "a third, which only loads")
    assert fit(small(), toy(), half(toy()), config=QUICK, run_dir=tmp_path, progress=False).record == run.record
    assert_same(weights(run.model), weights(straight.model))


# It stops


def scored(monkeypatch, scores):
    """Let the epochs have these scores on the validation part."""
    given = iter(scores)
    monkeypatch.setattr(training, "report", lambda *_: SimpleNamespace(macro_f1=next(given)))


def test_patience(tmp_path, monkeypatch):
    config = replace(QUICK, epochs=9, validation=0.3, patience=2)
    scored(monkeypatch, [0.2, 0.5, 0.4, 0.6, 0.6, 0.1])
    run = fit(small(), toy(), half(toy()), config=config, run_dir=tmp_path, progress=False)
    assert [row["validation_f1"] for row in run.history] == [
        0.2,
        0.5,
        0.4,
        0.6,
        0.6,
        0.1,
    ]  # an equal score is no better
    scored(monkeypatch, [])
    again = fit(small(), toy(), half(toy()), config=config, run_dir=tmp_path, progress=False)
    assert again.history == run.history  # a run that has stopped does not go on
    assert_same(weights(again.model), weights(run.model))


def test_plateau_lowers_the_rate(tmp_path, monkeypatch):
    losses = iter([1.0, 2.0, 2.0, 2.0, 2.0, 0.5])
    inner = training.predict

    def predict(model, x):
        """Logits that are all wrong or all right, by so much that the loss is the one wanted."""
        loss, n = next(losses), len(inner(model, x))
        logits = np.zeros((n, 3), np.float32)
        logits[np.arange(n), wrong] = np.log(np.expm1(loss) + 1e-9) if loss > 1e-3 else 0
        return logits

    windows, config = toy(), replace(QUICK, epochs=6, validation=0.3, schedule="plateau", lr=0.1)
    _, valid = training.parts_of(windows, half(windows), config)
    wrong = (windows.y[valid] + 1) % 3
    monkeypatch.setattr(training, "predict", predict)
    run = fit(small(), windows, half(windows), config=config, run_dir=tmp_path, progress=False)
    assert [row["lr"] for row in run.history] == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01, 0.01])
    assert run.history[1]["validation_loss"] > run.history[0]["validation_loss"] > run.history[5]["validation_loss"]


@pytest.mark.parametrize("epochs", [1, 3])
def test_stopped_and_resumed_with_validation(tmp_path, monkeypatch, epochs):
    config, windows = replace(QUICK, validation=0.3), toy()
    once = fit(small(), windows, half(windows), config=config, run_dir=tmp_path / "a", progress=False)
    with monkeypatch.context() as patch:
        stop_after(epochs, patch)
        with pytest.raises(KeyboardInterrupt):
            fit(small(), windows, half(windows), config=config, run_dir=tmp_path / "b", progress=False)
    twice = fit(small(), windows, half(windows), config=config, run_dir=tmp_path / "b", progress=False)
    assert_same(weights(once.model), weights(twice.model))
    assert once.history == twice.history
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["run.json", "state.safetensors"]


def test_best_epoch_outlives_an_interruption(tmp_path, monkeypatch):
    scores, snapshots = iter([0.9, 0.1, 0.1, 0.1]), []
    inner = training.predict
    monkeypatch.setattr(training, "predict", lambda model, x: snapshots.append(weights(model)) or inner(model, x))
    monkeypatch.setattr(training, "report", lambda *_: SimpleNamespace(macro_f1=next(scores)))
    windows, config = toy(), replace(QUICK, validation=0.3)
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            fit(small(), windows, half(windows), config=config, run_dir=tmp_path, progress=False)
    run = fit(small(), windows, half(windows), config=config, run_dir=tmp_path, progress=False)
    assert len(snapshots) == 4
    assert_same(weights(run.model), snapshots[0])


def test_interruption_leaves_the_generator_alone(tmp_path, monkeypatch):
    stop_after(1, monkeypatch)
    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        fit(small(), toy(), half(toy()), config=QUICK, run_dir=tmp_path, progress=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_finished_run_returns_at_once(tmp_path, straight, monkeypatch):
    shutil.copytree(straight.run_dir, tmp_path / "run")
    stop_after(0, monkeypatch)  # would raise on any epoch
    run = fit(small(seed=5), toy(), half(toy()), config=QUICK, run_dir=tmp_path / "run", progress=False)
    assert_same(weights(run.model), weights(straight.model))
    assert run.history == straight.history
    assert run.record == straight.record
    assert not run.model.training


@pytest.mark.parametrize("change", ["config", "seed", "labels", "split", "network"])
def test_folder_of_another_run(tmp_path, straight, change):
    shutil.copytree(straight.run_dir, tmp_path / "run")
    windows, config, part, model = toy(), QUICK, half(toy()), small()
    if change == "config":
        config = replace(config, lr=1e-3)
    elif change == "seed":
        config = replace(config, seed=3)
    elif change == "labels":
        windows = replace(windows, y=windows.y[::-1].copy())
    elif change == "split":
        part = replace(part, train=part.train[:-1])
    else:
        model = small(width=8)
    before = (tmp_path / "run" / "state.safetensors").read_bytes()
    with pytest.raises(DataError, match=r"holds .*another.*choose another folder") as caught:
        fit(model, windows, part, config=config, run_dir=tmp_path / "run", progress=False)
    one_line(caught)
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == before


def test_damaged_state(tmp_path, straight):
    shutil.copytree(straight.run_dir, tmp_path / "run")
    state = tmp_path / "run" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"state\.safetensors is damaged") as caught:
        fit(small(), toy(), half(toy()), config=QUICK, run_dir=tmp_path / "run", progress=False)
    one_line(caught)


def test_another_device_name_is_no_other_run(tmp_path, straight):
    shutil.copytree(straight.run_dir, tmp_path / "run")
    run = fit(small(), toy(), half(toy()), config=replace(QUICK, device=None), run_dir=tmp_path / "run", progress=False)
    assert_same(weights(run.model), weights(straight.model))


# What it is shown


def test_draws_are_balanced_and_from_the_training_part(tmp_path):
    y = np.r_[np.zeros(60), np.ones(6), np.full(3, 5), np.zeros(30), np.ones(30)].astype(int)
    windows, part = numbered(y), Split(np.arange(69), np.arange(69, 129), "window")
    config = TrainConfig(epochs=2, batch_size=50, draws=3030, device="cpu")
    run = fit(Witness(), windows, part, config=config, run_dir=tmp_path, progress=False)
    batches = run.model.trained
    assert [len(b) for b in batches] == [50] * 120  # 3030 // 50 = 60 an epoch
    drawn = np.concatenate(batches)
    assert drawn.max() < 69
    counts = np.bincount(y[drawn], minlength=8)
    assert counts[[2, 3, 4, 6, 7]].tolist() == [0] * 5
    assert counts[[0, 1, 5]] == pytest.approx([2000] * 3, abs=4 * (6000 * 2 / 9) ** 0.5)
    within = np.bincount(drawn[y[drawn] == 1], minlength=69)[60:66]
    assert within == pytest.approx([2000 / 6] * 6, abs=4 * (2000 * 5 / 36) ** 0.5)
    assert batches[:60] != batches[60:]  # each epoch has its own
    again = fit(Witness(), windows, part, config=config, run_dir=tmp_path / "again", progress=False)
    assert again.model.trained == batches
    assert run.model.evaluated == []


def test_fewer_draws_than_a_batch(tmp_path):
    windows = numbered([0, 1, 2, 3])
    config = TrainConfig(epochs=3, batch_size=10, draws=4, device="cpu")
    run = fit(Witness(), windows, half(windows), config=config, run_dir=tmp_path, progress=False)
    assert [len(b) for b in run.model.trained] == [10, 10, 10]


@pytest.mark.parametrize("level", ["window", "patient", "block"])
def test_validation_comes_from_the_training_part(tmp_path, level):
    n = 240
    windows = numbered(np.arange(n) % 3, record=np.array([f"p{i // 8 % 10:02d}" for i in range(n)]))
    windows = replace(windows, time=np.arange(n) * 7.0 % 600 + 3)
    part = split(windows, level=level, test_fraction=0.25, seed=1)[0]
    config = TrainConfig(epochs=3, batch_size=64, draws=640, validation=0.25, device="cpu")
    run = fit(Witness(), windows, part, config=config, run_dir=tmp_path, progress=False)
    trained, judged = (set(np.concatenate(b)) for b in (run.model.trained, run.model.evaluated))
    assert trained | judged <= set(part.train)
    assert set(run.validation) == judged
    assert not trained & judged
    assert 0.1 < len(judged) / len(part.train) < 0.45
    if level == "patient":
        assert not set(windows.patient[sorted(trained)]) & set(windows.patient[sorted(judged)])
    counts = run.record["windows"]
    assert counts == {
        "train": len(part.train) - len(judged), "validation": len(judged), "test": len(part.test)
    }  # fmt: skip


@pytest.mark.parametrize("validation", [0.0, 0.3])
def test_poisoned_test_part(tmp_path, validation):
    windows = toy()
    part, config = half(windows), replace(QUICK, epochs=2, validation=validation)
    clean = fit(small(), windows, part, config=config, run_dir=tmp_path / "a", progress=False)
    windows.x[part.test] = np.nan
    run = fit(small(), windows, part, config=config, run_dir=tmp_path / "b", progress=False)
    assert all(np.isfinite(v) for row in run.history for v in row.values())
    assert all(torch.isfinite(v).all() for v in run.model.state_dict().values())
    assert_same(weights(run.model), weights(clean.model))
    labels = windows.y.copy()
    labels[part.test] = 7  # all of another class, which is not in the training part
    run = fit(small(), replace(windows, y=labels), part, config=config, run_dir=tmp_path / "c", progress=False)
    assert_same(weights(run.model), weights(clean.model))
    assert run.history == clean.history


def test_best_epoch_is_kept_the_later_of_equals(tmp_path, monkeypatch):
    scores, snapshots = iter([0.2, 0.7, 0.7, 0.1]), []
    inner = training.predict
    monkeypatch.setattr(training, "predict", lambda model, x: snapshots.append(weights(model)) or inner(model, x))
    monkeypatch.setattr(training, "report", lambda *_: SimpleNamespace(macro_f1=next(scores)))
    windows, config = toy(), replace(QUICK, validation=0.3)
    run = fit(small(), windows, half(windows), config=config, run_dir=tmp_path, progress=False)
    assert [row["validation_f1"] for row in run.history] == [0.2, 0.7, 0.7, 0.1]
    assert_same(weights(run.model), snapshots[2])
    assert not torch.equal(snapshots[2]["head.weight"], snapshots[3]["head.weight"])


# What it leaves behind


def test_run_json(straight):
    windows = toy()
    record = json.loads((straight.run_dir / "run.json").read_text())
    assert record == straight.record
    assert record["config"] == {
        "epochs": 4, "batch_size": 16, "draws": 32, "lr": 5e-3, "weight_decay": 1e-2, "optimizer": "adamw",
        "schedule": "one-cycle", "clip_norm": None, "validation": 0.0, "patience": None, "bf16": None, "seed": 2,
    }  # fmt: skip
    assert record["windows"] == {"train": 20, "validation": 0, "test": 20}
    assert record["classes_in_training"] == ["N", "PVC", "PAC"]
    assert record["data_sha256"] == fingerprint(windows)
    assert record["train_sha256"] == hashlib.sha256(half(windows).train.astype("<i8").tobytes()).hexdigest()
    assert (record["level"], record["fold"], record["split_seed"]) == ("window", 0, 0)
    assert record["code_version"] == __version__
    assert (record["device"], record["processes"], record["torch"]) == ("CPU, 1 threads", 1, torch.__version__)
    assert record["bf16"] is torch.cpu._is_avx512_bf16_supported()
    assert record["earlier_machines"] == []
    assert 0 <= record["duration_s"] < 60
    assert record["windows_per_s"] == pytest.approx(128 / record["duration_s"], rel=0.5)  # of 4 epochs of 32 windows
    assert record["history"] == straight.history
    assert len(straight.history) == 4
    assert all(set(row) == {"epoch", "loss", "f1", "lr"} for row in straight.history)
    assert len(straight.validation) == 0
    assert sorted(p.name for p in straight.run_dir.iterdir()) == ["run.json", "state.safetensors"]


def test_fingerprint_names_the_windows_and_not_their_samples():
    windows = toy()
    same = fingerprint(replace(windows, x=windows.x + 1, anchor=windows.anchor + 1))
    assert same == fingerprint(windows)
    assert len(same) == 64
    others = [
        fingerprint(windows[::-1]),
        fingerprint(windows[:-1]),
        fingerprint(replace(windows, y=(windows.y + 1) % 3)),
        fingerprint(replace(windows, time=windows.time + 0.001)),
        fingerprint(replace(windows, record=windows.record[::-1])),
        fingerprint(replace(windows, database=np.full(len(windows), "mitdb"))),
    ]
    assert len({same, *others}) == 7


def test_global_generators_are_left_alone(tmp_path):
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 (the global state is what is watched)
    random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    fit(small(), toy(), half(toy()), config=replace(QUICK, validation=0.3), run_dir=tmp_path, progress=False)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]


def test_windows_are_not_written_to(tmp_path):
    windows = toy()
    copy = windows.x.copy()
    fit(small(), windows, half(windows), config=replace(QUICK, epochs=1), run_dir=tmp_path, progress=False)
    assert (windows.x == copy).all()


def test_no_folder_to_write_to(tmp_path):
    (tmp_path / "file").write_text("")
    for where in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(DataError, match="cannot write the run folder") as caught:
            fit(small(), toy(), half(toy()), config=QUICK, run_dir=where, progress=False)
        one_line(caught)


def test_folder_lost_on_the_way(tmp_path, monkeypatch):
    inner = training.batches

    def batches(windows, train, config, epoch, us):
        shutil.rmtree(tmp_path / "run")
        return inner(windows, train, config, epoch, us)

    monkeypatch.setattr(training, "batches", batches)
    with pytest.raises(DataError, match=r"cannot write .*state\.safetensors") as caught:
        fit(small(), toy(), half(toy()), config=QUICK, run_dir=tmp_path / "run", progress=False)
    one_line(caught)


@pytest.mark.parametrize("name", ["state.safetensors", "run.json"])
def test_no_part_file_is_left(tmp_path, name):
    (tmp_path / name).mkdir()  # cannot be replaced by a file
    with pytest.raises(DataError, match="cannot write") as caught:
        fit(small(), toy(), half(toy()), config=replace(QUICK, epochs=1), run_dir=tmp_path, progress=False)
    one_line(caught)
    assert list(tmp_path.glob("*.part")) == []


def test_nothing_to_train_on(tmp_path):
    with pytest.raises(DataError, match="training part of the split is empty"):
        fit(small(), toy(), Split(np.empty(0, int), np.arange(3), "window"), run_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_run_of_the_same_network_with_other_options_is_refused(tmp_path):
    fit(small(), toy(), half(toy()), config=replace(QUICK, epochs=1), run_dir=tmp_path, progress=False)
    with pytest.raises(DataError, match="holds another run") as caught:  # same shapes, another dropout
        fit(small(dropout=0.1), toy(), half(toy()), config=replace(QUICK, epochs=1), run_dir=tmp_path, progress=False)
    one_line(caught)


def test_every_epoch_can_be_looked_at(tmp_path):
    seen = []

    def look(epoch, model):
        seen.append((epoch, model.training, {k: v.clone() for k, v in model.state_dict().items()}))

    run = fit(small(), toy(), half(toy()), config=QUICK, run_dir=tmp_path, progress=False, on_epoch=look)
    assert [(epoch, mode) for epoch, mode, _ in seen] == [(1, False), (2, False), (3, False), (4, False)]
    assert_same(seen[-1][2], weights(run.model))
    assert not torch.equal(seen[0][2]["head.weight"], seen[1][2]["head.weight"])


def test_augmentation_is_used_and_repeats(tmp_path, straight):
    class Louder:
        def __call__(self, x, rng):
            return x * (1 + rng.uniform(0, 1))

        def __repr__(self):
            return "Louder()"

    runs = [
        fit(small(), toy(), half(toy()), config=QUICK, run_dir=tmp_path / i, progress=False, augment=Louder()) for i in "01"
    ]  # fmt: skip
    assert_same(weights(runs[0].model), weights(runs[1].model))
    assert not torch.equal(weights(runs[0].model)["head.weight"], weights(straight.model)["head.weight"])
    assert runs[0].record["augment"] == "Louder()"
    with pytest.raises(DataError, match="another run"):
        fit(small(), toy(), half(toy()), config=QUICK, run_dir=tmp_path / "0", progress=False)
