"""Do CNN map and LSTM mask of the reference networks agree on MITDB?  Writes results/agreement.json.

    python benchmarks/reference_agreement.py        # a quarter of an hour on one core

The windows are those of results/maps.json.  Aggregates over patients only; no waveform, no map of a single window.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ecglib import CLASSES, __version__, mask_sweep, networks, overlap, pairing, source
from ecglib.mask_settings import SETTINGS
from ecglib.masks import lstm_score
from ecglib.overlap import Relevance, by_step, compare, over_patients
from ecglib.training import fingerprint
from ecglib.windows import WindowSet, cut_database

PER_CLASS = 200  # windows of a class, its patients taking turns, as in reference_maps.py
FEW = 5  # of a class whose mask hides the signal from both branches: 10 s a window, where the LSTM's takes 0.05 s
AT_REST = "settled, falling rate, from random"  # of results/recipe.json's settings the one that comes to rest
PATH = Path(__file__).resolve().parent.parent / "results" / "agreement.json"


def rows(table: pd.DataFrame) -> list[dict]:
    """Four decimals, None for NaN."""
    plain = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in plain]


def silence(explained: pairing.Explained) -> list[dict]:
    """By class: share of masks that say nothing, and of windows that the network names right; patients count once."""
    y, patient = explained.windows.y, explained.windows.patient
    values = {"silent": explained.relevance["mask"].silent.astype(float), "right": explained.right.astype(float)}
    return [
        {"label": c, **{k: round(over_patients(v[y == i], patient[y == i])["mean"], 4) for k, v in values.items()}}
        for i, c in enumerate(CLASSES)
    ]


def at_rest(found: source.Source, explained: pairing.Explained) -> list[dict]:
    """The same measures for masks whose rate falls from a random start, so that they tremble no more, by class."""
    windows, of = explained.windows, dict(SETTINGS[AT_REST])
    score, steps = of.pop("of"), of.pop("n_iter")
    masks = np.empty((len(windows), windows.x.shape[-1]), np.float32)
    for net, index in networks.by_network(found, windows):
        x, y = torch.from_numpy(windows.x[index]), torch.from_numpy(windows.y[index])
        masks[index] = 1 - mask_sweep.path(lstm_score(net, x, y, of=score), x, at=[steps], **of)[0].numpy()
    rest = Relevance(masks, by_step(masks), masks.max(1) < pairing.SILENT)
    pairs = {"CAM · mask at rest": ("CAM", rest), "mask · mask at rest": ("mask", rest),
             "amplitude · mask at rest": ("amplitude", rest)}  # fmt: skip
    about = {"label": np.array(CLASSES)[windows.y], "patient": windows.patient}
    scores = [
        pd.DataFrame({"pair": name, **about, **compare(explained.relevance[a], b)}) for name, (a, b) in pairs.items()
    ]
    silent = pd.DataFrame({"pair": "silent", **about, "silent": rest.silent.astype(float)})
    return rows(pd.concat([overlap.summary(pd.concat(scores)), overlap.summary(silent, measures=["silent"])]))


def branch_or_method(found: source.Source, windows: WindowSet) -> dict:
    """Does the map agree more with a mask that hides the signal from both branches than with one for the LSTM alone?"""
    explained = pairing.explain(found, windows)
    masks = np.empty((len(windows), windows.x.shape[-1]), np.float32)
    for net, index in networks.by_network(found, windows):
        for i in np.array_split(index, -(-len(index) // 8)):
            x, y = torch.from_numpy(windows.x[i]), torch.from_numpy(windows.y[i])
            masks[i] = pairing.both(net, x, y, branch="both")[1]
            print(f"{time.strftime('%H:%M:%S')}  {len(i)} masks of both branches", flush=True)
    whole = Relevance(masks, by_step(masks), masks.max(1) < pairing.SILENT)
    cam, mask = explained.relevance["CAM"], explained.relevance["mask"]
    scores = {"CAM · mask of both branches": compare(cam, whole), "CAM · mask": compare(cam, mask),
              "mask · mask of both branches": compare(mask, whole)}  # fmt: skip
    values = {name: s["rank, steps"] for name, s in scores.items()}
    values["difference"] = values["CAM · mask of both branches"] - values["CAM · mask"]
    out = {name: over_patients(v, windows.patient) for name, v in values.items()}
    return {name: {k: round(v, 4) for k, v in row.items()} for name, row in out.items()}


def main() -> None:
    found = source.find("mitdb")
    if found is None:
        raise SystemExit("MITDB is not on this machine: ecglib fetch mitdb")
    windows = cut_database("mitdb", rule="clean", root=found.root).subsample(PER_CLASS, seed=1)
    explained = pairing.explain(found, windows)
    table = pairing.pairs(explained)
    right = table[table.right & (table.pair == "CAM · mask")]
    out = {
        "what": "agreement of class activation maps and settled masks of the reference networks on clean MITDB windows, "
        "annotated class, patients held out",
        "windows": {"sha256": fingerprint(windows), "counts": windows.counts().to_dict()},
        "code_version": __version__,
        "checkpoints": [p.name for p in networks.checkpoints("mitdb", "patient")],
        "device": f"CPU, {torch.get_num_threads()} thread(s)",
        "questions": rows(overlap.questions(table)),
        "agreement": rows(overlap.summary(table)),
        "right": rows(overlap.summary(right)),
        "mass": rows(pairing.mass(explained, pairing.truth(found, windows))),
        "silence": silence(explained),
        "at_rest": at_rest(found, explained),
    }
    print(f"{time.process_time():.0f} s", flush=True)
    out["branch_or_method"] = branch_or_method(found, windows.subsample(FEW, seed=2))
    out["cpu_s"] = round(time.process_time(), 1)  # not by the clock: it runs for minutes beside other work
    PATH.write_text(json.dumps(out) + "\n")
    print(pd.DataFrame(out["questions"]).to_string(), out["branch_or_method"], out["cpu_s"], sep="\n")


if __name__ == "__main__":
    main()
