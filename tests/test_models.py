"""Each network computes what its page says, and a checkpoint gives back what was saved or one clear line."""

import itertools
import json
import math
import os
import stat

import numpy as np
import pytest
import scipy.signal
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from ecglib import cam, models
from ecglib.errors import DataError, UnknownNameError
from ecglib.models.layers import Dropout, pad_same
from ecglib.models.zihlmann import LogSpectrogram

NAME = "murugesan-gap"

#: every network, and every option that changes its layers: (name, options)
ALL = [
    ("hannun", {}),
    ("zihlmann", {}),
    ("zihlmann", {"hop": 8}),
    ("murugesan", {}),
    ("murugesan", {"pad": 0}),
    (NAME, {}),
]
IDS = ["-".join([name, *map(str, itertools.chain(*options.items()))]) for name, options in ALL]

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
            if isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                m.weight.copy_(0.5 + torch.rand(m.weight.shape, generator=g))
                m.bias.copy_(0.3 * torch.randn(m.bias.shape, generator=g))
                m.running_mean.copy_(0.2 * torch.randn(m.bias.shape, generator=g))
                m.running_var.copy_(0.5 + torch.rand(m.bias.shape, generator=g))
    return model


def warm(model, seed=6):
    """Awake, with the running statistics of noise: without residual sums, others would let the signal die away."""
    awake(model, seed).train()
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    for m in norms:
        m.momentum = 1.0
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        model(torch.randn(16, 1, 720))
    for m in norms:
        m.momentum = 0.1
    return model.eval()


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


# As published: every layer's length and channels, and the number of parameters


def lengths(model, stages, samples=720):
    """Output shapes of some modules, without the batch."""
    seen: list[tuple[int, ...]] = []
    handles = [m.register_forward_hook(lambda m, i, o: seen.append(tuple(o.shape[1:]))) for m in stages]
    with torch.no_grad():
        model(torch.zeros(1, 1, samples))
    for handle in handles:
        handle.remove()
    return seen


def n_parameters(*modules):
    return sum(p.numel() for m in modules for p in m.parameters())


CHANNELS = [64] * 4 + [128] * 4 + [192] * 4 + [256] * 4 + [320]  # stem, block1, res2, res3, res4 …
LENGTHS = {
    0: [720, 360, 360, 180, 180, 90, 90, 45, 45, 22, 22, 11, 11, 5, 5, 2, 2],
    24: [768, 384, 384, 192, 192, 96, 96, 48, 48, 24, 24, 12, 12, 6, 6, 3, 3],
}


@pytest.mark.parametrize("pad", LENGTHS)
def test_lengths_of_ecgnet(pad):
    model = models.build("murugesan", pad=pad)
    stages = [model.stem, *model.blocks, *model.tail]
    assert lengths(model, stages) == list(zip(CHANNELS, LENGTHS[pad], strict=True))
    assert model.head[0].in_features == {0: 680, 24: 1000}[pad]
    steps = {0: 45, 24: 48}[pad]
    assert model.feature_map(torch.zeros(2, 1, 720)).shape == (2, 128, steps)
    assert model.lstm_features(torch.zeros(2, 1, 720)).shape == (2, 40)


def test_parameters_of_ecgnet():
    model = models.build("murugesan", pad=0, n_classes=3)  # as published
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv1d)]
    main = [c for c in convolutions if c.kernel_size != (1,)]
    assert len(main) - 3 == 33  # the four kernels of the stem are one layer
    assert [c.out_channels for c in convolutions if c.kernel_size == (1,)] == [128, 192, 256, 320]
    assert n_parameters(model) == 17_437_879
    assert n_parameters(model.stem, model.blocks, model.tail, model.norm) == 17_017_536
    assert n_parameters(model.lstm) == 29_440
    assert n_parameters(model.head) == 681 * 500 + 501 * 100 + 101 * 3
    to_res8 = [m for m in convolutions if m not in list(model.tail[1:].modules())]
    to_res7 = [m for m in to_res8 if m not in list(model.tail.modules())]
    millions = [round(sum(m.weight.numel() for m in some) / 1e6, 1) for some in (to_res7, to_res8)]
    assert millions == [2.2, 3.2]
    assert all(a.bias is not None for a in convolutions)
    ours = n_parameters(models.build("murugesan"))
    assert ours == 17_437_879 + 320 * 500 + 5 * 101  # a third step of the last map, five more classes


