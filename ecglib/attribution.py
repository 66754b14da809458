"""The same call for every explanation and every control: relevance of each sample for a class.

A control looks at the signal alone, or at nothing; an explanation that does not beat it has not shown that it explains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ecglib import cam, masks
from ecglib.errors import check_name


def attribute(method: str, model: nn.Module, x: Tensor, target: int | Tensor, **options: Any) -> Tensor:
    """Relevance of each sample for the target class.

    Parameters
    ----------
    method : str
        Key of `METHODS` or `CONTROLS`.
    model : nn.Module
        See `ecglib.models`.
    x : Tensor of shape (N, 1, 720)
    target : int or Tensor of shape (N,)
    **options
        Of the method: those of `ecglib.masks.learn_mask` for masks, ``relu`` for Grad-CAM, ``centre`` (samples, shape
        (N,)) and ``width`` (samples) for the bump.

    Returns
    -------
    Tensor of shape (N, 720)
        More is more relevant; scales differ between methods, signs are kept where a method has them.
    """
    known = {**METHODS, **CONTROLS}
    check_name("method", method, known)
    return known[method](model, x, target, **options)


def _mask(recipe: str, of: str) -> Callable[..., Tensor]:
    def run(model: nn.Module, x: Tensor, target: int | Tensor, *, branch: str = "lstm", **options: Any) -> Tensor:
        score = masks.lstm_score(model, x, target, branch=branch, of=of)
        return masks.learn_mask(score, x, **{**masks.RECIPES[recipe], **options}).relevance

    return run


def _bump(model: nn.Module, x: Tensor, target: Any, *, centre: Tensor | None = None, width: float = 18.0) -> Tensor:
    """Gaussian of ``width`` samples (50 ms), on the largest deflection of each window unless told where."""
    at = (x[:, 0] - x[:, 0].median(-1, keepdim=True).values).abs().argmax(-1) if centre is None else centre
    time = torch.arange(x.shape[-1], device=x.device)
    return torch.exp(-0.5 * ((time - at[:, None]) / width) ** 2).to(x.dtype)


METHODS: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {
        "cam": lambda model, x, target: cam.upsample(cam.class_activation_map(model, x, target)),
        "grad_cam": lambda model, x, target, **o: cam.upsample(cam.grad_cam(model, x, target, **o)),
        "mask": _mask("settled", "logit"),
        "mask_deck": _mask("deck", "probability"),
    }
)
CONTROLS: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {
        "uniform": lambda model, x, target: torch.ones_like(x[:, 0]),
        "amplitude": lambda model, x, target: (x[:, 0] - x[:, 0].median(-1, keepdim=True).values).abs(),
        "slope": lambda model, x, target: torch.gradient(x[:, 0], dim=-1)[0].abs(),
        "bump": _bump,
    }
)
