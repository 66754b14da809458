"""Does an explanation depend on what it explains?  Randomised networks, other classes, permuted labels.

Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018, arXiv:1810.03292, and Sixt et al., When explanations lie,
ICML 2020, arXiv:1912.09818.  A map that stays the same when the network has lost its weights, or for another class, was
made by the signal.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from ecglib.attribution import attribute
from ecglib.cam import class_index
from ecglib.errors import DataError, check_name
from ecglib.modes import evaluating
from ecglib.overlap import rank_correlation
from ecglib.windowset import WindowSet

KINDS = ("spearman", "pearson", "ssim")

_SIGMA = 5  # samples (14 ms): the same part of 720 samples as the 1.5 pixels of image SSIM are of 224


def cascading_randomisation(
    model: nn.Module, *, seed: int, depth: int | None = None
) -> Iterator[tuple[str, nn.Module]]:
    """Randomise a network layer by layer from its output to its input, each step on top of those before.

    Parameters
    ----------
    model : nn.Module
        Left untouched.  Layers run in the order in which they were registered, as in `ecglib.models`.
    seed : int
        Of the new weights; the global generator is left as it was.
    depth : int, optional
        Parts of a layer's name by which layers are taken together: with 2, a whole block is one step.  By default every
        layer is a step of its own.

    Yields
    ------
    name : str
        Of the layer that has just lost its weights, such as "head", "lstm" or "blocks.6.body.4".
    model : nn.Module
        A copy of its own at each step, in the modes of the original.

    Raises
    ------
    DataError
        A layer with weights or statistics has no ``reset_parameters``.

    Notes
    -----
    New weights come from each layer's ``reset_parameters``, which also puts the statistics of a batch normalisation back
    to mean 0 and variance 1.  For Hannun's convolutions these are torch's initial weights, not He's.  A layer gets the
    same weights here and in `independent_randomisation`.
    """
    current = copy.deepcopy(model)
    for name, layers in _steps(current, depth):
        _reset(current, layers, seed)
        yield name, copy.deepcopy(current)


def independent_randomisation(
    model: nn.Module, *, seed: int, depth: int | None = None
) -> Iterator[tuple[str, nn.Module]]:
    """Randomise one layer at a time, all others as trained; arguments and yields as of `cascading_randomisation`."""
    for name, layers in _steps(model, depth):
        fresh = copy.deepcopy(model)
        _reset(fresh, layers, seed)
        yield name, fresh


def similarity(
    a: np.ndarray | Tensor, b: np.ndarray | Tensor, *, kind: str = "spearman", absolute: bool = False
) -> np.ndarray:
    """Similarity of maps (N, T) and (N, T), window by window, shape (N,); 1 is the same but for what the kind ignores.

    Parameters
    ----------
    a, b : ndarray or Tensor of shape (N, T)
    kind : {"spearman", "pearson", "ssim"}
        Correlation of ranks or values, NaN where a map is constant; or the structural similarity of Wang et al. (2004) in
        one dimension, of maps each divided by its largest absolute value: Gaussian weights of 5 samples (14 ms), the same
        part of a window as theirs are of an image.  NaN where a map is all 0.
    absolute : bool
        Compare absolute values: maps that differ in sign alone are then the same.

    Examples
    --------
    >>> a = np.array([[1.0, -2.0, 3.0]])
    >>> similarity(a, -a, kind="spearman"), similarity(a, -a, kind="spearman", absolute=True)
    (array([-1.]), array([1.]))
    """
    check_name("similarity", kind, KINDS)
    x, y = (np.asarray(m.detach().cpu() if isinstance(m, Tensor) else m, float) for m in (a, b))
    if x.shape != y.shape or x.ndim != 2:
        raise DataError(f"expected two maps of one shape (N, T), received {x.shape} and {y.shape}")
    if np.isnan(x).any() or np.isnan(y).any():
        raise DataError("a map holds NaN; an explanation must give every sample a value")
    x, y = (np.abs(x), np.abs(y)) if absolute else (x, y)
    if kind == "ssim":
        return _ssim(x, y, span=1 if absolute else 2)
    if kind == "spearman":
        return rank_correlation(x, y)
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    size = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.divide((x * y).sum(1), size, out=np.full(len(x), np.nan), where=size > 0)


def random_logit(
    method: str,
    model: nn.Module,
    x: Tensor,
    target: int | Tensor,
    *,
    seed: int,
    kind: str = "spearman",
    absolute: bool = False,
    **options: Any,
) -> np.ndarray:
    """Distance, 1 - `similarity`, between each window's maps for its class and for a random other one, shape (N,).

    Near 0, the map does not depend on the class.  Differs from Sixt et al. in its kinds of similarity (they use SSIM).

    Parameters
    ----------
    method, model, x, target, **options
        See `ecglib.attribution.attribute`.
    seed : int
        Of the other classes.
    kind, absolute
        See `similarity`.
    """
    with evaluating(model), torch.no_grad():
        n_classes = model(x[:1].to(next((p.dtype for p in model.parameters()), x.dtype))).shape[1]
    true = class_index(target, x, n_classes)
    other = other_class(true, n_classes=n_classes, seed=seed)
    maps = [attribute(method, model, x, c, **options) for c in (true, other)]
    return 1 - similarity(*maps, kind=kind, absolute=absolute)


def other_class(target: Tensor, *, n_classes: int, seed: int) -> Tensor:
    """Draw for each target (N,) one of the other classes, all equally likely."""
    if n_classes < 2:
        raise DataError(f"n_classes is {n_classes}; another class needs at least 2")
    shift = torch.randint(1, n_classes, target.shape, generator=torch.Generator().manual_seed(seed))
    return (target + shift.to(target.device)) % n_classes


def permute_labels(windows: WindowSet, *, seed: int, within: str | None = None) -> WindowSet:
    """Windows with their labels dealt anew, to train a network that has nothing to learn but the windows themselves.

    Parameters
    ----------
    windows : WindowSet
    seed : int
    within : {"patient", "record", "database"}, optional
        Labels move within a group alone, so that each keeps its number of windows by class.  Across patients they move by
        default; a patient who has windows of one class keeps them all within "patient".

    Returns
    -------
    WindowSet
        The same windows in the same order; every class as large as before.
    """
    if within is not None:
        check_name("group", within, ("patient", "record", "database"))
    rng, y = np.random.default_rng(seed), windows.y.copy()
    group = np.zeros(len(y)) if within is None else getattr(windows, within)
    for one in np.unique(group):
        members = np.flatnonzero(group == one)
        y[members] = y[rng.permutation(members)]
    return replace(windows, y=y)


# Internals -----------------------------------------------------------------------------------------------------


def _steps(model: nn.Module, depth: int | None) -> list[tuple[str, list[str]]]:
    """Names of steps, output first, and of the layers in each."""
    if depth is not None and depth < 1:
        raise DataError(f"depth is {depth}; give at least 1, or none")
    steps: dict[str, list[str]] = {}
    for name, module in reversed(list(model.named_modules())):
        own = [*module.parameters(recurse=False), *(b for k, b in module._buffers.items() if k in module.state_dict())]
        if not own:
            continue
        if not hasattr(module, "reset_parameters"):
            raise DataError(
                f"layer {name!r} ({type(module).__name__}) has no reset_parameters; give it one to randomise it"
            )
        steps.setdefault(".".join(name.split(".")[:depth]), []).append(name)
    return list(steps.items())


def _reset(model: nn.Module, names: list[str], seed: int) -> None:
    order = {name: k for k, (name, _) in enumerate(model.named_modules())}
    for name in names:
        layer: Any = model.get_submodule(name)
        device = next((t.device for t in [*layer.parameters(), *layer.buffers()]), None)
        with torch.random.fork_rng(devices=[]):  # on the CPU: the same weights on every device
            torch.manual_seed(int(np.random.SeedSequence([seed, order[name]]).generate_state(1)[0]))
            layer.cpu().reset_parameters()
        layer.to(device)


def _ssim(x: np.ndarray, y: np.ndarray, *, span: float) -> np.ndarray:
    tops = [np.abs(m).max(1, initial=0, keepdims=True) for m in (x, y)]
    x, y = (m / np.where(top > 0, top, np.nan) for m, top in zip((x, y), tops, strict=True))
    mean_x, mean_y, xx, yy, xy = (ndimage.gaussian_filter1d(m, _SIGMA, axis=1) for m in (x, y, x * x, y * y, x * y))
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    level = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    shape = (2 * (xy - mean_x * mean_y) + c2) / (xx - mean_x**2 + yy - mean_y**2 + c2)
    return (level * shape).mean(1)
