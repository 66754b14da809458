"""What is hidden: closed forms of a linear network, and a slow loop."""

import pytest
import torch
from torch import nn

from ecglib import models
from ecglib.errors import DataError
from ecglib.hiding import feature_ablation, occlusion

pytestmark = pytest.mark.usefixtures("one_thread")
SINGLE = {"atol": 1e-6, "rtol": 1e-6}  # captum's precision


@pytest.fixture(scope="module")
def x():
    return torch.randn(3, 1, 720, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.fixture(scope="module")
def linear():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(720, 5)).double()


def test_occlusion_by_hand():
    """A sum of six samples: each is in one or two stretches, and gets the mean of what they hold."""

    class Sum(nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0].sum(1), -x[:, 0].sum(1)], 1)

    x = torch.tensor([[[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]]])
    found = occlusion(Sum(), x, 0, width=3, stride=2)  # 0-2: 7, 2-4: 28, 4-5: 48
    assert found.tolist() == [[7.0, 7.0, 17.5, 28.0, 38.0, 48.0]]
    assert occlusion(Sum(), x, 1, width=1, stride=1).tolist() == (-x[0]).tolist()
    assert occlusion(Sum(), x, 0, width=2, stride=2, baseline=1.0).tolist() == [[1.0, 1.0, 10.0, 10.0, 46.0, 46.0]]
    ablated = feature_ablation(Sum(), x, 0, parts=torch.tensor([0, 0, 1, 2, 2, 0]))
    assert ablated.tolist() == [[35.0, 35.0, 4.0, 24.0, 24.0, 35.0]]


@pytest.mark.parametrize("baseline", [0.0, "mean"])
def test_of_a_linear_network(linear, x, baseline):
    c = torch.tensor([0, 4, 2])
    rest = x.mean(-1, keepdim=True) if baseline == "mean" else torch.zeros_like(x)
    share = (linear[1].weight.detach()[c] * (x - rest)[:, 0]).reshape(3, 48, 15)
    expected = share.sum(2, keepdim=True).expand(3, 48, 15).flatten(1)
    torch.testing.assert_close(feature_ablation(linear, x, c, baseline=baseline), expected, **SINGLE)
    occluded = occlusion(linear, x, c, width=15, stride=15, baseline=baseline)
    torch.testing.assert_close(occluded, expected, **SINGLE)


@pytest.mark.parametrize("of", ["logit", "probability"])
@pytest.mark.parametrize("name", ["hannun", "murugesan-gap"])
def test_occlusion_is_a_loop(x, name, of):
    net, width, stride = models.build(name, width=4, seed=1).double(), 100, 70
    total, count = torch.zeros(3, 720, dtype=torch.float64), torch.zeros(720)

    def score(signal):
        with torch.no_grad():
            logits = net(signal)
        return (logits.softmax(1) if of == "probability" else logits)[:, 6]

    for begin in range(0, 720, stride):
        hidden = x.clone()
        hidden[..., begin : begin + width] = 0.3
        total[:, begin : begin + width] += (score(x) - score(hidden))[:, None]
        count[begin : begin + width] += 1
        if begin + width >= 720:
            break
    found = occlusion(net, x, 6, width=width, stride=stride, baseline=0.3, of=of)
    torch.testing.assert_close(found, total / count, **SINGLE)


def test_errors(linear, x, one_line):
    for call, parts in (
        (lambda: occlusion(linear, x, 0, width=10, stride=11), ("width is 10", "stride 11")),
        (lambda: occlusion(linear, x, 0, width=721), ("width is 721", "720")),
        (lambda: occlusion(linear, x, 0, stride=0), ("stride 0",)),
        (lambda: feature_ablation(linear, x, 0, parts=torch.zeros(48)), ("720", "(48,)")),
    ):
        with pytest.raises(DataError) as caught:
            call()
        one_line(caught, *parts)
