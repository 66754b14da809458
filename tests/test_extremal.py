"""Smooth masks and masks of a given area: literal optima, slow copies, and each window for itself."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ecglib import networks
from ecglib.databases import record_names
from ecglib.errors import DataError, UnknownNameError
from ecglib.extremal import extremal_mask, extremal_masks, smooth_mask, smoother
from ecglib.masks import RECIPES, learn_mask, lstm_score, replacement
from ecglib.source import Source
from ecglib.windows import cut_database

pytestmark = pytest.mark.usefixtures("one_thread")

BOTH = {"smooth": smooth_mask, "extremal": extremal_mask}
TARGET = torch.tensor([0, 7, 3, 3, 5])
ORDER = torch.tensor([3, 0, 4, 2, 1])


@pytest.fixture
def net(outspoken):
    return outspoken


@pytest.fixture(scope="module")
def x():
    return torch.randn(5, 1, 720, generator=torch.Generator().manual_seed(3)).cumsum(-1) / 20


def linear(weight):
    """Score sum_t w_t x_t of the masked signal."""
    return lambda masked: (masked[:, 0] * weight).sum(-1)


def curved(weight):
    """A score whose slopes change with the mask, and that neighbours share."""
    return lambda m: torch.tanh((m[:, 0] * weight).sum(-1) / 3) + 0.1 * (m[:, 0, 1:] * m[:, 0, :-1]).sum(-1)


def quiet(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, **options)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# The smooth parametrisation


def test_smoother_in_numbers():
    """Two Gaussians of two samples each, centred on the second border and on the fourth less one."""
    found = smoother(4, width=2 / 360)
    for t, row in enumerate(found.tolist()):
        a, b = (math.exp(-((t + 0.5 - c) ** 2) / 8) for c in (1.0, 3.0))
        assert row == pytest.approx([a / (a + b), b / (a + b)], abs=1e-12)
    assert smoother(720, width=0.01).shape == (720, 200)
    assert torch.equal(smoother(5, width=0.0), torch.eye(5, dtype=torch.float64))
    assert smoother(3, width=1.0).tolist() == [[1.0]] * 3


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([0.005, 0.01, 0.03]), st.booleans())
def test_masks_are_smooth_by_construction(seed, width, binary):
    """Whatever the parameters, no step from sample to sample exceeds 0.42 / width: about a Gaussian's integral at 0."""
    weights = smoother(720, width=width)
    p = torch.rand(weights.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    m = weights @ (p.round() if binary else p)
    assert float(m.diff().abs().max()) <= 0.42 / (width * 360)
    assert float(p.round().min() if binary else p.min()) - 1e-12 <= float(m.min()) <= float(m.max()) <= 1 + 1e-12


def test_the_sum_of_gaussians_has_no_ripple():
    """Away from the ends every parameter holds up the same share of the mask: T / P samples."""
    held = smoother(720, width=0.01).sum(0)
    assert float(held.sum()) == pytest.approx(720)
    torch.testing.assert_close(held[12:-12], torch.full((176,), 3.6, dtype=torch.float64), atol=1e-6, rtol=0)


# Smooth masks


def test_smooth_mask_of_a_linear_score():
    """J is linear in each parameter: it goes to 0 where what it holds up gains more than its area costs, else to 1."""
    w, x = noise(120, seed=1).cumsum(0) / 5, 1 + 0.3 * noise(3, 1, 120, seed=2)
    weights = smoother(120, width=0.02)
    gain = (w * x[:, 0] - 40 / 120) @ weights  # (N, P), with k = 0
    found = quiet(smooth_mask, linear(w), x, width=0.02, lambda_area=40.0, fill=0.0)
    expected = (gain < 0).double() @ weights.T
    assert 0.1 < float(expected.mean()) < 0.9
    torch.testing.assert_close(found.mask, expected, atol=0.02, rtol=0)
    torch.testing.assert_close(found.area, 1 - found.mask.mean(1))
    torch.testing.assert_close(found.score, (w * x[:, 0] * found.mask).sum(1))
    torch.testing.assert_close(found.tv, found.mask.diff().abs().sum(1))


def slow_smooth(score, x, k, weights, *, lambda_area, lr, n_iter):
    """One window, one parameter after the other, Adam from its paper, autograd through everything."""
    masks, history = [], []
    for i in range(len(x)):
        p, mean, square = torch.ones(weights.shape[1], dtype=x.dtype), 0, 0
        path = []
        for step in range(1, n_iter + 1):
            p = p.detach().requires_grad_()
            m = sum(p[j] * weights[:, j] for j in range(len(p)))
            j = lambda_area * sum(1 - v for v in m) / len(m) + score((m * x[i, 0] + (1 - m) * k[i, 0])[None, None])[0]
            path.append(float(j.detach()))
            (g,) = torch.autograd.grad(j, p)
            mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
            p = (p - lr * mean / (1 - 0.9**step) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)).clamp(0, 1)
        masks.append((weights @ p).detach())
        history.append(torch.tensor(path))
    return torch.stack(masks), torch.stack(history, 1)


