"""Both explanations of the same windows, and all that they are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ecglib import CLASSES, FS, WINDOW, averages, clinic, models, networks, phantom
from ecglib.attribution import attribute
from ecglib.cam import class_activation_map, upsample
from ecglib.collapsed import SILENT, collapse_expected
from ecglib.errors import DataError, check_name
from ecglib.localisation import chance, mass_accuracy
from ecglib.overlap import MEASURES, Relevance, by_step, compare, summary
from ecglib.source import Source
from ecglib.windows import HALF_S, WindowSet
from ecglib.windowset import eight

CONTROLS = ("uniform", "amplitude", "slope", "bump")  #: of `ecglib.attribution`, those fixed before the reference run

#: pairs in the order in which they are shown, and what they are compared for
GROUPS: Mapping[str, str] = MappingProxyType(
    {"CAM · mask": "the two explanations"}
    | dict.fromkeys(["CAM · another window's mask", "CAM · another network's mask"], "a stand-in for the mask")
    | {f"CAM · {control}": "CAM and the signal" for control in CONTROLS if control != "uniform"}
    | {f"mask · {control}": "mask and the signal" for control in CONTROLS if control != "uniform"}
    | dict.fromkeys(["CAM · uniform", "mask · uniform"], "chance")
    | dict.fromkeys(["CAM · another network's CAM", "mask · another network's mask"], "one method, two networks")
)


@dataclass(frozen=True)
class Explained:
    """Windows, their explanations by name, the number of the network that explained each (N,), and whether it is right."""

    windows: WindowSet
    relevance: dict[str, Relevance]
    network: np.ndarray
    right: np.ndarray


def explain(source: Source, windows: WindowSet) -> Explained:
    """Explain the annotated class of windows by everything that is compared.

    Returns
    -------
    Explained
        "CAM" and "mask" of the network that never saw the patient, where there is one; both of another network, which as
        a rule has seen the patient; and each control, of which the bump stands on the labelled R peak.

    Raises
    ------
    DataError
        There are no windows.
    """
    if not len(windows):
        raise DataError("there are no windows to explain; choose a record that has clean windows of the eight classes")
    database, n = "phantom" if source.simulated else "mitdb", len(windows)
    nets: list[Any] = [models.load(p) for level in ("patient", "window") for p in networks.checkpoints(database, level)]
    maps, masks = (
        np.empty((2, n, 48), np.float32),
        np.empty((2, n, WINDOW), np.float32),
    )  # of its own, of another network
    network, right = np.empty(n, int), np.empty(n, bool)
    own: Any
    for k, (own, index) in enumerate(networks.by_network(source, windows)):
        other = next(net for net in nets if not torch.equal(net.head.weight, own.head.weight))
        x, y = torch.from_numpy(windows.x[index]), torch.from_numpy(windows.y[index])
        maps[0, index], masks[0, index], guess = both(own, x, y)
        maps[1, index], masks[1, index], _ = both(other, x, y)
        network[index], right[index] = k, guess == windows.y[index]
    found = {}
    for of, m, d in zip(("", "another network's "), maps, masks, strict=True):
        found[of + "CAM"] = Relevance(upsample(torch.from_numpy(m)).numpy(), m[:, 1:-1], np.zeros(n, bool))
        found[of + "mask"] = Relevance(d, by_step(d), d.max(1) < SILENT)
    centre, x = torch.from_numpy(np.round(windows.r_position * FS).astype(int)), torch.from_numpy(windows.x)
    for name in CONTROLS:
        control = attribute(name, nets[0], x, 0, **({"centre": centre} if name == "bump" else {})).numpy()
        found[name] = Relevance(control, by_step(control), np.zeros(n, bool))
    return Explained(windows, found, network, right)


def both(net: Any, x: Tensor, y: Tensor, **options: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class activation maps (n, 48) and settled masks (n, 720) of a class, and the classes that the network names (n,).

    Options are those of the mask, see `ecglib.attribution.attribute`.
    """
    maps = class_activation_map(net, x)  # (n, 8, 48): their means are all that the CNN says
    with collapse_expected():  # a silent mask is a finding here, and counted
        masks = attribute("mask", net, x, y, **options).numpy()
    with torch.no_grad():
        h = net.lstm_features(x)
        logits = maps.mean(-1) + h @ net.head.weight[:, -h.shape[1] :].T + net.head.bias
    return maps[torch.arange(len(x)), y].numpy(), masks, logits.argmax(1).numpy()


