"""The compiled loops give what torch gives: outputs, gradients of the input, steps of descent; and leave nothing behind."""

from __future__ import annotations

import copy
import ctypes
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from ecglib import frozen_lstm
from ecglib.frozen_lstm import descent, frozen, library, terms

pytestmark = pytest.mark.usefixtures("one_thread")
compiled = pytest.mark.skipif(library() is None, reason="needs a C++ compiler")

#: N, T, I, H, layers: a window, an odd number of everything, ECGNet's, sample by sample, one lane too many, three layers
SHAPES = [(1, 1, 1, 1, 1), (7, 5, 3, 5, 2), (50, 12, 60, 40, 2), (3, 100, 1, 64, 1), (25, 4, 2, 7, 1), (30, 6, 4, 9, 3)]
CLOSE = {torch.float32: {"atol": 2e-6, "rtol": 1e-5}, torch.float64: {"atol": 1e-13, "rtol": 1e-12}}


def make(features, hidden, layers=1, *, seed=0, dtype=torch.float64, loud=1.0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lstm = nn.LSTM(features, hidden, layers, **{"batch_first": True, **options}).to(dtype)
    with torch.no_grad():
        for p in lstm.parameters():
            p.mul_(loud)
    return lstm


def random(*shape, seed=1, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def gradient(run, x, weights):
    """Outputs of ``run(x)`` and the gradient of their weighted sum with respect to x."""
    x = x.clone().requires_grad_()
    out, (h, c) = run(x)
    total = sum((w * part).sum() for w, part in zip(weights, (out, h, c), strict=True))
    return (out.detach(), h.detach(), c.detach()), torch.autograd.grad(total, x)[0]


def both(lstm, x, *, seed=2):
    """What torch gives and what the loop gives."""
    with torch.no_grad():
        out, (h, c) = lstm(x)
    weights = [random(*part.shape, seed=seed + i, dtype=x.dtype) for i, part in enumerate((out, h, c))]
    expected = gradient(lstm, x, weights)
    with frozen(lstm, []):
        return expected, gradient(lstm, x, weights)


def assert_same(expected, found, **close):
    torch.testing.assert_close(found[0], expected[0], **close)
    torch.testing.assert_close(found[1], expected[1], **close)


def is_compiled(lstm):
    """Whether the loop runs: its node in the graph is ours."""
    with frozen(lstm, []):
        h = lstm(torch.zeros(1, 2, lstm.input_size, dtype=next(lstm.parameters()).dtype, requires_grad=True))[1][0]
    return "_LSTM" in type(h.grad_fn).__name__


# Values


@compiled
def test_one_unit_written_out():
    """One step and then another, each number by its formula."""
    lstm = make(1, 1)
    w, u, b = [0.5, -1.2, 0.8, 2.0], [0.3, 0.7, -0.4, 1.1], [0.1, 0.2, -0.3, 0.4]
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(torch.tensor(w)[:, None])
        lstm.weight_hh_l0.copy_(torch.tensor(u)[:, None])
        lstm.bias_ih_l0.copy_(torch.tensor(b) * 0.25)
        lstm.bias_hh_l0.copy_(torch.tensor(b) * 0.75)
    h = c = 0.0
    expected = []
    for value in (1.5, -0.7):
        i, f, g, o = (w[k] * value + u[k] * h + b[k] for k in range(4))
        c = c / (1 + math.exp(-f)) + math.tanh(g) / (1 + math.exp(-i))
        h = math.tanh(c) / (1 + math.exp(-o))
        expected.append(h)
    with frozen(lstm, []):
        out, (h_n, c_n) = lstm(torch.tensor([[[1.5], [-0.7]]], dtype=torch.float64))
    assert out[0, :, 0].tolist() == pytest.approx(expected, abs=1e-7)  # the weights went through float32
    assert h_n.item() == pytest.approx(h, abs=1e-7)
    assert c_n.item() == pytest.approx(c, abs=1e-7)


@compiled
@pytest.mark.parametrize(("n", "steps", "features", "hidden", "layers"), SHAPES)
def test_gradient_by_finite_differences(n, steps, features, hidden, layers):
    lstm, x = make(features, hidden, layers, loud=1.5), random(n, steps, features)
    with torch.no_grad():
        weights = [random(*part.shape, seed=5) for part in (lstm(x)[0], *lstm(x)[1])]
    with frozen(lstm, []):
        _, slope = gradient(lstm, x, weights)
        assert slope.abs().max() > 1e-3
        for seed in range(3):
            towards = random(*x.shape, seed=10 + seed)
            sides = []
            for h in (1e-5, -1e-5):
                with torch.no_grad():
                    out, (h_n, c_n) = lstm(x + h * towards)
                sides.append(sum((w * p).sum() for w, p in zip(weights, (out, h_n, c_n), strict=True)))
            expected = (slope * towards).sum()
            torch.testing.assert_close((sides[0] - sides[1]) / 2e-5, expected, rtol=1e-6, atol=1e-7)


@compiled
@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize(("n", "steps", "features", "hidden", "layers"), SHAPES)
@pytest.mark.parametrize("loud", [1.0, 5.0])
def test_as_torch(dtype, n, steps, features, hidden, layers, loud):
    lstm = make(features, hidden, layers, dtype=dtype, loud=loud)
    assert is_compiled(lstm)
    slack = loud**2 if dtype == torch.float32 else 10 * loud**2  # steep gates enlarge the rounding
    close = {name: slack * value for name, value in CLOSE[dtype].items()}
    assert_same(*both(lstm, random(n, steps, features, dtype=dtype)), **close)


@compiled
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_either_order_with_and_without_bias(batch_first, bias):
    lstm = make(3, 6, 2, batch_first=batch_first, bias=bias)
    assert is_compiled(lstm)
    assert_same(*both(lstm, random(4, 9, 3)), **CLOSE[torch.float64])


@compiled
@pytest.mark.parametrize("dtype", CLOSE)
def test_gates_that_are_shut(dtype):
    """Sums of 1e4, beyond what an exponential can hold, and a signal that is nearly nothing."""
    lstm = make(2, 5, dtype=dtype)
    for size in (1e4, 1e-30, 0.0):
        expected, found = both(lstm, size * random(3, 4, 2, dtype=dtype))
        assert all(part.isfinite().all() for part in (*found[0], found[1]))
        assert_same(expected, found, **CLOSE[dtype])


@compiled
def test_nan_stays_where_it_is():
    lstm, x = make(2, 5), random(30, 4, 2)
    x[3, 1, 0] = math.nan
    with frozen(lstm, []):
        out = lstm(x)[0]
    hurt = out.isnan().any(-1)
    assert hurt[3].tolist() == [False, True, True, True]
    assert not hurt[torch.arange(30) != 3].any()


@compiled
@pytest.mark.parametrize("steps", [400, 720])
def test_gradient_that_vanishes(steps):
    """Forgotten after some hundred steps in single precision: exactly 0 there, and right before."""
    lstm, x = make(1, 16, dtype=torch.float32), random(5, steps, 1, dtype=torch.float32)
    slopes = []
    for run in (lstm, None):
        z = x.clone().requires_grad_()
        if run is None:
            with frozen(lstm, []):
                h = lstm(z)[1][0]
        else:
            h = run(z)[1][0]
        slopes.append(torch.autograd.grad(h.sum(), z)[0])
    assert (slopes[1][:, 0] == 0).all()
    assert slopes[1][:, -30].abs().min() > 1e-12
    torch.testing.assert_close(slopes[1][:, -30:], slopes[0][:, -30:], rtol=1e-3, atol=1e-13)
    torch.testing.assert_close(slopes[1], slopes[0], rtol=0, atol=1e-6)


@compiled
def test_gradient_that_lasts():
    lstm = make(1, 16, dtype=torch.float32)
    with torch.no_grad():
        lstm.bias_ih_l0[16:32] = 6  # remembers
    expected, found = both(lstm, random(5, 720, 1, dtype=torch.float32))
    assert found[1][:, 0].abs().min() > 1e-4
    assert_same(expected, found, atol=1e-4, rtol=1e-4)


HEADS = {
    "last output": lambda out, h, c: out[:, -1].sum(1),
    "last state": lambda out, h, c: (h[-1] ** 2).sum(1),
    "first layer's cell": lambda out, h, c: c[0].prod(1) * 1e3,
    "mean": lambda out, h, c: out.mean(1).norm(dim=1),
    "attention": lambda out, h, c: (out * torch.softmax(out @ h[-1][:, :, None], 1)).sum((1, 2)),
}


@compiled
@pytest.mark.parametrize("head", HEADS)
def test_any_head(head):
    lstm, x = make(3, 4, 2), random(6, 8, 3)

    def slope(z):
        out, (h, c) = lstm(z)
        return torch.autograd.grad(HEADS[head](out, h, c).sum(), z)[0]

    expected = slope(x.clone().requires_grad_())
    with frozen(lstm, []):
        found = slope(x.clone().requires_grad_())
    assert expected.abs().max() > 1e-6
    torch.testing.assert_close(found, expected, **CLOSE[torch.float64])


@compiled
@pytest.mark.parametrize("dtype", CLOSE)
def test_windows_do_not_see_each_other(dtype):
    """Alone, among few and among many, on one thread and on three: bit by bit the same."""
    lstm, x = make(3, 6, 2, dtype=dtype), random(61, 7, 3, dtype=dtype)
    weights = [random(61, 7, 6, dtype=dtype), random(2, 61, 6, dtype=dtype), random(2, 61, 6, dtype=dtype)]

    def run(rows):
        with frozen(lstm, []):
            return gradient(lstm, x[rows], [weights[0][rows], weights[1][:, rows], weights[2][:, rows]])

    whole = run(torch.arange(61))
    for rows in ([0], [60], [5, 60, 3], list(range(30, 61))):
        part = run(torch.tensor(rows))
        close = {"atol": 1e-7 if dtype == torch.float32 else 1e-16, "rtol": 0}
        torch.testing.assert_close(part[0][0], whole[0][0][rows], **close)
        torch.testing.assert_close(part[1], whole[1][rows], **{**close, "atol": 20 * close["atol"]})
    torch.set_num_threads(3)  # restored by one_thread
    threaded = run(torch.arange(61))
    assert torch.equal(threaded[0][0], whole[0][0])
    assert torch.equal(threaded[1], whole[1])


# What torch goes on doing


@pytest.mark.parametrize("options", [{"bidirectional": True}, {"proj_size": 2}], ids=["both directions", "projection"])
def test_other_lstms_are_torchs(options):
    lstm = make(3, 4, 2, **options)
    assert not is_compiled(lstm)
    expected, found = both(lstm, random(5, 6, 3))
    assert_same(expected, found, **CLOSE[torch.float64])  # torch rounds another way where no weight is learned


def test_other_inputs_are_torchs():
    lstm, x = make(3, 4), random(5, 6, 3)
    first = random(1, 5, 4), random(1, 5, 4, seed=3)
    packed = pack_padded_sequence(x, torch.tensor([6, 5, 3, 2, 1]), batch_first=True)
    runs = [
        lambda: lstm(x, first)[0],
        lambda: lstm(x, hx=first)[0],
        lambda: lstm(x[0])[0],
        lambda: lstm(packed)[0].data,
    ]
    expected = [run() for run in runs]
    with frozen(lstm, []):
        found = [run() for run in runs]
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, **CLOSE[torch.float64])
    for wrong in (x.float(), x[..., :2], x[:, :0]):
        with pytest.raises((RuntimeError, ValueError)) as plain:
            lstm(wrong)
        with frozen(lstm, []), pytest.raises(type(plain.value)) as caught:
            lstm(wrong)
        assert str(caught.value) == str(plain.value)


@compiled
def test_other_recurrent_modules_are_torchs():
    class Other(nn.LSTM):
        def forward(self, x, hx=None):
            return super().forward(2 * x, hx)

    gru, other = nn.GRU(3, 4, batch_first=True).double(), Other(3, 4, batch_first=True).double()
    x = random(2, 5, 3)
    for rnn in (gru, other):
        expected = rnn(x)[0]
        with frozen(rnn, []):
            torch.testing.assert_close(rnn(x)[0], expected, **CLOSE[torch.float64])


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(frozen_lstm, "library", lambda: None)


@pytest.mark.parametrize("dtype", CLOSE)
def test_without_a_compiler(no_compiler, dtype):
    lstm = make(3, 5, 2, dtype=dtype)
    assert not is_compiled(lstm)
    expected, found = both(lstm, random(4, 6, 3, dtype=dtype))
    assert_same(expected, found, **CLOSE[dtype])


# Nothing is left behind, nothing is out of date


@compiled
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_changes(fails):
    model = nn.ModuleDict({"a": make(3, 4, 2, dropout=0.5), "b": nn.Dropout(0.5), "c": make(2, 2)})
    model["c"].eval()
    model["a"].weight_hh_l1.requires_grad_(False)
    model["a"].bias_ih_l0.grad = torch.ones(16, dtype=torch.float64)

    def state():
        return [(m.training, getattr(m, "dropout", None), set(vars(m))) for m in model.modules()], [
            (name, p.detach().clone(), p.requires_grad, p.grad) for name, p in model.named_parameters()
        ]

    before = state()
    try:
        with frozen(model, []):
            x = random(2, 5, 3).requires_grad_()
            out = model["a"](x)[0]
            torch.autograd.grad(out.sum(), x)
            with frozen(model, []):
                assert torch.equal(model["a"](x)[0], out)  # no dropout, also within itself
            assert torch.equal(model["a"](x)[0], out)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    after = state()
    assert before[0] == after[0]
    for a, b in zip(before[1], after[1], strict=True):
        assert a[0] == b[0]
        assert torch.equal(a[1], b[1])
        assert a[2] == b[2]
        assert a[3] is b[3]
    copy.deepcopy(model)  # and it can be copied


@compiled
def test_hooks_of_the_lstm_are_called():
    lstm, seen = make(3, 4), []
    lstm.register_forward_hook(lambda module, inputs, output: seen.append(output[0].shape))
    with frozen(lstm, []):
        lstm(random(2, 5, 3))
    assert seen == [(2, 5, 4)]


@compiled
def test_weights_are_read_each_time():
    lstm, x, tapes = make(3, 4, 2), random(2, 5, 3), []

    def check():
        with frozen(lstm, tapes):
            found = lstm(x)[0]
        torch.testing.assert_close(found, lstm(x)[0], **CLOSE[torch.float64])
        return found

    seen = [check()]
    with torch.no_grad():
        lstm.weight_ih_l0.mul_(1.5)
    seen.append(check())
    lstm.bias_hh_l1.data.add_(0.3)  # unseen by autograd's count of changes
    seen.append(check())
    lstm.load_state_dict(make(3, 4, 2, seed=7).state_dict())
    seen.append(check())
    lstm.weight_hh_l1 = nn.Parameter(random(16, 4, seed=8))
    seen.append(check())
    assert len({float(s.sum()) for s in seen}) == 5


@compiled
def test_weights_that_change_between_there_and_back():
    """The gradient is that of the forward pass."""
    lstm, x = make(3, 4, 2), random(2, 5, 3).requires_grad_()
    (expected,) = torch.autograd.grad(lstm(x)[0].sum(), x)
    with frozen(lstm, []):
        out = lstm(x)[0]
    lstm.weight_hh_l0.data.zero_()
    torch.testing.assert_close(torch.autograd.grad(out.sum(), x)[0], expected, **CLOSE[torch.float64])


@compiled
def test_passes_may_overlap():
    """Several forward passes before their backward passes, of different sizes, have a tape each; and tapes are reused."""
    lstm, tapes = make(3, 4, 2), []
    xs = [random(n, 5, 3, seed=n).requires_grad_() for n in (2, 40, 7)]
    expected = [torch.autograd.grad(lstm(x)[0].sum(), x)[0] for x in xs]
    for _ in range(2):
        with frozen(lstm, tapes):
            outs = [lstm(x)[0] for x in xs]
        for i in (1, 0, 2):
            found = torch.autograd.grad(outs[i].sum(), xs[i])[0]
            torch.testing.assert_close(found, expected[i], **CLOSE[torch.float64])
    assert len(tapes) == 3
    places = {t.data_ptr() for t in tapes}
    for x in xs[:1] * 3:
        with frozen(lstm, tapes):
            out = lstm(x)[0]
        torch.autograd.grad(out.sum(), x)
    assert places == {t.data_ptr() for t in tapes}


@compiled
def test_back_once():
    lstm, x = make(3, 4), random(2, 5, 3).requires_grad_()
    with frozen(lstm, []):
        out = lstm(x)[0].sum()
    torch.autograd.grad(out, x, retain_graph=True)
    with pytest.raises(RuntimeError, match="goes back once for each time it went forward"):
        torch.autograd.grad(out, x)


@compiled
def test_no_tape_without_a_gradient():
    lstm, tapes = make(3, 4), []
    with frozen(lstm, tapes):
        out = lstm(random(2, 5, 3))[0]
    assert not out.requires_grad
    assert tapes == []


@compiled
def test_threads():
    """Many threads in one network, and in networks of their own, some of them training."""
    shared = make(3, 8, 2, dropout=0.5)
    models = [shared if i % 2 else make(3, 8, 2, seed=i, dropout=0.5) for i in range(8)]
    xs = [random(30 + i, 9, 3, seed=i) for i in range(8)]
    modes = [m.training for m in models]
    tapes: list = []

    def slope(i):
        x = xs[i].clone().requires_grad_()
        with frozen(models[i], tapes if i % 2 else []):
            h = models[i](x)[1][0]
        return torch.autograd.grad(h.sum(), x)[0]

    alone = [slope(i) for i in range(8)]
    start = threading.Barrier(8)

    def often(i):
        start.wait()
        return [slope(i) for _ in range(25)]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(often, range(8)))
    for expected, found in zip(alone, together, strict=True):
        assert all(torch.equal(expected, f) for f in found)
    assert [m.training for m in models] == modes
    assert all(m.dropout == 0.5 and "forward" not in vars(m) for m in models)


