"""Recipes end where the arithmetic says, and their maps are compared as scipy would."""

import inspect
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from ecglib import mask_sweep, models
from ecglib.errors import DataError, UnknownNameError
from ecglib.mask_settings import BASE, SETTINGS
from ecglib.mask_sweep import Outcome
from ecglib.masks import RECIPES, learn_mask, lstm_score

pytestmark = pytest.mark.usefixtures("one_thread")

ONES = torch.ones(1, 1, 6, dtype=torch.float64)  # with k = 0 the masked signal is the mask
WEIGHT = torch.tensor([3.0, -1.0, 0.5, 2.0, 0.0, 1.5], dtype=torch.float64)
BOX = {"of": "logit", "area": "sum", "lambda_area": 1.0, "lambda_tv": 0.0, "fill": 0.0, "clamp": True}


def linear(masked):
    return (masked[:, 0] * WEIGHT).sum(-1)


def quadratic(masked):
    """Least at 0.2, 0.4 … where nothing else pulls."""
    return 5 * ((masked[:, 0] - torch.arange(1, 7) / 5) ** 2).sum(-1)


def setting(**changes):
    return {**BOX, "optimizer": "adam", "lr": 0.05, "n_iter": 200, "init": 1.0, **changes}


# The path


@pytest.fixture(scope="module")
def net():
    model = models.build("murugesan-gap", width=4, seed=1)
    with torch.no_grad():
        model.lstm.weight_ih_l0.mul_(3)
        model.head.weight[:, 8:].mul_(30)
    return model


@pytest.fixture(scope="module")
def x():
    return torch.randn(3, 1, 720, generator=torch.Generator().manual_seed(3), dtype=torch.float64).cumsum(-1) / 20


