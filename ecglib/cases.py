"""The eight case studies: what the page of a class computes; `ecglib.case_pages` writes the pages and their words.

What is shown and against which controls was fixed here before any page was run: windows are drawn, not chosen, the beat of
the strip aside; where waves lie is the same for every class; an explanation is compared with the *best* of its controls.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecglib import CLASSES, FS, WINDOW, case, models, networks
from ecglib.attribution import attribute
from ecglib.cam import class_activation_map, upsample
from ecglib.case_pages import page, words, write_pages
from ecglib.case_tables import CONTROLS, average, expected, masses, where
from ecglib.collapsed import collapse_expected
from ecglib.counterfactual import Span, smallest_span
from ecglib.errors import DataError, check_name
from ecglib.evaluation import predict
from ecglib.records import read_annotations
from ecglib.segments import segments
from ecglib.source import TEXTBOOK, Source
from ecglib.windows import HALF_S, WindowSet, fill, labels

__all__ = [
    "Study",
    "average",
    "decisions",
    "expected",
    "flip",
    "further",
    "masses",
    "page",
    "study",
    "words",
    "write_pages",
]

SILENT = 0.01  #: a mask that nowhere deletes as much says nothing, as in `ecglib.pairing`


@dataclass(frozen=True)
class Study:
    """All that the page of a class shows.

    Attributes
    ----------
    label : str
    beat : Case
        The strip's beat, with the network's votes.
    net : nn.Module
        That explains it.
    relevance : dict of str to ndarray (720,)
        Of the page's class on that beat: "CNN map", "LSTM mask", "LSTM mask, deck's recipe".
    windows : WindowSet
        Drawn windows of the class, patients in turn.
    strangers : bool
        Whether the networks that explain them never saw their patients.
    maps, masks, logits : ndarray of shape (N, 8, 720), (N, 720), (N, 8)
    places : ndarray of shape (N, 720), str
        Name of the segment that each sample lies in, see `segments`.
    """

    label: str
    beat: case.Case
    net: Any
    relevance: dict[str, np.ndarray]
    windows: WindowSet
    strangers: bool
    maps: np.ndarray
    masks: np.ndarray
    logits: np.ndarray
    places: np.ndarray

    @property
    def methods(self) -> dict[str, np.ndarray]:
        """Relevance (N, 720) of the class by method and control; rows without a positive value say nothing."""
        speaks = self.masks.max(1, keepdims=True) >= SILENT
        x, centre = (
            torch.from_numpy(self.windows.x),
            torch.from_numpy(np.round(self.windows.r_position * FS).astype(int)),
        )
        found = {"CNN map": self.maps[:, CLASSES.index(self.label)], "LSTM mask": self.masks * speaks}
        for name, control in CONTROLS.items():
            options = {"centre": centre} if control == "bump" else {}
            found[name] = attribute(control, torch.nn.Identity(), x, 0, **options).numpy()
        return found

    @property
    def shown(self) -> dict[str, np.ndarray]:
        """Map and mask of the strip's beat, the mask with what it deletes at most in its name."""
        return _map_band(self.relevance["CNN map"], "CNN map") | _mask_band(self.relevance["LSTM mask"], "LSTM mask")

    @property
    def named(self) -> np.ndarray:
        """Classes that the networks name, (N,)."""
        return self.logits.argmax(1)

    def panel(self, i: int) -> dict[str, Any]:
        """Arguments for `ecglib.plots.saliency` of a drawn window; where another class is named, its map, too."""
        begin, names = float(self.windows.time[i]) - HALF_S, dict.fromkeys((self.label, CLASSES[self.named[i]]))
        shown: dict[str, np.ndarray] = {}
        for name in names:
            shown |= _map_band(self.maps[i, CLASSES.index(name)], f"CNN map, {name}")
        shown |= _mask_band(self.masks[i], f"LSTM mask, {self.label}")
        marks = {"expected": where(self.label, anchor=float(self.windows.anchor[i]), begin=begin)}
        title = f"Record {self.windows.record[i]}, annotated {self.label}, named {CLASSES[self.named[i]]}"
        return {"signal": self.windows.x[i, 0], "relevance": shown, "start": begin, "marks": marks, "title": title}


