"""A network of somebody else's, dressed so that the explanations here can be asked of it.

`wrap` takes any ``nn.Module`` that maps one lead to a score for each class, whatever its rate and length, and names one
of its convolutions.  The result takes windows as the networks here do, in mV at 360 Hz, and offers a ``feature_map``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ecglib import FS, WINDOW, signals
from ecglib.batching import SCORES, same_dtype
from ecglib.cam import class_index
from ecglib.errors import DataError, check_name
from ecglib.layers import output_of, run, step_centres
from ecglib.modes import differentiable_rnn, evaluating


class Wrapped(nn.Module):
    """Network behind windows (N, 1, T) in mV at 360 Hz; made by `wrap`.

    Attributes
    ----------
    module : nn.Module
        The network as it came.
    classes : tuple of str
    samples : int
        T: a window at 360 Hz is as long, in seconds, as the network's input.
    """

    rate: (
        Tensor  # (T, length): samples at the network's rate from samples at 360 Hz, as ecglib.signals.resample has them
    )

    def __init__(self, module: nn.Module, *, classes: Sequence[str], fs: float, length: int):
        super().__init__()
        self.module, self.classes = module, tuple(classes)
        self.samples = math.ceil(length / fs * FS - 1e-9)
        rows = signals.resample(np.eye(self.samples, dtype=np.float32), native_fs=FS, fs=fs)[:length]
        self.register_buffer("rate", torch.from_numpy(np.ascontiguousarray(rows.T)))

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, n_classes) of windows (N, 1, T)."""
        return self.module(self.own(x))

    def own(self, x: Tensor) -> Tensor:
        """What the network sees of windows (N, 1, T): (N, 1, length)."""
        if x.shape[1:] != (1, self.samples):
            raise DataError(f"expected windows of shape (N, 1, {self.samples}), received {tuple(x.shape)}")
        return x @ self.rate


