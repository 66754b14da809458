"""What the book says of itself: times, versions, how to cite, changes; and the page for addresses that lead nowhere."""

from __future__ import annotations

import html
import json
import os
import platform
import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import yaml

from ecglib.pages import chapters
from ecglib.source import code_version

_STATED = re.compile(r"Runs in: under (one|two|three) minutes?\.")
_MINUTES = {"one": 1, "two": 2, "three": 3}


def stated(text: str) -> int | None:
    """Minutes within which a chapter says that it runs, on two cores; None if it does not say."""
    found = _STATED.search(text)
    return _MINUTES[found[1]] if found else None


def measured(notebook: Path) -> tuple[float, str] | None:
    """Seconds that papermill measured, and the day; None for a notebook that it did not run."""
    run = json.loads(notebook.read_text())["metadata"].get("papermill") if notebook.is_file() else None
    return (float(run["duration"]), str(run["start_time"])[:10]) if run and run.get("duration") else None


def times(root: Path, built: Path) -> str:
    """Table of the chapters of ``root``: what each says that it takes, what it took in ``built``, and when."""
    rows = []
    for name, page in chapters(root).items():
        run, says = measured(built / "book" / f"{name}.ipynb"), stated(page.read_text()) if page.is_file() else None
        if run:
            rows.append(f"| {{doc}}`{name}` | {f'{says} min' if says else '–'} | {run[0]:.0f} | {run[1]} |")
    if not rows:
        return "These pages were not made by `make book`, so how long each took was not written down."
    total = sum(run[0] for name in chapters(root) if (run := measured(built / "book" / f"{name}.ipynb")))
    head = "| chapter | it says, at most | ran for (s) | on |\n|---|---|---|---|\n"
    return head + "\n".join(rows) + f"\n\nAll together {total / 60:.0f} minutes, two chapters at a time as a rule."


def versions() -> str:
    """Table of the machine and of the packages that the library and the book ask for."""
    rows = [("Python", platform.python_version()), ("system", f"{platform.system()}, {platform.machine()}")]
    rows += [("processors", str(os.cpu_count())), ("ecglib", code_version())]
    asked = [d for d in requires("ecglib") or [] if "extra" not in d or re.search("extra == .book", d)]
    for name in sorted({re.split(r"[^\w.-]", d)[0] for d in asked}, key=str.lower):
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            rows.append((name, "not here"))
    return "| what | version |\n|---|---|\n" + "\n".join(f"| {a} | {b} |" for a, b in rows)


def bibtex(root: Path) -> str:
    """BibTeX of the book, from ``CITATION.cff``, and of what it asks to be cited with it."""
    told = yaml.safe_load((root / "CITATION.cff").read_text())
    entries = [_entry("software", "ecglib", told, version=told["version"], note=f"licence: {told['license']}")]
    kinds = {"conference-paper": "inproceedings"}
    for other in told["references"]:
        key = f"{other['authors'][0]['family-names'].lower()}{other['year']}"
        place = (
            {"booktitle": other["collection-title"]} if "collection-title" in other else {"journal": other["journal"]}
        )
        where = {"doi": other["doi"]} if "doi" in other else {"url": other["url"]}
        entries.append(
            _entry(kinds.get(other["type"], other["type"]), key, other, **place, year=other["year"], **where)
        )
    return "```bibtex\n" + "\n\n".join(entries) + "\n```"


def citation(root: Path) -> str:
    """``CITATION.cff`` as it stands."""
    return f"```yaml\n{(root / 'CITATION.cff').read_text().rstrip()}\n```"


def changelog(root: Path) -> str:
    """``CHANGELOG.md`` as it stands."""
    return (root / "CHANGELOG.md").read_text()


def fill(text: str, *, root: Path, built: Path) -> str:
    """``text`` with every line ``% ecglib: name`` replaced by what the function of that name in this module says."""
    parts: dict[str, Callable[[], str]] = {
        "times": lambda: times(root, built), "versions": versions, "bibtex": lambda: bibtex(root),
        "citation": lambda: citation(root), "changelog": lambda: changelog(root),
    }  # fmt: skip
    return re.sub(r"^% ecglib: (\w+)$", lambda m: parts[m[1]](), text, flags=re.MULTILINE)


def not_found(title: str) -> str:
    """The page ``404.html``: it asks for nothing, and finds the book from whatever address it is shown under.

    A server shows it in place of a missing page at any depth, so no relative link of it would hold; its script looks
    for the book's inventory in the folders above, and sets its links to where that lies.
    """
    return _NOT_FOUND.replace("TITLE", html.escape(title))


# Internals -----------------------------------------------------------------------------------------------------


def _entry(kind: str, key: str, told: dict[str, Any], **fields: Any) -> str:
    names = [
        (a.get("name") and f"{{{a['name']}}}") or f"{a['family-names']}, {a['given-names']}" for a in told["authors"]
    ]
    values = {"author": " and ".join(names), "title": f"{{{told['title']}}}"} | fields
    return f"@{kind}{{{key},\n" + ",\n".join(f"  {k} = {{{v}}}" for k, v in values.items()) + "\n}"


_NOT_FOUND = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Page not found · TITLE</title>
<style>
  :root { color-scheme: light dark; font: 18px/1.6 system-ui, "Segoe UI", Roboto, Arial, sans-serif; }
  body { max-width: 34em; margin: 12vh auto; padding: 0 1.2em; color: light-dark(#1a1a1a, #ddd);
         background: light-dark(#fff, #121212); }
  a { color: light-dark(#3245b7, #a3b4ff); }
  input, button { font: inherit; padding: 0.2em 0.5em; }
</style>
</head>
<body>
<main>
<h1>No such page</h1>
<p>The address may be mistyped, or the page has moved.</p>
<p><a data-to="book/index.html" href="book/index.html">First page of the book</a> ·
   <a data-to="book/glossary.html" href="book/glossary.html">Glossary</a> ·
   <a data-to="genindex.html" href="genindex.html">Index</a></p>
<form data-to="search.html" action="search.html">
<label for="q">Search the book:</label> <input id="q" name="q" type="search"> <button>Search</button>
</form>
</main>
<script>
(async () => {
  const folders = location.pathname.split("/").slice(1, -1);
  for (let n = folders.length; n >= 0; n -= 1) {
    const base = "/" + folders.slice(0, n).map((f) => f + "/").join("");
    try {
      if (!(await fetch(base + "objects.inv", { method: "HEAD" })).ok) continue;
    } catch { return; }  // opened from a disk: beside the book, so the relative links hold
    for (const a of document.querySelectorAll("[data-to]"))
      a.setAttribute(a.tagName === "A" ? "href" : "action", base + a.dataset.to);
    document.body.dataset.base = base;
    return;
  }
})();
</script>
</body>
</html>
"""
