"""Does a network know who the patient is, and does it explain by that?

A network that is tested on windows of patients it has learned from can score by recognising them.  `probe` asks how much of
the patient is in its features, `compare` how its maps differ from those of networks that were tested on strangers, and
`occluded` whether what a map calls relevant carries the patient or the class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ecglib import CLASSES, FS, clinic, models, networks
from ecglib.cam import class_activation_map, upsample
from ecglib.errors import DataError
from ecglib.evaluation import predict
from ecglib.fills import remove
from ecglib.localisation import mass_accuracy
from ecglib.modes import evaluating
from ecglib.overlap import over_patients, rank_correlation
from ecglib.source import Source
from ecglib.splits import split
from ecglib.windows import BLOCK_S, WindowSet, fill, labels
from ecglib.windowset import HALF_S, eight

_AT_ONCE = 32  # windows that pass the CNN at once
_NEAR_R_S = 0.06  # to either side of R: the QRS complex


@dataclass(frozen=True)
class Probe:
    """A classifier of patients on features of windows: earlier blocks of each patient train it, later ones test it.

    Attributes
    ----------
    patients : tuple of str
    test : ndarray of shape (M,), int
        Indices of the tested windows.
    hit : ndarray of shape (M,), bool
        Whether each was given to its patient.
    model : sklearn pipeline
    """

    patients: tuple[str, ...]
    test: np.ndarray
    hit: np.ndarray
    model: Any

    @property
    def chance(self) -> float:
        """Accuracy of a guess."""
        return 1 / len(self.patients)


def unseen(source: Source, *, label: str = "N", per_half: int = 10, seed: int = 0) -> WindowSet:
    """Windows of one class that no network was trained on, of each patient as many from earlier as from later blocks.

    Parameters
    ----------
    source : Source
    label : str
    per_half : int
        Windows from either half of a patient's, as `earlier` parts them; patients with fewer are left out.
    seed : int

    Notes
    -----
    Where training left too few over (on the phantom), windows of training are taken as well.
    """
    whole = labels(source.database, rule="clean", root=source.root, records=source.records)
    drawn = whole.subsample(networks._DRAWN[source.database][0], seed=0)
    known = set(zip(drawn.record.tolist(), drawn.time.tolist(), strict=True))
    own = whole[whole.y == CLASSES.index(label)]
    fresh = np.array([pair not in known for pair in zip(own.record.tolist(), own.time.tolist(), strict=True)])
    rng = np.random.default_rng(seed)
    own_patients, chosen = own.patient, []
    for allowed in (fresh, np.ones(len(own), bool)):
        for who in np.unique(own_patients):
            index = rng.permutation(np.flatnonzero((own_patients == who) & allowed))
            early = earlier(own[index])
            if min(early.sum(), (~early).sum()) >= per_half:
                chosen += [index[early][:per_half], index[~early][:per_half]]
        if len(chosen) > 2:
            return fill(own[np.sort(np.concatenate(chosen))], root=source.root)
        chosen = []
    raise DataError(f"two patients with {2 * per_half} windows of {label} each are needed; ask for fewer windows")


def earlier(windows: WindowSet) -> np.ndarray:
    """Whether a window lies in a 60-s block before the middle one of its patient's windows, shape (N,).

    Every block lies on one side.  The middle is that of the windows, so as many drawn from either side are halved as before.
    """
    block = np.floor(windows.anchor / BLOCK_S) + 1e4 * np.unique(windows.record, return_inverse=True)[1]
    return block < pd.Series(block).groupby(windows.patient).transform("median").to_numpy()


def features(net: Any, x: np.ndarray) -> np.ndarray:
    """Means over time of the CNN's units, all that the class activation map is made of: (N, 1, 720) -> (N, K)."""
    with evaluating(net), torch.inference_mode():
        return torch.cat([net.feature_map(part).mean(-1) for part in torch.from_numpy(x).split(_AT_ONCE)]).numpy()


def probe(values: np.ndarray, windows: WindowSet, *, test: np.ndarray | None = None) -> Probe:
    """Name the patient from features by a logistic regression.

    Parameters
    ----------
    values : ndarray of shape (N, K)
        Of the windows, by `features` or anything else.
    windows : WindowSet
    test : ndarray of shape (N, K), optional
        Features to test with in place of ``values``: of the same windows with something taken away.
    """
    train, patient = earlier(windows), windows.patient
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(values[train], patient[train])
    guess = model.predict((values if test is None else test)[~train])
    return Probe(tuple(map(str, model.classes_)), np.flatnonzero(~train), guess == patient[~train], model)


