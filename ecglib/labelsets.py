"""Label sets: which classes there are and how annotations become them, read from a file.

A file names its classes in the order of their labels 0, 1, …::

    name: mine
    classes:
      N:   {beats: N, rr: [0.6, 1.0], title: sinus rhythm}   # N beats in sinus rhythm, both RR intervals 0.6 to 1.0 s
      PVC: {beats: V, beside: N, within: [N, B]}             # V beats, N beats may stand beside; in sinus or bigeminy
      VT:  {rhythms: [VT], beats: V}                         # episodes of VT, each window on a V beat

``beats`` are WFDB's symbols; ``rhythms`` are the texts of its rhythm marks, without the parenthesis.  A class with
``rhythms`` is one of a rhythm: rule "deck" labels its marks, rule "clean" the beats within its episodes.  The others are
classes of beats: both rules label the beats, and "clean" only those ``within`` the rhythms named (sinus rhythm if none
is) and with both RR intervals from the first to below the second value of ``rr``, s.  Both together: a beat counts in an
episode of ``rhythms``, or ``within`` another rhythm if ``rr`` holds, as bradycardia is either marked or measured.  Of
two classes that claim one beat, the one named later has it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ecglib.errors import DataError, check_name

#: WFDB's codes of heart beats (https://archive.physionet.org/physiobank/annotations.shtml), and its flutter wave
BEATS = frozenset("N L R B A a J S V r F e j n E / f Q ? !".split())
HERE = Path(__file__).parent

_KEYS = ("title", "beats", "rhythms", "within", "beside", "rr")


@dataclass(frozen=True)
class Kind:
    """One class; see the module for what its fields ask of a window."""

    name: str
    title: str
    beats: str
    rhythms: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    beside: str = ""
    rr: tuple[float, float] | None = None


@dataclass(frozen=True)
class LabelSet:
    """Classes in the order of their labels."""

    name: str
    kinds: tuple[Kind, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(k.name for k in self.kinds)

    @property
    def titles(self) -> dict[str, str]:
        """What each class is called in full."""
        return {k.name: k.title for k in self.kinds}

    @property
    def beats(self) -> dict[str, int]:
        """Label of a beat's symbol."""
        return {s: c for c, k in enumerate(self.kinds) if not k.rhythms for s in k.beats}

    @property
    def rhythms(self) -> dict[str, int]:
        """Label of a rhythm's text."""
        return {r: c for c, k in enumerate(self.kinds) for r in k.rhythms}


def known() -> list[str]:
    """Label sets that come with the package: the eight classes of the book, and fifteen of MITDB."""
    return sorted(p.stem for p in HERE.glob("*.yml"))


def load(labels: LabelSet | str | os.PathLike[str] | None = None) -> LabelSet:
    """Label set by name or path of its file; the eight classes without one.

    Raises
    ------
    UnknownNameError, DataError
        No such set; a file that is not there or that does not describe one.

    Examples
    --------
    >>> load().rhythms
    {'AFIB': 3, 'SVTA': 4, 'SBR': 5}
    >>> load("mitdb15").titles["WPW"]
    'pre-excitation'
    """
    if isinstance(labels, LabelSet):
        return labels
    path = Path("mitdb8" if labels is None else labels)
    if path.suffix not in {".yml", ".yaml"}:
        path = HERE / f"{check_name('label set', str(path), known(), hint='or give a .yml file')}.yml"
        return _packaged(path)
    return _read(path)


def parse(table: Any, *, where: str = "the label set") -> LabelSet:
    """Label set from the contents of its file; ``where`` names it in errors."""
    if not isinstance(table, dict) or set(table) != {"name", "classes"} or not isinstance(table["classes"], dict):
        received = sorted(map(str, table)) if isinstance(table, dict) else type(table).__name__
        raise DataError(f"{where} must hold 'name' and a table 'classes'; received {received}")
    found = LabelSet(str(table["name"]), tuple(_kind(str(n), k, where) for n, k in table["classes"].items()))
    if len(found.kinds) < 2:
        raise DataError(f"{where} has {len(found.kinds)} classes; name two or more")
    for what, group in (("beat", "beats"), ("rhythm", "rhythms")):
        owner: dict[str, str] = {}
        for kind in found.kinds:
            for symbol in getattr(kind, group) if group == "rhythms" or not kind.rhythms else ():
                if owner.setdefault(symbol, kind.name) != kind.name:
                    raise DataError(
                        f"{where}: {what} {symbol!r} is of {owner[symbol]} and of {kind.name}; give it to one"
                    )
    return found


# Internals -----------------------------------------------------------------------------------------------------


@lru_cache
def _packaged(path: Path) -> LabelSet:
    return _read(path)


def _read(path: Path) -> LabelSet:
    import yaml  # windows that are cut already need no file

    class Loader(yaml.SafeLoader):
        pass

    def table(loader: Any, node: Any) -> dict[Any, Any]:
        pairs = loader.construct_pairs(node, deep=True)
        if twice := [k for i, (k, _) in enumerate(pairs) if k in [other for other, _ in pairs[:i]]]:
            raise DataError(f"{path.name}: {twice[0]!r} is named twice; name it once")
        return dict(pairs)

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, table)
    try:
        return parse(yaml.load(path.read_text(encoding="utf-8"), Loader), where=path.name)
    except OSError as error:
        raise DataError(f"cannot read the label set {path}: {error.strerror}; correct the path") from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:  # a table as a key is no hash
        raise DataError(f"{path.name} is no YAML: {' '.join(str(error).split())[:200]}; correct it there") from error


def _kind(name: str, entry: Any, where: str) -> Kind:
    here = f"{where}, class {name}"
    if not isinstance(entry, Mapping):
        raise DataError(f"{here} must be a table of {', '.join(_KEYS)}; received {entry!r}")
    for key in entry:
        check_name(f"key of {here}", key, _KEYS)
    beats, beside = (str(entry.get(key, "")).replace(" ", "") for key in ("beats", "beside"))
    rhythms, within = (_names(entry.get(key, []), f"{here}: {key}") for key in ("rhythms", "within"))
    if not beats:
        raise DataError(f"{here} has no beats; name the WFDB symbols of the beats that its windows stand on")
    if unknown := sorted(set(beats + beside) - BEATS - {"x"}) + (["x"] if "x" in beats else []):
        raise DataError(f"{here}: {unknown[0]!r} is no beat of WFDB; known: {' '.join(sorted(BEATS))}")
    rr = entry.get("rr")
    if rr is not None:
        try:
            low, high = (float("inf" if v is None else v) for v in rr)
        except (TypeError, ValueError):
            low, high = 0.0, 0.0
        if not 0 <= low < high:
            raise DataError(f"{here}: rr is {rr!r}; give the lowest and, or null, the first too long RR interval in s")
        rr = (low, high)
    within = within or (() if rhythms else ("N",))
    return Kind(name, str(entry.get("title", name)), beats, rhythms, within, beside, rr)


def _names(entry: Any, what: str) -> tuple[str, ...]:
    if not isinstance(entry, list) or not all(isinstance(n, str) and n.strip("( ") for n in entry):
        raise DataError(f"{what} is {entry!r}; give a list of texts of rhythm marks, such as [N, AFIB]")
    return tuple(n.lstrip("(") for n in entry)
