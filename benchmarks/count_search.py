"""Search for rules that give the cells of the published table which no known rule gives (needs the annotations).

    python benchmarks/count_search.py            # writes results/count_search.json; a few minutes

A family is a set of hypotheses, each of which gives one number.  Many hypotheses hit some number by accident, so beside the
exact hits stands how many one would expect: the mean number of hypotheses that give a number within 5 % of the target.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ecglib import CLASSES, __version__
from ecglib.records import BEAT_SYMBOLS, Record, annotated
from ecglib.rules import BEAT_CLASS
from ecglib.wfdb_files import by_symbol

DECK = json.loads((Path(__file__).parent.parent / "results" / "deck.json").read_text())["windows"]
Hypotheses = Iterator[tuple[str, int]]  # a description, and the number of windows that it gives


def windows_of(sample: np.ndarray, mine: np.ndarray, label: np.ndarray, before: int, after: int) -> np.ndarray:
    """Those of the marks ``mine`` around which all marks from ``before`` to ``after`` samples carry the same label."""
    change = np.cumsum(np.r_[False, label[1:] != label[:-1]])
    low, high = np.searchsorted(sample, sample - before), np.searchsorted(sample, sample + after, side="right")
    return mine & (change[low] == change[high - 1])


def spaced(sample: np.ndarray, least: int) -> int:
    """Marks that one keeps going forward, each at least so many samples after the last one kept."""
    n, after = 0, -(10**9)
    for s in sample.tolist():
        if s >= after:
            n, after = n + 1, s + least
    return n


def branch_block(records: list[Record], symbol: str) -> Iterator[tuple[str, str, int]]:
    """Hypotheses for a bundle branch block of MITDB: (family, description, windows)."""
    own = [r for r in records if (r.beats.symbol == symbol).any()]
    marks, rates = {}, {}
    for r in own:
        code = by_symbol(r.marks.symbol, BEAT_CLASS, other=-1)
        is_beat = by_symbol(r.marks.symbol, dict.fromkeys(BEAT_SYMBOLS, True), other=False)
        sample = np.round(r.marks.time * 360).astype(int)
        marks[r.name], rates[r.name] = (
            {"all marks": (sample, code), "beats": (sample[is_beat], code[is_beat])},
            r.duration,
        )
    k = BEAT_CLASS[symbol]
    subsets = [c for n in range(1, len(own) + 1) for c in itertools.combinations(marks, n)]
    for half in range(1, 1081):
        for kind in ("any", "beats", "all marks"):
            per = {}
            for name, by_kind in marks.items():
                sample, code = by_kind["all marks" if kind == "any" else kind]
                mine = (code == k) & (sample >= half)
                per[name] = int((mine if kind == "any" else windows_of(sample, mine, code, half, half)).sum())
            for chosen in subsets if half == 360 or kind != "any" else subsets[-1:]:
                family = "half-window and purity" if chosen == subsets[-1] else "half-window, purity and records"
                yield family, f"±{half} samples, {kind} alike, records {' '.join(chosen)}", sum(per[n] for n in chosen)
    peaks = {n: m["all marks"][0][m["all marks"][1] == k] for n, m in marks.items()}
    for least in range(1, 2161):
        yield "spacing", f"at least {least} samples apart", sum(spaced(p, least) for p in peaks.values())
    for n in range(1, 2500):
        yield "first windows of a record", f"at most {n} of a record", sum(min(len(p), n) for p in peaks.values())
    for step in range(1, 31):
        for first in range(step):
            yield (
                "every n-th",
                f"one in {step}, from no. {first + 1} on",
                sum(len(p[first::step]) for p in peaks.values()),
            )
    for begin, end in itertools.product(range(0, 30), range(1, 32)):
        if begin < end:
            inside = sum(int(((p >= begin * 21600) & (p < end * 21600)).sum()) for p in peaks.values())
            yield "minutes of the record", f"minutes {begin} to {end}", inside
    gaps = {n: np.diff(p, prepend=-(10**6), append=10**9) for n, p in peaks.items()}
    for least, most in itertools.product(range(0, 360, 12), range(180, 1081, 12)):
        near = sum(int(((g[:-1] >= least) & (g[:-1] <= most)).sum()) for g in gaps.values())
        yield "RR interval", f"previous beat of the class {least} to {most} samples before", near
    beats = {n: np.sort(m["beats"][0]) for n, m in marks.items()}
    for half, n in itertools.product(range(180, 721, 4), range(1, 8)):
        within = [np.searchsorted(beats[r], p + half) - np.searchsorted(beats[r], p - half) for r, p in peaks.items()]
        yield "beats in the window", f"exactly {n} within ±{half} samples", sum(int((w == n).sum()) for w in within)
        yield "beats in the window", f"at least {n} within ±{half} samples", sum(int((w >= n).sum()) for w in within)


def onsets(records: list[Record], rhythm: str) -> Iterator[tuple[str, str, int]]:
    """Hypotheses for the onsets of a rhythm in LTAFDB."""
    columns: dict[str, list[np.ndarray]] = {c: [] for c in "time length before after record others beats".split()}
    halves = np.arange(8, 513, 4)
    for number, r in enumerate(records):
        own = np.flatnonzero(r.rhythms.label == rhythm)
        time = np.round(r.rhythms.start[own] * 128).astype(int)
        beat = np.round(r.beats.time * 128).astype(int)
        other = beat[r.beats.symbol != "N"]
        labels = np.r_[["start"], r.rhythms.label, ["end"]]
        columns["time"].append(time)
        columns["length"].append(np.round((r.rhythms.stop - r.rhythms.start)[own] * 128).astype(int))
        columns["before"].append(labels[own])
        columns["after"].append(labels[own + 2])
        columns["record"].append(np.full(len(own), number))
        for name, among in (("others", other), ("beats", beat)):
            both = np.searchsorted(among, time[:, None] + halves, "right") - np.searchsorted(
                among, time[:, None] - halves
            )
            right = np.searchsorted(among, time[:, None] + halves, "right") - np.searchsorted(among, time)[:, None]
            columns[name].append(np.stack([both, right], axis=1))
    c = {name: np.concatenate(parts) for name, parts in columns.items()}
    begins = c["time"] >= 128
    pure = {
        "any beats": begins,
        "only N": begins & (c["others"][:, 0, 30] == 0),
        "only N after": begins & (c["others"][:, 1, 30] == 0),
    }
    for k, half in enumerate(halves):
        for side, where in enumerate(("around", "after")):
            yield (
                "half-window and purity",
                f"only N within {half} samples {where}",
                int((begins & (c["others"][:, side, k] == 0)).sum()),
            )
            for n in range(1, 8):
                yield (
                    "beats in the window",
                    f"{n} beats within {half} samples {where}",
                    int((begins & (c["beats"][:, side, k] == n)).sum()),
                )
                most = begins & (c["beats"][:, side, k] == n) & (c["others"][:, side, k] == 0)
                yield "beats in the window", f"{n} beats, only N, within {half} samples {where}", int(most.sum())
    for name, flag in pure.items():
        for least in range(0, 128 * 30, 8):
            yield (
                "length of the episode",
                f"{name}, at least {least / 128:g} s",
                int((flag & (c["length"] >= least)).sum()),
            )
        for column in ("before", "after"):
            sizes = {v: int((flag & (c[column] == v)).sum()) for v in np.unique(c[column])}
            for n in range(1, len(sizes) + 1):
                for chosen in itertools.combinations(sizes, n):
                    yield f"rhythm {column}", f"{name}, {column} {' '.join(chosen)}", sum(sizes[v] for v in chosen)
        per = np.bincount(c["record"][flag], minlength=len(records))
        for n in range(1, 2500):
            yield "first windows of a record", f"{name}, at most {n} of a record", int(np.minimum(per, n).sum())
            yield "records by size", f"{name}, records with at least {n}", int(per[per >= n].sum())
            yield "records by size", f"{name}, records with at most {n}", int(per[per <= n].sum())
        for low, high in itertools.combinations(range(len(records) + 1), 2):
            yield "a run of records", f"{name}, records {low} to {high} of the list", int(per[low:high].sum())
        for minutes in range(1, 26 * 60):
            early = flag & (c["time"] < minutes * 60 * 128)
            yield "minutes of the record", f"{name}, first {minutes} min", int(early.sum())


def beats_of_n(records: list[Record]) -> Iterator[tuple[str, str, int]]:
    """Hypotheses that take LTAFDB's N windows from its N beats, not from marks of sinus rhythm."""
    from ecglib.rules import clauses

    per, leading, by_minute = [], [], []
    for r in records:
        c = clauses(r)
        pure = c.sample[(c.label == 0) & c.between & c.pure]
        per.append(len(pure))
        by_minute.append(np.bincount(pure // (128 * 60), minlength=60)[:60])
        odd = np.flatnonzero(r.beats.symbol != "N")
        leading.append(int(odd[0]) if len(odd) else len(r.beats))
        for n in range(1, 20):
            yield "one record", f"one in {n} of the pure N beats of record {r.name}", -(-len(pure) // n)
    for n in range(1, 20_000):
        yield "first windows of a record", f"at most {n} pure N beats of a record", int(np.minimum(per, n).sum())
        yield "every n-th", f"one in {n} of the pure N beats of a record", int((-(-np.array(per) // n)).sum())
    for minutes in range(1, 60):
        yield (
            "minutes of the record",
            f"pure N beats of the first {minutes} min",
            int(np.sum(by_minute, axis=0)[:minutes].sum()),
        )
    for low, high in itertools.combinations(range(len(records) + 1), 2):
        yield "leading N runs", f"beats before the first that is not N, records {low} to {high}", sum(leading[low:high])
        yield "a run of records", f"pure N beats of records {low} to {high}", sum(per[low:high])


def tell(hypotheses: Iterator[tuple[str, str, int]], target: int, best: int = 3) -> tuple[list[dict], dict[str, int]]:
    """Summary of each family, and the windows that every hypothesis gives."""
    given = {}
    families: dict[str, list[tuple[int, str]]] = {}
    for family, what, n in hypotheses:
        families.setdefault(family, []).append((n, what))
        given[f"{family}: {what}"] = n
    rows = []
    for family, found in families.items():
        counts = np.array([n for n, _ in found])
        near = np.abs(counts - target) <= 0.05 * target
        nearest = sorted(found, key=lambda pair: abs(pair[0] - target))[:best]
        rows.append(
            {
                "family": family,
                "hypotheses": len(found),
                "exact": int((counts == target).sum()),
                "expected": round(float(near.sum() / (2 * 0.05 * target + 1)), 2),
                "best": [{"rule": what, "windows": n} for n, what in nearest],
            }
        )
    return rows, given


def main() -> None:
    began = time.perf_counter()
    mitdb, ltafdb = list(annotated("mitdb")), list(annotated("ltafdb"))
    out: dict = {"what": "search for the cells that no rule gives", "code_version": __version__, "cells": {}}
    blocks = {}
    for label, symbol in (("LBBB", "L"), ("RBBB", "R")):
        target = DECK["mitdb"][label]
        rows, blocks[label] = tell(branch_block(mitdb, symbol), target)
        out["cells"][f"mitdb {label}"] = {"target": target, "families": rows}
    # a rule of one cell alone explains little: the same rule ought to give both bundle branch blocks
    shared = [h for h in blocks["LBBB"] if h in blocks["RBBB"]]
    aims = {label: DECK["mitdb"][label] for label in blocks}
    miss = {h: max(abs(blocks[c][h] / aims[c] - 1) for c in blocks) for h in shared}
    best = sorted(miss, key=lambda h: miss[h])[:5]
    out["both blocks"] = {
        "hypotheses": len(shared),
        "exact": sum(m == 0 for m in miss.values()),
        "best": [{"rule": h} | {c: blocks[c][h] for c in blocks} for h in best],
    }
    for label, rhythm in (("N", "N"), ("AFIB", "AFIB")):
        target = DECK["ltafdb"][label]
        rows, _ = tell(onsets(ltafdb, rhythm), target)
        if label == "N":
            rows += [{**row, "family": f"N beats: {row['family']}"} for row in tell(beats_of_n(ltafdb), target)[0]]
        out["cells"][f"ltafdb {label}"] = {"target": target, "families": rows}
    out["duration_s"] = round(time.perf_counter() - began, 1)
    out["classes"] = list(CLASSES)
    path = Path(__file__).parent.parent / "results" / "count_search.json"
    path.write_text(json.dumps(out, indent=1) + "\n")
    for cell, found in out["cells"].items():
        print(cell, found["target"])
        for row in found["families"]:
            numbers = f"{row['hypotheses']:>7} exact {row['exact']:>3} expected {row['expected']:>6}"
            print(f"  {row['family']:<40} {numbers}  {row['best'][0]}")
    print(out["both blocks"], out["duration_s"], "s")


if __name__ == "__main__":
    main()
