"""Seconds of every explanation, and of the curves that judge it, on this machine's GPU or CPU.

    python benchmarks/reference_grid.py windows            # once: cuts the windows (needs the records)
    python benchmarks/explanations.py --windows 2000 --json explanations.json

One committed network (murugesan-gap, patients held out) and windows of MITDB.  Each method is called once on a few
windows before it is timed.  On a GPU its maps are also compared with the CPU's, on eight windows: as a share of the
largest value.  Curves are those of ten methods: deletion, insertion and ROAD at 24 steps, 75 passes a window.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ecglib import faithfulness, models
from ecglib.attribution import CONTROLS, METHODS, attribute
from ecglib.road import road
from ecglib.windowset import load_windows

CHECKPOINT = Path(__file__).resolve().parent.parent / "results" / "murugesan-gap-mitdb-patient0.safetensors"
CURVES = (
    "cam", "grad_cam", "gradient", "gradient_x_input", "smooth_grad", "integrated_gradients", "deep_lift",
    "guided_backprop", "guided_grad_cam", "amplitude",
)  # fmt: skip
SLOW = {"mask", "mask_deck", "mask_smooth", "extremal", "occlusion", "feature_ablation"}  #: timed on fewer windows


def seconds(run: Callable[[], Tensor], device: str) -> float:
    """Wall time until the device has done it."""
    began = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, default=Path("_build/grid/windows-clean.npz"), help="of WindowSet.save")
    parser.add_argument("--windows", type=int, default=2000)
    parser.add_argument("--slow", type=int, default=512, help="windows for masks, occlusion and ablation")
    parser.add_argument("--curves", type=int, default=500, help="windows for the curves; 0 leaves them out")
    parser.add_argument("--batch", type=int, default=512, help="windows that are scored at once")
    parser.add_argument("--method", action="append", choices=[*METHODS, *CONTROLS])
    parser.add_argument("--alone", action="store_true", help="do not compare with the CPU")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of masks that delete nothing
    device = "cuda" if torch.cuda.is_available() else "cpu"
    machine = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    windows = load_windows(options.set).subsample(options.windows // 8 + 1, seed=0)
    net = models.load(CHECKPOINT)
    net = net.to(device).eval().requires_grad_(False)
    x, y = torch.from_numpy(windows.x).to(device), torch.from_numpy(windows.y).to(device)
    print(f"{machine}, torch {torch.__version__}, {len(x)} windows")
    rows, maps = [], {}
    for name in options.method or [*METHODS, *CONTROLS]:
        n = min(options.slow if name in SLOW else options.windows, len(x))
        try:
            found = attribute(name, net, x[:8], y[:8])
            gap = None
            if device == "cuda" and not options.alone:
                cpu = attribute(name, net.cpu(), x[:8].cpu(), y[:8].cpu())
                gap = float((cpu - found.cpu()).abs().max() / cpu.abs().max())
            taken = seconds(lambda: attribute(name, net.to(device), x[:n], y[:n]), device)  # noqa: B023
        except RuntimeError as error:  # no kernel, or no memory, for it here
            print(f"{name:<22}{str(error).splitlines()[0]}")
            continue
        rows.append(
            {"method": name, "windows": n, "seconds": round(taken, 3), "per_s": round(n / taken, 1), "gap": gap}
        )
        print(
            f"{name:<22}{n:>6}{taken:>10.3f} s{n / taken:>12.0f}/s   {'' if gap is None else f'{gap:.1e}'}", flush=True
        )
    net.to(device)
    out = {"machine": machine, "torch": torch.__version__, "methods": rows}
    if options.curves:
        n = min(options.curves, len(x))
        score, taken = faithfulness.class_score(net, x[:n], y[:n]), {}
        maps = {m: attribute(m, net, x[:n], y[:n]) for m in CURVES}
        measures: dict[str, Callable[[Tensor], object]] = {
            "deletion": lambda r: faithfulness.deletion_curve(score, x[:n], r, batch=options.batch),
            "insertion": lambda r: faithfulness.insertion_curve(score, x[:n], r, batch=options.batch),
            "road": lambda r: road(score, x[:n], r, batch=options.batch),
        }
        for name, measure in measures.items():
            measure(maps["cam"][:n])
            taken[name] = sum(seconds(lambda: measure(r), device) for r in maps.values())  # type: ignore[arg-type]  # noqa: B023
        total = sum(taken.values()) * 2000 / n
        print({k: round(v, 1) for k, v in taken.items()}, f"{n} windows; 10 methods x 2,000 windows: {total:.0f} s")
        out["curves"] = {"windows": n, "methods": list(CURVES), "seconds": taken, "ten_methods_2000_windows_s": total}
    if options.json:
        options.json.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
