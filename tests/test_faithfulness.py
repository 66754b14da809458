"""Curves and measures of faithfulness against closed forms, slow loops, Captum, and themselves one window at a time."""

from __future__ import annotations

import captum.metrics
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve
from torch import nn

from ecglib import models
from ecglib.errors import DataError, EcglibError
from ecglib.faithfulness import (
    aopc,
    class_score,
    degradation_score,
    deletion_curve,
    faithfulness_correlation,
    infidelity,
    insertion_curve,
    pixel_flipping,
    sensitivity,
    sensitivity_n,
    sparseness,
)
from ecglib.fills import FILLS, remove
from ecglib.masks import lstm_score
from ecglib.road import road

N, T = 5, 40
DOUBLE = {"dtype": torch.float64}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def x():
    return torch.randn(N, 1, T, generator=torch.Generator().manual_seed(0), **DOUBLE).cumsum(-1)


@pytest.fixture(scope="module")
def relevance():
    """Many ties, of both signs."""
    return torch.randint(-2, 4, (N, T), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def weight():
    return torch.randn(T, generator=torch.Generator().manual_seed(2), **DOUBLE)


def linear(weight):
    """Score w . x."""
    return lambda x: x[:, 0] @ weight.to(x)


def curved(x):
    """A score that no fill and no order leaves alone."""
    return torch.tanh(x[:, 0].diff(dim=1).square().sum(1) / 10) + x[:, 0, ::3].sin().mean(1)


@pytest.fixture
def net():
    """A small network with batch normalisation and dropout, part of it in training mode."""
    model = models.build("murugesan-gap", width=4, seed=1).train()
    model.lstm.eval()
    return model


@pytest.fixture(scope="module")
def windows():
    return torch.randn(4, 1, 720, generator=torch.Generator().manual_seed(3)).cumsum(-1) / 20


# Curves by hand -------------------------------------------------------------------------------------------------


def test_deletion_by_hand():
    """x = 1, 2, 3, 4 and their sum, to zero: 10, 6, 3, 1, 0, and (5 + 6 + 3 + 1) / 4 below."""
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    found = deletion_curve(linear(torch.ones(4)), x, x[:, 0], steps=4, fill=0.0)
    assert found.fraction.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.score.tolist() == [[10, 6, 3, 1, 0]]
    assert found.auc.tolist() == [3.75]
    assert aopc(found).tolist() == [(0 + 4 + 7 + 9 + 10) / 5]
    back = insertion_curve(linear(torch.ones(4)), x, x[:, 0], steps=4, fill=0.0)
    assert back.fraction.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert back.score.tolist() == [[0, 4, 7, 9, 10]]
    assert back.auc.tolist() == [6.25]
    assert degradation_score(found, back).tolist() == [2.5]


def test_uneven_steps_by_hand():
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0, 5.0]]])
    found = deletion_curve(linear(torch.ones(5)), x, -x[:, 0], steps=2, fill=0.0)
    assert found.fraction.tolist() == pytest.approx([0, 0.6, 1])
    assert found.score.tolist() == [[15, 9, 0]]
    assert found.auc.item() == pytest.approx(0.6 * 12 + 0.4 * 4.5)
    back = insertion_curve(linear(torch.ones(5)), x, x[:, 0], steps=2, fill=0.0)  # the same, from its end
    assert back.fraction.tolist() == pytest.approx([0, 0.4, 1])
    assert back.score.tolist() == [[0, 9, 15]]


def test_a_bridge_hides_one_sample_of_a_line():
    x = torch.arange(9.0).reshape(1, 1, 9)
    found = deletion_curve(linear(torch.ones(9)), x, torch.eye(9)[4:5], steps=9)
    assert found.score[0, :2].tolist() == [36, 36]
    assert found.score[0, -1] == 36  # the line between its ends
    x[0, 0, 4] = 13
    assert deletion_curve(linear(torch.ones(9)), x, torch.eye(9)[4:5], steps=9).score[0, :2].tolist() == [45, 36]