@pytest.mark.parametrize("fill", [0.0, 0.4, "mean", "linear", "blurred"])
@pytest.mark.parametrize("name", ["deck", "settled"])
def test_a_path_is_what_shorter_runs_end_at(net, x, name, fill):
    options = {k: v for k, v in BASE[name].items() if k not in {"of", "n_iter"}} | {"fill": fill}
    score = lstm_score(net, x, torch.tensor([0, 7, 3]), of="logit")
    along = mask_sweep.path(score, x, at=[0, 7, 40, 21], **options)
    tolerance = 1e-9 if name == "deck" else 1e-5  # at the kinks of |.| a rounding turns a step round
    assert torch.equal(along[0], torch.full((3, 720), options["init"], dtype=torch.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for mask, n in zip(along[1:], (7, 40, 21), strict=True):
            torch.testing.assert_close(mask, learn_mask(score, x, n_iter=n, **options).mask, atol=tolerance, rtol=0)
    assert float((along[2] - along[3]).abs().max()) > 0.01


def test_a_path_without_a_step(x):
    with pytest.raises(DataError, match=r"one at least 1 .*, received \[0\]"):
        mask_sweep.path(linear, x, at=[0])
    with pytest.raises(DataError, match="none beyond the last, received \\[1, 9\\]"):
        mask_sweep.path(linear, x, at=[1, 9], lr=((0.1, 4), (0.01, 4)))
    with pytest.raises(DataError, match="received \\[\\]"):
        mask_sweep.path(linear, x, at=[])


def test_under_the_deck_no_value_outruns_the_rate():
    found = mask_sweep.path(linear, ONES, at=[1, 10, 500], lr=0.001)
    torch.testing.assert_close(found[0, 0], torch.tensor([-1, 1, 1, -1, 1, -1]).double() * 0.001, atol=1e-8, rtol=0)
    assert [float(m.abs().max()) for m in found] == pytest.approx([0.001, 0.01, 0.5], abs=1e-5)


def test_rates_may_fall():
    """Each stage goes on from where the last one ended."""
    found = mask_sweep.path(linear, ONES, at=[3, 4, 6], lr=((0.1, 4), (0.01, 2)), lambda_tv=0.0)
    way = torch.tensor([-1, 1, 1, -1, 1, -1]).double()
    for mask, far in zip(found, (0.3, 0.4, 0.42), strict=True):
        torch.testing.assert_close(mask[0], way * far, atol=1e-6, rtol=0)


def test_what_replaces():
    ramp = torch.tensor([[[1.0, 5.0, -3.0]]])
    assert mask_sweep.replacement(ramp, 0.25).tolist() == [[[0.25] * 3]]
    assert mask_sweep.replacement(ramp, "mean").tolist() == [[[1.0] * 3]]
    assert mask_sweep.replacement(ramp, "linear").tolist() == [[[1.0, -1.0, -3.0]]]
    pulse = torch.zeros(2, 1, 720)
    pulse[0, 0, 300], pulse[1] = 1.0, 2.0
    blurred = mask_sweep.replacement(pulse, "blurred")
    assert float(blurred[0, 0, 300]) == pytest.approx(1 / (36 * np.sqrt(2 * np.pi)), rel=1e-3)  # 0.1 s are 36 samples
    assert float(blurred[0, 0, 336] / blurred[0, 0, 300]) == pytest.approx(np.exp(-0.5), rel=1e-3)
    torch.testing.assert_close(blurred[1], pulse[1])
    with pytest.raises(UnknownNameError, match="unknown fill 'blur'; did you mean 'blurred'"):
        mask_sweep.replacement(pulse, "blur")


# Slopes


def test_slopes_and_drift_of_a_quadratic():
    """Slopes 2 a (n lr - c) at steps n = 0, 1, 2: the sum is theirs, the drift what each exceeds the mean so far by."""
    slope, drift = mask_sweep.slopes(quadratic, ONES, lr=0.1, n_iter=3)
    c = torch.arange(1, 7) / 5
    torch.testing.assert_close(slope[0], (10 * (0.3 - 3 * c)).double())
    torch.testing.assert_close(drift[0], torch.full((6,), 0.0 + 0.5 + 1.0, dtype=torch.float64))


def test_adam_prints_the_drift_and_sgd_the_slope():
    t = torch.arange(40, dtype=torch.float64)
    wave = torch.zeros(1, 1, 40, dtype=torch.float64) + 1 + torch.sin(t / 3)

    def score(masked):
        return torch.tanh((masked[:, 0] * torch.cos(t)).sum(-1) / 5) * 0.05

    options = {"lr": 0.001, "lambda_tv": 0.0, "at": [500]}
    slope, drift = mask_sweep.slopes(score, wave, lr=0.001, n_iter=500)
    adam = 1 - mask_sweep.path(score, wave, **options)[0, 0]
    sgd = 1 - mask_sweep.path(score, wave, optimizer="sgd", **options)[0, 0]
    assert spearmanr(sgd, slope[0]).statistic > 0.999
    assert spearmanr(adam, drift[0]).statistic > 0.99
    assert spearmanr(adam, slope[0]).statistic < -0.9  # the slope falls on its way: the ranking turns round


# Minima


def test_objective_written_out():
    x = torch.tensor([[[1.0, 2.0, 4.0]]], dtype=torch.float64)
    mask = torch.tensor([[1.0, 0.5, 0.0]], dtype=torch.float64)
    options = {"area": "sum", "lambda_area": 2.0, "lambda_tv": 0.1, "fill": 1.0}
    j, value = mask_sweep.objective(lambda m: m[:, 0].sum(-1), x, mask, options)
    assert float(value) == pytest.approx(1 + 1.5 + 1)
    assert float(j) == pytest.approx(2 * 1.5 + 0.1 * 1 + 3.5)
    j, _ = mask_sweep.objective(lambda m: m[:, 0].sum(-1), x, mask, {**options, "area": "mean"})
    assert float(j) == pytest.approx(2 * 0.5 + 0.1 * 1 + 3.5)


def test_least_of_a_linear_score():
    """A sample is deleted where it lowers the score by more than it costs."""
    mask = mask_sweep.least(linear, ONES, BOX)
    assert mask.tolist() == [[0, 1, 1, 0, 1, 0]]


def test_least_of_a_quadratic_score():
    """2 a (m - c) = lambda, or the edge of the box."""
    mask = mask_sweep.least(quadratic, ONES, BOX)
    torch.testing.assert_close(mask[0], torch.tensor([0.3, 0.5, 0.7, 0.9, 1.0, 1.0]).double(), atol=0.01, rtol=0)
    j = mask_sweep.objective(quadratic, ONES, mask, BOX)[0]
    exact = torch.tensor([[0.3, 0.5, 0.7, 0.9, 1.0, 1.0]]).double()
    assert float(j - mask_sweep.objective(quadratic, ONES, exact, BOX)[0]) < 1e-3


def test_least_with_roughness():
    """So dear that all samples go together: the sum of the weights, 6, outweighs the area, 6 · 0.9."""
    rough = {**BOX, "lambda_tv": 100.0, "lambda_area": 0.9}
    assert mask_sweep.least(linear, ONES, rough).tolist() == [[0] * 6]
    assert mask_sweep.least(linear, ONES, {**rough, "lambda_area": 1.1}).tolist() == [[1] * 6]


def test_of_a_probability_the_decks_minimum_deletes_next_to_nothing():
    """J(1) is at most 1, so an area over 1 cannot be the least."""
    x = torch.randn(4, 1, 50, generator=torch.Generator().manual_seed(0)).double()
    weight = torch.randn(50, generator=torch.Generator().manual_seed(1)).double()

    def probability(masked):
        return torch.sigmoid((masked[:, 0] * weight).sum(-1))

    mask = mask_sweep.least(probability, x, BASE["deck"])
    assert float((1 - mask).abs().sum(1).max()) <= 1


# The sweep


def test_sweep_of_a_linear_score():
    settings = {
        "far": setting(),
        "short": setting(lr=0.001, init=0.0, n_iter=500),
        "half": setting(lr=0.001, init=0.0, n_iter=250),
        "dear": setting(lambda_area=5.0),
    }
    found = mask_sweep.sweep(lambda of: linear, ONES, settings)
    assert list(found) == list(settings)
    np.testing.assert_allclose(found["far"].mask, [[0, 1, 1, 0, 1, 0]], atol=0.05)
    np.testing.assert_allclose(found["short"].mask, [[0, 0.5, 0.5, 0, 0.5, 0]], atol=1e-3)
    np.testing.assert_allclose(found["half"].mask, [[0, 0.25, 0.25, 0, 0.25, 0]], atol=1e-3)
    far, short = found["far"], found["short"]
    assert [float(v[0]) for v in (far.least, far.idle)] == pytest.approx([2.5, 6.0], abs=1e-6)
    assert 0 <= float(far.objective[0]) - 2.5 < 0.02
    assert [float(v[0]) for v in (far.before, far.after)] == pytest.approx([6.0, -0.5], abs=0.02)
    assert [o.best.tolist() for o in (short, found["dear"])] == [[[0, 1, 1, 0, 1, 0]], [[1] * 6]]
    assert float(short.objective[0]) == pytest.approx(3 + 1.5 - 0.25, abs=0.01)
    assert {n: bool(o.reached()[0]) for n, o in found.items()} == {"far": 1, "short": 0, "half": 0, "dear": 1}
    assert {n: bool(o.reached(idle=True)[0]) for n, o in found.items()} == {"far": 0, "short": 0, "half": 0, "dear": 1}
    np.testing.assert_allclose(far.relevance, [[1, 0, 0, 1, 0, 1]], atol=0.05)


def test_a_setting_may_beat_the_search(monkeypatch):
    """The least known is the least of all that were seen."""
    monkeypatch.setattr(mask_sweep, "least", lambda score, x, setting: torch.ones_like(x[:, 0]))
    found = mask_sweep.sweep(lambda of: linear, ONES, {"far": setting(), "idle": setting(n_iter=1, lr=1e-9)})
    assert float(found["idle"].least[0]) == pytest.approx(2.5, abs=0.02)
    assert not found["idle"].reached()[0]


def test_reached_is_relative_to_large_values_only():
    values = np.array([0.0, 0.0, 200.0])
    outcome = Outcome(
        *np.ones((2, 3, 2)), values + np.array([0.009, 0.011, 1.9]), values, values + 3, *np.zeros((2, 3))
    )
    assert outcome.reached().tolist() == [True, False, True]
    assert outcome.reached(within=0.001).tolist() == [False, False, False]
    assert outcome.reached(idle=True).tolist() == [False, False, False]


def test_settings_are_complete():
    known = set(inspect.signature(learn_mask).parameters) - {"score", "x", "seed", "progress"}
    assert {frozenset(s) for s in SETTINGS.values()} == {frozenset(known | {"of"})}
    defaults = {n: p.default for n, p in inspect.signature(learn_mask).parameters.items()}
    assert {k: v for k, v in BASE["deck"].items() if k != "of"} == {k: defaults[k] for k in known}
    assert BASE["settled"].items() >= RECIPES["settled"].items()
    assert {SETTINGS["deck"]["of"], SETTINGS["settled"]["of"]} == {"probability", "logit"}
    for name, options in SETTINGS.items():  # each differs from its base by what it is called
        base = BASE[name.split(",")[0]]
        changed = [k for k in options if options[k] != base[k]]
        assert (len(changed) == 0) == ("," not in name), name
        assert len(changed) <= 3, name


# Networks


def test_on_the_phantom(phantom_clean, net, monkeypatch):
    """Windows of several networks come back in their order."""
    windows = phantom_clean.subsample(1, seed=0)
    halves = [np.arange(1, len(windows), 2), np.arange(0, len(windows), 2)]
    monkeypatch.setattr(mask_sweep.networks, "by_network", lambda source, w: ((net, half) for half in halves))
    short = {"one": {**BASE["settled"], "n_iter": 3}}
    monkeypatch.setattr(mask_sweep, "FALLING", ((0.05, 2),))
    found = mask_sweep.held_out(None, windows, short)["one"]
    x = torch.from_numpy(windows.x).double()
    score = lstm_score(net, x, torch.from_numpy(windows.y), of="logit")
    np.testing.assert_allclose(found.before, score(x).detach(), atol=1e-9)
    assert found.mask.shape == (len(windows), 720)