def accuracy(found: Probe, windows: WindowSet, *, of: np.ndarray | None = None) -> dict[str, float]:
    """Accuracy of a probe: mean of the patients' own, interval over patients, as `ecglib.overlap.over_patients`.

    ``of`` (patients,) restricts the tested patients; the probe still chooses among all.
    """
    who = windows.patient[found.test]
    use = np.ones(len(who), bool) if of is None else np.isin(who, of)
    return over_patients(found.hit[use].astype(float), who[use])


def held_by_window(source: Source, *, per_class: int = 40, seed: int = 0) -> WindowSet:
    """Windows that the network held out by window did not learn from, ``per_class`` of a class, patients in turn."""
    whole = labels(source.database, rule="clean", root=source.root, records=source.records)
    drawn = whole.subsample(networks._DRAWN[source.database][0], seed=0)
    part = split(drawn, level="window", seed=0)[0].test
    return fill(drawn[part].subsample(per_class, seed=seed), root=source.root)


def maps(source: Source, windows: WindowSet) -> dict[str, dict[str, np.ndarray]]:
    """Class activation maps of the annotated class, and the classes named, by network.

    Returns
    -------
    dict of str to dict
        "by window", "by patient" (which never saw the patient, where there is one) and "another k" (other networks by
        patient; on the phantom, which has one, none): ``maps`` (N, 48) and ``guess`` (N,).
    """
    database, n = "phantom" if source.simulated else "mitdb", len(windows)
    window = models.load(networks.checkpoints(database, "window")[0])
    every: list[Any] = [models.load(p) for p in networks.checkpoints(database, "patient")]
    names = ["by window", "by patient", *(f"another {k + 1}" for k in range(len(every) - 1))]
    out = {name: {"maps": np.empty((n, 48), np.float32), "guess": np.empty(n, int)} for name in names}
    own: Any
    for own, index in networks.by_network(source, windows):
        others = [net for net in every if not torch.equal(net.head.weight, own.head.weight)]
        x, y = torch.from_numpy(windows.x[index]), torch.from_numpy(windows.y[index])
        for name, net in zip(names, (window, own, *others), strict=True):
            out[name]["maps"][index] = class_activation_map(net, x, y).numpy()
            out[name]["guess"][index] = predict(net, windows.x[index]).argmax(1)
    return out


def compare(windows: WindowSet, found: Mapping[str, Mapping[str, np.ndarray]]) -> pd.DataFrame:
    """Rank correlation of maps over the 46 steps within the window, by class.

    Returns
    -------
    DataFrame
        pair, label, and columns of `ecglib.overlap.over_patients`.  Pairs are "by window · by patient", "two by patient",
        and where both are, "difference": the first less the second.
    """
    inner = {name: part["maps"][:, 1:-1] for name, part in found.items()}
    values = {"by window · by patient": rank_correlation(inner["by window"], inner["by patient"])}
    others = [rank_correlation(inner["by patient"], m) for name, m in inner.items() if name.startswith("another")]
    if others:
        values["two by patient"] = np.mean(others, axis=0)
        values["difference"] = values["by window · by patient"] - values["two by patient"]
    return _by_class(windows, values)


def places(windows: WindowSet, found: Mapping[str, Mapping[str, np.ndarray]]) -> pd.DataFrame:
    """Mass in the clinic's spans and within 60 ms of the labelled R, by class and network, and their difference."""
    time = windows.time[:, None] - HALF_S + np.arange(windows.x.shape[-1]) / FS
    truths = {
        "clinic": clinic.truth(windows),
        "QRS of the labelled beat": np.abs(time - windows.anchor[:, None]) <= _NEAR_R_S,
    }
    rows = []
    for where, truth in truths.items():
        mass = {
            n: mass_accuracy(upsample(torch.from_numpy(found[n]["maps"])), truth) for n in ("by window", "by patient")
        }
        values = mass | {"difference": mass["by window"] - mass["by patient"]}
        rows.append(_by_class(windows, values).assign(where=where))
    return pd.concat(rows, ignore_index=True)


def occluded(net: Any, windows: WindowSet, relevance: np.ndarray, *, share: float = 0.2) -> np.ndarray:
    """Windows without the most relevant ``share`` of their samples, a straight line over each gap: (N, 1, 720)."""
    k = round(share * windows.x.shape[-1])
    rank = np.argsort(np.argsort(-relevance, axis=1, kind="stable"), axis=1)
    return remove(torch.from_numpy(windows.x), torch.from_numpy(rank < k)).numpy()


# Internals -----------------------------------------------------------------------------------------------------


def _by_class(windows: WindowSet, values: Mapping[str, np.ndarray]) -> pd.DataFrame:
    patient = eight(windows).patient
    rows = [
        {"pair": pair, "label": c, **over_patients(v[windows.y == i], patient[windows.y == i])}
        for pair, v in values.items()
        for i, c in enumerate(CLASSES)
        if (windows.y == i).any()
    ]
    return pd.DataFrame(rows)
