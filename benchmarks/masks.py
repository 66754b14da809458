"""Time and memory of learned masks: `learn_mask` beside a plain loop in torch, in one run, and the floor of arithmetic.

python benchmarks/masks.py [ROUNDS]

The recipe is the deck's.  A time is that of its 500 steps for one window, from a few steps: from the first call of the
score to the last, so that neither the beginning nor the end counts.  The contestants take turns in short rounds; times
are medians over the rounds, and a ratio is the median of the rounds' ratios, which other work on the machine moves less.
Beside the time on the wall stands the processor's, of all threads: on a busy machine the better measure of one thread.

What did not help (two cores with AVX2; GCC 12; one thread):

- -ffast-math.  It would switch denormal numbers off in the whole process and undo the rounding in ``exp_``.
- Exponentials of all units in one long loop, instead of unit by unit: 0 %.
- A tape in huge pages: 3 %.  Stores that bypass the cache: 3 %, for x86 alone.  Going back from the last window, whose
  tape is warm, to the first: 0 %.  (Fetching the tape ahead did help: 11 % of the way back.)
- A square root in the compiled step instead of torch's: 1 %, but torch's differs in the last digit, and the kinks of the
  objective make 4e-5 of that in a steep network's mask.
- Numba: 21 GFLOP/s in the products where C++ has 100, 3 ns an exponential where C++ has 0.6; and 208 MB.
- Clang runs the same source in 1.6 times the time: it spills one of the sixteen registers.
- Not tried: bfloat16 (these processors have no such products) and stopping early (the deck's masks do not come to rest
  in 500 steps, and Adam moves on from any rest, so that it would not be exact).
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ecglib import frozen_lstm, masks, models

STEPS = 500  # of the recipe
Score = Callable[[Tensor], Tensor]
Loop = Callable[[Score, Tensor, int], Tensor]


class Samplewise(nn.Module):
    """An LSTM that reads 720 steps of one sample, its forget gates as initialised or held open by ``memory``."""

    def __init__(self, memory: float) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(1, 64, batch_first=True), nn.Linear(64, 8)
        with torch.no_grad():
            self.lstm.bias_ih_l0[64:128] += memory

    def lstm_features(self, x: Tensor) -> Tensor:
        """(N, 1, 720) -> (N, 64)."""
        return self.lstm(x.transpose(1, 2))[1][0][-1]

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.head(self.lstm_features(x))


def plain_score(net: nn.Module, x: Tensor) -> Score:
    """Probability of class 1 with `torch.nn.LSTM` as it is; the CNN's part is computed once."""
    with torch.no_grad():
        cnn = net.feature_map(x).mean(-1) if hasattr(net, "feature_map") else x[:, 0, :0]
    return lambda masked: net.head(torch.cat([cnn, net.lstm_features(masked)], 1)).softmax(1)[:, 1]


def plain_loop(score: Score, x: Tensor, n_iter: int) -> Tensor:
    """Autograd through the whole objective, and `torch.optim.Adam`."""
    mask = torch.zeros(len(x), x.shape[-1], requires_grad=True)
    adam = torch.optim.Adam([mask], lr=0.001)
    for _ in range(n_iter):
        objective = (1 - mask).abs().sum() + 0.001 * mask.diff().abs().sum() + score(mask[:, None] * x).sum()
        (mask.grad,) = torch.autograd.grad(objective, mask)
        adam.step()
    score(mask[:, None] * x)  # as learn_mask does
    return mask.detach()


def our_loop(score: Score, x: Tensor, n_iter: int) -> Tensor:
    return masks.learn_mask(score, x, n_iter=n_iter).mask


def timed(loop: Loop, score: Score, x: Tensor, n_iter: int, threads: int, onednn: bool = True) -> tuple[float, float]:
    """Milliseconds on the wall and of the processor, for 500 steps of one window."""
    calls: list[tuple[float, float]] = []

    def watched(masked: Tensor) -> Tensor:
        calls.append((time.perf_counter(), time.process_time()))
        return score(masked)

    torch.set_num_threads(threads)
    with torch.backends.mkldnn.flags(enabled=onednn):
        loop(watched, x, n_iter)
    wall, cpu = (1e3 * (b - a) * STEPS / n_iter / len(x) for a, b in zip(calls[0], calls[-1], strict=True))
    return wall, cpu


def floor(lstm: nn.LSTM, steps: int) -> float:
    """Milliseconds of the products alone, there and back, at the rate of a large matrix product; the first state is 0."""
    h, rates = lstm.hidden_size, []
    per_step = 4 * h * (lstm.input_size + h + (lstm.num_layers - 1) * 2 * h)
    for threads in (1, 2) * 3:
        torch.set_num_threads(threads)
        a = torch.ones(1024, 1024)
        began = time.perf_counter()
        a @ a
        rates.append(1024**3 / (time.perf_counter() - began) / 1e3)
    return 2 * (steps * per_step - lstm.num_layers * 4 * h * h) * STEPS / max(rates)


