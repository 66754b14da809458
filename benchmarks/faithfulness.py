"""Cost of faithfulness measures above the bare forward passes, and their numbers beside those of Quantus.

    python benchmarks/faithfulness.py [WINDOWS [THREADS [ROUNDS]]]

Real windows of MITDB, the committed murugesan-gap network, ten explanations.  First, our time beside that of the
forward passes alone, which is the floor, in turns; then what all curves of ten methods on 2,000 windows need.  Then
every measure that Quantus has, too: largest difference, and its time over ours.

Order, fill and bookkeeping take 0.01 ms of the processor a changed window, with a bridge 0.03 ms; a pass of this network
takes 20 ms and more on one core, so nothing but a faster pass, or fewer, makes curves faster.  Fewer: insertion is LeRF,
so the degradation score is free beside the two curves; infidelity, sensitivity-n and faithfulness correlation score one
set of changed windows for all methods together.

Quantus is no dependency.  To have it without another torch, in an environment of its own that sees this one's packages:

    python -m venv q && echo PACKAGES_OF_THIS_ENVIRONMENT > q/lib/python3.11/site-packages/this.pth
    q/bin/pip install --no-deps quantus scikit-image opencv-python-headless cachetools imageio lazy_loader tifffile
    PYTHONPATH=. q/bin/python benchmarks/faithfulness.py

Settings under which its numbers are ours, and what differs otherwise (Quantus 0.6):

- All: ``normalise=False``; its default divides relevance by the largest of the whole batch.  ``perturb_baseline=0.0``;
  its default "black" is the minimum of the window as perturbed so far.
- PixelFlipping: no step 0; ties in the order of numpy's sort.  Its area calls ``np.trapz``, which numpy 2.4 lacks.
- Selectivity: eight samples a step, by summed relevance; ours with relevance summed so.
- Infidelity: blocks are removed one after the other and stay removed, no draw; ours with these sets.
- SensitivityN: no random sets, but one deletion, correlated over the windows of the batch at each step: batch-dependent,
  and not Ancona's measure.  The difference printed is that of its formula on our deletion curve.
- FaithfulnessCorrelation: sets anew for each window; given ours here.
- Max- and AvgSensitivity: noise anew for each window; given ours here.
- ROAD: an accuracy over the batch, weights of an image with one row, ``noise=0`` here since its noise cannot be given.
- RelevanceMassAccuracy: signed relevance above and below the bar, where we count the positive; compared on |relevance|.
- PointingGame: a maximum that ties counts whole.  RelevanceRankAccuracy: ties in the order of the sort.
- Sparseness: adds 1e-7 to each value.
- RegionPerturbation takes images alone.
"""

from __future__ import annotations

import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from ecglib import WINDOW, clinic, localisation, networks, source
from ecglib import faithfulness as ours
from ecglib.attribution import attribute
from ecglib.rescore import BATCH
from ecglib.road import road
from ecglib.windows import cut_database

RECORDS = ("100", "106", "119", "208", "214", "223")
GFLOP = 0.90  # of a forward pass, by torch.utils.flop_counter
Numbers = Callable[[], Any]


class Reshaped(nn.Module):
    """The network for windows in whatever shape Quantus gives them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.net(x.reshape(len(x), 1, WINDOW))


def gradient(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Of the class's logit, (N, 720)."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(net(x).gather(1, y[:, None]).sum(), x)[0][:, 0]


def explanations(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Ten of them: three have ties."""
    slope = gradient(net, x, y)
    named = {m: attribute(m, net, x, y) for m in ("cam", "grad_cam", "mask", "amplitude", "slope", "bump", "uniform")}
    return {**named, "gradient": slope, "x gradient": x[:, 0] * slope, "|gradient|": slope.abs()}


def timed(run: Numbers) -> tuple[float, Any]:
    """Seconds, and what came of them."""
    began = time.perf_counter()
    found = run()
    return time.perf_counter() - began, found