def test_closed_form_of_a_linear_score():
    """Contributions c_t removed from the largest: AUC = sum of c sorted up, times (2 rank - 1) / 2T."""
    c = torch.randn(3, 50, generator=torch.Generator().manual_seed(4), **DOUBLE)
    found = deletion_curve(linear(torch.ones(50)), c[:, None], c, steps=50, fill="zero")
    rising = c.sort(1, descending=True).values
    expected = (rising * (2 * torch.arange(1, 51) - 1) / 100).sum(1)
    torch.testing.assert_close(found.auc, expected)
    torch.testing.assert_close(found.score[:, :1] - found.score[:, 1:], rising.cumsum(1))


def slow(score, x, relevance, steps, fill, *, insert, seed=0):
    """One window, one step, one sample at a time; ties in the order of one permutation."""
    shuffled = torch.randperm(x.shape[-1], generator=torch.Generator().manual_seed(seed)).tolist()
    rows = []
    for i in range(len(x)):
        sign = 1 if insert else -1
        queue = sorted(range(x.shape[-1]), key=lambda t: (sign * float(relevance[i, t]), shuffled.index(t)))
        row = []
        for k in range(steps + 1):
            gone = torch.zeros(1, x.shape[-1], dtype=torch.bool)
            gone[0, queue[: int(k * x.shape[-1] / steps + 0.5)]] = True
            row.append(score(remove(x[i : i + 1], gone, fill, seed=seed)).item())
        rows.append(row[::-1] if insert else row)
    return torch.tensor(rows, **DOUBLE)


@pytest.mark.parametrize("fill", [*FILLS, 0.4])
@pytest.mark.parametrize("steps", [1, 7, 24, T])
def test_curves_are_those_of_a_slow_loop(x, relevance, fill, steps):
    for insert, run in ((False, deletion_curve), (True, insertion_curve)):
        found = run(curved, x, relevance, steps=steps, fill=fill)
        expected = slow(curved, x, relevance, steps, fill, insert=insert)
        torch.testing.assert_close(found.score, expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(found.auc, torch.trapezoid(expected, found.fraction, dim=1))


def test_pixel_flipping_is_deletion(x, relevance):
    found = pixel_flipping(curved, x, relevance)
    assert torch.equal(found.score, deletion_curve(curved, x, relevance, steps=T, fill=0.0).score)
    assert found.score.shape == (N, T + 1)


# Order and ties -------------------------------------------------------------------------------------------------


def test_a_constant_relevance_is_one_random_order(x):
    """That of the seed, the same alone and in a batch; its curves have one area, so it degrades nothing."""
    shuffled = torch.randperm(T, generator=torch.Generator().manual_seed(6))
    explicit = torch.empty(T, dtype=torch.long).scatter_(0, shuffled, torch.arange(T, 0, -1)).expand(N, T)
    for constant in (torch.zeros(N, T), torch.full((N, T), -3.5), torch.ones(N, T, dtype=torch.bool)):
        found = deletion_curve(curved, x, constant, seed=6)
        assert torch.equal(found.score, deletion_curve(curved, x, explicit).score)
        back = insertion_curve(curved, x, constant, seed=6)
        assert degradation_score(found, back).abs().max() < 1e-12
    assert not torch.equal(found.score, deletion_curve(curved, x, constant, seed=7).score)


def test_ties_are_fair():
    """Over seeds, a constant relevance removes every sample equally often: its mean curve is the straight line."""
    x = torch.arange(1.0, 11).reshape(1, 1, 10)
    curves = [
        deletion_curve(linear(torch.ones(10)), x, torch.ones(1, 10), steps=10, fill=0.0, seed=s) for s in range(800)
    ]
    mean = torch.stack([c.score[0] for c in curves]).mean(0)
    np.testing.assert_allclose(mean, 55 * (1 - np.arange(11) / 10), atol=1.2)


@given(st.integers(0, 10_000), st.integers(2, 30))
@settings(max_examples=50, deadline=None)
def test_properties_of_curves(seed, length):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 1, length, generator=g, **DOUBLE)
    r = torch.randint(-3, 4, (2, length), generator=g).to(torch.float64)
    steps = int(torch.randint(1, length + 1, (), generator=g))
    options = {"steps": steps, "fill": "zero"}
    found = deletion_curve(curved, x, r, **options)
    # only the order counts
    assert torch.equal(found.score, deletion_curve(curved, x, r**3 * 1e-3 + r, **options).score)
    # the least relevant first is the insertion read from its end
    back, lerf = insertion_curve(curved, x, r, **options), deletion_curve(curved, x, -r, **options)
    assert torch.equal(back.score.flip(1), lerf.score)
    torch.testing.assert_close(back.fraction.flip(0), 1 - lerf.fraction)
    torch.testing.assert_close(back.auc, torch.trapezoid(back.score, back.fraction, dim=1))
    # whole and empty
    torch.testing.assert_close(found.score[:, 0], curved(x))
    torch.testing.assert_close(found.score[:, -1], curved(torch.zeros_like(x)))
    assert (found.auc <= found.score.amax(1) + 1e-12).all()
    assert (found.auc >= found.score.amin(1) - 1e-12).all()
    # of a linear score no order removes more at any step than that of the contributions, whose curve is convex
    w = torch.randn(length, generator=g, **DOUBLE)
    best = deletion_curve(linear(w), x, x[:, 0] * w, **options)
    assert (best.score <= deletion_curve(linear(w), x, r, **options).score + 1e-9).all()
    assert degradation_score(best, insertion_curve(linear(w), x, x[:, 0] * w, **options)).min() >= -1e-9
    if length % steps == 0:
        assert (best.score.diff(n=2, dim=1) >= -1e-9).all() if steps > 1 else True
    # removing what is positive lowers a sum at every step
    assert (deletion_curve(linear(torch.ones(length)), x.abs(), r, **options).score.diff(dim=1) <= 1e-12).all()


