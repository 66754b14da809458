"""The same call for every explanation and every control: relevance of each sample for a class.

A control looks at the signal alone, or at nothing; an explanation that does not beat it has not shown that it explains.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ecglib import cam, deep_lift, extremal, gradients, hiding, masks
from ecglib.batching import same_dtype
from ecglib.errors import DataError, check_name


def attribute(method: str, model: nn.Module, x: Tensor, target: int | Tensor, **options: Any) -> Tensor:
    """Relevance of each sample for the target class.

    Parameters
    ----------
    method : str
        Key of `METHODS` or `CONTROLS`.
    model : nn.Module
        See `ecglib.models`; left as it was.  Any network ``(N, 1, 720) -> (N, n_classes)`` does, but for ``cam``,
        ``grad_cam`` and ``guided_grad_cam``, which ask for a ``feature_map``, and masks, which ask for an LSTM beside it.
    x : Tensor of shape (N, 1, 720)
    target : int or Tensor of shape (N,)
    **options
        Of the method: those of `ecglib.masks.learn_mask` for masks, ``relu`` for Grad-CAM, those of the functions in
        `ecglib.gradients`, `ecglib.hiding` and `ecglib.deep_lift`; of controls ``width`` (samples; bump and centre),
        ``centre`` (samples, shape (N,); bump) and ``seed`` (random).

    Returns
    -------
    Tensor of shape (N, 720)
        In the dtype of x.  More is more relevant; scales differ between methods, signs are kept where a method has them.
        What is said of a window does not depend on the others in its batch.

    Raises
    ------
    UnknownNameError
        No such method.
    DataError
        The method cannot serve such a network, or needs captum, which is not installed.
    """
    known = {**METHODS, **CONTROLS}
    check_name("method", method, known)
    if method in METHODS:
        model = same_dtype(model, x)
    return known[method](model, x, target, **options)


def _mask(recipe: str, of: str) -> Callable[..., Tensor]:
    def run(model: nn.Module, x: Tensor, target: int | Tensor, *, branch: str = "lstm", **options: Any) -> Tensor:
        score = _scored(model, x, target, branch, of)
        return masks.learn_mask(score, x, **{**masks.RECIPES[recipe], **options}).relevance

    return run


def _soft(function: Callable[..., masks.MaskResult]) -> Callable[..., Tensor]:
    """A mask of `ecglib.extremal` on the logit, of the LSTM's part unless ``branch`` says "both"."""

    def run(model: nn.Module, x: Tensor, target: int | Tensor, *, branch: str = "lstm", **options: Any) -> Tensor:
        return function(_scored(model, x, target, branch, "logit"), x, **options).relevance

    return run


def _scored(model: nn.Module, x: Tensor, target: int | Tensor, branch: str, of: str) -> masks.Score:
    if not (hasattr(model, "lstm_features") and hasattr(model, "head")):
        raise DataError(f"{type(model).__name__} has no LSTM beside a CNN for a mask to explain; use deep_lift instead")
    return masks.lstm_score(model, x, target, branch=branch, of=of)


def _bump(model: nn.Module, x: Tensor, target: Any, *, centre: Tensor | None = None, width: float = 18.0) -> Tensor:
    """Gaussian of ``width`` samples (50 ms), on the largest deflection of each window unless told where."""
    at = (x[:, 0] - x[:, 0].median(-1, keepdim=True).values).abs().argmax(-1) if centre is None else centre
    time = torch.arange(x.shape[-1], device=x.device)
    return torch.exp(-0.5 * ((time - at[:, None]) / width) ** 2).to(x.dtype)


def _centre(model: nn.Module, x: Tensor, target: Any, *, width: float = 18.0) -> Tensor:
    """Gaussian in the middle of the window, where the deck's windows have their R peak."""
    return _bump(model, x, target, centre=torch.full((len(x),), x.shape[-1] // 2, device=x.device), width=width)


def _random(model: nn.Module, x: Tensor, target: Any, *, seed: int = 0) -> Tensor:
    """48 normal values brought to samples as a map is: one draw for each window, whatever the batch that it is in."""
    keys = [zlib.crc32(row.tobytes()) for row in x.detach().cpu().float().numpy()]
    maps = np.array([np.random.default_rng([seed, key]).standard_normal(48) for key in keys]).reshape(-1, 48)
    return cam.upsample(torch.from_numpy(maps), x.shape[-1]).to(x)


METHODS: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {
        "cam": lambda model, x, target: cam.upsample(cam.class_activation_map(model, x, target)),
        "grad_cam": lambda model, x, target, **o: cam.upsample(cam.grad_cam(model, x, target, **o)),
        "mask": _mask("settled", "logit"),
        "mask_deck": _mask("deck", "probability"),
        "mask_smooth": _soft(extremal.smooth_mask),
        "extremal": _soft(extremal.extremal_mask),
        "gradient": gradients.gradient,
        "gradient_x_input": gradients.gradient_x_input,
        "smooth_grad": gradients.smooth_grad,
        "integrated_gradients": gradients.integrated_gradients,
        "gradient_shap": gradients.gradient_shap,
        "deep_lift": deep_lift.deep_lift,
        "guided_backprop": gradients.guided_backprop,
        "guided_grad_cam": gradients.guided_grad_cam,
        "occlusion": hiding.occlusion,
        "feature_ablation": hiding.feature_ablation,
    }
)
CONTROLS: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {
        "uniform": lambda model, x, target: torch.ones_like(x[:, 0]),
        "amplitude": lambda model, x, target: (x[:, 0] - x[:, 0].median(-1, keepdim=True).values).abs(),
        "slope": lambda model, x, target: torch.gradient(x[:, 0], dim=-1)[0].abs(),
        "bump": _bump,
        "centre": _centre,
        "random": _random,
    }
)
