"""ECGNet (Murugesan et al., MeMeA 2018, IEEE 8438739), as published and with a head that a class activation map can read.

Layers follow the authors' public code (Bala93/ECG-Arythmia, ``v3/arch.py``); the text is our own.  Shapes are
``(batch, channels, time)``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecglib import WINDOW
from ecglib.errors import DataError
from ecglib.models.layers import Dropout

KERNEL = 15
PAD = 24  #: samples added at each end: 768 = 48 * 16 halves four times without remainder, 720 does not


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


def trunk(width: int, dropout: float) -> nn.Sequential:
    """ECGNet's first seven blocks, which halve time four times: (N, width, T) -> (N, 2 width, T/16)."""
    narrow, wide = width, 2 * width
    return nn.Sequential(
        Block(narrow, narrow, pool=True, first=True, dropout=dropout),  # block1 (N, 64, 384)
        Block(narrow, narrow, pool=False, dropout=dropout),  #            res2
        Block(narrow, narrow, pool=True, dropout=dropout),  #             res3   (N, 64, 192)
        Block(narrow, wide, pool=False, dropout=dropout),  #              res4   (N, 128, 192)
        Block(wide, wide, pool=True, dropout=dropout),  #                 res5   (N, 128, 96)
        Block(wide, wide, pool=False, dropout=dropout),  #                res6
        Block(wide, wide, pool=True, dropout=dropout),  #                 res7   (N, 128, 48)
    )


class TwoBranches(nn.Module):
    """What both networks share: the CNN and the LSTM see the window, or a window each; ``classify`` joins them."""

    lstm: nn.LSTM

    def feature_map(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def classify(self, feature_map: Tensor, lstm_features: Tensor) -> Tensor:
        raise NotImplementedError

    def lstm_features(self, x: Tensor) -> Tensor:
        """Output of the LSTM after its last step: (N, 1, 720) -> (N, 40)."""
        return self.lstm(x.reshape(len(x), 12, 60))[0][:, -1]

    def forward(self, x: Tensor, x_lstm: Tensor | None = None) -> Tensor:
        """Logits (N, n_classes); ``x_lstm`` gives the LSTM another signal than the CNN."""
        return self.classify(self.feature_map(x), self.lstm_features(x if x_lstm is None else x_lstm))


class Murugesan(TwoBranches):
    """ECGNet, the CLSTM with 33 convolutions: flattened last map beside the LSTM's last output, three affine layers.

    Parameters
    ----------
    n_classes : int
    width : int
        Channels of the stem, a multiple of 4; 64 as published, five times as many at the end.
    dropout : float
    pad : int
        Samples reflected at each end of the window for the CNN (the LSTM always sees the 720).  24, ours, gives the CNN
        768 samples and its map behind res7 the 48 steps that the deck states; with 0, as published, that map has 45.

    Notes
    -----
    ``feature_map`` is the output of res7, before the BN-ReLU of res8 because the skip of res8 reads it, too: all that
    the classes learn from the CNN passes there.  With 0 for ``pad`` and 3 classes the network is ECGNet itself: 640
    values of the last map, 2 steps of 320, and 17.44 million parameters; with 24 there are 3 steps and 960 values.
    The head has no activation between its layers: it is affine, but in every value of the last map, not in its means.
    """

    def __init__(self, *, n_classes: int = 8, width: int = 64, dropout: float = 0.5, pad: int = PAD) -> None:
        super().__init__()
        check_width(width)
        if not 0 <= pad < WINDOW:
            raise DataError(f"pad is {pad}; give 0 to {WINDOW - 1} samples, as a window can be reflected")
        self.options: dict[str, Any] = {"n_classes": n_classes, "width": width, "dropout": dropout, "pad": pad}
        self.stem = Stem(width)  # (N, 64, 768)
        self.blocks = trunk(width, dropout)  # (N, 128, 48)
        c = [2 * width] + [3 * width] * 4 + [4 * width] * 4 + [5 * width]  # channels before and after res8 … res16
        self.tail = nn.Sequential(
            *(Block(c[i], c[i + 1], pool=i % 2 == 1, dropout=dropout) for i in range(9))
        )  # res9 (N, 192, 24), res11 (N, 192, 12), res13 (N, 256, 6), res15 (N, 256, 3), res16 (N, 320, 3)
        self.norm = nn.BatchNorm1d(c[-1])
        self.lstm = nn.LSTM(60, 40, num_layers=2, batch_first=True)
        steps = (WINDOW + 2 * pad) // 256  # eight halvings, each of which drops a last odd step
        self.head = nn.Sequential(nn.Linear(steps * c[-1] + 40, 500), nn.Linear(500, 100), nn.Linear(100, n_classes))

    def feature_map(self, x: Tensor) -> Tensor:
        """Output of res7, of both signs: (N, 1, 720) -> (N, 128, 48)."""
        pad = self.options["pad"]
        return self.blocks(self.stem(F.pad(x, (pad, pad), mode="reflect")))

    def classify(self, feature_map: Tensor, lstm_features: Tensor) -> Tensor:
        """The rest of the network: (N, 128, 48) and (N, 40) -> logits (N, n_classes)."""
        last = self.norm(self.tail(feature_map))  # (N, 320, 3)
        return self.head(torch.cat([last.flatten(1), lstm_features], dim=1))


class MurugesanGAP(TwoBranches):
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
        check_width(width)
        self.options: dict[str, Any] = {"n_classes": n_classes, "width": width, "dropout": dropout}
        self.stem = Stem(width)  # (N, 64, 768)
        self.blocks = trunk(width, dropout)  # (N, 128, 48)
        self.norm = nn.BatchNorm1d(2 * width)
        self.lstm = nn.LSTM(60, 40, num_layers=2, batch_first=True)
        self.head = nn.Linear(2 * width + 40, n_classes)

    def feature_map(self, x: Tensor) -> Tensor:
        """Last map of the CNN, non-negative: (N, 1, 720) -> (N, 128, 48)."""
        return F.relu(self.norm(self.blocks(self.stem(F.pad(x, (PAD, PAD), mode="reflect")))))

    def classify(self, feature_map: Tensor, lstm_features: Tensor) -> Tensor:
        """The rest of the network: (N, 128, 48) and (N, 40) -> logits (N, n_classes)."""
        return self.head(torch.cat([feature_map.mean(-1), lstm_features], dim=1))


def check_width(width: int) -> None:
    """Raise unless the stem's four kernels can share the channels."""
    if width < 4 or width % 4:
        raise DataError(f"width is {width}; give a multiple of 4, one part for each kernel of the stem")
