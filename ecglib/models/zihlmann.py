"""The convolutional recurrent network on spectrograms of Zihlmann et al., CinC 2017, arXiv:1710.06122.

Layers follow the authors' public code (yruffiner/ecg-classification, ``codes/network/crnn.py`` with
``models/CRNN_paper.json``); the text is our own.  Shapes are ``(batch, channels, frequency, time)``.
"""

from __future__ import annotations

from typing import Any

import torch
from scipy.signal import get_window
from torch import Tensor, nn

from ecglib import FS
from ecglib.errors import DataError
from ecglib.models.layers import Dropout, pad_same

KERNEL = 5
SEGMENT = 64  #: samples of a segment, 178 ms at 360 Hz


class LogSpectrogram(nn.Module):
    """Logarithm of the power density of short segments: (N, 1, 720) -> (N, 1, 33, segments).

    `scipy.signal.spectrogram` with its defaults (Tukey window 0.25, mean of a segment removed, one-sided, mV²/Hz), then
    the logarithm where the density is positive; where it is 0, 0 stays, as published.

    Parameters
    ----------
    hop : int
        Samples from one segment to the next; 32 as published.
    """

    window: Tensor
    scale: Tensor

    def __init__(self, hop: int) -> None:
        super().__init__()
        self.hop = hop
        window = torch.from_numpy(get_window(("tukey", 0.25), SEGMENT))
        sides = torch.full((SEGMENT // 2 + 1,), 2.0, dtype=torch.float64)
        sides[[0, -1]] = 1.0  # 0 Hz and half the sampling rate have no mirror image
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("scale", sides / (FS * window.square().sum()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # In double precision: the logarithm magnifies the rounding of weak frequencies, and a flat segment must give 0.
        segments = x.double().unfold(2, SEGMENT, self.hop)  # (N, 1, segments, 64)
        segments = (segments - segments.mean(-1, keepdim=True)) * self.window
        spectrum = torch.fft.rfft(segments)  # (N, 1, segments, 33)
        density = (spectrum.real.square() + spectrum.imag.square()) * self.scale
        positive = torch.where(density > 0, density, 1.0)  # log 1 = 0: what is 0 stays, without an infinite gradient
        return positive.log().transpose(2, 3).to(x.dtype)


class Strided(nn.Conv2d):
    """Convolution of stride 2 with TensorFlow's 'same' padding: (N, C, F, T) -> (N, c_out, ceil(F/2), ceil(T/2))."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(x, KERNEL, 2))


class Block(nn.Sequential):
    """Six convolutions, each with BN-ReLU; the last one halves both axes: (N, c_in, F, T) -> (N, c_out, F/2, T/2)."""

    def __init__(self, c_in: int, c: int, c_out: int, *, dropout: float) -> None:
        layers: list[nn.Module] = []
        for i in range(5):
            layers += [nn.Conv2d(c if i else c_in, c, KERNEL, padding=2), nn.BatchNorm2d(c), nn.ReLU()]
        layers += [Strided(c, c_out, KERNEL, stride=2), nn.BatchNorm2d(c_out), nn.ReLU(), Dropout(dropout)]
        super().__init__(*layers)


class Zihlmann(nn.Module):
    """Spectrogram, 24 convolutions, three layers of LSTM in both directions, mean over time, one linear layer.

    Parameters
    ----------
    n_classes : int
    width : int
        Channels of the first convolutions, and how many each block adds; 32 as published.
    dropout : float
    hop : int
        Samples from one segment of the spectrogram to the next.  32 as published leaves the LSTM 2 steps on two seconds;
        8 is ours and leaves 6.

    Notes
    -----
    Differs from the published network: theirs reads 300 Hz, where a segment lasts 213 ms; convolutions and LSTM learn
    together from the start, without the branch that replaces the LSTM in their first phase.  Dropout acts behind each
    block and each layer of the LSTM; their code leaves that of the blocks in inference mode, in which it does nothing.
    Initial weights and constants of the batch normalisations are torch's.

    Each direction of the LSTM is a stack of its own, as in their code (``bidirectional_dynamic_rnn`` over two
    ``MultiRNNCell``): 0.79 million parameters.  Torch's bidirectional LSTM joins the directions after every layer and
    would have 0.95 million.

    References
    ----------
    Zihlmann, Perekrestenko & Tschannen, Computing in Cardiology 2017, arXiv:1710.06122.
    """

    def __init__(self, *, n_classes: int = 8, width: int = 32, dropout: float = 0.15, hop: int = 32) -> None:
        super().__init__()
        if not 1 <= hop <= SEGMENT:
            raise DataError(f"hop is {hop}; give 1 to {SEGMENT} samples, so that no sample falls between two segments")
        self.options: dict[str, Any] = {"n_classes": n_classes, "width": width, "dropout": dropout, "hop": hop}
        c = [1, *(width * k for k in (2, 3, 4, 5))]  # channels before and after each block
        self.spectrogram = LogSpectrogram(hop)  # (N, 1, 33, 21)
        self.blocks = nn.Sequential(*(Block(c[i], max(c[i], width), c[i + 1], dropout=dropout) for i in range(4)))
        stack: dict[str, Any] = {"num_layers": 3, "batch_first": True, "dropout": dropout}
        self.lstm_forward, self.lstm_backward = (nn.LSTM(3 * c[4], 100, **stack) for _ in range(2))
        self.drop = Dropout(dropout)
        self.dense = nn.Linear(200, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, n_classes) of windows (N, 1, 720)."""
        maps = self.blocks(self.spectrogram(x))  # (N, 160, 3, 2)
        steps = maps.flatten(1, 2).transpose(1, 2)  # (N, 2, 480)
        ahead, back = self.lstm_forward(steps)[0], self.lstm_backward(steps.flip(1))[0]  # (N, 2, 100) each
        return self.dense(self.drop(torch.cat([ahead, back], dim=2)).mean(1))  # a mean asks for no order
