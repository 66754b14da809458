"""Settings of mask recipes by name: the deck's, ours, and what each becomes when a choice changes.

A *setting* is a mapping of the options of `ecglib.masks.learn_mask` and of ``of`` ("probability" or "logit").
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ecglib.masks import RECIPES

Setting = Mapping[str, Any]
Rates = float | tuple[tuple[float, int], ...]

FALLING = ((0.05, 150), (0.01, 150), (0.002, 150))  #: rates that fall, and the steps of each

#: The deck's recipe and ours with every option written out.
BASE: Mapping[str, Setting] = MappingProxyType(
    {
        "deck": dict(
            of="probability", area="sum", lambda_area=1.0, lambda_tv=0.001, fill=0.0, clamp=False,
            optimizer="adam", lr=0.001, n_iter=500, init=0.0,
        ),
        "settled": dict(of="logit", lambda_area=1.0, optimizer="adam", **RECIPES["settled"]),
    }
)  # fmt: skip

_CHANGES: Mapping[str, Mapping[str, Setting]] = {
    "deck": {
        "2000 steps": {"n_iter": 2000}, "10 000 steps": {"n_iter": 10000}, "rate 0.01": {"lr": 0.01},
        "from 0.5": {"init": 0.5}, "from 1": {"init": 1.0}, "from random": {"init": "random"},
        "SGD": {"optimizer": "sgd"},
        "k = mean": {"fill": "mean"}, "k = linear": {"fill": "linear"}, "k = blurred": {"fill": "blurred"},
        "λ1 = 0.01": {"lambda_area": 0.01}, "λ2 = 0": {"lambda_tv": 0.0}, "mean area": {"area": "mean"},
        "logit": {"of": "logit"}, "logit, mean area": {"of": "logit", "area": "mean"},
    },
    "settled": {
        "2000 steps": {"n_iter": 2000}, "rate 0.005": {"lr": 0.005},
        "falling rate": {"lr": FALLING, "n_iter": 450},
        "falling rate, from 0": {"lr": FALLING, "n_iter": 450, "init": 0.0},
        "falling rate, from random": {"lr": FALLING, "n_iter": 450, "init": "random"},
        "from 0": {"init": 0.0}, "from 0.5": {"init": 0.5}, "from random": {"init": "random"},
        "SGD, rate 5": {"optimizer": "sgd", "lr": 5.0},
        "k = 0": {"fill": 0.0}, "k = mean": {"fill": "mean"}, "k = blurred": {"fill": "blurred"},
        "λ1 = 0.3": {"lambda_area": 0.3}, "λ1 = 3": {"lambda_area": 3.0},
        "λ2 = 0": {"lambda_tv": 0.0}, "λ2 = 0.1": {"lambda_tv": 0.1},
        "sum of the area": {"area": "sum"}, "probability": {"of": "probability"},
    },
}  # fmt: skip

#: Settings of the reference sweep: both recipes, and what each becomes when one option changes.
SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        f"{name}, {change}" if change else name: MappingProxyType({**BASE[name], **options})
        for name, changes in _CHANGES.items()
        for change, options in {"": {}, **changes}.items()
    }
)
