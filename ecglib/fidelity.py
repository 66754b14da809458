"""Measures of an explanation from random changes of the signal: infidelity, sensitivity, sensitivity-n.

Changes are drawn once for all windows, so a batch gives what one window at a time gives.  The scores of changed windows
do not depend on the explanation: give ``relevance`` as (methods, N, T), and the network runs once for all methods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ecglib import FS
from ecglib.errors import DataError, check_name
from ecglib.fills import Fill, remover
from ecglib.rescore import BATCH, Score, sweep, windows_and_relevance

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)  #: of the samples, for `sensitivity_n`


@dataclass(frozen=True)
class Sensitivity:
    """Largest and mean relative change of N explanations under small changes of the signal, each of shape (N,)."""

    max: Tensor
    mean: Tensor


def infidelity(
    score: Score,
    x: Tensor,
    relevance: Any,
    *,
    perturbation: str | Tensor = "gaussian",
    draws: int = 100,
    sigma: float = 0.1,
    width: float = 0.1,
    fill: Fill = 0.0,
    rescale: bool = False,
    fs: float = FS,
    seed: int = 0,
    batch: int = BATCH,
) -> Tensor:
    """E_I [(I . Phi - (f(x) - f(x - I)))^2]: how well relevance Phi foretells what a change I does to the score.

    Parameters
    ----------
    score, x, fill, batch
        As in `ecglib.faithfulness.deletion_curve`.
    relevance : Tensor or array of shape (..., N, T)
        Phi, on the scale of a gradient: score a mV.  Of an explanation that divides the score up, as x times gradient
        does, give relevance / x.
    perturbation : {"gaussian", "square"} or Tensor of shape (draws, T)
        "gaussian": I is normal noise of deviation ``sigma`` mV.  "square": one run of ``width`` s at a random place is
        removed, I is what it loses.  A bool tensor gives the sets to remove, any other the changes I themselves.
    draws : int
    rescale : bool
        Multiply each window's Phi by the factor that lowers its infidelity most, sum of I.Phi times the change of score
        over sum of (I.Phi)^2: for maps and masks, whose scale means nothing.
    seed : int
        Of the draws, the same ones for every window.

    Returns
    -------
    Tensor of shape (..., N)
        In squares of the score; lower is better, 0 is exact.

    Notes
    -----
    Yeh et al., NeurIPS 2019, arXiv:1901.09392, with their optimal scale.  `captum.metrics.infidelity` is the same
    (``normalize`` is ``rescale``) where its ``perturb_func`` returns I itself, and draws anew for each window.
    """
    x, phi = windows_and_relevance(x, relevance, leading=True)
    changed, draws = _perturbed(x, perturbation, draws, sigma, round(width * fs), fill, seed)
    change = _drops(score, x, draws, changed, batch)[0]
    foretold = torch.empty(*phi.shape[:-1], draws, dtype=torch.float64, device=x.device)  # (..., N, draws)
    every = torch.arange(draws, device=x.device)
    for n in range(len(x)):  # one window's changes at a time: (draws, T)
        lost = x[n, 0] - changed(torch.full_like(every, n), every)[:, 0]
        foretold[..., n, :] = phi[..., n, :].to(torch.float64) @ lost.to(torch.float64).T
    if rescale:
        size = foretold.square().sum(-1, keepdim=True)
        foretold = foretold * torch.where(size > 0, (foretold * change).sum(-1, keepdim=True) / size, 0)
    return (foretold - change).square().mean(-1).to(x.dtype)


def sensitivity(
    explain: Callable[[Tensor], Any], x: Tensor, *, radius: float = 0.02, draws: int = 10, seed: int = 0
) -> Sensitivity:
    """Relative change of an explanation, |Phi(x + d) - Phi(x)| / |Phi(x)|, when no sample moves by more than ``radius``.

    Parameters
    ----------
    explain : callable
        ``(N, 1, T) -> (N, T)``; called with all N windows in their order, so it may hold a target for each.
    x : Tensor of shape (N, 1, T)
    radius : float
        mV; d is uniform within ± radius, the same ``draws`` signals for every window.
    draws : int
        The largest change found grows with their number; the mean does not.
    seed : int

    Returns
    -------
    Sensitivity
        Where relevance is 0 throughout, the change itself.

    Notes
    -----
    Yeh et al., NeurIPS 2019, arXiv:1901.09392.  The largest is `captum.metrics.sensitivity_max` (Euclidean norm), which
    draws anew for each window; largest and mean are Max- and Avg-Sensitivity of Quantus.
    """
    if draws < 1 or radius < 0:
        raise DataError(f"draws is {draws} and radius is {radius}; give at least one draw and a radius of 0 or more")
    x, base = windows_and_relevance(x, explain(x))
    uniform = torch.rand(draws, x.shape[-1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    norm = base.norm(dim=1)
    found = torch.empty(draws, len(x), dtype=base.dtype, device=x.device)
    for k, moved in enumerate((radius * (2 * uniform - 1)).to(x)):
        found[k] = (windows_and_relevance(x, explain(x + moved))[1] - base).norm(dim=1) / torch.where(norm > 0, norm, 1)
    return Sensitivity(found.amax(0), found.mean(0))


def sensitivity_n(
    score: Score,
    x: Tensor,
    relevance: Any,
    *,
    shares: Sequence[float] = SHARES,
    sets: int = 100,
    fill: Fill = 0.0,
    seed: int = 0,
    batch: int = BATCH,
) -> Tensor:
    """Correlation between the relevance of n random samples and what their removal takes from the score.

    Parameters
    ----------
    score, x, fill, batch
        As in `ecglib.faithfulness.deletion_curve`.
    relevance : Tensor or array of shape (..., N, T)
        On the scale of x times gradient, where that matters: a sum of it stands for a share of the score.
    shares : sequence of S float
        n / T; n is at least 1.
    sets : int
        Random sets of each size, the same ones for every window.
    seed : int

    Returns
    -------
    Tensor of shape (..., N, S)
        Pearson's correlation over the sets; NaN where the relevance of the sets or the score does not vary, beyond
        rounding.

    Notes
    -----
    Ancona et al., ICLR 2018, arXiv:1711.06104, who draw 100 sets of each size.  Quantus' SensitivityN draws none: it
    deletes from the most relevant on and correlates over the windows of a batch.
    """
    x, r = windows_and_relevance(x, relevance, leading=True)
    length = x.shape[-1]
    if sets < 2 or not all(0 < share <= 1 for share in shares):
        raise DataError(f"sets is {sets} and shares are {tuple(shares)}; give two sets or more, and shares in (0, 1]")
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.tensor([max(1, round(share * length)) for share in shares])
    places = torch.rand(len(shares), sets, length, generator=generator).argsort(-1).argsort(-1)
    gone = (places < sizes[:, None, None]).to(x.device)  # (S, sets, T)
    take, flat = remover(x, fill, seed=seed), gone.flatten(0, 1)
    drop, rounding = _drops(score, x, len(flat), lambda i, k: take(i, flat[k]), batch)
    found = []
    for chosen, fell in zip(gone.to(torch.float64), drop.unflatten(1, (-1, sets)).unbind(1), strict=True):
        total = r.to(torch.float64) @ chosen.T  # (..., N, sets)
        found.append(_pearson(total, fell, 1e-12 * total.abs().amax(-1), rounding))
    return torch.stack(found, -1).to(x.dtype)


def faithfulness_correlation(
    score: Score, x: Tensor, relevance: Any, *, share: float = 0.1, sets: int = 100, **options: Any
) -> Tensor:
    """`sensitivity_n` for sets of one size, shape (..., N): Bhatt et al., IJCAI 2020, arXiv:2005.00631."""
    return sensitivity_n(score, x, relevance, shares=(share,), sets=sets, **options)[..., 0]


# Internals -----------------------------------------------------------------------------------------------------


def _perturbed(
    x: Tensor, perturbation: str | Tensor, draws: int, sigma: float, width: int, fill: Fill, seed: int
) -> tuple[Callable[[Tensor, Tensor], Tensor], int]:
    """Changed windows by number of window and draw, and the number of draws."""
    length, generator = x.shape[-1], torch.Generator().manual_seed(seed)
    if isinstance(perturbation, Tensor):
        if perturbation.dim() != 2 or not len(perturbation) or perturbation.shape[1] != length:
            raise DataError(f"expected perturbations of shape (draws, {length}), received {tuple(perturbation.shape)}")
        lost = perturbation
    elif draws < 1 or not 1 <= width <= length:
        raise DataError(f"draws is {draws} and width {width} samples; give at least one draw and 1 to {length} samples")
    elif check_name("perturbation", perturbation, ("gaussian", "square")) == "gaussian":
        lost = sigma * torch.randn(draws, length, generator=generator, dtype=torch.float64)
    else:
        start = torch.randint(length - width + 1, (draws, 1), generator=generator)
        lost = (torch.arange(length) >= start) & (torch.arange(length) < start + width)
    if lost.dtype == torch.bool:
        gone, take = lost.to(x.device), remover(x, fill, seed=seed)
        return lambda i, k: take(i, gone[k]), len(gone)
    change = lost.to(x)
    return lambda i, k: x[i] - change[k][:, None], len(change)


def _drops(
    score: Score, x: Tensor, versions: int, changed: Callable[[Tensor, Tensor], Tensor], batch: int
) -> tuple[Tensor, Tensor]:
    """Score of the whole less that of changed windows, (N, versions), float64; and what may be rounding of it, (N,)."""
    whole = sweep(score, x, 1, lambda i, k: x[i], batch=batch)
    after = sweep(score, x, versions, changed, batch=batch)
    largest = torch.cat([whole, after], 1).abs().amax(1).to(torch.float64)
    return whole.to(torch.float64) - after.to(torch.float64), 4 * torch.finfo(x.dtype).eps * largest


def _pearson(a: Tensor, b: Tensor, least_a: Tensor, least_b: Tensor) -> Tensor:
    """Correlation over the last axis; NaN where a or b stays within its ``least`` of its mean."""
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    still = (a.abs().amax(-1) <= least_a) | (b.abs().amax(-1) <= least_b)
    size = a.norm(dim=-1) * b.norm(dim=-1)
    return torch.where(still, torch.nan, (a * b).sum(-1) / size)
