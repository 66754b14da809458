"""The state of a training run between epochs: one safetensors file that a later process can go on from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from ecglib.errors import DataError
from ecglib.files import write_atomically


@dataclass
class State:
    """What a run knows between two epochs, besides its weights and the optimiser's slots.

    Attributes
    ----------
    history : list of dict
        One row an epoch.
    best : dict of str to Tensor
        Weights of the best epoch so far; empty without validation.
    seconds, learning_s : float
        All of the time that the epochs took, and that of the steps alone (without validation), s.
    machines : list of dict
        Where epochs were trained: one entry, or more if the run was taken elsewhere.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    learning_s: float = 0.0
    machines: list[dict[str, Any]] = field(default_factory=list)


def write(
    run_dir: Path, identity: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, state: State
) -> None:
    """Write ``state.safetensors``: weights, best weights so far, the optimiser's slots, and the history."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in state.best.items()}
    for i, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": v for k, v in slots.items() if v is not None}
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    told = {k: v for k, v in vars(state).items() if k != "best"}
    head = {"identity": json.dumps(identity), "state": json.dumps(told)}
    write_atomically(run_dir / "state.safetensors", to_bytes(tensors, metadata=head))


def resume(
    run_dir: Path, identity: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> State:
    """Take up the state of an earlier run of the same identity, if the folder has one: into model and optimiser too."""
    path = run_dir / "state.safetensors"
    if not path.is_file():
        return State()
    try:
        with safe_open(str(path), framework="pt") as file:
            head = file.metadata() or {}
        found, told = json.loads(head.get("identity", "{}")), json.loads(head.get("state", "{}"))
        tensors = load_file(str(path), device=str(device)) if found == identity else {}
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error}); delete it to begin the run again") from error
    if found != identity:
        raise DataError(
            f"{run_dir} holds another run (configuration, network, data, split or version differ); choose another folder"
        )
    part = lambda prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}  # noqa: E731
    try:
        model.load_state_dict(part("model."))
    except RuntimeError as error:
        raise DataError(f"{run_dir} holds a run of another network; choose another folder") from error
    try:
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in part("optimizer.").items():
            number, slot = key.split(".", 1)
            slots.setdefault(int(number), {})[slot] = value.cpu() if slot == "step" else value
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
        return State(best=part("best."), **told)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is damaged ({error}); delete it to begin the run again") from error


def sweep(run_dir: Path) -> None:
    """Delete what a process that was killed while writing has left."""
    for part in [*run_dir.glob("state.safetensors.*.part"), *run_dir.glob("run.json.*.part")]:
        part.unlink(missing_ok=True)