# Networks -------------------------------------------------------------------------------------------------------


def measures(score, x, r, at=slice(None)):
    """Every measure of the score, in one dictionary."""
    return {
        "deletion": deletion_curve(score, x[at], r[at], steps=6).score,
        "insertion": insertion_curve(score, x[at], r[at], steps=6, fill="blurred").score,
        "road": road(score, x[at], r[at], steps=6).score,
        "infidelity": infidelity(score, x[at], r[at], draws=5),
        "square": infidelity(score, x[at], r[at], draws=5, perturbation="square", rescale=True),
        "sensitivity_n": sensitivity_n(score, x[at], r[at], shares=(0.1, 0.5), sets=6),
    }


@pytest.mark.parametrize("of", ["probability", "logit", "hit"])
def test_a_batch_is_one_at_a_time(net, windows, of):
    """In double precision; and however many windows the score gets at a time."""
    x, r = windows.double(), torch.rand(4, 720, generator=torch.Generator().manual_seed(4)).round(decimals=1)
    target = torch.tensor([0, 7, 3, 3])
    together = measures(class_score(net, x, target, of=of), x, r)
    for i in range(4):
        alone = measures(class_score(net, x[i : i + 1], target[i : i + 1], of=of), x, r, slice(i, i + 1))
        for name, values in alone.items():
            torch.testing.assert_close(
                values, together[name][i : i + 1], rtol=1e-6, atol=1e-10, equal_nan=True, msg=name
            )
    for batch in (1, 3, 1000):
        found = deletion_curve(class_score(net, x, target, of=of), x, r, steps=6, batch=batch)
        torch.testing.assert_close(found.score, together["deletion"], rtol=0, atol=1e-12)


def test_the_network_is_left_as_it_was(net, windows):
    modes, state = [m.training for m in net.modules()], {k: v.clone() for k, v in net.state_dict().items()}
    grads = [p.requires_grad for p in net.parameters()]
    x = windows.clone().requires_grad_()
    score = class_score(net, x, 2)
    found = deletion_curve(score, x, torch.rand(4, 720), steps=3)
    assert not found.score.requires_grad
    assert [m.training for m in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()] == grads
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())  # running means of batches included
    with torch.no_grad():
        expected = net.eval()(windows).softmax(1)[:, 2]
    torch.testing.assert_close(found.score[:, 0], expected)
    assert found.score.dtype == torch.float32


