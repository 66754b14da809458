"""Two processes train one network: equal weights on both, and those of one process where nothing depends on the share."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_training import half, stop_after, toy
from torch import nn

from ecglib import distributed, models, run_state, training
from ecglib.errors import DataError
from ecglib.recipes import TrainConfig
from ecglib.training import fit

pytestmark = pytest.mark.usefixtures("one_thread")


class Plain(nn.Module):
    """Neither batch normalisation nor dropout: its gradient is a mean over windows."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv1d(1, 8, 15, stride=5), nn.Linear(8, 8)

    def forward(self, x):
        return self.head(self.conv(x).square().mean(-1))


CONFIGS = {
    "adamw": TrainConfig(epochs=4, batch_size=16, draws=96, lr=5e-3, device="cpu", bf16=False, seed=2),
    "sgd": TrainConfig(
        epochs=4, batch_size=16, draws=96, lr=0.1, device="cpu", bf16=False, seed=2, optimizer="sgd",
        schedule="constant", clip_norm=0.5, validation=0.3, patience=3,
    ),
}  # fmt: skip


def network(kind, seed):
    return Plain() if kind == "plain" else models.build("murugesan-gap", width=4, dropout=0.3, seed=seed)


def work(out, kind, config, *, grouped=False):
    """What each of the two processes does: train, and write down its weights; nothing else comes from the second."""
    torch.set_num_threads(1)
    if grouped:
        torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank() if grouped else int(os.environ["RANK"])
    if rank:

        def refuse(*_):
            raise AssertionError("process 1 writes")

        run_state.write = training.write_atomically = refuse
    run = fit(network(kind, seed=rank), toy(), half(toy()), config=CONFIGS[config], run_dir=out, progress=False)
    save_file(run.model.state_dict(), f"{out}/rank{rank}.safetensors")
    assert run.record["processes"] == 2
    assert torch.distributed.is_initialized() == grouped


WORKER = """
import sys
sys.path.insert(0, sys.argv[1])
from test_distributed import work
work(*sys.argv[2:])
"""

# torchrun's variables without torchrun: two processes a job, forked from one that has read all libraries
FORKED = """
import json, os, sys, traceback
sys.path.insert(0, sys.argv[1])
from test_distributed import work
for job in map(json.loads, sys.argv[2:]):
    children = []
    for rank in "01":
        children.append(os.fork())
        if not children[-1]:
            os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", **job.pop("meet")}
            try:
                work(**job)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
    if [os.waitpid(child, 0)[1] for child in children] != [0, 0]:
        sys.exit(1)
"""


def run(*code):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *code], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def ends(out):
    """Weights of either process."""
    return [load_file(out / f"rank{k}.safetensors") for k in (0, 1)]


def free_port():
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return str(door.getsockname()[1])


