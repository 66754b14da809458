"""The project around the code: environments that agree, clean files, the public names of the design."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ecglib
from ecglib import book, source

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [*PROJECT["dependencies"], *(d for extra in ("book", "test") for d in PROJECT["optional-dependencies"][extra])]
MACHINE_PATH = re.compile(r"(?<![\w.:}+-])/(?:work|tmp|home|root|Users)/[\w.-]+")


def files() -> list[Path]:
    """Files that are tracked, or will be with the next commit."""
    listed = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(listed, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def texts() -> dict[str, str]:
    """Text files of the project by path; MathJax is somebody else's."""
    found = {}
    for path in files():
        name = path.relative_to(ROOT).as_posix()
        if path.suffix not in {".safetensors", ".png", ".ico"} and not name.startswith("book/_static/mathjax/"):
            found[name] = path.read_text()
    return found


# Environments --------------------------------------------------------------------------------------------------------


def test_conda_has_the_same_dependencies():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == "ecglib"
    assert environment["dependencies"][0] == "python=3.11"
    assert environment["dependencies"][-1] == {"pip": DIRECT}


def test_the_lock_pins_every_direct_dependency():
    lock = ROOT / "requirements.lock"
    if not lock.is_file():
        pytest.skip("no requirements.lock yet: make lock")
    lines = [line for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.!]+", line)] == []
    pinned = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    assert len(pinned) == len(lines)
    for wish in map(Requirement, DIRECT):
        assert wish.specifier.contains(pinned[canonicalize_name(wish.name)]), wish
    assert [name for name in pinned if re.search("nvidia|cuda|tensorflow|triton", name)] == []
    assert "ecglib" not in pinned


def test_the_version_is_one():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == ecglib.__version__
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)[1] == ecglib.__version__


def test_the_citation_is_complete():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert all({"type", "title", "authors"} <= reference.keys() for reference in citation["references"])
    assert citation["references"][0]["url"] == "https://arxiv.org/abs/2004.05399"


# Files ---------------------------------------------------------------------------------------------------------------


def test_notebooks_are_in_step_with_their_texts():
    assert [p.name for p in book.pair(ROOT, write=False)] == []


def test_notebooks_hold_no_outputs():
    for path in (ROOT / "book").glob("*.ipynb"):
        cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        assert [c["id"] for c in cells if c["outputs"] or c["execution_count"] is not None] == []


def test_every_notebook_has_a_text():
    assert {p.stem for p in (ROOT / "book").glob("*.ipynb")} == {
        name for name, page in book.chapters(ROOT).items() if book.is_executable(page)
    }


def test_no_file_names_a_place_on_one_machine():
    found = {name: MACHINE_PATH.findall(text) for name, text in texts().items()}
    assert {name: paths for name, paths in found.items() if paths} == {}
    parent = [name for name, text in texts().items() if "../shared" in text]
    assert [name for name in parent if name != ".ci/run" and not name.startswith("tests/")] == []


def test_no_recording_is_committed():
    assert [
        p.name for p in files() if p.suffix in {".dat", ".atr", ".edf", ".npz", ".npy", ".pt", ".pth", ".pkl"}
    ] == []


def test_no_file_is_heavy():
    assert {p.name: p.stat().st_size for p in files() if p.stat().st_size > 6_000_000} == {}


def test_modules_are_short():
    lengths = {p.relative_to(ROOT).as_posix(): len(p.read_text().splitlines()) for p in (ROOT / "ecglib").rglob("*.py")}
    assert {name: n for name, n in lengths.items() if n >= 260} == {}


def test_prose_has_one_sentence_a_line():
    # a full stop, a space and a capital, outside code, tables, lists of names and headers
    for page in book.chapters(ROOT).values():
        prose = re.sub(r"^---\n.*?^---$|^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        lines = [line for line in prose.splitlines() if not line.startswith(("|", "    ", "#"))]
        assert [line for line in lines if re.search(r"[a-z)][.?!] [A-Z][a-z]+ [a-z]+ ", line)] == [], page.name


def examples_of_the_readme() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), flags=re.M | re.S)


def test_the_example_with_samples_of_ones_own_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").symlink_to(ROOT / "results")
    np.savetxt("my.csv", np.sin(np.arange(600) / 20))  # 2.4 s at 250 Hz
    names: dict = {}
    exec(examples_of_the_readme()[0], names)
    assert (tuple(names["x"].shape), names["x"].dtype) == ((1, 1, 720), torch.float32)
    assert tuple(names["maps"].shape) == (1, 720)
    assert "vega" in (tmp_path / "map.html").read_text()


@pytest.mark.data
@pytest.mark.slow
def test_the_example_of_the_readme_runs(monkeypatch):
    found = source.find("mitdb")
    if found is None:
        pytest.skip("no records of mitdb: set ECGLIB_DATA or run 'ecglib fetch mitdb'")
    monkeypatch.setenv("ECGLIB_DATA", str(found.root))
    monkeypatch.chdir(ROOT)
    code = examples_of_the_readme()[1]
    names: dict = {}
    exec(code, names)
    assert tuple(names["maps"].shape) == (1, 48)
    assert tuple(names["mask"].shape) == (1, 720)
    assert "mitdb/208" in names["models"].metadata(re.search(r"results/\S+safetensors", code)[0])["patients_held_out"]


