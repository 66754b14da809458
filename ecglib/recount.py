"""The published table of windows, recounted clause by clause from annotations.

Two rules were inferred from the published numbers (`ecglib.rules`).  Here each of their clauses is applied in turn, beside
the variants that one would try first and that do not fit, so that a reader sees which number forces which clause.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ecglib import CLASSES
from ecglib.records import BEAT_SYMBOLS, Record
from ecglib.rules import BEAT_CLASS, Clauses, clauses, to_another
from ecglib.wfdb_files import by_symbol

#: clauses in the order of the story, by rule; those in `ASIDE` are variants that lead nowhere
STEPS: Mapping[str, tuple[str, ...]] = {
    "A": ("every mark", "begins in the record", "… and ends in it", "never alone in its record"),
    "B": (
        "every mark",
        "between first and last mark",
        "beats alike, half-open window",
        "beats alike, closed window",
        "all marks alike, closed window",
    ),
}
ASIDE = ("… and ends in it", "beats alike, half-open window", "beats alike, closed window")
N_CLASSES = len(CLASSES)


def rule_of(database: str, label: str) -> str:
    """Rule, "A" or "B", that gives the class its windows in a database of the table."""
    return "B" if database in {"ltafdb", "ltdb"} and CLASSES.index(label) in BEAT_CLASS.values() else "A"


def steps(record: Record) -> dict[str, dict[str, np.ndarray]]:
    """Windows of each class (8,) that a record keeps after each step, by rule and step."""
    c, second = clauses(record), round(record.native_fs)
    marks = record.marks
    assert marks is not None
    is_beat = by_symbol(marks.symbol, dict.fromkeys(BEAT_SYMBOLS, True), other=False)
    known = c.label >= 0
    ends = c.begins & (c.sample + second <= round(record.duration * record.native_fs))
    kept = {
        "A": (known, c.begins, ends, c.begins & c.company),
        "B": (
            known,
            known & c.between,
            known & c.between & alike(c, is_beat, before=second, after=second - 1),
            known & c.between & alike(c, is_beat, before=second, after=second),
            known & c.between & c.pure,
        ),
    }
    return {
        rule: {
            step: np.bincount(c.label[flag], minlength=N_CLASSES) for step, flag in zip(STEPS[rule], flags, strict=True)
        }
        for rule, flags in kept.items()
    }


def alike(c: Clauses, among: np.ndarray, *, before: int, after: int) -> np.ndarray:
    """Whether all marks ``among`` (M,) from ``before`` to ``after`` samples around one of them carry its label, (M,).

    False for marks that are not among them.
    """
    back, on = to_another(c.sample[among], c.label[among])
    same = np.zeros(len(among), bool)
    same[among] = (back > before) & (on > after)
    return same


def verdicts(counted: pd.DataFrame, deck: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """The table cell by cell: published, counted, their difference, and what that means.

    Parameters
    ----------
    counted : DataFrame
        As of `ecglib.windows.count_table`.
    deck : mapping of database to mapping of class to int
        Published numbers; a dash is left out.

    Returns
    -------
    DataFrame
        Columns class, database, rule, published, counted, difference, verdict: "exact", "off" (by less than 2 %),
        "unexplained", or "dash" (published without a number).
    """
    rows = []
    for database in counted.columns:
        for label in CLASSES:
            printed, ours = deck[database].get(label), float(counted[database][label])
            off = np.nan if printed is None else ours - printed
            small = abs(off) < 0.02 * (printed or 1)
            verdict = "dash" if printed is None else "exact" if off == 0 else "off" if small else "unexplained"
            rows.append((label, database, rule_of(database, label), printed, ours, off, verdict))
    return pd.DataFrame(rows, columns=["class", "database", "rule", "published", "counted", "difference", "verdict"])


def story(found: Mapping[str, Any], deck: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """Windows after each step of the rule that holds for a cell, for every cell that the deck fills.

    Parameters
    ----------
    found : mapping of database to the ``steps`` and ``forced`` of `ecglib.survey.survey`
    deck : see `verdicts`

    Returns
    -------
    DataFrame
        Columns database, class, rule, step, windows, published, fits, aside (a variant that was tried) and records
        (those that lose a window at this step: they force it).
    """
    rows = []
    for database, survey in found.items():
        for label, printed in deck[database].items():
            rule = rule_of(database, label)
            for step in STEPS[rule]:
                n = survey["steps"][rule][step][CLASSES.index(label)]
                forced = survey["forced"][rule][step].get(label, [])
                rows.append((database, label, rule, step, n, printed, n == printed, step in ASIDE, forced))
    names = ["database", "class", "rule", "step", "windows", "published", "fits", "aside", "records"]
    return pd.DataFrame(rows, columns=names)
