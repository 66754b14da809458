"""Recipes: learning rates by hand, the end of a run, and choices that make no sense."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ecglib import recipes
from ecglib.errors import DataError, UnknownNameError
from ecglib.recipes import PUBLISHED, TrainConfig, ended, plateau, rate


def test_one_cycle():
    assert [recipes.one_cycle(2.0, p) for p in (0, 0.075, 0.15, 0.575, 1)] == pytest.approx(
        [0.1, 1.05, 2.0, 1.0, 0.0], abs=1e-9
    )


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([], 1),
        ([5, 4, 3, 2], 1),
        ([2, 3, 3], 1),  # two epochs without a better loss are borne,
        ([2, 3, 3, 3], 0.1),  # a third is not
        ([2, 3, 3, 1.9, 3, 3], 1),  # a better one begins the count anew
        ([2, 1.99995, 1.9999, 1.9999], 0.1),  # better by less than 0.0001 is not better
        ([2, 3, 3, 3, 3, 3], 0.1),
        ([2, 3, 3, 3, 3, 3, 3], 0.01),
        ([2] + 30 * [3], 1e-3),  # and no further
    ],
)
def test_plateau(losses, expected):
    assert plateau(0.02, losses) == pytest.approx(0.02 * expected)


def test_rate():
    history = [{"validation_loss": loss} for loss in (2.0, 3.0, 3.0, 3.0)]
    config = TrainConfig(lr=0.5, validation=0.1)
    assert rate(config, 0.575, history) == pytest.approx(0.25)
    assert rate(replace(config, schedule="constant"), 0.575, history) == 0.5
    assert rate(replace(config, schedule="plateau"), 0.575, history) == pytest.approx(0.05)


def test_end_of_a_run():
    config = TrainConfig(epochs=5, validation=0.1, patience=2)

    def over(*scores):
        return ended([{"validation_f1": f1} for f1 in scores], config)

    assert not over()
    assert not over(0.5, 0.4)
    assert over(0.5, 0.4, 0.4)
    assert over(0.5, 0.5, 0.5)  # an equal score is not a better one
    assert not over(0.5, 0.4, 0.6, 0.6)
    assert over(0.1, 0.2, 0.3, 0.4, 0.5)
    assert [ended(n * [{}], TrainConfig(epochs=2)) for n in range(4)] == [False, False, True, True]


def test_optimisers():
    model = nn.Linear(2, 1)
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    for name, kind in kinds.items():
        made = recipes.optimizer_of(model, TrainConfig(optimizer=name, lr=0.3, weight_decay=0.2))
        assert type(made) is kind
        assert (made.defaults["lr"], made.defaults["weight_decay"]) == (0.3, 0.2)
    assert made.defaults["momentum"] == 0


def test_published_recipes():
    """ECGNet: SGD 0.01, batches of 8, 50 epochs of 2000 windows a class; Hannun: Adam 0.001, norm 1, batches of 32."""
    ecgnet, hannun, zihlmann = (PUBLISHED[name] for name in ("murugesan", "hannun", "zihlmann"))
    assert (ecgnet.optimizer, ecgnet.schedule, ecgnet.lr, ecgnet.batch_size) == ("sgd", "constant", 0.01, 8)
    assert (ecgnet.epochs, ecgnet.draws, ecgnet.clip_norm, ecgnet.validation) == (50, 8 * 2000, None, 0)
    assert (hannun.optimizer, hannun.schedule, hannun.lr, hannun.batch_size) == ("adam", "plateau", 1e-3, 32)
    assert (hannun.epochs, hannun.clip_norm, hannun.patience) == (100, 1, 8)
    assert (zihlmann.optimizer, zihlmann.lr, zihlmann.batch_size, zihlmann.patience) == ("adam", 1e-3, 20, 100)
    assert {c.weight_decay for c in PUBLISHED.values()} == {0}


def test_bf16_is_for_devices_that_compute_in_it(monkeypatch, one_line):
    cpu = torch.device("cpu")
    for able in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda able=able: able)
        assert recipes.bf16_on(cpu, TrainConfig()) is able
        assert recipes.bf16_on(cpu, TrainConfig(bf16=False)) is False
    with pytest.raises(DataError) as caught:
        recipes.bf16_on(cpu, TrainConfig(bf16=True))
    one_line(caught, "bf16 is asked for", "cpu", "leave bf16 out")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    assert recipes.bf16_on(SimpleNamespace(type="cuda"), TrainConfig())


@pytest.mark.parametrize(
    ("options", "error", "parts"),
    [
        ({"optimizer": "sdg"}, UnknownNameError, ("unknown optimizer 'sdg'", "did you mean 'sgd'?")),
        ({"schedule": "onecycle"}, UnknownNameError, ("unknown schedule 'onecycle'", "one-cycle")),
        ({"schedule": "plateau"}, DataError, ("schedule 'plateau' needs a validation part", "give validation")),
        ({"patience": 3}, DataError, ("patience needs a validation part",)),
        ({"epochs": 0}, DataError, ("are 0, 128, 8000", "1 or more")),
        ({"batch_size": 0}, DataError, ("1 or more",)),
        ({"draws": -1}, DataError, ("1 or more",)),
    ],
)
def test_choices_that_make_no_sense(one_line, options, error, parts):
    with pytest.raises(error) as caught:
        TrainConfig(**options)
    one_line(caught, *parts)
