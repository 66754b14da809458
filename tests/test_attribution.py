"""One call for every explanation and every control, and each gives what its own function gives."""

import copy
import inspect
import math
import warnings

import numpy as np
import pytest
import torch

from ecglib import cam, masks, models
from ecglib.attribution import CONTROLS, METHODS, attribute
from ecglib.errors import UnknownNameError

TARGET = torch.tensor([0, 7, 3])
SHORT = {"mask": {"n_iter": 4}, "mask_deck": {"n_iter": 4}}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # four steps from the whole signal are no explanation
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def net():
    return models.build("murugesan-gap", width=4, seed=1)


@pytest.fixture(scope="module")
def x():
    return torch.randn(3, 1, 720, generator=torch.Generator().manual_seed(3))


def test_names():
    assert {"cam", "grad_cam", "mask", "mask_deck"} <= set(METHODS)
    assert {"uniform", "amplitude", "slope", "bump"} <= set(CONTROLS)
    assert not set(METHODS) & set(CONTROLS)


@pytest.mark.parametrize("method", [*METHODS, *CONTROLS])
def test_every_name(net, x, method):
    before = {k: v.clone() for k, v in net.state_dict().items()}
    signal = x.clone()
    for target in (TARGET, 2):
        relevance = attribute(method, net, signal, target, **SHORT.get(method, {}))
        assert relevance.shape == (3, 720)
        assert relevance.dtype == torch.float32
        assert torch.isfinite(relevance).all()
        assert not relevance.requires_grad
    assert torch.equal(signal, x)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    # In double: where a slope is nearly 0, Adam's first step of a mask takes the sign of a rounding error in float32.
    exact, fine = copy.deepcopy(net).double(), x.double()
    together = attribute(method, exact, fine, 2, **SHORT.get(method, {}))
    single = torch.cat([attribute(method, exact, fine[i : i + 1], 2, **SHORT.get(method, {})) for i in range(3)])
    torch.testing.assert_close(together, single, atol=1e-6, rtol=1e-6)
    one_of_one = attribute(method, net, x[:1], TARGET[:1], **SHORT.get(method, {}))
    assert one_of_one.shape == (1, 720)


def test_unknown_name(net, x):
    with pytest.raises(UnknownNameError, match="unknown method 'gradcam'; did you mean 'grad_cam'"):
        attribute("gradcam", net, x, 0)


def test_maps(net, x):
    expected = cam.upsample(cam.class_activation_map(net, x, TARGET))
    assert torch.equal(attribute("cam", net, x, TARGET), expected)
    torch.testing.assert_close(attribute("grad_cam", net, x, TARGET) * 48, expected, atol=1e-5, rtol=1e-5)
    positive = attribute("grad_cam", net, x, TARGET, relu=True)
    assert torch.equal(positive, cam.upsample(cam.grad_cam(net, x, TARGET, relu=True)))
    assert float(positive.min()) >= 0


@pytest.mark.parametrize("branch", ["lstm", "both"])
def test_masks(net, x, branch):
    settled = {"area": "mean", "lambda_tv": 0.01, "lr": 0.05, "init": 1.0, "fill": "linear", "clamp": True}
    for method, of, options in (("mask", "logit", settled), ("mask_deck", "probability", {})):
        score = masks.lstm_score(net, x, TARGET, branch=branch, of=of)
        expected = 1 - masks.learn_mask(score, x, n_iter=4, **options).mask
        assert torch.equal(attribute(method, net, x, TARGET, branch=branch, n_iter=4), expected)


def test_recipes_are_the_defaults():
    assert masks.RECIPES["settled"]["n_iter"] == 300
    assert inspect.signature(masks.learn_mask).parameters["n_iter"].default == 500


def test_options_win_over_the_recipe(net, x):
    half = attribute("mask", net, x, 0, n_iter=1, init=0.5, lr=1e-6)
    torch.testing.assert_close(half, torch.full((3, 720), 0.5), atol=1e-5, rtol=0)
    with pytest.raises(TypeError):
        attribute("mask", net, x, 0, iterations=3)


def test_uniform_is_constant(net, x):
    assert torch.equal(attribute("uniform", net, x, TARGET), torch.ones(3, 720))


def test_amplitude_and_slope(net):
    x = torch.full((1, 1, 720), 0.5)
    x[0, 0, 100], x[0, 0, 300] = 2.0, -3.0
    amplitude = attribute("amplitude", net, x, 0)[0]
    assert {i: float(amplitude[i]) for i in amplitude.nonzero()[:, 0].tolist()} == {100: 1.5, 300: 3.5}
    slope = attribute("slope", net, x, 0)[0]
    assert {i: float(slope[i]) for i in slope.nonzero()[:, 0].tolist()} == {99: 0.75, 101: 0.75, 299: 1.75, 301: 1.75}


def test_slope_is_numpys_gradient(net, x):
    expected = np.abs(np.gradient(x[:, 0].numpy(), axis=-1))
    np.testing.assert_allclose(attribute("slope", net, x, 0).numpy(), expected, atol=1e-6)


def test_bump(net, x):
    at = torch.tensor([0, 250, 719])
    bump = attribute("bump", net, x, TARGET, centre=at)
    for row, centre in zip(bump, at.tolist(), strict=True):
        assert int(row.argmax()) == centre
        for distance, height in ((0, 1.0), (18, math.exp(-0.5)), (36, math.exp(-2)), (54, math.exp(-4.5))):
            for t in (centre - distance, centre + distance):
                assert not 0 <= t < 720 or float(row[t]) == pytest.approx(height, rel=1e-6)
    wide = attribute("bump", net, x, TARGET, centre=at, width=36.0)
    assert float(wide[1, 286]) == pytest.approx(math.exp(-0.5), rel=1e-6)


def test_bump_finds_the_largest_deflection(net):
    x = torch.full((2, 1, 720), 5.0)  # far from zero: what counts is the distance from the median
    x[0, 0, 200], x[0, 0, 400] = 4.0, 5.5
    x[1, 0, 600], x[1, 0, 10] = 7.0, 4.0
    assert attribute("bump", net, x, 0).argmax(-1).tolist() == [200, 600]