def test_smooth_mask_written_out():
    x, score = noise(2, 1, 30, seed=4), curved(noise(30, seed=5))
    options = {"lambda_area": 0.7, "lr": 0.03, "n_iter": 25}
    mask, history = slow_smooth(score, x, replacement(x, "mean"), smoother(30, width=0.008), **options)
    found = smooth_mask(score, x, width=0.008, fill="mean", **options)
    torch.testing.assert_close(found.mask, mask, atol=1e-9, rtol=0)
    torch.testing.assert_close(found.history.float(), history, atol=1e-5, rtol=1e-5)


def test_a_smooth_mask_of_no_width_is_the_settled_one(net, x):
    signal = x[:2].double()
    score = lstm_score(net, signal, TARGET[:2], of="logit")
    smooth = smooth_mask(score, signal, width=0.0, n_iter=9, init=0.5)  # so short that no value comes to the kink at 1
    settled = learn_mask(score, signal, **{**RECIPES["settled"], "lambda_tv": 0.0, "n_iter": 9, "init": 0.5})
    for name in ("mask", "score", "area", "tv", "history"):
        torch.testing.assert_close(getattr(smooth, name), getattr(settled, name), atol=1e-6, rtol=1e-6)


# Extremal masks


@settings(deadline=None, max_examples=10)
@given(st.permutations(range(24)), st.integers(1, 23), st.floats(-30, 30))
def test_extremal_mask_of_a_linear_score_deletes_the_largest_gains(order, k, offset):
    """What is kept costs least: exactly the k largest contributions go, wherever they lie, whatever sign they have."""
    gain = torch.tensor(order, dtype=torch.float64) + offset + 0.1
    found = extremal_mask(linear(1.0), gain[None, None], area=k / 24, width=0.0, fill=0.0, growth=(0.01, 1000.0))
    expected = (gain.argsort().argsort() < 24 - k).double()
    torch.testing.assert_close(found.mask[0], expected, atol=0.01, rtol=0)
    assert float(found.area) == pytest.approx(k / 24, abs=0.01)
    assert float(found.score) == pytest.approx(float(gain.sort().values[: 24 - k].sum()), abs=0.01 * 24 * 54)


def test_extremal_mask_finds_planted_spans(x):
    """A span of known place and area, another for each window: all of it, and nothing else, but for smooth edges."""
    spans = [(100, 160), (300, 390), (500, 640), (0, 40), (600, 720)]
    inside = torch.zeros(5, 720)
    for row, (a, b) in zip(inside, spans, strict=True):
        row[a:b] = 1
    found = extremal_mask(linear(inside), torch.ones(5, 1, 720), area=inside.mean(1), fill=0.0)
    torch.testing.assert_close(found.area, inside.mean(1), atol=0.005, rtol=0)
    edges = (
        torch.nn.functional.max_pool1d(inside.diff(dim=1, prepend=inside[:, :1]).abs()[:, None], 21, 1, 10)[:, 0] > 0
    )
    assert float((found.relevance - inside)[~edges].abs().max()) < 0.05
    assert float((found.relevance - inside).abs().sum(1).max()) < 8  # samples, at both edges together