JOBS = {
    "sgd": {"kind": "plain", "config": "sgd"},
    "stopped": {"kind": "plain", "config": "adamw"},
    "normalised": {"kind": "murugesan-gap", "config": "adamw"},
    "grouped": {"kind": "plain", "config": "adamw", "grouped": True},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of each job, trained by two processes; one of them had been stopped when a single one was at it."""
    where, windows = tmp_path_factory.mktemp("jobs"), toy()
    with pytest.MonkeyPatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            fit(
                network("plain", 0), windows, half(windows), config=CONFIGS["adamw"], run_dir=where / "stopped",
                progress=False,
            )  # fmt: skip
    meet = [{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()} for _ in JOBS]
    jobs = [
        json.dumps({"out": str(where / n), "meet": m} | job) for m, (n, job) in zip(meet, JOBS.items(), strict=True)
    ]
    run("-c", FORKED, str(Path(__file__).parent), *jobs)
    return {name: where / name for name in JOBS}


@pytest.fixture(scope="module")
def by_torchrun(tmp_path_factory):
    """Folder of a job that torchrun started."""
    where = tmp_path_factory.mktemp("torchrun")
    (where / "worker.py").write_text(WORKER)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(where / "worker.py")]
    run(*launch, str(Path(__file__).parent), str(where / "run"), "plain", "adamw")
    return where / "run"


def differences(a, b):
    assert a.keys() == b.keys()
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a)


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_two_processes_with_half_the_batch_are_one_with_the_whole(tmp_path, config, request):
    out = request.getfixturevalue("by_torchrun") if config == "adamw" else request.getfixturevalue("trained")[config]
    first, second = ends(out)
    assert differences(first, second) == 0
    alone = fit(
        network("plain", 0), toy(), half(toy()), config=CONFIGS[config], run_dir=tmp_path / "alone", progress=False
    )
    assert differences(first, alone.model.state_dict()) < 1e-5
    assert differences(alone.model.state_dict(), network("plain", 0).state_dict()) > 1e-2  # it has moved
    # and the finished run of the two is one that a single process can load
    loaded = fit(network("plain", 0), toy(), half(toy()), config=CONFIGS[config], run_dir=out, progress=False)
    assert differences(first, loaded.model.state_dict()) == 0
    for row, other in zip(loaded.history, alone.history, strict=True):
        assert row == pytest.approx(other, abs=1e-5)
    assert loaded.record["processes"] == 2


@pytest.mark.slow
def test_two_processes_go_on_where_one_was_stopped(tmp_path, trained):
    config, windows, out = CONFIGS["adamw"], toy(), trained["stopped"]
    first, second = ends(out)
    assert differences(first, second) == 0
    alone = fit(network("plain", 0), windows, half(windows), config=config, run_dir=tmp_path / "alone", progress=False)
    assert differences(first, alone.model.state_dict()) < 1e-5
    run = fit(network("plain", 0), windows, half(windows), config=config, run_dir=out, progress=False)
    assert (run.record["processes"], [m["processes"] for m in run.record["earlier_machines"]]) == (2, [1])


@pytest.mark.slow
def test_batch_normalisation_differs_and_both_processes_agree(tmp_path, trained):
    out = trained["normalised"]
    first, second = ends(out)
    assert differences(first, second) == 0  # running averages too
    alone = fit(
        network("murugesan-gap", 0), toy(), half(toy()), config=CONFIGS["adamw"], run_dir=tmp_path / "a", progress=False
    )
    assert differences(first, alone.model.state_dict()) > 1e-3
    run = fit(network("murugesan-gap", 5), toy(), half(toy()), config=CONFIGS["adamw"], run_dir=out, progress=False)
    losses = [row["loss"] for row in run.history]
    assert losses[-1] < 0.8 * losses[0]
    assert sorted(p.name for p in run.run_dir.iterdir() if "rank" not in p.name) == ["run.json", "state.safetensors"]


@pytest.mark.slow
def test_a_group_that_is_there_already_is_used_and_left(trained):
    first, second = ends(trained["grouped"])
    assert differences(first, second) == 0


def test_one_process_is_a_team_of_its_own(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    with distributed.team("cpu") as us:
        assert (us.rank, us.size, us.device) == (0, 1, torch.device("cpu"))
        model, value = Plain(), torch.ones(3)
        assert us.wrap(model) is model
        assert us.total(value) is value
        assert us.told({"a": 1}) == {"a": 1}
        us.agree(model)
        assert us.name == "CPU, 1 threads"
    assert not torch.distributed.is_initialized()


def test_a_world_of_one_needs_no_group(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with distributed.team("cpu") as us:
        assert us.size == 1
        assert not torch.distributed.is_initialized()


def test_a_batch_must_be_shared_evenly(tmp_path, monkeypatch, one_line):
    inner = distributed.Team
    monkeypatch.setattr(distributed, "Team", lambda rank, size, device: inner(rank, 3, device))
    with pytest.raises(DataError) as caught:
        fit(Plain(), toy(), half(toy()), config=CONFIGS["adamw"], run_dir=tmp_path, progress=False)
    one_line(caught, "3 processes cannot share a batch of 16", "multiple")


def test_shares_are_the_batch(monkeypatch):
    from ecglib.minibatches import batches

    windows, train, config = toy(), np.arange(0, 40, 2), CONFIGS["adamw"]
    cpu = torch.device("cpu")
    whole, *shares = (
        [y for _, y in batches(windows, train, config, 1, distributed.Team(rank, size, cpu))]
        for rank, size in ((0, 1), (0, 2), (1, 2))
    )
    assert len(whole) == 6
    for batch, one, two in zip(whole, *shares, strict=True):
        assert torch.equal(torch.stack([one, two], 1).flatten(), batch)


def test_a_device_says_what_it_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert distributed.Team(0, 1, torch.device("cuda", 3)).name == "GPU 3"
    assert distributed.Team(0, 1, torch.device("cpu")).name == f"CPU, {torch.get_num_threads()} threads"


def test_the_first_process_of_torchrun_leads(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert distributed.leads()
    monkeypatch.setenv("RANK", "0")
    assert distributed.leads()
    monkeypatch.setenv("RANK", "1")
    assert not distributed.leads()


@pytest.fixture
def gpus(monkeypatch):
    """A machine with GPUs, the second in use; gives those that were chosen, and the groups that were joined and left."""
    chosen, groups = [], []
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", groups.append)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: groups.append("left"))
    return chosen, groups


def test_one_process_takes_the_gpu_in_use(gpus):
    chosen, groups = gpus
    with distributed.team(None) as team:
        assert (team.rank, team.size, team.device) == (0, 1, torch.device("cuda", 1))
    with distributed.team("cuda:0") as team:  # named, so left as it is
        assert team.device == torch.device("cuda", 0)
    with distributed.team("cpu") as team:
        assert team.device == torch.device("cpu")
    assert (chosen, groups) == ([torch.device("cuda", 1)], [])


@pytest.mark.parametrize(("device", "group"), [(None, "nccl"), ("cpu", "gloo")])
def test_processes_of_torchrun_take_a_gpu_each(device, group, gpus, monkeypatch):
    chosen, groups = gpus
    told = {"RANK": "6", "LOCAL_RANK": "2", "WORLD_SIZE": "8", "MASTER_ADDR": "there", "MASTER_PORT": "1"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with contextlib.suppress(ZeroDivisionError), distributed.team(device) as team:
        place = torch.device("cuda", 2) if device is None else torch.device("cpu")
        assert team.device == place
        assert chosen == ([place] if device is None else [])
        raise ZeroDivisionError  # the group is left whatever happens
    assert groups == [group, "left"]
