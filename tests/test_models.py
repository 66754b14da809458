"""The network computes what its page says, and a checkpoint gives back what was saved or one clear line."""

import json
import os
import stat

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from ecglib import models
from ecglib.errors import DataError, UnknownNameError
from ecglib.models.murugesan import Dropout

NAME = "murugesan-gap"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def net():
    """A small network whose normalisations are not the identity."""
    return awake(models.build(NAME, width=8, seed=3))


@pytest.fixture(scope="module")
def x():
    return torch.randn(3, 1, 720, generator=torch.Generator().manual_seed(1))


def awake(model, seed=5):
    """Give batch norms weights, biases and statistics that matter."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, torch.nn.BatchNorm1d):
                m.weight.copy_(0.5 + torch.rand(m.weight.shape, generator=g))
                m.bias.copy_(0.3 * torch.randn(m.bias.shape, generator=g))
                m.running_mean.copy_(0.2 * torch.randn(m.bias.shape, generator=g))
                m.running_var.copy_(0.5 + torch.rand(m.bias.shape, generator=g))
    return model


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def one_line(caught):
    message = str(caught.value)
    assert message
    assert "\n" not in message
    assert len(message) < 600
    return message


# Architecture


def test_shapes_of_every_stage():
    model = models.build(NAME)
    seen = []
    for stage in (model.stem, *model.blocks):
        stage.register_forward_hook(lambda m, i, o: seen.append(tuple(o.shape)))
    with torch.no_grad():
        assert model(torch.zeros(2, 1, 720)).shape == (2, 8)
    assert seen == [
        (2, 64, 768), (2, 64, 384), (2, 64, 384), (2, 64, 192), (2, 128, 192), (2, 128, 96), (2, 128, 96), (2, 128, 48),
    ]  # fmt: skip
    assert model.feature_map(torch.zeros(2, 1, 720)).shape == (2, 128, 48)
    assert model.lstm_features(torch.zeros(2, 1, 720)).shape == (2, 40)


def test_number_of_parameters():
    model = models.build(NAME)
    assert sum(p.numel() for p in model.parameters()) == 2_256_520
    assert sum(p.numel() for p in model.lstm.parameters()) == 29_440  # 4*40*(60 + 40 + 2) + 4*40*(40 + 40 + 2)
    assert model.head.weight.shape == (8, 168)


def by_hand(state, x, width):
    """Logits from the weights alone, in double precision: convolution by unfolding, every gate of the LSTM written."""
    w = {k: v.double() for k, v in state.items()}

    def conv(h, name):
        kernel = w[f"{name}.weight"]
        pad = kernel.shape[2] // 2
        columns = F.pad(h, (pad, pad)).unfold(2, kernel.shape[2], 1)  # (N, C, T, k)
        return torch.einsum("nctk,ock->not", columns, kernel) + w[f"{name}.bias"][:, None]

    def norm(h, name):
        scale = w[f"{name}.weight"] / (w[f"{name}.running_var"] + 1e-5).sqrt()
        return (h - w[f"{name}.running_mean"][:, None]) * scale[:, None] + w[f"{name}.bias"][:, None]

    def halve(h):
        return torch.maximum(h[..., 0::2], h[..., 1::2])

    x = x.double()
    h = torch.cat([x[..., 1:25].flip(-1), x, x[..., -25:-1].flip(-1)], -1)  # reflected, the end itself not repeated
    h = norm(torch.cat([conv(h, f"stem.convs.{i}") for i in range(4)], 1), "stem.norm").clamp(min=0)
    for i in range(7):
        at, body = f"blocks.{i}", h
        if i:
            body = norm(body, f"{at}.body.0").clamp(min=0)
        first = 3 if i else 0
        body = norm(conv(body, f"{at}.body.{first}"), f"{at}.body.{first + 1}").clamp(min=0)
        body = conv(body, f"{at}.body.{first + 4}")
        if i % 2 == 0:
            body, h = halve(body), halve(h)
        h = body + (conv(h, f"{at}.skip") if f"{at}.skip.weight" in w else h)
    f = norm(h, "norm").clamp(min=0)

    steps = [x[:, 0, 60 * i : 60 * i + 60] for i in range(12)]
    for layer in (0, 1):
        hidden = cell = torch.zeros(len(x), 40, dtype=torch.float64)
        outputs = []
        for step in steps:
            gates = step @ w[f"lstm.weight_ih_l{layer}"].T + hidden @ w[f"lstm.weight_hh_l{layer}"].T
            gates = gates + w[f"lstm.bias_ih_l{layer}"] + w[f"lstm.bias_hh_l{layer}"]
            i_, f_, g_, o_ = gates.split(40, 1)
            cell = f_.sigmoid() * cell + i_.sigmoid() * g_.tanh()
            hidden = o_.sigmoid() * cell.tanh()
            outputs.append(hidden)
        steps = outputs
    return f, hidden, torch.cat([f.mean(-1), hidden], 1) @ w["head.weight"].T + w["head.bias"]


def test_forward_is_what_the_layers_say(net, x):
    f, h, logits = by_hand(net.state_dict(), x, 8)
    with torch.no_grad():
        torch.testing.assert_close(net.feature_map(x).double(), f, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(net.lstm_features(x).double(), h, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(net(x).double(), logits, atol=1e-4, rtol=1e-4)
    assert float(f.std()) > 0.1  # the comparison is not one of zeros


def test_window_is_reflected(net, x):
    seen = []
    handle = net.stem.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    net.feature_map(x)
    handle.remove()
    t = [abs(i) for i in range(-24, 720)] + [1438 - i for i in range(720, 744)]
    assert torch.equal(seen[0], x[..., t])


def test_two_inputs(net, x):
    other = x.flip(0) * 2
    with torch.no_grad():
        assert torch.equal(net(x, x), net(x))
        change = net(x, other) - net(x)
        v = net.head.weight[:, 16:]
        torch.testing.assert_close(
            change, (net.lstm_features(other) - net.lstm_features(x)) @ v.T, atol=1e-5, rtol=1e-4
        )
        assert float(change.abs().max()) > 1e-3


def test_logits_are_linear_in_the_head(net, x):
    a, b = (models.build(NAME, width=8, seed=s).head for s in (10, 11))
    total = models.build(NAME, width=8)
    total.load_state_dict(net.state_dict())

    def logits(weight, bias):
        with torch.no_grad():
            total.head.weight.copy_(weight)
            total.head.bias.copy_(bias)
            return total(x)

    both = logits(a.weight + 3 * b.weight, a.bias + 3 * b.bias)
    parts = logits(a.weight, a.bias) + 3 * logits(b.weight, b.bias)
    torch.testing.assert_close(both, parts, atol=1e-5, rtol=1e-4)


def test_gradient_reaches_every_parameter(x):
    model = awake(models.build(NAME, width=8)).train()
    F.cross_entropy(model(x), torch.tensor([0, 3, 7])).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name
        if p.dim() > 1:  # a bias right before a batch norm has no effect in train mode
            assert float(p.grad.abs().max()) > 1e-8, name
    model.zero_grad()
    F.cross_entropy(model.eval()(x), torch.tensor([0, 3, 7])).backward()
    assert [n for n, p in model.named_parameters() if not float(p.grad.abs().max()) > 0] == []


def test_eval_is_deterministic_and_train_is_not(x):
    model = models.build(NAME, width=8)
    assert not any(m.training for m in model.modules())
    with torch.no_grad():
        assert torch.equal(model(x), model(x))
        model.train()
        assert not torch.equal(model(x), model(x))


def test_windows_of_a_batch_do_not_meet(net, x):
    with torch.no_grad():
        whole = net(x)
        single = torch.cat([net(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(whole, single, atol=1e-5, rtol=1e-5)


# Dropout by bytes


@pytest.mark.parametrize(("p", "kept", "value"), [(0.5, 0.5, 2.0), (0.2, 205 / 256, 256 / 205), (0.25, 0.75, 4 / 3)])
def test_dropout_rate_and_mean(p, kept, value):
    torch.manual_seed(0)
    n = 1_000_003  # not a multiple of the eight bytes of a word
    out = Dropout(p).train()(torch.ones(n))
    assert sorted(set(out.tolist())) == pytest.approx([0.0, value], rel=1e-6)
    sigma = (kept * (1 - kept) / n) ** 0.5
    assert abs(float((out > 0).float().mean()) - kept) < 4 * sigma
    assert abs(float(out.double().mean()) - 1) < 4 * sigma / kept


def test_dropout_elements_are_independent():
    torch.manual_seed(1)
    kept = (Dropout(0.5).train()(torch.ones(800_000)) > 0).double() - 0.5
    for lag in range(1, 9):  # bytes of one word and of its neighbour
        assert abs(float((kept[lag:] * kept[:-lag]).mean())) < 4 * 0.25 / 800_000**0.5


def test_dropout_gradient_is_its_mask():
    x = torch.randn(5, 7, 11).transpose(0, 2).requires_grad_()  # not contiguous
    out = Dropout(0.5).train()(x)
    out.sum().backward()
    torch.testing.assert_close(out, x * x.grad, atol=0, rtol=0)
    assert set(x.grad.flatten().tolist()) == {0.0, 2.0}


def test_dropout_follows_the_generator_and_keeps_the_dtype():
    x = torch.ones(64, dtype=torch.bfloat16)
    draws = []
    for _ in range(2):
        torch.manual_seed(7)
        draws.append(Dropout(0.5).train()(x))
    assert torch.equal(*draws)
    assert draws[0].dtype == torch.bfloat16


@pytest.mark.parametrize(("p", "expected"), [(0.0, 1.0), (0.001, 1.0), (1.0, 0.0), (0.9999, 0.0)])
def test_dropout_at_its_ends(p, expected):
    out = Dropout(p).train()(torch.ones(200))
    assert float((out - expected).abs().median()) < 0.01
    assert torch.equal(Dropout(p).eval()(torch.ones(9)), torch.ones(9))


# Building


def test_same_seed_same_weights_and_the_global_generator_stays():
    torch.manual_seed(42)
    before = torch.get_rng_state()
    a, b, c = (models.build(NAME, width=8, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(a, b)
    assert not torch.equal(a.head.weight, c.head.weight)
    assert not torch.equal(a.lstm.weight_hh_l1, c.lstm.weight_hh_l1)


def test_seed_does_not_follow_the_global_generator():
    torch.manual_seed(1)
    a = models.build(NAME, width=8)
    torch.manual_seed(2)
    assert same(a, models.build(NAME, width=8))


def test_options():
    model = models.build(NAME, n_classes=3, width=12, dropout=0.2)
    assert model(torch.zeros(1, 1, 720)).shape == (1, 3)
    assert model.feature_map(torch.zeros(1, 1, 720)).shape == (1, 24, 48)
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.2}


def test_bad_names_and_options():
    with pytest.raises(UnknownNameError, match="did you mean 'murugesan-gap'") as caught:
        models.build("murugesan-gpa")
    one_line(caught)
    with pytest.raises(DataError, match="n_classes is 0"):
        models.build(NAME, n_classes=0)
    for width in (0, 2, 10):
        with pytest.raises(DataError, match=f"width is {width}"):
            models.build(NAME, width=width)


# Checkpoints


@pytest.fixture
def saved(tmp_path, net):
    return models.save(
        net, tmp_path / "sub" / "net.safetensors", notes={"seed": 3, "why": "a “test”", "list": [1, None]}
    )


def test_round_trip_in_half_precision(saved, net, x):
    again = models.load(saved)
    for (name, old), new in zip(net.state_dict().items(), again.state_dict().values(), strict=True):
        assert new.dtype == old.dtype, name
        if old.dim() > 1:
            assert torch.equal(new, old.half().float()), name
        else:
            assert torch.equal(new, old), name
    with torch.no_grad():
        torch.testing.assert_close(again(x), net(x), atol=5e-3, rtol=5e-3)
    assert not any(m.training for m in again.modules())
    assert all(p.requires_grad for p in again.parameters())
    assert {load_file(saved)[k].dtype for k in ("head.weight", "lstm.weight_hh_l0")} == {torch.float16}


def test_second_round_trip_is_exact(saved, tmp_path):
    once = models.load(saved)
    twice = models.load(models.save(once, tmp_path / "again.safetensors"))
    assert same(once, twice)


def test_notes_and_options_come_back(saved, tmp_path):
    assert models.metadata(saved) == {"seed": 3, "why": "a “test”", "list": [1, None]}
    small = models.build(NAME, n_classes=3, width=4, dropout=0.2)
    again = models.load(models.save(small, tmp_path / "small"))
    assert again.options == {"n_classes": 3, "width": 4, "dropout": 0.2}
    assert models.metadata(tmp_path / "small") == {}


def test_loading_leaves_the_generator(saved):
    before = torch.get_rng_state()
    models.load(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_others_may_read_a_checkpoint(saved):
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o666 & ~mask


def test_saving_a_model_leaves_it_alone(net, tmp_path):
    copy = {k: v.clone() for k, v in net.state_dict().items()}
    net.train()
    models.save(net, tmp_path / "a")
    assert all(m.training for m in net.modules())
    net.eval()
    assert all(torch.equal(v, copy[k]) for k, v in net.state_dict().items())


def test_saving_over_a_checkpoint_replaces_it(saved):
    models.save(models.build(NAME, width=4), saved)
    assert models.load(saved).options["width"] == 4
    assert [p.name for p in saved.parent.iterdir()] == ["net.safetensors"]


def test_no_place_to_save(tmp_path, net):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "file" / "net", tmp_path / "folder"):
        with pytest.raises(DataError, match="cannot write") as caught:
            models.save(net, target)
        one_line(caught)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_foreign_network_is_not_saved(tmp_path):
    with pytest.raises(DataError, match="cannot save a Linear") as caught:
        models.save(torch.nn.Linear(1, 1), tmp_path / "net")
    one_line(caught)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("read", [models.load, models.metadata])
def test_missing(tmp_path, read):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(DataError, match="no checkpoint") as caught:
            read(path)
        one_line(caught)


@pytest.mark.parametrize("read", [models.load, models.metadata])
@pytest.mark.parametrize("keep", [0, 4, 8, 100, 0.5, -1])
def test_truncated(saved, read, keep):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(DataError, match="not a safetensors file") as caught:
        read(saved)
    one_line(caught)


def test_not_safetensors(tmp_path, net):
    path = tmp_path / "net.pt"
    torch.save(net.state_dict(), path)  # a pickle is refused, not run
    for content in (path.read_bytes(), b"not a checkpoint at all", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a safetensors file") as caught:
            models.load(path)
        one_line(caught)


def test_safetensors_of_others(tmp_path, saved):
    path, tensors = tmp_path / "other", load_file(saved)
    options = json.dumps({"n_classes": 8, "width": 8, "dropout": 0.5})
    for head, match in (
        (None, "names no model"),
        ({"model": NAME, "options": "{}"}, "names no model"),
        ({"model": NAME, "options": "{}", "notes": "{}"}, "does not fit"),  # width 64
        ({"model": NAME, "options": '{"bogus": 1}', "notes": "{}"}, "does not fit"),
        ({"model": NAME, "options": "[broken", "notes": "{}"}, "does not fit"),
    ):
        save_file(tensors, path, metadata=head)
        with pytest.raises(DataError, match=match) as caught:
            models.load(path)
        one_line(caught)
    save_file({"a": torch.zeros(2)}, path, metadata={"model": NAME, "options": options, "notes": "{}"})
    with pytest.raises(DataError, match="does not fit") as caught:
        models.load(path)
    one_line(caught)
    save_file(tensors, path, metadata={"model": "resnet", "options": options, "notes": "{}"})
    with pytest.raises(UnknownNameError, match="unknown model 'resnet'") as caught:
        models.load(path)
    one_line(caught)
