"""Class activation maps are what the logits say, sit where their steps were, and leave the network as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from ecglib import cam, models
from ecglib.cam import class_activation_map, grad_cam, step_edges, upsample
from ecglib.errors import DataError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def net():
    """A small network with normalisations that matter."""
    model, g = models.build("murugesan-gap", width=8, seed=1), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.BatchNorm1d):
                m.weight.copy_(0.5 + torch.rand(m.weight.shape, generator=g))
                m.bias.copy_(0.3 * torch.randn(m.bias.shape, generator=g))
                m.running_mean.copy_(0.2 * torch.randn(m.bias.shape, generator=g))
    return model


@pytest.fixture(scope="module")
def x():
    return torch.randn(4, 1, 720, generator=torch.Generator().manual_seed(3))


TARGET = torch.tensor([0, 7, 3, 3])


class Toy(nn.Module):
    """Two units, f_1 = relu(x) and f_2 = relu(1 - 2x); one more input of the head, the sum of x."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(3, 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, -2.0]).reshape(2, 1, 1))
            self.conv.bias.copy_(torch.tensor([0.0, 1.0]))
            self.head.weight.copy_(torch.tensor([[1.0, 10.0, 5.0], [-3.0, 0.5, 7.0]]))
            self.head.bias.copy_(torch.tensor([100.0, 200.0]))

    def feature_map(self, x):
        return self.drop(self.conv(x).relu())

    def forward(self, x):
        return self.head(torch.cat([self.feature_map(x).mean(-1), x.sum(-1)], 1))


SIGNAL = torch.tensor([[[0.0, 1.0, 2.0, -1.0]], [[3.0, 0.0, 0.25, 0.0]]])
# f of the first window: [0 1 2 0], [1 0 0 3]; of the second: [3 0 .25 0], [0 1 .5 1]
MAPS = torch.tensor([[[10.0, 1, 2, 30], [0.5, -3, -6, 1.5]], [[3.0, 10, 5.25, 10], [-9.0, 0.5, -0.5, 0.5]]])


# Values


def test_literal_maps():
    model = Toy().train()  # dropout would be seen
    assert torch.equal(class_activation_map(model, SIGNAL), MAPS)
    assert torch.equal(class_activation_map(model, SIGNAL, 0), MAPS[:, 0])
    assert torch.equal(class_activation_map(model, SIGNAL, torch.tensor([1, 0])), MAPS[[0, 1], [1, 0]])
    assert torch.equal(grad_cam(model, SIGNAL, torch.tensor([1, 0])), MAPS[[0, 1], [1, 0]] / 4)
    assert torch.equal(grad_cam(model, SIGNAL, 1, relu=True), MAPS[:, 1].clamp(min=0) / 4)


def test_mean_of_the_map_is_the_cnns_part_of_the_logit(net, x):
    maps = class_activation_map(net, x)
    assert maps.shape == (4, 8, 48)
    with torch.no_grad():
        rest = net.lstm_features(x) @ net.head.weight[:, 16:].T + net.head.bias
        torch.testing.assert_close(maps.mean(-1), net(x) - rest, atol=1e-5, rtol=1e-5)
    assert float(maps.std()) > 0.05


def test_every_class_is_each_class(net, x):
    maps = class_activation_map(net, x)
    for c in range(8):
        assert torch.equal(class_activation_map(net, x, c), maps[:, c])
    assert torch.equal(class_activation_map(net, x, TARGET), maps[torch.arange(4), TARGET])


def test_grad_cam_is_the_map_divided_by_its_steps(net, x):
    torch.testing.assert_close(
        grad_cam(net, x, TARGET) * 48, class_activation_map(net, x, TARGET), atol=1e-5, rtol=1e-5
    )
    positive = grad_cam(net, x, TARGET, relu=True)
    assert torch.equal(positive, grad_cam(net, x, TARGET).clamp(min=0))
    assert float(grad_cam(net, x, TARGET).min()) < 0


