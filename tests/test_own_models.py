"""Networks of other people: the same answers as asked directly, maps in their place, and modules left as they were."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from ecglib import models, signals
from ecglib.attribution import attribute
from ecglib.cam import class_activation_map, grad_cam, upsample
from ecglib.errors import DataError, UnknownNameError
from ecglib.layers import output_of, step_centres
from ecglib.masks import RECIPES, learn_mask
from ecglib.own_models import class_score, wrap


class Shop(nn.Module):
    """As a reader might have it: odd padding, pooling, a skip, two layers behind the pooling."""

    def __init__(self, width: int = 6, n_classes: int = 3):
        super().__init__()
        self.first = nn.Conv1d(1, width, 9, stride=2, padding=4)
        self.norm = nn.BatchNorm1d(width)
        self.second = nn.Conv1d(width, width, 7, stride=2, padding=3)
        self.last = nn.Conv1d(width, width, 5, padding=2)
        self.judge = nn.Sequential(nn.Linear(width, 5), nn.Tanh(), nn.Linear(5, n_classes))

    def forward(self, x):
        h = self.second(self.norm(self.first(x)).relu()).relu()
        h = self.last(nn.functional.max_pool1d(h, 2)).relu()
        return self.judge(h.mean(-1))


def simple(n_classes: int = 3, k: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(1, k, 8, 8), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(k, n_classes))


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(5, 1, 720, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def shop() -> Shop:
    torch.manual_seed(0)
    return Shop().eval()


def test_at_our_rate_the_scores_are_the_module_s(shop, x):
    model = wrap(shop, layer="last", classes="abc")
    torch.testing.assert_close(model(x), shop(x))
    assert model.classes == ("a", "b", "c")


@pytest.mark.parametrize(
    ("fs", "length", "samples"), [(250, 500, 720), (128, 256, 720), (500, 1000, 720), (100, 1000, 3600)]
)
def test_at_another_rate_it_sees_what_a_record_read_at_that_rate_holds(shop, fs, length, samples):
    model = wrap(shop, layer="last", classes="abc", fs=fs, length=length)
    assert model.samples == samples
    x = torch.randn(2, 1, samples, generator=torch.Generator().manual_seed(0))
    told = np.stack([signals.resample(w[0], native_fs=360, fs=fs) for w in x.numpy()])
    torch.testing.assert_close(model(x), shop(torch.from_numpy(told)[:, None]), rtol=1e-4, atol=1e-5)


def test_centres_of_the_steps():
    # by hand: stride 2, then 2, then 2 by pooling; every kernel is centred but the pool of 2, half a step of 4 late
    np.testing.assert_allclose(step_centres(Shop().eval(), "last", length=720)[:3], [2, 10, 18])
    np.testing.assert_allclose(step_centres(Shop().eval(), "first", length=720)[:3], [0, 2, 4])
    np.testing.assert_allclose(step_centres(simple(), "0", length=720)[[0, 89]], [3.5, 715.5])


def test_centres_of_our_own_network():
    net = models.build("murugesan-gap", width=8)
    whole = nn.Module()
    whole.net, whole.map = net, nn.Identity()
    whole.forward = lambda x: whole.map(net.feature_map(x))  # a layer that stands where the map does
    centres = step_centres(whole, "map", length=720)
    np.testing.assert_allclose(centres, 16 * np.arange(48) - 16.5, atol=1)  # as ecglib.cam.upsample has it


def test_a_layer_that_sees_everything_is_laid_evenly():
    class Long(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.conv = nn.LSTM(1, 4, batch_first=True, bidirectional=True), nn.Conv1d(8, 4, 4, 4)

        def forward(self, x):
            return self.conv(self.lstm(x.transpose(1, 2))[0].transpose(1, 2)).mean(-1)

    np.testing.assert_allclose(
        step_centres(Long(), "conv", length=40), [1.5, 5.5, 9.5, 13.5, 17.5, 21.5, 25.5, 29.5, 33.5, 37.5]
    )


def test_grad_cam_is_that_of_the_paper(shop, x):
    target = torch.tensor([0, 1, 2, 0, 1])
    found = grad_cam(wrap(shop, layer="last", classes="abc"), x, target)
    for n in range(5):  # one at a time, from the definition
        f = output_of(shop, "last", x[n : n + 1]).detach().requires_grad_()
        score = shop.judge(f.relu().mean(-1))[0, target[n]]
        (slope,) = torch.autograd.grad(score, f)
        steps = (slope.mean(-1, keepdim=True) * f.detach()).sum(1)[0].numpy()
        centres = step_centres(shop, "last", length=720)
        np.testing.assert_allclose(found[n].numpy(), np.interp(np.arange(720), centres, steps), rtol=1e-3, atol=1e-6)


def test_grad_cam_of_our_own_network_is_grad_cam_of_it_wrapped(x):
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.map = models.build("murugesan-gap", width=8), nn.Identity()

        def forward(self, x):
            f = self.map(self.net.feature_map(x))
            return self.net.head(torch.cat([f.mean(-1), self.net.lstm_features(x)], 1))

    bare = Bare().eval()
    own = upsample(grad_cam(bare.net, x, 2))
    theirs = grad_cam(wrap(bare, layer="map", classes="12345678"), x, 2)
    assert float((own - theirs).abs().max() / own.abs().max()) < 0.15  # centres are measured to a sample or so
    assert np.corrcoef(own.ravel(), theirs.ravel())[0, 1] > 0.99


def test_the_closed_form_where_it_holds(x):
    net = simple().eval()
    model = wrap(net, layer="0", classes="abc", head="3")
    maps = class_activation_map(model, x)
    f, w = net[0](x), net[3].weight
    at = 8 * np.arange(90) + 3.5
    steps = torch.einsum("ck,nkt->nct", w, f).detach().numpy()
    np.testing.assert_allclose(maps[2, 1].numpy(), np.interp(np.arange(720), at, steps[2, 1]), atol=1e-5)
    torch.testing.assert_close(attribute("cam", model, x, 1), maps[:, 1])


def test_where_it_does_not(shop, one_line):
    with pytest.raises(DataError) as caught:
        wrap(shop, layer="last", classes="abc", head="judge.2")
    one_line(caught, "'judge.2'", "'last'", "use grad_cam")


def test_a_map_points_at_the_planted_sample():
    """A network that fires on a spike: the map's peak is the spike, at any rate, also where padding would shift it."""
    for fs, length in ((360, 720), (250, 500)):
        net = nn.Sequential(
            nn.Conv1d(1, 1, 11, 4, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear((length - 11) // 4 + 1, 2)
        )
        with torch.no_grad():
            net[0].weight.fill_(1)
            net[3].weight.fill_(1)
        model = wrap(net.eval(), layer="1", classes=["a", "b"], fs=fs, length=length)
        for place in (60, 300, 611):
            window = torch.exp(-0.5 * ((torch.arange(720) - place) / 8.0) ** 2)[None, None]
            assert abs(int(attribute("grad_cam", model, window, 0)[0].argmax()) - place) <= 8


@pytest.mark.parametrize("method", ["grad_cam", "gradient", "integrated_gradients", "occlusion", "guided_grad_cam"])
def test_one_window_says_what_a_batch_says(shop, x, method):
    pytest.importorskip("captum")
    model = wrap(shop, layer="last", classes="abc", fs=250, length=500)
    together = attribute(method, model, x, 1)
    assert together.shape == (5, 720)
    alone = torch.cat([attribute(method, model, w, 1) for w in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-5)


def test_a_mask_deletes_what_the_score_needs():
    net = simple(2, 1)
    with torch.no_grad():  # class 0 is the mean of the signal: a bump is all of it
        net[0].weight.fill_(1)
        net[0].bias.zero_()
        net[3].weight.copy_(torch.tensor([[20.0], [0.0]]))
        net[3].bias.zero_()
    x = torch.zeros(1, 1, 720)
    x[..., 300:340] = 1
    model = wrap(net.eval(), layer="0", classes="ab")
    found = learn_mask(class_score(model, x, 0), x, **{**RECIPES["settled"], "n_iter": 100}).relevance[0]
    assert found[305:335].min() > 0.9
    assert found[:280].mean() < 0.1
    assert found[360:].mean() < 0.1


def test_nothing_is_left_behind(shop, x):
    state, modes = copy.deepcopy(shop.state_dict()), [m.training for m in shop.modules()]
    shop.norm.train()
    model = wrap(shop, layer="last", classes="abc")
    attribute("grad_cam", model, x, 0)
    attribute("grad_cam", model, x.double(), 0)
    assert shop.norm.training
    shop.norm.eval()
    assert [m.training for m in shop.modules()] == modes
    assert all(not m._forward_hooks for m in shop.modules())
    assert "feature_map" not in vars(model)
    for name, value in shop.state_dict().items():
        torch.testing.assert_close(value, state[name])
    assert all(p.grad is None for p in shop.parameters())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_without_a_layer(shop, x, tmp_path, one_line):
    torch.jit.save(torch.jit.trace(shop, x), tmp_path / "net.pt")
    loaded = torch.jit.load(tmp_path / "net.pt")
    with pytest.raises(DataError) as caught:
        wrap(loaded, layer="last", classes="abc")
    one_line(caught, "TorchScript", "layer=None")
    model = wrap(loaded, layer=None, classes="abc")
    torch.testing.assert_close(
        attribute("gradient", model, x, 1), attribute("gradient", wrap(shop, layer=None, classes="abc"), x, 1)
    )
    with pytest.raises(DataError):
        grad_cam(model, x, 0)


def test_a_layer_that_runs_twice_has_no_one_map(one_line):
    conv = nn.Conv1d(1, 1, 3, padding=1)
    twice = nn.Sequential(conv, nn.ReLU(), conv, nn.AdaptiveAvgPool1d(2), nn.Flatten())
    with pytest.raises(DataError) as caught:
        wrap(twice, layer="0", classes="ab")
    one_line(caught, "layer '0'", "runs 2 times")


def test_bad_arguments(shop, one_line):
    cases = [
        ("net.onnx", {}, DataError, ("net.onnx", "ONNX", "onnx2torch")),
        ({"a": 1}, {}, DataError, ("expected a torch nn.Module",)),
        (shop, {"classes": "abcd"}, DataError, ("4 scores", "(2, 3)")),
        (shop, {"layer": "lost"}, UnknownNameError, ("unknown layer 'lost'", "did you mean 'last'")),
        (shop, {"layer": "judge"}, DataError, ("layer 'judge'", "(4, 3)", "(N, K, steps)")),
        (shop, {"fs": 0}, DataError, ("fs is 0",)),
        (shop, {"length": 3}, DataError, ("(2, 1, 3)",)),
        (nn.Linear(7, 3), {}, DataError, ("cannot read windows (2, 1, 720)",)),
        (shop, {"head": "lost"}, UnknownNameError, ("unknown head 'lost'",)),
    ]
    for module, options, error, parts in cases:
        with pytest.raises(error) as caught:
            wrap(module, **{"layer": "last", "classes": "abc", **options})
        one_line(caught, *parts)
    with pytest.raises(DataError) as caught:
        wrap(shop, layer="last", classes="abc", fs=250, length=500)(torch.zeros(1, 1, 500))
    one_line(caught, "(N, 1, 720)", "(1, 1, 500)")
