"""The state of a training run between epochs: one safetensors file that a later process can go on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from ecglib.errors import DataError
from ecglib.files import write_atomically


def write(
    run_dir: Path,
    identity: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
    history: list[dict[str, float]],
    seconds: float,
) -> None:
    """Write ``state.safetensors``: weights, best weights so far, the optimiser's slots, and the history."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in best.items()}
    for i, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": v for k, v in slots.items()}
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    head = {"identity": json.dumps(identity), "history": json.dumps(history), "seconds": str(seconds)}
    write_atomically(run_dir / "state.safetensors", to_bytes(tensors, metadata=head))


def resume(
    run_dir: Path, identity: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[int, list[dict[str, float]], dict[str, Tensor], float]:
    """Take up the state of an earlier, unfinished run, if the folder has one of the same identity."""
    path = run_dir / "state.safetensors"
    if not path.is_file():
        return 0, [], {}, 0.0
    try:
        with safe_open(str(path), framework="pt") as file:
            head = file.metadata() or {}
    except SafetensorError as error:
        raise DataError(f"{path} is damaged ({error}); delete it to begin the run again") from error
    if json.loads(head.get("identity", "{}")) != identity:
        raise DataError(
            f"{run_dir} holds another run (configuration, network, data, split or version differ); choose another folder"
        )
    tensors = load_file(str(path), device=str(device))
    part = lambda prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}  # noqa: E731
    try:
        model.load_state_dict(part("model."))
    except RuntimeError as error:
        raise DataError(f"{run_dir} holds a run of another network; choose another folder") from error
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in part("optimizer.").items():
        number, slot = key.split(".", 1)
        slots.setdefault(int(number), {})[slot] = value.cpu() if slot == "step" else value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    history = json.loads(head["history"])
    return len(history), history, part("best."), float(head["seconds"])
