"""The command ``ecglib sweep``: a chapter for many settings, or many records explained, here or on a cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example: ecglib sweep sweep.yml"


def sweep(
    file: Annotated[Path, typer.Argument(help="What to run: chapter or task, parameters, runs, out.")],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs side by side on this machine; one for every core.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Dask scheduler, tcp://host:port, whose workers do the runs instead.")
    ] = None,
) -> None:
    """Run a chapter, or explain records, once for every setting; a stopped sweep goes on where it was."""
    from ecglib import book
    from ecglib.sweep_plan import label

    found = book.sweep(file, workers=workers, scheduler=scheduler, progress=sys.stderr.isatty())
    for line in found.table[found.table.status != "done"].itertuples():
        typer.echo(f"ecglib: run {line.run} ({label(found.parameters[line.run - 1])}): {line.error}", err=True)
    typer.echo(f"{found.done} done, {found.failed} failed: {found.out / 'sweep.csv'}, book in {found.out / 'book'}")
    if found.failed:
        raise typer.Exit(1)
