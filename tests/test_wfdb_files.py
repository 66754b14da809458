"""Annotation files read all at once, against wfdb, which reads them mark by mark."""

import numpy as np
import pytest
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st

from ecglib import wfdb_files
from ecglib.databases import folder, record_names
from ecglib.errors import DataError

SYMBOLS = "N L R V A / + ~ | a F !".split()


def same(path):
    """Compare both readers on one file; returns the number of marks."""
    by_word = wfdb_files._by_word(path.name, path.with_name(f"{path.name}.atr").read_bytes())
    by_wfdb = wfdb_files._by_wfdb(path)
    for ours, theirs in zip(by_word[:3], by_wfdb[:3], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    return len(by_word[0])


@pytest.mark.data
@pytest.mark.parametrize(("database", "least"), [("mitdb", 112_000), ("qtdb", 87_000)])
def test_files_of_physionet(database, least, request):
    root = request.getfixturevalue(database)
    where = folder(database, root)
    annotated = [where / r for r in record_names(database, root) if (where / f"{r}.atr").is_file()]
    assert sum(map(same, annotated)) > least


@pytest.mark.data
def test_a_day(ltafdb):
    assert same(folder("ltafdb", ltafdb) / "103") > 100_000


marks = st.lists(
    st.tuples(
        st.integers(0, 5000) | st.integers(0, 3_000_000),  # samples after the mark before
        st.sampled_from(SYMBOLS),
        st.sampled_from(["", "(N", "odd"]),
    ),
    min_size=1,
    max_size=40,
)


@given(marks)
@settings(max_examples=60, deadline=None)
def test_files_that_wfdb_wrote(tmp_path_factory, found):
    """Steps beyond ten bits, notes of odd and even length, marks at one time."""
    where = tmp_path_factory.mktemp("marks")
    sample = np.cumsum([max(step, 0) for step, _, _ in found])
    wfdb.wrann("r", "atr", sample, [s for _, s, _ in found], aux_note=[a for _, _, a in found], write_dir=str(where))
    assert same(where / "r") == len(found)
    read = wfdb_files.marks(where / "r", 360.0)
    np.testing.assert_allclose(read.time, sample / 360)
    assert read.symbol.tolist() == [s for _, s, _ in found]
    assert read.aux.tolist() == [a for _, _, a in found]


def words(*values):
    return np.array([*values, 0], "<u2").tobytes()


def test_words_by_hand():
    """N at 5; a step of -3 (SKIP, high word first) and V one later, with a note; NUM and CHN are no marks."""
    skip = (59 << 10, 0xFFFF, 0xFFFD)
    note = (63 << 10 | 3, ord("a") | ord("b") << 8, ord("c"))
    sample, symbol, aux, _ = wfdb_files._by_word(
        "r.atr", words(1 << 10 | 5, *skip, 5 << 10 | 1, 60 << 10 | 7, 62 << 10 | 1, *note)
    )
    assert sample.tolist() == [5, 3]
    assert symbol.tolist() == ["N", "V"]
    assert aux.tolist() == ["", "abc"]


def test_a_code_in_the_words_of_another_is_no_code():
    """A note that looks like a step, and a step whose words look like a note."""
    looks_like_skip, looks_like_note = 59 << 10, 63 << 10 | 9
    note = (63 << 10 | 2, looks_like_skip)
    skip = (59 << 10, 0, looks_like_note)
    sample, symbol, _, _ = wfdb_files._by_word("r.atr", words(1 << 10 | 5, *note, *skip, 1 << 10 | 1))
    assert sample.tolist() == [5, 5 + looks_like_note + 1]
    assert symbol.tolist() == ["N", "N"]


def test_a_file_that_ends_within_a_mark(one_line):
    with pytest.raises(DataError) as caught:
        wfdb_files._by_word("r.atr", words(1 << 10 | 5, 63 << 10 | 40))
    one_line(caught, "r.atr", "ends within a mark", "fetch it again")


def test_no_marks():
    assert [len(column) for column in wfdb_files._by_word("r.atr", words())[:3]] == [0, 0, 0]


def test_by_symbol():
    found = wfdb_files.by_symbol(np.array(["N", "V", "é", "NN", ""]), {"N": 1, "V": 2}, other=0)
    assert found.tolist() == [1, 2, 0, 0, 0]
    assert wfdb_files.by_symbol(np.empty(0, "U2"), {"N": True}, other=False).tolist() == []
