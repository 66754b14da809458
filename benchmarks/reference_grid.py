"""Architectures × splits × seeds on MITDB, every cell with the same recipe and number of windows.

    python benchmarks/reference_grid.py windows            # cut and pack the windows (needs the records)
    python benchmarks/reference_grid.py train              # train what is missing, by priority; stop it when you like
    python benchmarks/reference_grid.py train --workers 14 # the same in several processes, which may share one GPU
    python benchmarks/reference_grid.py collect            # add what is trained to results/grid.json

``results/grid.json`` keeps one row a run with its confusion matrix by patient, so every score and interval can be
computed again.  Runs that it already has are not trained again.  Each run goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import lru_cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from ecglib import CLASSES, aami, branches, calibration, models, source
from ecglib.evaluation import predict, report
from ecglib.files import write_atomically
from ecglib.grid import packed
from ecglib.splits import shared_samples, split
from ecglib.training import TrainConfig, fingerprint, fit
from ecglib.windows import WindowSet, cut_database, load_windows

PER_CLASS = 2500  # as ECGNet draws
TESTED = 400  # windows of a class, at most, that a run is scored on; its patients take turns
FOLDS = 3  # of the split by patient: SVTA, as "clean" defines it, has three patients in MITDB
RULE = "clean"
#: "long" is the recipe of reference_runs.py, for a GPU; "short" is a few minutes to a quarter of an hour on one core.
#: ECGNet's own recipe draws eight times as many windows as "long"
BUDGETS = {
    "long": TrainConfig(epochs=12, draws=8_000, batch_size=64, lr=2e-3),
    "short": TrainConfig(epochs=4, draws=4_000, batch_size=32, lr=1e-3),
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "murugesan": ("murugesan", {}),
    "hannun": ("hannun", {}),
    "zihlmann": ("zihlmann", {}),
    "murugesan-gap": ("murugesan-gap", {}),
    "zihlmann, hop 8": ("zihlmann", {"hop": 8}),
    "compact": ("compact", {}),
}
LEVELS = {"window": {}, "ds1-ds2": {}, "patient": {}, "block": {}, "ds1-ds2, 201 kept": {"mended": False}}
RESULTS = Path(__file__).resolve().parent.parent / "results"


def grid(budget: str) -> list[dict[str, Any]]:
    """Runs by priority: the published networks at the deck's split and by patient, then seeds, then all the rest."""
    three = ("murugesan", "zihlmann", "hannun")  # the longest first, so that parallel runs end together
    first = [(m, level, s) for s in (0, 1, 2) for level in ("window", "ds1-ds2", "patient") for m in three]
    rest = [(m, level, s) for level, s, m in product(LEVELS, (0, 1, 2), MODELS)]
    runs = []
    for model, level, seed in dict.fromkeys(first + rest):
        for fold in range(FOLDS if level == "patient" else 1):
            runs.append({"model": model, "level": level, "fold": fold, "seed": seed, "budget": budget})
    return runs


def name_of(run: dict[str, Any]) -> str:
    return "-".join(
        str(run[k]).replace(" ", "").replace(",", "_") for k in ("model", "level", "fold", "seed", "budget")
    )


def train_one(run: dict[str, Any], windows: WindowSet, work: Path) -> dict[str, Any]:
    """One row of the results."""
    level, options = run["level"].split(",")[0], LEVELS[run["level"]]
    folds = FOLDS if level == "patient" else None
    part = split(windows, level=level, folds=folds, seed=run["seed"], **options)[run["fold"]]
    kind, choices = MODELS[run["model"]]
    model = models.build(kind, seed=run["seed"], **choices)
    config = TrainConfig(**{**asdict(BUDGETS[run["budget"]]), "seed": run["seed"]})
    done = fit(model, windows, part, config=config, run_dir=work / "runs" / name_of(run), progress=False)
    test = windows[part.test].subsample(TESTED, seed=0)
    trained = done.model.to("cuda" if torch.cuda.is_available() else "cpu")
    whole = branches.parts(trained, test.x) if branches.separable(trained) else None
    logits = predict(trained, test.x) if whole is None else whole.logits
    guess = logits.argmax(1)
    record = {k: v for k, v in done.record.items() if k != "config"}
    return run | {
        "scores": {k: round(v, 4) for k, v in report(test.y, guess).scores.items()},
        "ece": round(calibration.reliability(calibration.softmax(logits), test.y).ece, 4),
        "jk": round(aami.report(test.y, guess).scores["jk"], 4),
        "branches": whole and branches.accuracies(whole, test.y),
        "shared_samples": round(float(shared_samples(windows, part).mean()), 4),
        "confusion": packed(test.y, guess, test.patient, n_classes=len(CLASSES)),
        "run": record,
    }


