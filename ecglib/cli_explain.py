"""The command ``ecglib explain``: a whole record, a window for every beat, and files that other software reads."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ecglib import CLASSES
from ecglib.databases import DATABASES
from ecglib.errors import DataError, EcglibError, check_name

EPILOG = "Example: ecglib explain my.csv --fs 250 --unit mV --html report.html"
NOTICE = "This is research, no diagnosis: an explanation says what a network used, not what a heart does."


METHODS = (
    "cam, grad_cam, mask, mask_deck, mask_smooth, extremal, gradient, gradient_x_input, smooth_grad, "
    "integrated_gradients, gradient_shap, deep_lift, guided_backprop, guided_grad_cam, occlusion or feature_ablation"
)
#: what the library calls its arguments, and the shell its options
OPTIONS = (
    (r"give its rate in Hz with native_fs=", "give its rate in Hz, as in --fs 250"),
    (r"unit='mV', 'uV' or 'V'", "its unit: --unit mV, uV or V"),
    (r"give its unit:", "give"),
    (r"choose another folder, or resume=False to begin anew", "choose another with --out FOLDER, or give --again"),
    (r"method 'grad_cam'", "--method grad_cam"),
    (r"0 <= start < stop", "--start and --stop inside it"),
    (r"\bnative_fs\b=?", "--fs"),
    (r"^unit(?= is)|\bunit=|(?<=and )unit$", "--unit"),
    (r"\blead=", "--lead"),
)


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
    method: Annotated[str, typer.Option(help=f"How to explain: {METHODS}.")] = "cam",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the results; a stopped run goes on there.  By default runs/explain-RECORD, of the latest input."
        ),
    ] = None,
    wfdb: Annotated[bool, typer.Option("--wfdb", help="Write annotations and saliency as WFDB files, too.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a report that a browser shows.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Begin anew, whatever is in the folder.")] = False,
    root: Annotated[
        Path | None, typer.Option(help="Folder that holds the databases; $ECGLIB_DATA, else ./data.")
    ] = None,
) -> None:
    """Explain every beat of a record: what a network calls it, and where it looked. Research, no diagnosis.

    RECORD is a file of yours, or a record of a database: ecglib explain mitdb/208 --stop 300 --out runs/208 --wfdb
    """
    with _in_words_of_the_shell():
        _explain(record, database, model, start, stop, lead, fs, unit, method, out, wfdb, html, again, root)


# Internals -----------------------------------------------------------------------------------------------------


def _explain(
    record: str, database: str | None, model: Path | None, start: float, stop: float | None, lead: str | None,
    fs: float | None, unit: str | None, method: str, out: Path | None, wfdb: bool, html: Path | None, again: bool,
    root: Path | None,
) -> None:  # fmt: skip
    from ecglib.explain_io import explain_file
    from ecglib.explain_wfdb import write_wfdb

    if stop is not None and stop <= start:
        raise DataError(f"--stop {stop:g} does not lie after --start {start:g}; give a later second")
    where = _named(record, database)
    own: dict[str, Any] = {"native_fs": fs, "unit": unit}
    network, name, notes, whence = _network(model, *where, root=root)
    latest, out = out is None, out or Path("runs") / f"explain-{Path(where[-1]).stem}"
    found = explain_file(
        *where, model=network, out_dir=out, root=root, start=start, stop=stop, lead=lead, method=method, **own,
        classes=notes.get("classes", CLASSES), resume=not again, replace=latest, progress=sys.stderr.isatty(),
        say=typer.echo,
    )  # fmt: skip
    files: list[Any] = [out / "beats.csv"]
    if wfdb:
        files += write_wfdb(found, out)
    if html:
        from ecglib.records import open_record, read_record
        from ecglib.report_html import write_report

        part: dict[str, Any] = {"start": start, "stop": stop, "lead": lead}
        whole = read_record(*where, root=root, **part) if len(where) == 2 else open_record(where[0], **part, **own)
        told = {"rate": f"--fs {fs:g}" if fs else "", "unit": f"--unit {unit}" if unit else ""}
        of_file = {"file": Path(where[0]).name, "told": told} if len(where) == 1 else {}
        more = {**notes, **of_file, "method": method}
        files.append(write_report(found, whole, html, model_name=name, notes=more))
    typer.echo(f"{len(found.beats)} beats of {found.name}, {found.start:g} to {found.stop:g} s; {whence}")
    for line in _summary(found, rate_told=fs is not None):
        typer.echo(line)
    for file in files:
        typer.echo(f"wrote {file}")
    typer.echo(NOTICE)


def _summary(found: Any, *, rate_told: bool) -> Iterator[str]:
    """Heart rate where it tells of a wrong --fs, counts by class, and what annotations say, if there are any."""
    from ecglib.explained import disagreements
    from ecglib.report_svg import heart_rate, mean_rate

    beats = found.beats
    rate, _ = heart_rate(beats.time.to_numpy())
    if rate_told and len(rate):
        yield f"heart rate {mean_rate(rate):.0f} a minute; if that is not the patient's, --fs is wrong"
    annotated = bool((beats.symbol != "").any())
    counts = [beats[c][beats[c] != ""].value_counts() for c in ("expected", "predicted")]
    for c in (c for c in found.classes if any(c in n for n in counts)):
        known = f"annotated {counts[0].get(c, 0):>6,}  " if annotated else ""
        yield f"  {c:<5} {known}predicted {counts[1].get(c, 0):>6,}"
    yield "predicted counts windows of two seconds; one with an ectopic beat beside its own is often called that, too"
    if annotated:
        judged = int((beats.expected.isin(found.classes) & (beats.predicted != "")).sum())
        outside = int(((beats.symbol != "") & ~beats.expected.isin(found.classes)).sum())
        yield f"{len(disagreements(found)):,} of {judged:,} annotated beats were called something else"
        if outside:
            yield f"{outside:,} annotated beats are of none of the {len(found.classes)} classes"


@contextmanager
def _in_words_of_the_shell() -> Iterator[None]:
    """A hint of the library names an argument; here it names the option."""
    try:
        yield
    except EcglibError as error:
        line = str(error)
        for words, option in OPTIONS:
            line = re.sub(words, option, line)
        error.args = (line,)
        raise


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
        return models.load(model), model.name, {**models.metadata(model), "checkpoint": model.name}, f"network {model}"
    if record:
        network, notes = networks.network(Source(what, data_root(root), (record,)), record=record)
        saw = notes["saw_patient"] and what in {"mitdb", "qtdb", "phantom"}  # others share no patient with MITDB
        name = notes["checkpoint"]
        notes = {**notes, "saw_patient": saw}
        return network, name, notes, f"network {name}, which {'may have seen' if saw else 'never saw'} this patient"
    path = networks.checkpoints("mitdb", "patient")[0]
    notes = {**models.metadata(path), "checkpoint": path.name}
    return models.load(path), path.name, notes, f"network {path.name}, trained on MITDB"
