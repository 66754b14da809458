"""What readers of a person's own files share: which lead is meant, in which unit it is, and whether both make sense."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ecglib.errors import DataError, check_name

#: millivolts in one unit, by the unit's name in lower case; both signs for micro are in use
UNITS = {"mv": 1.0, "millivolt": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "microvolt": 1e-3, "v": 1e3, "volt": 1e3}
RATES = (50.0, 20_000.0)  #: Hz; slower shows no QRS, faster is no ECG
SHORTEST_S = 2.0  #: a window of the networks

# Amplitudes that no body surface ECG has, mV: typical size with its offset, and the range of 98 % of the samples
_MOST, _WIDEST, _NARROWEST = 20.0, 30.0, 0.02
_ECG = re.compile(r"E[CK]G", re.IGNORECASE)
# Not a bare V, which stands in V1 and aVF; it counts in brackets
_IN_NAME = re.compile(r"[\s_,/]*[(\[]\s*([µμum]?v)\s*[)\]]|(?<![a-z])[\s_]*([µμum]v)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Channel:
    """A channel or column of a file: its place counted from 1, its name, and its unit as the file tells it ("": not)."""

    number: int
    name: str
    unit: str = ""


def named(number: int, text: str, unit: str = "") -> Channel:
    """Channel from the head of a column, which may hold the unit.

    >>> named(2, "MLII (mV)"), named(3, "V1")
    (Channel(number=2, name='MLII', unit='mV'), Channel(number=3, name='V1', unit=''))
    """
    found = _IN_NAME.search(text)
    if not found:
        return Channel(number, text.strip(), unit)
    name = (text[: found.start()] + text[found.end() :]).strip(" _,;:-")
    return Channel(number, name or text.strip(), unit or found[1] or found[2])


def choose(channels: Sequence[Channel], lead: str | int | None, *, file: str) -> Channel:
    """The channel of a name or number; without one the only channel that can be meant.

    Raises
    ------
    DataError
        None was named and several can be meant: those called ECG or EKG, else those in volts, else all.
    UnknownNameError
        No channel of that name or number.
    """
    if not channels:
        raise DataError(f"{file} holds no signals; give a file with an ECG lead")
    listed = _listed(channels)
    if lead is None or str(lead).strip() == "":
        likely = [c for c in channels if _ECG.search(c.name)] or [c for c in channels if c.unit.lower() in UNITS]
        likely = likely or list(channels)
        if len(likely) > 1:
            raise DataError(
                f"{file} has {len(likely)} leads; choose one with lead=, by name or number: {_listed(likely)}"
            )
        return likely[0]
    wanted = str(lead).strip()
    same = [c for c in channels if c.name == wanted] or [c for c in channels if c.name.lower() == wanted.lower()]
    if len(same) > 1:
        raise DataError(f"{file} has {len(same)} leads called {wanted!r}; choose by number: {_listed(same)}")
    same = same or [c for c in channels if str(c.number) == wanted]
    if not same:
        check_name("lead", wanted, [c.name for c in channels], hint=f"leads of {file}: {listed}")
    return same[0]


def factor(channel: Channel, unit: str | None, *, file: str) -> float:
    """Millivolts in one unit of a channel; ``unit``, if given, outweighs what the file says."""
    said = (unit or channel.unit).strip()
    if not said:
        raise DataError(f"{file} does not tell the unit of lead {channel.name}; give unit='mV', 'uV' or 'V'")
    found = UNITS.get(said.lower()) or UNITS.get(said.lower().removesuffix("s"))
    if found is None:
        whose = "unit" if unit else f"the unit of lead {channel.name} in {file}"
        raise DataError(f"{whose} is {said[:20]!r}, which is not mV, uV or V; give unit= or choose another lead")
    return found


def check_amplitude(signal: np.ndarray, channel: Channel, *, unit: str | None, file: str) -> None:
    """Refuse millivolts (T,) that no ECG has, which is what a wrong unit gives."""
    seen = signal[np.isfinite(signal)]
    if not len(seen) or seen.min() == seen.max():  # told elsewhere as empty or flat
        return
    typical, (low, high) = float(np.median(np.abs(seen))), np.percentile(seen, [1, 99])
    spread = float(high - low)
    said = (unit or channel.unit).strip()
    if typical > _MOST or spread > _WIDEST:
        raise DataError(
            f"lead {channel.name} of {file}, read in {said}, would be {_plain(typical)} mV from zero and "
            f"{_plain(spread)} mV high, which no ECG is; correct unit=, or take the offset away"
        )
    if float(np.ptp(seen)) < _NARROWEST:
        raise DataError(
            f"lead {channel.name} of {file}, read in {said}, would be {_plain(np.ptp(seen))} mV high, which no ECG is; "
            "correct unit= or choose another lead"
        )


def check_rate(rate: Fraction | float, *, file: str, source: str) -> Fraction:
    """Return a sampling rate that an ECG can have as an exact fraction of Hz."""
    if not math.isfinite(rate) or not RATES[0] <= rate <= RATES[1]:
        raise DataError(
            f"{source} of {file} makes a rate of {float(rate):.6g} Hz, and ECG is sampled at {RATES[0]:g} to "
            f"{RATES[1]:g} Hz; give its rate in Hz with native_fs="
        )
    return rate if isinstance(rate, Fraction) else Fraction(str(rate))


def _plain(value: float) -> str:
    """Three digits, never as a power of ten.

    >>> _plain(2543.2), _plain(0.5), _plain(0.00001234)
    ('2540', '0.5', '0.0000123')
    """
    return np.format_float_positional(float(f"{value:.3g}"), trim="-")


def _listed(channels: Sequence[Channel]) -> str:
    shown = ", ".join(f"{c.number} {c.name[:24]}" for c in channels[:12])
    return shown + (", …" if len(channels) > 12 else "")
