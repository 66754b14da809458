"""What a sweep found: one table over all runs, and a book of their notebooks."""

from __future__ import annotations

import ast
import json
import re
import shutil
from typing import Any

import nbformat
import pandas as pd
import yaml

from ecglib import source
from ecglib.files import write_atomically
from ecglib.sweep_plan import Plan, label

_RECORD = "application/papermill.record/"  # what myst_nb.glue and scrapbook put before the type of an output


def glued(notebook: Any) -> dict[str, Any]:
    """Values that a notebook's cells glued (`myst_nb.glue`, scrapbook), by name; of figures and tables none.

    Numbers, texts and truth values come as such, anything else as its text.
    """
    found: dict[str, Any] = {}
    for output in (o for cell in notebook.cells for o in cell.get("outputs", [])):
        scrap = output.get("metadata", {}).get("scrapbook", {})
        data = {kind.removeprefix(_RECORD): text for kind, text in output.get("data", {}).items()}
        if "name" in scrap and set(data) == {"text/plain"}:
            text = "".join(data["text/plain"])
            plain = re.sub(r"^np\.\w+\((.*)\)$", r"\1", text, flags=re.S)
            try:
                value = ast.literal_eval(plain)
            except (ValueError, SyntaxError):
                value = float(plain) if plain in {"nan", "inf", "-inf"} else plain
            found[scrap["name"]] = value if isinstance(value, str | int | float | None) else text
    return found


def row(notebook: Any) -> dict[str, Any]:
    """Seconds and glued values of an executed notebook."""
    return {"seconds": round(notebook.metadata.papermill.duration, 2)} | glued(notebook)


