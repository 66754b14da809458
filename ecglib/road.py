"""ROAD, remove and debias: a removed sample becomes a noisy mean of its neighbours, so that no hole gives it away.

After Rong et al., ICML 2022, arXiv:2202.00449 (code: tleemann/road_evaluation).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ecglib.errors import check_name
from ecglib.faithfulness import Curve, curve, order, step_counts
from ecglib.fills import bridge
from ecglib.rescore import BATCH, Score, sweep, windows_and_relevance


def road(
    score: Score,
    x: Tensor,
    relevance: Any,
    *,
    steps: int = 24,
    first: str = "most",
    noise: float = 0.01,
    seed: int = 0,
    batch: int = BATCH,
) -> Curve:
    """Deletion with noisy linear imputation.

    Parameters
    ----------
    score, x, relevance, steps, batch
        As in `ecglib.faithfulness.deletion_curve`.  With ``class_score(..., of="hit")`` the mean of the curves is the
        accuracy that the paper plots.
    first : {"most", "least"}
        MoRF or LeRF: a good explanation has a low area under the one and a high one under the other.
    noise : float
        Standard deviation of the noise on each removed sample, mV; 0.01 as in the paper, whose images are scaled to a
        deviation of about 1.
    seed : int
        Of the order among ties and of the noise: T values a step, the same ones for every window.

    Returns
    -------
    Curve
        ``fraction`` is the share removed.

    Notes
    -----
    In an image a removed pixel is the weighted mean of its eight neighbours, removed ones included, which takes a sparse
    linear system for each image and step.  In one dimension the two neighbours have weight 1/2, the one neighbour of an
    end sample has weight 1, and the system is solved exactly by a straight line over each removed run, flat at the ends
    of the window (`ecglib.fills.bridge`): two scans in place of a solver.  At the last step nothing is kept, the
    system is singular, and the line between the window's ends stands in.
    """
    check_name("first", first, ("most", "least"))
    x, r = windows_and_relevance(x, relevance)
    length = x.shape[-1]
    count = step_counts(length, steps).to(x.device)
    rank = order(r if first == "most" else -r, seed=seed)
    drawn = torch.randn(steps + 1, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shaken = noise * drawn.to(x)

    def changed(i: Tensor, k: Tensor) -> Tensor:
        gone = rank[i] < count[k][:, None]
        return (bridge(x[i, 0], gone) + gone * shaken[k])[:, None]

    return curve(count.to(x) / length, sweep(score, x, steps + 1, changed, batch=batch))
