"""Masks follow their objective, each window for itself, and leave the network as it was."""

import warnings

import pytest
import torch
from torch import nn

from ecglib import frozen_lstm, models
from ecglib.errors import DataError, UnknownNameError
from ecglib.masks import RECIPES, MaskResult, blurred, differentiable_rnn, learn_mask, lstm_score

SETTLED = dict(RECIPES["settled"])
N = 5


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def net(outspoken):
    return outspoken


@pytest.fixture(scope="module")
def x():
    return torch.randn(N, 1, 720, generator=torch.Generator().manual_seed(3)).cumsum(-1) / 20


TARGET = torch.tensor([0, 7, 3, 3, 5])


def quiet(*arguments, **options):
    """A mask that may collapse without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return learn_mask(*arguments, **options)


def linear(weight):
    """Score sum_t w_t x_t of the masked signal."""
    return lambda masked: (masked[:, 0] * weight).sum(-1)


# A batch is its windows


@pytest.mark.parametrize(
    "options",
    [
        {"n_iter": 100},
        {**SETTLED, "n_iter": 60},
        {"init": "random", "n_iter": 60, "lr": 0.02, "clamp": True, "seed": 4},
        {"optimizer": "sgd", "lr": 0.02, "n_iter": 60, "area": "mean", "fill": "blurred"},
    ],
    ids=["deck", "settled", "random", "sgd"],
)
@pytest.mark.parametrize("branch", ["lstm", "both"])
def test_batch_is_one_at_a_time(net, x, options, branch):
    """In double precision, whatever the recipe, with a score as steep as the area."""
    signal = x.double()
    if branch == "both":
        options = {**options, "n_iter": 20}

    def learn(index):
        return quiet(lstm_score(net, signal[index], TARGET[index], branch=branch, of="logit"), signal[index], **options)

    compare(learn, 1e-6)


def test_decks_batch_is_one_at_a_time(x):
    """In single precision, all 500 steps, the LSTM masked."""
    model = models.build("murugesan-gap", width=4, seed=1)
    compare(lambda index: learn_mask(lstm_score(model, x[index], TARGET[index]), x[index]), 1e-5, differ=1e-7)


def test_decks_batch_is_one_at_a_time_on_a_steep_score(x):
    def learn(index):
        weight = torch.sin(torch.arange(720) / (3.0 + TARGET[index])[:, None])
        return quiet(lambda m: torch.tanh((m[:, 0] * weight).sum(-1) / 20) * 40, x[index])

    compare(learn, 1e-5)


@pytest.mark.parametrize("width", [1, 3])
def test_decks_masks_are_those_of_a_plain_loop(x, width):
    """`torch.nn.LSTM`, autograd and `torch.optim.Adam`, one window at a time: all 500 steps, in single precision."""
    model = models.build("murugesan-gap", width=4, seed=1).requires_grad_(False)
    with torch.no_grad():
        model.lstm.weight_ih_l0.mul_(width)  # 3: as steep as a trained one
        pooled = model.feature_map(x).mean(-1)
    found = learn_mask(lstm_score(model, x[:2], TARGET[:2]), x[:2])
    for i in range(2):
        mask = torch.zeros(1, 720, requires_grad=True)
        adam = torch.optim.Adam([mask], lr=0.001)
        for _ in range(500):
            features = model.lstm((mask * x[i]).reshape(1, 12, 60))[0][:, -1]
            score = model.head(torch.cat([pooled[i : i + 1], features], 1)).softmax(1)[0, TARGET[i]]
            (1 * (1 - mask).abs().sum() + 0.001 * mask.diff().abs().sum() + score).backward()
            adam.step()
            adam.zero_grad()
        torch.testing.assert_close(found.mask[i : i + 1], mask.detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"n_iter": 100},
        {**SETTLED, "n_iter": 60},
        {"optimizer": "sgd", "lr": 0.02, "n_iter": 60, "init": "random", "area": "mean", "fill": "mean"},
    ],
    ids=["deck", "settled", "sgd"],
)
def test_a_compiler_changes_nothing(net, x, options, monkeypatch):
    signal = x.double()
    with_it = quiet(lstm_score(net, signal, TARGET, of="logit"), signal, **options)
    monkeypatch.setattr(frozen_lstm, "library", lambda: None)
    without = quiet(lstm_score(net, signal, TARGET, of="logit"), signal, **options)
    for name, value in vars(without).items():
        torch.testing.assert_close(getattr(with_it, name), value, atol=1e-9, rtol=1e-9)


def compare(learn, tolerance, differ=0.01):
    """Learn all windows in a batch, in a shuffled one and alone."""
    whole = learn(torch.arange(N))
    order = torch.tensor([3, 0, 4, 2, 1])
    shuffled = learn(order)
    singles = [learn(torch.tensor([i])) for i in (0, 4)]
    for name in ("mask", "score", "area", "tv", "relevance"):
        value = getattr(whole, name)
        close = {"atol": tolerance * (1 if name in {"mask", "relevance", "score"} else 720), "rtol": 1e-6}
        torch.testing.assert_close(getattr(shuffled, name), value[order], **close)
        torch.testing.assert_close(torch.cat([getattr(s, name) for s in singles]), value[[0, 4]], **close)
    close = {"atol": 720 * tolerance, "rtol": 1e-6}
    torch.testing.assert_close(torch.cat([s.history for s in singles], 1), whole.history[:, [0, 4]], **close)
    assert float((whole.mask[0] - whole.mask[4]).abs().max()) > differ  # the windows' masks differ


def test_copies_of_a_window_get_copies_of_its_mask(net, x):
    """A loss averaged over the batch would shrink its steps as the batch grows."""
    signal = x[:1].double()
    one = quiet(lstm_score(net, signal, 2, of="logit"), signal, optimizer="sgd", n_iter=30, lr=0.01)
    many = signal.expand(40, -1, -1)
    forty = quiet(lstm_score(net, many, 2, of="logit"), many, optimizer="sgd", n_iter=30, lr=0.01)
    torch.testing.assert_close(forty.mask, one.mask.expand(40, -1), atol=1e-9, rtol=0)


# The objective


def written_out(score, x, *, lambda_area, lambda_tv, lr, n_iter, first, fill, optimizer, area, clamp):
    """One window at a time, every sum a loop over samples, Adam from its paper."""
    length = x.shape[-1]
    out = {"mask": [], "score": [], "area": [], "tv": [], "history": []}
    for i in range(len(x)):
        m = first.clone()
        mean, variance = torch.zeros(length, dtype=x.dtype), torch.zeros(length, dtype=x.dtype)

        def terms(m, i=i):
            rough = m.new_zeros(())
            deleted = m.new_zeros(())
            samples = []
            for t in range(length):
                deleted = deleted + (1 - m[t]).abs()
                if t:
                    rough = rough + (m[t] - m[t - 1]).abs()
                samples.append(m[t] * x[i, 0, t] + (1 - m[t]) * fill[i, t])
            return (deleted / length if area == "mean" else deleted), rough, score(torch.stack(samples)[None, None])[0]

        history = []
        for step in range(1, n_iter + 1):
            m = m.detach().requires_grad_()
            deleted, rough, value = terms(m)
            objective = lambda_area * deleted + lambda_tv * rough + value
            history.append(float(objective))
            objective.backward()
            with torch.no_grad():
                if optimizer == "sgd":
                    m = m - lr * m.grad
                else:
                    mean = 0.9 * mean + 0.1 * m.grad
                    variance = 0.999 * variance + 0.001 * m.grad**2
                    ratio = (mean / (1 - 0.9**step)) / ((variance / (1 - 0.999**step)).sqrt() + 1e-8)
                    m = m - lr * ratio
                if clamp:
                    m = m.clamp(0, 1)
        deleted, rough, value = terms(m.detach())
        for name, found in zip(out, (m.detach(), value, deleted, rough, torch.tensor(history)), strict=True):
            out[name].append(found.detach().double())
    return {name: torch.stack(values) for name, values in out.items()}


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("area", ["sum", "mean"])
@pytest.mark.parametrize("clamp", [False, True])
def test_objective_written_out(optimizer, area, clamp):
    g = torch.Generator().manual_seed(8)
    x = torch.randn(2, 1, 12, generator=g, dtype=torch.float64)
    w = torch.randn(12, generator=g, dtype=torch.float64)
    first = torch.rand(12, generator=g, dtype=torch.float64) * 1.2
    fill = torch.randn(2, 12, generator=g, dtype=torch.float64)

    def score(masked):
        return torch.tanh((masked[:, 0] * w).sum(-1)) + 0.3 * (masked[:, 0, 1:] * masked[:, 0, :-1]).sum(-1)

    options = {"lambda_area": 0.7, "lambda_tv": 0.05, "lr": 0.06, "n_iter": 25}
    options |= {"optimizer": optimizer, "area": area, "clamp": clamp}
    expected = written_out(score, x, first=first, fill=fill, **options)
    found = quiet(score, x, init=first.expand(2, -1), fill=fill[:, None], **options)
    for name in ("mask", "score", "area", "tv"):
        torch.testing.assert_close(getattr(found, name), expected[name], atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(found.history.T.double(), expected["history"].double(), atol=1e-6, rtol=1e-6)
    assert torch.equal(found.relevance, 1 - found.mask)
    assert found.history.shape == (25, 2)


def test_defaults_are_the_decks(net, x):
    stated = {
        "lambda_area": 1.0, "lambda_tv": 0.001, "lr": 0.001, "n_iter": 500, "init": 0.0, "fill": 0.0,
        "optimizer": "adam", "area": "sum", "clamp": False,
    }  # fmt: skip
    signal, short = x[:1, :, :90], torch.linspace(-1, 1, 90)
    default, explicit = quiet(linear(short), signal), quiet(linear(short), signal, **stated)
    assert torch.equal(default.mask, explicit.mask)
    assert default.history.shape == (500, 1)
    assert dict(RECIPES["deck"]) == {}


def test_deck_recipe_stops_on_its_way(net, x):
    result = learn_mask(lstm_score(net, x[:2], TARGET[:2]), x[:2])
    assert 0.49 < float(result.mask.max()) < 0.51  # 500 steps of at most about 0.001
    assert float(result.mask.min()) > -0.51
    torch.testing.assert_close(result.area, (1 - result.mask).abs().sum(1))
    assert float(result.history[0, 0]) == pytest.approx(720.0, abs=1.01)  # everything deleted, and a probability
    assert (result.history[1:] < result.history[:-1] + 1e-3).all()


def test_minimum_in_closed_form():
    """Of lambda |1 - m| + m^2 / 2 for each sample: m = lambda; and each step of descent towards it."""
    x = torch.ones(3, 1, 10, dtype=torch.float64)
    half_square = lambda masked: masked[:, 0].square().sum(-1) / 2  # noqa: E731
    options = {"lambda_area": 0.3, "lambda_tv": 0.0, "optimizer": "sgd", "lr": 0.1}
    result = learn_mask(half_square, x, n_iter=300, **options)
    torch.testing.assert_close(result.mask, torch.full((3, 10), 0.3, dtype=torch.float64), atol=1e-12, rtol=0)
    assert result.score.tolist() == pytest.approx([0.45] * 3)
    assert result.area.tolist() == pytest.approx([7.0] * 3)
    on_its_way = learn_mask(half_square, x, n_iter=4, **options)
    assert on_its_way.mask[0].tolist() == pytest.approx([0.3 * (1 - 0.9**4)] * 10, abs=1e-14)
    assert on_its_way.history[:3, 0].tolist() == pytest.approx([3.0, 3.0 - 0.0855, 3.0 - 0.154755])


def test_linear_score_deletes_what_pays():
    """With a linear score, a sample goes if w_t x_t exceeds its price, lambda / T."""
    g = torch.Generator().manual_seed(9)
    w, x = torch.randn(50, generator=g).double(), torch.randn(4, 1, 50, generator=g).double()
    gain = w * x[:, 0]
    gain = torch.where((gain - 0.4).abs() < 0.01, gain * 0, gain)
    x = (gain / w)[:, None]
    options = {**SETTLED, "lambda_tv": 0.0, "lambda_area": 20.0, "fill": 0.0}
    result = learn_mask(linear(w), x, **options)
    torch.testing.assert_close(result.mask, (gain < 0.4).double(), atol=0.05, rtol=0)  # about the kink: one step
    assert 0 < float(result.relevance.mean()) < 0.5


def test_roughness_has_its_price():
    """A gap costs 2 lambda_tv: one that gains 0.15 over its area is not worth 0.2, one that gains 0.25 is."""
    w = torch.zeros(30, dtype=torch.float64)
    w[5], w[20] = 0.15 + 0.2, 0.25 + 0.2
    options = {**SETTLED, "fill": 0.0, "lambda_tv": 0.1, "lambda_area": 6.0, "lr": 0.005, "n_iter": 800}
    result = quiet(linear(w), torch.ones(1, 1, 30, dtype=torch.float64), **options)  # price of a sample: 0.2
    expected = torch.ones(30, dtype=torch.float64)
    expected[20] = 0
    torch.testing.assert_close(result.mask[0], expected, atol=0.02, rtol=0)
    assert float(result.tv) == pytest.approx(2, abs=0.05)


def test_planted_span_is_found(x):
    """A score that reads a known span alone, another for each window."""
    spans = [(100, 160), (300, 390), (500, 640), (60, 100), (600, 700)]
    inside = torch.zeros(N, 720)
    for row, (a, b) in zip(inside, spans, strict=True):
        row[a:b] = 1
    beat = torch.sin(torch.arange(720) / 9.0) + 0.1 * x[:, 0]
    signal = (beat - torch.lerp(beat[:, :1], beat[:, -1:], torch.linspace(0, 1, 720)))[:, None]
    reference = (signal[:, 0].square() * inside).sum(-1)
    result = learn_mask(lambda m: 4 * (m[:, 0].square() * inside).sum(-1) / reference, signal, **SETTLED)
    mass = (result.relevance * inside).sum(-1) / result.relevance.sum(-1)
    assert float(mass.min()) > 0.9
    assert float(((result.relevance * inside).sum(-1) / inside.sum(-1)).min()) > 0.5  # and most of it
    assert float(result.score.max()) < 0.4  # of 4


# Options


def first_input(x, **options):
    seen = []

    def score(masked):
        seen.append(masked.detach().clone())
        return masked.sum((1, 2))

    quiet(score, x, n_iter=1, **options)
    return seen[0]


RISE = torch.tensor([[[2.0, 5.0, -1.0, 0.0, 6.0]], [[0.0, 1.0, 1.0, 1.0, -2.0]]])


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        (0.7, [[0.7] * 5, [0.7] * 5]),
        (-1, [[-1.0] * 5, [-1.0] * 5]),
        ("mean", [[2.4] * 5, [0.2] * 5]),
        ("linear", [[2.0, 3, 4, 5, 6], [0.0, -0.5, -1, -1.5, -2]]),
        (torch.arange(5.0), [[0.0, 1, 2, 3, 4]] * 2),
        (torch.tensor([[[3.0]], [[4.0]]]), [[3.0] * 5, [4.0] * 5]),
        (torch.arange(10.0, dtype=torch.float64).reshape(2, 1, 5), [[0.0, 1, 2, 3, 4], [5.0, 6, 7, 8, 9]]),
    ],
    ids=["number", "integer", "mean", "linear", "one for all", "one a window", "one a sample"],
)
def test_fills(fill, expected):
    k = torch.tensor(expected)[:, None]
    torch.testing.assert_close(first_input(RISE, fill=fill), k)  # nothing is kept
    torch.testing.assert_close(first_input(RISE, fill=fill, init=1.0), RISE)  # all is kept
    torch.testing.assert_close(first_input(RISE, fill=fill, init=0.25), 0.25 * RISE + 0.75 * k)


def test_blurred_fill():
    """A Gaussian of 0.1 s, so 36 samples, that is cut at four of them and holds the ends: sums written out."""
    signal = torch.randn(2, 1, 720, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    far = torch.arange(-144, 145)
    weight = torch.exp(-0.5 * (far.double() / 36) ** 2)
    weight /= weight.sum()
    k = first_input(signal, fill="blurred")  # nothing is kept
    for t in (0, 100, 719):
        expected = (signal[:, 0, (t + far).clamp(0, 719)] * weight).sum(-1)
        torch.testing.assert_close(k[:, 0, t], expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(first_input(signal, fill="blurred", init=0.25), 0.25 * signal + 0.75 * k)
    torch.testing.assert_close(blurred(signal), k)
    pulse = torch.zeros(3, 101)
    pulse[1, 50] = 1.0
    narrow = blurred(pulse, width=0.01)  # 3.6 samples, in single precision
    assert narrow.dtype == torch.float32
    assert float(narrow[1, 50]) == pytest.approx(1 / (3.6 * (2 * torch.pi) ** 0.5), rel=1e-3)
    assert float(narrow[1, 54] / narrow[1, 50]) == pytest.approx(2.718281828 ** (-0.5 * (4 / 3.6) ** 2), rel=1e-4)
    assert not narrow[[0, 2]].any()


def test_first_masks():
    rows = torch.arange(10.0).reshape(2, 5) / 10
    ones = torch.ones(2, 1, 5)
    torch.testing.assert_close(first_input(ones, init=rows)[:, 0], rows)
    torch.testing.assert_close(first_input(ones, init=rows[0])[:, 0], rows[:1].expand(2, -1))
    given = rows.clone()
    quiet(linear(1.0), ones, init=given, n_iter=3)
    assert torch.equal(given, rows)  # the caller's tensor is not what moves


def test_random_first_mask():
    ones = torch.ones(3, 1, 4000)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a, b, c = (first_input(ones, init="random", seed=s)[:, 0] for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(a[0], a[2])
    assert 0 <= float(a.min()) < 0.01
    assert 0.99 < float(a.max()) < 1
    assert float(a.mean()) == pytest.approx(0.5, abs=0.03)
    double = first_input(ones.double(), init="random", seed=1)[:, 0]
    torch.testing.assert_close(double.float(), a, atol=1e-7, rtol=0)  # the same mask in both precisions


def test_mean_area_is_the_sum_over_samples(x):
    w, signal = torch.linspace(-0.02, 0.03, 720).double(), x.double()
    options = {"lambda_tv": 0.01, "lr": 0.02, "n_iter": 40, "init": 0.5}
    mean = quiet(linear(w), signal, area="mean", lambda_area=2.0, **options)
    total = quiet(linear(w), signal, area="sum", lambda_area=2.0 / 720, **options)
    torch.testing.assert_close(mean.mask, total.mask, atol=1e-12, rtol=0)
    torch.testing.assert_close(mean.area * 720, total.area)
    torch.testing.assert_close(mean.area, (1 - mean.mask).abs().mean(1))
    assert float((mean.mask - 0.5).abs().max()) > 0.1


def test_clamp(x):
    w = torch.linspace(-3, 3, 720)
    free = quiet(linear(w), x, lr=0.1, n_iter=40, init=0.5)
    held = quiet(linear(w), x, lr=0.1, n_iter=40, init=0.5, clamp=True)
    assert float(free.mask.min()) < -0.1
    assert float(free.mask.max()) > 1.1
    assert float(held.mask.min()) == 0
    assert float(held.mask.max()) == 1


def test_double_precision(net, x):
    signal = x.double()
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    score = lstm_score(net, signal, TARGET)
    result = learn_mask(score, signal, n_iter=3)
    assert {v.dtype for v in vars(result).values()} == {torch.float64}
    assert next(net.parameters()).dtype == torch.float32
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())
    single = lstm_score(net, x, TARGET)(x).double()
    torch.testing.assert_close(score(signal), single, atol=1e-6, rtol=1e-5)


def test_result_needs_no_gradient(net, x):
    signal = x.clone().requires_grad_()
    result = learn_mask(lstm_score(net, signal, 1), signal, n_iter=2)
    assert isinstance(result, MaskResult)
    assert not any(v.requires_grad for v in vars(result).values())
    assert signal.grad is None
    assert signal.requires_grad


def test_under_no_grad(net, x):
    score = lstm_score(net, x, TARGET)
    expected = learn_mask(score, x, n_iter=5)
    with torch.no_grad():
        found = learn_mask(lstm_score(net, x, TARGET), x, n_iter=5)
        assert not torch.is_grad_enabled()
    assert torch.equal(found.mask, expected.mask)


def test_masked_signals_are_not_written_over():
    seen = []

    def score(masked):
        seen.append(masked.detach())
        return masked.sum((1, 2))

    quiet(score, RISE, n_iter=3, lr=0.1)
    assert [float(s[0, 0, 1] / 5) for s in seen] == pytest.approx([0, -0.1, -0.2, -0.3], abs=1e-5)
    assert len({s.data_ptr() for s in seen}) == len({float(s[0, 0, 0]) for s in seen}) == 4


def test_score_that_ignores_the_signal():
    result = quiet(lambda m: torch.tensor([0.25, 0.5]), RISE, n_iter=5, optimizer="sgd", lr=0.1, lambda_tv=0.0)
    torch.testing.assert_close(result.mask, torch.full((2, 5), 0.5))
    assert result.score.tolist() == [0.25, 0.5]
    assert result.history[0].tolist() == [5.25, 5.5]


def test_progress_bar_only_on_request(capsys):
    learn_mask(linear(1.0), RISE, n_iter=2)
    assert capsys.readouterr() == ("", "")
    learn_mask(linear(1.0), RISE, n_iter=2, progress=True)
    assert "learning masks" in capsys.readouterr().err


# Warnings and errors


def test_collapse_is_reported():
    x = torch.ones(3, 1, 40)
    with pytest.warns(UserWarning, match="3 of 3 masks collapsed to 1: nothing is deleted") as caught:
        learn_mask(lambda m: 0 * m.sum((1, 2)), x, **SETTLED)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="3 of 3 masks collapsed to 0: everything is deleted"):
        learn_mask(linear(5.0), x, **{**SETTLED, "fill": 0.0})
    weight = torch.zeros(3, 40)
    weight[0] = 5.0  # window 0 loses all, window 1 nothing, window 2 half
    weight[2, 20:] = 5.0
    with pytest.warns(UserWarning, match="masks collapsed to") as caught:
        learn_mask(linear(weight), x, **{**SETTLED, "fill": 0.0})
    assert [str(w.message).split(";")[0] for w in caught] == [
        "1 of 3 masks collapsed to 0: everything is deleted", "1 of 3 masks collapsed to 1: nothing is deleted"
    ]  # fmt: skip


def test_no_warning_without_collapse(net, x):
    weight = torch.zeros(720)
    weight[100:200] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learn_mask(linear(weight), torch.ones(2, 1, 720), **{**SETTLED, "fill": 0.0})
        learn_mask(lstm_score(net, x, TARGET), x, n_iter=40)  # the deck's recipe stops far from either
        dip = torch.ones(2, 720)
        dip[0, 300:310], dip[1] = 0.97, 0.0
        dip[1, 5] = 0.03
        learn_mask(linear(0.0), x[:2], init=dip, n_iter=1, lr=1e-6)  # nearly all 1, nearly all 0


@pytest.mark.parametrize("shape", [(720,), (2, 720), (2, 2, 720), (1, 2, 1, 720)])
def test_shape_of_windows(shape):
    with pytest.raises(DataError, match=r"expected windows of shape \(N, 1, T\), received \("):
        learn_mask(linear(1.0), torch.zeros(shape))


@pytest.mark.parametrize("score", [lambda m: m.sum(), lambda m: m.sum(-1), lambda m: m.sum((1, 2))[:1]])
def test_shape_of_scores(score):
    with pytest.raises(DataError, match=r"one value a window, shape \(2,\); received \("):
        learn_mask(score, RISE, n_iter=2)


@pytest.mark.parametrize("options", [{"n_iter": 0}, {"lr": 0.0}, {"lr": -1.0}])
def test_steps_and_rate(options):
    with pytest.raises(DataError, match="at least one step and a positive rate"):
        learn_mask(linear(1.0), RISE, **options)


@pytest.mark.parametrize("name", ["optimizer", "area", "fill", "init"])
def test_unknown_option(name):
    with pytest.raises(UnknownNameError, match=f"unknown {name} 'maen'"):
        learn_mask(linear(1.0), RISE, **{name: "maen"})


def test_unknown_branch_score_and_target(net, x):
    with pytest.raises(UnknownNameError, match="unknown branch 'cnn'"):
        lstm_score(net, x, 0, branch="cnn")
    with pytest.raises(UnknownNameError, match="unknown score 'logits'; did you mean 'logit'"):
        lstm_score(net, x, 0, of="logits")
    for target in (8, -1, torch.tensor([0, 1, 2, 3, 9])):
        with pytest.raises(DataError, match="targets must lie in 0…7"):
            lstm_score(net, x, target)
    with pytest.raises(DataError, match="one for each of 5 windows"):
        lstm_score(net, x, torch.tensor([0, 1]))


# The score of a network


def test_scores_are_those_of_the_network(net, x):
    masked = x.flip(0) * 0.5
    with torch.no_grad():
        logits = {"both": net(masked), "lstm": net(x, masked)}
    for branch, expected in logits.items():
        row = torch.arange(N)
        logit = lstm_score(net, x, TARGET, branch=branch, of="logit")(masked)
        probability = lstm_score(net, x, TARGET, branch=branch, of="probability")(masked)
        torch.testing.assert_close(logit, expected[row, TARGET], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(probability, expected.softmax(1)[row, TARGET], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(lstm_score(net, x, TARGET, branch=branch)(masked), probability)
    assert float((logits["both"] - logits["lstm"]).abs().max()) > 1e-3


def test_score_of_the_published_network(x):
    """Its head has three layers and reads the last map flattened."""
    model = models.build("murugesan", width=4, seed=2)
    with torch.no_grad():
        model.lstm.weight_ih_l0.mul_(3)
        model.head[0].weight[:, -40:].mul_(30)
        logits = {"lstm": model(x, x.flip(0)), "both": model(x.flip(0))}
    assert float((logits["lstm"] - logits["both"]).abs().max()) > 1e-3
    for branch, expected in logits.items():
        found = lstm_score(model, x, TARGET, branch=branch, of="logit")(x.flip(0))
        torch.testing.assert_close(found, expected[torch.arange(N), TARGET], atol=1e-5, rtol=1e-5)


def test_lstm_branch_leaves_the_cnn_alone(net, x):
    """What masking changes in the logit is the LSTM's part, to the last digit; and the CNN runs no more."""
    runs = []
    net.stem.register_forward_hook(lambda *_: runs.append(1))
    score = lstm_score(net, x, TARGET, of="logit")
    before = len(runs)
    change = score(0 * x) - score(x)
    assert len(runs) == before
    with torch.no_grad():
        moved = (net.lstm_features(0 * x) - net.lstm_features(x)) @ net.head.weight[:, 8:].T
    torch.testing.assert_close(change, moved[torch.arange(N), TARGET], atol=1e-5, rtol=1e-4)


