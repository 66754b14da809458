"""One beat and everything that its page says about it, computed once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from ecglib import CLASSES, FS, WINDOW, clinic, networks
from ecglib.attribution import attribute
from ecglib.collapsed import collapse_expected
from ecglib.localisation import chance, mass_accuracy, span_mask
from ecglib.records import Record, read_record
from ecglib.source import Source, example
from ecglib.windows import HALF_S, WindowSet, at


@dataclass(frozen=True)
class Case:
    """An explained beat.

    Attributes
    ----------
    window : WindowSet
        Of length 1.
    begin : float
        Time of the window's first sample, s.
    context : Record
        Eight seconds around it.
    votes : DataFrame
        class, CNN, LSTM, bias, logit, probability.
    relevance : dict of str to ndarray (720,)
        Of the predicted class, by method.
    marks : dict of str to list of (start s, stop s)
        Where the evidence of the predicted class is expected; where that of any class was planted (phantom).
    mass : DataFrame
        Share of each explanation inside each kind of mark, beside chance and the bump on the R peak.
    words : dict of str to str
        What the page says in its sentences.
    """

    window: WindowSet
    begin: float
    context: Record
    votes: pd.DataFrame
    relevance: dict[str, np.ndarray]
    marks: dict[str, list[tuple[float, float]]]
    mass: pd.DataFrame
    words: dict[str, str]

    @property
    def summary(self) -> pd.DataFrame:
        """The case in one row."""
        return pd.DataFrame([self.words]).drop(columns="acquaintance")


def explain(
    source: Source, *, record: str = "", time: float = -1.0, label: str = "PVC", model: str = "patient"
) -> Case:
    """Explain the beat of a record nearest to a time, or the textbook example of a class.

    Parameters
    ----------
    source : Source
    record : str
        Empty: the textbook example of ``label``.
    time : float
        Seconds from the beginning of the record; negative: the record's example of ``label``.
    label : str
    model : str
        "patient", "window" or the path of a checkpoint.
    """
    record = str(record)
    if record and time >= 0:
        window = at(read_record(source.database, record, root=source.root), time=time)
    else:
        window = example(source, label, record=record)
    name, anchor = str(window.record[0]), float(window.anchor[0])
    begin = float(window.time[0]) - HALF_S
    context = read_record(source.database, name, root=source.root, start=max(0.0, begin - 3), stop=begin + 5)
    net, notes = networks.network(source, level=model, record=name)
    x = torch.from_numpy(window.x)
    votes = _votes(net, x)
    predicted = CLASSES[int(votes.logit.to_numpy().argmax())]
    c = CLASSES.index(predicted)
    with collapse_expected():  # a mask that deletes nothing shows as an empty band
        relevance = {
            "CNN map": attribute("cam", net, x, c)[0].relu().numpy(),
            "LSTM mask": attribute("mask", net, x, c)[0].numpy(),
        }
    marks = {f"expected for {predicted}": clinic.spans(predicted, anchor=anchor, start=begin, stop=begin + 2 * HALF_S)}
    if source.simulated:
        marks |= _planted(source, name, begin)
    y = int(window.y[0])
    seen = "The network was trained on other windows of this patient." if notes["saw_patient"] else (
        "The network never saw this patient in training."
    )  # fmt: skip
    words = {
        "record": name,
        "time": f"{anchor:.2f} s",
        "lead": context.lead,
        "annotated": CLASSES[y] if y >= 0 else "none of the eight classes",
        "predicted": predicted,
        "probability": f"{votes.probability.max():.2f}",
        "network": str(notes["checkpoint"]),
        "acquaintance": seen,
    }
    mass = _mass(relevance, marks, begin=begin, bump=attribute("bump", net, x, c, centre=_sample(anchor - begin)))
    return Case(window, begin, context, votes, relevance, marks, mass, words)


# Internals -----------------------------------------------------------------------------------------------------


def _sample(seconds: float) -> torch.Tensor:
    return torch.tensor([round(seconds * FS)])


def _votes(net: torch.nn.Module, x: torch.Tensor) -> pd.DataFrame:
    """Split every logit into its branches."""
    with torch.inference_mode():
        f, h = net.feature_map(x).mean(-1), net.lstm_features(x)  # type: ignore[operator]
        w, b = net.head.weight, net.head.bias  # type: ignore[union-attr]
        cnn, lstm = (f @ w[:, : f.shape[1]].T)[0], (h @ w[:, f.shape[1] :].T)[0]  # type: ignore[index]
        total = cnn + lstm + b  # type: ignore[operator]
    parts = {"CNN": cnn, "LSTM": lstm, "bias": b, "logit": total, "probability": total.softmax(0)}
    return pd.DataFrame({"class": CLASSES, **{k: v.detach().numpy() for k, v in parts.items()}})  # type: ignore[union-attr]


def _planted(source: Source, record: str, begin: float) -> dict[str, list[tuple[float, float]]]:
    from ecglib import phantom

    found: dict[str, list[tuple[float, float]]] = {}
    end = begin + 2 * HALF_S
    for span in phantom.read_truth(record, root=source.root).evidence:
        if span.start < end and span.stop > begin:
            found.setdefault(f"planted: {span.label}", []).append((max(begin, span.start), min(end, span.stop)))
    return found


def _mass(
    relevance: dict[str, np.ndarray],
    marks: dict[str, list[tuple[float, float]]],
    *,
    begin: float,
    bump: torch.Tensor,
) -> pd.DataFrame:
    rows = []
    for where, spans in marks.items():
        truth = span_mask(spans, start=begin, length=WINDOW, fs=FS)[None]
        shares = {name: mass_accuracy(r[None], truth)[0] for name, r in relevance.items()}
        rows.append({"inside": where, **shares, "R bump": mass_accuracy(bump, truth)[0], "chance": chance(truth)[0]})
    return pd.DataFrame(rows)
