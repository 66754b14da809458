"""What a sweep is to do: ``sweep.yml`` read, checked and unfolded into runs.

A file that would do something else than it seems to say is refused before anything runs.
"""

from __future__ import annotations

import datetime
import itertools
import json
import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import yaml

from ecglib import source
from ecglib.databases import record_names
from ecglib.errors import DataError, check_name
from ecglib.pages import chapters, is_executable
from ecglib.sweep_task import EXPLAIN

KEYS = ("chapter", "task", "parameters", "runs", "out")
MOST = 10_000  #: a longer list is a slip in the grid more often than a wish
_KINDS = ("str", "int", "float", "bool")


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes
    ----------
    page : Path
        MyST text or notebook; of ``task: explain``, where `EXPLAIN` is to be written.
    task : bool
        Whether it is `EXPLAIN`.
    runs : tuple of dict
        Parameters of each run, in the order of the file.
    out : Path
        Folder of the results.
    """

    page: Path
    task: bool
    runs: tuple[dict[str, Any], ...]
    out: Path


def read(file: str | os.PathLike[str]) -> Plan:
    """Read ``sweep.yml``.  Its relative paths count from its own folder.

    Raises
    ------
    EcglibError
        One line on the first thing that is wrong: the file, a key, the chapter, a parameter that it does not have or of
        another type, an empty list, a run named twice, no runs or more than 10 000.
    """
    file = Path(file)
    given = _mapping(file)
    for key in given:
        check_name("key", key, KEYS, hint=f"in {file.name}")
    if ("chapter" in given) == ("task" in given):
        raise DataError(f"{file.name} has to give a chapter or a task, one of them; e.g. chapter: book/one_beat.md")
    for key in {"chapter", "task", "out"} & given.keys():
        if not isinstance(given[key], str) or not given[key]:
            raise DataError(f"{key} in {file.name} is {given[key]!r}; give a text")
    if "out" not in given:
        raise DataError(f"{file.name} does not say where results go; add a line such as out: runs/mine")
    out = file.parent / given["out"]
    task = "task" in given
    if task:
        check_name("task", given["task"], ["explain"])
    page = out / "explain.md" if task else _page(given["chapter"], file)
    known = _parameters(page, EXPLAIN if task else None)
    axes = {name: _axis(name, values, known, file) for name, values in _part(given, "parameters", dict, file).items()}
    if "record" in axes and axes["record"] == ["all"]:
        axes["record"] = list(record_names(*_database(axes)))
    explicit = _part(given, "runs", list, file)
    count = math.prod(len(values) for values in axes.values()) * bool(axes) + len(explicit)
    if not 0 < count <= MOST:
        raise DataError(f"{file.name} asks for {count:,} runs; give 1 to {MOST:,} by parameters and runs")
    runs = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())] if axes else []
    for run in explicit:
        if not isinstance(run, dict):
            raise DataError(f"runs in {file.name} holds {run!r}; give each run as name: value pairs")
        runs.append({name: _value(name, value, known, file) for name, value in run.items()})
    seen: dict[str, int] = {}
    for number, run in enumerate(runs, start=1):
        if task and not run.get("record"):
            raise DataError(f"run {number} of {file.name} names no record; task explain takes one record a run")
        first = seen.setdefault(json.dumps(run, sort_keys=True), number)
        if first != number:
            raise DataError(f"runs {first} and {number} of {file.name} are the same ({label(run)}); remove one")
    return Plan(page.resolve(), task, tuple(runs), out.resolve())


def label(run: dict[str, Any]) -> str:
    """Parameters of a run in one line.

    >>> label({"record": "208", "time": 2.5})
    'record = 208, time = 2.5'
    """
    return ", ".join(f"{name} = {value}" for name, value in run.items()) or "as the chapter stands"


# Internals -----------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [str(key.value) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(problem=f"key {twice[0]!r} is given twice")
        return super().construct_mapping(node, deep=deep)


def _mapping(file: Path) -> dict[str, Any]:
    try:
        given = yaml.load(file.read_text(encoding="utf-8"), _Loader)  # a SafeLoader: data, no objects
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}; give the path of a sweep.yml") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{file} is no text in UTF-8 that YAML could read; write it anew") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise DataError(f"{file} is no YAML: {what}{f', line {mark.line + 1}' if mark else ''}; correct it") from error
    except ValueError as error:  # a date such as 2001-02-30
        raise DataError(f"{file} is no YAML: {error}; put texts in quotes") from error
    if not isinstance(given, dict):
        raise DataError(f"{file} holds {type(given).__name__}, no keys; it should have {', '.join(KEYS)}")
    return given


def _part(given: dict[str, Any], key: str, kind: type, file: Path) -> Any:
    found = given.get(key, kind())
    if not isinstance(found, kind) or (key in given and not found):
        wanted = "lists of values by name of the parameter" if kind is dict else "a list of runs"
        raise DataError(f"{key} in {file.name} is {found!r}; give {wanted}")
    return found


def _page(name: str, file: Path) -> Path:
    page = file.parent / name
    if page.suffix not in {".md", ".ipynb"}:
        known = {chapter: path for chapter, path in chapters().items() if is_executable(path)}
        return known[check_name("chapter", name, known)]
    if not page.is_file():
        raise DataError(f"there is no chapter {page}; paths count from the folder of {file.name}")
    return page


def _parameters(page: Path, text: str | None) -> dict[str, str]:
    """Names and types of a chapter's parameters, as papermill reads its cell tagged ``parameters``."""
    import papermill

    try:
        book = jupytext.reads(text, "md:myst") if text else jupytext.read(page)
        with tempfile.TemporaryDirectory() as where:
            nbformat.write(book, f"{where}/page.ipynb")
            found = papermill.inspect_notebook(f"{where}/page.ipynb")
    except Exception as error:  # whatever a damaged file makes the readers trip over
        raise DataError(f"{page} is no notebook that papermill can run: {str(error).splitlines()[0]}") from error
    if not found:
        raise DataError(f"{page} has no parameters; give a cell of assignments the tag 'parameters'")
    return {name: parameter["inferred_type_name"] for name, parameter in found.items() if name != "folder" or not text}


def _axis(name: str, values: Any, known: dict[str, str], file: Path) -> list[Any]:
    values = values if isinstance(values, list) else [values]
    if not values:
        raise DataError(f"parameter {name} in {file.name} has an empty list; give values or leave it out")
    return [_value(name, value, known, file) for value in values]


def _value(name: str, value: Any, known: dict[str, str], file: Path) -> Any:
    """A value of the parameter's type.  YAML takes 208 for a number, and 1e-3 for a text; both are put right."""
    kind = known[check_name("parameter", name, known, hint=f"in {file.name}")]
    if kind == "str" and type(value) is int:
        return str(value)
    if kind == "float" and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    elif type(value).__name__ == kind or (kind not in _KINDS and isinstance(value, str | int | float | None)):
        return value
    hint = "; put it in quotes" if kind == "str" and isinstance(value, bool | float | datetime.date) else ""
    kind = kind if kind in _KINDS else "a number or a text"
    raise DataError(f"parameter {name} in {file.name} is {kind}, received {value!r}{hint}")


def _database(axes: dict[str, list[Any]]) -> tuple[str, Path | None]:
    """Database and root whose every record is meant by ``record: all``."""
    names = axes.get("database", ["auto"])
    found = source.find(names[0])
    if len(names) > 1 or (found is None and names == ["auto"]):
        raise DataError("record: all takes one database; give its name, or list the records")
    return (found.database, found.root) if found else (names[0], None)
