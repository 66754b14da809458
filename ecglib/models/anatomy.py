"""Networks taken apart: layers, parameters and operations, read off the live module."""

from __future__ import annotations

import copy
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ecglib import FS, WINDOW, models
from ecglib.errors import DataError
from ecglib.models.hannun import Hannun
from ecglib.models.murugesan import PAD, TwoBranches
from ecglib.models.receptive import receptive_field
from ecglib.models.zihlmann import SEGMENT, LogSpectrogram


def layers(model: nn.Module, *, samples: int = WINDOW, leaves: bool = False) -> pd.DataFrame:
    """Layers of a network in the order in which they run on one window.

    Parameters
    ----------
    model : nn.Module
        ``(N, 1, samples) -> (N, n_classes)``; left untouched: a copy without numbers runs on torch's meta device.
    samples : int
        Length of the window.
    leaves : bool
        List single convolutions, normalisations …; by default a block is one row.

    Returns
    -------
    DataFrame
        name, label (its published name), kind (its class), shape of the output without the batch, channels, steps (1
        where time is gone), parameters, flops (for one window; a product and a sum count as two), start and step (s):
        when the first step begins, counted from the window's first sample, and how long one lasts.  Step k stands for the
        samples between start + k step and start + (k + 1) step; what it has seen is far more, see `ecglib.models.receptive`.
        Both are NaN where time is gone.

    Raises
    ------
    DataError
        The network does not take such a window.

    Examples
    --------
    >>> from ecglib import models
    >>> layers(models.build("murugesan")).set_index("name").loc["blocks.6", "shape"]
    (128, 48)
    """
    blank, x = copy.deepcopy(model).eval().to("meta"), torch.zeros(1, 1, samples, device="meta")
    ran: list[tuple[str, nn.Module, tuple[int, ...], tuple[int, ...]]] = []
    for name, module in _rows(blank, leaves):
        module.register_forward_hook(lambda m, i, o, name=name: ran.append((name, m, i[0].shape, _shape(o))))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        blank(x)
    flops = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    found, start, step = [], -(ran[0][2][-1] - samples) / 2, 1.0  # the first layer shows how far the window was padded
    last = False  # whether channels come last: they do behind an LSTM and a linear layer, and until the next weights
    for name, module, seen, made in ran:
        last = isinstance(module, nn.LSTM | nn.Linear) or (last and not any(True for _ in module.parameters()))
        channels, steps = (made[-1], made[-2] if len(made) > 2 else 1) if last else (made[1], made[-1])
        begin, long = start, step
        if isinstance(module, nn.LSTM) and seen[1] * seen[2] == samples:  # reads the window itself
            begin, long = 0.0, float(seen[2])
        elif not last:
            if isinstance(module, LogSpectrogram):
                start += (SEGMENT - module.hop) / 2  # a step is the middle of its segment
            start, step = begin, long = start, step * _stride(module)
        timeless = last and len(made) == 2
        found.append(
            {
                "name": name,
                "label": _label(model, name),
                "kind": type(module).__name__,
                "shape": tuple(made[1:]),
                "channels": channels,
                "steps": steps,
                "parameters": sum(p.numel() for p in module.parameters()),
                "flops": flops.get(f"{type(model).__name__}.{name}", 0),
                "start": float("nan") if timeless else begin / FS,
                "step": float("nan") if timeless else long / FS,
            }
        )
    return pd.DataFrame(found)


def totals(model: nn.Module) -> dict[str, int]:
    """Parameters of a network, and its floating-point operations for one window (products and sums count each)."""
    blank = copy.deepcopy(model).eval().to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        blank(torch.zeros(1, 1, WINDOW, device="meta"))
    return {"parameters": sum(p.numel() for p in model.parameters()), "flops": counter.get_total_flops()}


def summary(name: str, layer: str, **options: Any) -> dict[str, Any]:
    """A network in one row of a table.

    Parameters
    ----------
    name : str
        Key of `ecglib.models.MODELS`.
    layer : str
        Layer whose output is its map.
    **options
        Of the network's constructor, other than ``pad``.

    Returns
    -------
    dict
        network, its parameters and operations for one window (millions), label of the layer, its steps if convolutions
        see 720 or 768 samples (NaN where the network does not run so), one step (ms), and how much of the signal a step
        can see (s).
    """
    model = models.build(name, **options)
    whole, field = (
        totals(model),
        receptive_field(models.build(name, width=4, **options), layer),
    )  # the same at any width
    steps = {f"steps of {length}": _steps(model, name, layer, length) for length in (WINDOW, WINDOW + 2 * PAD)}
    return {
        "network": ", ".join([name, *(f"{k} {v}" for k, v in options.items())]),
        "parameters (M)": whole["parameters"] / 1e6,
        "operations (M)": whole["flops"] / 1e6,
        "map": _label(model, layer),
        **steps,
        "one step (ms)": 1000 * field.step_samples / FS,
        "sees (s)": field.samples / FS,
    }


# Internals -----------------------------------------------------------------------------------------------------


def _rows(model: nn.Module, leaves: bool, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Modules to list: plain containers are looked into, and with ``leaves`` everything that has parts."""
    found: list[tuple[str, nn.Module]] = []
    for name, child in model.named_children():
        inside = type(child) in (nn.Sequential, nn.ModuleList) or (leaves and any(child.children()))
        found += _rows(child, leaves, f"{prefix}{name}.") if inside else [(prefix + name, child)]
    return found


def _steps(model: nn.Module, name: str, layer: str, length: int) -> float:
    """Steps of a layer whose network's convolutions see so many samples, NaN where it does not run so."""
    options: dict[str, Any] = model.options  # type: ignore[assignment]
    if "pad" in options:
        model, length = models.build(name, **{**options, "pad": (length - WINDOW) // 2}), WINDOW
    elif isinstance(model, TwoBranches):  # always pads
        length = WINDOW if length == WINDOW + 2 * PAD else 0
    try:
        return layers(model, samples=length).set_index("name")["steps"].astype(float)[layer] if length else float("nan")
    except DataError:  # Hannun's residual sum of two lengths
        return float("nan")


def _label(model: nn.Module, name: str) -> str:
    """Published name of a layer: ECGNet counts its blocks from 1, through both parts; Hannun's code from 0."""
    part, _, index = name.partition(".")
    if not index.isdigit():  # no block: a layer by its own name, or a part of a block
        return name.replace("lstm", "LSTM").replace("_", " ")
    if isinstance(model, TwoBranches) and part in ("blocks", "tail"):
        number = int(index) + (1 if part == "blocks" else 8)
        return f"res{number}" if number > 1 else "block1"
    if part == "blocks":
        return f"block {int(index) + (not isinstance(model, Hannun))}"
    return f"affine {int(index) + 1}" if part == "head" else {"opening": "conv"}.get(part, name)


def _shape(output: Any) -> tuple[int, ...]:
    return tuple((output if isinstance(output, Tensor) else output[0]).shape)


def _stride(module: nn.Module) -> int:
    """By how much a layer thins out time: the longest stride in it."""
    if isinstance(module, LogSpectrogram):
        return module.hop
    strides = [getattr(m, "stride", 1) for m in module.modules()]
    return max(s if isinstance(s, int) else s[-1] for s in strides)