def table_of(plan: Plan, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One line a run: run, key, status, seconds, error, its parameters, its glued values.

    A glued value with the name of a parameter gets the ending " (glued)".
    """
    names = ["run", "key", "status", "seconds", "error"]
    asked = list(dict.fromkeys(name for run in plan.runs for name in run))
    lines = []
    for number, (run, found) in enumerate(zip(plan.runs, rows, strict=True), start=1):
        state = {name: found.get(name) for name in names[1:]}
        values = found.get("values", {})
        line = {"run": number} | state | {n: run.get(n) for n in asked}
        lines.append(line | {f"{k} (glued)" if k in line else k: v for k, v in values.items()})
    return pd.DataFrame(lines).convert_dtypes()


def write(plan: Plan, table: pd.DataFrame) -> None:
    """Write ``sweep.csv``, ``sweep.json`` and the folder ``book``, which ``jupyter-book build`` makes into pages."""
    write_atomically(plan.out / "sweep.csv", table.to_csv(index=False))
    write_atomically(plan.out / "sweep.json", json.dumps(json.loads(table.to_json(orient="records")), indent=1) + "\n")
    where, own = plan.out / "book", plan.page.parent
    shutil.rmtree(where / "runs", ignore_errors=True)
    (where / "runs").mkdir(parents=True)
    done = table[table.status == "done"]
    charts = cites = False
    for number, key in zip(done.run, done.key, strict=True):
        notebook = _renamed(nbformat.read(plan.out / "runs" / f"{key}.ipynb", as_version=4), f"run{number}")
        _title(notebook, number, plan.runs[number - 1])
        text = nbformat.writes(notebook)
        charts |= "vegaEmbed" in text
        cites |= "{cite" in text
        write_atomically(where / "runs" / f"run{number}.ipynb", text)
    config: dict[str, Any] = {
        "title": f"Sweep of {plan.page.stem}",
        "only_build_toc_files": True,
        "execute": {"execute_notebooks": "off"},
        "html": {"use_issues_button": False, "use_repository_button": False},
        "launch_buttons": {"thebe": False},
        "parse": {"myst_enable_extensions": "amsmath colon_fence deflist dollarmath substitution tasklist".split()},
        "sphinx": {"config": {"nb_merge_streams": True, "suppress_warnings": ["mystnb.unknown_mime_type"]}},
    }
    static = source.project_root() / "book" / "_static"
    if (static / "mathjax").is_dir():  # pages that open without a network
        shutil.copytree(static, where / "_static", dirs_exist_ok=True)
        config["sphinx"]["config"] |= {"html_static_path": ["_static"], "mathjax_path": "mathjax/tex-svg.js"}
    if charts:
        config["sphinx"]["extra_extensions"] = ["ecglib.sphinx_ext"]
    if cites and (own / "references.bib").is_file():
        shutil.copy(own / "references.bib", where / "references.bib")
        config["bibtex_bibfiles"] = ["references.bib"]
        config["sphinx"]["config"]["bibtex_reference_style"] = "author_year"
    toc = {"format": "jb-book", "root": "index"}
    pages = [{"file": f"runs/run{number}"} for number in done.run]
    write_atomically(where / "_toc.yml", yaml.safe_dump(toc | ({"chapters": pages} if pages else {}), sort_keys=False))
    write_atomically(where / "_config.yml", yaml.safe_dump(config, sort_keys=False))
    write_atomically(where / "index.md", _index(plan, table, bibliography="bibtex_bibfiles" in config))


def plain(value: Any) -> str:
    r"""A value as MyST shows it letter for letter: no HTML, no roles, no mathematics, no cell of a table ends early.

    >>> print(plain("<b>|"), plain(0.123456), plain(None))
    \<b\>\| 0\.1235 –
    """
    if value is None or value is pd.NA or value != value:
        return "–"
    text = f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


# Internals -----------------------------------------------------------------------------------------------------


def _index(plan: Plan, table: pd.DataFrame, *, bibliography: bool) -> str:
    done = table.status == "done"
    shown = table.drop(columns="key" if (~done).any() else ["key", "error"])
    lines = [[plain(value) for value in line] for line in shown.astype(object).itertuples(index=False)]
    for line, number, there in zip(lines, table.run, done, strict=True):
        line[0] = f"[{number}](runs/run{number}.ipynb)" if there else str(number)
    rows = [[plain(name) for name in shown], ["---"] * shown.shape[1], *lines]
    text = f"# Sweep of {plain(plan.page.stem)}\n\n{len(table)} runs: {done.sum()} done, {(~done).sum()} not.\n\n"
    text += "\n".join(f"| {' | '.join(line)} |" for line in rows) + "\n"
    return text + ("\n## Bibliography\n\n```{bibliography}\n```\n" if bibliography else "")


def _title(notebook: Any, number: int, run: dict[str, Any]) -> None:
    """Tell the pages of a book apart: the parameters stand behind the chapter's title."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search(r"^# .", cell.source, flags=re.M):
            cell.source = re.sub(
                r"^# .*$", lambda m: f"{m[0].rstrip()}: {plain(label(run))}", cell.source, count=1, flags=re.M
            )
            return
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(f"# Run {number}: {plain(label(run))}"))


def _renamed(notebook: Any, ending: str) -> Any:
    """A notebook whose labels of figures, equations and sections no other run has; links to other chapters are text."""
    texts = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    figures = [f for f in (cell.metadata.get("mystnb", {}).get("figure", {}) for cell in notebook.cells) if "name" in f]
    defined = r"(?P<before>^\(|^:(?:label|name): *|\$\$ *\()(?P<name>[\w-]+)(?=\)=|\)|\s*$)"
    used = r"(?P<before>\{(?:ref|numref|eq|math:numref)\}`(?:[^`<]*<)?|\]\(#)(?P<name>[\w-]+)"
    own = {f["name"] for f in figures} | {m["name"] for c in texts for m in re.finditer(defined, c.source, flags=re.M)}

    def rename(match: re.Match[str]) -> str:
        return f"{match[0]}-{ending}" if match["name"] in own else match[0]

    for figure in figures:
        figure["name"] += f"-{ending}"
    for cell in texts:
        for pattern in (defined, used):
            cell.source = re.sub(pattern, rename, cell.source, flags=re.M)
        cell.source = re.sub(r"\{(?:doc|term)\}`(?:([^`<]+?) *<)?([^`>]+)>?`", lambda m: m[1] or m[2], cell.source)
    return notebook