@compiled
def test_small_numbers_stay_what_they_are():
    """Denormal numbers may be 0 inside the loop, not in the process."""
    lstm = make(3, 4)
    with frozen(lstm, []):
        lstm(random(60, 5, 3))
    assert float(torch.tensor(1e-40) * 0.5) > 0
    assert float(torch.tensor([1e-40] * 100).mul(0.5).min()) > 0


# Descent


def quadratic(x):
    """A score's slope, different for every sample."""
    return lambda masked: masked * x.sin() + 0.1


@compiled
@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize(("n", "length"), [(1, 1), (1, 2), (35, 37), (3, 720)])
def test_descent_as_torchs_optimizers(monkeypatch, dtype, optimizer, clamp, n, length):
    x, k = random(n, 1, length, dtype=dtype), random(n, 1, length, seed=4, dtype=dtype)
    slope = quadratic(x)
    results = []
    for run in (library(), None):
        monkeypatch.setattr(frozen_lstm, "library", lambda run=run: run)
        mask = random(n, length, seed=6, dtype=dtype)
        first = mask.clone()
        options = {"optimizer": optimizer, "lr": 0.03, "scale": 0.7, "lambda_tv": 0.05, "clamp": clamp}
        step = descent(mask, x, k, **options)
        masked = terms(mask, x, k)[0]
        for _ in range(12):
            masked, area, tv = step(slope(masked))
        assert mask.grad is None
        assert float((mask - first).abs().max()) > 0.05
        results.append((mask, masked, area, tv))
    # from a start at random no two neighbours are equal, so rounding cannot tip the sign of a difference
    close = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 1e-12, "rtol": 1e-12}
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, **close)