def test_extremal_mask_of_a_smooth_gain_keeps_what_exceeds_a_level():
    """Gains that are smoother than the mask: a level set, its edges where the slow search over all levels puts them."""
    t = torch.arange(360, dtype=torch.float64)
    gain = 2 + torch.sin(t / 25) + 0.5 * torch.sin(t / 60 + 1)
    found = extremal_mask(linear(1.0), gain[None, None], area=0.3, fill=0.0)
    level = next(v for v in gain.sort(descending=True).values if (gain > v).sum() >= 108)
    expected = (gain > level).double()
    assert int(((found.relevance[0] > 0.5).double() - expected).abs().sum()) <= 8
    assert float(found.score) == pytest.approx(float((gain * (1 - expected)).sum()), rel=0.02)


def slow_extremal(score, x, k, weights, area, *, lr, n_iter, growth):
    """One window at a time; sorting by hand, the slope of all parameters by autograd through the whole score."""
    masks, history, (length, count) = [], [], weights.shape
    held = [sum(float(weights[t, j]) for t in range(length)) for j in range(count)]
    for i in range(len(x)):
        p, steepest, path = torch.full((count,), float(area[i]), dtype=x.dtype), 0.0, []
        ones = round(float(area[i]) * length)

        def away(d, ones=ones):
            by_rank = sorted(range(length), key=lambda t: float(d[t]))
            return d - torch.tensor([float(t in set(by_rank[length - ones :])) for t in range(length)])

        for step in range(n_iter):
            weight = growth[0] * (growth[1] / growth[0]) ** (step / (n_iter - 1))
            d = (weights @ p).requires_grad_()
            value = score((x[i, 0] + d * (k[i, 0] - x[i, 0]))[None, None])[0]
            (g,) = torch.autograd.grad(value, d)
            steepest = max(steepest, float(g.abs().max()))
            d = d.detach()
            path.append(float(value) / steepest + weight / 2 * float((away(d) ** 2).sum()))
            p = torch.stack([p[j] - lr * (weights[:, j] * g).sum() / steepest / held[j] for j in range(count)])
            d = weights @ p
            part = lr * weight / (1 + lr * weight)
            p = torch.stack([p[j] - part * (weights[:, j] * away(d)).sum() / held[j] for j in range(count)]).clamp(0, 1)
        masks.append(1 - weights @ p)
        history.append(torch.tensor(path, dtype=x.dtype))
    return torch.stack(masks), torch.stack(history, 1)


@pytest.mark.parametrize("width", [0.0, 0.006])
def test_extremal_mask_written_out(width):
    x, score = noise(2, 1, 30, seed=6), curved(noise(30, seed=7))
    options = {"lr": 0.05, "n_iter": 40, "growth": (0.02, 20.0)}
    area = torch.tensor([0.2, 0.43])
    k = replacement(x, "linear")
    mask, history = slow_extremal(score, x, k, smoother(30, width=width), area, **options)
    found = extremal_mask(score, x, area=area, width=width, **options)
    torch.testing.assert_close(found.mask, mask, atol=1e-9, rtol=0)
    torch.testing.assert_close(found.history, history, atol=1e-9, rtol=1e-9)
    masked = found.mask[:, None] * x + (1 - found.mask[:, None]) * k
    torch.testing.assert_close(found.score, score(masked))
    torch.testing.assert_close(found.area, 1 - found.mask.mean(1))
    torch.testing.assert_close(found.tv, found.mask.diff().abs().sum(1))