def pairs(explained: Explained, *, others: int = 5, seed: int = 0) -> pd.DataFrame:
    """Every measure of every pair that is compared.

    Parameters
    ----------
    explained : Explained
    others : int
        Other windows whose masks stand in for a window's own, their measures averaged: of the same class and network, and
        of another patient where there is one.
    seed : int
        Of their choice.

    Returns
    -------
    DataFrame
        One row a window and pair: pair, label, patient, window (its index), right, and `ecglib.overlap.MEASURES`.
        Pairs "at the beat" see 0.5 s to either side of the labelled R peak, in steps of 15 samples.
    """
    windows, found = explained.windows, explained.relevance
    whole = found["CAM"], found["mask"]
    near = _at_the_beat(windows, whole[0]), _at_the_beat(windows, whole[1])
    named = [("CAM", "mask"), *((a, c) for a in ("CAM", "mask") for c in CONTROLS), ("CAM", "another network's mask"),
             ("CAM", "another network's CAM"), ("mask", "another network's mask")]  # fmt: skip
    scores = {f"{a} · {b}": compare(found[a], found[b]) for a, b in named}
    scores["CAM · mask, at the beat"] = compare(*near)
    strangers = _strangers(explained, others, np.random.default_rng(seed))
    for where, (cam, mask) in {"": whole, ", at the beat": near}.items():
        stand_ins = [mask[who] for who in strangers]
        drawn = [
            compare(cam, replace(m, silent=m.silent | (who < 0))) for m, who in zip(stand_ins, strangers, strict=True)
        ]
        scores[f"CAM · another window's mask{where}"] = {
            m: pd.DataFrame([d[m] for d in drawn]).mean().to_numpy() for m in MEASURES
        }
    about = _about(windows) | {"window": np.arange(len(windows)), "right": explained.right}
    return pd.concat([pd.DataFrame({"pair": k, **about, **v}) for k, v in scores.items()], ignore_index=True)


def mass(explained: Explained, truth: np.ndarray) -> pd.DataFrame:
    """Share of the positive relevance inside ``truth`` (N, 720), averaged over patients.

    Returns
    -------
    DataFrame
        As of `ecglib.overlap.summary`.  Beside the explanations and controls stand chance, the share of the window that
        the truth covers, and "CAM less mask", their difference where both say something.
    """
    found = explained.relevance
    shares = {name: np.where(r.silent, np.nan, mass_accuracy(r.samples, truth)) for name, r in found.items()}
    shares |= {"CAM less mask": shares["CAM"] - shares["mask"], "chance": chance(truth)}
    about = _about(explained.windows)
    rows = pd.concat([pd.DataFrame({"pair": k, **about, "mass": v}) for k, v in shares.items()], ignore_index=True)
    return summary(rows, measures=["mass"])


def truth(source: Source, windows: WindowSet, *, kind: str = "expected") -> np.ndarray:
    """Samples (N, 720), bool, where evidence of the annotated class is expected by `ecglib.clinic`, or was planted.

    ``kind`` is "expected" or, of the phantom, "planted".
    """
    check_name("truth", kind, ("expected", "planted"))
    if kind == "expected":
        return clinic.truth(windows)
    known = {str(r): phantom.read_truth(str(r), root=source.root) for r in np.unique(eight(windows).record)}
    of = zip(windows.y, windows.record, windows.time - HALF_S, strict=True)
    return np.stack([phantom.evidence_mask(known[str(r)], label=CLASSES[y], start=float(t)) for y, r, t in of])


# Internals -----------------------------------------------------------------------------------------------------


def _about(windows: WindowSet) -> dict[str, np.ndarray]:
    return {"label": np.array(CLASSES)[eight(windows).y], "patient": windows.patient}


def _at_the_beat(windows: WindowSet, relevance: Relevance) -> Relevance:
    near = averages.aligned(windows, relevance.samples)[:, :-1]  # (N, 360)
    return Relevance(near, near.reshape(len(near), -1, 15).mean(2), relevance.silent)


def _strangers(explained: Explained, count: int, rng: np.random.Generator) -> np.ndarray:
    """Other windows to stand in for each window, (count, N); -1 where there is none."""
    y, patient, network = explained.windows.y, explained.windows.patient, explained.network
    speaks, drawn = ~explained.relevance["mask"].silent, np.full((count, len(y)), -1)
    for i in range(len(y)):
        alike = np.flatnonzero((y == y[i]) & (network == network[i]) & speaks & (np.arange(len(y)) != i))
        foreign = alike[patient[alike] != patient[i]]
        if len(alike):
            drawn[:, i] = rng.choice(foreign if len(foreign) else alike, count)
    return drawn
