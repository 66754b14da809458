"""The reference runs on MITDB: train every (rule, split, fold, seed) and turn the predictions into committed numbers.

    python benchmarks/reference_runs.py windows            # cut and pack the windows (needs the records)
    python benchmarks/reference_runs.py train              # train what is missing (any machine with a GPU, or hours)
    python benchmarks/reference_runs.py collect            # write results/*.json and results/*.safetensors

Each step reads what the one before left in ``--work``; a step that is stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import platform
import time
from pathlib import Path

import numpy as np
import torch

from ecglib import CLASSES, __version__, models, networks, source
from ecglib.evaluation import predict, report
from ecglib.splits import shared_samples, split
from ecglib.training import TrainConfig, fingerprint, fit
from ecglib.windows import WindowSet, cut_database, load_windows

PER_CLASS = 2500  # as ECGNet draws
SEEDS = (0, 1, 2)
FOLDS = 3  # of the split by patient: SVTA, as "clean" defines it, has three patients in MITDB
CONFIG = TrainConfig(epochs=12, draws=8_000, batch_size=64, lr=2e-3)

# by priority, so that an unfinished grid is a useful one: the networks that the pages explain come first
GRID = [
    (rule, level, fold, seed)
    for seed in SEEDS
    for rule, level, folds in (
        ("clean", "patient", FOLDS),
        ("clean", "window", 1),
        ("deck", "window", 1),
        ("deck", "patient", FOLDS),
        ("clean", "block", 1),
    )
    for fold in range(folds)
]


def key(rule: str, level: str, fold: int, seed: int) -> str:
    return f"{rule}-{level}-fold{fold}-seed{seed}"


def part_of(windows: WindowSet, level: str, fold: int, seed: int):
    return split(windows, level=level, folds=FOLDS if level == "patient" else None, seed=seed)[fold]


def make_windows(work: Path) -> None:
    for rule in ("clean", "deck"):
        windows = cut_database("mitdb", rule=rule, progress=True).subsample(PER_CLASS, seed=0)
        windows.save(work / f"windows-{rule}.npz")
        print(rule, windows.counts().to_dict())


def train_some(work: Path, worker: int, workers: int, until: float, width: int) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    torch.set_flush_denormal(True)
    windows = {rule: load_windows(work / f"windows-{rule}.npz") for rule in ("clean", "deck")}
    todo = [g for g in GRID if not (work / f"{key(*g)}.npz").exists()][worker::workers]
    slowest = 0.0
    for rule, level, fold, seed in todo:
        if time.time() + slowest > until:
            return
        began = time.time()
        part = part_of(windows[rule], level, fold, seed)
        model = models.build("murugesan-gap", seed=seed, width=width)
        config = TrainConfig(**{**CONFIG.__dict__, "seed": seed})
        name = key(rule, level, fold, seed)
        run = fit(model, windows[rule], part, config=config, run_dir=work / "runs" / name, progress=False)
        notes = networks.notes_of(run, windows[rule], part, rule=rule)
        models.save(run.model, work / f"{name}.safetensors", notes=notes)
        # what is scored is the checkpoint as a reader will load it
        logits = predict(models.load(work / f"{name}.safetensors"), windows[rule].x[part.test])
        overlap = shared_samples(windows[rule], part)
        np.savez_compressed(
            work / f"{name}.npz", test=part.test, logits=logits.astype(np.float16), overlap=overlap.astype(np.float16),
            record=json.dumps(run.record),
        )  # fmt: skip
        slowest = max(slowest, time.time() - began)
        accuracy = (logits.argmax(1) == windows[rule].y[part.test]).mean()
        print(f"{name}: accuracy {accuracy:.3f}, {run.record['duration_s']} s", flush=True)


def train(work: Path, workers: int, budget: float, width: int) -> None:
    until = time.time() + budget
    context = mp.get_context("spawn")
    jobs = [context.Process(target=train_some, args=(work, i, workers, until, width)) for i in range(workers)]
    [j.start() for j in jobs]
    [j.join() for j in jobs]


def collect(work: Path, results: Path) -> None:
    cells = []
    for rule in ("clean", "deck"):
        windows = load_windows(work / f"windows-{rule}.npz")
        for level in ("window", "block", "patient"):
            by_seed = []
            for seed in SEEDS:
                parts = [g for g in GRID if (g[0], g[1], g[3]) == (rule, level, seed)]
                files = [work / f"{key(*g)}.npz" for g in parts]
                if not parts or not all(f.exists() for f in files):
                    continue
                loaded = [np.load(f, allow_pickle=False) for f in files]
                test = np.concatenate([z["test"] for z in loaded])
                logits = np.concatenate([z["logits"] for z in loaded]).astype(np.float32)
                scored = report(windows.y[test], logits.argmax(1), groups=windows.patient[test], seed=seed)
                records = [json.loads(str(z["record"])) for z in loaded]
                by_seed.append(
                    {
                        "seed": seed,
                        "report": scored.to_dict(),
                        "shared_samples": round(float(np.mean(np.concatenate([z["overlap"] for z in loaded]))), 4),
                        "duration_s": sum(r["duration_s"] for r in records),
                        "device": records[0]["device"],
                        "final_loss": [r["history"][-1]["loss"] for r in records],
                    }
                )
            if by_seed:
                cells.append({"rule": rule, "level": level, "folds": len(parts), "seeds": by_seed})
    windows = {rule: load_windows(work / f"windows-{rule}.npz") for rule in ("clean", "deck")}
    found = source.find("mitdb")
    records = found.fingerprint() if found else "records not at hand when this was written"
    out = {
        "what": "murugesan-gap trained and tested on MITDB; predictions of all folds pooled, intervals over patients",
        "model": "murugesan-gap",
        "database": "mitdb 1.0.0",
        "per_class": PER_CLASS,
        "classes": list(CLASSES),
        "config": {k: v for k, v in CONFIG.__dict__.items() if k not in {"seed", "device"}},
        "windows": {
            rule: {
                "sha256": fingerprint(w),
                "counts": w.counts().to_dict(),
                "patients": {c: len(set(w.patient[w.y == i])) for i, c in enumerate(CLASSES)},
            }
            for rule, w in windows.items()
        },
        "records_sha256": records,
        "code_version": __version__,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cells": cells,
    }
    (results / "reference_runs.json").write_text(json.dumps(out, indent=1) + "\n")
    for name, stem in [("clean-window-fold0-seed0", "murugesan-gap-mitdb-window")] + [
        (f"clean-patient-fold{k}-seed0", f"murugesan-gap-mitdb-patient{k}") for k in range(FOLDS)
    ]:
        if (work / f"{name}.npz").exists():
            rule, level, fold, seed = next(g for g in GRID if key(*g) == name)
            notes = models.metadata(work / f"{name}.safetensors")
            run = notes["run"] | {"data_sha256": fingerprint(windows[rule]), "records_sha256": records}
            held = sorted({str(p) for p in windows[rule].patient[part_of(windows[rule], level, fold, seed).test]})
            notes |= {"run": run, "patients_held_out": held if level == "patient" else []}
            path = models.save(models.load(work / f"{name}.safetensors"), results / f"{stem}.safetensors", notes=notes)
            print(stem, path.stat().st_size / 1e6, "MB")
    for cell in cells:
        for s in cell["seeds"]:
            print(
                cell["rule"],
                cell["level"],
                s["seed"],
                s["report"]["scores"]["accuracy"],
                s["report"]["scores"]["f1_macro"],
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["windows", "train", "collect"])
    parser.add_argument("--work", type=Path, default=Path("_build/reference"))
    parser.add_argument("--workers", type=int, default=1, help="training processes side by side")
    parser.add_argument("--budget", type=float, default=1e9, help="seconds after which no new run is begun")
    parser.add_argument("--width", type=int, default=64, help="channels of the stem (64 as published)")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.step == "windows":
        make_windows(arguments.work)
    elif arguments.step == "train":
        train(arguments.work, arguments.workers, arguments.budget, arguments.width)
    else:
        collect(arguments.work, Path(__file__).parent.parent / "results")


if __name__ == "__main__":
    main()