def test_first_step_by_finite_differences():
    """With hardly any pull of the area: down the slope of the score over its steepest, averaged over what a p holds up."""
    x, score, k = noise(1, 1, 30, seed=8), curved(noise(30, seed=9)), 0.3
    weights, step = smoother(30, width=0.006), 1e-6

    def value(p):
        d = (weights @ p)[None, None]
        return float(score(x + d * (k - x)))

    p = torch.full((weights.shape[1],), 0.4, dtype=torch.float64)
    rise = torch.stack([torch.tensor((value(p + e) - value(p - e)) / (2 * step)) for e in step * torch.eye(len(p))])
    d = torch.full((30,), 0.4, dtype=torch.float64)
    by_sample = [
        float(score(x + (d + e) * (k - x)) - score(x + (d - e) * (k - x))) / 2e-6 for e in 1e-6 * torch.eye(30)
    ]
    expected = p - 0.05 * rise / max(abs(v) for v in by_sample) / weights.sum(0)
    found = extremal_mask(score, x, area=0.4, width=0.006, fill=k, lr=0.05, n_iter=1, growth=(1e-12, 1e-12))
    torch.testing.assert_close(found.relevance[0], weights @ expected, atol=1e-6, rtol=0)


@settings(deadline=None, max_examples=15)
@given(st.floats(1e-6, 1e6), st.floats(-100, 100))
def test_no_mask_depends_on_the_units_of_a_score(factor, offset):
    x, score = noise(2, 1, 40, seed=10), curved(noise(40, seed=11))
    one = extremal_mask(score, x, area=0.25, width=0.006, n_iter=60)
    other = extremal_mask(lambda m: factor * score(m) + offset, x, area=0.25, width=0.006, n_iter=60)
    torch.testing.assert_close(other.mask, one.mask, atol=1e-6, rtol=0)


def test_each_window_may_have_its_area(x):
    score = curved(torch.sin(torch.arange(720) / 9.0).double() / 20)
    signal, areas = x[:3].double(), torch.tensor([0.05, 0.1, 0.3])
    together = extremal_mask(score, signal, area=areas)
    torch.testing.assert_close(together.area, areas.double(), atol=0.02, rtol=0)
    found = extremal_masks(score, signal, areas.tolist())
    assert list(found) == areas.tolist()
    for i, result in enumerate(found.values()):
        torch.testing.assert_close(result.mask[i], together.mask[i], atol=1e-6, rtol=0)


def test_more_area_lowers_a_score_further(net, x):
    signal = x.double()
    found = extremal_masks(lstm_score(net, signal, TARGET, of="logit"), signal, (0.05, 0.1, 0.2), n_iter=200)
    scores = [result.score for result in found.values()]
    assert bool((scores[0] > scores[1]).all() and (scores[1] > scores[2]).all())


def test_extremal_mask_beats_every_block_of_its_area(net, x):
    """Of all stretches of a tenth of the window none, deleted alone, lowers the score as much."""
    score, k = lstm_score(net, x, TARGET, of="logit"), replacement(x, "linear")
    found = extremal_mask(score, x, area=0.1)
    for begin in range(0, 649, 12):
        block = x.clone()
        block[..., begin : begin + 72] = k[..., begin : begin + 72]
        assert bool((found.score < score(block)).all())


# A batch is its windows