class Deep(Toy):
    """A head behind which the closed form does not hold."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3))

    def forward(self, x):
        return self.head(self.feature_map(x))


def test_grad_cam_of_any_head_by_finite_differences():
    with torch.random.fork_rng():
        model = Deep().double().eval()
    x, step = SIGNAL.double(), 1e-6
    with torch.no_grad():
        f = model.feature_map(x)
        slope = torch.zeros(2, 2, 4, dtype=torch.float64)  # of logit 2
        for k in range(2):
            for t in range(4):
                up, down = f.clone(), f.clone()
                up[:, k, t] += step
                down[:, k, t] -= step
                slope[:, k, t] = (model.head(up)[:, 2] - model.head(down)[:, 2]) / (2 * step)
    expected = (slope.mean(-1, keepdim=True) * f).sum(1)
    torch.testing.assert_close(grad_cam(model, x, 2), expected, atol=1e-8, rtol=1e-6)
    with pytest.raises(DataError, match=r"Deep has no linear head .*use grad_cam"):
        class_activation_map(model, x, 2)


class Staged(nn.Module):
    """The network's forward pass with a module where the map comes out, for captum to hold on to."""

    def __init__(self, net):
        super().__init__()
        self.net, self.relu = net, nn.ReLU()

    def forward(self, x):
        f = self.relu(self.net.norm(self.net.blocks(self.net.stem(nn.functional.pad(x, (24, 24), mode="reflect")))))
        return self.net.head(torch.cat([f.mean(-1), self.net.lstm_features(x)], 1))


def test_grad_cam_is_captums(net, x):
    attr = pytest.importorskip("captum.attr")
    staged = Staged(net).eval()
    torch.testing.assert_close(staged(x), net(x))
    theirs = attr.LayerGradCam(staged, staged.relu).attribute(x, target=TARGET)[:, 0].detach()
    torch.testing.assert_close(grad_cam(net, x, TARGET), theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(class_activation_map(net, x, TARGET), theirs * 48, atol=1e-5, rtol=1e-5)


def test_grad_cam_is_captums_on_another_head():
    attr = pytest.importorskip("captum.attr")
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = Held()
    x = torch.randn(3, 1, 32, generator=torch.Generator().manual_seed(5))
    theirs = attr.LayerGradCam(model, model.feature_map).attribute(x, target=1)[:, 0].detach()
    torch.testing.assert_close(grad_cam(model, x, 1), theirs, atol=1e-6, rtol=1e-5)


def test_grad_cam_of_ecgnet_is_captums():
    """A flattened map and three affine layers: no closed form."""
    attr = pytest.importorskip("captum.attr")
    model = models.build("murugesan", width=8, seed=3)
    x = torch.randn(3, 1, 720, generator=torch.Generator().manual_seed(8))
    ours = grad_cam(model, x, torch.tensor([1, 5, 0]))
    theirs = attr.LayerGradCam(model, model.blocks).attribute(x, target=torch.tensor([1, 5, 0]))[:, 0].detach()
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-5)
    assert ours.shape == (3, 48)
    with pytest.raises(DataError, match="Murugesan has no linear head"):
        class_activation_map(model, x)


# Where the methods part


def test_two_linear_layers_are_one(net, x):
    """The closed form refuses a stack; Grad-CAM does not notice it, and the product of the weights is the map's."""
    turn = torch.linalg.qr(torch.randn(56, 56, generator=torch.Generator().manual_seed(9)))[0]
    expected, weight, bias = class_activation_map(net, x, TARGET), net.head.weight.detach(), net.head.bias.detach()
    net.head = nn.Sequential(nn.Linear(56, 56, bias=False), nn.Linear(56, 8))
    with torch.no_grad():
        net.head[0].weight.copy_(turn)
        net.head[1].weight.copy_(weight @ turn.T)
        net.head[1].bias.copy_(bias)
    with pytest.raises(DataError, match="no linear head"):
        class_activation_map(net, x, TARGET)
    torch.testing.assert_close(48 * grad_cam(net, x, TARGET), expected, atol=1e-5, rtol=1e-4)
    net.head.insert(1, nn.ReLU())
    assert float((48 * grad_cam(net, x, TARGET) - expected).abs().max()) > 0.1