def floor(net: nn.Module, x: Tensor, y: Tensor, maps: dict[str, Tensor], rounds: int) -> None:
    """Our curves beside as many bare forward passes, in turns."""
    score, n = ours.class_score(net, x, y), len(x)
    relevance, every = maps["x gradient"], torch.stack(list(maps.values()))
    runs: dict[str, tuple[int, Callable[[int], Any]]] = {
        "deletion, bridged": (25, lambda b: ours.deletion_curve(score, x, relevance, batch=b)),
        "deletion, zero": (25, lambda b: ours.deletion_curve(score, x, relevance, fill=0.0, batch=b)),
        "insertion, blurred": (25, lambda b: ours.insertion_curve(score, x, relevance, fill="blurred", batch=b)),
        "ROAD": (25, lambda b: road(score, x, relevance, batch=b)),
        "infidelity, all ten": (51, lambda b: ours.infidelity(score, x, every, draws=50, batch=b)),
        "sensitivity-n, all ten": (51, lambda b: ours.sensitivity_n(score, x, every, shares=(0.1, 0.5), sets=25, batch=b)),
    }  # fmt: skip

    def bare(passes: int, batch: int) -> None:
        with torch.inference_mode():
            for part in x.repeat(passes, 1, 1).split(batch):
                net(part).softmax(1)

    print(f"\nms a window and forward pass, {n} windows; medians of {rounds} turn(s)")
    print(f"{'':<30} {'passes':>7} {'batch':>6} {'ours':>8} {'bare':>8} {'ratio':>7}")
    best = np.inf
    for name, (passes, run) in runs.items():
        for batch in (8, BATCH, 128) if name == "deletion, bridged" else (BATCH,):
            turns = [(timed(lambda: run(batch))[0], timed(lambda: bare(passes, batch))[0]) for _ in range(rounds)]  # noqa: B023
            per = [1e3 * statistics.median(t) / passes / n for t in zip(*turns, strict=True)]
            best = min(best, per[1])
            ratio = statistics.median(a / b for a, b in turns)
            print(f"{name:<30} {passes:>7} {batch:>6} {per[0]:>8.2f} {per[1]:>8.2f} {ratio:>7.3f}")
    for label, passes in (("deletion and insertion", 50), ("the same and ROAD both ways", 100)):
        total = passes * 10 * 2000
        print(
            f"{label}, 10 methods x 2,000 windows: {total / 1e6:.0f} million passes, {total * best / 3.6e6:.1f} h at the"
            f" fastest bare pass; at 900 s a pass may take {9e5 / total:.2f} ms, which is {GFLOP * total / 9e5:.1f} TFLOP/s"
        )


