"""Windows counted by class and database, from annotations alone."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

from ecglib import CLASSES
from ecglib.databases import record_names
from ecglib.errors import DataError, check_name
from ecglib.labelsets import LabelSet, load
from ecglib.records import annotated
from ecglib.rules import RULES, label

#: the table's databases, and the classes for which it has a dash
TABLE = {"mitdb": ("SBR",), "ltafdb": ("LBBB", "RBBB"), "ltdb": ("PAC", "AFIB", "SVTA", "SBR", "LBBB", "RBBB")}


def count_table(
    root: str | os.PathLike[str] | None = None,
    *,
    rule: str = "deck",
    progress: bool = False,
    labels: LabelSet | str | os.PathLike[str] | None = None,
) -> pd.DataFrame:
    """Windows by class and database, from annotations alone.

    Returns
    -------
    DataFrame
        Index the classes, a column for each of mitdb, ltafdb, ltdb that is present; NaN where the deck has a dash.
    """
    check_name("rule", rule, RULES)
    columns, kinds = {}, load(labels)
    known = list(kinds.classes)
    for name, dashes in TABLE.items():
        try:
            record_names(name, root)
        except DataError:
            continue
        counts = np.zeros(len(known))
        for record in annotated(name, root=root, progress=progress):
            counts += np.bincount(label(record, rule=rule, labels=kinds).y, minlength=len(known))
        dashed = np.isin(known, dashes if rule == "deck" and kinds.classes == CLASSES else [])
        columns[name] = pd.Series(counts, index=known).mask(dashed)
    if not columns:
        record_names("mitdb", root)  # raises, and says how to get it
    return pd.DataFrame(columns)
