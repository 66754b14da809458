"""Training windows as another recorder, electrode or day would have shown them.

Each change keeps the label: a gain, a slow drift and noise (recorded ones of the MIT-BIH Noise Stress Test Database where
they are at hand), a slightly other rate, a shift in time, the lead turned upside down.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ecglib import FS
from ecglib.databases import data_root
from ecglib.errors import DataError

NOISES = ("bw", "em", "ma")  #: baseline wander, electrode motion, muscle (Moody, Muldrow & Mark, 1984)


@dataclass(frozen=True)
class Augment:
    """Random changes of windows (N, C, T); only the first lead is changed, the others are context.

    Attributes
    ----------
    gain : float
        Standard deviation of the logarithm of the gain.
    shift_s : float
        Largest shift, s; what is missing at an end is reflected.
    rate : float
        Largest change of the rate, as a share: 0.1 stretches or squeezes by up to a tenth about the window's centre.
    noise : float
        Largest noise, as a ratio of standard deviations, on ``share`` of the windows.
    share : float
    flip : float
        Share of the windows that are turned upside down.
    recorded : ndarray of shape (K, L), optional
        Recorded noise (`read_noise`); without it noise is a sum of white noise and a random walk.
    """

    gain: float = 0.0
    shift_s: float = 0.0
    rate: float = 0.0
    noise: float = 0.0
    share: float = 0.5
    flip: float = 0.0
    recorded: np.ndarray | None = field(default=None, repr=False, compare=False)

    def __call__(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Changed copy of x; every random choice comes from ``rng``."""
        n, t = len(x), x.shape[-1]
        signal = x[:, 0]
        if self.shift_s or self.rate:
            stretch = 1 + self.rate * rng.uniform(-1, 1, (n, 1))
            centre = (t - 1) / 2
            at = (np.arange(t) - centre) * stretch + centre + FS * self.shift_s * rng.uniform(-1, 1, (n, 1))
            signal = _read(signal, torch.from_numpy(at).to(x))
        if self.noise:
            size = self.noise * rng.uniform(0, 1, (n, 1)) * (rng.random((n, 1)) < self.share)
            noise = torch.from_numpy(self._noise(n, t, rng) * size).to(x)
            signal = signal + noise * signal.std(1, keepdim=True)
        if self.gain:
            signal = signal * torch.from_numpy(np.exp(self.gain * rng.standard_normal((n, 1)))).to(x)
        if self.flip:
            signal = torch.where(torch.from_numpy(rng.random((n, 1)) < self.flip).to(x.device), -signal, signal)
        return torch.cat([signal[:, None], x[:, 1:]], dim=1)

    def _noise(self, n: int, t: int, rng: np.random.Generator) -> np.ndarray:
        """Noise (n, t) of standard deviation 1."""
        if self.recorded is None:
            white, walk = rng.standard_normal((2, n, t))
            noise = _scaled(white) + 2 * _scaled(walk.cumsum(1))
        else:
            kind, first = rng.integers(len(self.recorded), size=n), rng.integers(self.recorded.shape[1] - t, size=n)
            noise = self.recorded[kind[:, None], first[:, None] + np.arange(t)]
        return _scaled(noise)


def read_noise(root: str | os.PathLike[str] | None = None) -> np.ndarray:
    """Read the three recordings of the Noise Stress Test Database, both channels, at 360 Hz: (6, 650000), mV."""
    import wfdb

    where = data_root(root) / "nstdb" / "1.0.0"
    if not all((where / f"{name}.hea").is_file() for name in NOISES):
        raise DataError(
            f"no noise recordings bw, em, ma in {where}; get them from https://physionet.org/content/nstdb/"
        )
    read = (wfdb.rdrecord(str(where / name)) for name in NOISES)
    return np.concatenate([r.p_signal.T for r in read])  # they are at 360 Hz, as the windows are


def _scaled(noise: np.ndarray) -> np.ndarray:
    centred = noise - noise.mean(1, keepdims=True)
    return centred / np.maximum(centred.std(1, keepdims=True), 1e-6)


def _read(signal: Tensor, at: Tensor) -> Tensor:
    """Values of signals (N, T) at fractional places (N, T), linear between samples, reflected beyond the ends."""
    last = signal.shape[1] - 1
    at = last - (at.abs() - last).abs()  # one reflection is enough: nobody shifts by a whole window
    at = at.clamp(0, last)
    low = at.floor().clamp(max=last - 1)
    index, part = low.long(), at - low
    return signal.gather(1, index) * (1 - part) + signal.gather(1, index + 1) * part