def beside_quantus(net: nn.Module, x: Tensor, y: Tensor, relevance: Tensor, truth: np.ndarray, rounds: int) -> None:
    """Print each measure that both have."""
    import quantus

    logging.disable(logging.WARNING)
    n, model, a = len(x), Reshaped(net).eval(), relevance.numpy()
    score = ours.class_score(net, x, y)
    common = {"normalise": False, "abs": False, "disable_warnings": True}
    zero = {**common, "perturb_baseline": 0.0}

    def call(metric: Any, shape: tuple[int, ...] = (WINDOW,), a_: np.ndarray = a, **more: Any) -> np.ndarray:
        form = (n, 1, *shape)
        found = metric(
            model=model, x_batch=x.numpy().reshape(form).copy(), y_batch=y.numpy(), a_batch=a_.reshape(form).copy(),
            channel_first=True, softmax=True, **more,
        )  # fmt: skip
        return np.array(list(found.values()) if isinstance(found, dict) else found, float)

    # what is drawn or cut there, given here
    sets = torch.rand(1, 20, WINDOW, generator=torch.Generator().manual_seed(0)).argsort(-1).argsort(-1)[0] < 72
    chosen = iter([])

    def choice(*_: Any, **__: Any) -> np.ndarray:
        return next(chosen)

    def correlation() -> np.ndarray:
        nonlocal chosen
        chosen = iter([np.flatnonzero(s) for s in sets.numpy() for _ in range(n)])
        with mock.patch("numpy.random.choice", choice):
            metric = quantus.FaithfulnessCorrelation(nr_runs=20, subset_size=72, return_aggregate=False, **zero)
            return call(metric)

    drawn = 0.02 * (2 * torch.rand(10, WINDOW, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1)
    noise = iter([])

    def shifted(arr: np.ndarray, **_: Any) -> np.ndarray:
        return arr + next(noise)

    def explain(model: Any, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        return gradient(
            model, torch.as_tensor(np.asarray(inputs), dtype=torch.float32), torch.as_tensor(targets)
        ).numpy()

    def moved(kind: Any) -> np.ndarray:
        nonlocal noise
        noise = iter(drawn.float().numpy())
        metric = kind(nr_samples=10, perturb_func=shifted, **common)
        return call(metric, a_=gradient(net, x, y).numpy(), explain_func=explain)

    blocks = [
        np.arange(WINDOW).reshape(24, 30)[6 * i : 6 * i + 6, 6 * j : 6 * j + 6] for i in range(4) for j in range(5)
    ]
    lost = np.zeros((20, WINDOW), bool)
    for k, block in enumerate(blocks):
        lost[k:, block.ravel()] = True
    by_eight = relevance.unflatten(1, (-1, 8)).sum(-1, keepdim=True).expand(-1, -1, 8).flatten(1)

    def its_sensitivity_n() -> np.ndarray:
        """Quantus' formula, on our curve: over windows, step by step."""
        s = ours.deletion_curve(score, x, relevance, fill=0.0).score.numpy().astype(float)
        sums = np.sort(a, axis=1)[:, ::-1].reshape(n, 24, 30).sum(2)
        drop = s[:, :1] - s[:, 1:]
        return np.array([np.corrcoef(drop[:, k], sums[:, k])[0, 1] for k in range(19)])

    def slopes(v: Tensor) -> Tensor:
        return gradient(net, v, y)

    positive, inside = np.abs(a), {"s_batch": truth.reshape(n, 1, WINDOW)}
    hit = ours.class_score(net, x, y, of="hit")
    pairs: dict[str, tuple[Numbers, Numbers]] = {
        "PixelFlipping, 30 a step": (
            lambda: ours.deletion_curve(score, x, relevance, fill=0.0).score[:, 1:],
            lambda: call(quantus.PixelFlipping(features_in_step=30, **zero)),
        ),
        "Selectivity, 8 a step": (
            lambda: ours.deletion_curve(score, x, by_eight, steps=90, fill=0.0).score[:, 1:],
            lambda: call(quantus.Selectivity(patch_size=8, **zero)),
        ),
        "Infidelity, 20 blocks": (
            lambda: ours.infidelity(score, x, relevance, perturbation=torch.from_numpy(lost)),
            lambda: call(quantus.Infidelity(perturb_patch_sizes=[6], n_perturb_samples=1, **zero), (24, 30)),
        ),
        "FaithfulnessCorrelation, 20 sets": (
            lambda: ours.faithfulness_correlation(score, x, relevance, share=0.1, sets=20),
            correlation,
        ),
        "SensitivityN (its own formula)": (
            its_sensitivity_n,
            lambda: call(quantus.SensitivityN(features_in_step=30, return_aggregate=False, **zero)),
        ),
        "ROAD, 10 … 90 %": (
            lambda: road(hit, x, relevance, steps=10, noise=0.0).score[:, 1:-1].mean(0),
            lambda: call(quantus.ROAD(percentages=list(range(10, 100, 10)), noise=0.0, **common), (1, WINDOW)),
        ),
        "MaxSensitivity, 10 draws": (lambda: ours.sensitivity(slopes, x).max, lambda: moved(quantus.MaxSensitivity)),
        "AvgSensitivity, 10 draws": (lambda: ours.sensitivity(slopes, x).mean, lambda: moved(quantus.AvgSensitivity)),
        "RelevanceMassAccuracy": (
            lambda: localisation.mass_accuracy(positive, truth),
            lambda: call(quantus.RelevanceMassAccuracy(**common), a_=positive, **inside),
        ),
        "RelevanceRankAccuracy": (
            lambda: localisation.rank_accuracy(a, truth),
            lambda: call(quantus.RelevanceRankAccuracy(**common), **inside),
        ),
        "PointingGame": (
            lambda: localisation.pointing_game(a, truth),
            lambda: call(quantus.PointingGame(**common), **inside),
        ),
        "Sparseness": (lambda: ours.sparseness(a), lambda: call(quantus.Sparseness(**{**common, "abs": True}))),
    }
    print(f"\nQuantus {quantus.__version__}, {n} windows: largest difference; seconds, medians of {rounds} turn(s)")
    print(f"{'':<34} {'difference':>11} {'of at most':>11} {'ours':>9} {'Quantus':>9} {'ratio':>7}")
    for name, (mine, theirs) in pairs.items():
        turns = [(*timed(mine), *timed(theirs)) for _ in range(rounds)]
        one, other = (np.asarray(turns[0][i], float) for i in (1, 3))
        gap = np.abs(one - other.reshape(one.shape)).max()
        a_s, b_s = (statistics.median(t[i] for t in turns) for i in (0, 2))
        ratio = statistics.median(t[2] / t[0] for t in turns)
        print(f"{name:<34} {gap:>11.1e} {np.abs(one).max():>11.3g} {a_s:>9.4f} {b_s:>9.4f} {ratio:>6.2f}x", flush=True)


def main() -> None:
    n, threads, rounds = (int(v) for v in (*sys.argv[1:], *("8", "1", "3")[len(sys.argv) - 1 :]))
    torch.set_num_threads(threads)
    found = source.find("mitdb")
    if found is None:
        raise SystemExit("MITDB is not on this machine: ecglib fetch mitdb")
    windows = cut_database("mitdb", rule="clean", root=found.root, records=RECORDS)
    windows = windows[np.random.default_rng(0).permutation(len(windows))[:n]]
    net, notes = networks.network(found)
    net.eval().requires_grad_(False)
    x, y = torch.from_numpy(windows.x), torch.from_numpy(windows.y)
    print(f"{notes['checkpoint']}, {n} windows of MITDB, {threads} threads, torch {torch.__version__}")
    warnings.simplefilter("ignore")  # of masks that delete nothing, of Quantus
    maps = explanations(net, x, y)
    floor(net, x, y, maps, rounds)
    try:
        beside_quantus(net, x, y, maps["x gradient"], clinic.truth(windows), rounds)
    except ModuleNotFoundError as missing:
        print(f"\nno Quantus here ({missing}); how to get it stands at the top of {__file__}")


if __name__ == "__main__":
    main()
