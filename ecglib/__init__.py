"""Interpreting deep networks for single-lead ECG arrhythmia classification.

Signals are ``float32`` arrays of shape ``(batch, lead, time)``: ``(N, 1, 720)`` for a window of two seconds
at 360 Hz.  Times are seconds and rates are Hz at every public boundary.

>>> import ecglib
>>> ecglib.CLASSES
('N', 'PVC', 'PAC', 'AFIB', 'SVTA', 'SBR', 'LBBB', 'RBBB')
"""

from __future__ import annotations

import importlib
from types import ModuleType

from ecglib.errors import DataError, DownloadError, EcglibError, UnknownNameError

__version__ = "0.2.0"

#: Rhythm classes in the order of the labels 0…7 (Vijayarangan et al., EMBC 2020).
CLASSES = ("N", "PVC", "PAC", "AFIB", "SVTA", "SBR", "LBBB", "RBBB")

FS = 360.0  #: sampling rate of every window, Hz
WINDOW = 720  #: samples in a window (2 s)

_SUBMODULES = """
    attribution book cam cli clinic databases evaluation explain extremal faithfulness localisation masks models networks
    phantom plots records sanity source splits training windows
""".split()
__all__ = ["CLASSES", "FS", "WINDOW", "DataError", "DownloadError", "EcglibError", "UnknownNameError", "__version__"]


def __getattr__(name: str) -> ModuleType:
    """Import submodules on first use: ``import ecglib`` alone loads neither torch nor wfdb."""
    if name in _SUBMODULES:
        return importlib.import_module(f"ecglib.{name}")
    raise AttributeError(f"module 'ecglib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBMODULES])