def study(
    source: Source, label: str, *, record: str = "", time: float = -1.0, model: str = "", split: str = "patient",
    most: int = 24,
) -> Study:  # fmt: skip
    """Compute what the page of a class shows.

    Parameters
    ----------
    source : Source
    label : str
        One of `ecglib.CLASSES`.
    record, time : str, float
        The beat of the strip; empty: the textbook record, or the first that the network never saw.
    model : str
        Path of a checkpoint; empty: the networks of ``split``.
    split : {"patient", "window"}
        By patient each window is shown to the network that never saw its patient.
    most : int
        Windows drawn.

    Raises
    ------
    DataError
        The records have no clean window of the class.
    """
    c, level = CLASSES.index(check_name("class", label, CLASSES)), model or check_name("split", split, networks.LEVELS)
    found = labels(source.database, rule="clean", root=source.root, records=source.records)
    found = found[found.y == c]
    if not len(found):
        raise DataError(f"{source.database} has no clean window of {label}; choose another class or database")
    held = np.isin(found.patient, _held_out(source, level))
    drawn = fill((found[held] if held.any() else found).subsample(most, seed=0), root=source.root)
    record = record or (TEXTBOOK[label] if TEXTBOOK[label] in drawn.record else str(drawn.record[0]))
    beat = case.explain(source, record=record, time=time, label=label, model=level)
    net = networks.network(source, level=level, record=str(beat.window.record[0]))[0]
    x = torch.from_numpy(beat.window.x)
    maps, masks, logits = (
        np.empty((len(drawn), 8, WINDOW), np.float32),
        np.empty_like(drawn.x[:, 0]),
        np.empty((len(drawn), 8)),
    )
    with collapse_expected():  # a silent mask is a finding here, and counted
        relevance = dict(beat.relevance)  # of the class that the network names
        if beat.words["predicted"] != label:
            relevance["CNN map"] = attribute("cam", net, x, c)[0].relu().numpy()
            relevance["LSTM mask"] = attribute("mask", net, x, c)[0].numpy()
        relevance["LSTM mask, deck's recipe"] = attribute("mask_deck", net, x, c)[0].numpy()
        for own, index in networks.by_network(source, drawn, level=level):
            part = torch.from_numpy(drawn.x[index])
            maps[index] = upsample(class_activation_map(own, part)).numpy()
            masks[index], logits[index] = attribute("mask", own, part, c).numpy(), predict(own, drawn.x[index])
    beats = {r: read_annotations(source.database, r, root=source.root).beats for r in np.unique(drawn.record).tolist()}
    about = zip(drawn.record, drawn.anchor, drawn.time - HALF_S, strict=True)
    places = np.stack([segments(beats[r].time, beats[r].symbol, anchor=a, start=t) for r, a, t in about])
    return Study(label, beat, net, relevance, drawn, bool(held.any()), maps, masks, logits, places)


def further(found: Study, *, most: int = 3) -> list[int]:
    """One window each of the next patients, as drawn; of the same patient's where there is no other."""
    who, first = found.windows.patient, found.beat.window.patient[0]
    firsts = [int(np.flatnonzero(who == p)[0]) for p in dict.fromkeys(who) if p != first]
    return firsts[:most] or list(range(min(most, len(who))))


def decisions(found: Study) -> dict[str, int]:
    """A "right" and a "wrong" window, where there are any: of each kind the one of the median probability."""
    z = torch.from_numpy(found.logits).softmax(1).numpy().max(1)
    right, chosen = found.named == CLASSES.index(found.label), {}
    for kind, own in (("right", np.flatnonzero(right)), ("wrong", np.flatnonzero(~right))):
        if len(own):
            chosen[kind] = int(own[np.argsort(z[own])[len(own) // 2]])
    return chosen


def flip(found: Study) -> Span | None:
    """`smallest_span` of the beat: every 20 ms up to 80 ms long, then every 0.1 s up to 0.6 s; at most 501 windows."""
    x = torch.from_numpy(found.beat.window.x)
    return smallest_span(found.net, x, longest_s=0.08) or smallest_span(found.net, x, step_s=0.1, longest_s=0.6)


# Internals -----------------------------------------------------------------------------------------------------


def _paths(source: Source, level: str) -> list[Path]:
    if level.endswith(".safetensors"):
        return [Path(level)]
    return networks.checkpoints("phantom" if source.simulated else "mitdb", level)


def _held_out(source: Source, level: str) -> list[str]:
    return sorted({p for path in _paths(source, level) for p in models.metadata(path).get("patients_held_out", [])})


def _map_band(values: np.ndarray, name: str) -> dict[str, np.ndarray]:
    return {name if (values > 0).any() else f"{name} (nowhere positive)": np.maximum(values, 0)}


def _mask_band(mask: np.ndarray, name: str) -> dict[str, np.ndarray]:
    """A mask by a name that says how much it deletes; a silent one is drawn empty, as its own maximum would be noise."""
    top = float(mask.max())
    return {f"{name} (deletes up to {top:.2f})": mask} if top >= SILENT else {f"{name} (deletes nothing)": 0 * mask}
