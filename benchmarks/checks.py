"""What the long checks found, into results/checks.json, for the page "What can go wrong".

    make coverage     # the whole suite, and the lines that it runs
    make storm        # kills, damaged bytes, full disks: many more than `make test` has

Both end with this script, which reads what they left in ``_build``; what was not run anew keeps its place in the file.
"""

from __future__ import annotations

import json
import platform
import xml.etree.ElementTree as ET
from datetime import date
from pathlib import Path

from ecglib.source import code_version

ROOT = Path(__file__).resolve().parent.parent


def coverage(report: Path) -> list[dict]:
    """Lines that run and lines that never do, by module."""
    files = json.loads(report.read_text())["files"]
    rows = [(name, files[name]["summary"]) for name in sorted(files)]
    return [
        {"module": name, "lines": s["num_statements"], "missed": s["missing_lines"]}
        for name, s in rows
        if s["num_statements"]
    ]


def storm(report: Path) -> list[dict]:
    """Tests by file, and how many times each of those that kill did so."""
    rows: dict[str, dict] = {}
    for case in ET.parse(report).iter("testcase"):
        row = rows.setdefault(case.attrib["classname"], {"file": case.attrib["classname"].split(".")[-1]})
        bad = case.find("failure") is not None or case.find("error") is not None
        kind = "failed" if bad else "skipped" if case.find("skipped") is not None else "passed"
        row[kind] = row.get(kind, 0) + 1
        row["minutes"] = round(row.get("minutes", 0) + float(case.attrib["time"]) / 60, 2)
        for told in case.iter("property"):
            row.setdefault("kills", {})[case.attrib["name"].removeprefix("test_")] = int(told.attrib["value"])
    return list(rows.values())


def main() -> None:
    out = ROOT / "results" / "checks.json"
    found = json.loads(out.read_text()) if out.is_file() else {}
    for read, report in ((coverage, ROOT / "_build" / "coverage.json"), (storm, ROOT / "_build" / "storm.xml")):
        if report.is_file():
            head = {"ecglib": code_version(), "on": str(date.today()), "machine": platform.machine()}
            found[read.__name__] = head | {"rows": read(report)}
            report.rename(report.with_suffix(".read" + report.suffix))  # told once
    out.write_text(json.dumps(found, indent=1) + "\n")
    if "coverage" in found:
        lines, missed = (sum(r[k] for r in found["coverage"]["rows"]) for k in ("lines", "missed"))
        print(f"lines run: {1 - missed / lines:.1%} of {lines}")
    for row in found.get("storm", {}).get("rows", []):
        print(row)


if __name__ == "__main__":
    main()
