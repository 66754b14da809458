"""What a cardiologist looks for in two seconds of one lead, class by class.

The criteria are sourced; the spans in time are our own reading of them, fixed here before any map was looked at, so
that a comparison cannot be tuned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from ecglib import CLASSES, FS, WINDOW
from ecglib.errors import check_name
from ecglib.localisation import span_mask
from ecglib.windowset import HALF_S, WindowSet, eight


@dataclass(frozen=True)
class Criterion:
    """Diagnostic criteria of one class.

    Attributes
    ----------
    title, text : str
        Name in full, and what is looked for.
    spans : tuple of (start s, stop s, what)
        Where that lies, relative to the R peak of the labelled beat (our reading).
    caveat : str
        What a single lead or two seconds cannot show.
    source : str
        Where the criteria come from.
    """

    title: str
    text: str
    spans: tuple[tuple[float, float, str], ...]
    caveat: str
    source: str


CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {
        "N": Criterion(
            "Normal sinus rhythm",
            "60 to 100 beats a minute; an upright P wave before each QRS; PR constant at 0.12-0.20 s; QRS below 0.12 s.",
            ((-0.20, -0.04, "P, PR"), (-0.05, 0.05, "QRS")),
            "It is the absence of everything else, so its evidence may lie anywhere.",
            "accesscardiology.mhmedical.com, section 277535337",
        ),
        "PVC": Criterion(
            "Premature ventricular contraction",
            "An early beat that no P wave leads to; QRS of 0.12 s or more, odd in shape; T opposite; as a rule a pause.",
            ((-0.08, 0.45, "QRS, ST-T"),),
            "Fusion beats and interpolated beats look milder.",
            "elentra.healthsci.queensu.ca, premature ventricular complex; misc.medscape.com A761148",
        ),
        "PAC": Criterion(
            "Premature atrial contraction",
            "An early P' wave of another shape, often riding on the T wave before; QRS as in sinus rhythm.",
            ((-0.30, -0.05, "P'"),),
            "The QRS is that of the other beats: to look at it alone is no clinical evidence.",
            "elentra.healthsci.queensu.ca, premature atrial complex; ekg.md, premature atrial contraction",
        ),
        "AFIB": Criterion(
            "Atrial fibrillation",
            "No distinct P waves; fibrillatory waves of 4 to 10 Hz; RR intervals without any order.",
            ((-0.45, -0.06, "baseline"),),
            "Two seconds hold two or three RR intervals; from one lead the diagnosis asks for 30 s.",
            "rama.mahidol.ac.th, atrial fibrillation; medicgrams.com",
        ),
        "SVTA": Criterion(
            "Supraventricular tachyarrhythmia",
            "Narrow QRS, as a rule regular, above 100 a minute and often at 150 to 250; P waves hidden in QRS or T.",
            ((-0.40, -0.05, "T-P fusion"), (-0.05, 0.05, "QRS")),
            "The rate is the sign, and it lies in the distance between beats.",
            "ecgstampede.com, supraventricular tachycardia; ekg.academy",
        ),
        "SBR": Criterion(
            "Sinus bradycardia",
            "As sinus rhythm, but fewer than 60 beats a minute: RR of 1.0 s or more.",
            ((0.45, 0.80, "T-P"), (-0.60, -0.22, "T-P")),
            "The evidence is an interval in which nothing happens.",
            "ekg.md, sinus bradycardia; teachingmedicine.com",
        ),
        "LBBB": Criterion(
            "Left bundle branch block",
            "QRS of 0.12 s or more, broad, notched or slurred in the lateral leads; ST-T opposite to QRS.",
            ((-0.06, 0.10, "QRS"),),
            "Without V1 and V6, only width, notch and discordance remain.",
            "understandingecg.org, node 259; medicineand.com",
        ),
        "RBBB": Criterion(
            "Right bundle branch block",
            "QRS of 0.12 s or more with a late second R in V1-V2; a broad terminal S wave in I, II and V6.",
            ((0.03, 0.12, "S"),),
            "Of the two signs, MLII shows the slurred S only.",
            "accessemergencymedicine.mhmedical.com, right bundle branch block",
        ),
    }
)


def spans(label: str, *, anchor: float, start: float = 0.0, stop: float = float("inf")) -> list[tuple[float, float]]:
    """Regions of a class in seconds, for an R peak at ``anchor``, clipped to ``start`` … ``stop``."""
    check_name("class", label, CLASSES)
    moved = [(max(start, anchor + a), min(stop, anchor + b)) for a, b, _ in CRITERIA[label].spans]
    return [(a, b) for a, b in moved if a < b]


def truth(windows: WindowSet, *, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """Samples (N, 720), bool, inside the spans of the annotated class of each window, or inside spans with other borders.

    Parameters
    ----------
    windows : WindowSet
    scale : float
        Of the borders' distances from R.
    shift : float
        By which they lie later, s.

    Raises
    ------
    DataError
        The windows are of other classes than the eight.
    """
    out, windows = [], eight(windows)
    for y, start, anchor in zip(windows.y, windows.time - HALF_S, windows.anchor, strict=True):
        moved = [(anchor + scale * a + shift, anchor + scale * b + shift) for a, b, _ in CRITERIA[CLASSES[y]].spans]
        out.append(span_mask(moved, start=start, length=WINDOW, fs=FS))
    return np.array(out)
