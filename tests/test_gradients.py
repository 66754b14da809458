"""Gradients and what is made of them: closed forms, slow twins, captum, and completeness on the networks."""

import sys
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ecglib import gradients, models
from ecglib.batching import AT_ONCE, by_part, captum, resting
from ecglib.cam import grad_cam, upsample
from ecglib.errors import DataError, UnknownNameError

pytestmark = pytest.mark.usefixtures("one_thread")
NETS = ("hannun", "zihlmann", "murugesan", "murugesan-gap")


@pytest.fixture(scope="module")
def x():
    return torch.randn(3, 1, 720, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.fixture(scope="module")
def nets():
    return {name: tuned(name).double() for name in NETS}


def tuned(name):
    """An untrained network whose batch normalisations have seen signals, so that it is neither dead nor saturated."""
    net = models.build(name, width=4, seed=1)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = 1.0
        net.train()(torch.randn(64, 1, 720))
    return net.eval()


@pytest.fixture(scope="module")
def linear():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(720, 5)).double()


class Squares(nn.Module):
    """Logit c is the sum of w_c x²."""

    def __init__(self):
        super().__init__()
        w = torch.randn(4, 720, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        self.w = nn.Parameter(w)

    def forward(self, x):
        return x[:, 0] ** 2 @ self.w.T


class Toy(nn.Module):
    """A map as long as the window, with its ReLUs as modules or as functions."""

    def __init__(self, *, functions: bool):
        super().__init__()
        self.a, self.b = nn.Conv1d(1, 6, 7, padding=3), nn.Conv1d(6, 8, 5, padding=2)
        self.first, self.second = nn.ReLU(), nn.ReLU(inplace=True)
        self.head, self.functions = nn.Linear(8, 3), functions

    def feature_map(self, x):
        if self.functions:
            return torch.relu(self.b(F.relu(self.a(x))))
        return self.second(self.b(self.first(self.a(x))))

    def forward(self, x):
        return self.head(self.feature_map(x).mean(-1))


@pytest.fixture(scope="module")
def toys():
    made = Toy(functions=False).double(), Toy(functions=True).double()
    made[1].load_state_dict(made[0].state_dict())
    return made


def value(net, x, c, of="logit"):
    with torch.no_grad():
        logits = net(x)
    return (logits.softmax(1) if of == "probability" else logits)[torch.arange(len(x)), c]


# Closed forms --------------------------------------------------------------------------------------------------------


def test_of_a_linear_network_all_are_the_weights(linear, x):
    c = torch.tensor([0, 4, 2])
    w = linear[1].weight.detach()[c]
    assert torch.equal(gradients.gradient(linear, x, c), w)
    assert torch.equal(gradients.gradient(linear, x, c, absolute=True), w.abs())
    assert torch.equal(gradients.gradient_x_input(linear, x, c), w * x[:, 0])
    torch.testing.assert_close(gradients.smooth_grad(linear, x, c), w)
    torch.testing.assert_close(gradients.integrated_gradients(linear, x, c), w * x[:, 0], atol=1e-8, rtol=1e-7)
    mean = x[:, 0] - x[:, 0].mean(-1, keepdim=True)
    by_mean = gradients.integrated_gradients(linear, x, c, baseline="mean")
    torch.testing.assert_close(by_mean, w * mean, atol=1e-8, rtol=1e-7)
    by_half = gradients.integrated_gradients(linear, x, c, baseline=0.5, n_steps=2)
    torch.testing.assert_close(by_half, w * (x[:, 0] - 0.5), atol=1e-8, rtol=1e-7)
    torch.testing.assert_close(gradients.gradient_shap(linear, x, c, n_draws=3), w * x[:, 0])
    torch.testing.assert_close(gradients.guided_backprop(linear, x, c), w)


def test_of_squares(x):
    net, half = Squares(), torch.full((1, 1, 720), 0.5)
    w = net.w.detach()[2]
    torch.testing.assert_close(gradients.gradient(net, x, 2), 2 * w * x[:, 0])
    torch.testing.assert_close(gradients.gradient_x_input(net, x, 2), 2 * w * x[:, 0] ** 2)  # twice what is there
    integrated = gradients.integrated_gradients(net, x, 2, baseline=half, n_steps=2)
    torch.testing.assert_close(integrated, w * (x[:, 0] ** 2 - 0.25), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("of", ["logit", "probability"])
def test_the_probability_is_the_softmax(nets, x, of):
    net, c, step = nets["murugesan-gap"], torch.tensor([1, 7, 3]), 1e-6
    found = gradients.gradient(net, x, c, of=of)
    for t in (0, 300, 719):
        nudge = torch.zeros(1, 1, 720, dtype=torch.float64)
        nudge[..., t] = step
        slope = (value(net, x + nudge, c, of) - value(net, x - nudge, c, of)) / (2 * step)
        torch.testing.assert_close(found[:, t], slope, atol=1e-8, rtol=1e-4)


# Completeness ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["hannun", "murugesan", "murugesan-gap"]
)  # a logarithm's slope from a flat line has no end
@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_integrated_gradients_add_up_the_better_the_more_steps(nets, x, name, baseline):
    net = nets[name]
    gap = value(net, x, 2) - value(net, resting(baseline, x), 2)
    few, many = (
        float((gradients.integrated_gradients(net, x, 2, baseline=baseline, n_steps=n).sum(1) - gap).abs().max())
        for n in (3, 100)
    )
    assert many < 0.01
    assert many < few / 5


# Slow twins and captum --------------------------------------------------------------------------------------------------


def slope(net, x, c):
    x = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(net(x)[0, c], x)
    return g


def captums(method, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it warns of its hooks
        return method.attribute(x, target=2)[:, 0].detach()


def test_smooth_grad_is_a_loop(nets, x):
    net = nets["hannun"]
    draws = torch.randn(4, 1, 720, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    found = gradients.smooth_grad(net, x, 3, noise=0.2, n_draws=4, seed=7)
    absolute = gradients.smooth_grad(net, x, 3, noise=0.2, n_draws=4, seed=7, absolute=True)
    for i in range(3):
        spread = 0.2 * float(x[i].max() - x[i].min())
        slopes = torch.cat([slope(net, x[i : i + 1] + spread * draw, 3)[:, 0] for draw in draws])
        torch.testing.assert_close(found[i], slopes.mean(0))
        torch.testing.assert_close(absolute[i], slopes.abs().mean(0))
    assert not torch.allclose(found, gradients.smooth_grad(net, x, 3, noise=0.2, n_draws=4, seed=8))
    assert torch.allclose(gradients.smooth_grad(net, x, 3, noise=0.0, n_draws=2), gradients.gradient(net, x, 3))


def test_smooth_grad_is_captums_but_for_its_draws(nets, x, monkeypatch):
    attr = pytest.importorskip("captum.attr")
    net, one = nets["hannun"], x[:1]
    noise = gradients._normal(5, one, 0) * gradients._spread(0.1, one)
    monkeypatch.setattr(attr.NoiseTunnel, "_add_noise_to_input", staticmethod(lambda i, s, n: i + noise))
    expected = attr.NoiseTunnel(attr.Saliency(net)).attribute(one, nt_samples=5, target=2, abs=False)[:, 0]
    torch.testing.assert_close(gradients.smooth_grad(net, one, 2, n_draws=5), expected.detach())


def test_gradient_shap_nears_integrated_gradients(toys, x):
    net = toys[0]
    many = gradients.gradient_shap(net, x, 1, n_draws=400)
    exact = gradients.integrated_gradients(net, x, 1, n_steps=300)
    assert float((many - exact).norm() / exact.norm()) < 0.1
    assert float((gradients.gradient_shap(net, x, 1, n_draws=400, seed=1) - many).abs().max()) > 0


def test_gradient_shap_is_a_loop_over_a_background(toys, x):
    net, generator = toys[0], torch.Generator().manual_seed(5)
    background = torch.randn(6, 1, 720, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places = torch.rand(9, generator=generator).tolist()
    chosen = torch.randint(6, (9,), generator=generator).tolist()
    assert len(set(chosen)) > 2
    draws = torch.randn(9, 1, 720, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found = gradients.gradient_shap(net, x, 1, baseline=background, noise=0.05, n_draws=9, seed=4)
    for i in range(3):
        total, spread = 0, 0.05 * float(x[i].max() - x[i].min())
        for draw, place, k in zip(draws, places, chosen, strict=True):
            way = x[i : i + 1] + spread * draw - background[k]
            total = total + way * slope(net, background[k] + place * way, 1)
        torch.testing.assert_close(found[i], total[0, 0] / 9)


@pytest.mark.parametrize("name", ["hannun", "zihlmann"])
def test_guided_backprop_is_captums_where_relus_are_modules(nets, x, name):
    attr = pytest.importorskip("captum.attr")
    expected = captums(attr.GuidedBackprop(nets[name]), x)
    found = gradients.guided_backprop(nets[name], x, 2)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, gradients.gradient(nets[name], x, 2))


def test_guided_backprop_reaches_relus_that_are_functions(toys, x):
    attr = pytest.importorskip("captum.attr")
    modules, functions = toys
    expected, missed = (captums(attr.GuidedBackprop(net), x) for net in toys)
    torch.testing.assert_close(gradients.guided_backprop(modules, x, 2), expected)
    torch.testing.assert_close(gradients.guided_backprop(functions, x, 2), expected)
    assert not torch.allclose(missed, expected)


def test_guided_grad_cam_is_captums_where_map_and_window_are_as_long(toys, x):
    attr = pytest.importorskip("captum.attr")
    expected = captums(attr.GuidedGradCam(toys[0], toys[0].second), x)
    found = grad_cam(toys[0], x, 2, relu=True) * gradients.guided_backprop(toys[0], x, 2)
    torch.testing.assert_close(found, expected)


def test_guided_grad_cam_is_a_product(nets, x):
    net = nets["hannun"]
    product = upsample(grad_cam(net, x, 2, relu=True)) * gradients.guided_backprop(net, x, 2)
    assert torch.equal(gradients.guided_grad_cam(net, x, 2), product)
    assert float(product.abs().max()) > 0


# Some windows at a time ------------------------------------------------------------------------------------------------


def test_more_windows_than_fit_at_once(linear):
    many = torch.randn(2 * AT_ONCE + 3, 1, 720, dtype=torch.float64)
    sizes = []
    found = by_part(lambda f, s, c, b: (sizes.append(len(s)), s * b)[1], linear, many, 1, 2 * torch.ones_like(many))
    assert sizes == [AT_ONCE, AT_ONCE, 3]
    assert torch.equal(found, 2 * many[:, 0])
    classes = torch.arange(len(many)) % 5
    assert torch.equal(gradients.gradient(linear, many, classes), linear[1].weight.detach()[classes])
    assert gradients.integrated_gradients(linear, many[:0], 1).shape == (0, 720)


def test_resting(x):
    assert torch.equal(resting("zero", x), torch.zeros_like(x))
    assert resting("mean", x)[1, 0, [0, 500]].tolist() == [float(x[1].mean())] * 2
    assert torch.equal(resting(-0.5, x), torch.full_like(x, -0.5))
    assert torch.equal(resting(x[:1].float(), x), x[:1].float().double().expand_as(x))


def test_errors(linear, x, one_line, monkeypatch):
    for call, kind, parts in (
        (lambda: gradients.gradient(linear, x[:, 0], 0), DataError, ("(N, 1, T)", "(3, 720)")),
        (lambda: gradients.gradient(linear, x, 5), DataError, ("0…4", "5")),
        (lambda: gradients.gradient(linear, x, 0, of="odds"), UnknownNameError, ("unknown score 'odds'",)),
        (lambda: resting("median", x), UnknownNameError, ("unknown baseline 'median'", "zero", "mean")),
        (lambda: resting(torch.zeros(2, 1, 720), x), DataError, ("(2, 1, 720)", "(3, 1, 720)")),
        (lambda: gradients.smooth_grad(linear, x, 0, n_draws=0), DataError, ("n_draws is 0", "at least 1")),
        (lambda: gradients.gradient_shap(linear, x, 0, baseline=x[:, 0]), DataError, ("(B, 1, 720)", "(3, 720)")),
    ):
        with pytest.raises(kind) as caught:
            call()
        one_line(caught, *parts)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(DataError) as caught:
        captum()
    one_line(caught, "captum", "pip install captum")
