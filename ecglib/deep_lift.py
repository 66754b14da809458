"""DeepLIFT with the Rescale rule, complete for every network of this package.

Shrikumar et al., Learning important features through propagating activation differences, ICML 2017, arXiv:1704.02685.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ecglib.batching import Baseline, Forward, Target, by_part, resting

_ELEMENTWISE = set(
    "relu relu_ leaky_relu elu gelu silu softplus sigmoid tanh exp log sqrt square abs reciprocal pow __pow__".split()
)


def deep_lift(model: nn.Module, x: Tensor, target: Target, *, baseline: Baseline = 0.0, of: str = "logit") -> Tensor:
    """Contribution of each sample to score(x) - score(baseline), by the Rescale rule.

    Parameters
    ----------
    model : nn.Module
        Its forward pass keeps the batch as the first axis and treats each window alone.
    x, target, baseline, of
        See `ecglib.gradients.integrated_gradients`.

    Returns
    -------
    Tensor of shape (N, T)
        The sum over samples is score(x) - score(baseline), but for rounding, if all that is not linear in the network is
        one of: elementwise functions (ReLU, sigmoid, tanh, exp, log, square …), max-pooling in one dimension, products and
        quotients of two activations, softmax and its logarithm, logsumexp, standard deviations, and LSTMs made of these.
        Through anything else it passes as a plain gradient, and the sum tells.

    Notes
    -----
    Windows and baselines run side by side through the live network; backwards, a function passes on the ratio of its
    differences where a gradient has its slope (the slope itself where input and baseline agree).  Of a product u v,
    factor u gets the mean of v and its baseline.  Max-pooling follows captum: where the maximum has risen the sample that
    holds it now, and else the one that held it in the baseline, gets the difference; where several held it, as in a flat
    baseline, the one that holds it now.

    Captum's own rests on hooks and fails here: ReLUs called as functions and LSTMs pass as plain gradients, a pooling
    module that runs twice is an error, and samples that agree with the baseline get the first gradient of the batch.
    """

    def run(f: Forward, s: Tensor, c: Tensor, b: Tensor) -> Tensor:
        both = torch.cat([s, b]).requires_grad_()
        with _Rescale():
            score = f(both)[: len(s)].gather(1, c[:, None])
        return torch.autograd.grad(score.sum(), both)[0][: len(s)] * (s - b)

    return by_part(run, model, x, target, resting(baseline, x), of=of)


# Internals -----------------------------------------------------------------------------------------------------
# Everything below holds windows in the first half of the batch and their baselines in the second; what is passed back
# goes to the first half.


class _Rescale(TorchFunctionMode):
    """While it is on, functions that are not linear note what to pass back; modules and functions alike, without hooks."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), dict(kwargs or {})
        moving = [isinstance(a, Tensor) and a.requires_grad for a in args]
        if name in _ELEMENTWISE and moving[:1] == [True] and not any(moving[1:]):
            kwargs.pop("inplace", None)
            func = torch.relu if name == "relu_" else func  # what it would write over is still needed
            return _Elementwise.apply(args[0], lambda z: func(z, *args[1:], **kwargs))
        if name == "where" and moving == [False, True, False]:
            return _Elementwise.apply(args[1], lambda z: func(args[0], z, args[2]))
        if name in {"mul", "__mul__", "multiply"} and moving == [True, True]:
            return _Product.apply(*torch.broadcast_tensors(*args))
        if name in {"div", "__truediv__", "true_divide"} and moving == [True, True]:
            with self:
                return args[0] * args[1].reciprocal()
        if name in {"max_pool1d", "_max_pool1d"} and moving[:1] == [True] and not kwargs.pop("return_indices", False):
            return _MaxPool.apply(args[0], args[1:], kwargs)
        if name in _PARTS and moving[:1] == [True] and not (name == "lstm" and _is_unusual(args[1])):
            with self:
                return _PARTS[name](*args, **kwargs)
        return func(*args, **kwargs)