def test_a_module_as_score_is_put_in_eval_mode(x):
    class Sum(nn.Module):
        def forward(self, x):
            assert not self.training
            assert not torch.is_grad_enabled()
            return x.sum((1, 2))

    score = Sum().train()
    assert deletion_curve(score, x, x[:, 0], steps=2).score[0, 0] == pytest.approx(float(x[0].sum()))
    assert score.training


def test_the_score_of_a_mask_is_called_with_all_windows(windows):
    """It holds the CNN's part of each window; by and by the same as windows one at a time."""
    net, r = models.build("murugesan-gap", width=4, seed=1), torch.rand(4, 720)
    target = torch.tensor([0, 7, 3, 3])
    together = deletion_curve(lstm_score(net, windows, target), windows, r, steps=5, batch=3)
    for i in range(4):
        one = slice(i, i + 1)
        alone = deletion_curve(lstm_score(net, windows[one], target[one]), windows[one], r[one], steps=5)
        torch.testing.assert_close(alone.score, together.score[one], rtol=0, atol=1e-6)


def test_hits_are_no_gradients(net, windows):
    """A score without slope: its mean over windows is an accuracy."""
    with torch.no_grad():
        guess = net.eval()(windows).argmax(1)
    found = road(class_score(net, windows, guess, of="hit"), windows, windows[:, 0].abs(), steps=4)
    assert set(found.score.flatten().tolist()) <= {0.0, 1.0}
    assert found.score[:, 0].tolist() == [1, 1, 1, 1]


# ROAD -----------------------------------------------------------------------------------------------------------


def solved(signal, gone):
    """ROAD's sparse system in one dimension, as its authors set it up for images."""
    where = np.flatnonzero(gone)
    a, b = lil_matrix((len(where), len(where))), np.zeros(len(where))
    for row, t in enumerate(where):
        near = [s for s in (t - 1, t + 1) if 0 <= s < len(signal)]
        a[row, row] = -len(near) / 2
        for s in near:
            if gone[s]:
                a[row, list(where).index(s)] = 0.5
            else:
                b[row] -= 0.5 * signal[s]
    out = signal.copy()
    out[where] = np.atleast_1d(spsolve(a.tocsc(), b))
    return out


@pytest.mark.parametrize("first", ["most", "least"])
def test_road_is_its_sparse_system(x, relevance, first):
    seen = []
    road(lambda v: seen.append(v) or v.sum((1, 2)), x, relevance, steps=8, first=first, noise=0.0)
    for k in range(8):
        for i in range(N):
            gone = np.zeros(T, bool)
            queue = sorted(range(T), key=lambda t: ((-1 if first == "most" else 1) * int(relevance[i, t]), place(t)))
            gone[queue[: 5 * k]] = True
            np.testing.assert_allclose(seen[k][i, 0].numpy(), solved(x[i, 0].numpy(), gone), atol=1e-9)


def place(t, seed=0):
    return torch.randperm(T, generator=torch.Generator().manual_seed(seed)).tolist().index(t)


def test_noise_of_road_lies_on_removed_samples_alone(x):
    seen = []
    for noise in (0.0, 0.01):
        road(lambda v: seen.append(v) or v.sum((1, 2)), x, x[:, 0], steps=4, noise=noise)
    for k in range(5):
        difference = (seen[5 + k] - seen[k])[:, 0]
        changed = difference.abs() > 0
        assert changed.sum(1).tolist() == [10 * k] * N
        if k == 4:
            assert float(difference.std()) == pytest.approx(0.01, rel=0.3)
        drawn = difference.sum(0) / changed.sum(0).clamp(min=1)
        torch.testing.assert_close(difference, changed * drawn, rtol=0, atol=1e-12)  # one draw for all windows


