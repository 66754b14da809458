"""What is claimed of the explanations, how each claim is tested, and what we expect: written before the runs.

A claim is judged by a rule that is fixed here.  Its estimate comes with a 95 % bootstrap interval over patients (or over
simulated patients), Bonferroni-widened where a claim speaks of several classes, so that all intervals of one claim hold
together:

held
    the whole interval lies on the claimed side of the threshold;
failed
    the whole interval lies on the other side;
undecided
    the threshold lies inside the interval, or there are too few patients for an interval.

How many intervals hold together is `family`'s to say, for every program that judges a claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ecglib.errors import DataError, check_name

FEW = 5  #: with fewer patients a class is not judged


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes
    ----------
    text : str
        In words.
    test : str
        What is measured.
    above : bool
        Whether the claimed side is above the threshold (else below).
    threshold : float
    expected : mapping of str to str
        By class or method, "all" for every one of them: "held", "failed" or "undecided".
    known : str
        What had been seen of it when it was written; "" if nothing.
    truth : str
        What it is measured against: "planted", "expert", "clinic" or "none".
    """

    text: str
    test: str
    above: bool
    threshold: float
    expected: Mapping[str, str]
    known: str = ""
    truth: str = "none"


_BUNDLE = "class by class, too few patients for LBBB, RBBB and SVTA"

CLAIMS: Mapping[str, Claim] = MappingProxyType(
    {
        "planted-cam": Claim(
            "Where evidence was planted, the CNN's map finds it.",
            "Phantom, patients held out: mass of the map of the annotated class inside the planted evidence, less chance.",
            True, 0.0, {"all": "held", "SBR": "failed"}, truth="planted",
            known="shares of the map inside the planted spans are on the pages of map and mask",
        ),
        "planted-best": Claim(
            "In every class some explanation beats every control where evidence was planted.",
            "Phantom: mass of the class's best explanation less that of its best control, both chosen on other patients.",
            True, 0.0, {"all": "undecided", "PVC": "held", "LBBB": "held", "RBBB": "held"}, truth="planted",
        ),
        "clinic-cam": Claim(
            "The CNN's map lies where a cardiologist looks.",
            "MIT-BIH, patients held out: mass of the map inside the clinic's spans less chance, their share of time.",
            True, 0.0, {"PVC": "held", "PAC": "held", "N": "undecided", "AFIB": "failed", "SBR": "failed"}, truth="clinic",
            known="the same quantity by class, with intervals, is on the page of the map; " + _BUNDLE,
        ),
        "clinic-control": Claim(
            "It lies there more than the signal's own amplitude does.",
            "The same, less the mass of |x| instead of chance.",
            True, 0.0, {"all": "failed", "PAC": "held", "AFIB": "undecided"}, truth="clinic",
            known="means by class are on the page of the map",
        ),
        "clinic-mask": Claim(
            "The LSTM's mask lies where a cardiologist looks.",
            "As clinic-cam, for the settled mask.",
            True, 0.0, {"all": "undecided", "PVC": "held"}, truth="clinic", known="by class on the page of the mask",
        ),
        "expert-qrs": Claim(
            "On beats that experts delineated, the map of N lies on the QRS complex more than its share of time.",
            "QTDB's excerpts of MIT-BIH, beats of class N, manual boundaries: mass inside QRS less chance.",
            True, 0.0, {"N": "held"}, truth="expert",
        ),
        "expert-p": Claim(
            "And on the P wave.",
            "The same beats: mass inside P less chance.",
            True, 0.0, {"N": "failed"}, truth="expert",
        ),
        "qrs-everywhere": Claim(
            "Relevance sits on the QRS complex in every class, also where the clinical evidence is elsewhere.",
            "MIT-BIH, patients held out: mass of the map within 60 ms of an annotated R peak less the share of time.",
            True, 0.0, {"all": "held"},
        ),
        "deletion-random": Claim(
            "Deleting what is called relevant hurts more than deleting at random.",
            "MIT-BIH, patients held out: deletion curve's area (linear fill) of a random smooth map less the method's.",
            True, 0.0, {"all": "held", "mask_deck": "failed"},
        ),
        "deletion-amplitude": Claim(
            "It hurts more than deleting the largest deflections.",
            "The same with |x| in place of the random map.",
            True, 0.0, {"all": "failed", "occlusion": "undecided", "integrated_gradients": "undecided"},
        ),
        "fill-order": Claim(
            "The order of methods by deletion depends on what replaces a sample.",
            "Kendall's tau between the orders under two fills, the least over pairs of fills.",
            False, 0.8, {"all": "held"},
        ),
        "cascade": Claim(
            "An explanation of a network without its weights is another explanation.",
            "|Spearman's rank correlation| of a map with that of the wholly randomised network, by method.",
            False, 0.3, {"all": "held", "guided_grad_cam": "failed", "gradient_x_input": "undecided"},
        ),
        "seeds": Claim(
            "Networks trained alike explain alike.",
            "Pearson's r of the maps of two networks trained on other patients, on windows that neither saw.",
            True, 0.7, {"all": "failed"}, known="Arends et al. (2026) report .41 to .65 over initialisations of 12 methods",
        ),
        "recognise": Claim(
            "The network that recognises patients explains differently from those that do not.",
            "r between maps of the by-window network and a by-patient one, less r between two by-patient ones.",
            False, 0.0, {"all": "undecided"},
        ),
        "votes": Claim(
            "The LSTM hardly votes.",
            "MIT-BIH, patients held out: share of predictions that change when the LSTM is set to its mean.",
            False, 0.1, {"all": "held"}, known="accuracy with the LSTM silenced is on the page of the mask",
        ),
    }
)  # fmt: skip


def verdict(claim: str, estimate: float, low: float, high: float, *, patients: int | None = None) -> str:
    """Judge one estimate by the rule above.

    Parameters
    ----------
    claim : str
        Key of `CLAIMS`.
    estimate, low, high : float
        With its interval; NaN for the ends where there is none.
    patients : int, optional
        Behind the interval; fewer than `FEW` decide nothing.

    Examples
    --------
    >>> verdict("votes", 0.06, 0.03, 0.09), verdict("votes", 0.06, 0.03, 0.12), verdict("votes", 0.2, 0.15, 0.3)
    ('held', 'undecided', 'failed')
    """
    rule = CLAIMS[check_name("claim", claim, CLAIMS)]
    if low > high:
        raise DataError(f"expected low <= high, received {low:g} and {high:g}")
    if not low <= high or (patients is not None and patients < FEW):  # NaN
        return "undecided"
    if low > rule.threshold:
        return "held" if rule.above else "failed"
    if high < rule.threshold:
        return "failed" if rule.above else "held"
    return "undecided"


def family(claim: str, measured: Iterable[str]) -> list[str]:
    """Of the classes or methods that were measured, those that a claim speaks of: so many intervals hold together.

    Bonferroni's K is their number, also of those that have too few patients to be judged: K follows from what was
    written down, not from how the patients fell, and a larger one can only take a verdict back.

    >>> family("clinic-cam", ["N", "PVC", "LBBB"])
    ['N', 'PVC']
    """
    return [of for of in measured if expectation(claim, of) != "none"]


def expectation(claim: str, of: str) -> str:
    """What was expected of a claim for a class or method: its own entry, else that of "all", else "none"."""
    expected = CLAIMS[check_name("claim", claim, CLAIMS)].expected
    return expected.get(of, expected.get("all", "none"))
