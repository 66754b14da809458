"""Architectures × splits × seeds on MITDB, every cell with the same recipe and number of windows.

    python benchmarks/reference_grid.py windows            # cut and pack the windows (needs the records)
    python benchmarks/reference_grid.py train              # train what is missing, by priority; stop it when you like
    python benchmarks/reference_grid.py collect            # add what is trained to results/grid.json

``results/grid.json`` keeps one row a run with its confusion matrix by patient, so every score and interval can be
computed again.  Runs that it already has are not trained again.  Each run goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch

from ecglib import CLASSES, aami, branches, calibration, models, source
from ecglib.evaluation import predict, report
from ecglib.scores import confusions
from ecglib.splits import shared_samples, split
from ecglib.training import TrainConfig, fingerprint, fit
from ecglib.windows import WindowSet, cut_database, load_windows

PER_CLASS = 2500  # as ECGNet draws
TESTED = 400  # windows of a class, at most, that a run is scored on; its patients take turns
FOLDS = 3  # of the split by patient: SVTA, as "clean" defines it, has three patients in MITDB
RULE = "clean"
#: a few minutes to a quarter of an hour a run on one core; ECGNet's own recipe draws fifty times as many windows
BUDGETS = {
    "short": TrainConfig(epochs=4, draws=4_000, batch_size=32, lr=1e-3),
    "long": TrainConfig(epochs=12, draws=8_000, batch_size=64, lr=2e-3),
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "murugesan": ("murugesan", {}),
    "hannun": ("hannun", {}),
    "zihlmann": ("zihlmann", {}),
    "murugesan-gap": ("murugesan-gap", {}),
    "zihlmann, hop 8": ("zihlmann", {"hop": 8}),
}
LEVELS = {"window": {}, "ds1-ds2": {}, "patient": {}, "block": {}, "ds1-ds2, 201 kept": {"mended": False}}
RESULTS = Path(__file__).resolve().parent.parent / "results"


def grid(budget: str) -> list[dict[str, Any]]:
    """Runs by priority: the deck's split and a split by patient first, then seeds, then the other levels."""
    three = ("zihlmann", "hannun", "murugesan")  # the quickest first
    first = [(m, level, s) for s in (0, 1, 2) for level in ("window", "ds1-ds2") for m in three]
    rest = [(m, level, s) for s, level, m in product((0, 1, 2), LEVELS, MODELS)]
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
    whole = branches.parts(done.model, test.x) if branches.separable(done.model) else None
    logits = predict(done.model, test.x) if whole is None else whole.logits
    guess = logits.argmax(1)
    patients = sorted(set(test.patient))
    by_patient = confusions(test.y, guess, groups=test.patient, n_classes=len(CLASSES)).astype(int)
    record = {k: v for k, v in done.record.items() if k != "config"}
    return run | {
        "scores": {k: round(v, 4) for k, v in report(test.y, guess).scores.items()},
        "ece": round(calibration.reliability(calibration.softmax(logits), test.y).ece, 4),
        "jk": round(aami.report(test.y, guess).scores["jk"], 4),
        "branches": whole and branches.accuracies(whole, test.y),
        "shared_samples": round(float(shared_samples(windows, part).mean()), 4),
        "confusion": {
            p: [c.ravel().nonzero()[0].tolist(), c[c > 0].tolist()] for p, c in zip(patients, by_patient, strict=True)
        },
        "run": record,
    }


def train(work: Path, budget: str, seconds: float) -> None:
    torch.set_flush_denormal(True)
    windows = load_windows(work / f"windows-{RULE}.npz")
    until = time.time() + seconds
    known = {name_of(r) for r in committed()["runs"]}
    for run in grid(budget):
        path = work / f"{name_of(run)}.json"
        if name_of(run) in known or path.exists() or time.time() > until:
            continue
        row = train_one(run, windows, work)
        path.write_text(json.dumps(row))
        print(name_of(run), row["scores"]["accuracy"], row["scores"]["f1_macro"], row["run"]["duration_s"], flush=True)


def committed() -> dict[str, Any]:
    path = RESULTS / "grid.json"
    return json.loads(path.read_text()) if path.exists() else {"runs": []}


def collect(work: Path) -> None:
    windows, found = load_windows(work / f"windows-{RULE}.npz"), source.find("mitdb")
    rows = {name_of(r): r for r in committed()["runs"]}
    rows |= {p.stem: json.loads(p.read_text()) for p in sorted(work.glob("*.json"))}
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
    parser.add_argument("--budget", choices=list(BUDGETS), default="short")
    parser.add_argument("--seconds", type=float, default=1e9, help="after which no new run is begun")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.step == "windows":
        windows = cut_database("mitdb", rule=RULE, progress=True).subsample(PER_CLASS, seed=0)
        windows.save(arguments.work / f"windows-{RULE}.npz")
    elif arguments.step == "train":
        train(arguments.work, arguments.budget, arguments.seconds)
    else:
        collect(arguments.work)


if __name__ == "__main__":
    main()
