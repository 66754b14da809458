"""Which layers lose their weights, in which order, and what similarity and distance say by hand."""

import copy
import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from ecglib import models
from ecglib.attribution import attribute
from ecglib.errors import DataError, UnknownNameError
from ecglib.sanity import (
    cascading_randomisation,
    independent_randomisation,
    other_class,
    permute_labels,
    random_logit,
    similarity,
)

pytestmark = pytest.mark.usefixtures("one_thread")

ORDER = (
    "head lstm norm "
    "blocks.6.body.7 blocks.6.body.4 blocks.6.body.3 blocks.6.body.0 "
    "blocks.5.body.7 blocks.5.body.4 blocks.5.body.3 blocks.5.body.0 "
    "blocks.4.body.7 blocks.4.body.4 blocks.4.body.3 blocks.4.body.0 "
    "blocks.3.skip blocks.3.body.7 blocks.3.body.4 blocks.3.body.3 blocks.3.body.0 "
    "blocks.2.body.7 blocks.2.body.4 blocks.2.body.3 blocks.2.body.0 "
    "blocks.1.body.7 blocks.1.body.4 blocks.1.body.3 blocks.1.body.0 "
    "blocks.0.body.4 blocks.0.body.1 blocks.0.body.0 "
    "stem.norm stem.convs.3 stem.convs.2 stem.convs.1 stem.convs.0"
).split()


@pytest.fixture(scope="module")
def net():
    """An untrained network whose every number differs from what a reset could give."""
    net = models.build("murugesan-gap", width=4, seed=1)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                tensor.add_(0.37 + 0.01 * len(name))
            else:
                tensor.add_(5)
    return net


def same(a, b):
    """Names of tensors that two networks have in common."""
    other = b.state_dict()
    return {k for k, v in a.state_dict().items() if torch.equal(v, other[k])}


# Weights --------------------------------------------------------------------------------------------------------------


def test_the_cascade_goes_from_the_head_to_the_stem(net):
    before, lost = copy.deepcopy(net), set()
    found = list(cascading_randomisation(net, seed=0))
    assert [name for name, _ in found] == ORDER
    for name, copied in found:
        lost |= {k for k in net.state_dict() if k.startswith(f"{name}.")}
        assert same(copied, net) == set(net.state_dict()) - lost
    assert same(before, net) == set(net.state_dict())  # the original is untouched
    assert same(found[-1][1], net) == set()
    assert len({id(p) for _, copied in found for p in copied.parameters()}) == len(ORDER) * len(list(net.parameters()))
    norm = found[-1][1].blocks[3].body[0]  # batch statistics, too
    assert norm.running_mean.tolist() == [0.0] * 4
    assert norm.running_var.tolist() == [1.0] * 4
    assert int(norm.num_batches_tracked) == 0


def test_steps_can_be_blocks(net):
    found = list(cascading_randomisation(net, seed=0, depth=2))
    blocks = [f"blocks.{i}" for i in range(6, -1, -1)]
    assert [name for name, _ in found] == ["head", "lstm", "norm", *blocks, "stem.norm", "stem.convs"]
    assert [name for name, _ in cascading_randomisation(net, seed=0, depth=1)] == [
        "head",
        "lstm",
        "norm",
        "blocks",
        "stem",
    ]
    by_layer = dict(cascading_randomisation(net, seed=0))
    assert same(found[3][1], by_layer["blocks.6.body.0"]) == set(net.state_dict())  # however they are taken together


def test_independent_randomisation_takes_one_layer_from_the_whole(net):
    cascade = dict(cascading_randomisation(net, seed=3))
    for name, copied in independent_randomisation(net, seed=3):
        own = {k for k in net.state_dict() if k.startswith(f"{name}.")}
        assert set(net.state_dict()) - same(copied, net) == own
        assert own <= same(copied, cascade[name])  # the same new weights as in the cascade


def test_new_weights_are_the_seeds(net):
    torch.manual_seed(9)
    a, b, c = (dict(itertools.islice(cascading_randomisation(net, seed=s), 2))["lstm"] for s in (0, 0, 1))
    assert same(a, b) == set(net.state_dict())
    assert not {"head.weight", "lstm.weight_ih_l0", "lstm.bias_hh_l1"} & same(a, c)
    after = torch.rand(1)
    torch.manual_seed(9)
    assert torch.equal(after, torch.rand(1))
    assert float(a.lstm.weight_hh_l1.detach().abs().max()) <= 40**-0.5  # torch's: uniform in ±1 / sqrt(hidden)
    assert float(a.lstm.weight_hh_l1.detach().std()) == pytest.approx(40**-0.5 / 3**0.5, rel=0.05)


