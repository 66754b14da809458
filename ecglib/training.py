"""One small training loop: class-balanced draws, AdamW, a one-cycle schedule, checkpoints that survive a kill.

Every random choice of an epoch follows from ``(seed, epoch)``, so a run that was killed and resumed ends with the
weights of one that was not.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ecglib import CLASSES, __version__, run_state
from ecglib.errors import DataError
from ecglib.evaluation import predict, report
from ecglib.files import write_atomically
from ecglib.splits import Split, split
from ecglib.windows import WindowSet


@dataclass(frozen=True)
class TrainConfig:
    """Choices of a training run.

    Attributes
    ----------
    epochs, batch_size : int
    draws : int
        Windows drawn in an epoch, every class equally often (with replacement).
    lr, weight_decay : float
        Peak of the one-cycle schedule, and decoupled weight decay, of AdamW.
    validation : float
        Share of the *training* part, split off at the same level, on which the best epoch is chosen by macro-F1;
        0 trains for all epochs and keeps the last weights.  The test part is never looked at.
    device : str, optional
        "cpu", "cuda" …; by default the GPU if there is one.
    bf16 : bool
        Forward pass under bfloat16 autocast.
    seed : int
    """

    epochs: int = 20
    batch_size: int = 128
    draws: int = 8000
    lr: float = 2e-3
    weight_decay: float = 1e-2
    validation: float = 0.0
    device: str | None = None
    bf16: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Run:
    """A finished run: ``model`` on the CPU in eval mode, ``history`` (one dict an epoch), ``record`` as in run.json."""

    model: nn.Module
    history: list[dict[str, float]]
    record: dict[str, Any]
    run_dir: Path


def fit(
    model: nn.Module,
    windows: WindowSet,
    split: Split,
    *,
    config: TrainConfig | None = None,
    run_dir: str | os.PathLike[str],
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

    Returns
    -------
    Run

    Raises
    ------
    DataError
        Nothing to train on; or the folder belongs to another run or cannot be written.
    """
    config = config or TrainConfig()
    if not len(split.train):
        raise DataError("the training part of the split is empty")
    train, valid = _validation_part(windows, split, config)
    identity = {
        "config": {k: v for k, v in asdict(config).items() if k != "device"},
        "data_sha256": fingerprint(windows),
        "train_sha256": hashlib.sha256(train.tobytes()).hexdigest(),
        "level": split.level,
        "fold": split.fold,
        "split_seed": split.seed,
        "model": {"kind": type(model).__name__, "options": getattr(model, "options", None)},
        "code_version": __version__,
    }
    device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    run_dir = Path(run_dir)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write the run folder {run_dir}: {error.strerror}; choose another") from error

    model.to(device)
    steps = max(1, config.draws // config.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    done, history, best, seconds = run_state.resume(run_dir, identity, model, optimizer, device)
    bar = tqdm(total=config.epochs * steps, initial=done * steps, desc="training", disable=not progress, leave=False)
    for epoch in range(done, config.epochs):
        began, losses = time.perf_counter(), []
        model.train()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(config.seed * 100_003 + epoch)  # dropout
            for step, (x, y) in enumerate(_batches(windows, train, config, epoch, device)):
                for group in optimizer.param_groups:  # the schedule is a function of the step alone, so it resumes
                    group["lr"] = _one_cycle(config.lr, (epoch * steps + step) / (config.epochs * steps))
                with torch.autocast(device.type, torch.bfloat16) if config.bf16 else nullcontext():
                    loss = F.cross_entropy(model(x).float(), y)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
                bar.update()
        model.eval()
        row = {"epoch": epoch + 1, "loss": float(torch.stack(losses).mean())}
        if len(valid):
            guess = predict(model, windows.x[valid]).argmax(1)
            row["validation_f1"] = report(windows.y[valid], guess).macro_f1
        seconds += time.perf_counter() - began
        history.append(row)
        bar.set_postfix({k: f"{v:.3f}" for k, v in row.items() if k != "epoch"})
        if len(valid) and row["validation_f1"] >= max(r["validation_f1"] for r in history):
            best = {k: v.detach().clone() for k, v in model.state_dict().items()}
        run_state.write(run_dir, identity, model, optimizer, best, history, seconds)
    bar.close()
    if best:
        model.load_state_dict(best)
    model.to("cpu").eval()
    record = {
        **identity,
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
        "duration_s": round(seconds, 1),
        "windows": {"train": len(train), "validation": len(valid), "test": len(split.test)},
        "classes_in_training": [c for i, c in enumerate(CLASSES) if (windows.y[train] == i).any()],
        "history": history,
    }
    write_atomically(run_dir / "run.json", json.dumps(record, indent=1).encode())
    return Run(model, history, record, run_dir)


def fingerprint(windows: WindowSet) -> str:
    """SHA-256 of which windows these are: database, record, time and label of each, in order.

    The samples are left out on purpose: packing and resampling round them, and the records have checksums of their own.
    """
    digest = hashlib.sha256(windows.y.astype(np.int64).tobytes())
    digest.update(np.round(windows.time * 1e4).astype(np.int64).tobytes())
    digest.update("\n".join(np.char.add(np.char.add(windows.database, "/"), windows.record)).encode())
    return digest.hexdigest()


# Internals -----------------------------------------------------------------------------------------------------


def _one_cycle(peak: float, progress: float, warm: float = 0.15) -> float:
    """Learning rate: linear to the peak in the first 15 % of the steps, then half a cosine down to nothing."""
    if progress < warm:
        return peak * (0.05 + 0.95 * progress / warm)
    return peak * 0.5 * (1 + float(np.cos(np.pi * (progress - warm) / (1 - warm))))


def _validation_part(windows: WindowSet, whole: Split, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    if not config.validation:
        return whole.train, np.empty(0, int)
    level = "patient" if whole.level == "ds1-ds2" else whole.level
    inner = split(windows[whole.train], level=level, test_fraction=config.validation, seed=config.seed)[0]
    return whole.train[inner.train], whole.train[inner.test]


def _batches(
    windows: WindowSet, train: np.ndarray, config: TrainConfig, epoch: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of one epoch, every class that the training part has drawn equally often."""
    rng = np.random.default_rng([config.seed, epoch])
    y = windows.y[train]
    weight = 1.0 / np.bincount(y)[y]
    drawn = train[rng.choice(len(train), size=max(config.draws, config.batch_size), p=weight / weight.sum())]
    for i in range(0, len(drawn) - config.batch_size + 1, config.batch_size):
        index = drawn[i : i + config.batch_size]
        yield torch.from_numpy(windows.x[index]).to(device), torch.from_numpy(windows.y[index]).to(device)
