"""Training in several processes: started by torchrun, or in a process group that is there already.

Each process takes its share of every batch, and the gradients are averaged, so that the number of processes does not
change what is learned, with two exceptions.  Batch normalisation sees the share of its own process alone, which is a
smaller batch, and keeps the running averages of process 0.  Dropout draws its own numbers in each process.  A network
with neither learns the same weights up to the rounding of sums.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """The processes that train together: number ``rank`` of ``size``, on ``device``; one alone is a team too."""

    rank: int
    size: int
    device: torch.device

    @property
    def name(self) -> str:
        """The device in words."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"CPU, {torch.get_num_threads()} threads"

    def wrap(self, model: nn.Module) -> nn.Module:
        """Model whose backward pass averages the gradients; every process gets the weights of process 0."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, device_ids=[self.device] if self.device.type == "cuda" else None)

    def total(self, value: Tensor) -> Tensor:
        """Sum over the processes."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def told(self, value: T) -> T:
        """What process 0 says; the others' values are ignored."""
        said = [value]
        if self.size > 1:
            dist.broadcast_object_list(said, device=self.device)
        return said[0]

    def agree(self, model: nn.Module) -> None:
        """Give every process the weights and buffers of process 0."""
        if self.size > 1:
            for value in model.state_dict().values():
                dist.broadcast(value, 0)


def leads() -> bool:
    """Whether this process is the one that writes what all have learned: the only one, or torchrun's first."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def team(device: str | None) -> Iterator[Team]:
    """Join the other processes for a while, on ``device`` (by default a GPU of one's own if there is one).

    Several processes are noticed by the variables that torchrun sets, or by `torch.distributed` being initialised;
    they meet through NCCL on GPUs and Gloo on CPUs.
    """
    started = int(os.environ.get("WORLD_SIZE", "1")) > 1 and {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    joins = started and not dist.is_initialized()
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if place.type == "cuda" and place.index is None:
        own = int(os.environ.get("LOCAL_RANK", "0")) if started else torch.cuda.current_device()
        place = torch.device("cuda", own)
        torch.cuda.set_device(place)
    if joins:
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        there = dist.is_available() and dist.is_initialized()
        yield Team(dist.get_rank() if there else 0, dist.get_world_size() if there else 1, place)
    finally:
        if joins:
            dist.destroy_process_group()