class Mapped(Wrapped):
    """`Wrapped`, with a map of one layer.

    Attributes
    ----------
    centres : Tensor of shape (S,)
        Sample of the window in the middle of what each step of the layer sees.
    """

    centres: Tensor
    place: Tensor  # (S, T): value at each sample, linear between the centres

    def __init__(self, module: nn.Module, *, layer: str, classes: Sequence[str], fs: float, length: int):
        super().__init__(module, classes=classes, fs=fs, length=length)
        self.layer = layer
        centres = step_centres(module, layer, length=length) * FS / fs
        self.register_buffer("centres", torch.from_numpy(centres).float())
        rows = [np.interp(np.arange(self.samples), centres, one) for one in np.eye(len(centres))]
        self.register_buffer("place", torch.from_numpy(np.array(rows)).float())

    def feature_map(self, x: Tensor) -> Tensor:
        """Output of the layer brought to every sample, (N, K, T)."""
        return output_of(self.module, self.layer, self.own(x)) @ self.place

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, n_classes) of windows (N, 1, T)."""
        if "feature_map" not in vars(self):
            return super().forward(x)
        # Grad-CAM watches the map. The layer's own steps go on, unchanged, and tell each sample the mean of their
        # gradients: so the weight of a unit, the mean over samples, is that of the paper, the mean over steps.
        own, seen = self.own(x), self.feature_map(x)
        steps = output_of(self.module, self.layer, own).detach()
        steps = steps + (seen - seen.detach()).mean(-1, keepdim=True) * seen.shape[-1] / steps.shape[-1]
        return run(self.module, self.layer, own, lambda output: steps)


def wrap(
    module: nn.Module,
    *,
    layer: str | None,
    classes: Sequence[str],
    fs: float = FS,
    length: int = WINDOW,
    head: str | None = None,
) -> Wrapped:
    """Dress a network so that maps, gradients, occlusion and masks can be asked of it.

    Parameters
    ----------
    module : nn.Module
        ``(N, 1, length) -> (N, n_classes)``: one lead in mV at ``fs`` Hz, logits.
    layer : str or None
        Name of a convolution (or what follows it) as ``named_modules`` has it, with an output (N, K, S).  None gives no
        ``feature_map``: of a TorchScript module, whose inner layers take no hooks, that is all there is.
    classes : sequence of str
        Names of the outputs.
    fs, length : float, int
        The network's rate, Hz, and samples.
    head : str, optional
        Name of a linear layer that reads nothing but the mean of the layer over its steps; then the closed form of the
        class activation map holds too.

    Returns
    -------
    Wrapped
        Takes windows (N, 1, T) at 360 Hz; T is 720 where the network's input lasts 2 s.  ``feature_map`` has a value a
        sample, so maps need no further upsampling; each step of the layer stands where its receptive field has its
        middle, which is measured.  Grad-CAM is that of the paper, linear between the steps.

    Raises
    ------
    DataError, UnknownNameError
        No such layer; a module that cannot read such windows or gives another number of scores; TorchScript with a layer;
        a path, also of ONNX; a head that reads something else.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 4, 9, 4), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> wrap(net, layer="0", classes=["N", "PVC"], fs=250, length=500, head="3").feature_map(torch.zeros(1, 1, 720)).shape
    torch.Size([1, 4, 720])
    """
    if not isinstance(module, nn.Module):
        onnx = "ONNX is not read here: convert it with onnx2torch" if str(module).endswith(".onnx") else "load it first"
        raise DataError(f"expected a torch nn.Module, received {str(module)[:80]!r}; {onnx} and give the module")
    if not (math.isfinite(fs) and fs > 0 and length >= 1):
        raise DataError(f"fs is {fs} and length is {length}; give the network's rate in Hz and its samples")
    scores = _try(module, length)
    if scores.shape != (2, len(classes)):
        raise DataError(
            f"expected {len(classes)} scores a window, one a class; the module gave {tuple(scores.shape)} for 2"
        )
    if layer is None:
        return Wrapped(module, classes=classes, fs=fs, length=length)
    if isinstance(module, torch.jit.ScriptModule):
        raise DataError("TorchScript takes no hooks on its inner layers; give layer=None and use gradients or masks")
    check_name("layer", layer, [name for name, _ in module.named_modules() if name])
    calls: list[int] = []
    with evaluating(module), torch.no_grad():
        run(module, layer, _silence(module, length), lambda output: calls.append(1))
    if len(calls) != 1:
        raise DataError(f"layer {layer!r} runs {len(calls)} times for a window, and a map is of one time; name another")
    wrapped = Mapped(module, layer=layer, classes=classes, fs=fs, length=length)
    if head is not None:
        wrapped.head = _head(module, layer, head, length=length)
    return wrapped


def class_score(model: nn.Module, x: Tensor, target: int | Tensor, *, of: str = "logit") -> Callable[[Tensor], Tensor]:
    """Score ``(N, 1, T) -> (N,)`` of the target class for `ecglib.masks.learn_mask`; the model is left untouched.

    ``of`` is "logit" or "probability".  Unlike `ecglib.masks.lstm_score` the whole network sees the masked signal.
    """
    check_name("score", of, SCORES)
    model = same_dtype(model, x)
    with evaluating(model), torch.no_grad():
        index = class_index(target, x, model(x[:1]).shape[1])

    def score(masked: Tensor) -> Tensor:
        with differentiable_rnn(model):
            logits = model(masked)
        values = logits.softmax(1) if of == "probability" else logits
        return values.gather(1, index[:, None])[:, 0]

    return score


# Internals -----------------------------------------------------------------------------------------------------


def _silence(module: nn.Module, length: int) -> Tensor:
    example = next(module.parameters(), torch.zeros(1))
    return torch.zeros(2, 1, length, dtype=example.dtype, device=example.device)


def _try(module: nn.Module, length: int) -> Tensor:
    try:
        with evaluating(module), torch.no_grad():
            return module(_silence(module, length))
    except Exception as error:  # whatever the module trips over
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise DataError(f"the module cannot read windows (2, 1, {length}): {why}") from error


def _head(module: nn.Module, layer: str, head: str, *, length: int) -> nn.Linear:
    check_name("head", head, [name for name, m in module.named_modules() if isinstance(m, nn.Linear)])
    linear: Any = module.get_submodule(head)
    x = torch.randn(4, 1, length, generator=torch.Generator().manual_seed(0)).to(linear.weight)
    with evaluating(module), torch.no_grad():
        pooled, logits = output_of(module, layer, x).mean(-1), module(x)
        exact = pooled.shape[1] == linear.in_features and torch.allclose(linear(pooled), logits, rtol=1e-3, atol=1e-4)
    if not exact:
        raise DataError(f"head {head!r} reads something else than the mean of {layer!r}; leave it out and use grad_cam")
    return linear
