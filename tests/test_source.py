"""What a page is made from: which records are found, what is made where none are, and what a page then says of it."""

from __future__ import annotations

import datetime
import hashlib
import os
import re
from types import SimpleNamespace

import altair as alt
import IPython.display
import numpy as np
import pytest
import torch

from ecglib import CLASSES, __version__, download, networks, phantom, plots, source
from ecglib.databases import folder, record_names
from ecglib.errors import DataError, DownloadError, UnknownNameError


def place(root, database, *names):
    """Records of which a search sees no more than their headers."""
    where = folder(database, root)
    where.mkdir(parents=True, exist_ok=True)
    for name in names:
        (where / f"{name}.hea").write_text(f"{name} 1 360 10\n")


MITDB = [f"{k}" for k in range(100, 148)]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A checkout without records; ``data`` is its own data root."""
    monkeypatch.delenv("ECGLIB_DATA", raising=False)
    monkeypatch.delenv("ECGLIB_DATABASE", raising=False)
    monkeypatch.delenv("ECGLIB_MIRROR", raising=False)
    (tmp_path / "home" / "book").mkdir(parents=True)
    (tmp_path / "home" / "_toc.yml").write_text("")
    monkeypatch.chdir(tmp_path / "home" / "book")
    return tmp_path / "home"


# What is here ----------------------------------------------------------------------------------------------------


def test_the_checkout_is_the_nearest_folder_with_a_table_of_contents(home, tmp_path, monkeypatch):
    assert source.project_root() == home
    monkeypatch.chdir(tmp_path)
    package = source.project_root()  # from elsewhere: where the package lies
    assert (package / "ecglib" / "source.py").is_file()
    monkeypatch.setattr(source, "__file__", str(tmp_path / "site-packages" / "ecglib" / "source.py"))
    assert source.project_root() == tmp_path  # nowhere: here
    assert source.work_folder() == tmp_path / "_build" / "ecglib"


def test_auto_takes_all_of_mitdb_else_the_phantom(home, monkeypatch):
    assert source.find() is None
    place(home / "data", "phantom", "p01", "p02")
    place(home / "data", "mitdb", *MITDB[:-1])
    assert source.find() == source.Source("phantom", home / "data", ("p01", "p02"))  # a part of MITDB would mislead
    assert source.find("mitdb") == source.Source("mitdb", home / "data", tuple(MITDB[:-1]))  # but who asks gets it
    place(home / "data", "mitdb", MITDB[-1])
    assert source.find() == source.Source("mitdb", home / "data", tuple(MITDB))
    assert source.find("ltdb") is None
    monkeypatch.setenv("ECGLIB_DATABASE", "phantom")
    assert source.find().database == "phantom"
    assert source.find("mitdb").database == "mitdb"
    monkeypatch.setenv("ECGLIB_DATABASE", "mitbd")
    with pytest.raises(UnknownNameError, match="did you mean 'mitdb'"):
        source.find()


def test_the_named_root_comes_before_the_checkouts_own(home, tmp_path, monkeypatch):
    place(home / "data", "phantom", "p01")
    place(tmp_path / "far", "ltdb", "14046")
    assert source.find("ltdb") is None
    monkeypatch.setenv("ECGLIB_DATA", str(tmp_path / "far"))
    assert source.find("ltdb").root == tmp_path / "far"
    assert source.find("phantom").root == home / "data"
    place(tmp_path / "far", "phantom", "p09")
    assert source.find("phantom").records == ("p09",)


def test_the_line_says_what_when_and_by_which_version(tmp_path, monkeypatch):
    source.code_version.cache_clear()
    monkeypatch.setattr(source.subprocess, "run", lambda *a, **k: SimpleNamespace(stdout="abc1234\n"))
    today = datetime.datetime.now(datetime.UTC).date()
    one, two = (source.Source("phantom", tmp_path, names) for names in (("p01",), ("p01", "p02")))
    said = one.line
    assert re.fullmatch(rf"Built from (Phantom.*) \(phantom 1\.0\.0, 1 record\) · ecglib (.*) · {today}", said)[2] == (
        f"{__version__} (abc1234)"
    )
    assert "(phantom 1.0.0, 2 records)" in two.line
    assert (one.simulated, source.Source("mitdb", tmp_path, ()).simulated) == (True, False)

    def missing(*given, **more):
        raise FileNotFoundError("git")

    monkeypatch.setattr(source.subprocess, "run", missing)
    assert source.code_version() == f"{__version__} (abc1234)"  # asked once a process
    source.code_version.cache_clear()
    assert source.code_version() == __version__
    source.code_version.cache_clear()


def test_a_fingerprint_is_of_names_and_contents(tmp_path):
    place(tmp_path, "phantom", "p01")
    where = folder("phantom", tmp_path)
    one = source.Source("phantom", tmp_path, ("p01",))
    inner = hashlib.sha256(b"p01 1 360 10\n").digest()
    assert one.fingerprint() == hashlib.sha256(b"phantom p01" + b"p01.hea" + inner).hexdigest()
    before = one.fingerprint()
    (where / "p01.lock").write_text("1")
    (where / "folder").mkdir()
    assert one.fingerprint() == before  # neither is of a record
    (where / "p01.dat").write_bytes(b"\0")
    assert one.fingerprint() != before
    (where / "p01.dat").unlink()
    (where / "p01.hea").write_text("p01 1 360 11\n")
    assert one.fingerprint() != before


def test_companions_are_annotations_and_excerpts(home):
    empty = source.companions()
    assert empty == hashlib.sha256().hexdigest()
    place(home / "data", "mitdb", "100")
    assert source.companions() == empty  # headers of records are not counted
    (folder("mitdb", home / "data") / "100.atr").write_bytes(b"AB")
    assert source.companions() == hashlib.sha256(b"mitdb 100.atr" + b"AB").hexdigest()
    for where in (home / "data", home):  # beside the databases, or beside their folder
        (where / "excerpts" / "ltdb").mkdir(parents=True)
        (where / "excerpts" / "ltdb" / f"{where.name}.hea").write_text("")
    assert source.companions() == hashlib.sha256(b"mitdb 100.atr" + b"AB" + b"data.hea" + b"home.hea").hexdigest()


# What is made ----------------------------------------------------------------------------------------------------


@pytest.fixture
def made(monkeypatch):
    """What was written, fetched and trained, in order, by stand-ins."""
    done = []

    def write(root):
        done.append(("write", root))
        place(root, "phantom", "p01", "p02")

    def fetch(name, *, root, base_url, **more):
        done.append(("fetch", name, root, base_url))
        place(root, name, *MITDB)

    monkeypatch.setattr(phantom, "write", write)
    monkeypatch.setattr(download, "fetch", fetch)
    monkeypatch.setattr(networks, "train_phantom", lambda found, progress: done.append(("train", found, progress)))
    return done


def test_a_bare_checkout_gets_the_phantom_and_its_networks(home, made):
    found = source.prepare(progress=False)
    assert found == source.Source("phantom", home / "data", ("p01", "p02"))
    assert made == [("write", home / "data"), ("train", found, False)]
    assert source.prepare() == found
    assert made[2:] == [("train", found, True)]  # which looks for itself whether they are there
    assert (home / "_build" / "ecglib").is_dir()


def test_records_that_are_here_are_taken_as_they_are(home, made):
    place(home / "data", "mitdb", *MITDB)
    assert source.prepare(fetch=True).database == "mitdb"
    assert made == []


def test_records_are_fetched_where_that_was_asked_for(home, made, monkeypatch):
    place(home / "data", "phantom", "p01")
    monkeypatch.setenv("ECGLIB_MIRROR", "http://there/")
    found = source.prepare(fetch=True)
    assert found == source.Source("mitdb", home / "data", tuple(MITDB))
    assert made == [("fetch", "mitdb", home / "data", "http://there/")]
    monkeypatch.setenv("ECGLIB_DATABASE", "phantom")
    assert source.prepare(fetch=True).database == "phantom"
    assert [m[0] for m in made[1:]] == ["train"]


def test_without_a_network_the_phantom_stands_in(home, made, monkeypatch, capsys):
    def fetch(*given, **more):
        raise DownloadError("no answer")

    monkeypatch.setattr(download, "fetch", fetch)
    assert source.prepare(fetch=True).simulated
    assert capsys.readouterr().out == (
        "MIT-BIH records could not be fetched (no answer); using simulated records instead.\n"
    )


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_a_database_that_was_named_and_is_not_here_is_an_error(how, home, made, monkeypatch, one_line):
    place(home / "data", "phantom", "p01")
    if how == "variable":
        monkeypatch.setenv("ECGLIB_DATABASE", "ltdb")
    with pytest.raises(DataError) as caught:
        source.prepare(database="ltdb" if how == "argument" else "auto")
    one_line(caught, "no records of 'ltdb'", "ecglib fetch ltdb")
    assert made == []


# What a page says ------------------------------------------------------------------------------------------------


@pytest.fixture
def page(home, made, monkeypatch):
    """Open a chapter; gives what it shows, and leaves charts and threads as they were."""
    shown, threads, active = [], torch.get_num_threads(), alt.renderers.active
    monkeypatch.setattr(IPython.display, "display", lambda what: shown.append(what.data))
    monkeypatch.setattr(plots, "use_theme", lambda: shown.append("theme"))
    yield shown
    torch.set_num_threads(threads)
    alt.renderers.enable(active)


def test_a_chapter_says_what_it_was_built_from(page, home, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = source.setup()
    assert found.simulated
    theme, said = page
    assert theme == "theme"
    assert said == (
        f'<p class="ecglib-provenance">{found.line}</p><p class="ecglib-simulated"><strong>{source.BANNER}</strong></p>'
    )
    assert alt.renderers.active == "ecglib"
    assert torch.get_num_threads() == 1
    place(home / "data", "mitdb", *MITDB)
    real = source.setup()
    assert page[-1] == f'<p class="ecglib-provenance">{real.line}</p>'
    assert "(mitdb 1.0.0, 48 records)" in page[-1]


def test_a_record_names_its_database(page, home, one_line):
    place(home / "data", "phantom", "p01")
    place(home / "data", "mitdb", "100", "101")
    assert source.setup().database == "phantom"
    assert source.setup(record="101").database == "mitdb"
    assert source.setup(record=100).database == "mitdb"  # papermill gives numbers
    assert source.setup(record="p01").database == "phantom"
    with pytest.raises(UnknownNameError) as caught:
        source.setup(record="p9")
    one_line(caught, "unknown record 'p9'", "p01", "records of phantom")
    with pytest.raises(UnknownNameError) as caught:
        source.setup(database="mitdb", record="p01")
    one_line(caught, "records of mitdb")


def test_no_name_in_a_chart_ends_its_script():
    chart = alt.Chart(alt.Data(values=[{"a": "</script><b>"}])).mark_point().encode(x="a:N")
    page = source._html(chart.to_dict())["text/html"]
    assert "</script><b>" not in page
    assert r"\u003c/script>\u003cb>" in page
    assert page.rstrip().endswith("</script>")


# The window of a page --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated(phantom_root):
    return source.Source("phantom", phantom_root, tuple(record_names("phantom", phantom_root)))


def clean(windows, record, label=None):
    own = windows[windows.record == record]
    return own if label is None else own[own.y == CLASSES.index(label)]


def test_an_example_is_in_the_middle_of_the_first_record_that_has_one(simulated, phantom_clean):
    for label in ("PVC", "RBBB"):
        first = next(r for r in simulated.records if len(clean(phantom_clean, r, label)))
        own = clean(phantom_clean, first, label)
        found = source.example(simulated, label)
        assert (len(found), found.record[0]) == (1, first)
        assert found.time[0] == own.time[len(own) // 2]
        assert np.array_equal(found.x[0], own.x[len(own) // 2])


def test_the_textbooks_record_comes_first(simulated, phantom_clean, monkeypatch):
    last = [r for r in simulated.records if len(clean(phantom_clean, r, "PVC"))][-1]
    monkeypatch.setitem(source.TEXTBOOK, "PVC", last)
    assert source.example(simulated, "PVC").record[0] == last


def test_an_example_near_a_time_of_a_record(simulated, phantom_clean, one_line):
    has = [r for r in simulated.records if len(clean(phantom_clean, r, "PVC")) > 3][-1]
    own = clean(phantom_clean, has, "PVC")
    for wanted in (own.anchor[1] + 0.05, own.anchor[-1] + 100):
        nearest = min(own.anchor, key=lambda t, w=wanted: abs(t - w))
        assert source.example(simulated, "PVC", record=has, time=wanted).anchor[0] == nearest
    lacks = next(
        r for r in simulated.records if len(clean(phantom_clean, r)) and not len(clean(phantom_clean, r, "PVC"))
    )
    other = source.example(simulated, "PVC", record=lacks)  # of another class, which is better than nothing
    assert other.record[0] == lacks
    assert other.y[0] != CLASSES.index("PVC")
    assert other.time[0] == clean(phantom_clean, lacks).time[len(clean(phantom_clean, lacks)) // 2]
    none = source.Source("phantom", simulated.root, (lacks,))
    with pytest.raises(DataError) as caught:
        source.example(none, "PVC")
    one_line(caught, "no clean PVC window in any record of phantom")
    with pytest.raises(DataError) as caught:
        source.example(none, "PVC", record="p99")
    one_line(caught, "in p99 of phantom")
    with pytest.raises(UnknownNameError, match="unknown class 'PVX'"):
        source.example(none, "PVX")


def test_threads_are_those_of_the_machine_where_nothing_is_said(page, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert "OMP_NUM_THREADS" not in os.environ
    before = torch.get_num_threads()
    source.setup()
    assert torch.get_num_threads() == before
