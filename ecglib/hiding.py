"""What happens to the score of a class when a stretch of the window is hidden, through captum.

Captum divides in single precision whatever it is given, so maps of windows in double are as exact as that.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecglib.batching import Baseline, Forward, Target, at_once, by_part, captum, resting
from ecglib.errors import DataError


def occlusion(
    model: nn.Module,
    x: Tensor,
    target: Target,
    *,
    width: int = 36,
    stride: int = 12,
    baseline: Baseline = 0.0,
    of: str = "logit",
) -> Tensor:
    """Fall of the score when a stretch is replaced by the baseline (Zeiler & Fergus 2014).

    Parameters
    ----------
    model, x, target, baseline, of
        See `ecglib.gradients.integrated_gradients`.
    width, stride : int
        Of the stretch and from one to the next, samples (100 and 33 ms); the last stretch ends with the window.  A sample
        gets the mean over the stretches that hide it.
    """
    if not 1 <= stride <= width <= x.shape[-1]:
        raise DataError(f"width is {width} and stride {stride}; give 1 <= stride <= width <= {x.shape[-1]} samples")
    attr = captum()

    def run(f: Forward, s: Tensor, c: Tensor, b: Tensor) -> Tensor:
        places = max(1, at_once(s) // len(s))
        return attr.Occlusion(f).attribute(
            s, (1, width), strides=(1, stride), baselines=b, target=c, perturbations_per_eval=places
        )

    return by_part(run, model, x, target, resting(baseline, x), of=of)


def feature_ablation(
    model: nn.Module,
    x: Tensor,
    target: Target,
    *,
    parts: Tensor | None = None,
    baseline: Baseline = 0.0,
    of: str = "logit",
) -> Tensor:
    """Fall of the score when one part of the window is replaced by the baseline, given to every sample of the part.

    Parameters
    ----------
    model, x, target, baseline, of
        See `ecglib.gradients.integrated_gradients`.
    parts : Tensor of shape (T,), int, optional
        Number of the part that each sample belongs to, from 0; by default 15 samples (42 ms) are a part.
    """
    attr, length = captum(), x.shape[-1]
    parts = torch.arange(length) // 15 if parts is None else parts
    if parts.shape != (length,):
        raise DataError(f"expected the part of each of {length} samples, received a shape of {tuple(parts.shape)}")
    number = parts.to(x.device).long()[None, None]

    def run(f: Forward, s: Tensor, c: Tensor, b: Tensor) -> Tensor:
        places = max(1, at_once(s) // len(s))
        return attr.FeatureAblation(f).attribute(s, b, target=c, feature_mask=number, perturbations_per_eval=places)

    return by_part(run, model, x, target, resting(baseline, x), of=of)