def test_grad_cam_points_at_what_a_flattened_head_cannot_see(net, x):
    """A head that reads the left half of the map, each step twice as much: Grad-CAM is that of the whole map."""
    whole, half = grad_cam(net, x, TARGET), 2.0 * (torch.arange(48) < 24)
    net.classify = lambda f, h: net.head(torch.cat([(half * f).mean(-1), h], 1))
    torch.testing.assert_close(grad_cam(net, x, TARGET), whole, atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        f, h = net.feature_map(x), net.lstm_features(x)
        assert torch.equal(net.classify(f, h), net.classify(f * (half > 0), h))
    assert float(whole[:, 24:].abs().sum() / whole.abs().sum()) > 0.3


class Held(nn.Module):
    """The map is a submodule."""

    def __init__(self):
        super().__init__()
        self.feature_map = nn.Sequential(nn.Conv1d(1, 4, 3, stride=2), nn.Tanh())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(60, 6), nn.ReLU(), nn.Linear(6, 2))

    def forward(self, x):
        return self.head(self.feature_map(x))


def test_submodule_stays_in_its_place():
    model = Held()
    inner, names = model.feature_map, list(model.state_dict())
    grad_cam(model, torch.randn(1, 1, 32), 0)
    assert model.feature_map is inner
    assert list(model.state_dict()) == names
    assert "feature_map" not in vars(model)


def test_attribute_of_the_instance_stays_in_its_place():
    model = Toy()
    model.feature_map = mine = lambda signal: 2 * Toy.feature_map(model, signal)
    maps = grad_cam(model.eval(), SIGNAL, 0)
    assert model.feature_map is mine
    torch.testing.assert_close(maps, MAPS[:, 0] / 2)


# The network is left as it was


def state_of(model):
    return (
        {k: v.clone() for k, v in model.state_dict().items()},
        {n: m.training for n, m in model.named_modules()},
        {n: (p.requires_grad, p.grad if p.grad is None else p.grad.clone()) for n, p in model.named_parameters()},
        sorted(vars(model)),
        len(model._forward_hooks),
    )


def assert_untouched(before, model):
    after = state_of(model)
    assert [k for k in before[0] if not torch.equal(before[0][k], after[0][k])] == []
    assert before[1] == after[1]
    for name, (flag, grad) in before[2].items():
        assert after[2][name][0] == flag
        assert (grad is None) == (after[2][name][1] is None), name
        assert grad is None or torch.equal(grad, after[2][name][1]), name
    assert before[3:] == after[3:]


@pytest.fixture
def mixed(net, x):
    """Some modules in train mode, some parameters frozen, some with a gradient."""
    net(x).sum().backward()
    net.zero_grad()
    net.train()
    net.blocks[2].eval()
    net.stem.requires_grad_(False)
    for p in net.head.parameters():
        p.grad = torch.ones_like(p)
    return net


def test_nothing_changes(mixed, x):
    before = state_of(mixed)
    first = class_activation_map(mixed, x, 1)
    gradient = grad_cam(mixed, x, 1)
    assert_untouched(before, mixed)
    assert torch.equal(class_activation_map(mixed, x, 1), first)  # eval mode meanwhile, so no dropout
    assert torch.equal(grad_cam(mixed, x, 1), gradient)
    assert not first.requires_grad
    assert not gradient.requires_grad


@pytest.mark.parametrize(
    ("method", "where"), [(class_activation_map, "blocks"), (grad_cam, "blocks"), (grad_cam, "lstm")]
)
def test_nothing_changes_when_it_fails(mixed, x, where, method):
    def fail(*_):
        raise RuntimeError("on purpose")

    before = state_of(mixed)
    handle = getattr(mixed, where).register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        method(mixed, x, 0)
    handle.remove()
    assert_untouched(before, mixed)
    assert mixed.feature_map.__func__ is type(mixed).feature_map


