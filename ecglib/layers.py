"""One layer of a network of which nothing is known: its output, another output in its place, and when its steps look."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ecglib.errors import DataError
from ecglib.modes import differentiable_rnn

_PROBES, _PROBED = 4, 8  # random signals, and steps of the layer, that show where a step looks


class _Reached(Exception):
    """The layer has run."""


def step_centres(module: nn.Module, layer: str, *, length: int) -> np.ndarray:
    """Sample of the input in the middle of what each step of a layer sees, shape (S,).

    Measured, since strides and padding hide in code: the samples to which a step has a gradient, on random signals, are
    its receptive field, and the middles of fields lie on a line.  The line is fitted on a signal four times as long,
    where the layer allows that, so that even the fields of a deep stack end within it.  A layer whose steps see all of
    the signal (behind an LSTM, say) is laid evenly over it.
    """
    steps = _fields(module, layer, length, probes=1)[0]
    for longer in (4 * length, length):
        try:
            found, probed, ends = _fields(module, layer, longer, probes=_PROBED)
        except (RuntimeError, ValueError):  # another length is no input of this module
            continue
        inner = (ends[:, 0] > 0) & (ends[:, 1] < longer - 1)
        if inner.sum() > 1 and np.ptp(ends[inner].mean(1)) > 0:
            stride, first = np.polyfit(probed[inner], ends[inner].mean(1), 1)
            if abs(found - steps - (longer - length) / stride) <= 1:  # else steps depend on the length
                return np.round(first + stride * np.arange(steps), 6)
    return (np.arange(steps) + 0.5) * length / steps - 0.5


def output_of(module: nn.Module, layer: str, x: Tensor) -> Tensor:
    """Output (N, K, S) of a named layer for what the module sees, (N, 1, length)."""
    kept: list[Any] = []

    def keep(output: Any) -> None:
        kept.append(output)
        raise _Reached

    with contextlib.suppress(_Reached):  # what follows the layer is not wanted, and may ask for another length
        run(module, layer, x, keep)
    if len(kept) != 1 or not isinstance(kept[0], Tensor) or kept[0].dim() != 3:
        what = [tuple(k.shape) if isinstance(k, Tensor) else type(k).__name__ for k in kept]
        raise DataError(
            f"layer {layer!r} gave {what or 'nothing'} where one map (N, K, steps) was expected; name another"
        )
    return kept[0]


def run(module: nn.Module, layer: str, x: Tensor, hook: Callable[[Tensor], Any]) -> Tensor:
    """The module's output; what ``hook`` returns of the layer's output, unless None, takes its place."""
    handle = module.get_submodule(layer).register_forward_hook(lambda _, inputs, output: hook(output))
    try:
        return module(x)
    finally:
        handle.remove()


# Internals -----------------------------------------------------------------------------------------------------


def _fields(module: nn.Module, layer: str, length: int, *, probes: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Number of steps, some of them (P,), and the first and last sample (P, 2) that each depends on."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_PROBES, 1, length, generator=generator).to(next(module.parameters(), torch.zeros(1)))
    x.requires_grad_()
    with differentiable_rnn(module), torch.enable_grad():
        f = output_of(module, layer, x)
        sign = torch.randn(f.shape[:2], generator=generator).to(f)  # so that units do not cancel
        probed = np.unique(np.linspace(0, f.shape[-1] - 1, min(f.shape[-1], probes + 2)).round().astype(int))
        slopes = [torch.autograd.grad((sign * f[..., s]).sum(), x, retain_graph=True)[0] for s in probed.tolist()]
    seen = torch.stack(slopes).ne(0).any(1).any(1).cpu().numpy()  # (P, length)
    return f.shape[-1], probed, np.stack([seen.argmax(1), length - 1 - seen[:, ::-1].argmax(1)], axis=1)
