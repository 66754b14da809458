"""Recipes of a training run: its choices, ours and those that the papers' code states, and what follows from them.

A learning rate is a function of how far the run has come and of its history, so a run that goes on after a kill has the
rates of one that was never stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from ecglib.errors import DataError, check_name

OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("one-cycle", "constant", "plateau")


@dataclass(frozen=True)
class TrainConfig:
    """Choices of a training run.

    Attributes
    ----------
    epochs, batch_size : int
        Several processes share a batch.
    draws : int
        Windows drawn in an epoch, every class equally often (with replacement).
    lr, weight_decay : float
        Peak of the learning rate, and weight decay (of "adamw" decoupled, else an L2 penalty).
    optimizer : {"adamw", "adam", "sgd"}
    schedule : {"one-cycle", "constant", "plateau"}
        See `rate`; "plateau" needs a validation part.
    clip_norm : float, optional
        Largest norm of the gradient of all weights together.
    validation : float
        Share of the *training* part, split off at the same level, on which the best epoch is chosen by macro-F1 (the
        later of equal ones); 0 trains for all epochs and keeps the last weights.  The test part is never looked at.
    patience : int, optional
        Epochs without a better macro-F1 on the validation part after which the run ends.
    device : str, optional
        "cpu", "cuda" …; by default the GPU if there is one.
    bf16 : bool, optional
        Forward pass under bfloat16 autocast; by default where the device computes in it.
    seed : int
    """

    epochs: int = 20
    batch_size: int = 128
    draws: int = 8000
    lr: float = 2e-3
    weight_decay: float = 1e-2
    optimizer: str = "adamw"
    schedule: str = "one-cycle"
    clip_norm: float | None = None
    validation: float = 0.0
    patience: int | None = None
    device: str | None = None
    bf16: bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_name("optimizer", self.optimizer, OPTIMIZERS)
        check_name("schedule", self.schedule, SCHEDULES)
        if min(self.epochs, self.batch_size, self.draws) < 1:
            given = f"{self.epochs}, {self.batch_size}, {self.draws}"
            raise DataError(f"epochs, batch_size and draws are {given}; give 1 or more of each")
        if not self.validation and (self.schedule == "plateau" or self.patience is not None):
            what = "patience" if self.patience is not None else "schedule 'plateau'"
            raise DataError(f"{what} needs a validation part; give validation a share such as 0.1")


_ALL: dict[str, Any] = {"weight_decay": 0.0, "draws": 16_000}  # 2000 windows of each class, as ECGNet's epoch has
#: Training as the papers' code states it, by name of the network (Bala93/ECG-Arythmia ``v3/train.py``, awni/ecg
#: ``ecg/train.py``, yruffiner/ecg-classification ``codes/train.py``).  Ours in all of them: the balanced draws, the part
#: for validation, and macro-F1 to choose the epoch by (Hannun et al. watch the loss, ECGNet's code its test accuracy;
#: Zihlmann et al. weight the loss by class, and train their CRNN in phases).
PUBLISHED: Mapping[str, TrainConfig] = MappingProxyType(
    {
        "murugesan": TrainConfig(50, 8, lr=0.01, optimizer="sgd", schedule="constant", **_ALL),
        "hannun": TrainConfig(
            100, 32, lr=1e-3, optimizer="adam", schedule="plateau", clip_norm=1.0, validation=0.1, patience=8, **_ALL
        ),
        "zihlmann": TrainConfig(
            500, 20, lr=1e-3, optimizer="adam", schedule="constant", validation=0.1, patience=100, **_ALL
        ),
    }
)


def optimizer_of(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Optimiser of a model's weights; "sgd" is plain, without momentum, as ECGNet's code has it."""
    kinds: dict[str, Any] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    return kinds[config.optimizer](model.parameters(), lr=config.lr, weight_decay=config.weight_decay)


def bf16_on(device: torch.device, config: TrainConfig) -> bool:
    """Whether to compute in bfloat16: as asked for, else where the device has instructions for it.

    Emulated it is slower than float32, and the backward pass of an LSTM does not exist on a CPU without them.
    """
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu._is_avx512_bf16_supported()  # what oneDNN's kernels need
    if config.bf16 and not able:
        raise DataError(f"bf16 is asked for and this {device.type} does not compute in it; leave bf16 out")
    return able if config.bf16 is None else config.bf16


def ended(history: Sequence[dict[str, float]], config: TrainConfig) -> bool:
    """Whether the run has had its epochs, or its patience is at an end."""
    if config.patience is None or not history:
        return len(history) >= config.epochs
    scores = [row["validation_f1"] for row in history]
    return len(history) >= config.epochs or len(scores) - 1 - scores.index(max(scores)) >= config.patience


def rate(config: TrainConfig, progress: float, history: Sequence[dict[str, float]]) -> float:
    """Learning rate of a step, from the share of the run's steps that are done and the epochs so far."""
    if config.schedule == "one-cycle":
        return one_cycle(config.lr, progress)
    return plateau(config.lr, [r["validation_loss"] for r in history]) if config.schedule == "plateau" else config.lr


def one_cycle(peak: float, progress: float, warm: float = 0.15) -> float:
    """Learning rate: linear to the peak in the first 15 % of the steps, then half a cosine down to nothing."""
    if progress < warm:
        return peak * (0.05 + 0.95 * progress / warm)
    return peak * 0.5 * (1 + float(np.cos(np.pi * (progress - warm) / (1 - warm))))


def plateau(peak: float, losses: Sequence[float]) -> float:
    """Learning rate of Hannun et al.: a tenth of it after three epochs without a better validation loss, down to 0.001 peak.

    `torch.optim.lr_scheduler.ReduceLROnPlateau` replayed over the losses so far, with the factor, patience and floor of
    awni/ecg, ``ecg/train.py``.  Keras, which that code uses, counts the epoch of a reduction as the first of the next
    three; torch does not.
    """
    replay = torch.optim.SGD([torch.zeros(1)], lr=peak)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        replay, factor=0.1, patience=2, threshold=1e-4, threshold_mode="abs", min_lr=1e-3 * peak
    )
    for loss in losses:
        scheduler.step(loss)
    return float(replay.param_groups[0]["lr"])
