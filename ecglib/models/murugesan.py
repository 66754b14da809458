"""ECGNet (Murugesan et al., MeMeA 2018, IEEE 8438739) with a head that a class activation map can read.

Layers follow the authors' public code (Bala93/ECG-Arythmia, ``v3/arch.py``); the text is our own.  Shapes are
``(batch, channels, time)``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecglib.errors import DataError

KERNEL = 15
PAD = 24  #: samples added at each end: 768 = 48 * 16 halves four times without remainder, 720 does not


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` that draws one random byte an element on the CPU, with the probability in steps of 1/256.

    The same distribution where 256 p is whole; torch's own draws a float each, a quarter of the training time on two cores.
    """

    def forward(self, x: Tensor) -> Tensor:
        dropped = round(256 * self.p)  # of 256 values of the byte
        if not self.training or dropped in (0, 256) or x.device.type != "cpu":
            return super().forward(x)
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
        return x * keep.to(x.dtype).mul_(256 / (256 - dropped))


class Stem(nn.Module):
    """Four kernels side by side: (N, 1, T) -> (N, width, T)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(1, width // 4, k, padding=k // 2) for k in (15, 17, 19, 21))
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(torch.cat([conv(x) for conv in self.convs], dim=1)))


class Block(nn.Module):
    """Two convolutions and a skip: (N, c_in, T) -> (N, c_out, T or T/2).

    ``first`` omits the opening BN-ReLU-dropout, as ECGNet's block 1 does, right behind the stem's own.
    """

    def __init__(self, c_in: int, c_out: int, *, pool: bool, first: bool = False, dropout: float = 0.5) -> None:
        super().__init__()
        conv1 = nn.Conv1d(c_in, c_out, KERNEL, padding=KERNEL // 2)
        conv2 = nn.Conv1d(c_out, c_out, KERNEL, padding=KERNEL // 2)
        opening = [] if first else [nn.BatchNorm1d(c_in), nn.ReLU(), Dropout(dropout)]
        self.body = nn.Sequential(*opening, conv1, nn.BatchNorm1d(c_out), nn.ReLU(), Dropout(dropout), conv2)
        self.skip = nn.Identity() if c_in == c_out else nn.Conv1d(c_in, c_out, 1)
        self.pool = nn.MaxPool1d(2) if pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.body(x)) + self.skip(self.pool(x))


class MurugesanGAP(nn.Module):
    """CNN and LSTM side by side, joined by global average pooling and one linear layer.

    With f_k(t) the CNN's map, h the LSTM's last output, logit_c = sum_k w_k^c mean_t f_k(t) + v_c . h + b_c: the form
    that the deck's class activation map assumes, and in which each logit splits exactly into its two branches.

    Parameters
    ----------
    n_classes : int
    width : int
        Channels of the stem, a multiple of 4; 64 as published.
    dropout : float

    Notes
    -----
    Differs from ECGNet: the window is reflected by 24 samples at each end for the CNN (the LSTM sees the 720 samples as
    12 steps of 60); the trunk ends after res7, where the map has 48 steps; a BN-ReLU closes it (ECGNet: BN alone);
    global average pooling and one linear layer replace the flattened map and the three affine layers.
    """

    def __init__(self, *, n_classes: int = 8, width: int = 64, dropout: float = 0.5) -> None:
        super().__init__()
        if width < 4 or width % 4:
            raise DataError(f"width is {width}; give a multiple of 4, one part for each kernel of the stem")
        self.options: dict[str, Any] = {"n_classes": n_classes, "width": width, "dropout": dropout}
        narrow, wide = width, 2 * width
        self.stem = Stem(narrow)  # (N, 64, 768)
        self.blocks = nn.Sequential(
            Block(narrow, narrow, pool=True, first=True, dropout=dropout),  # block1 (N, 64, 384)
            Block(narrow, narrow, pool=False, dropout=dropout),  #            res2
            Block(narrow, narrow, pool=True, dropout=dropout),  #             res3   (N, 64, 192)
            Block(narrow, wide, pool=False, dropout=dropout),  #              res4   (N, 128, 192)
            Block(wide, wide, pool=True, dropout=dropout),  #                 res5   (N, 128, 96)
            Block(wide, wide, pool=False, dropout=dropout),  #                res6
            Block(wide, wide, pool=True, dropout=dropout),  #                 res7   (N, 128, 48)
        )
        self.norm = nn.BatchNorm1d(wide)
        self.lstm = nn.LSTM(60, 40, num_layers=2, batch_first=True)
        self.head = nn.Linear(wide + 40, n_classes)

    def feature_map(self, x: Tensor) -> Tensor:
        """Last map of the CNN, non-negative: (N, 1, 720) -> (N, 128, 48)."""
        return F.relu(self.norm(self.blocks(self.stem(F.pad(x, (PAD, PAD), mode="reflect")))))

    def lstm_features(self, x: Tensor) -> Tensor:
        """Output of the LSTM after its last step: (N, 1, 720) -> (N, 40)."""
        return self.lstm(x.reshape(len(x), 12, 60))[0][:, -1]

    def forward(self, x: Tensor, x_lstm: Tensor | None = None) -> Tensor:
        """Logits (N, n_classes); ``x_lstm`` gives the LSTM another signal than the CNN."""
        pooled = self.feature_map(x).mean(-1)  # (N, 128)
        last = self.lstm_features(x if x_lstm is None else x_lstm)  # (N, 40)
        return self.head(torch.cat([pooled, last], dim=1))