@pytest.mark.parametrize("method", [class_activation_map, grad_cam])
def test_nothing_changes_on_a_bad_target(mixed, x, method):
    before = state_of(mixed)
    for target in (8, -1, torch.tensor([0, 1, 2, 8])):
        with pytest.raises(DataError, match=r"targets must lie in 0…7; received"):
            method(mixed, x, target)
    for target in (torch.tensor([0, 1]), torch.zeros(4, 1), torch.zeros(5)):
        with pytest.raises(DataError, match="expected one target, or one for each of 4 windows; received"):
            method(mixed, x, target)
    assert_untouched(before, mixed)


def test_frozen_parameters(net, x):
    expected = grad_cam(net, x, TARGET)
    net.requires_grad_(False)
    assert torch.equal(grad_cam(net, x, TARGET), expected)
    assert not any(p.requires_grad for p in net.parameters())


def test_under_no_grad(net, x):
    expected = grad_cam(net, x, TARGET)
    with torch.no_grad():
        assert torch.equal(grad_cam(net, x, TARGET), expected)
        assert not torch.is_grad_enabled()


def test_signal_takes_no_gradient(net, x):
    signal = x.clone().requires_grad_()
    assert not upsample(class_activation_map(net, signal, 0)).requires_grad
    assert not upsample(grad_cam(net, signal, 0)).requires_grad
    assert signal.grad is None


def test_networks_without_a_map():
    with pytest.raises(DataError, match="Linear has no linear head"):
        class_activation_map(nn.Linear(3, 3), SIGNAL)

    class Unused(Toy):
        def forward(self, x):
            return self.head(torch.cat([x[..., :2].flatten(1), x.sum(-1)], 1))

    with pytest.raises(DataError, match="Unused does not run its feature_map"):
        grad_cam(Unused(), SIGNAL, 0)


def test_batches_are_windows(net, x):
    for method in (class_activation_map, grad_cam):
        single = torch.cat([method(net, x[i : i + 1], TARGET[i : i + 1]) for i in range(4)])
        torch.testing.assert_close(method(net, x, TARGET), single, atol=1e-5, rtol=1e-5)


def test_many_windows_are_mapped_in_parts(net, monkeypatch):
    """Of a record's beats only some are in memory at a time."""
    x = torch.randn(70, 1, 720, generator=torch.Generator().manual_seed(10))
    sizes, original = [], net.feature_map
    monkeypatch.setattr(net, "feature_map", lambda part: sizes.append(len(part)) or original(part), raising=False)
    maps = class_activation_map(net, x)
    assert sizes == [32, 32, 6]
    with torch.no_grad():
        at_once = torch.einsum("ck,nkt->nct", net.head.weight[:, :16], original(x))
    torch.testing.assert_close(maps, at_once, atol=1e-5, rtol=1e-5)
    assert class_activation_map(net, x[:0]).shape == (0, 8, 48)


# Place in time


def test_step_stands_over_the_samples_that_it_saw():
    """Step k of 48 covers samples 16k - 24 … 16k - 9 of the window: their middle is 16k - 16.5."""
    for k, (left, right) in {2: (15, 16), 10: (143, 144), 46: (719, None)}.items():
        one = torch.zeros(48)
        one[k] = 1
        up = upsample(one)
        assert up.shape == (720,)
        assert float(up[left]) == 1 - 0.5 / 16  # half a sample from the centre
        assert right is None or float(up[right]) == 1 - 0.5 / 16
        assert float(up.max()) == 1 - 0.5 / 16
        assert up.nonzero().min() == 16 * k - 32  # 15.5 samples from the centre, the last that it touches
    assert float(upsample(torch.eye(48)[1])[0]) == 1 - 0.5 / 16  # step 1 is centred just before the window
    assert float(upsample(torch.eye(48)[0]).abs().max()) == 0  # step 0 on 16 samples of padding before it


