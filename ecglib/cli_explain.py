"""The command ``ecglib explain``: a whole record, a window for every beat, and files that other software reads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ecglib import CLASSES
from ecglib.databases import DATABASES
from ecglib.errors import DataError, check_name

EPILOG = "Example: ecglib explain mitdb/208 --start 0 --stop 300 --out runs/208 --wfdb"
NOTICE = "This is research, no diagnosis: an explanation says what a network used, not what a heart does."


def explain(
    record: Annotated[str, typer.Argument(help="database/record such as mitdb/208, or the path of a file of yours.")],
    database: Annotated[str | None, typer.Option(help="Database of RECORD, when that is a bare name.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint; by default the committed network that never saw the patient.")
    ] = None,
    start: Annotated[float, typer.Option(min=0, help="First second that is explained.")] = 0.0,
    stop: Annotated[float | None, typer.Option(help="Second at which to stop; the end.")] = None,
    lead: Annotated[str | None, typer.Option(help="Lead to take; MLII, else the first.")] = None,
    fs: Annotated[float | None, typer.Option(help="Rate of a CSV of yours that does not tell it, Hz.")] = None,
    unit: Annotated[
        str | None, typer.Option(help="Unit of a file of yours that does not tell it: mV, uV or V.")
    ] = None,
    method: Annotated[str, typer.Option(help="How to explain: cam, grad_cam, gradient …")] = "cam",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; a stopped run goes on there. runs/explain-RECORD")
    ] = None,
    wfdb: Annotated[bool, typer.Option("--wfdb", help="Write annotations and saliency as WFDB files, too.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a report that a browser shows.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Begin anew, whatever is in the folder.")] = False,
    root: Annotated[
        Path | None, typer.Option(help="Folder that holds the databases; $ECGLIB_DATA, else ./data.")
    ] = None,
) -> None:
    """Explain every beat of a record: what a network calls it, and where it looked. Research, no diagnosis."""
    from ecglib.explain_io import explain_file
    from ecglib.explain_wfdb import write_wfdb
    from ecglib.explained import disagreements

    if stop is not None and stop <= start:
        raise DataError(f"--stop {stop:g} does not lie after --start {start:g}; give a later second")
    where = _named(record, database)
    own: dict[str, Any] = {"native_fs": fs, "unit": unit}
    network, name, notes, whence = _network(model, *where, root=root)
    out = out or Path("runs") / f"explain-{Path(where[-1]).stem}"
    found = explain_file(
        *where, model=network, out_dir=out, root=root, start=start, stop=stop, lead=lead, method=method, **own,
        classes=notes.get("classes", CLASSES), resume=not again, progress=sys.stderr.isatty(),
    )  # fmt: skip
    files: list[Any] = [out / "beats.csv"]
    if wfdb:
        files += write_wfdb(found, out)
    if html:
        from ecglib.records import open_record, read_record
        from ecglib.report_html import write_report

        part: dict[str, Any] = {"start": start, "stop": stop, "lead": lead}
        whole = read_record(*where, root=root, **part) if len(where) == 2 else open_record(where[0], **part, **own)
        files.append(write_report(found, whole, html, model_name=name, notes={**notes, "method": method}))
    counts = [found.beats[c][found.beats[c] != ""].value_counts() for c in ("expected", "predicted")]
    typer.echo(f"{len(found.beats)} beats of {found.name}, {found.start:g} to {found.stop:g} s; {whence}")
    for c in (c for c in found.classes if any(c in n for n in counts)):
        typer.echo(f"  {c:<5} annotated {counts[0].get(c, 0):>6,}  predicted {counts[1].get(c, 0):>6,}")
    judged = int((found.beats.expected.isin(found.classes) & (found.beats.predicted != "")).sum())
    typer.echo(f"{len(disagreements(found)):,} of {judged:,} annotated beats were called something else")
    for file in files:
        typer.echo(f"wrote {file}")
    typer.echo(NOTICE)


# Internals -----------------------------------------------------------------------------------------------------


def _named(record: str, database: str | None) -> tuple[str, str] | tuple[str]:
    """(database, record), or (path,)."""
    if database:
        return check_name("database", database, DATABASES), record
    first, _, rest = record.partition("/")
    if first in DATABASES and rest and "/" not in rest:
        return first, rest
    path = Path(record).expanduser()
    if path.is_file() or path.with_name(f"{path.name}.hea").is_file():
        return (str(path),)
    if rest and "/" not in rest and not path.suffix and not Path(first).is_dir():
        check_name("database", first, DATABASES)
    raise DataError(f"there is no file {record}; write a record as mitdb/208, or give the path of a file of yours")


def _network(
    model: Path | None, what: str, record: str = "", *, root: Path | None
) -> tuple[Any, str, dict[str, Any], str]:
    """The network, its file's name, its notes, and a sentence on how it stands to this patient."""
    from ecglib import models, networks
    from ecglib.databases import data_root
    from ecglib.source import Source

    if model:
        return models.load(model), model.name, models.metadata(model), f"network {model}"
    if record:
        network, notes = networks.network(Source(what, data_root(root), (record,)), record=record)
        saw = notes["saw_patient"] and what in {"mitdb", "qtdb", "phantom"}  # others share no patient with MITDB
        name = notes["checkpoint"]
        return network, name, notes, f"network {name}, which {'may have seen' if saw else 'never saw'} this patient"
    path = networks.checkpoints("mitdb", "patient")[0]
    return models.load(path), path.name, models.metadata(path), f"network {path.name}, trained on MITDB"
