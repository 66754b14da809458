"""Exceptions: each message is one line that names what was received and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EcglibError(ValueError):
    r"""Base of every error that ``ecglib`` raises on purpose; the shell turns it into exit status 2.

    A message may quote a file, and a file may hold anything: line breaks, and what would steer a terminal, are escaped.

    >>> print(DataError("no class '\n'"))
    no class '\n'
    """

    def __init__(self, message: str = ""):
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(message)))


class UnknownNameError(EcglibError):
    """A name (database, record, rule, class, model, method …) that is not in the catalogue."""


class DataError(EcglibError):
    """A record, annotation file, window set or checkpoint that is missing, damaged or unusable."""


class DownloadError(EcglibError):
    """A file that could not be fetched, verified or written."""


def check_name(kind: str, name: str, known: Iterable[str], *, hint: str = "") -> str:
    """Return ``name`` if it is one of ``known``, else raise with the nearest match.

    >>> check_name("rule", "dekc", ["deck", "clean"])
    Traceback (most recent call last):
    ...
    ecglib.errors.UnknownNameError: unknown rule 'dekc'; did you mean 'deck'? (known: deck, clean)
    """
    names = [str(k) for k in known]
    if name in names:
        return name
    near = difflib.get_close_matches(str(name), names, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    raise UnknownNameError(f"unknown {kind} {name!r}; {guess}(known: {shown}){'; ' + hint if hint else ''}")
