"""Evidence for the claims from the reference networks: results/evidence.json.

    python benchmarks/reference_evidence.py        # 18 minutes of one core

Parts that are done stand in _build/ecglib/evidence; a run that was killed goes on after them.  Aggregates over patients
only; no waveform, no map of a single window.

Fixed before anything was looked at: the windows, their number, the settings in `ecglib.evidence`; that a silent mask has no
opinion; and where "neither network saw" a window (claims seeds and recognise) is had.  Every patient of MITDB was seen by
two of the three networks trained by patient, so the judged windows are minutes of LTAFDB, of whose patients no network
knows one; the same on MITDB, where one of two networks knows the patient, stands beside it and is not judged.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ecglib import CLASSES, __version__, claims, evidence, models, networks, pairing, phantom, source
from ecglib.databases import record_names
from ecglib.evidence import JUDGED_CONTROLS, METHODS, by_class, judge, over_patients
from ecglib.excerpts import excerpts
from ecglib.localisation import chance, mass_accuracy
from ecglib.source import Source, work_folder
from ecglib.training import fingerprint
from ecglib.windows import WindowSet, concat, cut, cut_database

CHEAP, COSTLY = (
    60,
    6,
)  # windows of a class for a map and a mask, and for ten explanations with curves; patients take turns
CASCADE, TWINS = 2, 3  # windows of a class
STRANGERS = 24  # windows of LTAFDB
PLANTED = {
    "patients": 48,
    "minutes": 3.0,
    "seed": 7,
}  # other patients than those that the phantom's network learnt from
FILLS, STEPS = ("linear", "zero", "blurred"), 10
CURVED = (*METHODS, "random", "amplitude", "bump")
PATH = Path(__file__).resolve().parent.parent / "results" / "evidence.json"


def rows(table: pd.DataFrame | list[dict]) -> list[dict]:
    """Four decimals, None for NaN."""
    plain = table.to_dict("records") if isinstance(table, pd.DataFrame) else table
    return [
        {k: (None if np.isnan(v) else round(float(v), 4)) if isinstance(v, float) else v for k, v in row.items()}
        for row in plain
    ]


def about(windows: WindowSet) -> dict[str, Any]:
    """Which windows."""
    return {"sha256": fingerprint(windows), "counts": windows.counts().to_dict(), "patients": len(set(windows.patient))}


def summarised(values: dict[str, np.ndarray], patient: np.ndarray, **more: Any) -> list[dict]:
    """Means over patients by name, with 95 % intervals."""
    return [{"name": n, **more, **over_patients(v, patient)} for n, v in values.items()]


def localisation(found: Source, whole: WindowSet) -> dict:
    """Map and mask against the clinic's spans and the beats."""
    w = whole.subsample(CHEAP, seed=1)
    maps = evidence.explain(evidence.assign(found, w), w, ["cam", "mask", *JUDGED_CONTROLS])
    clinic, beats = pairing.truth(found, w), evidence.near_beats(found, w)
    mass = {n: mass_accuracy(r, clinic) for n, r in maps.items()}
    values = {
        "clinic-cam": mass["cam"] - chance(clinic),
        "clinic-control": mass["cam"] - mass["amplitude"],
        "clinic-mask": mass["mask"] - chance(clinic),
        "qrs-everywhere": mass_accuracy(maps["cam"], beats) - chance(beats),
    }
    return {
        "windows": about(w),
        "verdicts": [v for c, d in values.items() for v in rows(judge(c, by_class(d, w), w.patient))],
        "clinic": rows(evidence.localise(maps, clinic, w)),
        "beats": rows(evidence.localise(maps, beats, w)),
    }