FILTERS = [32] * 4 + [64] * 4 + [128] * 4 + [256] * 4
STEPS = [768, 384, 384, 192, 192, 96, 96, 48, 48, 24, 24, 12, 12, 6, 6, 3]


def test_lengths_and_parameters_of_hannun():
    model = models.build("hannun")
    assert lengths(model, [model.opening, *model.blocks]) == [(32, 768), *zip(FILTERS, STEPS, strict=True)]
    assert lengths(model, [model.dense]) == [(3, 8)]  # a distribution for every 256 samples
    assert sum(isinstance(m, torch.nn.Conv1d) for m in model.modules()) == 33
    assert n_parameters(model) == 10_467_176
    assert model.feature_map(torch.zeros(2, 1, 720)).shape == (2, 64, 48)


def test_hannun_breaks_at_720():
    model = models.build("hannun", pad=0, width=4)
    with pytest.raises(DataError, match=r"sum of 23 and 22 steps.*multiple of 256 samples: pad 720 by 24") as caught:
        model(torch.zeros(1, 1, 720))
    one_line(caught)
    seen = lengths(model, model.blocks[:9], samples=768)  # of 768 no padding is needed
    assert seen[7] == (8, 48)
    block = model.blocks[9]
    assert (block.body(torch.zeros(1, 16, 45)).shape[-1], block.pool(torch.zeros(1, 16, 45)).shape[-1]) == (23, 22)
    for samples in (256, 512, 1024):
        assert model(torch.zeros(1, 1, samples)).shape == (1, 8)
    with pytest.raises(DataError, match="steps"):
        model(torch.zeros(1, 1, 640))


@pytest.mark.parametrize(
    ("hop", "steps"), [(32, [21, 11, 6, 3, 2]), (8, [83, 42, 21, 11, 6])], ids=["published", "hop 8"]
)
def test_lengths_and_parameters_of_zihlmann(hop, steps):
    model = models.build("zihlmann", hop=hop)
    expected = list(zip([1, 64, 96, 128, 160], [33, 17, 9, 5, 3], steps, strict=True))
    assert lengths(model, [model.spectrogram, *model.blocks]) == expected
    padded = [(1, 33, 23), (64, 17, 12), (96, 9, 6), (128, 5, 3), (160, 3, 2)]
    if hop == 32:
        assert lengths(model, [model.spectrogram, *model.blocks], samples=768) == padded
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [*[32] * 5, *[64] * 6, *[96] * 6, *[128] * 6, 160]
    assert [c.stride for c in convolutions] == [*[(1, 1)] * 5, (2, 2)] * 4
    assert n_parameters(*convolutions) == 4_841_248
    # Each direction is a stack of its own: 0.79 M.  Joined after every layer they would have 0.95 M.
    one = 4 * 100 * (480 + 100 + 2) + 2 * 4 * 100 * (100 + 100 + 2)
    assert n_parameters(model.lstm_forward) == n_parameters(model.lstm_backward) == one == 394_400
    joined = torch.nn.LSTM(480, 100, num_layers=3, bidirectional=True)
    assert n_parameters(joined) == 948_800
    assert n_parameters(model) == 5_635_752


# What the layers compute


@pytest.mark.parametrize(("hop", "samples"), [(32, 720), (8, 720), (32, 768)])
def test_spectrogram_is_scipys(hop, samples):
    x = np.random.default_rng(0).standard_normal((3, 1, samples)).cumsum(-1).astype(np.float32)
    x[2, 0, :200] = 0.625  # a flat line has no power, and 0 stays
    _, _, density = scipy.signal.spectrogram(x[:, 0].astype(float), fs=360, nperseg=64, noverlap=64 - hop)
    expected = np.where(density > 0, np.log(np.where(density > 0, density, 1)), 0)
    found = LogSpectrogram(hop)(torch.from_numpy(x))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[:, 0].numpy(), expected, rtol=1e-6, atol=1e-5)
    assert (expected[2, :, 0] == 0).all()
    assert abs(expected[:2]).min() > 1e-3