# Public names ----------------------------------------------------------------------------------------------------

# As in the design: names, kinds and order of the parameters, and the defaults that it gives
SIGNATURES = """
databases.data_root(root=None)
databases.fetch(name, *, root=None, records=None, base_url="https://physionet.org/files/")
records.read_record(name, record, *, root=None, start=0.0, stop=None, fs=360.0)
records.open_record(path)
phantom.write(root, *, patients, minutes, seed)
windows.cut(record, *, rule)
windows.count_table(root=None, *, rule="deck")
splits.split(windows, *, level, folds=None, test_fraction=0.2, seed)
models.build(name, *, n_classes=8, seed=0)
models.load(checkpoint)
training.fit(model, windows, split, *, config, run_dir)
evaluation.report(y_true, y_pred, *, groups=None)
cam.class_activation_map(model, x, target=None)
cam.grad_cam(model, x, target)
cam.upsample(maps, length=720)
masks.learn_mask(score, x, *, lambda_area=1.0, lambda_tv=0.001, lr=0.001, n_iter=500, init=0.0, fill=0.0, \
optimizer="adam", area="sum", clamp=False, seed=0, progress=False)
masks.lstm_score(model, x, target, *, branch="lstm")
attribution.attribute(method, model, x, target)
localisation.mass_accuracy(relevance, truth)
localisation.rank_accuracy(relevance, truth)
localisation.pointing_game(relevance, truth)
faithfulness.deletion_curve(score, x, relevance, *, steps=24, fill="linear")
faithfulness.insertion_curve(score, x, relevance, *, steps=24, fill="linear")
faithfulness.infidelity(score, x, relevance)
faithfulness.sensitivity(explain, x)
sanity.cascading_randomisation(model, *, seed)
models.Murugesan.forward(self, x, x_lstm=None)
models.Murugesan.feature_map(self, x)
models.MurugesanGAP.forward(self, x, x_lstm=None)
models.MurugesanGAP.feature_map(self, x)
models.MurugesanGAP.lstm_features(self, x)
book.run(chapter, out)
book.stage()
book.build()
book.sweep(file)
""".strip().splitlines()

FIELDS = {
    "records.Record": "signal fs lead beats rhythms name database",
    "windows.WindowSet": "x y record database time",
    "masks.MaskResult": "mask score area tv history",
    "evaluation.Report": "confusion",
    "faithfulness.Curve": "fraction score auc",
    "training.Run": "model history",
}


def public(dotted: str):
    module, *names = dotted.split(".")
    found = importlib.import_module(f"ecglib.{module}")
    for name in names:
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("line", SIGNATURES, ids=lambda line: line.split("(")[0])
def test_signature(line):
    dotted, arguments = line.rstrip(")").split("(", 1)
    names: dict = {}
    exec(f"def promised({arguments}): ...", names)
    promised = inspect.signature(names["promised"]).parameters
    actual = inspect.signature(public(dotted)).parameters
    by_position = [p.name for p in promised.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert list(actual)[: len(by_position)] == by_position
    for name, parameter in promised.items():
        assert actual[name].kind is parameter.kind, name
        if parameter.default is not parameter.empty:
            assert actual[name].default == parameter.default, name
    for name in actual.keys() - promised.keys():  # what came later may be left out
        assert actual[name].default is not inspect.Parameter.empty or actual[name].kind is inspect.Parameter.VAR_KEYWORD


@pytest.mark.parametrize("dotted", FIELDS)
def test_result_is_a_frozen_dataclass_with_these_fields(dotted):
    assert public(dotted).__dataclass_params__.frozen
    assert set(FIELDS[dotted].split()) <= {f.name for f in dataclasses.fields(public(dotted))}


def test_catalogues():
    assert ecglib.CLASSES == ("N", "PVC", "PAC", "AFIB", "SVTA", "SBR", "LBBB", "RBBB")
    assert list(public("databases.DATABASES")) == ["mitdb", "ltafdb", "ltdb", "qtdb", "phantom"]
    assert {"deck", "clean"} <= set(public("windows.RULES"))
    assert "murugesan-gap" in public("models.MODELS")
    assert not set(public("attribution.METHODS")) & set(public("attribution.CONTROLS"))
    assert isinstance(public("masks.MaskResult").relevance, property)


# Import ---------------------------------------------------------------------------------------------------------


def test_import_is_light():
    heavy = {"torch", "wfdb", "pandas", "numpy", "altair", "requests"}
    code = f"import ecglib, sys; print(*sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


def test_import_is_quick():
    def cpu(statement: str) -> float:
        code = f"{statement}\nimport time; print(time.process_time())"
        run = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True) for _ in range(5)]
        return statistics.median(float(r.stdout) for r in run)

    assert cpu("import ecglib") - cpu("pass") < 0.3
