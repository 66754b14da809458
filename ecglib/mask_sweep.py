"""What a mask recipe really does: the path of its mask, and where it ends beside the least that its objective has.

Settings (see `ecglib.mask_settings`) that differ in start, rate, steps or optimiser alone share an objective, and should
end alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ecglib import networks
from ecglib.collapsed import collapse_expected
from ecglib.errors import DataError
from ecglib.mask_settings import FALLING, Rates, Setting
from ecglib.masks import Score, learn_mask, lstm_score, replacement
from ecglib.source import Source
from ecglib.windowset import WindowSet

_OBJECTIVE = ("of", "area", "lambda_area", "lambda_tv", "fill", "clamp")


@dataclass(frozen=True)
class Outcome:
    """Where a setting left the masks of N windows.

    Attributes
    ----------
    mask, best : ndarray of shape (N, T)
        The mask, and the one of the least J known: from `least`, or the end of any setting that shares J.
    objective, least, idle : ndarray of shape (N,)
        J of both, and of the mask that deletes nothing.
    before, after : ndarray of shape (N,)
        Score of the whole and of the masked window.
    """

    mask: np.ndarray
    best: np.ndarray
    objective: np.ndarray
    least: np.ndarray
    idle: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @property
    def relevance(self) -> np.ndarray:
        """1 - mask, (N, T)."""
        return 1 - self.mask

    def reached(self, *, within: float = 0.01, idle: bool = False) -> np.ndarray:
        """Whether J ended within a share of the least |J|, or of 1 where that is less, (N,); ``idle``: without a mask."""
        j = self.idle if idle else self.objective
        return j - self.least <= within * np.maximum(np.abs(self.least), 1)


def path(
    score: Score,
    x: Tensor,
    *,
    at: Iterable[int],
    lr: Rates = 0.001,
    init: float | str | Tensor = 0.0,
    fill: float | str = 0.0,
    **options: Any,
) -> Tensor:
    """Masks on their way.

    `learn_mask` is run on windows of ones with k = 0, where the masked signal *is* the mask, and the signal is masked
    inside of the score: the same objective with the same gradients, and every mask can be seen.

    Parameters
    ----------
    score, x, init, fill, **options
        As for `learn_mask`, without ``n_iter``.
    at : iterable of int
        Numbers of steps after which the mask is kept; 0 is the first mask.
    lr : float, or tuple of (float, int)
        Rate; or rates and for how many steps each, the optimiser beginning anew.

    Returns
    -------
    Tensor of shape (len(at), N, T)
    """
    wanted, k = list(at), replacement(x, fill)
    stages = lr if isinstance(lr, tuple) else ((lr, max(wanted, default=0)),)
    if not wanted or min(wanted) < 0 or not 0 < max(wanted) <= sum(steps for _, steps in stages):
        raise DataError(f"expected numbers of steps, one at least 1 and none beyond the last, received {wanted[:5]}")
    seen: dict[int, Tensor] = {}
    begun = 0
    for rate, steps in stages:
        count = itertools.count(begun)

        def of_mask(m: Tensor, count: Iterator[int] = count) -> Tensor:
            if (step := next(count)) in wanted:
                seen[step] = m.detach()[:, 0].clone()
            return score(m * x + k * (1 - m))

        with collapse_expected():  # on its way a mask may be flat
            init = learn_mask(of_mask, torch.ones_like(x), n_iter=steps, lr=rate, init=init, fill=0.0, **options).mask
        begun += steps
    return torch.stack([seen[step] for step in wanted])


def slopes(score: Score, x: Tensor, *, lr: float, n_iter: int) -> tuple[Tensor, Tensor]:
    """Slopes of the score along the climb from m = 0 in equal steps, k = 0: their sum and their drift, (N, T) each.

    While the area pulls with 1, plain descent adds up lr (1 - slope), so it keeps the sum of the slopes.  Adam divides
    each pull by the root mean square of those so far: what they share cancels, and to first order it keeps the drift, the
    sum of what each slope exceeds the mean of the slopes so far by.
    """
    total, drift = torch.zeros_like(x[:, 0]), torch.zeros_like(x[:, 0])
    for n in range(n_iter):
        mask = torch.full_like(x, n * lr).requires_grad_()
        slope = torch.autograd.grad(score(mask * x).sum(), mask)[0][:, 0]
        total += slope
        drift += slope - total / (n + 1)
    return total, drift


def objective(score: Score, x: Tensor, mask: Tensor, setting: Setting) -> tuple[Tensor, Tensor]:
    """J and score of masks (N, T), (N,) each."""
    m, k = mask[:, None], replacement(x, setting["fill"])
    area = (1 - mask).abs().mean(1) * (1 if setting["area"] == "mean" else mask.shape[1])
    with torch.no_grad():
        value = score(m * x + k * (1 - m))
    return setting["lambda_area"] * area + setting["lambda_tv"] * mask.diff().abs().sum(1) + value, value


def least(score: Score, x: Tensor, setting: Setting) -> Tensor:
    """Mask of the least J that a patient search finds, (N, T), window by window.

    From 1 and from 0.5 Adam runs at falling rates (`FALLING`).  No step ends exactly on a kink of |·|, so masks rounded
    to 0.01 compete, too, and so do those that delete nothing and everything.
    """
    fixed = {name: setting[name] for name in _OBJECTIVE if name != "of"}
    steps = list(itertools.accumulate(n for _, n in FALLING))
    found = [torch.ones_like(x[:, 0]), torch.zeros_like(x[:, 0])]
    for start in (1.0, 0.5):
        for mask in path(score, x, at=steps, init=start, lr=FALLING, **fixed):
            found += [mask, mask.mul(100).round() / 100]
    return _best(score, x, setting, found)


def sweep(
    score_of: Callable[[str], Score], x: Tensor, settings: Mapping[str, Setting], *, progress: bool = False
) -> dict[str, Outcome]:
    """Run every setting on the same windows and compare it with the least J known.

    Parameters
    ----------
    score_of : callable
        ``score_of("probability")`` and ``score_of("logit")`` give scores as for `learn_mask`.
    x : Tensor of shape (N, 1, T)
        Better float64: the deck's masks differ between samples by a millionth.
    settings : mapping of str to mapping
    progress : bool
        Show a progress bar.
    """
    paths: dict[tuple[Any, ...], list[str]] = {}  # settings that differ in their steps alone lie on one path
    goals: dict[tuple[Any, ...], list[str]] = {}
    for name, setting in settings.items():
        paths.setdefault(tuple((k, v) for k, v in sorted(setting.items()) if k != "n_iter"), []).append(name)
        goals.setdefault(tuple(setting[k] for k in _OBJECTIVE), []).append(name)
    ends: dict[str, Tensor] = {}
    for key, names in tqdm(paths.items(), desc="masks", disable=not progress):
        options, steps = dict(key), [settings[name]["n_iter"] for name in names]
        ends |= dict(zip(names, path(score_of(options.pop("of")), x, at=steps, **options), strict=True))
    out = {}
    for names in tqdm(goals.values(), desc="minima", disable=not progress):
        setting = settings[names[0]]
        score, idle = score_of(setting["of"]), torch.ones_like(x[:, 0])
        best = _best(score, x, setting, [least(score, x, setting), *(ends[name] for name in names)])
        for name in names:
            (j, after), (floor, _), (whole, before) = (
                objective(score, x, mask, setting) for mask in (ends[name], best, idle)
            )
            out[name] = Outcome(*(v.cpu().numpy() for v in (ends[name], best, j, floor, whole, before, after)))
    return {name: out[name] for name in settings}


def held_out(
    source: Source, windows: WindowSet, settings: Mapping[str, Setting], *, dtype: torch.dtype = torch.float64
) -> dict[str, Outcome]:
    """`sweep` for the annotated classes, each window on the network that never saw its patient."""
    found, order = [], []
    for net, index in networks.by_network(source, windows):
        x, y = torch.from_numpy(windows.x[index]).to(dtype), torch.from_numpy(windows.y[index])
        found.append(sweep(lru_cache(lambda of, net=net, x=x, y=y: lstm_score(net, x, y, of=of)), x, settings))
        order.append(index)
    back = np.argsort(np.concatenate(order))
    return {
        name: Outcome(*(np.concatenate([getattr(f[name], at.name) for f in found])[back] for at in fields(Outcome)))
        for name in settings
    }


# Internals -----------------------------------------------------------------------------------------------------


def _best(score: Score, x: Tensor, setting: Setting, masks: list[Tensor]) -> Tensor:
    """Of several masks the one of the least J, window by window."""
    j = torch.stack([objective(score, x, mask, setting)[0] for mask in masks])
    return torch.stack(masks)[j.argmin(0), torch.arange(len(x))]
