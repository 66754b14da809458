"""The rules by which claims are judged, and that every claim can be."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecglib import CLASSES
from ecglib.attribution import METHODS
from ecglib.claims import CLAIMS, FEW, expectation, family, verdict
from ecglib.errors import DataError, UnknownNameError

NUMBERS = st.floats(-2, 2)


@given(claim=st.sampled_from(sorted(CLAIMS)), ends=st.tuples(NUMBERS, NUMBERS))
def test_an_interval_on_one_side_decides_and_one_across_does_not(claim, ends):
    low, high = sorted(ends)
    rule = CLAIMS[claim]
    found = verdict(claim, (low + high) / 2, low, high)
    if low <= rule.threshold <= high:
        assert found == "undecided"
    else:
        assert found == ("held" if (low > rule.threshold) == rule.above else "failed")


def test_few_patients_or_no_interval_decide_nothing():
    assert verdict("clinic-cam", 0.5, 0.4, 0.6, patients=FEW) == "held"
    assert verdict("clinic-cam", 0.5, 0.4, 0.6, patients=FEW - 1) == "undecided"
    assert verdict("clinic-cam", 0.5, math.nan, math.nan) == "undecided"


def test_what_a_claim_speaks_of_counts_whoever_can_be_judged():
    assert family("clinic-cam", CLASSES) == ["N", "PVC", "PAC", "AFIB", "SBR"]  # it names no others
    assert family("clinic-control", CLASSES) == list(CLASSES)  # all
    assert family("clinic-control", ["PAC", "RBBB"]) == ["PAC", "RBBB"]  # of which windows are there
    assert family("votes", ["all"]) == ["all"]


def test_errors():
    with pytest.raises(UnknownNameError, match="claim"):
        verdict("mask", 0, 0, 0)
    with pytest.raises(DataError, match="low <= high"):
        verdict("votes", 0.1, 0.3, 0.2)


def test_expectations_name_classes_or_methods():
    known = {*CLASSES, *METHODS, "all"}
    for name, claim in CLAIMS.items():
        assert set(claim.expected) <= known, name
        assert set(claim.expected.values()) <= {"held", "failed", "undecided"}, name
    assert expectation("planted-cam", "SBR") == "failed"
    assert expectation("planted-cam", "N") == "held"
    assert expectation("clinic-cam", "LBBB") == "none"
