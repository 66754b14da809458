"""Does the network need what an explanation calls relevant?  Samples are removed in order of relevance, scores watched.

Curves and what is read from them stand here, `ecglib.road` beside them; measures from random changes come from
`ecglib.fidelity`.  Every window is its own problem: nothing is normalised over a batch, and what is drawn is drawn once
for all windows, so a batch gives what one window at a time gives.

Beside Quantus 0.6, whose numbers ``benchmarks/faithfulness.py`` sets beside ours: its pixel flipping has no step 0 and
breaks ties as a sort happens to; relevance is divided by the largest of the *batch* unless told otherwise; "black" is
each window's minimum; its ROAD is an accuracy over the batch; its sensitivity-n is a correlation over the windows of a
batch, at each step of one deletion, and its infidelity removes block after block, keeping the earlier ones removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ecglib.errors import DataError
from ecglib.fidelity import Sensitivity, faithfulness_correlation, infidelity, sensitivity, sensitivity_n
from ecglib.fills import Fill, remover
from ecglib.rescore import BATCH, Score, class_score, sweep, windows_and_relevance

__all__ = [
    "Curve", "Sensitivity", "aopc", "class_score", "curve", "degradation_score", "deletion_curve",
    "faithfulness_correlation", "infidelity", "insertion_curve", "order", "pixel_flipping", "sensitivity",
    "sensitivity_n", "sparseness", "step_counts",
]  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """Score of N windows as samples go or come.

    Attributes
    ----------
    fraction : Tensor of shape (steps + 1,)
        Share of the samples that is removed (deletion) or present (insertion), from 0 to 1.
    score : Tensor of shape (N, steps + 1)
    auc : Tensor of shape (N,)
        Area under the score over the fraction, by trapezia: a mean score, on the score's own scale.
    """

    fraction: Tensor
    score: Tensor
    auc: Tensor


def curve(fraction: Tensor, score: Tensor) -> Curve:
    """Curve with its area."""
    return Curve(fraction, score, torch.trapezoid(score, fraction, dim=1))


def deletion_curve(
    score: Score,
    x: Tensor,
    relevance: Any,
    *,
    steps: int = 24,
    fill: Fill = "linear",
    seed: int = 0,
    batch: int = BATCH,
) -> Curve:
    """Remove samples, the most relevant first (MoRF), and score what is left; a low area speaks for the explanation.

    Parameters
    ----------
    score : callable
        ``(N, 1, T) -> (N,)``, differentiable or not; called without gradients.  `class_score` makes one that may be
        called in small batches and that holds its network in eval mode; a network behind any other is the caller's to
        set.  See `ecglib.rescore.sweep`.
    x : Tensor of shape (N, 1, T)
        In mV, float32 or float64.
    relevance : Tensor or array of shape (N, T)
        Only its order counts, sign included.
    steps : int
        Steps of equal size, to a sample; at step k, floor(kT / steps + 1/2) samples are gone.
    fill : float, {"zero", "mean", "linear", "blurred", "noise"} or Tensor broadcast to x
        What a removed sample becomes: see `ecglib.fills.remove`.
    seed : int
        Of the order among samples that tie, one permutation of all positions for every window, and of the fill "noise".
        So a constant relevance gives the curve of that random order, alone or in a batch; other seeds, other orders.
    batch : int
        Windows a call of the score, if the score may be called so.

    Returns
    -------
    Curve

    Raises
    ------
    DataError
        Relevance holds NaN or has another shape than (N, T); x is not (N, 1, T); steps exceed T; the score gives NaN or
        not one value a window.
    UnknownNameError
        There is no such fill.

    Notes
    -----
    As pixel flipping (Bach et al., PLOS ONE 10(7), 2015) and the deletion of RISE (Petsiuk et al., BMVC 2018,
    arXiv:1806.07421); RISE removes to zero, here the default bridges what is removed, because a flat stretch at 0 mV
    with two jumps is no ECG.  A bridge hides little while removed samples lie scattered: compare methods that tie or
    scatter with care, or with another fill beside.

    Examples
    --------
    >>> x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    >>> found = deletion_curve(lambda x: x[:, 0].sum(1), x, x[:, 0], steps=4, fill=0.0)
    >>> found.score, found.auc
    (tensor([[10.,  6.,  3.,  1.,  0.]]), tensor([3.7500]))
    """
    x, r = windows_and_relevance(x, relevance)
    count = step_counts(x.shape[-1], steps).to(x.device)
    rank, take = order(r, seed=seed), remover(x, fill, seed=seed)
    found = sweep(score, x, steps + 1, lambda i, k: take(i, rank[i] < count[k][:, None]), batch=batch)
    return curve(count.to(x) / x.shape[-1], found)


def insertion_curve(
    score: Score,
    x: Tensor,
    relevance: Any,
    *,
    steps: int = 24,
    fill: Fill = "linear",
    seed: int = 0,
    batch: int = BATCH,
) -> Curve:
    """Bring samples back to a window without any, the most relevant first; a high area speaks for the explanation.

    Parameters and errors are those of `deletion_curve`.

    Notes
    -----
    RISE (Petsiuk et al., BMVC 2018), which begins at a blurred image: ``fill="blurred"``.  With k samples back, the least
    relevant others are gone: this is the deletion of the least relevant first (LeRF), read from its end, and ties break
    accordingly, so that a constant relevance has the same area under both curves.
    """
    x, r = windows_and_relevance(x, relevance)
    lerf = deletion_curve(score, x, -r, steps=steps, fill=fill, seed=seed, batch=batch)
    return Curve(1 - lerf.fraction.flip(0), lerf.score.flip(1), lerf.auc)


def pixel_flipping(
    score: Score, x: Tensor, relevance: Any, *, steps: int | None = None, fill: Fill = 0.0, **options: Any
) -> Curve:
    """`deletion_curve`, one sample a step and to zero unless told otherwise (Bach et al., PLOS ONE 10(7), 2015)."""
    return deletion_curve(score, x, relevance, steps=x.shape[-1] if steps is None else steps, fill=fill, **options)


def aopc(deletion: Curve) -> Tensor:
    """Mean drop of the score over the steps of a deletion, step 0 included, shape (N,); higher is better.

    1 / (L + 1) sum_{k = 0..L} f(x) - f(x^(k)), of Samek et al., IEEE TNNLS 28(11), 2017, arXiv:1509.06321, for each
    window where they take the mean over all; their x^(k) lacks k regions of 9 × 9 pixels, ours k steps of the curve.
    """
    return (deletion.score[:, :1] - deletion.score).mean(1)


def degradation_score(deletion: Curve, insertion: Curve) -> Tensor:
    """Area between LeRF and MoRF, shape (N,): positive if the order is better than its reverse, 0 if it says nothing.

    The insertion curve is LeRF read from its end, so nothing is scored anew.  After Schulz et al., ICLR 2020,
    arXiv:2001.00396, and, for ECG, Suh et al., arXiv:2211.12702; not divided by each window's drop from the whole signal
    to none, which may be near 0.
    """
    if deletion.score.shape != insertion.score.shape:
        raise DataError(
            f"expected two curves of the same windows and steps, received {tuple(deletion.score.shape)} and"
            f" {tuple(insertion.score.shape)}"
        )
    return insertion.auc - deletion.auc


def sparseness(relevance: Any) -> Tensor:
    """Gini index of |relevance| (N, T), shape (N,): 0 if all samples have the same, 1 - 1/T if one has all; else NaN.

    Chalasani et al., ICML 2020, arXiv:1810.06583.  NaN where relevance is 0 throughout.

    >>> sparseness(torch.tensor([[0.0, 0.0, -3.0, 0.0], [1.0, 1.0, 1.0, 1.0]]))
    tensor([0.7500, 0.0000])
    """
    r = torch.as_tensor(relevance).abs().sort(1).values
    length = r.shape[1]
    weight = 2 * torch.arange(1, length + 1, device=r.device) - length - 1
    return (weight * r).sum(1) / (length * r.sum(1))


def step_counts(length: int, steps: int) -> Tensor:
    """Samples removed after each step, shape (steps + 1,), from 0 to ``length``."""
    if not 1 <= steps <= length:
        raise DataError(f"steps is {steps}; give 1 to {length}, at most one step a sample")
    return (2 * length * torch.arange(steps + 1) + steps) // (2 * steps)


def order(relevance: Tensor, *, seed: int) -> Tensor:
    """Place of each sample of (N, T) by falling relevance, from 0; ties by one permutation for all rows."""
    length = relevance.shape[1]
    shuffled = torch.randperm(length, generator=torch.Generator().manual_seed(seed)).to(relevance.device)
    first = shuffled[relevance[:, shuffled].argsort(dim=1, descending=True, stable=True)]
    return torch.empty_like(first).scatter_(1, first, torch.arange(length, device=first.device).expand_as(first))
