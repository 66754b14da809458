"""Explanations of the reference networks against P, QRS and T as experts marked them: results/expert.json.

    python benchmarks/reference_expert.py        # about four minutes on one core

Judges the claims expert-qrs and expert-p of `ecglib.claims`, and asks what hangs on the borders of `ecglib.clinic`'s spans.
Aggregates only: no waveform, no map, no mark of a single beat.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ecglib import CLASSES, __version__, boundaries, claims, clinic, evidence, expert_windows, experts, networks, source
from ecglib.expert_windows import Delineated
from ecglib.localisation import chance, mass_accuracy
from ecglib.records import read_annotations
from ecglib.rules import label as label_by
from ecglib.training import fingerprint
from ecglib.windows import cut_database

PER_CLASS = 100  # windows of a class, its patients taking turns
PATH = Path(__file__).resolve().parent.parent / "results" / "expert.json"

#: how the borders of the clinic's spans are moved: scale about R, shift in s
VARIATIONS = {"as written": (1.0, 0.0), "0.8 times": (0.8, 0.0), "1.2 times": (1.2, 0.0), "20 ms earlier": (1.0, -0.02),
              "20 ms later": (1.0, 0.02)}  # fmt: skip


def rows(table: pd.DataFrame, digits: int = 4) -> list[dict]:
    """Rounded, None for NaN."""
    plain = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{k: round(v, digits) if isinstance(v, float) else v for k, v in row.items()} for row in plain]


def judge(claim: str, of: str, values: np.ndarray, patient: np.ndarray, *, together: int = 1) -> dict[str, Any]:
    """Estimate, interval over patients at 1 - 0.05 / together, and verdict."""
    found = evidence.over_patients(values, patient, together=together)
    verdict = claims.verdict(claim, **found)
    return {"claim": claim, "of": of, **found, "verdict": verdict, "expected": claims.expectation(claim, of)}


def drawn(found: Delineated) -> tuple[Delineated, np.ndarray]:
    """At most `PER_CLASS` complete windows and as many others of each annotation, patients in turn; and their labels."""
    label = np.where(found.windows.y >= 0, np.array(CLASSES)[found.windows.y], found.symbol)
    rng, keep = np.random.default_rng(0), []
    for name in dict.fromkeys(label.tolist()):
        index = rng.permutation(np.flatnonzero(label == name))
        index = index[np.argsort(~found.complete[index], kind="stable")]  # complete ones first
        turn = pd.Series(index).groupby(found.windows.record[index]).cumcount().to_numpy()
        keep.append(index[np.argsort(turn, kind="stable")[:PER_CLASS]])
    kept = np.sort(np.concatenate(keep))
    return found[kept], label[kept]


def clean_n(found: Delineated, root: Path) -> np.ndarray:
    """Whether the clean rule, which the networks learned from, calls the beat N as well."""
    out = np.zeros(len(found), bool)
    for record in np.unique(found.windows.record):
        by_rule = label_by(read_annotations("mitdb", str(record), root=root), rule="clean", seed=0)
        out |= (found.windows.record == record) & np.isin(found.windows.anchor, by_rule.anchor[by_rule.y == 0])
    return out


def verdicts(found: Delineated, label: np.ndarray, cam: np.ndarray, clean: np.ndarray) -> list[dict]:
    """The two claims on complete windows of N; and on the labelled beat's own waves, and on beats at a normal rate."""
    out = []
    for claim, wave in (("expert-qrs", "QRS"), ("expert-p", "P")):
        every = mass_accuracy(cam, found.truth[wave]) - chance(found.truth[wave])
        own = mass_accuracy(cam, found.own[wave]) - chance(found.own[wave])
        n = (label == "N") & found.marked[wave]
        for how, values, use in (("", every, n & found.complete), ("own beat, every window", own, n),
                                 ("N by the clean rule, too", every, n & found.complete & clean),
                                 ("and annotated N in AF", every, (found.symbol == "N") & found.complete)):  # fmt: skip
            row = judge(claim, "N", np.where(use, values, np.nan), found.windows.patient)
            out.append(row | {"windows": int((use & np.isfinite(values)).sum()), "variant": how})
    return out


def sensitivity(found: source.Source) -> tuple[list[dict], dict]:
    """Mass of map and amplitude inside the clinic's spans with other borders, less chance and less each other, by class."""
    windows = cut_database("mitdb", rule="clean", root=found.root).subsample(PER_CLASS, seed=1)
    cam = networks.relevance(found, windows, method="cam")
    amplitude = networks.relevance(found, windows, method="amplitude")
    there = [c for i, c in enumerate(CLASSES) if (windows.y == i).any()]
    together = {claim: len(claims.family(claim, there)) for claim in ("clinic-cam", "clinic-control")}
    out = []
    for name, (scale, shift) in VARIATIONS.items():
        truth = clinic.truth(windows, scale=scale, shift=shift)
        mass, share = mass_accuracy(cam, truth), chance(truth)
        for claim, values in (("clinic-cam", mass - share), ("clinic-control", mass - mass_accuracy(amplitude, truth))):
            for i, c in enumerate(CLASSES):
                use = windows.y == i
                row = judge(claim, c, values[use], windows.patient[use], together=together[claim])
                out.append(row | {"variation": name, "chance": float(share[use].mean())})
    return out, {"sha256": fingerprint(windows), "counts": windows.counts().to_dict(), "together": together}


