"""The residual network of Hannun et al., Nature Medicine 2019, arXiv:1707.01836.

Layers follow the authors' public code (awni/ecg, ``ecg/network.py``); the text is our own.  Shapes are
``(batch, channels, time)``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecglib.errors import DataError
from ecglib.models.layers import Dropout, pad_same

KERNEL = 16
HALVES = 256  #: the network halves time eight times; every halving wants an even number of steps


class Conv(nn.Conv1d):
    """Convolution with Keras' 'same' padding: (N, c_in, T) -> (N, c_out, ceil(T / stride)); He's normal weights."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__(c_in, c_out, KERNEL, stride)
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(x, KERNEL, self.stride[0]))


class Block(nn.Module):
    """Two convolutions beside a pooled shortcut: (N, c_in, T) -> (N, c_out, T / stride).

    Where channels double, zeros stand in for the shortcut's missing half.  ``first`` omits the opening BN-ReLU, right
    behind the network's own.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int, first: bool, dropout: float) -> None:
        super().__init__()
        opening = [] if first else [nn.BatchNorm1d(c_in), nn.ReLU()]
        closing = [nn.BatchNorm1d(c_out), nn.ReLU(), Dropout(dropout), Conv(c_out, c_out)]
        self.body = nn.Sequential(*opening, Conv(c_in, c_out, stride), *closing)
        self.pool = nn.MaxPool1d(stride)  # of 'valid' kind: it rounds down where the convolution rounds up
        self.zeros = c_out - c_in

    def forward(self, x: Tensor) -> Tensor:
        body, shortcut = self.body(x), self.pool(x)
        if body.shape[-1] != shortcut.shape[-1]:
            raise DataError(
                f"a residual sum of {body.shape[-1]} and {shortcut.shape[-1]} steps; Hannun's network needs a multiple "
                f"of {HALVES} samples: pad 720 by 24 at each end"
            )
        return body + F.pad(shortcut, (0, 0, 0, self.zeros))  # (N, c_out, T / stride)


class Hannun(nn.Module):
    """34 layers: a convolution, sixteen residual blocks of two, and a dense layer for every 256 samples.

    Parameters
    ----------
    n_classes : int
    width : int
        Channels of the first convolution; 32 as published, doubled after every fourth block.
    dropout : float
    pad : int
        Samples reflected at each end of the window.  24 gives 768 = 3 * 256; with 0 the network cannot run: 720 comes to
        45 steps, of which block 9 makes 23 by convolution and 22 by pooling.

    Notes
    -----
    Differs from the published network: it gives one distribution for every 256 samples, each with a label of its own; a
    window here has one label.  The three distributions are averaged and the logits are the logarithm of that mean, so
    their softmax is the mean of the published outputs, and one step may know what the other two do not see.  (Averaging
    the three logits instead would make every step vote on what it may not contain.)  Constants of the batch
    normalisations are torch's.

    References
    ----------
    Hannun et al., Nature Medicine 25, 2019; Rajpurkar et al., arXiv:1707.01836.
    """

    def __init__(self, *, n_classes: int = 8, width: int = 32, dropout: float = 0.2, pad: int = 24) -> None:
        super().__init__()
        self.options: dict[str, Any] = {"n_classes": n_classes, "width": width, "dropout": dropout, "pad": pad}
        self.opening = nn.Sequential(Conv(1, width), nn.BatchNorm1d(width), nn.ReLU())  # (N, 32, 768)
        c = [width, *(width * 2 ** (i // 4) for i in range(16))]  # channels before and after each block
        self.blocks = nn.Sequential(
            *(Block(c[i], c[i + 1], stride=1 + i % 2, first=i == 0, dropout=dropout) for i in range(16))
        )  # 1 (N, 32, 384), 3 (N, 32, 192), 5 (N, 64, 96), 7 (N, 64, 48), …, 15 (N, 256, 3)
        self.closing = nn.Sequential(nn.BatchNorm1d(c[16]), nn.ReLU())
        self.dense = nn.Linear(c[16], n_classes)

    def feature_map(self, x: Tensor) -> Tensor:
        """Map of 48 steps, behind block 7: (N, 1, 720) -> (N, 64, 48), before the BN-ReLU of block 8."""
        h = self.opening(F.pad(x, (self.options["pad"],) * 2, mode="reflect"))
        for block in list(self.blocks)[:8]:  # a slice would be another Sequential, in which blocks have other names
            h = block(h)
        return h

    def classify(self, feature_map: Tensor) -> Tensor:
        """The rest of the network: (N, 64, 48) -> logits (N, n_classes)."""
        h = feature_map
        for block in list(self.blocks)[8:]:
            h = block(h)
        steps = self.dense(self.closing(h).transpose(1, 2))  # (N, 3, n_classes)
        return torch.logsumexp(steps.log_softmax(2), 1) - math.log(steps.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, n_classes): the logarithm of the mean of three softmax outputs."""
        return self.classify(self.feature_map(x))
