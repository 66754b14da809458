"""Changes of training windows: what each does, that it repeats, and that context is left alone."""

import numpy as np
import pytest
import torch

from ecglib.augment import Augment, read_noise
from ecglib.errors import DataError


def rng():
    return np.random.default_rng(3)


def x(n=4, leads=1):
    t = torch.arange(720) / 360
    wave = torch.stack([torch.sin(2 * torch.pi * (k + 1) * t) for k in range(n)])
    return torch.cat([wave[:, None], torch.full((n, leads - 1, 720), 7.0)], dim=1)


def test_nothing_asked_nothing_changed():
    torch.testing.assert_close(Augment()(x(), rng()), x())


def test_the_same_generator_gives_the_same_windows():
    change = Augment(gain=0.2, shift_s=0.2, rate=0.1, noise=0.5, flip=0.5)
    torch.testing.assert_close(change(x(), rng()), change(x(), rng()))
    assert not torch.equal(change(x(), rng()), change(x(), np.random.default_rng(4)))


def test_gain_is_a_factor():
    ratio = Augment(gain=0.3)(x(), rng()) / x()
    finite = ratio[x().abs() > 0.1].reshape(-1)
    assert len(finite.round(decimals=4).unique()) == 4  # one for each window
    assert (finite > 0).all()


def test_flip_turns_some():
    found = Augment(flip=0.5)(x(400), rng())
    turned = (found == -x(400)).all(-1).squeeze(1)
    assert 0.4 < turned.float().mean() < 0.6
    assert ((found == x(400)).all(-1).squeeze(1) | turned).all()


def test_shift_moves_by_at_most_what_it_says():
    ramp = torch.arange(720.0).expand(50, 1, 720).clone()
    found = Augment(shift_s=0.1)(ramp, rng())
    moved = (found - ramp)[:, 0, 100:-100]
    assert moved.abs().max() <= 36
    assert moved.abs().amax(1).max() > 25  # and it does move
    torch.testing.assert_close(moved.amin(1), moved.amax(1), atol=1e-3, rtol=0)  # each as a whole


def test_beyond_the_ends_the_signal_is_reflected():
    ramp = torch.arange(720.0).expand(50, 1, 720).clone()
    found = Augment(shift_s=0.1)(ramp, rng())
    assert found.min() >= 0
    assert found.max() <= 719


def test_rate_stretches_about_the_centre():
    ramp = (torch.arange(720.0) - 359.5).expand(50, 1, 720).clone()
    factor = (Augment(rate=0.1)(ramp, rng()) / ramp)[:, 0, 300:420]
    assert 0.9 <= factor.min() <= factor.max() <= 1.1
    torch.testing.assert_close(factor.amin(1), factor.amax(1), atol=1e-3, rtol=0)


def test_noise_has_the_size_and_share_asked_for():
    found = Augment(noise=0.5, share=0.5)(x(400), rng()) - x(400)
    size = found.std(-1).squeeze(1) / x(400).std(-1).squeeze(1)
    assert 0.4 < (size > 0).float().mean() < 0.6
    assert size.max() <= 0.51


def test_recorded_noise_is_cut_from_the_recording():
    recorded = np.random.default_rng(0).standard_normal((2, 5000))
    found = (Augment(noise=1.0, share=1.0, recorded=recorded)(x(3), rng()) - x(3))[:, 0].numpy()
    for noise in found:
        best = max(np.abs(np.correlate(r, noise - noise.mean())).max() / (noise.std() * 720) for r in recorded)
        assert best > 0.9


def test_context_is_left_alone():
    found = Augment(gain=0.3, noise=0.5, rate=0.1)(x(4, leads=3), rng())
    assert (found[:, 1:] == 7).all()


def test_no_recordings(tmp_path):
    with pytest.raises(DataError, match="no noise recordings"):
        read_noise(tmp_path)


@pytest.mark.data
def test_recordings_of_nstdb(mitdb):
    if not (mitdb / "nstdb").is_dir():
        pytest.skip("the noise recordings are not here")
    noise = read_noise(mitdb)
    assert noise.shape == (6, 650_000)
    assert np.isfinite(noise).all()
