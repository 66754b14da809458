"""Parts of a report: tables, figures, and what is known of the network, in words for those who did not train it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from ecglib import models, networks
from ecglib.databases import DATABASES
from ecglib.errors import DataError
from ecglib.records import Record

_REFERENCE = "murugesan-gap-mitdb-patient"  # how the checkpoints of the reference networks begin
_RULES = {"clean": "windows that hold one class throughout", "deck": "windows around an annotation"}


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Table of two columns."""
    cells = "".join(f"<tr><th>{escape(a)}</th><td>{escape(b)}</td></tr>" for a, b in rows)
    return f"<table><tbody>{cells}</tbody></table>"


def table(frame: pd.DataFrame) -> str:
    """Table with a head; the first column is of words, the others of numbers."""
    side = lambda k: ' class="n"' if k else ""  # noqa: E731
    head = "".join(f"<th{side(k)}>{escape(str(c))}</th>" for k, c in enumerate(frame.columns))
    rows = [
        "".join(f"<td{side(k)}>{escape(str(v))}</td>" for k, v in enumerate(row))
        for row in frame.itertuples(index=False)
    ]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{r}</tr>' for r in rows)}</tbody></table>"


def figure(picture: str, caption: str) -> str:
    """Picture with a caption."""
    return f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"


def network_f1(notes: Mapping[str, Any]) -> dict[str, float]:
    """F1 by class on patients that were never seen, of a reference network; of any other one nothing is known: empty."""
    found = _reference() if str(notes.get("checkpoint", "")).startswith(_REFERENCE) else None
    return {c["class"]: c["f1"] for c in found["per_class"]} if found else {}


def network(model_name: str, notes: dict[str, Any], record: Record) -> list[str]:
    """Where the network comes from, and how well the committed reference did on patients that it never saw."""
    f1, own = network_f1(notes), str(notes.pop("checkpoint", ""))
    rows = [("Network", model_name), ("Trained on", _training(notes, record))]
    rows += [("Checkpoint", own)] if own not in ("", model_name) else []
    if (saw := notes.pop("saw_patient", None)) is not None:
        rows.append(("This patient", "was seen in training" if saw else "was not seen in training"))
    rows += [("Map", str(notes.pop("method")))] if "method" in notes else []
    rows += [(str(k), str(v)) for k, v in notes.items() if isinstance(v, str | int | float) and str(v)]
    out, found = [pairs(rows)], _reference()
    if not found:
        return [*out, "<p>How well this network does on patients that it never saw is not known here.</p>"]
    which = "This network is one of the reference networks. " if f1 else (
        "For this network no such numbers are at hand; it may do better or worse than the reference. "
    )  # fmt: skip
    score = lambda name: "{:.2f} (95 % interval {:.2f} to {:.2f})".format(  # noqa: E731
        found["scores"][name], *found["intervals"][name]
    )
    classes = [(c["class"], f"{c['f1']:.2f}", c["support"]) for c in found["per_class"]]
    return [
        *out,
        f"<p>{which}The reference, trained on the MIT-BIH Arrhythmia Database and tested on {found['n_groups']} patients "
        f"that it never saw, reached an accuracy of {score('accuracy')} and a macro-F1 of {score('f1_macro')} over eight "
        "classes that do not occur so evenly in life. On other recorders, leads and people it was not tested.</p>",
        table(pd.DataFrame(classes, columns=["class", "F1 of the reference", "windows tested"])),
        "<p>A confidence is what the network says of itself; it is not the chance of being right.</p>",
    ]  # fmt: skip


# Internals -----------------------------------------------------------------------------------------------------


def _training(notes: dict[str, Any], record: Record) -> str:
    """Whom the network learnt from, and whether the reader is among them, as a sentence from the checkpoint's notes."""
    run, rule, name = notes.pop("run", None) or {}, notes.pop("rule", ""), str(notes.pop("database", ""))
    held = set(notes.pop("patients_held_out", None) or [])
    if not name:
        return "not known"
    title = "MIT-BIH" if name == "mitdb" else DATABASES[name].title if name in DATABASES else name
    everybody = _patients(held) if name == "mitdb" else set()
    said = f"{len(everybody - held)} {title} patients" if everybody else f"patients of {title}"
    who = DATABASES["mitdb"].patient(record.name)  # a file that is called 208 may be the database's
    if everybody and not record.database and who not in everybody:
        said += ", not on yours"
    said += f"; {_RULES.get(str(rule), f'windows by the rule {rule}')}" if rule else ""
    if held:
        return f"{said}; {len(held)} more patients were held out, and it never saw them"
    return f"{said}; held out by {run['level']}: it may have seen every patient" if "level" in run else said


def _patients(held: set[str]) -> set[str]:
    """All patients of the reference networks, if those that were held out here are some of them."""
    try:
        paths = networks.checkpoints("mitdb", "patient")
    except DataError:
        return set()
    everybody = {who for path in paths for who in models.metadata(path).get("patients_held_out", [])}
    return everybody if held and held <= everybody else set()


def _reference() -> dict[str, Any] | None:
    try:
        cells = networks.results("reference_runs")["cells"]
        return next(c for c in cells if (c["level"], c["rule"]) == ("patient", "clean"))["seeds"][0]["report"]
    except (DataError, StopIteration, KeyError, IndexError):
        return None
