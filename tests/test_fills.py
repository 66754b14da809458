"""Removed samples become what the fill says, kept ones stay; the bridge solves its equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from ecglib.errors import DataError, UnknownNameError
from ecglib.fills import FILLS, bridge, remove, remover
from ecglib.masks import replacement

X = torch.tensor([[[0.0, 9.0, 9.0, 3.0, 9.0, 6.0]]])
GONE = torch.tensor([[False, True, True, False, True, False]])


@pytest.fixture(scope="module")
def x():
    return torch.randn(6, 1, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(-1)


@pytest.fixture(scope="module")
def gone():
    return torch.rand(6, 60, generator=torch.Generator().manual_seed(1)) < torch.linspace(0, 1, 6)[:, None]


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        ("zero", [0, 0, 0, 3, 0, 6]),
        (0.0, [0, 0, 0, 3, 0, 6]),
        (-2, [0, -2, -2, 3, -2, 6]),
        ("mean", [0, 6, 6, 3, 6, 6]),
        ("linear", [0, 1, 2, 3, 4.5, 6]),
        (torch.arange(6.0), [0, 1, 2, 3, 4, 6]),
    ],
)
def test_by_hand(fill, expected):
    for dtype in (torch.float32, torch.float64):
        found = remove(X.to(dtype), GONE, fill)
        assert found.dtype == dtype
        assert found[0, 0].tolist() == expected


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ([2], [9, 9, 9, 9, 9, 9]),  # flat from the one sample that is left
        ([1, 3], [9, 9, 6, 3, 3, 3]),  # flat at both ends
        ([0, 5], [0, 1.2, 2.4, 3.6, 4.8, 6]),
        ([], [0, 1.2, 2.4, 3.6, 4.8, 6]),  # nothing is left: the line between the ends
        (range(6), [0, 9, 9, 3, 9, 6]),
    ],
)
def test_bridges_by_hand(kept, expected):
    gone = torch.ones(1, 6, dtype=torch.bool)
    gone[0, list(kept)] = False
    torch.testing.assert_close(remove(X, gone)[0, 0], torch.tensor(expected, dtype=torch.float32))


def test_bridge_is_numpys_interpolation(x, gone):
    for signal, hole, found in zip(x[:5, 0].numpy(), gone[:5].numpy(), bridge(x[:5, 0], gone[:5]).numpy(), strict=True):
        t = np.arange(60)
        np.testing.assert_allclose(found, np.interp(t, t[~hole], signal[~hole]), atol=1e-12)


@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_a_bridged_sample_is_the_mean_of_its_neighbours(seed, length, share):
    g = torch.Generator().manual_seed(seed)
    x, gone = torch.randn(1, length, generator=g, dtype=torch.float64), torch.rand(1, length, generator=g) < share
    found = bridge(x, gone)[0]
    assert torch.equal(found[~gone[0]], x[0, ~gone[0]])
    if not gone.all():
        for t in np.flatnonzero(gone[0]):
            near = [s for s in (t - 1, t + 1) if 0 <= s < length]
            assert found[t] == pytest.approx(float(found[near].mean()), abs=1e-9)


def test_all_gone_is_the_fill_of_a_mask(x):
    """So a curve ends where a mask that deletes everything does."""
    for fill in ("mean", "linear", "blurred", 0.3):
        torch.testing.assert_close(remove(x, torch.ones(6, 60, dtype=torch.bool), fill), replacement(x, fill))


def test_blurred_is_scipys_gaussian(x, gone):
    expected = np.where(gone[:, None], gaussian_filter1d(x.numpy(), 36.0, mode="nearest"), x)
    np.testing.assert_allclose(remove(x, gone, "blurred").numpy(), expected, atol=1e-12)


def test_noise_has_the_windows_mean_and_deviation():
    x = (
        torch.randn(3, 1, 20_000, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 5, 0.1])[:, None, None]
    )
    x += torch.tensor([0.0, 3.0, -1.0])[:, None, None]
    found = remove(x, torch.ones(3, 20_000, dtype=torch.bool), "noise", seed=3)
    np.testing.assert_allclose(found.mean(-1).flatten(), x.mean(-1).flatten(), atol=0.1)
    np.testing.assert_allclose(found.std(-1).flatten(), x.std(-1).flatten(), rtol=0.02)
    assert not torch.equal(found, remove(x, torch.ones(3, 20_000, dtype=torch.bool), "noise", seed=4))


@pytest.mark.parametrize("fill", [*FILLS, 0.7])
def test_a_batch_is_one_at_a_time(x, gone, fill):
    together = remove(x, gone, fill, seed=5)
    alone = torch.cat([remove(x[i : i + 1], gone[i : i + 1], fill, seed=5) for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    assert torch.equal(together[:, 0][~gone], x[:, 0][~gone])
    index = torch.tensor([3, 3, 0])
    torch.testing.assert_close(remover(x, fill, seed=5)(index, gone[index]), together[index], rtol=0, atol=0)


def test_errors(one_line):
    for gone in (torch.zeros(1, 5, dtype=torch.bool), torch.zeros(1, 6), torch.zeros(1, 1, 6, dtype=torch.bool)):
        with pytest.raises(DataError) as caught:
            remove(X, gone)
        one_line(caught, "bool of shape (1, 6)", str(tuple(gone.shape)))
    with pytest.raises(UnknownNameError) as unknown:
        remove(X, GONE, "linaer")
    one_line(unknown, "unknown fill 'linaer'", "did you mean 'linear'?")
