"""Deletion masks learned by gradient descent: which samples must stay hidden for the network to lose its class?

Every window is its own optimisation problem.  The objective is summed over a batch, its terms are kept by window and
the optimisers work element by element, so a batch gives what one window at a time gives.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from tqdm import tqdm

from ecglib import FS
from ecglib.cam import class_index
from ecglib.collapsed import warn_if_collapsed
from ecglib.errors import DataError, check_name
from ecglib.frozen_lstm import OPTIMIZERS, descent, frozen, terms
from ecglib.modes import differentiable_rnn

Score = Callable[[Tensor], Tensor]

_SETTLED = dict(area="mean", lambda_tv=0.01, lr=0.05, n_iter=300, init=1.0, fill="linear", clamp=True)

#: Named settings of `learn_mask`.  "deck" is its defaults.  "settled" is ours: it begins at the whole signal, weighs area
#: against a logit on one scale, bridges what it deletes, and nearly comes to rest within its steps.
RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"deck": MappingProxyType({}), "settled": MappingProxyType(_SETTLED)}
)

FILLS = ("mean", "linear", "blurred")  #: named fills; a number is a constant in mV
BLUR_S = 0.1  #: standard deviation of the fill "blurred", s


@dataclass(frozen=True)
class MaskResult:
    """Learned masks of N windows.

    Attributes
    ----------
    mask : Tensor of shape (N, T)
        1 keeps a sample, 0 replaces it by the fill.
    score, area, tv : Tensor of shape (N,)
        Score of the masked windows, sum (or mean) of |1 - m|, and sum of |m_{t+1} - m_t|, at the end.
    history : Tensor of shape (n_iter, N)
        Objective before each step.
    """

    mask: Tensor
    score: Tensor
    area: Tensor
    tv: Tensor
    history: Tensor

    @property
    def relevance(self) -> Tensor:
        """1 - mask, shape (N, T): how strongly each sample was deleted."""
        return 1 - self.mask


def learn_mask(
    score: Score,
    x: Tensor,
    *,
    lambda_area: float = 1.0,
    lambda_tv: float = 0.001,
    lr: float = 0.001,
    n_iter: int = 500,
    init: float | str | Tensor = 0.0,
    fill: float | str | Tensor = 0.0,
    optimizer: str = "adam",
    area: str = "sum",
    clamp: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> MaskResult:
    """Minimise J(m) = lambda_area |1 - m|_1 + lambda_tv sum_t |m_{t+1} - m_t| + score(m x + k (1 - m)) for each window.

    The defaults are the deck's recipe.

    Parameters
    ----------
    score : callable
        ``(N, 1, T) -> (N,)``, differentiable, one value a window that depends on that window alone.
    x : Tensor of shape (N, 1, T)
        Windows; masks take their dtype and device.
    lambda_area, lambda_tv, lr, n_iter
        Weights, rate, steps.  At a rate of 0.001 no value passes 0.5 in 500 steps: the deck's mask is stopped on its way.
    init : float, "random" or Tensor of shape (N, T)
        First mask; "random" draws T values from [0, 1), the same ones for every window, so that batching stays exact.
    fill : float, {"mean", "linear", "blurred"} or Tensor broadcast to x
        k, what a deleted sample becomes: a constant in mV, the window's mean, the straight line between its ends, or the
        window blurred by a Gaussian of 0.1 s (`blurred` gives other widths).
    optimizer : {"adam", "sgd"}
        The deck names none.
    area : {"sum", "mean"}
        Norm of the area term: with "sum" it is up to T and outweighs any probability.
    clamp : bool
        Hold the mask within [0, 1] after each step (the deck does not say so).
    seed : int
        Of ``init="random"``; nothing else is drawn.
    progress : bool

    Returns
    -------
    MaskResult

    Warns
    -----
    UserWarning
        If a mask ended as (nearly) all 0 or all 1, which explains nothing.

    References
    ----------
    Objective: the deck of Vijayarangan et al., EMBC 2020, after van der Westhuizen & Lasenby, arXiv:1705.08153, and Fong
    & Vedaldi, ICCV 2017, arXiv:1704.03296.
    """
    check_name("optimizer", optimizer, OPTIMIZERS)
    check_name("area", area, ("sum", "mean"))
    x = checked(x, n_iter=n_iter, lr=lr)
    n, _, length = x.shape
    mask = _first_mask(init, length, seed).to(x).detach().clone().expand(n, length).contiguous()
    k = replacement(x, fill)
    scale = lambda_area / (length if area == "mean" else 1)
    step = descent(mask, x, k, optimizer=optimizer, lr=lr, scale=scale, lambda_tv=lambda_tv, clamp=clamp)
    history = torch.empty(n_iter, n, dtype=x.dtype, device=x.device)
    masked, off, rough = terms(mask, x, k)
    for i in tqdm(range(n_iter), desc="learning masks", disable=not progress, leave=False):
        value, slope = value_and_slope(score, masked)
        history[i] = scale * off + lambda_tv * rough + value
        masked, off, rough = step(slope)
    with torch.no_grad():
        final = value_of(score, masked).detach()
    off, rough = terms(mask, x, k)[1:]
    warn_if_collapsed(mask)
    return MaskResult(mask, final, off / length if area == "mean" else off, rough, history)


def lstm_score(model: Any, x: Tensor, target: int | Tensor, *, branch: str = "lstm", of: str = "probability") -> Score:
    """Score of the masked signal for `learn_mask`: s_c of the network whose LSTM is to be explained.

    Parameters
    ----------
    model : nn.Module
        With ``lstm_features`` and a ``head`` that reads the CNN's features and behind them the LSTM's; left untouched.
    x : Tensor of shape (N, 1, T)
        The whole windows, which the CNN goes on seeing when ``branch`` is "lstm".
    target : int or Tensor of shape (N,)
        Class c of each window.
    branch : {"lstm", "both"}
        "lstm": the CNN sees x and the LSTM the masked signal; "both": both see the masked signal.
    of : {"probability", "logit"}
        Softmax probability or logit of the class.  The deck leaves both choices open.

    Returns
    -------
    callable
        ``(N, 1, T) -> (N,)``.
    """
    check_name("branch", branch, ("lstm", "both"))
    check_name("score", of, ("probability", "logit"))
    if next(model.parameters()).dtype != x.dtype:  # float64 masks ask for a float64 network; the caller's stays
        model = copy.deepcopy(model).to(x.dtype)
    read: list[Tensor] = []  # by the head: the CNN's part, once and for all, and then the LSTM's
    tapes: list[Tensor] = []  # of one step, for the next to write over
    with differentiable_rnn(model), torch.no_grad():
        with model.head.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0])):
            logits = model(x if branch == "lstm" else x[:1])
        index = class_index(target, x, logits.shape[1])
        cnn = read[0][:, : -model.lstm_features(x[:1]).shape[1]]

    def score(masked: Tensor) -> Tensor:
        with frozen(model, tapes):
            alone = branch == "lstm"
            logits = model.head(torch.cat([cnn, model.lstm_features(masked)], 1)) if alone else model(masked)
        values = logits.softmax(1) if of == "probability" else logits
        return values.gather(1, index[:, None])[:, 0]

    return score


def checked(x: Tensor, *, n_iter: int, lr: float) -> Tensor:
    """The windows without their graph, if they and the steps make sense."""
    if x.dim() != 3 or x.shape[1] != 1:
        raise DataError(f"expected windows of shape (N, 1, T), received {tuple(x.shape)}")
    if n_iter < 1 or lr <= 0:
        raise DataError(f"n_iter is {n_iter} and lr is {lr}; give at least one step and a positive rate")
    return x.detach()


def replacement(x: Tensor, fill: float | str | Tensor) -> Tensor:
    """What deleted samples of x become, (N, 1, T): the fills of `learn_mask`."""
    if not isinstance(fill, str):
        return fill.to(x).expand_as(x) if isinstance(fill, Tensor) else torch.full_like(x, float(fill))
    if check_name("fill", fill, FILLS) == "blurred":
        return blurred(x)
    if fill == "mean":
        return x.mean(-1, keepdim=True).expand_as(x)
    ramp = torch.linspace(0, 1, x.shape[-1], dtype=x.dtype, device=x.device)
    return x[..., :1] * (1 - ramp) + x[..., -1:] * ramp


def blurred(x: Tensor, *, width: float = BLUR_S) -> Tensor:
    """Signals (..., T) averaged under a Gaussian of standard deviation ``width`` s, their ends held; any device."""
    return torch.from_numpy(gaussian_filter1d(x.detach().cpu().numpy(), width * FS, mode="nearest")).to(x)


def value_of(score: Score, masked: Tensor) -> Tensor:
    """Score of masked signals, one a window."""
    value = score(masked)
    if value.shape != masked.shape[:1]:
        raise DataError(f"score must return one value a window, shape ({len(masked)},); received {tuple(value.shape)}")
    return value


def value_and_slope(score: Score, masked: Tensor) -> tuple[Tensor, Tensor]:
    """Score (N,) and its gradient with respect to the masked signal (N, 1, T): all that needs the network."""
    with torch.enable_grad():  # the caller may be under no_grad
        masked = masked.detach().requires_grad_()
        value = value_of(score, masked)
        if not value.requires_grad:  # it does not depend on the signal
            return value, torch.zeros_like(masked)
        (slope,) = torch.autograd.grad(value.sum(), masked, materialize_grads=True)
    return value.detach(), slope


# Internals -----------------------------------------------------------------------------------------------------


def _first_mask(init: float | str | Tensor, length: int, seed: int) -> Tensor:
    if isinstance(init, str):
        check_name("init", init, ("random",))
        return torch.rand(length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return init if isinstance(init, Tensor) else torch.full((length,), float(init))
