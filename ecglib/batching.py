"""What explanations share: windows some at a time through a network that is left as it was, and what a baseline is."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import TqdmWarning

from ecglib.cam import class_index
from ecglib.errors import DataError, check_name
from ecglib.modes import differentiable_rnn

SCORES = ("logit", "probability")  #: what is explained of a class
AT_ONCE = 32  #: windows that pass the network at once: more would be no faster, and each takes megabytes of activations
AT_ONCE_GPU = 512  #: on a GPU, where it is the number of calls that takes time

Forward = Callable[[Tensor], Tensor]  # windows (n, 1, T) -> scores of the classes (n, n_classes)
Target = int | Tensor  # one class for all windows, or one for each
Baseline = float | str | Tensor  # see `resting`


def by_part(
    run: Callable[..., Tensor], model: nn.Module, x: Tensor, target: Target, *also: Tensor, of: str = "logit"
) -> Tensor:
    """Relevance (N, T) from ``run(forward, x (n, 1, T), class (n,), *also) -> (n, 1, T)``, some windows at a time.

    The network is in eval mode with gradients of its input alone, and left as it was; one of another dtype than x is
    copied into that of x.  ``also`` are tensors of N rows that come along.
    """
    check_name("score", of, SCORES)
    if x.dim() != 3 or x.shape[1] != 1:
        raise DataError(f"expected windows of shape (N, 1, T), received {tuple(x.shape)}")
    if not len(x):
        return torch.zeros_like(x[:, 0])
    x, model = x.detach(), same_dtype(model, x)

    def forward(signal: Tensor) -> Tensor:
        logits = model(signal)
        return logits.softmax(1) if of == "probability" else logits

    with differentiable_rnn(model), torch.enable_grad():
        index = class_index(target, x, forward(x[:1]).shape[1])
        pieces = zip(*(t.split(at_once(x)) for t in (x, index, *also)), strict=True)
        return torch.cat([run(forward, *(t.detach() for t in piece)).detach() for piece in pieces])[:, 0].to(x.dtype)


def at_once(x: Tensor) -> int:
    """Windows that pass a network at once on the device of x."""
    return AT_ONCE if x.device.type == "cpu" else AT_ONCE_GPU


def resting(baseline: Baseline, x: Tensor) -> Tensor:
    """Signal without evidence, as x (N, 1, T): a constant in mV, "zero", "mean" (of each window), or a tensor."""
    if isinstance(baseline, str):
        check_name("baseline", baseline, ("zero", "mean"))
        return x.mean(-1, keepdim=True).expand_as(x) if baseline == "mean" else torch.zeros_like(x)
    try:
        return torch.as_tensor(baseline).to(x).expand_as(x)
    except RuntimeError as error:
        shape = tuple(torch.as_tensor(baseline).shape)
        raise DataError(f"a baseline of shape {shape} cannot be broadcast to windows {tuple(x.shape)}") from error


def same_dtype(model: nn.Module, x: Tensor) -> nn.Module:
    """Return the network, or a copy of it in the dtype of x where that is another."""
    dtype = next((p.dtype for p in model.parameters()), x.dtype)
    return model if dtype == x.dtype else copy.deepcopy(model).to(x.dtype)


def captum() -> Any:
    """``captum.attr``, imported when it is first needed: it takes seconds, and cam and masks do without."""
    try:
        with warnings.catch_warnings():  # of tqdm.auto in a notebook without widgets: captum's bar is not shown anyway
            warnings.simplefilter("ignore", TqdmWarning)
            import captum.attr
    except ImportError as error:
        raise DataError("this method needs captum, which is not installed: pip install captum") from error
    return captum.attr
