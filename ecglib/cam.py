"""Class activation maps of a one-dimensional CNN, and their place in time.

A network here offers ``feature_map(x) -> (N, K, steps)`` and, for the closed form, ``head``: a linear layer whose first
K inputs are the means of the K units over time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ecglib import WINDOW
from ecglib.errors import DataError
from ecglib.modes import evaluating

PADDED = 768  #: samples that the CNN sees: the window and 24 reflected samples at each end

_AT_ONCE = 32  # windows that a CPU maps at once: more would be no faster, and each takes a megabyte of activations


def class_activation_map(model: Any, x: Tensor, target: int | Tensor | None = None) -> Tensor:
    """Class activation map M_c(t) = sum_k w_k^c f_k(t), in closed form.

    Parameters
    ----------
    model : nn.Module
        With ``feature_map`` and a linear ``head`` on ``[mean_t f, ...]``.
    x : Tensor of shape (N, 1, 720)
        Millivolts.
    target : int or Tensor of shape (N,), optional
        Class of each window; None gives the maps of every class.

    Returns
    -------
    Tensor of shape (N, 48), or (N, n_classes, 48) without a target
        Logit units: its mean over time is exactly what the CNN adds to the logit of the class (the LSTM's part and the
        bias are the rest).

    Raises
    ------
    DataError
        The model has no such head: use `grad_cam`; or x is no tensor of windows.

    References
    ----------
    Zhou et al., Learning deep features for discriminative localization, CVPR 2016, arXiv:1512.04150.  There f is summed
    over positions, here averaged (as the network pools), so a map is 48 times theirs for the same weights.
    """
    head = getattr(model, "head", None)
    if not isinstance(head, nn.Linear) or not hasattr(model, "feature_map"):
        raise DataError(f"{type(model).__name__} has no linear head on a pooled feature_map; use grad_cam instead")
    _check_windows(x)
    index = None if target is None else class_index(target, x, head.out_features)
    parts = x.split(_AT_ONCE) if x.device.type == "cpu" else (x,)
    with evaluating(model), torch.no_grad():
        maps = torch.cat([_every_class(head.weight, model.feature_map(part)) for part in parts])
    return maps if index is None else maps[torch.arange(len(x)), index]


def grad_cam(model: Any, x: Tensor, target: int | Tensor, *, relu: bool = False) -> Tensor:
    """Grad-CAM on the last map of the CNN: sum_k alpha_k f_k(t) with alpha_k the mean over t of d logit / d f_k(t).

    Parameters
    ----------
    model, x
        As `class_activation_map`; the head may be anything differentiable behind ``feature_map`` that ``forward`` runs.
    target : int or Tensor of shape (N,)
    relu : bool
        The paper keeps the positive part only; off by default, so that evidence against a class stays visible.

    Returns
    -------
    Tensor of shape (N, 48)
        With global average pooling and a linear head: the class activation map divided by the number of steps.

    References
    ----------
    Selvaraju et al., Grad-CAM, ICCV 2017, arXiv:1610.02391.
    """
    if not hasattr(model, "feature_map"):
        raise DataError(f"{type(model).__name__} has no feature_map to explain; use a network that has one")
    _check_windows(x)
    kept: list[Tensor] = []
    original = model.feature_map

    def record(signal: Tensor) -> Tensor:
        kept.append(original(signal).detach().requires_grad_())  # back-propagate to the map and no further
        return kept[-1]

    with evaluating(model), torch.enable_grad():
        own = {k: v for k, v in vars(model).items() if k == "feature_map"}
        try:
            vars(model)["feature_map"] = record  # shows before the class's method, or a submodule of that name
            logits = model(x)
        finally:
            del vars(model)["feature_map"]
            vars(model).update(own)
        if not kept:
            raise DataError(f"{type(model).__name__} does not run its feature_map")
        index = class_index(target, x, logits.shape[1])
        (gradient,) = torch.autograd.grad(logits[torch.arange(len(x)), index].sum(), kept[-1])
    maps = (gradient.mean(-1, keepdim=True) * kept[-1].detach()).sum(1)
    return maps.relu() if relu else maps


def upsample(maps: Tensor, length: int = WINDOW) -> Tensor:
    """Bring maps to one value a sample, each step over the samples that it saw.

    Parameters
    ----------
    maps : Tensor of shape (..., steps)
        Steps that divide the padded window of ``length + 48`` samples evenly, or else, as the 45 of a network without
        padding do, the window itself.
    length : int
        Samples of the window.

    Returns
    -------
    Tensor of shape (..., length)
        Linear between the centres of the steps: step k of 48 is centred on sample 16 k + 7.5 of the padded window, so on
        sample 16 k - 16.5 of the window.  Stretching 48 steps over 720 samples instead, as the deck's remark suggests,
        displaces the map by up to 24 samples (67 ms) at the ends.
    """
    steps = maps.shape[-1]
    pad = padding(steps, length)
    width = (length + 2 * pad) / steps  # samples in a step
    exact = torch.promote_types(maps.dtype, torch.float32)  # half precision cannot count to 720
    position = (torch.arange(length, device=maps.device, dtype=exact) + pad + 0.5) / width - 0.5
    position = position.clamp(0, steps - 1)
    left = position.floor().long().clamp(max=max(0, steps - 2))
    right = (left + 1).clamp(max=steps - 1)
    weight = position - left
    return maps[..., left] * (1 - weight) + maps[..., right] * weight


def step_edges(steps: int = 48, *, length: int = WINDOW) -> Tensor:
    """Borders of the map's steps in samples of the window, shape (steps + 1,); the outer ones lie in the padding."""
    pad = padding(steps, length)
    return torch.linspace(-pad, length + pad, steps + 1)


# Internals -----------------------------------------------------------------------------------------------------


def _every_class(weight: Tensor, f: Tensor) -> Tensor:
    """Maps (n, n_classes, steps) of units f (n, K, steps), whose weights are the first K columns of the head's."""
    return torch.einsum("ck,nkt->nct", weight[:, : f.shape[1]], f)


def _check_windows(x: Any) -> None:
    if not (isinstance(x, Tensor) and x.dim() == 3 and x.is_floating_point()):
        kind = f"shape {tuple(x.shape)}, {x.dtype}" if hasattr(x, "shape") else type(x).__name__
        raise DataError(f"expected a float32 tensor of windows (N, 1, {WINDOW}), mV, received {kind}")


def padding(steps: int, length: int = WINDOW) -> int:
    """Samples that the network put before the window: 24, unless only the window itself divides into the steps."""
    pad = (PADDED - WINDOW) // 2
    return 0 if (length + 2 * pad) % steps and length % steps == 0 else pad


def class_index(target: int | Tensor, x: Tensor, n_classes: int) -> Tensor:
    """Class of each window, shape (N,), from one for all or one for each."""
    index = torch.as_tensor(target, device=x.device).long()
    if index.shape not in {(), (len(x),)}:
        raise DataError(f"expected one target, or one for each of {len(x)} windows; received {tuple(index.shape)}")
    index = index.expand(len(x))
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < n_classes:
        raise DataError(f"targets must lie in 0…{n_classes - 1}; received {int(index.min())}…{int(index.max())}")
    return index
