"""Windows a second, in training and in prediction, of every network of the registry.

    python benchmarks/throughput.py                        # all networks on this machine's CPU, or its GPU
    python benchmarks/throughput.py --model hannun --batch 128 --json results/throughput.json

In float32 and under bfloat16 autocast, on one thread and on two (a GPU has one row); medians over ``--times`` steps
after one that is not counted.  A device that does not compute in bfloat16 emulates it, some fifteen times slower than
float32, and is not asked to without ``--emulate``.  A dash: not asked, or the device has no kernel for it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F

from ecglib import models, recipes
from ecglib.evaluation import predict
from ecglib.recipes import TrainConfig


def per_second(step: Callable[[], object], windows: int, times: int, device: torch.device) -> float | None:
    """Median windows a second of a step; None if the device cannot do it."""
    taken = []
    try:
        for _ in range(times + 1):
            began = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - began)
    except RuntimeError as error:  # oneDNN has no backward pass of an LSTM in bfloat16 on older CPUs
        if "primitive" not in str(error) and "not implemented" not in str(error):
            raise
        return None
    return windows / statistics.median(taken[1:])


def measure(name: str, device: torch.device, *, batch: int, times: int, bf16: bool) -> list[dict]:
    """Rows of one network on one number of threads."""
    x = torch.randn(batch, 1, 720, generator=torch.Generator().manual_seed(0))
    y = torch.arange(batch) % 8
    rows = []
    for precision in ("float32", "bfloat16"):
        model = models.build(name).to(device)
        optimizer = recipes.optimizer_of(model, TrainConfig())
        on_device = x.to(device), y.to(device)

        def autocast(precision: str = precision) -> torch.autocast:
            return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")

        def learn(model=model, optimizer=optimizer, batch=on_device, autocast=autocast) -> None:
            with autocast():
                logits = model(batch[0]).float()
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(logits, batch[1]).backward()
            optimizer.step()

        def name_them(model=model, autocast=autocast) -> None:
            with autocast():
                predict(model, x.numpy())

        model.train()
        row = {"model": name, "precision": precision, "threads": torch.get_num_threads()}
        row["parameters"] = sum(p.numel() for p in model.parameters())
        asked = bf16 or precision == "float32"
        row["training"] = per_second(learn, batch, times, device) if asked else None
        row["prediction"] = per_second(name_them, batch, times, device) if asked else None
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", action="append", choices=list(models.MODELS), help="only this one; can be given again"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--times", type=int, default=5, help="steps that are counted")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--emulate", action="store_true", help="time bfloat16 also where it is emulated")
    parser.add_argument("--json", type=Path, help="write the rows here too, beside those of other machines")
    options = parser.parse_args()
    device = torch.device(options.device)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    native = recipes.bf16_on(device, TrainConfig())
    print(f"{machine}, torch {torch.__version__}, batches of {options.batch}, windows a second", end="")
    print("" if native else "; bfloat16 is emulated here")
    print(f"{'model':<16}{'precision':<10}{'threads':>8}{'training':>11}{'prediction':>12}")
    rows = []
    for threads in (torch.get_num_threads(),) if device.type == "cuda" else (1, 2):
        torch.set_num_threads(threads)
        for name in options.model or models.MODELS:
            bf16 = native or options.emulate
            for row in measure(name, device, batch=options.batch, times=options.times, bf16=bf16):
                shown = [f"{v:,.0f}" if v else "–" for v in (row["training"], row["prediction"])]
                print(f"{name:<16}{row['precision']:<10}{threads:>8}{shown[0]:>11}{shown[1]:>12}", flush=True)
                rows.append(row)
    if options.json:
        found = json.loads(options.json.read_text()) if options.json.exists() else []
        own = {
            "machine": machine,
            "torch": torch.__version__,
            "batch": options.batch,
            "bf16_native": native,
            "rows": rows,
        }
        kept = [m for m in found if m["machine"] != machine]
        options.json.write_text(json.dumps([*kept, own], indent=1) + "\n")


if __name__ == "__main__":
    main()
