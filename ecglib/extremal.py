"""Deletion masks that are smooth by construction, and masks that delete a given share of a window.

Both are weighted means of few parameters, m = S p: Gaussians, each of which holds up one stretch of the mask, so that no
weight of roughness has to be tuned.  As in `ecglib.masks`, every window is its own problem.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ecglib import FS
from ecglib.collapsed import collapse_expected, warn_if_collapsed
from ecglib.errors import DataError
from ecglib.frozen_lstm import terms
from ecglib.masks import (
    MaskResult,
    Score,
    checked,
    learn_mask,
    replacement,
    value_and_slope,
    value_of,
)

WIDTH_S = 0.01  #: standard deviation of a Gaussian of the mask, and about the distance to the next, s


def smoother(length: int, *, width: float = WIDTH_S) -> Tensor:
    """Weights S of the parameters p of a smooth mask m = S p.

    Parameters
    ----------
    length : int
        Samples T of the mask, at 360 Hz.
    width : float
        Standard deviation of the Gaussians, s; 0 gives every sample a parameter of its own.

    Returns
    -------
    Tensor of shape (T, P), float64
        Rows of weights that are positive and sum to 1, so that m stays where p is.  The P Gaussians stand one standard
        deviation apart, where their sum has no ripple beyond 1e-8.
    """
    if width < 0 or length < 1:
        raise DataError(f"width is {width} s and length {length}; give at least 0 s and one sample")
    count = max(1, min(length, round(length / (width * FS)))) if width else length
    if count == length:
        return torch.eye(length, dtype=torch.float64)
    time = torch.arange(length, dtype=torch.float64) + 0.5
    centre = (torch.arange(count, dtype=torch.float64) + 0.5) * length / count
    return (-0.5 * ((time[:, None] - centre) * count / length).square()).softmax(1)


def smooth_mask(
    score: Score,
    x: Tensor,
    *,
    width: float = WIDTH_S,
    lambda_area: float = 1.0,
    lr: float = 0.05,
    n_iter: int = 300,
    init: float | str | Tensor = 1.0,
    fill: float | str | Tensor = "linear",
    optimizer: str = "adam",
    seed: int = 0,
    progress: bool = False,
) -> MaskResult:
    """Minimise J(p) = lambda_area mean(1 - m) + score(m x + k (1 - m)) over the few parameters of a mask m = S p.

    The recipe "settled" of `ecglib.masks.learn_mask`, with smoothness in the place of its roughness term.

    Parameters
    ----------
    score, x, fill, optimizer, seed, progress
        As for `learn_mask`.
    width : float
        See `smoother`.
    lambda_area, lr, n_iter
        Weight, rate and steps.
    init : float, "random" or Tensor of shape (N, P)
        First parameters.

    Returns
    -------
    MaskResult
        Its ``area`` is the mean of |1 - m|.

    Warns
    -----
    UserWarning
        If a mask ended as (nearly) all 0 or all 1.

    References
    ----------
    After the smooth masks of TorchRay (Fong, Patrick & Vedaldi, ICCV 2019, arXiv:1910.08485).  There a mask is the
    *largest* of its weighted parameters, so that a single one reaches 1; here it is their mean, and a stretch of about
    four must agree: what is deleted wholly lasts some four widths or more, 0.04 s unless told.
    """
    x = checked(x, n_iter=n_iter, lr=lr)
    weights, k = smoother(x.shape[-1], width=width).to(x), replacement(x, fill)

    def of_parameters(p: Tensor) -> Tensor:
        m = p @ weights.T
        return lambda_area * (1 - m).mean((1, 2)) + value_of(score, m * x + k * (1 - m))

    with collapse_expected():  # said below of the mask
        options: dict[str, Any] = {"lr": lr, "n_iter": n_iter, "init": init, "optimizer": optimizer, "seed": seed}
        places = x.new_ones(len(x), 1, weights.shape[1])  # with k = 0 the masked signal is p itself
        found = learn_mask(of_parameters, places, lambda_area=0, lambda_tv=0, clamp=True, progress=progress, **options)
    result = _result(score, x, k, found.mask @ weights.T, found.history)
    warn_if_collapsed(result.mask)
    return result


def extremal_mask(
    score: Score,
    x: Tensor,
    *,
    area: float | Tensor = 0.1,
    width: float = WIDTH_S,
    lr: float = 0.1,
    n_iter: int = 400,
    growth: tuple[float, float] = (0.01, 100.0),
    fill: float | str | Tensor = "linear",
    progress: bool = False,
) -> MaskResult:
    """The mask that lowers the score most by deleting a given share of the window (Fong, Patrick & Vedaldi 2019).

    With d = 1 - m = S p, c the steepest slope of the score that the window has met, and r the sorted mask that is wanted
    (zeros, then ones in the share ``area``), minimise

        J(p) = score(x + d (k - x)) / c + lambda / 2 |sort(d) - r|^2,    0 <= p <= 1,

    while lambda grows by a constant factor: at first the score says which samples go, at last how many is settled.

    Parameters
    ----------
    score, x, fill, progress
        As for `learn_mask`; better a logit than a probability, which says little of what goes on far from 1/2.
    area : float or Tensor of shape (N,)
        Share of the samples to delete, for all windows or for each.
    width : float
        Standard deviation of the Gaussians, s: see `smoother`.
    lr, n_iter
        Rate and steps: the parameter on the steepest slope moves by ``lr`` in a step.
    growth : (float, float)
        lambda of the first and of the last step.

    Returns
    -------
    MaskResult
        Its ``area`` is the mean of |1 - m|, so about what was asked for.

    Warns
    -----
    UserWarning
        If a mask ended as (nearly) all 0 or all 1, or if a score never had a slope.

    Notes
    -----
    Beside the paper, which has one image, SGD with momentum, a score taken as it is and lambda from 300 to some 5000: c
    makes the mask of a score that of any multiple of it; parameters are means (see `smooth_mask`); a step goes down the
    score and then, from there, towards r, so that samples that are equal are told apart by their slopes.
    """
    x = checked(x, n_iter=n_iter, lr=lr)
    n, _, length = x.shape
    share = torch.as_tensor(area, dtype=torch.float64, device="cpu")
    if share.shape not in {(), (n,)} or not bool(((share >= 0) & (share <= 1)).all()):
        raise DataError(f"expected areas from 0 to 1, one or one for each of {n} windows; received {area}")
    if not 0 < growth[0] <= growth[1]:
        raise DataError(f"growth goes from {growth[0]} to {growth[1]}; give two weights above 0 that do not fall")
    weights, k = smoother(length, width=width).to(x), replacement(x, fill)
    back = weights / weights.sum(0)  # the mean, not the sum, of what pulls at a parameter: no step depends on T / P
    wanted = (torch.arange(length) >= length - (share.expand(n)[:, None] * length).round()).to(x)  # (N, T), sorted
    p = share.expand(n)[:, None].expand(n, weights.shape[1]).to(x)
    steepest = x.new_zeros(n, 1)
    history = x.new_empty(n_iter, n)
    pace = (growth[1] / growth[0]) ** (1 / max(1, n_iter - 1))
    for i in tqdm(range(n_iter), desc="learning masks", disable=not progress, leave=False):
        weight, d = growth[0] * pace**i, p @ weights.T
        value, slope = value_and_slope(score, x + d[:, None] * (k - x))
        pull = (slope * (k - x))[:, 0]  # of the score at d, (N, T)
        steepest = torch.maximum(steepest, pull.abs().amax(1, keepdim=True))
        scale = torch.where(steepest > 0, steepest, 1)
        history[i] = value / scale[:, 0] + weight / 2 * (d - _nearest(d, wanted)).square().sum(1)
        p = p - lr * (pull / scale) @ back
        d = p @ weights.T
        part = lr * weight / (1 + lr * weight)  # of the way: a step of the rate where lambda is small, never beyond r
        p = (p - part * (d - _nearest(d, wanted)) @ back).clamp(0, 1)
    result = _result(score, x, k, 1 - p @ weights.T, history)
    warn_if_collapsed(result.mask)
    if flat := int((steepest == 0).sum()):
        warnings.warn(f"the score of {flat} of {n} windows has no slope: their masks are arbitrary", stacklevel=2)
    return result


def extremal_masks(score: Score, x: Tensor, areas: Iterable[float], **options: Any) -> dict[float, MaskResult]:
    """`extremal_mask` for several areas, one after the other: each is a problem of its own."""
    return {area: extremal_mask(score, x, area=area, **options) for area in areas}


# Internals -----------------------------------------------------------------------------------------------------


def _nearest(d: Tensor, wanted: Tensor) -> Tensor:
    """Of all orders of the wanted values the one nearest to d, (N, T): the largest where d is largest."""
    return torch.empty_like(d).scatter_(1, d.argsort(dim=1, stable=True), wanted)


def _result(score: Score, x: Tensor, k: Tensor, mask: Tensor, history: Tensor) -> MaskResult:
    masked, area, tv = terms(mask, x, k)
    with torch.no_grad():
        return MaskResult(mask, value_of(score, masked), area / mask.shape[1], tv, history)
