"""Masks that delete everything or nothing: a warning to whoever learns them, and silence for whoever counts them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

SILENT = 0.01  #: a mask that nowhere deletes as much says nothing, and is left out of every comparison


def warn_if_collapsed(mask: Tensor) -> None:
    """Warn the caller's caller of masks that are (nearly) all 0 or all 1."""
    for value, name in ((0.0, "0: everything is deleted"), (1.0, "1: nothing is deleted")):
        flat = ((mask - value).abs() < 0.01).all(1)
        if flat.any():
            said = f"{int(flat.sum())} of {len(mask)} masks collapsed to {name}; change lambda_area, lr or n_iter"
            warnings.warn(said, stacklevel=3)


@contextmanager
def collapse_expected() -> Iterator[None]:
    """No warning of collapsed masks, for callers to whom a silent mask is a finding; any other warning stays."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "[0-9]+ of [0-9]+ masks collapsed", UserWarning)
        yield