@compiled
def test_a_step_in_numbers():
    x, k = torch.tensor([[[2.0, -1.0, 3.0]]]), torch.tensor([[[0.0, 1.0, 0.0]]])
    mask = torch.tensor([[0.5, 0.5, 1.5]])
    step = descent(mask, x, k, optimizer="sgd", lr=0.1, scale=1.0, lambda_tv=0.5, clamp=False)
    masked, area, tv = step(torch.tensor([[[0.25, 0.5, 0.0]]]))
    # area -1, -1, 1; roughness 0, -0.5, 0.5; score 0.25 * 2, 0.5 * -2, 0
    assert mask[0].tolist() == pytest.approx([0.5 + 0.05, 0.5 + 0.25, 1.5 - 0.15])
    assert masked[0, 0].tolist() == pytest.approx([1.1, -0.75 + 0.25, 4.05])
    assert area.tolist() == pytest.approx([0.45 + 0.25 + 0.35])
    assert tv.tolist() == pytest.approx([0.2 + 0.6])


@compiled
def test_descent_at_its_kinks():
    """No slope where a value is 1 or equals its neighbour, as torch has it; not a number stays one, in its window."""
    x, k = torch.ones(2, 1, 5), torch.zeros(2, 1, 5)
    mask = torch.ones(2, 5)
    step = descent(mask, x, k, optimizer="sgd", lr=0.1, scale=1.0, lambda_tv=0.5, clamp=True)
    slope = torch.zeros(2, 1, 5)
    step(slope)
    assert (mask == 1).all()
    slope[1, 0, 2] = math.nan
    _, area, tv = step(slope)
    assert (mask[0] == 1).all()
    assert mask[1].isnan().tolist() == [False, False, True, False, False]
    assert area.isnan().tolist() == tv.isnan().tolist() == [False, True]