def test_copies_keep_modes_and_gradients(net):
    net = copy.deepcopy(net).train()
    net.lstm.eval()
    net.head.bias.requires_grad_(False)
    for _, copied in itertools.islice(cascading_randomisation(net, seed=0), 3):
        assert [m.training for m in copied.modules()] == [m.training for m in net.modules()]
        assert [p.requires_grad for p in copied.parameters()] == [p.requires_grad for p in net.parameters()]


@pytest.mark.parametrize("name", ["hannun", "zihlmann", "murugesan"])
def test_other_networks(name):
    net = models.build(name, width=4)
    names = [n for n, _ in cascading_randomisation(net, seed=0)]
    assert names[0] == {"hannun": "dense", "zihlmann": "dense", "murugesan": "head.2"}[name]
    assert names[-1] == {"hannun": "opening.0", "zihlmann": "blocks.0.0", "murugesan": "stem.convs.0"}[name]
    owners = {k.rsplit(".", 1)[0] for k in net.state_dict()}
    assert set(names) == owners


def test_what_cannot_be_randomised(net, one_line):
    class Raw(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

    with pytest.raises(DataError) as caught:
        list(cascading_randomisation(nn.Sequential(Raw()), seed=0))
    one_line(caught, "layer '0' (Raw)", "reset_parameters")
    with pytest.raises(DataError, match="depth is 0; give at least 1"):
        list(cascading_randomisation(net, seed=0, depth=0))


def test_a_map_loses_its_likeness_and_a_control_does_not(net):
    x = torch.randn(3, 1, 720, generator=torch.Generator().manual_seed(0))
    last = list(cascading_randomisation(models.build("murugesan-gap", width=8), seed=0, depth=1))[-1][1]
    first = models.build("murugesan-gap", width=8)
    for method, low, high in (("cam", -1, 0.9), ("gradient", -0.5, 0.5), ("amplitude", 1, 1)):
        found = similarity(attribute(method, first, x, 2), attribute(method, last, x, 2))
        assert low <= found.mean() <= high


# Similarity -------------------------------------------------------------------------------------------------------------


def test_similarity_by_hand():
    a = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]])
    b = np.array([[-1.0, -4.0, -9.0, -16.0], [1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 2.0, 0.0]])
    np.testing.assert_allclose(similarity(a, b), [-1, np.nan, 1])
    np.testing.assert_allclose(similarity(a, b, absolute=True), [1, np.nan, 1])
    linear = np.corrcoef(a[0], a[0] ** 2)[0, 1]
    np.testing.assert_allclose(similarity(a, torch.from_numpy(b), kind="pearson"), [-linear, np.nan, 1])
    np.testing.assert_allclose(similarity(a, b, kind="pearson", absolute=True), [linear, np.nan, 1])
    np.testing.assert_allclose(similarity(a, 3 * a, kind="ssim"), [1, 1, 1])
    np.testing.assert_allclose(similarity(a[2:], 0 * a[2:], kind="ssim"), [np.nan])
    assert similarity(a[:0], a[:0]).shape == (0,)


def test_similarity_is_scipys():
    rng = np.random.default_rng(0)
    a, b = np.round(rng.standard_normal((5, 60)), 1), np.round(rng.standard_normal((5, 60)), 1)
    for absolute, f in ((False, np.asarray), (True, np.abs)):
        by_rank = [stats.spearmanr(f(x), f(y)).statistic for x, y in zip(a, b, strict=True)]
        by_value = [stats.pearsonr(f(x), f(y)).statistic for x, y in zip(a, b, strict=True)]
        np.testing.assert_allclose(similarity(a, b, absolute=absolute), by_rank, atol=1e-12)
        np.testing.assert_allclose(similarity(a, b, kind="pearson", absolute=absolute), by_value, atol=1e-12)


@pytest.mark.parametrize(("absolute", "span"), [(False, 2), (True, 1)])
def test_structural_similarity_is_a_loop(absolute, span):
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 90)), rng.standard_normal((2, 90))
    for x, y, found in zip(a, b, similarity(a, b, kind="ssim", absolute=absolute), strict=True):
        x, y = (np.abs(x), np.abs(y)) if absolute else (x, y)
        x, y = x / np.abs(x).max(), y / np.abs(y).max()
        local = []
        for t in range(20, 70):  # away from the ends, where scipy reflects
            weight = np.exp(-0.5 * (np.arange(-20, 21) / 5) ** 2)
            weight /= weight.sum()
            near_x, near_y = x[t - 20 : t + 21], y[t - 20 : t + 21]
            m_x, m_y = weight @ near_x, weight @ near_y
            v_x, v_y = weight @ (near_x - m_x) ** 2, weight @ (near_y - m_y) ** 2
            v_xy = weight @ ((near_x - m_x) * (near_y - m_y))
            c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
            local.append((2 * m_x * m_y + c1) * (2 * v_xy + c2) / ((m_x**2 + m_y**2 + c1) * (v_x + v_y + c2)))
        middle = similarity_map(x, y, span)[20:70]
        np.testing.assert_allclose(middle, local, atol=1e-9)
        assert found == pytest.approx(similarity_map(x, y, span).mean())