def test_gradient_of_the_score_by_finite_differences(net, x):
    net, signal, step = net.double(), x[:2].double(), 1e-7
    g = torch.Generator().manual_seed(1)
    direction = torch.randn(signal.shape, generator=g, dtype=torch.float64)
    for branch in ("lstm", "both"):
        score = lstm_score(net, signal, TARGET[:2], branch=branch)
        point = signal.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(score(point).sum(), point)
        slope = (score(signal + step * direction) - score(signal - step * direction)) / (2 * step)
        torch.testing.assert_close((gradient * direction).sum((1, 2)), slope, atol=1e-7, rtol=1e-4)


# The network is left as it was


def state_of(model):
    return (
        {k: v.clone() for k, v in model.state_dict().items()},
        {n: m.training for n, m in model.named_modules()},
        {n: (p.requires_grad, None if p.grad is None else p.grad.clone()) for n, p in model.named_parameters()},
        {n: m.dropout for n, m in model.named_modules() if isinstance(m, nn.RNNBase)},
    )


def assert_untouched(before, model):
    after = state_of(model)
    assert [k for k in before[0] if not torch.equal(before[0][k], after[0][k])] == []
    assert before[1] == after[1]
    assert before[3] == after[3]
    for name, (flag, grad) in before[2].items():
        assert after[2][name][0] == flag, name
        assert (grad is None) == (after[2][name][1] is None), name
        assert grad is None or torch.equal(grad, after[2][name][1]), name


