"""One call for every explanation and every control, and each gives what its own function gives."""

import copy
import inspect
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from ecglib import cam, masks, models, phantom
from ecglib.attribution import CONTROLS, METHODS, attribute
from ecglib.errors import DataError, UnknownNameError
from ecglib.localisation import chance, mass_accuracy, pointing_game

TARGET = torch.tensor([0, 7, 3])
SHORT = {
    "mask": {"n_iter": 4}, "mask_deck": {"n_iter": 4}, "integrated_gradients": {"n_steps": 4}, "smooth_grad": {"n_draws": 3},
    "gradient_shap": {"n_draws": 3, "noise": 0.1}, "occlusion": {"width": 100, "stride": 80},
    "mask_smooth": {"n_iter": 4}, "extremal": {"n_iter": 4},
    "feature_ablation": {"parts": torch.arange(720) // 120},
}  # fmt: skip
MASKS = {"mask", "mask_deck", "mask_smooth", "extremal"}
CANNOT = {  # what asks for a part that a network does not have
    "hannun": {"cam", *MASKS},
    "zihlmann": {"cam", "grad_cam", "guided_grad_cam", *MASKS},
    "murugesan": {"cam"},
    "murugesan-gap": set(),
}


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
    assert {"cam", "grad_cam", "mask", "mask_deck", "gradient", "gradient_x_input", "smooth_grad", "deep_lift"} <= set(
        METHODS
    )
    assert {"integrated_gradients", "gradient_shap", "guided_backprop", "guided_grad_cam"} <= set(METHODS)
    assert {"occlusion", "feature_ablation"} <= set(METHODS)
    assert {"uniform", "amplitude", "slope", "bump", "centre", "random"} <= set(CONTROLS)
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


def test_the_centre(net, x):
    centre = attribute("centre", net, x, 0)
    assert torch.equal(centre, attribute("bump", net, x, 0, centre=torch.tensor([360, 360, 360])))
    assert float(attribute("centre", net, x, 0, width=60.0)[2, 420]) == pytest.approx(math.exp(-0.5), rel=1e-6)


def test_random_maps_are_as_smooth_as_a_map_and_each_window_has_its_own(net, x):
    maps = attribute("random", net, x, 0)
    assert float(maps.diff(n=2).abs().gt(1e-4).sum(1).max()) <= 2 * 48  # bends lie beside the 48 steps' centres
    assert torch.equal(maps, attribute("random", net, x.flip(0), 3).flip(0))  # wherever it stands, whatever the class
    assert torch.equal(maps[1:2], attribute("random", net, x[1:2], 0))
    assert torch.equal(maps, attribute("random", net, x.double(), 0).float())
    assert not torch.allclose(maps, attribute("random", net, x, 0, seed=1))
    many = attribute("random", net, torch.randn(400, 1, 720, generator=torch.Generator().manual_seed(0)), 0)
    assert float(many.mean()) == pytest.approx(0, abs=0.03)
    assert float(many[:, 358].std()) > 0.5
    assert np.abs(np.corrcoef(many[:40].numpy()) - np.eye(40)).max() < 0.8
    assert attribute("random", net, x[:0], 0).shape == (0, 720)


# Networks -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nets():
    return {name: models.build(name, width=4, seed=1) for name in CANNOT}


@pytest.mark.parametrize("name", CANNOT)
def test_every_method_serves_a_network_or_says_why_not(nets, x, name, one_line):
    for method in METHODS:
        if method in CANNOT[name]:
            with pytest.raises(DataError) as caught:
                attribute(method, nets[name], x[:1], 2)
            one_line(caught, type(nets[name]).__name__, "use ")
        else:
            relevance = attribute(method, nets[name], x[:1], 2, **SHORT.get(method, {}))
            assert relevance.shape == (1, 720)
            assert torch.isfinite(relevance).all()


class Reader(nn.Module):
    """Reads its weights' samples alone: logit c is the sum of relu(w_c x)."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x):
        return torch.relu(self.weights * x).sum(-1)  # (classes, T) times (N, 1, T)


ANY = sorted(set(METHODS) - CANNOT["zihlmann"])


@pytest.mark.parametrize("method", ANY)
def test_planted_evidence_is_found(phantom_clean, phantom_root, method):
    """A network that reads the planted samples of a window and nothing else, one class for each sign."""
    some, shares, points, planted = phantom_clean.subsample(1, seed=0), [], [], []
    for i in range(len(some)):
        known = phantom.read_truth(some.record[i], root=phantom_root)
        name = ("N", "PVC", "PAC", "AFIB", "SVTA", "SBR", "LBBB", "RBBB")[some.y[i]]
        inside = phantom.evidence_mask(known, label=name, start=some.time[i] - 1)
        if not inside.any():
            continue
        reader = Reader(torch.from_numpy(inside).float() * torch.tensor([[1.0], [-1.0]]))
        x = torch.from_numpy(some.x[i : i + 1])
        target = int(x[0, 0][torch.from_numpy(inside)].sum() < 0)
        options = {"width": 5, "stride": 1} if method == "occlusion" else {}
        r = attribute(method, reader, x, target, **options).abs()
        shares.append(mass_accuracy(r, inside[None])[0])
        points.append(pointing_game(r, inside[None])[0])
        planted.append(chance(inside[None])[0])
    assert len(shares) >= 5
    if method in {"occlusion", "feature_ablation"}:  # a stretch or a part reaches beyond the border
        assert min(np.array(shares) / planted) > 1.2
        assert np.mean(shares) > 0.8
    else:
        np.testing.assert_allclose(shares, 1, atol=1e-6)
        assert points == [1.0] * len(points)


def state(net):
    hooks = ["_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"]
    return [
        (sorted(vars(m)), m.training, [len(getattr(m, h)) for h in hooks], getattr(m, "dropout", None))
        for m in net.modules()
    ] + [(p.requires_grad, p.grad) for p in net.parameters()]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("broken", [False, True])
def test_a_network_is_left_as_it_was(x, method, broken):
    net = models.build("murugesan-gap", width=4, seed=1)
    net.train()
    net.blocks[2].eval()
    net.stem.convs[0].weight.requires_grad_(False)
    before = state(net)
    if broken:  # behind everything that could have been hooked; a CAM runs no head, so it breaks before
        part = net.norm if method == "cam" else net.head
        stop = part.register_forward_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("broken")))
        with pytest.raises(RuntimeError, match="broken"):
            attribute(method, net, x, 0, **SHORT.get(method, {}))
        stop.remove()
    else:
        with torch.no_grad():
            attribute(method, net, x, 0, **SHORT.get(method, {}))
    assert state(net) == before
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("method", METHODS)
def test_the_dtype_is_that_of_the_windows(net, x, method):
    options = SHORT.get(method, {})
    double = attribute(method, net, x.double(), TARGET, **options)  # a copy of the network in double
    assert double.dtype == torch.float64
    assert next(net.parameters()).dtype == torch.float32
    if not method.startswith("mask"):
        single = attribute(method, net, x, TARGET, **options).double()
        torch.testing.assert_close(single, double, atol=1e-4 * float(double.abs().max()), rtol=1e-2)


@pytest.mark.parametrize("method", ["smooth_grad", "gradient_shap"])
def test_draws_have_a_seed(net, x, method):
    torch.manual_seed(0)
    a, b, c = (attribute(method, net, x, 1, seed=s, **SHORT[method]) for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.allclose(a, c)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))  # the global generator was not asked


def test_captum_waits_until_it_is_needed():
    code = (
        "import sys, torch; from ecglib import models; from ecglib.attribution import attribute; "
        "attribute('cam', models.build('murugesan-gap', width=4), torch.zeros(1, 1, 720), 0); print('captum' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
