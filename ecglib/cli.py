"""The command ``ecglib``: the library's functions for the shell.

Bad input ends with one line on stderr and exit status 2; ``--debug`` shows the traceback.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ecglib import __version__, cli_explain, cli_sweep
from ecglib.errors import DataError, EcglibError, check_name

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Root = Annotated[Path | None, typer.Option(help="Folder that holds the databases; $ECGLIB_DATA, else ./data.")]


Labels = Annotated[
    str | None, typer.Option(help="Classes: mitdb15, or a .yml file of your own (see ecglib.labelsets); the eight.")
]


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
    signals: Annotated[bool, typer.Option(help="With --no-signals only what a count needs comes.")] = True,
) -> None:
    """Download a database, verified against its checksums; a stopped download goes on where it was."""
    from ecglib.databases import PHYSIONET
    from ecglib.download import fetch

    typer.echo(fetch(database, root=root, records=record or None, base_url=base_url or PHYSIONET, signals=signals))


@app.command(epilog="Example: ecglib count --root data")
def count(
    root: Root = None,
    rule: Annotated[Rule, typer.Option(help="Rule to count by.")] = Rule.deck,
    labels: Labels = None,
) -> None:
    """Count windows by class and database, from annotations alone."""
    from ecglib.windows import count_table

    table = count_table(root, rule=rule.value, progress=sys.stderr.isatty(), labels=labels)
    typer.echo(table.map(lambda n: "–" if n != n else f"{n:,.0f}").to_string())


@app.command(epilog="Example: ecglib train mitdb --rule clean --level patient --folds 3 --epochs 12 --out runs/mine")
def train(
    database: Annotated[str, typer.Argument(help="Database to train on.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; a stopped run goes on there.")],
    rule: Annotated[Rule, typer.Option(help="Rule that cuts the windows.")] = Rule.clean,
    labels: Labels = None,
    level: Annotated[str, typer.Option(help="Split: window, block, patient or ds1-ds2.")] = "patient",
    folds: Annotated[int | None, typer.Option(help="Folds for cross-validation.")] = None,
    fold: Annotated[int, typer.Option(min=0, help="The fold to hold out.")] = 0,
    model: Annotated[str, typer.Option(help="hannun, zihlmann, murugesan or murugesan-gap.")] = "murugesan-gap",
    width: Annotated[int | None, typer.Option(min=4, help="Channels of its first layer; as published.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Begin from the recipe of the network's paper.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    draws: Annotated[int | None, typer.Option(min=1, help="Windows drawn in an epoch.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    lr: Annotated[float | None, typer.Option(help="Peak of the learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0)] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw, adam or sgd.")] = None,
    schedule: Annotated[str | None, typer.Option(help="one-cycle, constant or plateau.")] = None,
    clip_norm: Annotated[float | None, typer.Option(help="Largest norm of the gradient.")] = None,
    validation: Annotated[float | None, typer.Option(help="Share of the training part that chooses the epoch.")] = None,
    patience: Annotated[int | None, typer.Option(min=1, help="Epochs without a gain that end the run.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda …; a GPU where there is one.")] = None,
    bf16: Annotated[bool | None, typer.Option(help="Compute in bfloat16; where the device can.")] = None,
    per_class: Annotated[int, typer.Option(min=1, help="Windows kept of each class.")] = 2500,
    seed: int = 0,
    root: Root = None,
) -> None:
    """Train a network, score it on the held-out part, write checkpoint and scores; also under torchrun."""
    import json
    from dataclasses import replace

    from ecglib import distributed, evaluation, labelsets, models, networks, training
    from ecglib.files import write_atomically
    from ecglib.splits import split
    from ecglib.windows import cut_database

    recipe = training.TrainConfig(epochs=12, draws=8000, batch_size=64)
    if published:
        check_name("network with a published recipe", model, training.PUBLISHED)
        recipe = training.PUBLISHED[model]
    given: dict[str, Any] = dict(
        epochs=epochs, draws=draws, batch_size=batch_size, lr=lr, weight_decay=weight_decay, optimizer=optimizer,
        schedule=schedule, clip_norm=clip_norm, validation=validation, patience=patience, device=device, bf16=bf16,
        seed=seed,
    )  # fmt: skip
    config = replace(recipe, **{name: value for name, value in given.items() if value is not None})
    kinds = labelsets.load(labels)
    network = models.build(model, n_classes=len(kinds.classes), seed=seed, **({"width": width} if width else {}))
    windows = cut_database(database, rule=rule.value, root=root, progress=True, labels=kinds)
    windows = windows.subsample(per_class, seed=seed)
    parts = split(windows, level=level, folds=folds, seed=seed)
    if fold >= len(parts):
        raise DataError(f"there is no fold {fold}; the split has {len(parts)}, counted from 0")
    part = parts[fold]
    run = training.fit(network, windows, part, config=config, run_dir=out)
    if not distributed.leads():
        return
    notes = networks.notes_of(run, windows, part, rule=rule.value) | {"run": run.record}
    path = models.save(run.model, out / "model.safetensors", notes=notes)
    guess = evaluation.predict(models.load(path), windows.x[part.test]).argmax(1)
    truth, patient = windows.y[part.test], windows.patient[part.test]
    scored = evaluation.report(truth, guess, groups=patient, classes=windows.classes)
    write_atomically(out / "report.json", json.dumps(scored.to_dict(), indent=1))
    typer.echo(f"{path}: accuracy {scored.accuracy:.3f}, macro-F1 {scored.macro_f1:.3f} (held out by {level})")


app.command(epilog=cli_explain.EPILOG)(cli_explain.explain)
app.command(epilog=cli_sweep.EPILOG)(cli_sweep.sweep)


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
        try:
            values = {k: yaml.safe_load(v) for k, v in (p.split("=", 1) for p in parameter or [])}  # as papermill does
        except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2001-02-30
            raise DataError(f"-p {' '.join(parameter or [])} cannot be read as YAML; put the text in quotes") from error
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
        status = app(arguments, standalone_mode=False)
        if status == 130:  # typer has made a status of the key
            raise KeyboardInterrupt
        sys.exit(status)
    except (EcglibError, OSError, MemoryError, usage_error) as error:
        if "--debug" in sys.argv:
            raise
        line = " ".join(_said(error, usage_error).split())
        if line:  # a bare `ecglib` has shown its help
            print(f"ecglib: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("ecglib: stopped", file=sys.stderr)
        sys.exit(130)


def _said(error: BaseException, usage_error: Any) -> str:
    """One line on an error; those of the machine (a full disk, a folder that cannot be written) say what was wanted."""
    if isinstance(error, usage_error):
        return error.format_message()
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}; free space, or choose a place that can be read and written"
    return "the memory is full; take a shorter part or fewer windows" if isinstance(error, MemoryError) else str(error)