def test_upsampling_is_interpolation_between_centres():
    maps = torch.randn(3, 5, 48, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    expected = np.array(
        [[np.interp(np.arange(720), 16 * np.arange(48) - 16.5, row) for row in m] for m in maps.numpy()]
    )
    np.testing.assert_allclose(upsample(maps).numpy(), expected, atol=1e-12)
    halves = torch.randn(24, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    centres = 32 * np.arange(24) + 15.5 - 24
    np.testing.assert_allclose(upsample(halves).numpy(), np.interp(np.arange(720), centres, halves.numpy()), atol=1e-12)


def test_constants_and_ramps():
    assert torch.equal(upsample(torch.full((2, 48), 3.0)), torch.full((2, 720), 3.0))
    ramp = 16.0 * torch.arange(48) - 16.5
    torch.testing.assert_close(upsample(ramp), torch.arange(720.0), atol=1e-4, rtol=0)


def test_lengths():
    assert upsample(torch.ones(2, 3, 48)).shape == (2, 3, 720)
    assert upsample(torch.ones(48), 336).shape == (336,)
    assert torch.equal(upsample(torch.tensor([[5.0], [7.0]]), 4), torch.tensor([[5.0] * 4, [7.0] * 4]))  # one step
    ramp = 8.0 * torch.arange(48) - 24 + 3.5
    torch.testing.assert_close(upsample(ramp, 336), torch.arange(336.0), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64])
def test_positions_do_not_suffer_from_a_short_dtype(dtype):
    maps = torch.arange(48).to(dtype)  # exact in all of them
    torch.testing.assert_close(upsample(maps).float(), upsample(torch.arange(48.0)), atol=1e-5, rtol=0)


def test_stretching_would_misplace_each_step():
    """Where a step's own peak lands, here and stretched over the window: 23.5 - k samples apart."""
    ones = torch.eye(48, dtype=torch.float64)
    time = torch.arange(720.0, dtype=torch.float64)
    stretched = torch.nn.functional.interpolate(ones[None], 720, mode="linear")[0]
    for k in (3, 10, 23, 24, 40, 44):  # whole triangles, so that the centroid is the centre
        here, there = ((m[k] * time).sum() / m[k].sum() for m in (upsample(ones), stretched))
        assert float(here) == pytest.approx(16 * k - 16.5)
        assert float(there - here) == pytest.approx(23.5 - k)


def test_averaged_steps_stay_in_their_place():
    """Steps averaged in pairs, fours …: the same mean, and a line stays a line."""
    maps = torch.randn(2, 48, generator=torch.Generator().manual_seed(11), dtype=torch.float64)
    line = 16.0 * torch.arange(48, dtype=torch.float64) - 16.5
    for steps in (24, 12, 6, 3):
        coarse = maps.unflatten(-1, (steps, -1)).mean(-1)
        torch.testing.assert_close(coarse.mean(-1), maps.mean(-1))
        up = upsample(line.unflatten(-1, (steps, -1)).mean(-1))
        torch.testing.assert_close(up[360 - 48 : 360 + 48], torch.arange(312.0, 408.0, dtype=torch.float64))


def test_step_edges():
    edges = step_edges()
    assert torch.equal(edges, torch.arange(-24.0, 745, 16))
    centre = (edges[1:] + edges[:-1] - 1) / 2  # sample t fills [t, t + 1)
    assert torch.equal(centre, 16.0 * torch.arange(48) - 16.5)
    assert step_edges(24)[:3].tolist() == [-24, 8, 40]
    assert cam.PADDED == 768


def test_a_pulse_is_seen_in_its_place(net):
    """The change that a pulse makes to the map of a random network is centred on the pulse."""
    quiet = torch.zeros(2, 1, 720)
    with_pulse = quiet.clone()
    with_pulse[0, 0, 150] = with_pulse[1, 0, 600] = 5
    change = upsample((net.feature_map(with_pulse) - net.feature_map(quiet)).abs().sum(1)).detach()
    centre = (change * torch.arange(720)).sum(-1) / change.sum(-1)
    assert centre.tolist() == pytest.approx([150, 600], abs=16)


@pytest.mark.parametrize("explain", [class_activation_map, grad_cam])
@pytest.mark.parametrize(
    "given", [np.zeros((1, 1, 720), np.float32), torch.zeros(1, 720), torch.zeros(1, 1, 720).long()]
)
def test_what_is_no_tensor_of_windows_is_told(net, one_line, explain, given):
    with pytest.raises(DataError) as caught:
        explain(net, given, 0)
    one_line(caught, "expected a float32 tensor of windows (N, 1, 720)", "received shape (1, ")