@pytest.fixture
def mixed(net):
    """Some modules in train mode, some parameters frozen, some with a gradient."""
    net.train()
    net.blocks[1].eval()
    net.lstm.dropout = 0.4
    net.stem.requires_grad_(False)
    for p in net.head.parameters():
        p.grad = torch.ones_like(p)
    return net


@pytest.mark.parametrize("branch", ["lstm", "both"])
def test_nothing_changes(mixed, x, branch):
    before = state_of(mixed)
    learn_mask(lstm_score(mixed, x, TARGET, branch=branch), x, n_iter=3)
    assert_untouched(before, mixed)


@pytest.mark.parametrize("branch", ["lstm", "both"])
def test_nothing_changes_when_the_score_fails(mixed, x, branch):
    before, calls = state_of(mixed), []
    score = lstm_score(mixed, x, TARGET, branch=branch)

    def fail(*_):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("on purpose")

    handle = mixed.head.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        learn_mask(score, x, n_iter=9)
    assert len(calls) == 3
    handle.remove()
    assert_untouched(before, mixed)


def test_nothing_changes_when_the_cnn_fails(mixed, x):
    before = state_of(mixed)
    with pytest.raises(RuntimeError):
        lstm_score(mixed, x[:, :, :700], 0)
    assert_untouched(before, mixed)