def faithfulness(found: Source, whole: WindowSet) -> dict:
    """Deletion under several fills, insertion under one; and all methods against the clinic's spans."""
    w = whole.subsample(COSTLY, seed=2)
    assigned = evidence.assign(found, w)
    maps = evidence.explain(assigned, w, [*METHODS, *JUDGED_CONTROLS])
    curved, areas, shown = {n: maps[n] for n in CURVED}, {}, []
    for fill in FILLS:
        score = evidence.curves(assigned, w, curved, fill=fill, steps=STEPS)
        areas[fill] = {n: evidence.area(s) for n, s in score.items()}
        for n, s in score.items():
            mean = pd.DataFrame(s).groupby(w.patient).mean().mean().round(4).tolist()
            shown.append({"name": n, "fill": fill, "score": mean, **over_patients(areas[fill][n], w.patient)})
        print(f"{time.process_time():.0f} s: {fill}", flush=True)
    linear = areas["linear"]
    tau = evidence.least_tau({f: {n: a[n] for n in METHODS} for f, a in areas.items()}, w.patient)
    order = [{"claim": "fill-order", "of": "all", **tau, "verdict": claims.verdict("fill-order", **tau)}]
    against = {
        f"deletion-{c}": judge(f"deletion-{c}", {n: linear[c] - linear[n] for n in METHODS}, w.patient)
        for c in ("random", "amplitude")
    }
    return {
        "windows": about(w),
        "verdicts": rows([*against["deletion-random"], *against["deletion-amplitude"], *order]),
        "curves": rows(pd.DataFrame(shown)),
        "clinic": rows(evidence.localise(maps, pairing.truth(found, w), w)),
        "silent masks": round(float((maps["mask"].max(1) == 0).mean()), 4),
    }


def sanity(found: Source, whole: WindowSet) -> dict:
    """Maps of networks that lose their weights from the output on."""
    w = whole.subsample(CASCADE, seed=3)
    found_by = evidence.cascade(evidence.assign(found, w), w, [*METHODS, "amplitude"])
    steps = [
        r
        for step, v in found_by.items()
        for r in summarised({n: np.abs(s) for n, s in v.items()}, w.patient, step=step)
    ]
    last = list(found_by.values())[-1]
    verdicts = judge("cascade", {n: np.abs(last[n]) for n in METHODS}, w.patient)
    return {"windows": about(w), "verdicts": rows(verdicts), "steps": rows(steps)}


def twins(found: Source, whole: WindowSet) -> dict:
    """Maps of networks trained on other patients, and of one that saw windows of all patients."""
    paths = networks.checkpoints("mitdb", "patient")
    nets = {f"patient{i}": models.load(p) for i, p in enumerate(paths)}
    nets["window"] = models.load(networks.checkpoint("mitdb", "window"))
    foreign = concat([cut(r, rule="clean") for r in excerpts("ltafdb")])
    turn = pd.Series(foreign.patient).sample(frac=1, random_state=4)
    turn = turn.groupby(turn).cumcount().sort_values(kind="stable")
    sets = {"LTAFDB": foreign[np.sort(turn.index[:STRANGERS])], "MITDB": whole.subsample(TWINS, seed=4)}
    out: dict[str, Any] = {"verdicts": [], "agreement": []}
    for name, w in sets.items():
        r = evidence.between(nets, w, [*METHODS])
        held = np.array([np.isin(w.patient, models.metadata(p)["patients_held_out"]) for p in paths])  # (3, N)
        two = {p: np.ones(len(w), bool) if name == "LTAFDB" else held[int(p[0][-1])] | held[int(p[1][-1])]
               for p in r if "window" not in p}  # fmt: skip
        one = {p: np.ones(len(w), bool) if name == "LTAFDB" else held[int(p[0][-1])] for p in r if "window" in p}

        def mean(pairs: dict, method: str, r: Any = r) -> np.ndarray:
            values = np.array([np.where(use, r[p][method], np.nan) for p, use in pairs.items()])
            return pd.DataFrame(values).mean().to_numpy()  # over pairs; NaN where no pair speaks

        alike = {m: mean(two, m) for m in METHODS}
        differ = {m: mean(one, m) - alike[m] for m in METHODS}
        if name == "LTAFDB":
            out["verdicts"] = rows([*judge("seeds", alike, w.patient), *judge("recognise", differ, w.patient)])
        out["agreement"] += rows(summarised(alike, w.patient, windows=name, what="two networks"))
        out["agreement"] += rows(summarised(differ, w.patient, windows=name, what="difference"))
        out[f"windows of {name}"] = about(w)
        print(f"{time.process_time():.0f} s: {name}", flush=True)
    return out


