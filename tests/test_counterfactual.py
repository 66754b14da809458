"""The smallest span that changes a decision: toy networks with a known answer, and a slow search written otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ecglib import models
from ecglib.counterfactual import grid, smallest_span
from ecglib.errors import DataError


class Peaks(nn.Module):
    """Class 1 if the samples from ``a`` up to ``b`` add up to more than ``level``, else class 0; counts what it sees."""

    def __init__(self, a: int, b: int, level: float):
        super().__init__()
        self.a, self.b, self.level, self.seen = a, b, level, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        height = x[:, 0, self.a : self.b].sum(1)
        return torch.stack([torch.full_like(height, self.level), height], dim=1)


def box(length: int, a: int, b: int) -> torch.Tensor:
    x = torch.zeros(1, 1, length)
    x[..., a:b] = 1
    return x


def slow(model, x, *, step: int, longest: int) -> tuple[int, int, int] | None:
    """Every span on its own, bridged with numpy's interpolation; (start, stop, class) of the shortest."""
    length = x.shape[-1]
    before = int(model(x)[0].argmax())
    for size in range(step, longest + 1, step):
        found = []
        for start in range(0, length - size + 1, step):
            kept = np.r_[0:start, start + size : length]
            kept = kept if len(kept) else np.array([0, length - 1])  # nothing kept: the line between the ends
            line = np.interp(np.arange(length), kept, x[0, 0].numpy()[kept]).astype(np.float32)
            with torch.no_grad():
                z = model(torch.from_numpy(line)[None, None])[0]
            if int(z.argmax()) != before:
                found.append((float(z.max() - z[before]), start, start + size, int(z.argmax())))
        if found:
            return max(found)[1:]
    return None


def test_a_known_answer():
    # Heights 1, 1, 1, 0.8 must sink below 2.6.  Two samples at an end leave 1/3 + 2/3 + 1.8 = 2.8 or 1 + 1 + 2/3 + 1/3;
    # three from the left leave 0.2 + 0.4 + 0.6 + 0.8 = 2, three from the right 1 + 0.75 + 0.5 + 0.25 = 2.5.
    x, net = box(20, 10, 14), Peaks(10, 14, 2.6)
    x[..., 13] = 0.8
    found = smallest_span(net, x, step_s=1, fs=1, most=300)
    assert (found.start, found.stop, found.before, found.after) == (10, 13, 1, 0)
    assert found.x[0, 0, 8:15].tolist() == pytest.approx([0, 0, 0.2, 0.4, 0.6, 0.8, 0])
    assert found.margin == pytest.approx(0.6)


def test_it_tries_no_more_than_it_says_and_stops_at_the_first_length():
    net = Peaks(10, 14, 3.5)
    found = smallest_span(net, box(20, 10, 14), step_s=1, fs=1, fill="zero")
    assert (found.start, found.stop) == (10, 11)
    assert found.tried == net.seen == 1 + 20
    net = Peaks(10, 14, 3.5)
    assert smallest_span(net, box(20, 0, 20), step_s=1, fs=1, longest_s=3) is None  # a line through ones is one
    assert net.seen == 1 + 20 + 19 + 18


def test_without_a_longest_length_the_bound_decides():
    net = Peaks(10, 14, 3.5)
    assert smallest_span(net, box(20, 0, 20), step_s=1, fs=1, most=45) is None
    assert net.seen == 1 + 20 + 19
    with pytest.raises(DataError, match=r"spans up to 3 s in steps of 1 s are 58 windows, more than 45"):
        smallest_span(net, box(20, 0, 20), step_s=1, fs=1, longest_s=3, most=45)


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_slow_search(seed):
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Conv1d(1, 4, 9), nn.ReLU(), nn.AdaptiveAvgPool1d(3), nn.Flatten(), nn.Linear(12, 4))
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=generator)
    x = torch.randn(1, 1, 60, generator=generator).cumsum(-1)
    found, wanted = smallest_span(net, x, step_s=0.03, fs=100), slow(net, x, step=3, longest=60)
    if wanted is None:
        assert found is None
    else:
        assert (round(found.start * 100), round(found.stop * 100), found.after) == wanted


def test_the_slow_searches_find_something():  # or the twin above would have been tested on nothing
    assert slow(Peaks(10, 14, 3.5), box(20, 10, 14), step=1, longest=3) is not None


def test_the_network_is_left_as_it_was():
    net = models.build("murugesan-gap", width=8, seed=0).train()
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    smallest_span(net, torch.randn(1, 1, 720, generator=torch.Generator().manual_seed(0)), step_s=0.4)
    assert net.training
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())


def test_the_grid():
    assert grid(720, step_s=0.02).tolist()[:4] == [0, 7, 14, 22]  # 7.2, 14.4, 21.6
    assert len(grid(720, step_s=0.02)) == 101
    assert grid(10, step_s=4, fs=1).tolist() == [0, 4, 8, 10]  # the rest of the window is a step of its own
    with pytest.raises(
        DataError, match=r"a step of 0\.001 s is shorter than a sample at 360 Hz; give at least 0\.0028"
    ):
        grid(720, step_s=0.001)


def test_bad_windows():
    with pytest.raises(DataError, match=r"one window of shape \(1, 1, T\), received \(2, 1, 20\)"):
        smallest_span(Peaks(0, 1, 0.0), torch.zeros(2, 1, 20))