# Random changes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"perturbation": "square", "width": 5, "fs": 1},
        {"perturbation": "square", "width": 4, "fs": 1, "fill": "linear"},
    ],
)
def test_infidelity_of_the_gradient_of_a_linear_score_is_0(x, weight, options):
    exact = weight.expand(N, T)
    assert infidelity(linear(weight), x, exact, **options).max() < 1e-20
    assert infidelity(linear(weight), x, -2.5 * exact, rescale=True, **options).max() < 1e-20
    off = infidelity(linear(weight), x, exact + 1, **options)
    assert off.min() > 1e-4
    assert (infidelity(linear(weight), x, exact + 1, rescale=True, **options) <= off + 1e-12).all()


def test_infidelity_by_hand():
    """x = 1, 2; f = x1 + 3 x2; I = (1, 0), (0, 2), (1, 2); Phi = (1, 1): 0, (2 - 6)^2 and (3 - 7)^2."""
    x, f = torch.tensor([[[1.0, 2.0]]]), linear(torch.tensor([1.0, 3.0]))
    changes = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 2.0]])
    for perturbation in (changes, changes > 0):  # removed to zero, each sample loses itself
        assert infidelity(f, x, torch.ones(1, 2), perturbation=perturbation).item() == pytest.approx(32 / 3)
    beta = (1 * 1 + 2 * 6 + 3 * 7) / (1 + 4 + 9)
    expected = ((beta - 1) ** 2 + (2 * beta - 6) ** 2 + (3 * beta - 7) ** 2) / 3
    assert infidelity(f, x, torch.ones(1, 2), perturbation=changes, rescale=True).item() == pytest.approx(expected)
    assert infidelity(f, x, torch.zeros(1, 2), perturbation=changes, rescale=True).item() == pytest.approx(86 / 3)


@pytest.mark.parametrize("rescale", [False, True])
def test_infidelity_is_captums(x, relevance, rescale):
    changes = torch.randn(30, T, generator=torch.Generator().manual_seed(5), **DOUBLE) / 4
    found = infidelity(curved, x, relevance, perturbation=changes, rescale=rescale)
    r = relevance.double()[:, None]

    def perturb(inputs):
        change = changes.repeat(N, 1)[:, None]
        return change, inputs - change

    expected = captum.metrics.infidelity(curved, perturb, x, r, n_perturb_samples=30, normalize=rescale)
    torch.testing.assert_close(found, expected)


def test_squares_lie_anywhere_and_have_their_width():
    x = torch.ones(1, 1, 30)
    seen = []
    infidelity(lambda v: seen.append(v) or v.sum((1, 2)), x, x[:, 0], perturbation="square", width=7, fs=1, draws=500)
    lost = 1 - torch.cat(seen[1:])[:, 0]
    assert set(lost.sum(1).tolist()) == {7.0}
    assert (lost.diff(dim=1).abs().sum(1) <= 2).all()
    assert lost[:, 0].sum() > 5
    assert lost[:, -1].sum() > 5


def test_sensitivity_by_hand(x, weight):
    """A constant explanation does not move; x itself moves as far as the change."""
    still = sensitivity(lambda v: weight.expand(len(v), T), x, radius=0.3)
    assert still.max.tolist() == still.mean.tolist() == [0] * N
    assert sensitivity(lambda v: torch.zeros(len(v), T), x).max.tolist() == [0] * N
    g = torch.Generator().manual_seed(2)
    moved = 0.3 * (2 * torch.rand(8, T, generator=g, **DOUBLE) - 1)
    expected = moved.norm(dim=1) / x[:, 0].norm(dim=1)[:, None]
    found = sensitivity(lambda v: v[:, 0], x, radius=0.3, draws=8, seed=2)
    torch.testing.assert_close(found.max, expected.max(1).values)
    torch.testing.assert_close(found.mean, expected.mean(1))
    assert moved.abs().max() <= 0.3


