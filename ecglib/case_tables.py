"""Tables of a case study: where relevance lies, averaged over patients, beside its controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ecglib import averages, clinic, networks
from ecglib.overlap import over_patients
from ecglib.segments import OTHERS, SEGMENTS, share
from ecglib.windowset import HALF_S

if TYPE_CHECKING:
    from ecglib.cases import Study

CONTROLS = {
    "chance": "uniform",
    "amplitude": "amplitude",
    "R bump": "bump",
}  #: by name, their keys in `ecglib.attribution`
LEAST_PATIENTS = 5  #: with fewer there is no interval


def masses(found: Study) -> pd.DataFrame:
    """Share of each method's relevance by segment, over patients: a table for `ecglib.plots.masses`."""
    rows = [{"pair": name, "label": place, **_over(share(r, found.places == place), found.windows.patient)}
            for name, r in found.methods.items() for place in (*SEGMENTS, *OTHERS)]  # fmt: skip
    return pd.DataFrame(rows)


def average(found: Study) -> pd.DataFrame:
    """Map and mask around R in multiples of the window's mean, and the committed reference: for `relevance_average`."""
    methods = {"CNN map": "cam", "LSTM mask": "mask"}
    here = [averages.by_class(found.windows, averages.relative(found.methods[m])).assign(label=m) for m in methods]
    whole = {m: pd.DataFrame(networks.results("maps")[key]) for m, key in methods.items()}
    return pd.concat([*here, *(t[t.label == found.label].assign(label=f"reference: {m}") for m, t in whole.items())])


def expected(found: Study) -> pd.DataFrame:
    """Share inside the spans of `ecglib.clinic`, over patients.

    Returns
    -------
    DataFrame
        Index method; mean, low, high, patients, windows; best, the control with the largest mean; and by how much a method
        exceeds chance and that control: chance_mean, …, best_high.
    """
    inside = clinic.truth(found.windows)
    shares, who = {name: share(r, inside) for name, r in found.methods.items()}, found.windows.patient
    table = pd.DataFrame({name: _over(v, who) for name, v in shares.items()}).T
    best = str(table.loc[list(CONTROLS), "mean"].idxmax())
    table = table.assign(best=best)
    for control, name in (("chance", "chance"), ("best", best)):
        over = pd.DataFrame({m: _over(v - shares[name], who) for m, v in shares.items()}).T
        table = table.join(over[["mean", "low", "high"]].add_prefix(f"{control}_"))
    return table


def where(label: str, *, anchor: float, begin: float) -> list[tuple[float, float]]:
    """Spans in which the evidence of a class is expected in a window from ``begin`` on, s; those that meet are one."""
    joined: list[tuple[float, float]] = []
    for a, b in sorted(clinic.spans(label, anchor=anchor, start=begin, stop=begin + 2 * HALF_S)):
        joined[-1:] = (
            [(joined[-1][0], max(b, joined[-1][1]))] if joined and a <= joined[-1][1] else [*joined[-1:], (a, b)]
        )
    return joined


# Internals -----------------------------------------------------------------------------------------------------


def _over(values: np.ndarray, patient: np.ndarray) -> dict[str, float]:
    """`over_patients`, without an interval of fewer than `LEAST_PATIENTS`."""
    found = over_patients(values, patient)
    return found if found["patients"] >= LEAST_PATIENTS else found | {"low": np.nan, "high": np.nan}