def similarity_map(x, y, span):
    """Local values of what `similarity` averages, through a stretch of one sample at a time."""
    from scipy.ndimage import gaussian_filter1d

    smooth = lambda v: gaussian_filter1d(v, 5)  # noqa: E731
    m_x, m_y, c1, c2 = smooth(x), smooth(y), (0.01 * span) ** 2, (0.03 * span) ** 2
    top = (2 * m_x * m_y + c1) * (2 * (smooth(x * y) - m_x * m_y) + c2)
    return top / ((m_x**2 + m_y**2 + c1) * (smooth(x * x) - m_x**2 + smooth(y * y) - m_y**2 + c2))


def test_errors_of_similarity(one_line):
    a = np.zeros((2, 5))
    for call, kind, parts in (
        (lambda: similarity(a, a, kind="hog"), UnknownNameError, ("unknown similarity 'hog'", "ssim")),
        (lambda: similarity(a, a[:1]), DataError, ("(2, 5)", "(1, 5)")),
        (lambda: similarity(a[0], a[0]), DataError, ("(N, T)", "(5,)")),
        (lambda: similarity(a, a + np.nan, kind="ssim"), DataError, ("NaN",)),
    ):
        with pytest.raises(kind) as caught:
            call()
        one_line(caught, *parts)


# Classes and labels -------------------------------------------------------------------------------------------------------


def test_random_logit_by_hand():
    """Two classes read one place and its opposite, the third another place."""
    head = nn.Linear(720, 3, bias=False)
    with torch.no_grad():
        head.weight.zero_()
        head.weight[0, 10], head.weight[1, 10], head.weight[2, 10] = 1.0, -1.0, 1.0
    net, x = nn.Sequential(nn.Flatten(), head), torch.ones(60, 1, 720)
    true = torch.zeros(60, dtype=torch.long)
    other = other_class(true, n_classes=3, seed=5).numpy()
    assert set(other) == {1, 2}
    found = random_logit("gradient", net, x, 0, seed=5, kind="pearson")
    np.testing.assert_allclose(found, np.where(other == 1, 2, 0), atol=1e-6)
    np.testing.assert_allclose(random_logit("gradient", net, x, true, seed=5, absolute=True), 0, atol=1e-6)
    np.testing.assert_allclose(random_logit("amplitude", net, x + torch.rand(720), true, seed=5), 0, atol=1e-6)


def test_other_classes_are_even_and_never_the_same():
    target = torch.arange(8).repeat(2000)
    other = other_class(target, n_classes=8, seed=0)
    table = np.zeros((8, 8), int)
    np.add.at(table, (target.numpy(), other.numpy()), 1)
    assert np.diag(table).tolist() == [0] * 8
    assert table[~np.eye(8, dtype=bool)].min() > 2000 / 7 * 0.75
    assert torch.equal(other, other_class(target, n_classes=8, seed=0))
    with pytest.raises(DataError, match="n_classes is 1"):
        other_class(target, n_classes=1, seed=0)


def test_permuted_labels(make_windows):
    record, label = ["100"] * 30 + ["101"] * 50 + ["103"] * 20, ["N"] * 40 + ["PVC"] * 40 + ["AFIB"] * 20
    windows = make_windows(record, label, np.arange(100.0))
    before = windows.y.copy()
    dealt = permute_labels(windows, seed=0)
    assert dealt.counts().tolist() == windows.counts().tolist()
    assert dealt.time.tolist() == windows.time.tolist()
    assert 0.2 < (dealt.y == windows.y).mean() < 0.55  # chance: 0.4² + 0.4² + 0.2² = 0.36
    assert windows.y.tolist() == before.tolist()
    assert permute_labels(windows, seed=0).y.tolist() == dealt.y.tolist()
    assert permute_labels(windows, seed=1).y.tolist() != dealt.y.tolist()
    for group in ("patient", "record"):
        inside = permute_labels(windows, seed=0, within=group)
        for one in ("100", "101", "103"):
            own = windows.record == one
            assert sorted(inside.y[own]) == sorted(windows.y[own])
        assert (inside.y[30:80] != windows.y[30:80]).sum() > 5
        assert (inside.y[:30] == 0).all()  # one class in, one class out
    with pytest.raises(UnknownNameError, match="unknown group 'class'"):
        permute_labels(windows, seed=0, within="class")