def main() -> None:
    found = source.find("mitdb")
    records = experts.of_mitdb(found.root) if found else []
    if found is None or not records:
        raise SystemExit("MITDB and QT Database are not both on this machine: ecglib fetch mitdb; ecglib fetch qtdb")
    began = time.process_time()
    aligned = experts.alignments(found.root)
    lags = {a.record: a.lag for a in aligned}
    marks = {m: experts.excerpt_tables(marks=m, lags=lags, root=found.root) for m in ("q1c", "q2c", "pu0", "pu")}
    whole = expert_windows.delineated("mitdb", marks["q1c"], root=found.root)
    counts = pd.crosstab(whole.windows.record, whole.symbol)
    table = [
        {"record": a.record, "start_s": a.start, "lag_ms": 1000 * a.lag, "lag_min_ms": 1000 * a.pieces.min(),
         "lag_max_ms": 1000 * a.pieces.max(), "correlation": a.correlation, **experts.beat_offset(a, root=found.root),
         "beats": int((whole.windows.record == a.record).sum()),
         "P": int(whole.marked["P"][whole.windows.record == a.record].sum()),
         "symbols": {s: int(n) for s, n in counts.loc[a.record].items() if n}}
        for a in aligned
    ]  # fmt: skip
    some, label = drawn(whole)
    beats = read_annotations("mitdb", "213", root=found.root).beats.time
    relevance = expert_windows.explain(found, some)
    varied, about = sensitivity(found)
    out = {
        "what": "reference networks (results/murugesan-gap-mitdb-patient*), patients held out, against the marks of QT "
        "Database on its excerpts of MITDB, and against the clinic's spans with other borders on clean MITDB windows",
        "code_version": __version__,
        "checkpoints": [p.name for p in networks.checkpoints("mitdb", "patient")],
        "device": f"CPU, {torch.get_num_threads()} thread(s)",
        "alignment": rows(pd.DataFrame(table)),
        "curves": {
            "lag_ms": np.round(1000 * aligned[0].lags, 3).tolist(),
            "correlation": {a.record: np.round(a.curve, 4).tolist() for a in aligned},
        },
        "beats": {s: int((whole.symbol == s).sum()) for s in dict.fromkeys(whole.symbol.tolist())},
        "windows": {n: {"all": int((label == n).sum()), "complete": int(((label == n) & some.complete).sum())}
                    for n in dict.fromkeys(label.tolist())},
        "boundaries": {
            "second expert": rows(boundaries.boundary_errors(marks["q2c"], marks["q1c"]), 2),
            "program, one lead": rows(boundaries.boundary_errors(marks["pu0"], marks["q1c"]), 2),
            "program, both leads": rows(boundaries.boundary_errors(marks["pu"], marks["q1c"]), 2),
            "T onset by symmetry": rows(
                boundaries.boundary_errors(boundaries.onset_by_symmetry(marks["q1c"]), marks["q1c"]), 2
            ),
            "median of other patients": rows(
                boundaries.boundary_errors(boundaries.without(marks["q1c"]), boundaries.of_symbols(marks["q1c"], "N")), 2
            ),
        },
        "usual": rows(boundaries.typical(marks["q1c"]).reset_index()),
        "intervals_213": rows(boundaries.intervals(marks["q1c"]["213"], beats), 1),
        "mass": rows(expert_windows.masses(some, relevance, label)),
        "mass_own": rows(expert_windows.masses(some, relevance, label, own=True)),
        "judged": rows(pd.DataFrame(verdicts(some, label, relevance["CAM"], clean_n(some, found.root)))),
        "sensitivity": {"windows": about, "judged": rows(pd.DataFrame(varied))},
    }  # fmt: skip
    out["cpu_s"] = round(time.process_time() - began, 1)  # not by the clock: it runs beside other work
    PATH.write_text(json.dumps(out) + "\n")
    for part in (out["judged"], out["boundaries"]["median of other patients"], out["intervals_213"]):
        print(pd.DataFrame(part).to_string())
    print(
        pd.DataFrame(varied).pivot_table(index=["claim", "of"], columns="variation", values="verdict", aggfunc="first")
    )
    print(out["windows"], out["cpu_s"])


if __name__ == "__main__":
    main()
