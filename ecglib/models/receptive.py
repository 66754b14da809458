"""What one step of a map can see, measured on the live module."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ecglib import WINDOW
from ecglib.errors import DataError, check_name
from ecglib.models.murugesan import TwoBranches


@dataclass(frozen=True)
class Field:
    """Receptive field of one step of a map, and the distance between two steps, both in samples."""

    samples: int
    step_samples: int


def receptive_field(model: nn.Module, name: str) -> Field:
    """Samples that one step of a layer's output can see, measured: where its gradient is not zero.

    Parameters
    ----------
    model : nn.Module
        Left untouched: a copy in double precision takes positive weights, averages instead of maxima, and an input long
        enough, so that no path is closed and no end is near.
    name : str
        Module whose output is the map, such as "blocks.6".

    Returns
    -------
    Field

    Raises
    ------
    UnknownNameError
        The network has no such layer.
    DataError
        The layer is none of the convolutions'.
    """
    check_name("layer", name, [n for n, _ in model.named_modules() if n])
    if isinstance(kind := model.get_submodule(name), nn.LSTM | nn.Linear | nn.ModuleList):
        raise DataError(f"layer {name!r} is a {type(kind).__name__}; name a convolution, or a block of them")
    open_ = _opened(copy.deepcopy(model).eval().double())
    caught: list[Tensor] = []

    def stop(module: nn.Module, inputs: Any, output: Tensor) -> None:
        caught.append(output)
        raise _Reached

    open_.get_submodule(name).register_forward_hook(stop)
    pad, length = getattr(model, "options", {}).get("pad", 0), 4096
    while True:
        x = 1 + torch.rand(1, 1, length - 2 * pad, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        x.requires_grad_()
        lstm = [x[..., :WINDOW].detach()] if isinstance(model, TwoBranches) else []  # which takes no other length
        try:
            open_(x, *lstm)
        except _Reached:
            rows = caught.pop().flatten(1, -2).sum(1)[0]  # (steps,)
        middle = len(rows) // 2
        seen = [_support(torch.autograd.grad(rows[k], x, retain_graph=True)[0]) for k in (middle, middle + 1)]
        if min(a for a, _ in seen) > 0 and max(b for _, b in seen) < x.shape[-1] - 1:
            (a, b), (a2, _) = seen
            return Field(b - a + 1, a2 - a)
        length *= 2


# Internals -----------------------------------------------------------------------------------------------------


class _Reached(Exception):
    """The layer has run; the rest of the network need not."""


def _opened(model: nn.Module) -> nn.Module:
    """``model`` so that every output grows with every input it can see."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.MaxPool1d):
                setattr(module, name, nn.AvgPool1d(child.kernel_size, child.stride))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d):
                module.weight.fill_(1 / module.weight[0].numel())
                if module.bias is not None:
                    module.bias.fill_(100.0)  # keeps every ReLU open, whatever the logarithm of a spectrum gave
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.reset_parameters()
    return model


def _support(gradient: Tensor) -> tuple[int, int]:
    where = torch.nonzero(gradient.flatten()).flatten()
    return int(where[0]), int(where[-1])
