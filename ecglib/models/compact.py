"""A small residual network: a hundredth of ECGNet's weights, the same 48-step map, and room for the rhythm around a window.

Ours.  Where eight classes come from a few dozen patients, a network of millions of weights learns the patients; this one
sees each window at its own scale, so that neither gain nor offset tells who it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecglib.errors import DataError

PAD = 24  #: samples reflected at each end, as in murugesan-gap: 768 = 16 * 48


class Block(nn.Module):
    """Two convolutions beside a shortcut: (N, in, T) -> (N, out, T / stride)."""

    def __init__(self, c_in: int, c_out: int, *, kernel: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(c_in, c_out, kernel, stride=stride, padding=kernel // 2, bias=False),
            nn.BatchNorm1d(c_out),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv1d(c_out, c_out, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm1d(c_out),
        )
        self.shortcut = nn.Sequential(nn.AvgPool1d(stride), nn.Conv1d(c_in, c_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class Compact(nn.Module):
    """Residual network on a standardised window, global average pooling, one linear layer.

    Parameters
    ----------
    n_classes : int
    width : int
        Channels of the stem; twice as many at the end.
    dropout : float
    context : int
        Number of values a window brings along beside its signal (`ecglib.context`), as constant leads after the first:
        x is then (N, 1 + context, 720).  They enter the linear layer alone, through one hidden layer of 16 units.

    Notes
    -----
    `ecglib.cam.upsample` puts step k of the map over window sample 16 k - 16.5.  Here the convolutions of a step are
    centred on 16 k - 24 and its shortcuts on 16 k - 18, so a map of this network lies up to 21 ms late.
    """

    def __init__(self, *, n_classes: int = 8, width: int = 24, dropout: float = 0.2, context: int = 0) -> None:
        super().__init__()
        if min(width, n_classes) < 1 or context < 0:
            raise DataError(f"width and n_classes are {width} and {n_classes}; give 1 or more, and context 0 or more")
        self.options: dict[str, Any] = {
            "n_classes": n_classes, "width": width, "dropout": dropout, "context": context,
        }  # fmt: skip
        self.stem = nn.Sequential(
            nn.Conv1d(1, width, 25, stride=4, padding=12, bias=False), nn.BatchNorm1d(width), nn.ReLU()
        )  # (N, width, 192)
        sizes = [(width, width, 2), (width, 2 * width, 2), (2 * width, 2 * width, 1)]
        self.blocks = nn.Sequential(
            *(Block(a, b, kernel=9, stride=stride, dropout=dropout) for a, b, stride in sizes)
        )  # (N, 2 width, 48)
        self.around = nn.Sequential(nn.Linear(context, 16), nn.ReLU()) if context else None
        self.head = nn.Linear(2 * width + (16 if context else 0), n_classes)

    def feature_map(self, x: Tensor) -> Tensor:
        """Last map of the CNN, non-negative: (N, 1 + context, 720) -> (N, 2 width, 48)."""
        signal = x[:, :1]
        signal = (signal - signal.mean(-1, keepdim=True)) / (signal.std(-1, keepdim=True) + 1e-3)
        return self.blocks(self.stem(F.pad(signal, (PAD, PAD), mode="reflect")))

    def forward(self, x: Tensor) -> Tensor:
        features = self.feature_map(x).mean(-1)
        if self.around is not None:
            features = torch.cat([features, self.around(x[:, 1:, 0])], dim=1)
        return self.head(features)