def planted(found: Source, whole: WindowSet) -> dict:
    """All methods against the evidence of simulated patients whom the phantom's network never saw."""
    base = source.prepare(database="phantom", progress=False)
    root = work_folder() / "evidence-phantom"
    phantom.write(root, **PLANTED)  # type: ignore[arg-type]
    fresh = Source("phantom", root, tuple(record_names("phantom", root)))
    w = cut_database("phantom", rule="clean", root=root).subsample(32, seed=5)
    maps = evidence.explain(evidence.assign(fresh, w), w, [*METHODS, *JUDGED_CONTROLS])
    truth = pairing.truth(fresh, w, kind="planted")
    mass = {n: mass_accuracy(r, truth) for n, r in maps.items()}
    best = {
        c: evidence.best_less_control({n: np.where(w.y == i, m, np.nan) for n, m in mass.items()}, w.patient,
                                      METHODS, JUDGED_CONTROLS)
        for i, c in enumerate(CLASSES)
    }  # fmt: skip
    with torch.inference_mode():
        net = models.load(networks.checkpoint("phantom", "patient"))
        guess = net(torch.from_numpy(w.x)).argmax(1).numpy()
    right = {c: over_patients(v, w.patient)["estimate"] for c, v in by_class((guess == w.y).astype(float), w).items()}
    return {
        "windows": about(w),
        "network": f"phantom of {len(base.records)} patients, {networks.checkpoint('phantom', 'patient').parent.name}",
        "records": PLANTED,
        "accuracy": {c: round(v, 4) for c, v in right.items()},
        "verdicts": rows(judge("planted-cam", by_class(mass["cam"] - chance(truth), w), w.patient))
        + rows(judge("planted-best", best, w.patient)),
        "planted": rows(evidence.localise(maps, truth, w)),
    }


def votes(found: Source, whole: WindowSet) -> dict:
    """Share of predictions that change without the LSTM, as results/branches.json has it."""
    effects = networks.results("branches")["levels"]["patient"]
    row = next(e for e in effects["effects"] if e["condition"] == "without lstm, mean")
    found_ = {"estimate": row["changed"], "low": row["changed_low"], "high": row["changed_high"]}
    said = claims.verdict("votes", **found_, patients=effects["patients"])
    return {"verdicts": [{"claim": "votes", "of": "all", **found_, "patients": effects["patients"], "verdict": said}]}


PARTS: dict[str, Callable[[Source, WindowSet], dict]] = {
    "votes": votes, "localisation": localisation, "planted": planted, "faithfulness": faithfulness, "sanity": sanity,
    "twins": twins,
}  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    found = source.find("mitdb")
    if found is None:
        raise SystemExit("MITDB is not on this machine: ecglib fetch mitdb")
    store = work_folder() / "evidence"
    store.mkdir(parents=True, exist_ok=True)
    whole = cut_database("mitdb", rule="clean", root=found.root)
    for name, run in PARTS.items():
        if not (store / f"{name}.json").is_file():
            began = time.process_time()
            part = run(found, whole)
            part["cpu_s"] = round(time.process_time() - began, 1)  # not by the clock: it runs beside other work
            (store / f"{name}.json").write_text(json.dumps(part))
            print(f"{name}: {part['cpu_s']} s of the processor", flush=True)
        done = {p: json.loads((store / f"{p}.json").read_text()) for p in PARTS if (store / f"{p}.json").is_file()}
        out = {
            "what": "evidence for the claims: reference networks on clean windows, annotated class, patients held out",
            "code_version": __version__,
            "checkpoints": [p.name for lv in networks.LEVELS for p in networks.checkpoints("mitdb", lv)],
            "device": f"CPU, {torch.get_num_threads()} thread",
            "settings": {"options": {k: dict(v) for k, v in evidence.OPTIONS.items()}, "steps": STEPS, "fills": FILLS},
            "verdicts": [v for part in done.values() for v in part.pop("verdicts")],
            **done,
            "cpu_s": round(sum(part["cpu_s"] for part in done.values()), 1),
        }
        PATH.write_text(json.dumps(out) + "\n")
    print(pd.DataFrame(out["verdicts"]).to_string(), out["cpu_s"], sep="\n")


if __name__ == "__main__":
    main()
