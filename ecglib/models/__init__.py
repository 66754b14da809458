"""Networks by name, and their checkpoints.

Every network maps windows ``(N, 1, 720)`` in mV to logits ``(N, n_classes)``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes  # unlike save_file it leaves the file's permissions to the umask
from torch import nn

from ecglib.errors import DataError, check_name
from ecglib.files import write_atomically
from ecglib.models.compact import Compact
from ecglib.models.hannun import Hannun
from ecglib.models.murugesan import Murugesan, MurugesanGAP
from ecglib.models.zihlmann import Zihlmann

__all__ = ["MODELS", "Compact", "Hannun", "Murugesan", "MurugesanGAP", "Zihlmann", "build", "load", "metadata", "save"]

#: three networks as published, and ours: ECGNet cut at its map of 48 steps, and a small one
MODELS: dict[str, type[nn.Module]] = {
    "hannun": Hannun, "zihlmann": Zihlmann, "murugesan": Murugesan, "murugesan-gap": MurugesanGAP,
    "compact": Compact,
}  # fmt: skip


def build(name: str, *, n_classes: int = 8, seed: int = 0, **options: Any) -> nn.Module:
    """Build an untrained network.

    Parameters
    ----------
    name : str
        Key of `MODELS`.
    n_classes : int
    seed : int
        Of the initial weights; the global generator is left as it was.
    **options
        Of the network's constructor, such as ``width`` (channels of the first convolution) or Zihlmann's ``hop``.

    Returns
    -------
    nn.Module
        In eval mode: ``forward(x (N, 1, 720)) -> logits (N, n_classes)``.

    Examples
    --------
    >>> build("murugesan-gap")(torch.zeros(2, 1, 720)).shape
    torch.Size([2, 8])
    """
    check_name("model", name, MODELS)
    if n_classes < 1:
        raise DataError(f"n_classes is {n_classes}; give at least 1")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name](n_classes=n_classes, **options).eval()


def save(model: nn.Module, checkpoint: str | os.PathLike[str], *, notes: Mapping[str, Any] | None = None) -> Path:
    """Write a checkpoint: safetensors, weight matrices in half precision (10 bits of mantissa), atomically.

    Half precision halves the file; evaluate what `load` returns, not what was saved, if the last digit matters.
    """
    checkpoint = Path(checkpoint)
    name = next((n for n, kind in MODELS.items() if type(model) is kind), None)
    if name is None:
        raise DataError(f"cannot save a {type(model).__name__}; only {', '.join(MODELS)} could be loaded again")
    tensors = {
        k: (v.half() if v.is_floating_point() and v.dim() > 1 else v).detach().cpu().contiguous()
        for k, v in model.state_dict().items()
    }
    head = {"model": name, "options": json.dumps(model.options), "notes": json.dumps(dict(notes or {}))}
    return write_atomically(checkpoint, to_bytes(tensors, metadata=head), parents=True)


def load(checkpoint: str | os.PathLike[str]) -> nn.Module:
    """Load a checkpoint written by `save`; returns the network in eval mode, float32, on the CPU.

    Raises
    ------
    DataError
        Not there, not safetensors, or not a network of this package.
    """
    head = _head(checkpoint)
    check_name("model", head["model"], MODELS)
    try:
        with safe_open(str(checkpoint), framework="pt") as file:
            state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (not a dict)
        options = json.loads(head["options"])
        with torch.device("meta"):  # shapes alone: options of a damaged file may ask for more than the memory has
            MODELS[head["model"]](**options).load_state_dict(state, assign=True)
        model = build(head["model"], **options)
        model.load_state_dict(state)  # copies into float32 parameters
    except Exception as error:  # other tensors, other options: whatever the constructor trips over
        why = (str(error).splitlines() or [type(error).__name__])[-1].strip(" \t.")[:200]
        raise DataError(
            f"checkpoint {checkpoint} does not fit the model {head['model']!r}: {why}; train it again"
        ) from error
    if not all(bool(v.isfinite().all()) for v in model.state_dict().values()):
        raise DataError(f"checkpoint {checkpoint} holds weights that are no numbers; train it again")
    return model.eval()


def metadata(checkpoint: str | os.PathLike[str]) -> dict[str, Any]:
    """Notes that were saved with a checkpoint: its data, split, seed and results."""
    try:
        notes = json.loads(_head(checkpoint)["notes"])
    except (json.JSONDecodeError, RecursionError):
        notes = None
    if not isinstance(notes, dict):
        raise DataError(f"checkpoint {checkpoint} has notes that cannot be read; save it again with its notes")
    return notes


def _head(checkpoint: str | os.PathLike[str]) -> dict[str, str]:
    if not Path(checkpoint).is_file():
        raise DataError(f"no checkpoint {checkpoint}; train one with 'ecglib train' or correct the path")
    try:
        with safe_open(str(checkpoint), framework="pt") as file:
            head = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{checkpoint} is not a safetensors file ({error}); only safetensors are read") from error
    if not {"model", "options", "notes"} <= set(head):
        raise DataError(f"{checkpoint} was not written by ecglib: its header names no model")
    return head