class _Elementwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        out = function(z)
        ctx.save_for_backward(z, out)
        ctx.function = function
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        z, out = ctx.saved_tensors
        (z1, z0), (out1, out0) = z.chunk(2), out.chunk(2)
        with torch.enable_grad():
            middle = torch.cat([(z1 + z0) / 2] * 2).requires_grad_()
            slope = torch.autograd.grad(ctx.function(middle).sum(), middle)[0].chunk(2)[0]
        apart = (z1 - z0).abs() > torch.finfo(z.dtype).eps ** 0.5 * z1.abs()  # else a ratio of rounding errors
        ratio = torch.where(apart, (out1 - out0) / torch.where(apart, z1 - z0, 1), slope)
        return _first(gradients[0].chunk(2)[0] * ratio), None


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(u, v)
        return u * v

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        u, v = (sum(t.chunk(2)) / 2 for t in ctx.saved_tensors)
        g = gradients[0].chunk(2)[0]
        return _first(g * v), _first(g * u)


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, args: Any, kwargs: Any) -> Tensor:
        out, index = F.max_pool1d(z, *args[:5], **kwargs, return_indices=True)
        ctx.save_for_backward(z, out, index)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        z, out, index = ctx.saved_tensors
        (z1, z0), (out1, out0), (i1, i0) = z.chunk(2), out.chunk(2), index.chunk(2)
        # In a flat baseline rounding decides who holds the maximum, and with it where the difference goes
        near = 1e-5 * out0.abs().amax((1, 2), keepdim=True)
        tied = (z0.gather(-1, i1) >= out0 - near) & (out0 - out1 > 2 * near)
        holder = torch.where((out1 >= out0) | tied, i1, i0)
        moved = (z1 - z0).gather(
            -1, holder
        )  # in the direction of the maximum, and as far or further (but for ``near``)
        ratio = torch.where(moved == 0, 1, (out1 - out0) / torch.where(moved == 0, 1, moved))
        return _first(torch.zeros_like(z1).scatter_add(-1, holder, gradients[0].chunk(2)[0] * ratio)), None, None


def _first(g: Tensor) -> Tensor:
    return torch.cat([g, torch.zeros_like(g)])


def _logsumexp(input: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    z = input.double()  # in single precision a class that is 90 behind would be gone
    top = torch.stack(z.detach().amax(dim, keepdim=True).chunk(2)).amax(0).repeat(2, *[1] * (z.dim() - 1))
    out = ((z - top).exp().sum(dim, keepdim=True).log() + top).to(input.dtype)
    return out if keepdim else out.squeeze(dim)


def _log_softmax(input: Tensor, dim: int, *_: Any, **__: Any) -> Tensor:
    return input - _logsumexp(input, dim, keepdim=True)


def _softmax(input: Tensor, dim: int, *_: Any, **__: Any) -> Tensor:
    return _log_softmax(input, dim).exp()


def _std(
    input: Tensor, dim: Any, unbiased: bool = True, keepdim: bool = False, *, correction: int | None = None
) -> Tensor:
    mean = input.mean(dim, keepdim=True)
    count = input.numel() // mean.numel() - (int(unbiased) if correction is None else correction)
    return ((input - mean).square().sum(dim, keepdim=keepdim) / count).sqrt()


def _is_unusual(hx: Any) -> bool:
    """Packed sequences and projections: left to torch, as plain gradients."""
    return isinstance(hx, Tensor) or hx[0].shape != hx[1].shape


def _lstm(
    x: Tensor, hx: Any, weights: Any, biased: bool, layers: int, dropout: float, train: bool, two_way: bool, first: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """`torch.lstm` (without projections) step by step, so that its gates and products are seen one by one."""
    x = x if first else x.transpose(0, 1)  # (2n, steps, features)
    per, ends = (4 if biased else 2), []
    for layer in range(layers):
        outs = []
        for way in range(1 + two_way):
            k = layer * (1 + two_way) + way
            w_ih, w_hh, *bias = weights[k * per : (k + 1) * per]
            h, c = hx[0][k], hx[1][k]
            found = []
            for step in x.unbind(1)[:: -1 if way else 1]:
                i, f, g, o = (F.linear(step, w_ih) + F.linear(h, w_hh) + sum(bias)).chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                found.append(h)
            outs.append(torch.stack(found[:: -1 if way else 1], 1))
            ends.append((h, c))
        x = torch.cat(outs, -1)
    h_n, c_n = (torch.stack(state) for state in zip(*ends, strict=True))
    return x if first else x.transpose(0, 1), h_n, c_n


_PARTS: Mapping[str, Callable[..., Any]] = {  # what is made of other functions, each of which has its rule
    "lstm": _lstm, "softmax": _softmax, "log_softmax": _log_softmax, "logsumexp": _logsumexp, "std": _std,
}  # fmt: skip