def test_spectrogram_knows_frequency_power_and_time():
    t = np.arange(720) / 360
    x = np.where(t < 1, 0.5 * np.sin(2 * np.pi * 45 * t), 0.5 * np.sin(2 * np.pi * 90 * t))[None, None]
    density = LogSpectrogram(32)(torch.from_numpy(x))[0, 0].exp()  # (33, 21), mV² / Hz
    assert density.argmax(0).tolist() == [8] * 11 + [16] * 10  # bins of 5.625 Hz; segment 10 begins 40 samples earlier
    assert float(density[:, 3].sum() * 5.625) == pytest.approx(0.125, rel=1e-6)  # mean square of the sine


@pytest.mark.data
def test_spectrogram_of_a_record_is_scipys(mitdb):
    from ecglib.records import read_record

    x = read_record("mitdb", "208", root=mitdb, stop=20.0).signal[:7200].reshape(10, 1, 720)
    _, _, density = scipy.signal.spectrogram(x[:, 0].astype(float), fs=360, nperseg=64, noverlap=32)
    found = LogSpectrogram(32)(torch.from_numpy(x))[:, 0].numpy()
    np.testing.assert_allclose(found, np.log(density), rtol=1e-6, atol=1e-5)


def test_a_flat_window_has_a_finite_gradient():
    x = torch.zeros(1, 1, 720, requires_grad=True)
    warm(models.build("zihlmann", width=4))(x).sum().backward()
    assert float(x.grad.abs().max()) == 0


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "zeros"),
    [
        (48, 16, 1, (7, 8)),
        (48, 16, 2, (7, 7)),
        (45, 16, 2, (7, 8)),
        (6, 5, 2, (1, 2)),
        (11, 5, 2, (2, 2)),
        (9, 1, 2, (0, 0)),
    ],
)
def test_padding_is_that_of_keras(length, kernel, stride, zeros):
    x = torch.ones(1, 1, length)
    padded = pad_same(x, kernel, stride)
    assert padded[0, 0].tolist() == [0.0] * zeros[0] + [1.0] * length + [0.0] * zeros[1]
    steps = F.conv1d(padded, torch.ones(1, 1, kernel), stride=stride).shape[-1]
    assert steps == math.ceil(length / stride)
    both = pad_same(torch.ones(1, 1, 4, length), kernel, stride)
    assert both.shape[-1] == padded.shape[-1]


