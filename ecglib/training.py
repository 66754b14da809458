"""One small training loop: class-balanced draws, AdamW, a one-cycle schedule, checkpoints that survive a kill.

Every random choice of an epoch follows from ``(seed, epoch)``, so a run that was killed and resumed ends with the
weights of one that was not: bit by bit on one CPU, and on a GPU as far as its kernels repeat themselves.

Under torchrun the processes share every batch; `ecglib.distributed` says what that changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ecglib import CLASSES, __version__, recipes, run_state
from ecglib.distributed import Team, team
from ecglib.errors import DataError
from ecglib.evaluation import predict, report
from ecglib.files import write_atomically
from ecglib.minibatches import batches, parts_of, steps_of
from ecglib.recipes import PUBLISHED, TrainConfig
from ecglib.scores import scores_of
from ecglib.splits import Split
from ecglib.windows import WindowSet

Augmentation = Callable[[Tensor, np.random.Generator], Tensor]

__all__ = ["PUBLISHED", "Run", "TrainConfig", "fingerprint", "fit"]


@dataclass(frozen=True)
class Run:
    """A finished run: ``model`` on the CPU in eval mode, ``history`` (one dict an epoch), ``record`` as in run.json.

    ``validation`` has the indices of the windows that chose the epoch: for a calibration, say.
    """

    model: nn.Module
    history: list[dict[str, float]]
    record: dict[str, Any]
    run_dir: Path
    validation: np.ndarray


def fit(
    model: nn.Module,
    windows: WindowSet,
    split: Split,
    *,
    config: TrainConfig | None = None,
    run_dir: str | os.PathLike[str],
    augment: Augmentation | None = None,
    on_epoch: Callable[[int, nn.Module], None] | None = None,
    progress: bool = True,
) -> Run:
    """Train ``model`` in place on the training part of a split.

    Parameters
    ----------
    model : nn.Module
        ``(N, 1, 720) -> (N, n_classes)``.
    windows : WindowSet
    split : Split
    config : TrainConfig, optional
    run_dir : path
        Takes ``state.safetensors`` after each epoch and ``run.json`` at the end.  If it already holds the state of a
        run with the same configuration, data and split, training goes on from there; a finished run is only loaded.
        Several processes must all see it; the first one writes.
    augment : callable, optional
        Changes a batch of training windows, such as `ecglib.augment.Augment`; its ``repr`` is part of the run's identity.
    on_epoch : callable, optional
        Is given the number of each epoch that ends (of these processes in the first one) and the network in eval mode.

    Returns
    -------
    Run

    Raises
    ------
    DataError
        Nothing to train on; the folder belongs to another run or cannot be written; bfloat16 that the device has not;
        a batch that the processes cannot share evenly; a network with fewer outputs than the windows have classes.
    """
    config = config or TrainConfig()
    if not len(split.train):
        raise DataError("the training part of the split is empty")
    outputs = getattr(model, "options", {}).get("n_classes", len(windows.classes))
    if outputs < len(windows.classes) and outputs <= windows.y.max():
        few = f"the network has {outputs} outputs and the windows have {len(windows.classes)} classes"
        raise DataError(f"{few}; build it with n_classes={len(windows.classes)}")
    train, valid = parts_of(windows, split, config)
    identity = {
        "config": {k: v for k, v in asdict(config).items() if k != "device"},
        "data_sha256": fingerprint(windows),
        "train_sha256": hashlib.sha256(train.tobytes()).hexdigest(),
        "level": split.level,
        "fold": split.fold,
        "split_seed": split.seed,
        "model": {"kind": type(model).__name__, "options": getattr(model, "options", None)},
        "code_version": __version__,
    } | ({"augment": repr(augment)} if augment else {})
    run_dir = Path(run_dir)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write the run folder {run_dir}: {error.strerror}; choose another") from error
    with team(config.device) as us:
        if config.batch_size % us.size:
            raise DataError(f"{us.size} processes cannot share a batch of {config.batch_size}; give a multiple")
        state = _train(
            model.to(us.device), windows, train, valid, config, identity, run_dir, us, augment, on_epoch, progress
        )
        record = {
            **identity,
            **state.machines[-1],
            "earlier_machines": state.machines[:-1],
            "duration_s": round(state.seconds, 1),
            "windows_per_s": round(steps_of(config) * config.batch_size * len(state.history) / state.learning_s, 1),
            "windows": {"train": len(train), "validation": len(valid), "test": len(split.test)},
            "classes_in_training": [c for i, c in enumerate(windows.classes) if (windows.y[train] == i).any()],
            "history": state.history,
        }
        if us.rank == 0:
            write_atomically(run_dir / "run.json", json.dumps(record, indent=1).encode())
    return Run(model.to("cpu").eval(), state.history, record, run_dir, valid)


def fingerprint(windows: WindowSet) -> str:
    """SHA-256 of which windows these are: database, record, time and label of each, in order; and names of other classes.

    The samples are left out on purpose: packing and resampling round them, and the records have checksums of their own.
    """
    digest = hashlib.sha256(windows.y.astype(np.int64).tobytes())
    digest.update(np.round(windows.time * 1e4).astype(np.int64).tobytes())
    digest.update("\n".join(np.char.add(np.char.add(windows.database, "/"), windows.record)).encode())
    if windows.classes != CLASSES:
        digest.update("\n".join(windows.classes).encode())
    return digest.hexdigest()


# Internals -----------------------------------------------------------------------------------------------------


def _train(
    model: nn.Module,
    windows: WindowSet,
    train: np.ndarray,
    valid: np.ndarray,
    config: TrainConfig,
    identity: dict[str, Any],
    run_dir: Path,
    us: Team,
    augment: Augmentation | None,
    on_epoch: Callable[[int, nn.Module], None] | None,
    progress: bool,
) -> run_state.State:
    """All epochs that are still to do; leaves the weights of the last, or best, one in ``model``."""
    bf16, optimizer = recipes.bf16_on(us.device, config), recipes.optimizer_of(model, config)
    state = run_state.resume(run_dir, identity, model, optimizer, us.device)
    if us.rank == 0:
        run_state.sweep(run_dir)
    wrapped = us.wrap(model)  # waits for the others, so that nobody writes while another still reads
    machine = {"device": us.name, "processes": us.size, "bf16": bf16, "torch": torch.__version__}
    names: dict[str, Any] = {} if windows.classes == CLASSES else {"classes": windows.classes}
    per_epoch = steps_of(config) * config.batch_size
    bar = tqdm(
        total=config.epochs * per_epoch, initial=len(state.history) * per_epoch, desc="training", unit=" windows",
        unit_scale=True, disable=not progress or us.rank > 0, leave=False,
    )  # fmt: skip
    while not recipes.ended(state.history, config):
        began = time.perf_counter()
        row = _epoch(wrapped, optimizer, windows, train, config, state.history, us, bf16, augment, bar)
        state.learning_s += time.perf_counter() - began
        model.eval()
        if len(valid) and us.rank == 0:
            logits = predict(model, windows.x[valid])
            row["validation_f1"] = report(windows.y[valid], logits.argmax(1), **names).macro_f1
            row["validation_loss"] = float(
                F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(windows.y[valid]))
            )
        state.history.append(us.told(row))
        state.seconds += time.perf_counter() - began
        if state.machines[-1:] != [machine]:
            state.machines.append(machine)
        shown = {"loss": "loss", "f1": "f1", "validation_f1": "valid f1"}
        bar.set_postfix({name: f"{row[k]:.3f}" for k, name in shown.items() if k in row})
        if us.rank == 0:
            if len(valid) and row["validation_f1"] >= max(r["validation_f1"] for r in state.history):
                state.best = {k: v.detach().clone() for k, v in model.state_dict().items()}
            run_state.write(run_dir, identity, model, optimizer, state)
            if on_epoch:
                on_epoch(len(state.history), model)
    bar.close()
    if state.best:
        model.load_state_dict(state.best)
    us.agree(model)
    return state


def _epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    windows: WindowSet,
    train: np.ndarray,
    config: TrainConfig,
    history: list[dict[str, float]],
    us: Team,
    bf16: bool,
    augment: Augmentation | None,
    bar: tqdm,
) -> dict[str, float]:
    """One pass: mean loss, and macro-F1 of the draws as they were when they were drawn, with dropout."""
    epoch, steps, losses, pairs = len(history), steps_of(config), [], []
    model.train()
    with torch.random.fork_rng(devices=[us.device] if us.device.type == "cuda" else []):
        torch.manual_seed(config.seed * 100_003 + epoch + 7_919 * us.rank)  # dropout
        rng = np.random.default_rng([config.seed, epoch, us.rank, 1])  # of the augmentation
        for step, (x, y) in enumerate(batches(windows, train, config, epoch, us)):
            x = augment(x, rng) if augment else x
            for group in optimizer.param_groups:
                group["lr"] = recipes.rate(config, (epoch * steps + step) / (config.epochs * steps), history)
            with torch.autocast(us.device.type, torch.bfloat16, enabled=bf16):
                logits = model(x).float()
            loss = F.cross_entropy(logits, y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if config.clip_norm:
                nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            losses.append(loss.detach())
            pairs.append(y * logits.shape[1] + logits.detach().argmax(1))
            bar.update(config.batch_size)
    k = logits.shape[1]
    confusion = us.total(torch.bincount(torch.cat(pairs), minlength=k * k)).reshape(k, k)
    loss = us.total(torch.stack(losses).mean()) / us.size
    scored = scores_of(confusion.cpu().numpy())
    return {"epoch": epoch + 1, "loss": float(loss), "f1": scored["f1_macro"], "lr": optimizer.param_groups[0]["lr"]}
