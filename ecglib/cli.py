"""The command ``ecglib``: the library's functions for the shell.

Bad input ends with one line on stderr and exit status 2; ``--debug`` shows the traceback.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ecglib import __version__
from ecglib.errors import DataError, EcglibError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Root = Annotated[Path | None, typer.Option(help="Folder that holds the databases; $ECGLIB_DATA, else ./data.")]


class Rule(StrEnum):
    """Rules of `ecglib.windows.cut`."""

    deck = "deck"
    clean = "clean"


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command(epilog="Example: ecglib fetch mitdb --record 100 --record 208")
def fetch(
    database: Annotated[str, typer.Argument(help="mitdb, ltafdb, ltdb or qtdb.")],
    record: Annotated[list[str] | None, typer.Option(help="Only this record; can be given again.")] = None,
    root: Root = None,
    base_url: Annotated[str | None, typer.Option(help="Mirror of PhysioNet's /files/ tree.")] = None,
) -> None:
    """Download a database, verified against its checksums; a stopped download goes on where it was."""
    from ecglib.databases import PHYSIONET
    from ecglib.download import fetch

    typer.echo(fetch(database, root=root, records=record or None, base_url=base_url or PHYSIONET))


@app.command(epilog="Example: ecglib count --root data")
def count(root: Root = None, rule: Annotated[Rule, typer.Option(help="Rule to count by.")] = Rule.deck) -> None:
    """Count windows by class and database, from annotations alone."""
    from ecglib.windows import count_table

    typer.echo(count_table(root, rule=rule.value).map(lambda n: "–" if n != n else f"{n:,.0f}").to_string())


@app.command(epilog="Example: ecglib train mitdb --rule clean --level patient --folds 3 --epochs 12 --out runs/mine")
def train(
    database: Annotated[str, typer.Argument(help="Database to train on.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; a stopped run goes on there.")],
    rule: Annotated[Rule, typer.Option(help="Rule that cuts the windows.")] = Rule.clean,
    level: Annotated[str, typer.Option(help="Split: window, block, patient or ds1-ds2.")] = "patient",
    folds: Annotated[int | None, typer.Option(help="Folds for cross-validation; the first is trained.")] = None,
    model: Annotated[str, typer.Option(help="Network.")] = "murugesan-gap",
    width: Annotated[int, typer.Option(min=4, help="Channels of its stem.")] = 64,
    epochs: Annotated[int, typer.Option(min=1)] = 12,
    draws: Annotated[int, typer.Option(min=1, help="Windows drawn in an epoch.")] = 8000,
    per_class: Annotated[int, typer.Option(min=1, help="Windows kept of each class.")] = 2500,
    seed: int = 0,
    root: Root = None,
) -> None:
    """Train a network, score it on the held-out part, write checkpoint and scores."""
    import json

    from ecglib import evaluation, models, networks, training
    from ecglib.splits import split
    from ecglib.windows import cut_database

    network = models.build(model, seed=seed, width=width)
    windows = cut_database(database, rule=rule.value, root=root, progress=True).subsample(per_class, seed=seed)
    part = split(windows, level=level, folds=folds, seed=seed)[0]
    if not len(part.test):
        raise DataError(f"the split {level!r} leaves nothing to test on; choose another level or fewer folds")
    config = training.TrainConfig(epochs=epochs, draws=draws, batch_size=64, seed=seed)
    run = training.fit(network, windows, part, config=config, run_dir=out)
    notes = networks.notes_of(run, windows, part, rule=rule.value) | {"run": run.record}
    path = models.save(run.model, out / "model.safetensors", notes=notes)
    guess = evaluation.predict(models.load(path), windows.x[part.test]).argmax(1)
    scored = evaluation.report(windows.y[part.test], guess, groups=windows.patient[part.test])
    (out / "report.json").write_text(json.dumps(scored.to_dict(), indent=1))
    typer.echo(f"{path}: accuracy {scored.accuracy:.3f}, macro-F1 {scored.macro_f1:.3f} (held out by {level})")


@app.command(epilog="Example: ecglib book --database phantom")
def book(
    database: Annotated[str, typer.Option(help="mitdb, phantom, or auto: what is there.")] = "auto",
    jobs: Annotated[int, typer.Option(min=1, help="Chapters run side by side.")] = 2,
    pair: Annotated[bool, typer.Option("--pair", help="Only bring the .ipynb files in step with their texts.")] = False,
    chapter: Annotated[str | None, typer.Option(help="Only run this chapter, into --out.")] = None,
    out: Annotated[Path, typer.Option(help="Executed notebook of --chapter.")] = Path("out.ipynb"),
    parameter: Annotated[
        list[str] | None, typer.Option("-p", help="name=value for the chapter's parameters cell.")
    ] = None,
) -> None:
    """Build the book: records, networks, chapters through papermill, HTML."""
    import yaml

    from ecglib import book

    if pair:
        for path in book.pair():
            typer.echo(f"updated {path}")
    elif chapter:
        bad = [p for p in parameter or [] if "=" not in p]
        if bad:
            raise DataError(f"expected -p name=value, received {bad[0]!r}")
        values = {k: yaml.safe_load(v) for k, v in (p.split("=", 1) for p in parameter or [])}  # as papermill does
        typer.echo(book.run(chapter, out, parameters=values))
    elif parameter:
        raise DataError(f"-p {parameter[0]} is for one chapter; name it with --chapter")
    else:
        book.build(database=database, jobs=jobs)


def main() -> None:
    """Entry point."""
    arguments = [a for a in sys.argv[1:] if a != "--debug"]  # it may stand anywhere
    usage_error: Any = typer.BadParameter.__bases__[0]  # typer brings a click of its own
    try:
        sys.exit(app(arguments, standalone_mode=False))
    except (EcglibError, PermissionError, usage_error) as error:
        if "--debug" in sys.argv:
            raise
        line = " ".join((error.format_message() if isinstance(error, usage_error) else str(error)).split())
        if line:  # a bare `ecglib` has shown its help
            print(f"ecglib: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("ecglib: stopped", file=sys.stderr)
        sys.exit(130)