def train(work: Path, budget: str, names: list[str], levels: list[str], until: float, workers: int) -> None:
    """Train what is missing of some networks and levels; no run begins after the time ``until``."""
    known = {name_of(r) for r in committed()["runs"]}
    missing = [r for r in grid(budget) if name_of(r) not in known and not (work / f"{name_of(r)}.json").exists()]
    todo = [r for r in missing if r["model"] in names and r["level"] in levels]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare) as pool:
        for done in as_completed(pool.submit(_work, run, work, until) for run in todo):
            done.result()


def _prepare() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = True


_windows = lru_cache(maxsize=1)(load_windows)  # one reading a process


def _work(run: dict[str, Any], work: Path, until: float) -> None:
    if time.time() > until:
        return
    row = train_one(run, _windows(work / f"windows-{RULE}.npz"), work)
    write_atomically(work / f"{name_of(run)}.json", json.dumps(row).encode())
    done = row["run"]
    print(
        name_of(run),
        row["scores"]["accuracy"],
        row["scores"]["f1_macro"],
        done["duration_s"],
        done["windows_per_s"],
        flush=True,
    )


def committed() -> dict[str, Any]:
    path = RESULTS / "grid.json"
    return json.loads(path.read_text()) if path.exists() else {"runs": []}


def collect(work: Path) -> None:
    windows, found = load_windows(work / f"windows-{RULE}.npz"), source.find("mitdb")
    rows = {name_of(r): r for r in committed()["runs"]}
    rows |= {p.stem: json.loads(p.read_text()) for p in sorted(work.glob("*.json"))}
    folds = Counter((r["model"], r["level"], r["seed"], r["budget"]) for r in rows.values())
    rows = {  # a seed that lacks a fold would be of other patients than its neighbours
        name: r
        for name, r in rows.items()
        if r["level"] != "patient" or folds[r["model"], r["level"], r["seed"], r["budget"]] == FOLDS
    }
    out = {
        "what": "networks trained and tested on clean windows of MITDB with one recipe a budget; confusion[patient] holds"
        " the places (8 * truth + prediction) and counts of the cells that are not empty",
        "rule": RULE,
        "per_class": PER_CLASS,
        "classes": list(CLASSES),
        "windows": {
            "sha256": fingerprint(windows),
            "counts": windows.counts().to_dict(),
            "patients": {c: len(set(windows.patient[windows.y == i])) for i, c in enumerate(CLASSES)},
        },
        "records_sha256": found.fingerprint() if found else "records not at hand when this was written",
        "budgets": {k: {n: v for n, v in asdict(c).items() if n != "seed"} for k, c in BUDGETS.items()},
    }
    lines = ",\n".join(json.dumps(rows[name]) for name in sorted(rows))
    text = json.dumps(out, indent=1)[:-2] + ',\n "runs": [\n' + lines + "\n ]\n}\n"
    (RESULTS / "grid.json").write_text(text)
    print(len(rows), "runs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["windows", "train", "collect"])
    parser.add_argument("--work", type=Path, default=Path("_build/grid"))
    parser.add_argument("--budget", choices=list(BUDGETS), default="long" if torch.cuda.is_available() else "short")
    parser.add_argument("--model", action="append", choices=list(MODELS), help="only this one; can be given again")
    parser.add_argument("--level", action="append", choices=list(LEVELS), help="likewise")
    parser.add_argument("--seconds", type=float, default=1e9, help="after which no new run is begun")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.step == "windows":
        windows = cut_database("mitdb", rule=RULE, progress=True).subsample(PER_CLASS, seed=0)
        windows.save(arguments.work / f"windows-{RULE}.npz")
    elif arguments.step == "train":
        until = time.time() + arguments.seconds
        names, levels = arguments.model or list(MODELS), arguments.level or list(LEVELS)
        train(arguments.work, arguments.budget, names, levels, until, arguments.workers)
    else:
        collect(arguments.work)


if __name__ == "__main__":
    main()