def test_terms_in_numbers():
    x, k = torch.tensor([[[2.0, 4.0, -1.0]]]), torch.tensor([[[1.0, 0.0, 1.0]]])
    masked, area, tv = terms(torch.tensor([[0.5, 1.5, 0.0]]), x, k)
    assert masked[0, 0].tolist() == [1.5, 6.0, 1.0]
    assert area.tolist() == [2.0]
    assert tv.tolist() == [2.5]


# The compiler


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """An empty cache of built loops."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    library.cache_clear()
    yield tmp_path
    library.cache_clear()


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false", "'"])
def test_no_compiler(elsewhere, monkeypatch, compiler):
    monkeypatch.setenv("CXX", compiler)
    assert library() is None
    assert not (elsewhere / "cache").exists()
    assert not is_compiled(make(3, 4))


def test_no_place_to_build(elsewhere, monkeypatch):
    (elsewhere / "cache").write_text("a file where the folder should be")
    assert library() is None


def test_a_source_that_does_not_compile(elsewhere, monkeypatch):
    source = elsewhere / "broken.cpp"
    source.write_text("this is not C++")
    monkeypatch.setattr(frozen_lstm, "SOURCE", source)
    assert library() is None
    assert list(elsewhere.rglob("*.so")) == []


@compiled
def test_built_once(elsewhere, monkeypatch):
    """A source that takes no time, in the place of ours: one file, built again when it changes."""
    source = elsewhere / "small.cpp"
    monkeypatch.setattr(frozen_lstm, "SOURCE", source)
    source.write_text('extern "C" int answer() { return 42; }')
    first = library()
    assert first.answer() == 42
    assert library() is first
    (built,) = (elsewhere / "cache" / "ecglib").iterdir()
    age = built.stat().st_mtime_ns
    library.cache_clear()
    assert library().answer() == 42
    assert built.stat().st_mtime_ns == age
    source.write_text('extern "C" int answer() { return 43; }')
    library.cache_clear()
    assert library().answer() == 43
    assert len(list((elsewhere / "cache" / "ecglib").iterdir())) == 2


@compiled
def test_two_may_build_at_once(elsewhere, monkeypatch):
    source = elsewhere / "small.cpp"
    source.write_text('#include <vector>\nextern "C" int answer() { return std::vector<int>(42).size(); }')
    monkeypatch.setattr(frozen_lstm, "SOURCE", source)
    with ThreadPoolExecutor(2) as pool:
        built = [pool.submit(library.__wrapped__) for _ in range(2)]
    assert [b.result().answer() for b in built] == [42, 42]
    assert len(list((elsewhere / "cache" / "ecglib").iterdir())) == 1


def test_the_source_is_beside_the_module():
    assert frozen_lstm.SOURCE.is_file()
    assert "ffast-math" not in " ".join(frozen_lstm.FLAGS)
    assert library() is None or isinstance(library(), ctypes.CDLL)
