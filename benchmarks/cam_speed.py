"""What a class activation map costs: beside a forward pass, beside Captum, and for every beat of half an hour.

    python benchmarks/cam_speed.py                  # 10 minutes on two cores
    python benchmarks/cam_speed.py --skip-record    # the ratios alone

Everything of one line is timed in turns, so that a busy machine is busy for all; medians.  Each run over the record is a
process of its own, whose peak memory is counted less that of the same process when it has loaded the network and the
windows.  Without MITDB the record is noise: the arithmetic is the same.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from ecglib import FS, WINDOW, models, source
from ecglib.cam import class_activation_map, grad_cam
from ecglib.modes import evaluating
from ecglib.records import read_record

RECORD = "208"


class Staged(nn.Module):
    """The network with a module where its map comes out, for Captum to hold on to."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net, self.map = net, nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, n_classes)."""
        return self.net.classify(self.map(self.net.feature_map(x)), self.net.lstm_features(x))


def captum(net: nn.Module, x: torch.Tensor, classes: range = range(8)) -> torch.Tensor:
    """Captum's maps, one class after the other: (N, classes, 48)."""
    from captum.attr import LayerGradCam

    staged = Staged(net).eval()
    method = LayerGradCam(staged, staged.map)
    return torch.cat([method.attribute(x, target=c).detach() for c in classes], dim=1)


def forward(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with evaluating(net), torch.no_grad():
        return net(x)


def in_turns(runs: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """Median seconds of each, after one that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for k in range(times + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if k:
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in taken.items()}


def ratios(times: int) -> None:
    net = models.build("murugesan-gap")
    print(
        f"{'windows':>8}{'threads':>8}{'forward':>10}{'CAM, all':>10}{'Grad-CAM, one':>15}{'Captum, all':>13}   ratios"
    )
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for n in (1, 32):
            x = torch.randn(n, 1, WINDOW, generator=torch.Generator().manual_seed(0))
            torch.testing.assert_close(captum(net, x) * 48, class_activation_map(net, x), atol=1e-5, rtol=1e-5)
            runs = {
                "forward": lambda x=x: forward(net, x),
                "CAM": lambda x=x: class_activation_map(net, x),
                "Grad-CAM": lambda x=x: grad_cam(net, x, 1),
                "Captum": lambda x=x: captum(net, x),
            }
            ms = {name: 1000 * s for name, s in in_turns(runs, times).items()}
            shown = [ms[name] / ms["forward"] for name in ("CAM", "Grad-CAM", "Captum")]
            print(
                f"{n:>8}{threads:>8}{ms['forward']:>8.1f}ms{ms['CAM']:>8.1f}ms{ms['Grad-CAM']:>13.1f}ms"
                f"{ms['Captum']:>11.1f}ms   {shown[0]:.2f}  {shown[1]:.2f}  {shown[2]:.1f}",
                flush=True,
            )


def beats() -> torch.Tensor:
    """A window around every beat of the record that is far enough from both ends: (N, 1, 720)."""
    found = source.find("mitdb")
    if found is None:
        return torch.randn(2900, 1, WINDOW, generator=torch.Generator().manual_seed(0))
    record = read_record("mitdb", RECORD, root=found.root)
    first = np.round(record.beats.time * FS).astype(int) - WINDOW // 2
    first = first[(first >= 0) & (first + WINDOW <= len(record.signal))]
    return torch.from_numpy(np.lib.stride_tricks.sliding_window_view(record.signal, WINDOW)[first][:, None].copy())


METHODS: dict[str, Callable[[nn.Module, torch.Tensor], object]] = {
    "CAM, all classes": class_activation_map,
    "forward, one batch": forward,
    "Captum, one class, batches of 32": lambda net, x: [captum(net, part, range(1, 2)) for part in x.split(32)],
}


def one(method: str, threads: int) -> None:
    """In a process of its own: seconds and megabytes."""
    torch.set_num_threads(threads)
    net, x = models.build("murugesan-gap"), beats()
    METHODS[method](net, x[:1])  # what is set up once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    began = time.perf_counter()
    METHODS[method](net, x)
    taken = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{method:<36}{threads:>8}{len(x):>8}{taken:>9.1f} s{after - before:>8.0f} MB{after:>8.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=9, help="runs that count")
    parser.add_argument("--skip-record", action="store_true")
    parser.add_argument("--method", choices=METHODS, help="only this, over the record, in this process")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.method:
        one(options.method, options.threads)
        return
    print(f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, network of full width")
    ratios(options.times)
    if options.skip_record:
        return
    print(
        f"\n{'every beat of record ' + RECORD:<36}{'threads':>8}{'beats':>8}{'time':>11}{'more':>11}{'peak':>11}",
        flush=True,
    )
    for threads in (1, 2):
        for method in METHODS:
            subprocess.run([sys.executable, __file__, "--method", method, "--threads", str(threads)], check=True)


if __name__ == "__main__":
    main()