@pytest.mark.parametrize("branch", ["lstm", "both"])
@pytest.mark.parametrize("name", BOTH)
def test_batch_is_one_at_a_time(net, x, name, branch):
    signal, n_iter = x.double(), 60 if branch == "lstm" else 12
    own = torch.tensor([0.05, 0.1, 0.15, 0.2, 0.3])

    def learn(index):
        score = lstm_score(net, signal[index], TARGET[index], branch=branch, of="logit")
        options = {"area": own[index]} if name == "extremal" else {}
        return quiet(BOTH[name], score, signal[index], n_iter=n_iter, **options)

    whole, shuffled, singles = learn(torch.arange(5)), learn(ORDER), [learn(torch.tensor([i])) for i in range(5)]
    for part in ("mask", "score", "area", "tv", "relevance"):
        value = getattr(whole, part)
        torch.testing.assert_close(getattr(shuffled, part), value[ORDER], atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(torch.cat([getattr(s, part) for s in singles]), value, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(torch.cat([s.history for s in singles], 1), whole.history, atol=1e-6, rtol=1e-6)
    assert float((whole.mask[2] - whole.mask[3]).abs().max()) > 0.01  # the windows' masks differ
    assert whole.mask.dtype == torch.float64


# The network is left as it was


def state_of(model):
    return (
        {k: v.clone() for k, v in model.state_dict().items()},
        {n: (m.training, getattr(m, "dropout", None)) for n, m in model.named_modules()},
        {n: (p.requires_grad, None if p.grad is None else p.grad.clone()) for n, p in model.named_parameters()},
    )


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("branch", ["lstm", "both"])
@pytest.mark.parametrize("name", BOTH)
def test_nothing_changes(net, x, name, branch, fails):
    """Weights, modes (one differs from its parent's), flags and gradients; also when the score fails."""
    net.train()
    net.blocks[1].eval()
    net.lstm.dropout = 0.4
    net.stem.requires_grad_(False)
    for p in net.head.parameters():
        p.grad = torch.ones_like(p)
    before, calls, signal = state_of(net), [], x.clone().requires_grad_()

    def count(*_):
        calls.append(1)
        if fails and len(calls) == 3:
            raise RuntimeError("on purpose")

    score = lstm_score(net, signal, TARGET, branch=branch)
    handle = net.head.register_forward_pre_hook(count)
    if fails:
        with pytest.raises(RuntimeError, match="on purpose"):
            BOTH[name](score, signal, n_iter=9)
    else:
        result = quiet(BOTH[name], score, signal, n_iter=3)
        assert not any(v.requires_grad for v in vars(result).values())
    handle.remove()
    after = state_of(net)
    assert [k for k in before[0] if not torch.equal(before[0][k], after[0][k])] == []
    assert before[1] == after[1]
    for parameter, (flag, grad) in before[2].items():
        assert after[2][parameter][0] == flag
        assert after[2][parameter][1] is grad or torch.equal(after[2][parameter][1], grad)
    assert signal.grad is None


@pytest.mark.parametrize("name", BOTH)
def test_under_no_grad(net, x, name):
    score = lstm_score(net, x, TARGET, of="logit")
    expected = quiet(BOTH[name], score, x, n_iter=5)
    with torch.no_grad():
        found = quiet(BOTH[name], score, x, n_iter=5)
        assert not torch.is_grad_enabled()
    assert torch.equal(found.mask, expected.mask)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", BOTH)
def test_on_a_gpu(net, x, name):
    signal = x.double()
    expected = BOTH[name](lstm_score(net, signal, TARGET, of="logit"), signal, n_iter=30, fill="blurred")
    score = lstm_score(net.cuda(), signal.cuda(), TARGET.cuda(), of="logit")
    found = BOTH[name](score, signal.cuda(), n_iter=30, fill="blurred")
    assert found.mask.is_cuda
    torch.testing.assert_close(found.mask.cpu(), expected.mask, atol=1e-6, rtol=0)


def test_recurrent_networks_of_ones_own():
    """Any differentiable score will do: a GRU behind a batch norm, both in eval mode."""
    gru, norm = nn.GRU(1, 4, batch_first=True).double().eval(), nn.BatchNorm1d(4).double().eval()
    found = extremal_mask(lambda m: norm(gru(m.mT)[0][:, -1]).sum(1), noise(3, 1, 40), area=0.5, n_iter=20)
    assert bool((found.relevance.amax(1) > 0.5).all())


# Warnings and errors


def test_collapse_is_reported():
    x = torch.ones(2, 1, 72)
    with pytest.warns(UserWarning, match="2 of 2 masks collapsed to 1: nothing is deleted") as caught:
        smooth_mask(linear(0.0), x)
    assert [c.filename for c in caught] == [__file__]
    with pytest.warns(UserWarning, match="2 of 2 masks collapsed to 0: everything is deleted"):
        smooth_mask(linear(1.0), x, fill=0.0)
    with pytest.warns(UserWarning, match="1 of 2 masks collapsed to 1: nothing is deleted") as caught:
        extremal_mask(linear(1.0), x, area=torch.tensor([0.0, 0.5]), fill=0.0, growth=(0.01, 1000.0))
    assert [c.filename for c in caught] == [__file__]
    with pytest.warns(
        UserWarning, match="the score of 1 of 2 windows has no slope: their masks are arbitrary"
    ) as caught:
        extremal_mask(linear(torch.tensor([[0.0], [1.0]])), x, fill=0.0)
    assert [c.filename for c in caught] == [__file__]


def test_no_warning_without_collapse(net, x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score = lstm_score(net, x, TARGET, of="logit")
        smooth_mask(score, x, n_iter=40)
        extremal_mask(score, x, n_iter=40)


@pytest.mark.parametrize("name", BOTH)
def test_what_is_received_is_checked(name):
    learn, x = BOTH[name], torch.ones(2, 1, 72)
    for shape in ((72,), (2, 72), (2, 2, 72)):
        with pytest.raises(DataError, match=r"expected windows of shape \(N, 1, T\), received \("):
            learn(linear(1.0), torch.zeros(shape))
    with pytest.raises(DataError, match=r"one value a window, shape \(2,\); received \("):
        learn(lambda m: m.sum(), x)
    for options in ({"n_iter": 0}, {"lr": 0.0}):
        with pytest.raises(DataError, match="at least one step and a positive rate"):
            learn(linear(1.0), x, **options)
    with pytest.raises(DataError, match=r"width is -0.01 s and length 72"):
        learn(linear(1.0), x, width=-0.01)
    with pytest.raises(UnknownNameError, match="unknown fill 'blur'; did you mean 'blurred'"):
        learn(linear(1.0), x, fill="blur")


@pytest.mark.parametrize("area", [-0.1, 1.1, math.nan, torch.tensor([0.1, 0.2, 0.3])])
def test_areas(area):
    with pytest.raises(DataError, match="expected areas from 0 to 1, one or one for each of 2 windows"):
        extremal_mask(linear(1.0), torch.ones(2, 1, 72), area=area)


@pytest.mark.parametrize("growth", [(0.0, 1.0), (2.0, 1.0)])
def test_growth(growth):
    with pytest.raises(DataError, match="two weights above 0 that do not fall"):
        extremal_mask(linear(1.0), torch.ones(2, 1, 72), growth=growth)


def test_progress_bar_only_on_request(capsys):
    for learn in BOTH.values():
        quiet(learn, linear(1.0), torch.ones(1, 1, 72), n_iter=2)
        assert capsys.readouterr() == ("", "")
        quiet(learn, linear(1.0), torch.ones(1, 1, 72), n_iter=2, progress=True)
        assert "learning masks" in capsys.readouterr().err


# Real windows


@pytest.mark.data
def test_real_windows_have_their_area_and_lose_more_than_by_any_block(mitdb):
    """The committed network that never saw the patients, the LSTM's part, two windows of each class."""
    windows = cut_database("mitdb", rule="clean", root=mitdb, per_record=4).subsample(2, seed=0)
    source = Source("mitdb", mitdb, tuple(record_names("mitdb", mitdb)))
    net, index = next(iter(networks.by_network(source, windows)))
    x, y = torch.from_numpy(windows.x[index]), torch.from_numpy(windows.y[index])
    score, k = lstm_score(net, x, y, of="logit"), replacement(x, "linear")
    found = extremal_mask(score, x, area=0.1)
    assert np.abs(found.area.numpy() - 0.1).max() < 0.03
    blocks = []
    for begin in range(0, 649, 24):
        block = x.clone()
        block[..., begin : begin + 72] = k[..., begin : begin + 72]
        blocks.append(score(block))
    won = found.score < torch.stack(blocks).amin(0)
    assert float(won.double().mean()) > 0.7
