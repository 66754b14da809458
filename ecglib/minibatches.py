"""What a run learns from: its part of the windows, the draws of an epoch, and this process's share of each batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ecglib.distributed import Team
from ecglib.recipes import TrainConfig
from ecglib.splits import Split, split
from ecglib.windowset import WindowSet


def steps_of(config: TrainConfig) -> int:
    """Batches of an epoch."""
    return max(1, config.draws // config.batch_size)


def parts_of(windows: WindowSet, whole: Split, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """Indices to learn from and to choose the epoch by, both of the training part of a split."""
    if not config.validation:
        return whole.train, np.empty(0, int)
    level = "patient" if whole.level == "ds1-ds2" else whole.level
    inner = split(windows[whole.train], level=level, test_fraction=config.validation, seed=config.seed)[0]
    return whole.train[inner.train], whole.train[inner.test]


def batches(
    windows: WindowSet, train: np.ndarray, config: TrainConfig, epoch: int, us: Team
) -> Iterator[tuple[Tensor, Tensor]]:
    """Our share of the batches of an epoch, every class that the training part has drawn equally often."""
    rng = np.random.default_rng([config.seed, epoch])
    y = windows.y[train]
    weight = 1.0 / np.bincount(y)[y]
    drawn = train[rng.choice(len(train), size=max(config.draws, config.batch_size), p=weight / weight.sum())]
    for i in range(0, len(drawn) - config.batch_size + 1, config.batch_size):
        index = drawn[i : i + config.batch_size][us.rank :: us.size]
        yield torch.from_numpy(windows.x[index]).to(us.device), torch.from_numpy(windows.y[index]).to(us.device)
