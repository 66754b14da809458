"""What removed samples become, when a set of samples is removed from a window and not a soft mask laid over it.

Constants, "mean" and "blurred" are those of `ecglib.masks`.  "linear" bridges each removed run between the kept samples
at its ends, where a mask, which keeps nothing for certain, has one line through the whole window.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ecglib.errors import DataError, check_name
from ecglib.masks import replacement

FILLS = ("zero", "mean", "linear", "blurred", "noise")  #: named fills; a number is a constant in mV
Fill = float | str | Tensor
Remover = Callable[[Tensor, Tensor], Tensor]


def remove(x: Tensor, gone: Tensor, fill: Fill = "linear", *, seed: int = 0) -> Tensor:
    """Windows without the samples of a set.

    Parameters
    ----------
    x : Tensor of shape (N, 1, T)
        In mV.
    gone : bool Tensor of shape (N, T)
        True where a sample is removed.
    fill : float, {"zero", "mean", "linear", "blurred", "noise"} or Tensor broadcast to x
        A constant in mV; the mean of the whole window; the straight line over each removed run; the whole window blurred
        by a Gaussian of 0.1 s; normal noise of the window's own mean and standard deviation.
    seed : int
        Of "noise": T values, the same ones for every window, so that batching stays exact.

    Returns
    -------
    Tensor of shape (N, 1, T)
        Kept samples as they were.

    Notes
    -----
    "mean", "blurred" and "noise" let through what the removed samples were on average; "linear" and a constant do not,
    "linear" with one exception: where nothing is kept it is the line between the window's ends, as in `learn_mask`.

    Examples
    --------
    >>> x = torch.tensor([[[0.0, 9.0, 9.0, 3.0, 9.0]]])
    >>> remove(x, torch.tensor([[False, True, True, False, True]]))
    tensor([[[0., 1., 2., 3., 3.]]])
    """
    if gone.shape != (len(x), x.shape[-1]) or gone.dtype != torch.bool:
        raise DataError(
            f"gone must be bool of shape {(len(x), x.shape[-1])}; received {gone.dtype} {tuple(gone.shape)}"
        )
    return remover(x, fill, seed=seed)(torch.arange(len(x), device=x.device), gone)


def remover(x: Tensor, fill: Fill, *, seed: int = 0) -> Remover:
    """``(index (B,), gone (B, T)) -> (B, 1, T)``: `remove` from windows of x picked by number, some perhaps repeatedly."""
    if isinstance(fill, str):
        check_name("fill", fill, FILLS)
    if isinstance(fill, str) and fill == "linear":
        return lambda index, gone: bridge(x[index, 0], gone)[:, None]
    if isinstance(fill, str) and fill == "noise":
        noise = torch.randn(x.shape[-1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(x)
        k = x.mean(-1, keepdim=True) + x.std(-1, keepdim=True, correction=0) * noise
    else:
        k = replacement(x, 0.0 if isinstance(fill, str) and fill == "zero" else fill)
    return lambda index, gone: torch.where(gone[:, None], k[index], x[index])


def bridge(x: Tensor, gone: Tensor) -> Tensor:
    """Straight line over each removed run, flat where a run reaches an end of the window: (N, T), (N, T) -> (N, T).

    Where each removed sample is to be the mean of its two neighbours, removed ones included, this is the one solution.
    """
    length = x.shape[-1]
    t = torch.arange(length, device=x.device)
    left = torch.where(gone, -1, t).cummax(-1).values  # last kept sample up to here, -1: none
    right = torch.where(gone, length, t).flip(-1).cummin(-1).values.flip(-1)  # next one, length: none
    a = torch.where(left < 0, torch.where(right < length, right, 0), left)
    b = torch.where(right == length, torch.where(left < 0, length - 1, left), right)
    weight = (t - a).to(x) / (b - a).clamp(min=1)
    start = x.gather(-1, a)
    return torch.where(gone, start + (x.gather(-1, b) - start) * weight, x)
