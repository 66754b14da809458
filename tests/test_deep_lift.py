"""DeepLIFT: rules by hand, captum where captum holds, and contributions that add up on every network."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ecglib import models
from ecglib.batching import resting
from ecglib.deep_lift import deep_lift

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def x():
    return torch.randn(4, 1, 720, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


class Of(nn.Module):
    """One logit from a function of the window."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x[:, 0]).reshape(len(x), -1)[:, :1]


def contributions(function, x, baseline):
    return deep_lift(Of(function), torch.tensor([[x]]), 0, baseline=torch.tensor([[baseline]]))[0].tolist()


def test_rules_by_hand():
    assert contributions(lambda z: F.relu(z).sum(1), [3.0, 1.0, -2.0], [-1.0, -1.0, -1.0]) == [3.0, 1.0, 0.0]
    # the ReLU lets 2 of a difference of 4 pass: half of what each sample adds to it
    assert contributions(lambda z: F.relu(z.sum(1)), [3.0, -1.0], [-1.0, -1.0]) == [2.0, 0.0]
    assert contributions(lambda z: F.relu(z.sum(1)), [3.0, -1.0], [-1.0, -3.0]) == pytest.approx([4 / 3, 2 / 3])
    assert contributions(lambda z: z[:, 0] * z[:, 1], [3.0, 5.0], [1.0, 1.0]) == [2 * 3.0, 4 * 2.0]  # Δu v̄ + Δv ū
    assert contributions(lambda z: z[:, 0] / z[:, 1], [6.0, 2.0], [2.0, 1.0]) == [4 * 0.75, -0.5 * 4]
    assert contributions(lambda z: z.square().sum(1), [3.0, 2.0], [1.0, -2.0]) == [8.0, 0.0]
    # pooling: the maximum rose from 1 to 5, and sample 1 has it now; then it fell from 5 to 2, and sample 1 had it
    assert contributions(lambda z: F.max_pool1d(z[:, None], 2), [0.0, 5.0], [1.0, 0.0]) == [0.0, 4.0]
    assert contributions(lambda z: F.max_pool1d(z[:, None], 2), [2.0, 0.0], [1.0, 5.0]) == [0.0, -3.0]
    assert contributions(lambda z: F.max_pool1d(z[:, None], 2), [1.0, 2.0], [5.0, 5.0]) == [0.0, -3.0]  # both had it
    assert contributions(lambda z: z.std(1, unbiased=False), [1.0, -1.0], [0.0, 0.0]) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(
    "function",
    [
        lambda z: torch.logsumexp(z, 1), lambda z: z.softmax(1), lambda z: F.log_softmax(z[:, :9], dim=1),
        lambda z: z.std(1), lambda z: z.std(1, correction=0), lambda z: torch.where(z > 0, z.exp(), 1.0).sum(1),
        lambda z: (z.tanh() * F.gelu(z)).sum(1), lambda z: (z / (1 + z**2)).sum(1), lambda z: F.relu_(1 * z).sum(1),
        lambda z: F.max_pool1d(z[:, None], 3, 2).sum(2), lambda z: nn.ReLU(inplace=True)(2 * z).sum(1),
        lambda z: F.max_pool1d(z[:, None], kernel_size=5, stride=5, padding=1).sum(2),
        lambda z: (100 * z).logsumexp(1, keepdim=True),  # classes that are hundreds apart
    ],
)  # fmt: skip
def test_contributions_add_up(x, function):
    for baseline in (0.0, "mean", 0.4 * x.roll(1, 0)):
        found, rest = deep_lift(Of(function), x, 0, baseline=baseline), resting(baseline, x)
        gap = Of(function)(x) - Of(function)(rest)
        torch.testing.assert_close(found.sum(1), gap[:, 0], atol=1e-9, rtol=1e-9)


class Recurrent(nn.Module):
    def __init__(self, **options):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.lstm = nn.LSTM(60, 7, **options)
        self.first = options.get("batch_first", False)

    def forward(self, x):
        steps = x.reshape(len(x), 12, 60)
        out, (h, c) = self.lstm(steps if self.first else steps.transpose(0, 1))
        last = out[:, -1] if self.first else out[-1]
        return torch.cat([last, h.transpose(0, 1).flatten(1), c.transpose(0, 1).flatten(1)], 1)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_first": True}, {"num_layers": 2}, {"num_layers": 2, "bidirectional": True, "batch_first": True},
        {"bias": False, "bidirectional": True}, {"num_layers": 3, "dropout": 0.5, "batch_first": True},
    ],
)  # fmt: skip
def test_an_lstm_adds_up(x, options):
    net = Recurrent(**options).double().eval()
    with torch.no_grad():
        gap = net(x) - net(0 * x)
    for output in (0, 6, gap.shape[1] - 1):  # of the last step, of h and of c
        torch.testing.assert_close(deep_lift(net, x, output).sum(1), gap[:, output], atol=1e-12, rtol=1e-10)


def test_what_it_does_not_know_passes_as_a_gradient(x):
    gru = nn.GRU(60, 7, batch_first=True).double()
    net = Of(lambda z: gru(z.reshape(len(z), 12, 60))[0][:, -1])
    found, gap = deep_lift(net, x, 0).sum(1), (net(x) - net(0 * x))[:, 0]
    assert torch.isfinite(found).all()
    assert not torch.allclose(found, gap)
    projected = Recurrent(batch_first=True, proj_size=3).double()
    assert torch.isfinite(deep_lift(projected, x, 0)).all()


@pytest.mark.parametrize("name", [*models.MODELS])
@pytest.mark.parametrize("of", ["logit", "probability"])
def test_every_network_adds_up(x, name, of):
    net = models.build(name, width=4, seed=1).double()
    for baseline in (0.0, x.roll(1, 0)):
        with torch.no_grad():
            scores = [net(s).softmax(1) if of == "probability" else net(s) for s in (x, resting(baseline, x))]
        c = torch.tensor([0, 2, 5, 7])
        gap = (scores[0] - scores[1]).gather(1, c[:, None])[:, 0]
        found = deep_lift(net, x, c, baseline=baseline, of=of)
        torch.testing.assert_close(found.sum(1), gap, atol=1e-12, rtol=1e-9)
    single = deep_lift(net.float(), x.float(), c)
    torch.testing.assert_close(
        single.sum(1), (net(x.float()) - net(0 * x.float())).detach()[range(4), c], atol=1e-4, rtol=1e-4
    )


def test_captum_agrees_where_it_holds(x):
    attr = pytest.importorskip("captum.attr")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv1d(1, 5, 9, stride=4), nn.ReLU(), nn.Conv1d(5, 6, 5), nn.Tanh(), nn.Flatten(),
                            nn.Linear(6 * 174, 12), nn.Sigmoid(), nn.Linear(12, 3)).double().eval()  # fmt: skip
    with pytest.warns(UserWarning, match="hooks"):
        expected = attr.DeepLift(net).attribute(x.clone().requires_grad_(), 0 * x + 0.2, target=1)[:, 0].detach()
    torch.testing.assert_close(deep_lift(net, x, 1, baseline=0.2), expected)


def test_captum_does_not_hold_here(x):
    """If a later captum does, this module may go."""
    attr = pytest.importorskip("captum.attr")
    net = models.build("murugesan-gap", width=4).double()
    with pytest.raises(RuntimeError, match="used more than once"), pytest.warns(UserWarning, match="hooks"):
        attr.DeepLift(net).attribute(x.clone().requires_grad_(), 0 * x, target=1)
