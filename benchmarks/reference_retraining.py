"""Remove and retrain, and permuted labels, on MITDB by patient: results/retraining.json.

    python benchmarks/reference_retraining.py windows             # cut and pack the windows (needs the records)
    python benchmarks/reference_retraining.py train               # train what is missing, by priority; stop when you like
    python benchmarks/reference_retraining.py collect             # write results/retraining.json

A run is one JSON file; one that is there is not trained again.  ``--workers`` share the runs; each takes a GPU where there
is one.  A run trains a network from scratch on windows of which a part is replaced, and is scored on windows of other
patients from which the same is gone.  What is relevant was said by a network that learnt from whole windows of the same
training patients, of the class that it names itself, so that no annotation enters the test windows.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import time
import traceback
from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ecglib import CLASSES, __version__, clinic, models, roar, source
from ecglib.attribution import attribute
from ecglib.collapsed import SILENT, collapse_expected
from ecglib.evaluation import predict, report
from ecglib.grid import packed
from ecglib.localisation import chance, mass_accuracy
from ecglib.overlap import over_patients
from ecglib.sanity import permute_labels, similarity
from ecglib.splits import Split, split
from ecglib.training import TrainConfig, fingerprint, fit
from ecglib.windows import WindowSet, cut_database, load_windows

PER_CLASS, TESTED, FOLDS, SEEDS, RULE = 1200, 400, 3, (0, 1, 2), "clean"
CONFIG = TrainConfig(epochs=4, draws=4_000, batch_size=64, lr=3e-3, weight_decay=0.02, bf16=False)
NARROW = {"width": 8}  # of what learns from places alone: what it finds is the least that they tell
#: of networks that are to learn by heart: no dropout, no decay, fewer windows, many epochs, and a rate by network
BY_HEART, LEARNT, EXPLAINED = TrainConfig(epochs=40, batch_size=64, lr=3e-3, weight_decay=0.0, bf16=False), 100, 20
RATES = {"compact": 3e-3, "murugesan-gap": 1e-3}
METHODS = ("cam", "integrated_gradients")
CONTROLS = ("random", "amplitude", "slope", "bump", "uniform")
OTHERS = ", another window's"  # of a name: each window has the relevance of another one
OPTIONS: dict[str, dict[str, Any]] = {"integrated_gradients": {"n_steps": 8}, "occlusion": {"stride": 36}}
FRACTIONS = (0.5, 0.9, 0.1, 0.3, 0.7)
MAPS = ("cam", "guided_grad_cam", "gradient_x_input", "integrated_gradients", "deep_lift", "occlusion", "amplitude")
KINDS = {"spearman": ("spearman", False), "|spearman|": ("spearman", True), "ssim": ("ssim", False)}
PATH = Path(__file__).resolve().parent.parent / "results" / "retraining.json"

CONDITION = ("model", "name", "kind", "fill", "fraction")

Run = dict[str, Any]


def plan(model: str, budget: str) -> list[Run]:
    """Runs by priority: the middle fractions of one seed first, then seeds, fractions, variants."""
    both = (*METHODS, *(m + OTHERS for m in METHODS), *CONTROLS)
    tiers: list[tuple[tuple[int, ...], list[tuple[str, str, str, float]]]] = [
        ((0,), _conditions(both, FRACTIONS[:1])),
        ((0,), [("permuted", "permuted", "", 0.0)]),
        ((0,), _conditions(both, FRACTIONS[:2])),
        (SEEDS, _conditions(both, FRACTIONS[:2])),
        (SEEDS, [("permuted", "permuted", "", 0.0)]),
        (SEEDS, _conditions(both, FRACTIONS)),
        (SEEDS, _conditions(both, (0.5,), kind="silhouette", fill="")),
        (SEEDS, _conditions(both, (0.1, 0.3), kind="keep")),
        (SEEDS, _conditions([c + OTHERS for c in ("amplitude", "slope", "bump")], FRACTIONS[:2])),
        (SEEDS, _conditions(both, (0.5, 0.9), fill="mean")),
    ]
    runs: dict[str, Run] = {}
    for seeds, conditions in tiers[: 3 if budget == "small" else None]:
        for seed, fold in product(seeds, range(FOLDS)):
            for name, kind, fill, fraction in [("whole", "remove", "linear", 0.0), *conditions]:
                run = {"model": model, "name": name, "kind": kind, "fill": fill, "fraction": fraction, "seed": seed,
                       "fold": fold}  # fmt: skip
                runs.setdefault(stem(run), run)
    return list(runs.values())


def _conditions(
    names: Any, fractions: Any, *, kind: str = "remove", fill: str = "linear"
) -> list[tuple[str, str, str, float]]:
    return [(name, kind, fill, fraction) for name in names for fraction in fractions]


def stem(run: Run) -> str:
    """Name of a run's file."""
    keys = ("model", "name", "kind", "fill", "fraction", "seed", "fold")
    return "-".join(str(run[k]) for k in keys).replace(" ", "_").replace(",", "").replace("'", "")