def hannun_by_hand(w, x):
    """Probabilities of Hannun's network at every 256 samples, in double precision, convolution by unfolding."""
    w = {k: v.double() for k, v in w.items()}

    def conv(h, name, stride=1):
        kernel, steps = w[f"{name}.weight"], -(-h.shape[-1] // stride)
        zeros = max(0, (steps - 1) * stride + 16 - h.shape[-1])
        columns = F.pad(h, (zeros // 2, zeros - zeros // 2)).unfold(2, 16, stride)
        return torch.einsum("nctk,ock->not", columns, kernel) + w[f"{name}.bias"][:, None]

    def active(h, name):
        scale = w[f"{name}.weight"] / (w[f"{name}.running_var"] + 1e-5).sqrt()
        return ((h - w[f"{name}.running_mean"][:, None]) * scale[:, None] + w[f"{name}.bias"][:, None]).clamp(min=0)

    x = x.double()
    h = torch.cat([x[..., 1:25].flip(-1), x, x[..., -25:-1].flip(-1)], -1)
    h = active(conv(h, "opening.0"), "opening.1")
    for i in range(16):
        at, stride = f"blocks.{i}.body", 1 + i % 2
        first = 2 if i else 0
        body = conv(active(h, f"{at}.0") if i else h, f"{at}.{first}", stride)
        body = conv(active(body, f"{at}.{first + 1}"), f"{at}.{first + 4}")
        if stride == 2:
            h = torch.maximum(h[..., 0::2], h[..., 1::2])
        if i in (4, 8, 12):
            h = torch.cat([h, torch.zeros_like(h)], 1)
        h = body + h
    h = active(h, "closing.0").mT  # (N, 3, 8 width)
    return (h @ w["dense.weight"].T + w["dense.bias"]).softmax(-1)


def test_hannun_is_what_the_layers_say(x):
    model = warm(models.build("hannun", width=4, seed=2))
    three = hannun_by_hand(model.state_dict(), x)
    assert three.shape == (3, 3, 8)
    with torch.no_grad():
        torch.testing.assert_close(model(x).double(), three.mean(1).log(), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(model(x).softmax(1).double(), three.mean(1), atol=1e-5, rtol=1e-4)
    assert float(three.std(1).max()) > 0.01  # the three differ, so their mean says something


def ecgnet_by_hand(model, x, pad):
    """Logits of ECGNet written out as its authors' ``forward`` runs it, from the modules' weights."""
    h = model.stem(F.pad(x, (pad, pad), mode="reflect"))
    for i, block in enumerate([*model.blocks, *model.tail]):
        body, skip = h, h
        for layer in block.body:
            body = layer(body)
        if i % 2 == 0:
            body, skip = F.max_pool1d(body, 2), F.max_pool1d(skip, 2)
        if skip.shape[1] != body.shape[1]:
            skip = F.conv1d(skip, block.skip.weight, block.skip.bias)
        h = body + skip
    recurrent, _ = model.lstm(x.view(-1, 12, 60))
    z = torch.cat([model.norm(h).flatten(1), recurrent[:, -1]], 1)
    for layer in model.head:
        z = z @ layer.weight.T + layer.bias
    return z


@pytest.mark.parametrize("pad", [0, 24])
def test_ecgnet_is_what_the_layers_say(x, pad):
    model = warm(models.build("murugesan", width=8, pad=pad, seed=4))
    with torch.no_grad():
        torch.testing.assert_close(model(x), ecgnet_by_hand(model, x, pad), atol=1e-5, rtol=1e-4)
        kinds = [[type(m).__name__ for m in block.body] for block in model.tail]
        assert kinds == [["BatchNorm1d", "ReLU", "Dropout", "Conv1d"] * 2] * 9
        f, h = model.feature_map(x), model.lstm_features(x)
        assert torch.equal(model.classify(f, h), model(x))
        assert float(f.min()) < 0 < float(f.max())
        other = x.flip(0) * 2
        assert torch.equal(model(x, other), model.classify(f, model.lstm_features(other)))
        assert not torch.equal(model(x, other), model(x))


def test_zihlmann_averages_what_both_directions_say(x):
    model = warm(models.build("zihlmann", width=4, hop=8, seed=1))
    with torch.no_grad():
        maps = model.blocks(model.spectrogram(x))  # (3, 20, 3, 6)
        steps = maps.permute(0, 3, 1, 2).reshape(3, 6, 60)
        ahead = model.lstm_forward(steps)[0]
        back = model.lstm_backward(steps.flip(1))[0].flip(1)
        expected = model.dense(torch.stack([torch.cat([ahead[:, t], back[:, t]], 1) for t in range(6)]).mean(0))
        torch.testing.assert_close(model(x), expected, atol=1e-6, rtol=1e-5)
        assert model(x).std() > 1e-3


# Maps of the published networks


def test_grad_cam_of_ecgnet_is_the_slope_of_its_logit(x):
    model = warm(models.build("murugesan", width=4, seed=3)).double()
    with torch.no_grad():
        f, h = model.feature_map(x.double()), model.lstm_features(x.double())
        slope = torch.zeros(3, 8)
        for k in range(8):  # each unit raised by the same at every step: 48 times the mean of the slopes
            up = f.clone()
            up[:, k] += 1e-6
            slope[:, k] = (model.classify(up, h)[:, 5] - model.classify(f, h)[:, 5]) / 1e-6 / 48
    found = cam.grad_cam(model, x.double(), 5)
    torch.testing.assert_close(found, torch.einsum("nk,nkt->nt", slope.double(), f), atol=1e-6, rtol=1e-3)
    assert found.shape == (3, 48)
    assert float(found.std()) > 1e-4
    with pytest.raises(DataError, match=r"Murugesan has no linear head .*use grad_cam") as caught:
        cam.class_activation_map(model, x.double(), 5)
    one_line(caught)


def test_the_45_steps_of_ecgnet_tile_the_window_itself():
    model = models.build("murugesan", width=4, pad=0)
    assert cam.grad_cam(model, torch.ones(2, 1, 720), 0).shape == (2, 45)
    assert cam.step_edges(45).tolist() == list(range(0, 721, 16))
    centres = torch.arange(45.0) * 16 + 7.5  # samples of the window
    expected = torch.arange(720.0).clamp(7.5, 711.5)
    torch.testing.assert_close(cam.upsample(centres), expected, atol=1e-4, rtol=0)
    assert cam.step_edges(48)[[0, -1]].tolist() == [-24, 744]


def test_maps_of_the_others(x):
    model = warm(models.build("hannun", width=4))
    assert cam.grad_cam(model, x, 2).shape == (3, 48)
    for name in ("hannun", "zihlmann"):
        with pytest.raises(DataError, match="has no linear head"):
            cam.class_activation_map(models.build(name, width=4), x, 2)
    with pytest.raises(DataError, match="Zihlmann has no feature_map") as caught:
        cam.grad_cam(models.build("zihlmann", width=4), x, 2)
    one_line(caught)


# Every network


@pytest.fixture(params=ALL, ids=IDS)
def every(request):
    """``make(**more)``: one of the networks, small unless ``width`` says otherwise."""
    name, options = request.param
    return lambda **more: models.build(name, **{"width": 4, **options, **more})


def test_logits_of_every_network(every, x):
    for n_classes in (1, 3, 8):
        with torch.no_grad():
            logits = warm(every(n_classes=n_classes))(x)
        assert logits.shape == (3, n_classes)
        assert torch.isfinite(logits).all()


def test_windows_of_a_batch_do_not_meet_in_any(every, x):
    model = warm(every())
    with torch.no_grad():
        whole, single = model(x), torch.cat([model(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(whole, single, atol=2e-5, rtol=1e-4)
    assert float((whole[0] - whole[1]).abs().max()) > 1e-4


def test_gradient_reaches_every_parameter_of_every_network(every, x):
    model = warm(every()).train()
    F.cross_entropy(model(x), torch.tensor([0, 3, 7])).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name
        if p.dim() > 1:  # a bias right before a batch norm has no effect in train mode
            assert float(p.grad.abs().max()) > 1e-9, name
    model.zero_grad()
    F.cross_entropy(model.eval()(x), torch.tensor([0, 3, 7])).backward()
    assert [n for n, p in model.named_parameters() if not float(p.grad.abs().max()) > 0] == []


def test_seeds_of_every_network(every):
    torch.manual_seed(42)
    before = torch.get_rng_state()
    a, b, c = (every(seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(a, b)
    weights = zip(a.named_parameters(), c.named_parameters(), strict=True)
    assert [n for (n, p), (_, q) in weights if p.dim() > 1 and torch.equal(p, q)] == []


def test_every_network_comes_back_from_its_checkpoint(every, x, tmp_path):
    model = warm(every(n_classes=5, dropout=0.3))
    again = models.load(models.save(model, tmp_path / "net"))
    assert type(again) is type(model)
    assert again.options == model.options
    assert {m.p for m in again.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}
    with torch.no_grad():
        torch.testing.assert_close(again(x), model(x), atol=2e-2, rtol=2e-2)
    assert same(again, models.load(models.save(again, tmp_path / "twice")))


def test_options_of_the_published_networks():
    for name, option, bad in (
        ("zihlmann", "hop", (0, 65)),
        ("murugesan", "pad", (-1, 720)),
        ("murugesan", "width", (6,)),
    ):
        for value in bad:
            with pytest.raises(DataError, match=f"{option} is {value}") as caught:
                models.build(name, **{option: value})
            one_line(caught)


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
