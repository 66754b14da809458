"""The smallest change that changes the decision: which stretch of the signal must go for another class to win?

A counterfactual in the sense of Wachter, Mittelstadt and Russell, Harvard Journal of Law & Technology 31(2), 2018, of the
plainest kind: one span, bridged by a straight line.  Differs from theirs: no gradient and no distance to be weighed, but
every span of a grid tried, so what is found is the smallest of that grid and nothing is said between its points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ecglib import FS
from ecglib.errors import DataError
from ecglib.fills import Fill, remover
from ecglib.modes import evaluating

MOST = 600  #: windows that a search may show the network: some ten seconds of one thread


@dataclass(frozen=True)
class Span:
    """A span without which another class wins.

    Attributes
    ----------
    start, stop : float
        Seconds from the first sample.
    before, after : int
        Class of the whole window, and of the window without the span.
    margin : float
        Logit of ``after`` less that of ``before``, without the span.
    tried : int
        Windows shown to the network.
    x : Tensor of shape (1, 1, T)
        The window without the span.
    """

    start: float
    stop: float
    before: int
    after: int
    margin: float
    tried: int
    x: Tensor


def smallest_span(
    model: nn.Module,
    x: Tensor,
    *,
    step_s: float = 0.02,
    longest_s: float | None = None,
    fill: Fill = "linear",
    fs: float = FS,
    most: int = MOST,
) -> Span | None:
    """Shortest contiguous span whose removal changes the class that the network names.

    Spans begin and end on a grid, or with the window.  Lengths are tried from the shortest on, all places of a length at
    once; of several that change the decision the one of the largest margin is returned.

    Parameters
    ----------
    model : nn.Module
        ``(N, 1, T) -> (N, n_classes)``; left as it was.
    x : Tensor of shape (1, 1, T)
    step_s : float
        Step of the grid, s.
    longest_s : float, optional
        Longest span tried; by default as long as ``most`` allows.
    fill : float, str or Tensor
        What a removed span becomes, see `ecglib.fills.remove`: by default the line between its ends.
    fs : float
        Sampling rate, Hz.
    most : int
        Largest number of windows shown to the network, the whole one included.

    Returns
    -------
    Span or None
        None: no span of the grid up to that length changes the decision.

    Raises
    ------
    DataError
        x is not one window, or the grid has more spans than ``most``.
    """
    if x.dim() != 3 or x.shape[:2] != (1, 1):
        raise DataError(f"expected one window of shape (1, 1, T), received {tuple(x.shape)}")
    edges = grid(x.shape[-1], step_s=step_s, fs=fs)
    places = len(edges) - 1  # spans of one step; of k steps there are k - 1 fewer
    lengths = range(1, places + 1 if longest_s is None else min(places, int(longest_s / step_s + 1e-6)) + 1)
    if longest_s is not None and (wanted := 1 + sum(places + 1 - k for k in lengths)) > most:
        raise DataError(f"spans up to {longest_s:g} s in steps of {step_s:g} s are {wanted} windows, more than {most}; "
                        "give a longer step or a shorter longest_s")  # fmt: skip
    take, at, tried = remover(x, fill), torch.arange(x.shape[-1], device=x.device), 1
    with evaluating(model), torch.no_grad():
        before = int(model(x)[0].argmax())
        for k in lengths:
            a, b = edges[:-k].to(x.device), edges[k:].to(x.device)
            if tried + len(a) > most:
                return None
            gone = (at >= a[:, None]) & (at < b[:, None])  # (places, T)
            changed = take(torch.zeros(len(a), dtype=torch.long, device=x.device), gone)
            logits = torch.cat([model(part) for part in changed.split(64)])
            tried += len(a)
            margin, after = (logits - logits[:, [before]]).max(1)
            best = int(margin.argmax())
            if int(after[best]) != before:
                start, stop = float(a[best]) / fs, float(b[best]) / fs
                found = changed[[best]].clone()
                return Span(start, stop, before, int(after[best]), float(margin[best]), tried, found)
    return None


def grid(length: int, *, step_s: float, fs: float = FS) -> Tensor:
    """Edges of spans, samples: multiples of the step, rounded, and the end of the window."""
    if not step_s * fs >= 1:
        raise DataError(f"a step of {step_s:g} s is shorter than a sample at {fs:g} Hz; give at least {1 / fs:.4f}")
    inner = torch.arange(0, int(length / (step_s * fs) + 1e-6) + 1, dtype=torch.float64) * step_s * fs
    return torch.cat([inner.round().long(), torch.tensor([length])]).unique()
