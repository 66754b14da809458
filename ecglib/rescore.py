"""Scores of many changed versions of every window, in calls of bounded size: the engine under faithfulness measures."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ecglib.cam import class_index
from ecglib.errors import DataError, check_name
from ecglib.modes import evaluating

Score = Callable[[Tensor], Tensor]
Changed = Callable[[Tensor, Tensor], Tensor]

BATCH = 32  #: windows a call: on processors more run no faster, their maps leave the cache


@dataclass(frozen=True)
class ClassScore:
    """Score of a network for the class of each of N windows: ``(N, 1, T) -> (N,)``, see `class_score`."""

    model: nn.Module
    target: Tensor
    of: str

    def __call__(self, x: Tensor) -> Tensor:
        """Score of each window."""
        with evaluating(self.model):
            logits = self.model(x)
        if self.of == "hit":
            return (logits.argmax(1) == self.target).to(x)
        values = logits.softmax(1) if self.of == "probability" else logits
        return values.gather(1, self.target[:, None])[:, 0]

    def at(self, index: Tensor) -> ClassScore:
        """The score of some of the windows, by number: what lets many versions of a few windows share one call."""
        return dataclasses.replace(self, target=self.target[index])


def class_score(model: nn.Module, x: Tensor, target: int | Tensor, *, of: str = "probability") -> ClassScore:
    """Score for curves and other measures: what a network says of one class of each window.

    Parameters
    ----------
    model : nn.Module
        ``(N, 1, T) -> (N, n_classes)`` logits; used in eval mode, every module's own mode restored.
    x : Tensor of shape (N, 1, T)
        The windows; a float64 window asks a copy of the network in float64.
    target : int or Tensor of shape (N,)
    of : {"probability", "logit", "hit"}
        "hit" is 1 where the class has the largest logit, else 0: of it a mean over windows is an accuracy.

    Returns
    -------
    ClassScore
    """
    check_name("score", of, ("probability", "logit", "hit"))
    if next(model.parameters()).dtype != x.dtype:
        model = copy.deepcopy(model).to(x.dtype)
    with evaluating(model), torch.no_grad():
        n_classes = model(x[:1]).shape[1]
    return ClassScore(model, class_index(target, x, n_classes), of)


def sweep(score: Score, x: Tensor, versions: int, changed: Changed, *, batch: int = BATCH) -> Tensor:
    """Scores of ``versions`` changed versions of each window, shape (N, versions), without gradients.

    Parameters
    ----------
    score : callable
        ``(N, 1, T) -> (N,)``, of each window alone.  One that has ``at(index)`` (see `ClassScore.at`) is called with
        ``batch`` windows, versions of one and the same among them; any other may hold something for each window (as
        `ecglib.masks.lstm_score` does), and is called with all N in their order, one version after another.
    x : Tensor of shape (N, 1, T)
    changed : callable
        ``(window (B,), version (B,)) -> (B, 1, T)``.
    batch : int
    """
    n = len(x)
    window, version = (i.flatten() for i in torch.meshgrid(torch.arange(n), torch.arange(versions), indexing="ij"))
    at = getattr(score, "at", None)
    if at is None:  # (N, versions) -> (versions, N): a call is one version of all
        window, version = (i.reshape(n, versions).T.flatten() for i in (window, version))
        batch = n
    out = torch.empty(n, versions, dtype=x.dtype, device=x.device)
    with torch.no_grad(), evaluating(score) if isinstance(score, nn.Module) else nullcontext():
        for i, k in zip(*(v.to(x.device).split(max(batch, 1)) for v in (window, version)), strict=True):
            if len(i):
                values = (score if at is None else at(i))(changed(i, k))
                if values.shape != i.shape:
                    raise DataError(
                        f"score must return one value a window, {tuple(i.shape)}; it gave {tuple(values.shape)}"
                    )
                out[i, k] = values.to(out)
    if out.isnan().any():
        raise DataError(f"score returned NaN for {int(out.isnan().any(1).sum())} of {n} windows")
    return out


def windows_and_relevance(x: Tensor, relevance: Any, *, leading: bool = False) -> tuple[Tensor, Tensor]:
    """Checked, without graph, relevance on the device of x; with ``leading`` it may be (..., N, T)."""
    if x.dim() != 3 or x.shape[1] != 1:
        raise DataError(f"expected windows of shape (N, 1, T), received {tuple(x.shape)}")
    if not torch.isfinite(x).all():
        raise DataError("windows hold values that are not finite; leave those windows out")
    r = torch.as_tensor(np.asarray(relevance) if not isinstance(relevance, Tensor) else relevance, device=x.device)
    expected = (len(x), x.shape[-1])
    if r.shape[-2:] != expected or (r.dim() != 2 and not leading):
        raise DataError(f"expected relevance of shape {expected}, one value a sample; received {tuple(r.shape)}")
    if r.isnan().any():
        raise DataError("relevance holds NaN; an explanation must give every sample a value")
    return x.detach(), r.detach() if r.is_floating_point() else r.to(torch.float64)
