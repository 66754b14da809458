"""Do the reference networks know the patient, and explain by it?  Writes results/identity.json.

    python benchmarks/reference_identity.py        # about three minutes on one core

Aggregates over patients only.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ecglib import CLASSES, __version__, identity, models, networks, probes, source
from ecglib.attribution import attribute
from ecglib.cam import class_activation_map, upsample
from ecglib.evaluation import predict
from ecglib.overlap import over_patients
from ecglib.training import fingerprint
from ecglib.windows import WindowSet

PER_HALF, PER_CLASS, SHARE = 10, 40, 0.2
PATH = Path(__file__).resolve().parent.parent / "results" / "identity.json"


def rows(table: pd.DataFrame) -> list[dict]:
    """Four decimals, None for NaN."""
    plain = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in plain]


def hidden(net: torch.nn.Module, windows: WindowSet, found: identity.Probe) -> list[dict]:
    """What hiding a fifth of each tested window costs the probe of patients and the class: relevant for N, or at random."""
    tested = windows[found.test]
    x, patient = torch.from_numpy(tested.x), tested.patient
    cam = upsample(class_activation_map(net, x, 0)).numpy()
    relevance = {"nothing": None, "most relevant": cam, "least relevant": -cam}
    relevance |= {"at random": attribute("random", net, x, 0).numpy()}
    hits: dict[str, dict[str, np.ndarray]] = {}
    for what, r in relevance.items():
        seen = tested.x if r is None else identity.occluded(net, tested, r, share=SHARE)
        named = found.model.predict(identity.features(net, seen))
        hits[what] = {"patient": named == patient, "class": predict(net, seen).argmax(1) == tested.y}
    out = []
    for what, own in hits.items():
        fall = {k: hits["nothing"][k].astype(float) - own[k] for k in own}
        beyond = {k: hits["at random"][k].astype(float) - own[k] for k in own}
        for of, values in own.items():
            out.append(
                {"hidden": what, "of": of, "quantity": "accuracy", **over_patients(values.astype(float), patient)}
            )
            out.append({"hidden": what, "of": of, "quantity": "fall", **over_patients(fall[of], patient)})
            out.append({"hidden": what, "of": of, "quantity": "beyond random", **over_patients(beyond[of], patient)})
        gap = over_patients(fall["patient"] - fall["class"], patient)
        out.append({"hidden": what, "of": "patient less class", "quantity": "fall", **gap})
        gap = over_patients(beyond["patient"] - beyond["class"], patient)
        out.append({"hidden": what, "of": "patient less class", "quantity": "beyond random", **gap})
    return out


def main() -> None:
    found = source.find("mitdb")
    if found is None:
        raise SystemExit("MITDB is not on this machine: ecglib fetch mitdb")
    began = time.process_time()
    beats = identity.unseen(found, per_half=PER_HALF)
    who = np.unique(beats.patient)
    nets = {"by window": (models.load(networks.checkpoints("mitdb", "window")[0]), [])}
    for k, path in enumerate(networks.checkpoints("mitdb", "patient")):
        nets[f"by patient {k}"] = (models.load(path), models.metadata(path)["patients_held_out"])
    untrained = models.build("murugesan-gap", seed=0).eval()
    values = {name: identity.features(net, beats.x) for name, (net, _) in nets.items()}
    values |= {"untrained": identity.features(untrained, beats.x), "spectrum": probes.spectrum(beats.x)[1]}
    named, told, strangers, known = {}, [], [], []
    for name, f in values.items():
        named[name] = identity.probe(f, beats)
        told.append({"network": name, "patients": "all", **_plain(identity.accuracy(named[name], beats))})
        held = nets.get(name, (None, []))[1]
        if held:
            for group, of in (("held out", np.array(held)), ("seen", np.setdiff1d(who, held))):
                told.append(
                    {"network": name, "patients": group, **_plain(identity.accuracy(named[name], beats, of=of))}
                )
            use = np.isin(beats.patient[named[name].test], held)
            strangers.append((named[name].hit[use], beats.patient[named[name].test][use]))
            known.append((named["by window"].hit[use], beats.patient[named[name].test][use]))
    pooled = over_patients(*(np.concatenate(v) for v in zip(*strangers, strict=True)))
    told.append({"network": "by patient, pooled", "patients": "held out", **_plain(pooled)})
    hit = {k: np.concatenate([h for h, _ in v]).astype(float) for k, v in (("window", known), ("patient", strangers))}
    patient = np.concatenate([p for _, p in strangers])
    difference = over_patients(hit["window"] - hit["patient"], patient)
    told.append({"network": "by window less by patient", "patients": "held out", **_plain(difference)})

    windows = identity.held_by_window(found, per_class=PER_CLASS)
    explained = identity.maps(found, windows)
    right = {n: over_patients((m["guess"] == windows.y).astype(float), windows.patient) for n, m in explained.items()}
    plain = {n: float((m["guess"] == windows.y).mean()) for n, m in explained.items()}
    out = {
        "what": "reference networks held out by window and by patient on clean MITDB windows: a regression that names "
        "the patient from the CNN's features of N, maps of the annotated class on windows that the first did not learn from",
        "code_version": __version__,
        "checkpoints": [p.name for level in networks.LEVELS for p in networks.checkpoints("mitdb", level)],
        "device": f"CPU, {torch.get_num_threads()} thread(s)",
        "probe": {
            "windows": {"sha256": fingerprint(beats), "patients": len(who), "train": int(identity.earlier(beats).sum()),
                        "test": int((~identity.earlier(beats)).sum())},
            "chance": named["by window"].chance,
            "accuracy": rows(pd.DataFrame(told)),
        },
        "maps": {
            "windows": {"sha256": fingerprint(windows), "counts": windows.counts().to_dict()},
            "accuracy": {
                n: {"over windows": round(plain[n], 4), **{k: round(v, 4) for k, v in r.items()}} for n, r in right.items()
            },
            "rank": rows(identity.compare(windows, explained)),
            "places": rows(identity.places(windows, explained)),
        },
        "hidden": {
            "share": SHARE,
            **{n: rows(pd.DataFrame(hidden(nets[n][0], beats, named[n]))) for n in ("by window", "by patient 0")},
        },
        "classes": list(CLASSES),
    }  # fmt: skip
    out["cpu_s"] = round(time.process_time() - began, 1)  # not by the clock: it runs beside other work
    PATH.write_text(json.dumps(out) + "\n")
    print(out["maps"]["accuracy"])
    for part in (out["probe"]["accuracy"], out["maps"]["rank"], out["maps"]["places"], out["hidden"]["by window"],
                 out["hidden"]["by patient 0"]):  # fmt: skip
        print(pd.DataFrame(part).to_string())
    print(out["cpu_s"])


def _plain(row: dict[str, float]) -> dict[str, float]:
    return {"n": row["patients"]} | {k: v for k, v in row.items() if k != "patients"}


if __name__ == "__main__":
    main()