class Nest(nn.Module):
    """Recurrent modules deep inside, one in train mode, one not; dropout and a batch norm beside them."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, num_layers=2, dropout=0.5, batch_first=True)
        inner = nn.ModuleDict({"gru": nn.GRU(4, 4, num_layers=2, dropout=0.25, batch_first=True)})
        self.rest = nn.ModuleList([inner, nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5))])
        inner.eval()

    def forward(self, x):
        return self.rest[1](self.rest[0]["gru"](self.lstm(x)[0])[0][:, -1])


@pytest.mark.parametrize("fails", [False, True])
def test_recurrent_modules_alone_train(fails):
    model = Nest()
    model.lstm.weight_hh_l0.requires_grad_(False)
    before = state_of(model)
    x = torch.randn(4, 5, 3)
    try:
        with differentiable_rnn(model):
            assert {n for n, m in model.named_modules() if m.training} == {"lstm", "rest.0.gru"}
            assert (model.lstm.dropout, model.rest[0]["gru"].dropout) == (0, 0)
            assert not any(p.requires_grad for p in model.parameters())
            inside = model(x)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert_untouched(before, model)
    assert [m.training for m in (model, model.lstm, model.rest[0]["gru"])] == [True, True, False]
    assert torch.equal(inside, model.eval()(x))  # as in eval mode: no dropout, running statistics


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_masks_on_a_gpu(net, x):
    expected = learn_mask(lstm_score(net, x, TARGET), x, n_iter=30)
    net, signal = net.cuda().eval(), x.cuda()
    found = learn_mask(lstm_score(net, signal, TARGET), signal, n_iter=30)
    assert found.mask.is_cuda
    torch.testing.assert_close(found.mask.cpu(), expected.mask, atol=1e-4, rtol=0)
