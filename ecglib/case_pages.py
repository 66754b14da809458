"""The pages of the case studies, written from their template, and the numbers in their sentences."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ecglib import CLASSES, clinic
from ecglib.case_tables import where
from ecglib.errors import check_name
from ecglib.files import write_atomically
from ecglib.source import project_root

if TYPE_CHECKING:
    from ecglib.cases import Study
    from ecglib.counterfactual import Span


def page(template: str, label: str) -> str:
    """Page of a class.

    Between ``% only PVC`` and ``% end`` stands text of one class; figures ``fig-study-…``, numbers ``study_…`` and the
    file's own name take the class, so that no two pages of a book share one.
    """
    key = check_name("class", label, CLASSES).lower()
    text = re.sub(
        r"^% only (\w+)\n(.*?)^% end\n",
        lambda m: m[2] if m[1] == label else "",
        template,
        flags=re.MULTILINE | re.DOTALL,
    )
    text = re.sub(r"^label: str = .*?  #", f'label: str = "{label}"  #', text, flags=re.MULTILINE)
    title = clinic.CRITERIA[label].title
    text = text.replace("# A case study\n", f"# {label}: {title[0].lower()}{title[1:]}\n")
    text = text.replace("fig-study-", f"fig-{key}-").replace("book/case_study", f"book/case_{key}")
    return re.sub(r"\bstudy_(?=[a-z{])", f"{key}_", text)


def write_pages(root: Path | None = None, *, write: bool = True) -> list[Path]:
    """Bring ``book/case_<class>.md`` in step with ``book/case_study.md``; returns those that were not."""
    folder, stale = (root or project_root()) / "book", []
    template = (folder / "case_study.md").read_text()
    for label in CLASSES:
        target, text = folder / f"case_{label.lower()}.md", page(template, label)
        if not target.is_file() or target.read_text() != text:
            stale.append(target)
            if write:
                write_atomically(target, text)
    return stale


def words(
    found: Study, inside: pd.DataFrame, segments: pd.DataFrame, chosen: dict[str, int], span: Span | None
) -> dict[str, str]:
    """What the sentences of a page say, from `ecglib.cases`: its study, `expected`, `masses`, `decisions` and `flip`."""
    w, best = found.windows, str(inside["best"].tolist()[0])
    people, own = len(set(w.patient)), found.named == CLASSES.index(found.label)
    beyond = len(set(w.patient) - {str(found.beat.window.patient[0])})
    means: dict[Any, Any] = inside["mean"].to_dict()
    methods = found.methods
    mute = {m: f"{int((methods[m].max(1) <= 0).sum())} of the {len(w)}" for m in ("CNN map", "LSTM mask")}
    out = {k: str(v) for k, v in found.beat.words.items()} | {
        "windows": f"{len(w)}", "patients": _count(people, "patient"),
        "map_silent": mute["CNN map"], "mask_silent": mute["LSTM mask"],
        "right": f"{int(own.sum())} of the {len(w)}", "control": best,
        "chance": f"{means['chance']:.2f}", "best": f"{means[best]:.2f}",
    }  # fmt: skip
    never = "never" in found.beat.words["acquaintance"]
    out["acquaintance"] = "never saw this patient" if never else "has seen this patient, or may have"
    out["strangers"] = "never saw their patients" if found.strangers else "saw their patients in training, or may have"
    same = "further windows of the same patient, for want of another"
    out["further"] = f"{_count(min(3, beyond), 'further patient')}, as drawn" if beyond else same
    lacking = {"right": "Not one of them is named wrongly.", "wrong": "Not one of them is named rightly."}
    out["missing"] = "There are both." if len(chosen) == 2 else lacking[next(iter(chosen))]
    time = segments[segments.pair == "chance"].set_index("label")["mean"]
    for method, key in (("CNN map", "map"), ("LSTM mask", "mask")):
        row: dict[Any, Any] = inside.loc[[method]].to_dict("records")[0]
        part = segments[segments.pair == method].set_index("label")["mean"]
        top = str((part - time).fillna(0).idxmax())
        out[f"{key}_most"] = f"{top} ({part[top]:.2f} of it in {time[top]:.2f} of the time)"
        out[f"{key}_share"] = _told(row["mean"], row["low"], row["high"])
        out[f"{key}_chance"] = _told(row["chance_mean"], row["chance_low"], row["chance_high"], sign="+")
        out[f"{key}_best"] = _told(row["best_mean"], row["best_low"], row["best_high"], sign="+")
        out[f"{key}_verdict"] = _verdict(row, best)
    return out | {"flip": _flip(found, span)}


# Internals -----------------------------------------------------------------------------------------------------


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + "s" * (n != 1)


def _told(mean: float, low: float, high: float, *, sign: str = "") -> str:
    if not np.isfinite(mean):
        return "no share at all"
    return f"{mean:{sign}.2f}" + (f" (95 % interval {low:{sign}.2f} to {high:{sign}.2f})" if np.isfinite(low) else "")


def _verdict(row: dict[Any, Any], best: str) -> str:
    """How a share stands to chance and to the best control, as far as the intervals go."""
    if not np.isfinite(row["best_low"]):
        return "too few patients for an interval, so this describes these windows and no more"
    said = []
    for control, name in (("chance", "chance"), ("best", best)):
        low, high = row[f"{control}_low"], row[f"{control}_high"]
        said.append(f"{'more than' if low > 0 else 'less than' if high < 0 else 'not told from'} {name}")
    return f"{' and '.join(dict.fromkeys(said))}, as far as these patients go"


def _flip(found: Study, span: Span | None) -> str:
    """The counterfactual in two sentences."""
    name = CLASSES[int(found.beat.votes.logit.to_numpy().argmax())]
    if span is None:
        return f"No span on these grids makes the network name anything but {name}."
    begin, r = found.beat.begin, float(found.beat.window.anchor[0])
    a, b = begin + span.start, begin + span.stop
    expected = where(found.label, anchor=r, begin=begin)
    inside = sum(max(0.0, min(b, stop) - max(a, start)) for start, stop in expected) / (b - a)
    return (
        f"Without {1000 * (b - a):.0f} ms, from {1000 * (a - r):+.0f} to {1000 * (b - r):+.0f} ms about the R peak, "
        f"the network names {CLASSES[span.after]} in place of {CLASSES[span.before]}. "
        f"Of that span {inside:.0%} lies where the evidence of {found.label} is expected."
    )