class Bench:
    """Windows, and the networks and relevance of one model, fold and seed at a time, kept while they are used."""

    def __init__(self, work: Path) -> None:
        self.work, self.windows = work, load_windows(work / "windows.npz")
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.here = lru_cache(maxsize=3)(self._here)
        self.relevance = lru_cache(maxsize=10)(self._relevance)

    def _here(self, fold: int, seed: int) -> tuple[WindowSet, Split]:
        """Training windows and those that are scored, of one fold, as one set; patients take turns in what is scored."""
        part = split(self.windows, level="patient", folds=FOLDS, seed=seed)[fold]
        test = self.windows[part.test].subsample(TESTED, seed=0)
        train = self.windows[part.train]
        both = WindowSet(*(np.concatenate([getattr(p, k) for p in (train, test)])
                           for k in ("x", "y", "record", "database", "time", "anchor")))  # fmt: skip
        n = len(train)
        return both, Split(np.arange(n), np.arange(n, len(both)), "patient", fold, seed)

    def learn(self, run: Run, windows: WindowSet, part: Split, *, keep: bool = False) -> Any:
        """A network trained from scratch; its folder goes unless it is asked for again."""
        folder, options = self.work / "runs" / stem(run), NARROW if run["kind"] == "silhouette" else {}
        net = models.build(run["model"], seed=run["seed"], **options)
        config = replace(CONFIG, seed=run["seed"])
        done = fit(net, windows, part, config=config, run_dir=folder, progress=False)
        if not keep:
            shutil.rmtree(folder)
        return done

    def whole(self, run: Run) -> Run:
        """The run that learns from whole windows, whose network explains."""
        return run | {"name": "whole", "kind": "remove", "fill": "linear", "fraction": 0.0}

    def _relevance(self, model: str, name: str, seed: int, fold: int) -> np.ndarray:
        """Relevance of the windows of `here`, of the class that the network of whole windows names."""
        if name.endswith(OTHERS):
            return roar.strangers(self.relevance(model, name.removesuffix(OTHERS), seed, fold), seed=seed)
        path = self.work / "relevance" / f"{model}-{name}-{seed}-{fold}.npy"
        if path.exists():
            return np.load(path)
        windows, part = self.here(fold, seed)
        net = self.learn(self.whole({"model": model, "seed": seed, "fold": fold}), windows, part, keep=True).model
        found = roar.relevance_of(name, net, windows.x, device=self.device, **OPTIONS.get(name, {}))
        if name == "integrated_gradients":  # minutes on a processor
            path.parent.mkdir(exist_ok=True)
            np.save(path.with_suffix(".part.npy"), found)
            path.with_suffix(".part.npy").replace(path)
        return found

    def retrained(self, run: Run) -> Run:
        """A network trained on degraded windows, scored on degraded windows of other patients."""
        windows, part = self.here(run["fold"], run["seed"])
        if run["name"] != "whole":
            r = self.relevance(run["model"], run["name"], run["seed"], run["fold"])
            windows = replace(windows, x=self.degraded(windows.x, r, run))
        done = self.learn(run, windows, part, keep=run["name"] == "whole")
        test = windows[part.test]
        guess = predict(done.model.to(self.device), test.x).argmax(1)
        return run | {
            "accuracy": round(report(test.y, guess).accuracy, 4),
            "confusion": packed(test.y, guess, test.patient, n_classes=len(CLASSES)),
            "device": done.record["device"], "duration_s": done.record["duration_s"],
            "f1_in_training": round(done.history[-1]["f1"], 4), "windows": done.record["windows"],
        }  # fmt: skip

    def degraded(self, x: np.ndarray, r: np.ndarray, run: Run) -> np.ndarray:
        """Windows x (N, 1, 720) without what a run takes from them."""
        out = np.empty_like(x)
        for i in range(0, len(x), 4096):
            cut = slice(i, i + 4096)
            part, own = (torch.from_numpy(a[cut]).to(self.device) for a in (x, r))
            if run["kind"] == "silhouette":
                part = roar.silhouette(own, fraction=run["fraction"])
            else:
                part = roar.degrade(part, own, fraction=run["fraction"], fill=run["fill"], keep=run["kind"] == "keep")
            out[cut] = part.cpu().numpy()
        return out

    def permuted(self, run: Run) -> Run:
        """Three networks of the same windows, two that learn the labels and one that learns permuted ones; their maps."""
        windows, part = self.here(run["fold"], run["seed"])
        train, test = windows[part.train].subsample(LEARNT, seed=0), windows[part.test].subsample(EXPLAINED, seed=0)
        config = replace(BY_HEART, draws=len(train), lr=RATES[run["model"]])
        every = Split(np.arange(len(train)), np.empty(0, int), "patient", run["fold"], run["seed"])
        dealt = permute_labels(train, seed=run["seed"])
        nets: dict[str, Any] = {}
        out: Run = run | {"labels kept": round(float((dealt.y == train.y).mean()), 4), "n": [len(train), len(test)],
                          "learnt": {}, "right": {}, "history": {}}  # fmt: skip
        for which, own, init in (("true", train, 0), ("again", train, 100), ("permuted", dealt, 0)):
            folder = self.work / "runs" / f"{stem(run)}-{which}"
            net = models.build(run["model"], seed=run["seed"] + init, dropout=0.0)
            done = fit(net, own, every, config=replace(config, seed=run["seed"] + init), run_dir=folder, progress=False)
            nets[which] = done.model.to(self.device)
            out["learnt"][which] = round(float((predict(nets[which], own.x).argmax(1) == own.y).mean()), 4)
            out["right"][which] = round(float((predict(nets[which], test.x).argmax(1) == test.y).mean()), 4)
            out["history"][which] = [round(row["f1"], 3) for row in done.history]
            out["device"] = done.record["device"]
        x, y = torch.from_numpy(test.x).to(self.device), torch.from_numpy(test.y).to(self.device)
        inside = clinic.truth(test)
        alike, mass = [], []
        for method in (*MAPS, "mask") if hasattr(nets["true"], "lstm_features") else MAPS:
            maps = {which: self.explained(method, net, x, y) for which, net in nets.items()}
            for other, (label, (kind, absolute)) in product(("again", "permuted"), KINDS.items()):
                value = similarity(maps["true"], maps[other], kind=kind, absolute=absolute)
                alike.append({"name": method, "with": other, "measure": label, "patients": means(value, test.patient)})
            for which, r in maps.items():
                value = mass_accuracy(r, inside) - chance(inside)
                mass.append({"name": method, "of": which, "patients": means(value, test.patient)})
        for which in nets:
            shutil.rmtree(self.work / "runs" / f"{stem(run)}-{which}")
        return out | {"alike": alike, "mass": mass}

    def explained(self, method: str, net: Any, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
        """Relevance (N, 720) of the annotated class; a silent mask is 0 throughout."""
        with collapse_expected():
            r = attribute(method, net, x, y, **OPTIONS.get(method, {})).float().cpu().numpy()
        if method == "mask":
            r[r.max(1) < SILENT] = 0
        return r


def means(values: np.ndarray, patient: np.ndarray) -> dict[str, float]:
    """Means by patient of those who have a value."""
    found = pd.Series(values.astype(float)).groupby(patient).mean().dropna()
    return {str(p): round(float(v), 4) for p, v in found.items()}


def train(work: Path, runs: list[Run], until: float) -> None:
    """What is missing of some runs, in their order."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    bench = Bench(work)
    for run in runs:
        path = work / "found" / f"{stem(run)}.json"
        if path.exists() or time.time() > until:
            continue
        began = time.perf_counter()
        try:
            row = bench.permuted(run) if run["kind"] == "permuted" else bench.retrained(run)
        except Exception:  # the others still have the time that is left
            traceback.print_exc()
            continue
        path.write_text(json.dumps(row))
        said = row.get("accuracy", row.get("learnt"))
        print(path.stem, said, round(time.perf_counter() - began, 1), "s", flush=True)


def complete(rows: list[Run], keys: tuple[str, ...]) -> dict[tuple, list[Run]]:
    """Runs by condition, of the seeds that have all folds: others would be of other patients than their neighbours."""
    cells: dict[tuple, list[Run]] = {}
    for row in rows:
        cells.setdefault(tuple(row[k] for k in keys), []).append(row)
    for cell, own in cells.items():
        folds = pd.Series([r["seed"] for r in own]).value_counts()
        cells[cell] = [r for r in own if folds[r["seed"]] == FOLDS]
    return {cell: own for cell, own in cells.items() if own}


def contrasts(cells: dict[tuple, list[Run]], against: str) -> list[dict[str, Any]]:
    """Each condition less the one in which windows have another's relevance, or a random one: paired over patients.

    Intervals of what is asked, the two fractions of each explanation and control, hold together.
    """
    pairs = [(c, (c[0], c[1] + OTHERS if against == OTHERS else against, *c[2:])) for c in cells]
    pairs = [(c, d) for c, d in pairs if d in cells and c[1] not in {against, "whole"} and OTHERS not in c[1]]
    asked = [c for c, _ in pairs if c[2:4] == ("remove", "linear") and c[4] in FRACTIONS[:2]]
    return [
        dict(zip(CONDITION, c, strict=True))
        | {"asked": c in asked, **roar.contrast(cells[c], cells[d], together=max(1, len(asked)), n_boot=10_000)}
        for c, d in pairs
    ]


def by_heart(rows: list[Run]) -> dict[str, Any]:
    """Likeness of maps, and their mass inside the clinic's spans less chance, over patients and seeds."""
    cells = complete(rows, ("model",))
    out: dict[str, Any] = {"networks": [], "alike": [], "mass": []}
    for (model,), own in cells.items():
        keys = ("model", "seed", "fold", "labels kept", "n", "learnt", "right", "history")
        out["networks"] += [{k: r[k] for k in keys} for r in own]
        names = list(dict.fromkeys(a["name"] for a in own[0]["alike"]))
        for name, other, measure in product(names, ("again", "permuted"), KINDS):
            found = pooled(
                [a for r in own for a in r["alike"] if (a["name"], a["with"], a["measure"]) == (name, other, measure)]
            )
            out["alike"].append({"model": model, "name": name, "with": other, "measure": measure, **over(found)})
        for name, measure in product(names, KINDS):
            two = [pooled([a for r in own for a in r["alike"] if (a["name"], a["with"], a["measure"]) == (name, k, measure)])
                   for k in ("again", "permuted")]  # fmt: skip
            out["alike"].append({"model": model, "name": name, "with": "again less permuted", "measure": measure,
                                 **over(two[0] - two[1], together=len(names))})  # fmt: skip
        for name in names:
            each = {k: pooled([a for r in own for a in r["mass"] if (a["name"], a["of"]) == (name, k)])
                    for k in ("true", "again", "permuted")}  # fmt: skip
            for which, found in {**each, "true less permuted": each["true"] - each["permuted"]}.items():
                together = len(names) if "less" in which else 1
                out["mass"].append({"model": model, "name": name, "of": which, **over(found, together=together)})
    return out


def pooled(parts: list[dict[str, Any]]) -> pd.Series:
    """Mean over seeds by patient."""
    return pd.concat([pd.Series(p["patients"], dtype=float) for p in parts]).groupby(level=0).mean()


def over(values: pd.Series, *, together: int = 1) -> dict[str, Any]:
    """Mean over patients and its interval."""
    return over_patients(values.to_numpy(), values.index.to_numpy().astype(str), together=together, n_boot=10_000)


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Four decimals, None for NaN."""
    return [
        {k: (None if np.isnan(v) else round(float(v), 4)) if isinstance(v, float) else v for k, v in row.items()}
        for row in rows
    ]


def collect(work: Path) -> None:
    rows = [json.loads(p.read_text()) for p in sorted((work / "found").glob("*.json"))]
    windows, found = load_windows(work / "windows.npz"), source.find("mitdb")
    retrained = [r for r in rows if r["kind"] != "permuted"]
    cells = complete(retrained, CONDITION)
    said = by_heart([r for r in rows if r["kind"] == "permuted"])
    out = {
        "what": "remove and retrain, and networks of permuted labels, on clean windows of MITDB, patients held out",
        "code_version": __version__, "rule": RULE, "per_class": PER_CLASS, "tested": TESTED, "folds": FOLDS,
        "windows": {"sha256": fingerprint(windows), "counts": windows.counts().to_dict(),
                    "patients": len(set(windows.patient))},
        "records_sha256": found.fingerprint() if found else "records not at hand when this was written",
        "config": {k: v for k, v in vars(CONFIG).items() if k != "seed"},
        "by_heart": {k: v for k, v in vars(BY_HEART).items() if k not in {"seed", "draws", "lr"}}
        | {"rates": RATES, "per_class": LEARNT, "explained_per_class": EXPLAINED},
        "places": NARROW, "options": OPTIONS, "devices": sorted({r["device"] for r in rows}), "runs": len(rows),
        "training_s": round(sum(r.get("duration_s", 0) for r in rows), 1),
    }  # fmt: skip
    order = sorted(cells, key=lambda c: (c[0], c[2], c[3], c[4]))
    parts = {
        "scores": plain([dict(zip(CONDITION, c, strict=True)) | roar.scores(cells[c]) for c in order]),
        "against another window's": plain(contrasts(cells, OTHERS)),
        "against random": plain(contrasts(cells, "random")),
        "networks": said["networks"], "alike": plain(said["alike"]), "mass": plain(said["mass"]),
        "accuracies": [[stem(r), r["accuracy"], r["f1_in_training"]] for r in retrained],
    }  # fmt: skip
    lists = ",\n".join(f' "{k}": [\n' + ",\n".join(map(json.dumps, v)) + "\n ]" for k, v in parts.items())
    PATH.write_text(json.dumps(out, indent=1)[:-2] + ",\n" + lists + "\n}\n")
    print(len(rows), {k: len(v) for k, v in parts.items()}, f"{PATH.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["windows", "train", "collect"])
    parser.add_argument("--work", type=Path, default=Path("_build/retraining"))
    parser.add_argument("--model", choices=["compact", "murugesan-gap"], default="compact")
    parser.add_argument("--budget", choices=["small", "whole"], default="whole", help="small: one seed, two fractions")
    parser.add_argument("--seconds", type=float, default=1e9, help="after which no new run is begun")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    work, n = arguments.work, arguments.workers
    (work / "found").mkdir(parents=True, exist_ok=True)
    if arguments.step == "windows":
        windows = cut_database("mitdb", rule=RULE, progress=True).subsample(PER_CLASS, seed=0)
        windows.save(work / "windows.npz")
    elif arguments.step == "collect":
        collect(work)
    else:
        runs, until = plan(arguments.model, arguments.budget), time.time() + arguments.seconds
        # what one seed and fold have in common is learnt once, by one of the processes
        shares = [[r for r in runs if (r["seed"] * FOLDS + r["fold"]) % n == k] for k in range(n)]
        if n == 1:
            train(work, runs, until)
        else:
            jobs = [multiprocessing.get_context("spawn").Process(target=train, args=(work, s, until)) for s in shares]
            for job in jobs:
                job.start()
            for job in jobs:
                job.join()


if __name__ == "__main__":
    main()