def test_sensitivity_is_captums(x):
    def explain(v):
        return v[:, 0].sin() ** 2

    noise = 0.1 * (2 * torch.rand(12, T, generator=torch.Generator().manual_seed(0), **DOUBLE) - 1)
    expected = captum.metrics.sensitivity_max(
        lambda v: (explain(v[0] if isinstance(v, tuple) else v),),
        x,
        perturb_func=lambda v: v + noise.repeat(N, 1)[:, None],
        n_perturb_samples=12,
    )
    torch.testing.assert_close(sensitivity(explain, x, radius=0.1, draws=12).max, expected)


def test_an_explanation_may_need_gradients(net, windows):
    def explain(v):
        v = v.detach().requires_grad_()
        return torch.autograd.grad(net.eval()(v)[:, 3].sum(), v)[0][:, 0]

    assert sensitivity(explain, windows, draws=2).mean.min() > 0


@pytest.mark.parametrize("fill", ["zero", "linear"])
def test_sensitivity_n_is_scipys_correlation(x, relevance, fill):
    found = sensitivity_n(curved, x, relevance, shares=(0.01, 0.3, 0.8), sets=20, fill=fill, seed=1)
    places = torch.rand(3, 20, T, generator=torch.Generator().manual_seed(1)).argsort(-1).argsort(-1)
    for s, size in enumerate((1, 12, 32)):
        gone = places[s] < size
        assert gone.sum(1).tolist() == [size] * 20
        for i in range(N):
            drop = curved(x[i : i + 1]) - curved(remove(x[i : i + 1].expand(20, 1, T), gone, fill))
            expected = stats.pearsonr(gone.double() @ relevance[i].double(), drop)[0]
            assert found[i, s].item() == pytest.approx(expected, abs=1e-9)
    one = faithfulness_correlation(curved, x, relevance, share=0.3, sets=20, fill=fill, seed=1)
    assert one.shape == (N,)


def test_sensitivity_n_of_contributions_is_1(x, weight):
    shares = (0.1, 0.5, 0.9)
    found = sensitivity_n(linear(weight), x, x[:, 0] * weight, shares=shares, sets=10)
    np.testing.assert_allclose(found, np.ones((N, 3)), atol=1e-9)
    np.testing.assert_allclose(sensitivity_n(linear(weight), x, -x[:, 0] * weight, shares=shares, sets=10), -found)


def test_what_does_not_vary_has_no_correlation(x, weight):
    for dtype in (torch.float32, torch.float64):
        v = x.to(dtype)
        assert sensitivity_n(linear(weight), v, torch.full((N, T), 0.1)).isnan().all()
        flat = lambda v: 0.3 + 1e-9 * v[:, 0].sin().sum(1)  # noqa: E731
        assert sensitivity_n(flat, v.float(), v[:, 0]).isnan().all()


def test_methods_share_the_network(x, relevance):
    """(methods, N, T) at once is each method by itself, for the calls of one."""
    three = torch.stack([relevance.double(), x[:, 0], -x[:, 0]])
    calls = []

    def counted(v):
        calls.append(len(v))
        return curved(v)

    for run in (
        lambda r: infidelity(counted, x, r, draws=7),
        lambda r: sensitivity_n(counted, x, r, shares=(0.2,), sets=7),
        lambda r: faithfulness_correlation(counted, x, r, sets=7),
    ):
        calls.clear()
        together = run(three)
        assert sum(calls) == 8 * N
        torch.testing.assert_close(together, torch.stack([run(r) for r in three]))


def test_sparseness_by_hand():
    rows = torch.tensor([[0.0, 0, 0, -8], [2, -2, 2, 2], [1, 2, 3, 4], [0, 0, 0, 0]], **DOUBLE)
    np.testing.assert_allclose(sparseness(rows), [0.75, 0, 0.25, np.nan])


# Refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"relevance": torch.full((N, T), torch.nan)}, ("NaN", "every sample")),
        ({"relevance": torch.zeros(N, T - 1)}, (f"({N}, {T})", f"({N}, {T - 1})")),
        ({"relevance": torch.zeros(N, 1, T)}, (f"({N}, {T})", f"({N}, 1, {T})")),
        ({"relevance": torch.zeros(T)}, (f"({T},)",)),
        ({"x": torch.zeros(N, T)}, ("(N, 1, T)", f"({N}, {T})")),
        ({"x": torch.full((N, 1, T), torch.nan)}, ("not finite",)),
        ({"steps": 0}, ("steps is 0", f"1 to {T}")),
        ({"steps": T + 1}, (f"steps is {T + 1}", f"1 to {T}")),
        ({"fill": "liner"}, ("unknown fill 'liner'", "'linear'")),
        ({"score": lambda x: x.sum()}, ("one value a window", "()")),
        ({"score": lambda x: x[:, 0, 0] / 0 * 0}, ("NaN", f"{N} of {N}")),
    ],
)
def test_curves_refuse(one_line, change, parts):
    given_ = {"score": curved, "x": torch.ones(N, 1, T), "relevance": torch.zeros(N, T), **change}
    for run in (deletion_curve, insertion_curve, pixel_flipping):
        with pytest.raises(EcglibError) as caught:
            run(**given_)
        one_line(caught, *parts)


def test_other_measures_refuse(one_line, x, relevance):
    for run, parts in (
        (lambda: infidelity(curved, x, relevance, perturbation="gauss"), ("'gauss'", "gaussian")),
        (lambda: infidelity(curved, x, relevance, perturbation=torch.ones(3, T + 1)), (f"(3, {T + 1})",)),
        (lambda: infidelity(curved, x, relevance, draws=0), ("draws is 0",)),
        (lambda: infidelity(curved, x, relevance, perturbation="square", width=9.0), ("width 3240",)),
        (lambda: sensitivity(lambda v: v[:, 0, :3], x), (f"({N}, 3)",)),
        (lambda: sensitivity(lambda v: v[:, 0] * torch.nan, x), ("NaN",)),
        (lambda: sensitivity(lambda v: v[:, 0], x, draws=0), ("draws is 0",)),
        (lambda: sensitivity_n(curved, x, relevance, sets=1), ("sets is 1",)),
        (lambda: sensitivity_n(curved, x, relevance, shares=(0.0,)), ("shares are (0.0,)",)),
        (lambda: road(curved, x, relevance, first="last"), ("'last'", "least")),
        (lambda: class_score(models.build("murugesan-gap", width=4), torch.ones(2, 1, 720), 9), ("0…7", "9")),
        (lambda: degradation_score(pixel_flipping(curved, x, relevance), insertion_curve(curved, x, relevance)), ("25",)),
    ):  # fmt: skip
        with pytest.raises(EcglibError) as caught:
            run()
        one_line(caught, *parts)


def test_no_windows():
    x, r = torch.zeros(0, 1, T), torch.zeros(0, T)
    assert deletion_curve(curved, x, r).score.shape == (0, 25)
    assert road(curved, x, r).auc.shape == (0,)
    assert sensitivity_n(curved, x, r).shape == (0, 8)
    assert infidelity(curved, x, torch.zeros(3, 0, T)).shape == (3, 0)
    with pytest.raises(DataError):
        deletion_curve(curved, x, torch.zeros(1, T))


# Records --------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_the_r_peak_counts_more_than_chance_on_mitdb(mitdb):
    """Windows of a record whose network never saw its patient: removing amplitude first lowers the probability."""
    from ecglib import networks, source
    from ecglib.attribution import attribute
    from ecglib.windows import cut_database

    found = source.find("mitdb")
    if found is None:
        pytest.skip("no records of mitdb")
    windows = cut_database("mitdb", rule="clean", root=mitdb, records=["208"]).subsample(6, seed=0)
    net, _ = networks.network(found, record="208")
    x, y = torch.from_numpy(windows.x), torch.from_numpy(windows.y)
    score = class_score(net, x, y)
    amplitude, uniform = (deletion_curve(score, x, attribute(m, net, x, y), steps=6) for m in ("amplitude", "uniform"))
    assert amplitude.auc.mean() < uniform.auc.mean()
    assert 0 <= float(amplitude.score.min()) <= float(amplitude.score.max()) <= 1