def compare(title: str, net: nn.Module, x: Tensor, *, steps: int, n_iter: int, alone: int, rounds: int) -> None:
    """Print the table of one network; ``n_iter`` steps for a batch, ``alone`` for a window by itself."""
    net.requires_grad_(False)
    fast, plain, single = masks.lstm_score(net, x, 1), plain_score(net, x), plain_score(net, x[:1])
    turns: dict[str, Callable[[], tuple[float, float]]] = {}
    for t in (1, 2):
        turns[f"learn_mask, {t} threads"] = lambda t=t: timed(our_loop, fast, x, 3 * n_iter, t)
        for on in (True, False):
            name = f"plain loop, batched, {t} threads, oneDNN {'on' if on else 'off'}"
            turns[name] = lambda t=t, on=on: timed(plain_loop, plain, x, n_iter, t, on)
    turns["plain loop, one window at a time"] = lambda: timed(plain_loop, single, x[:1], alone, 1)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    floors = []
    for i in range(rounds):
        slow = 2 * min(times[0][0] for name, times in found.items() if "batched" in name) if i else 0.0
        for name, run in turns.items():
            if (
                not i or "batched" not in name or found[name][0][0] < slow
            ):  # threads that wait for each other take minutes
                found[name].append(run())
        floors.append(floor(net.lstm, steps))
    wall = {name: statistics.median(w for w, _ in times) for name, times in found.items()}
    best = min((name for name in wall if "learn_mask" in name), key=wall.__getitem__)
    print(f"\n{title}, {len(x)} windows: ms a window for {STEPS} steps\n{'wall':>57} {'cpu':>9} {'ratio':>8}")
    for name, times in found.items():
        ratio = statistics.median(a[0] / b[0] for a, b in zip(times, found[best], strict=False))
        print(f"{name:<47} {wall[name]:>9.2f} {statistics.median(c for _, c in times):>9.2f} {ratio:>7.1f}x")
    print(f"{'floor: the products alone':<47} {statistics.median(floors):>9.2f}")


NETS: dict[str, tuple[str, Callable[[], nn.Module], int, dict[str, int]]] = {
    "deck": ("ECGNet's LSTM, 12 steps of 60", lambda: models.build("murugesan-gap", width=16), 1024,
             {"steps": 12, "n_iter": 4, "alone": 40}),
    "samplewise": ("LSTM of 64, 720 steps of 1", lambda: Samplewise(3.0), 256,
                   {"steps": 720, "n_iter": 1, "alone": 4}),
    "forgetful": ("The same as initialised: its gradient vanishes", lambda: Samplewise(0.0), 256,
                  {"steps": 720, "n_iter": 1, "alone": 4}),
}  # fmt: skip


def windows(n: int) -> Tensor:
    return torch.randn(n, 1, 720, generator=torch.Generator().manual_seed(0)).cumsum(-1) / 20


def equality(n: int = 4) -> None:
    """All 500 steps in single precision."""
    torch.set_num_threads(1)
    net, x = models.build("murugesan-gap", width=16).requires_grad_(False), windows(n)
    found = our_loop(masks.lstm_score(net, x, 1), x, STEPS)
    alone = torch.cat([plain_loop(plain_score(net, x[i : i + 1]), x[i : i + 1], STEPS) for i in range(n)])
    print(f"\nlargest difference from the plain loop, one window at a time: {float((found - alone).abs().max()):.1e}")


def memory(name: str, how: str) -> str:
    """GB at the peak of two steps, above what stood before them; in a process of its own, by Linux's count."""
    _, build, n, _ = NETS[name]
    torch.set_num_threads(1)
    net, x = build().requires_grad_(False), windows(n)
    score = masks.lstm_score(net, x, 1) if how == "learn_mask" else plain_score(net, x)
    frozen_lstm.library()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far

    def peak() -> int:
        return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])

    before = peak()
    (our_loop if how == "learn_mask" else plain_loop)(score, x, 2)
    return f"{(peak() - before) / 1e6:.2f}"


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(memory(*sys.argv[1:]))
        raise SystemExit
    torch.manual_seed(0)
    print("compiled" if frozen_lstm.library() else "no compiler: learn_mask runs torch's LSTM")
    equality()
    for name, (title, build, n, options) in NETS.items():
        compare(title, build(), windows(n), rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 5, **options)
        run = [sys.executable, __file__, name]
        peaks = {how: subprocess.run([*run, how], capture_output=True, text=True, check=True).stdout.strip()
                 for how in ("learn_mask", "plain loop")}  # fmt: skip
        print("GB at the peak:", ", ".join(f"{how} {peak}" for how, peak in peaks.items()))
