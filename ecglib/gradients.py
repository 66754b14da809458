"""Gradients of a class, and what is made of them.

Each function gives the relevance of each sample, (N, T), for one class of windows (N, 1, T).  Captum does the work but
where noise is drawn (its draws depend on the batch that a window is in), and where ReLUs are changed (its hooks see
modules, not functions).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ecglib.batching import Baseline, Forward, Target, at_once, by_part, captum, resting, same_dtype
from ecglib.cam import grad_cam, upsample
from ecglib.errors import DataError


def gradient(model: nn.Module, x: Tensor, target: Target, *, absolute: bool = False, of: str = "logit") -> Tensor:
    """Gradient of the class's score by each sample, per mV; ``absolute`` is the saliency map of Simonyan et al. (2014)."""
    return by_part(
        lambda f, s, c: _gradient(f, s, c).abs() if absolute else _gradient(f, s, c), model, x, target, of=of
    )


def gradient_x_input(model: nn.Module, x: Tensor, target: Target, *, of: str = "logit") -> Tensor:
    """Gradient times sample (Shrikumar et al. 2016): of a linear network without bias, exactly what each sample adds."""
    attr = captum()
    return by_part(
        lambda f, s, c: attr.InputXGradient(f).attribute(s.requires_grad_(), target=c), model, x, target, of=of
    )


def integrated_gradients(
    model: nn.Module, x: Tensor, target: Target, *, baseline: Baseline = 0.0, n_steps: int = 50, of: str = "logit"
) -> Tensor:
    """Integrated gradients (Sundararajan et al. 2017): (x - baseline) times the mean gradient on the way from there to x.

    Parameters
    ----------
    model, x, target
        See `ecglib.attribution.attribute`.
    baseline : float, {"zero", "mean"} or Tensor broadcast to x
        Where the way begins: a constant in mV, the mean of the window, or any signal.
    n_steps : int
        Points on the way (Gauss-Legendre).  The sum over samples nears score(x) - score(baseline) as they grow in number.
    of : {"logit", "probability"}
        The score of the class.
    """
    attr = captum()

    def run(f: Forward, s: Tensor, c: Tensor, b: Tensor) -> Tensor:
        return attr.IntegratedGradients(f).attribute(s, b, target=c, n_steps=n_steps, internal_batch_size=at_once(s))

    return by_part(run, model, x, target, resting(baseline, x), of=of)


def smooth_grad(
    model: nn.Module,
    x: Tensor,
    target: Target,
    *,
    noise: float = 0.1,
    n_draws: int = 25,
    absolute: bool = False,
    seed: int = 0,
    of: str = "logit",
) -> Tensor:
    """Mean gradient around a window (SmoothGrad, Smilkov et al. 2017).

    Parameters
    ----------
    model, x, target, of
        See `integrated_gradients`.
    noise : float
        Standard deviation of the noise, as a share of the range of the window.
    n_draws : int
    absolute : bool
        Average absolute gradients.
    seed : int
        The same draws serve every window (times its range), so a window's map does not depend on the others in its batch.
    """
    draws = _normal(n_draws, x, seed)

    def run(f: Forward, s: Tensor, c: Tensor, spread: Tensor) -> Tensor:
        slopes = (_gradient(f, s + spread * draw, c) for draw in draws)
        return sum((g.abs() if absolute else g for g in slopes), torch.zeros_like(s)) / n_draws

    return by_part(run, model, x, target, _spread(noise, x), of=of)


def gradient_shap(
    model: nn.Module,
    x: Tensor,
    target: Target,
    *,
    baseline: Baseline = 0.0,
    noise: float = 0.0,
    n_draws: int = 25,
    seed: int = 0,
    of: str = "logit",
) -> Tensor:
    """Expected gradients (Erion et al. 2021; captum's GradientShap): integrated gradients at random places of random ways.

    Parameters
    ----------
    model, x, target, of
        See `integrated_gradients`.
    baseline : float, {"zero", "mean"} or Tensor of shape (B, 1, T)
        A tensor is a background of B windows, of which each draw takes one.
    noise, n_draws, seed
        See `smooth_grad`; with noise, the way ends beside the window.

    Returns
    -------
    Tensor of shape (N, T)
        Its sum equals score(x) less the mean score of the background on average over draws only.
    """
    background = baseline.to(x) if isinstance(baseline, Tensor) else None
    if background is not None and background.shape[1:] != x.shape[1:]:
        raise DataError(f"expected a background of shape (B, 1, {x.shape[-1]}), received {tuple(background.shape)}")
    draws, generator = _normal(n_draws, x, seed), torch.Generator().manual_seed(seed + 1)
    places = torch.rand(n_draws, generator=generator).tolist()
    chosen = torch.randint(1 if background is None else len(background), (n_draws,), generator=generator).tolist()

    def run(f: Forward, s: Tensor, c: Tensor, rest: Tensor, spread: Tensor) -> Tensor:
        total = torch.zeros_like(s)
        for draw, place, k in zip(draws, places, chosen, strict=True):
            begin = rest if background is None else background[k]
            way = s + spread * draw - begin
            total += way * _gradient(f, begin + place * way, c)
        return total / n_draws

    rest = resting(0.0 if background is not None else baseline, x)
    return by_part(run, model, x, target, rest, _spread(noise, x), of=of)


def guided_backprop(model: nn.Module, x: Tensor, target: Target, *, of: str = "logit") -> Tensor:
    """Gradient in which each ReLU passes back what is positive alone (Springenberg et al. 2015).

    Differs from captum's: it reaches every ReLU, those called as functions too.  Gates of an LSTM are left as they are.
    """

    def run(f: Forward, s: Tensor, c: Tensor) -> Tensor:
        with _Guided():
            return _gradient(f, s, c)

    return by_part(run, model, x, target, of=of)


def guided_grad_cam(model: nn.Module, x: Tensor, target: Target, *, of: str = "logit") -> Tensor:
    """Guided backpropagation times the positive part of Grad-CAM (Selvaraju et al. 2017).

    Differs from captum's in time: the map is brought to samples by `ecglib.cam.upsample`.  ``of`` is of the first factor.
    """
    maps = grad_cam(same_dtype(model, x), x, target, relu=True)  # first: it says so if the network has no map
    return guided_backprop(model, x, target, of=of) * upsample(maps, x.shape[-1])


# Internals -----------------------------------------------------------------------------------------------------


def _gradient(f: Forward, s: Tensor, c: Tensor) -> Tensor:
    return captum().Saliency(f).attribute(s.detach().requires_grad_(), target=c, abs=False)


def _normal(count: int, x: Tensor, seed: int) -> Tensor:
    """Normal draws (count, 1, T), the same whatever the dtype and device of x."""
    if count < 1:
        raise DataError(f"n_draws is {count}; give at least 1")
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, x.shape[-1], generator=generator, dtype=torch.float64).to(x)


def _spread(noise: float, x: Tensor) -> Tensor:
    return noise * (x.amax(-1, keepdim=True) - x.amin(-1, keepdim=True))  # (N, 1, 1)


class _GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z > 0)
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (open_,) = ctx.saved_tensors
        return gradients[0].clamp(min=0) * open_


class _Guided(TorchFunctionMode):
    """While it is on, ReLUs pass back what is positive alone; no hook is set, so none can stay behind."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in {"relu", "relu_"}:
            return _GuidedReLU.apply(*args[:1], *[v for k, v in (kwargs or {}).items() if k == "input"])
        return func(*args, **(kwargs or {}))
