"""Do the tests notice when a line is wrong?  Mutants of five modules by mutmut, drawn at random, into results/mutants.json.

Run by ``make mutants``; mutmut comes with the extra ``mutants``.  Every mutant runs the tests that reach its function, the
quickest first, in a fork of a process that has imported all; 140 of them take half an hour on one core.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = "cam masks windows splits localisation".split()
# minutes each, or broken by the frame that mutmut puts around every function
LEFT_OUT = (
    "decks_batch_is_one_at_a_time decks_masks_are_those nothing_crosses_in_any collapse_is_reported told_where".split()
)
CONFIG = """
[tool.mutmut]
source_paths = ["ecglib"]
only_mutate = {modules}
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-m", "not data and not slow and not browser", "-p", "no:cacheprovider", "-k", "{left_out}"]
also_copy = ["tests", "_toc.yml", "results"]

[tool.pytest.ini_options]
markers = ["slow: ", "data: ", "browser: "]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=MODULES, help="these alone; the others keep their results")
    parser.add_argument("--each", type=int, default=28, help="mutants drawn from a module; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    where = ROOT / "_build" / "mutants"
    shutil.rmtree(where, ignore_errors=True)
    for name in ("ecglib", "tests", "results"):
        shutil.copytree(ROOT / name, where / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "_toc.yml", where)
    tests = [f"tests/test_{m}.py" for m in given.modules] + ["tests/test_survivors.py"]
    left_out = " and ".join(f"not {name}" for name in LEFT_OUT)
    modules = [f"ecglib/{m}.py" for m in given.modules]
    (where / "pyproject.toml").write_text(CONFIG.format(modules=modules, tests=tests, left_out=left_out))
    run(where, given.jobs, "ecglib.nothing")  # makes all mutants, and learns which tests reach them
    drawn = {}
    for m in given.modules:
        text = (where / "mutants" / "ecglib" / f"{m}.py").read_text()
        every = sorted(set(re.findall(r"^def (x\w*__mutmut_\d+)\(", text, flags=re.M)))
        drawn[m] = every, random.Random(given.seed).sample(every, min(given.each or len(every), len(every)))
    run(where, given.jobs, *(f"ecglib.{m}.{name}" for m, (_, own) in drawn.items() for name in own))
    results = ROOT / "results" / "mutants.json"
    found = json.loads(results.read_text())["modules"] if results.is_file() else {}
    for m, (every, own) in drawn.items():
        status = json.loads((where / "mutants" / "ecglib" / f"{m}.py.meta").read_text())["exit_code_by_key"]
        alive = [name for name in own if status[f"ecglib.{m}.{name}"] in {0, 5, 33}]  # 5 and 33: no test reaches it
        found[m] = {"mutants": len(every), "tried": len(own), "killed": len(own) - len(alive), "survivors": alive}
    kept = {m: found[m] for m in MODULES if m in found}
    told = {
        "tool": f"mutmut {importlib.metadata.version('mutmut')}", "seed": given.seed,
        "tests": "those of the modules and test_survivors, without data, slow and browser", "modules": kept,
    }  # fmt: skip
    results.write_text(json.dumps(told, indent=1) + "\n")
    for m, row in found.items():
        print(f"{m:>14}  {row['killed']:>4} of {row['tried']} killed")


def run(where: Path, jobs: int, *names: str) -> None:
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(jobs), *names]
    kept = {k: v for k, v in os.environ.items() if k != "ECGLIB_DATA"} | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=where, env=kept, check=False)


if __name__ == "__main__":
    main()
