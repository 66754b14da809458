"""Each clause of the rules against a loop over the marks, and at the samples where it turns."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecglib.databases import folder, record_names
from ecglib.errors import UnknownNameError
from ecglib.records import annotated, read_annotations
from ecglib.rules import Clauses, clauses, label, to_another
from ecglib.windows import labels

N, PVC, PAC, AFIB, SVTA, SBR, LBBB, RBBB = range(8)
CLASS = {"N": N, "V": PVC, "A": PAC, "L": LBBB, "R": RBBB, "(AFIB": AFIB, "(SVTA": SVTA, "(SBR": SBR}
NAMES = [*CLASS, "F", "Q", "~", "x", "(N", "(VT", "AFIB", "note"]  # a comment AFIB, without parenthesis, is no rhythm
RATES = (128, 250, 360)


def rows(found: Clauses):
    """The clauses mark by mark."""
    names = ("sample", "label", "is_beat", "begins", "company", "between", "pure")
    return list(zip(*(getattr(found, name).tolist() for name in names), strict=True))


def slow_clauses(marks, native):
    """Marks (sample, text) in order: what each clause says of each of them, by the words of their definition."""
    out = []
    of = [CLASS.get(text, -1) for _, text in marks]
    first, last = marks[0][0], marks[-1][0]
    for i, (s, text) in enumerate(marks):
        begins = of[i] >= 0 and s - native >= 0
        others = [j for j, (t, _) in enumerate(marks) if j != i and of[j] == of[i] and t - native >= 0]
        near = {of[j] for j, (t, _) in enumerate(marks) if s - native <= t <= s + native}
        between = first <= s - native and s + native <= last
        is_beat = of[i] >= 0 and len(text) == 1
        out.append((s, of[i], is_beat, begins, of[i] >= 0 and len(others) > 0, between, near == {of[i]}))
    return out


def slow_deck(marks, native, database):
    """Windows (sample, class, sample of the beat) of the published rules."""
    beats = [s for s, text in marks if text in set("NVALRFQ")]
    out = []
    for s, c, is_beat, begins, company, between, pure in slow_clauses(marks, native):
        if c < 0 or not beats:
            continue
        long_term = is_beat and database in ("ltafdb", "ltdb")
        if (between and pure) if long_term else (begins and company):
            out.append((s, c, s if is_beat else next((b for b in beats if b >= s), s)))
    return out


@st.composite
def mark_lists(draw, names=NAMES):
    """(rate, marks) with many marks at one time or exactly a second apart, and with few classes."""
    native = draw(st.sampled_from(RATES))
    gap = st.sampled_from([0, 0, 1, native - 1, native, native + 1, 2 * native]) | st.integers(0, 2 * native)
    some = draw(st.lists(st.sampled_from(names), min_size=1, max_size=4))
    steps = draw(st.lists(st.tuples(gap, st.sampled_from(some)), min_size=1, max_size=25))
    sample = np.cumsum([step for step, _ in steps]).tolist()
    return native, [(s, text) for s, (_, text) in zip(sample, steps, strict=True)]


def record_of(make_record, native, marks, **options):
    """A record with marks at samples of its rate."""
    duration = marks[-1][0] / native + 1 if marks else 5.0
    return make_record([(s / native, text) for s, text in marks], np.ceil(duration), native_fs=native, **options)


# Loops ----------------------------------------------------------------------------------------------------------


@given(mark_lists())
@settings(max_examples=200, deadline=None)
def test_clauses_are_the_slow_clauses(make_record, drawn):
    native, marks = drawn
    assert rows(clauses(record_of(make_record, native, marks))) == slow_clauses(marks, native)


@pytest.mark.parametrize("database", ["mitdb", "ltafdb", "ltdb", "phantom"])
@given(mark_lists())
@settings(max_examples=80, deadline=None)
def test_deck_windows_are_those_of_the_loop(make_record, database, drawn):
    native, marks = drawn
    found = label(record_of(make_record, native, marks, database=database), rule="deck")
    times = [
        (round(t * native), c, round(a * native)) for t, c, a in zip(found.time, found.y, found.anchor, strict=True)
    ]
    assert times == slow_deck(marks, native, database)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 2)), max_size=30))
def test_distance_to_another_label_is_the_slow_one(steps):
    sample, mark = np.cumsum([s for s, _ in steps]).astype(int), np.array([k for _, k in steps], int)
    back, on = to_another(sample, mark)
    for i in range(len(steps)):
        before = [sample[i] - sample[j] for j in range(i) if mark[j] != mark[i]]
        after = [sample[j] - sample[i] for j in range(i, len(steps)) if mark[j] != mark[i]]
        assert back[i] == min(before) if before else back[i] > 10**9
        assert on[i] == min(after) if after else on[i] > 10**9


OWN = {N: "N", PVC: "V", PAC: "A", AFIB: "N", SVTA: "NAaJS", SBR: "N", LBBB: "L", RBBB: "R"}
COMPANY = {**OWN, PVC: "NV", PAC: "NA"}
HOSTS = {N: ["N"], PVC: ["N", "B", "T"], PAC: ["N", "AB"], AFIB: ["AFIB"], SVTA: ["SVTA"], SBR: ["N", "SBR"]}
BEATS = "N L R B A a J S V r F e j n E / f Q ?".split()


def slow_clean(marks, native, length):
    """Beats (sample, class) that the clean rule may show; in samples, so that no comparison hangs on rounding."""
    reach = 3 * native // 2
    beats = [(s, text) for s, text in marks if text in BEATS]
    rhythms = [(s, text[1:]) for s, text in marks if text[0] == "("]
    ends = [s for s, _ in rhythms[1:]] + [length] if rhythms else []
    out = []
    for i, (s, text) in enumerate(beats):
        inside = [
            r for (a, r), b in zip(rhythms, ends, strict=True) if a <= s - reach and s + reach <= b and a <= s < b
        ]
        if rhythms and not inside:
            continue
        if s - reach < 0 or s + reach > length:
            continue
        rhythm = inside[-1] if inside else "N"
        near = {t for k, t in marks if abs(k - s) <= reach and (t in BEATS or t in "![]x")}
        rr = [s - beats[i - 1][0], beats[i + 1][0] - s] if 0 < i < len(beats) - 1 else [None, None]
        pace = {
            N: all(v is not None and 0.6 * native <= v < native for v in rr),
            SBR: rhythm == "SBR" or all(v is not None and v >= native for v in rr),
        }
        for c in range(8):
            if text in OWN[c] and near <= set(COMPANY[c]) and rhythm in HOSTS.get(c, ["N"]) and pace.get(c, True):
                out.append((s, c))
    return out


@st.composite
def rhythms_of_beats(draw):
    """Marks at 128 Hz, whose times are exact: stretches of one symbol and pace, strays, changing rhythms.

    Paces and distances are those at which the rule turns: 0.6 s, 1 s and 1.5 s are 76.8, 128 and 192 samples.
    """
    pace = st.sampled_from([76, 77, 96, 100, 127, 128, 129]) | st.integers(40, 250)
    away = st.sampled_from([0, 64, 96, 191, 192, 193])
    marks, s = [], 300
    for _ in range(draw(st.integers(1, 4))):
        if name := draw(st.sampled_from(["", "(N", "(N", "(N", "(AFIB", "(SVTA", "(SBR", "(B", "(AB", "(P"])):
            marks.append((s, name))
        s += draw(away)
        step, symbol, n = draw(pace), draw(st.sampled_from("NNNVALRaF")), draw(st.integers(1, 8))
        beats = [(s + k * step, symbol) for k in range(n)]
        for _ in range(draw(st.integers(0, 2))):
            anchor = draw(st.sampled_from(beats))[0]
            marks.append((anchor + draw(st.sampled_from([-1, 1])) * draw(away), draw(st.sampled_from("VVAANx~!"))))
        marks += beats
        s = beats[-1][0] + draw(pace)
    return sorted(marks, key=lambda mark: mark[0])


@given(rhythms_of_beats())
@settings(max_examples=500, deadline=None)
def test_clean_windows_are_those_of_the_loop(make_record, marks):
    native = 128
    length = marks[-1][0] + 2 * native
    record = make_record([(s / native, text) for s, text in marks], length / native, native_fs=native)
    found = label(record, rule="clean")
    found = [(round(t * native), int(c)) for t, c in zip(found.anchor, found.y, strict=True)]
    expected = slow_clean(marks, native, length)
    assert set(found) <= set(expected)
    # the place in the window is random: only near the border of a minute may it cost a window
    assert {(s, c) for s, c in expected if 2.5 <= s / native % 60 <= 57.5} <= set(found)


# The samples at which a clause turns ----------------------------------------------------------------------------


@pytest.mark.parametrize("f", RATES)
def test_first_and_last_second(make_record, f):
    at = [0, f - 1, f, f + 1, 5 * f, 9 * f - 1, 9 * f, 9 * f + 1, 10 * f - 1]  # ten seconds, a mark on either end
    marks = [(s / f, "N") for s in at]
    found = clauses(make_record(marks, 10.0, native_fs=f))
    assert found.sample.tolist() == at
    assert found.begins.tolist() == [False, False, True, True, True, True, True, True, True]
    assert found.between.tolist() == [False, False, True, True, True, True, False, False, False]
    assert found.pure.all()
    assert found.company.all()
    for database, kept in (("mitdb", at[2:]), ("ltdb", at[2:6]), ("ltafdb", at[2:6])):
        windows = label(make_record(marks, 10.0, native_fs=f, database=database), rule="deck")
        assert windows.time.tolist() == [s / f for s in kept]
        assert windows.anchor.tolist() == windows.time.tolist()


@pytest.mark.parametrize("f", RATES)
@pytest.mark.parametrize("stranger", ["V", "F", "~", "(N", "note"])
def test_a_stranger_a_second_away_spoils_a_window_and_a_sample_further_does_not(make_record, f, stranger):
    for side in (-1, 1):
        for away, pure in ((f - 1, False), (f, False), (f + 1, True)):
            marks = [(0, "N"), (5 * f, "N"), (5 * f + side * away, stranger), (10 * f, "N")]
            found = clauses(make_record([(s / f, t) for s, t in marks], 11.0, native_fs=f))
            assert found.pure[found.sample == 5 * f].tolist() == [pure]
            # of a stranger that is none of the classes it is asked as well
            assert found.pure[found.sample == 5 * f + side * away].tolist() == [pure]


def test_marks_at_one_time(make_record):
    """They are different windows of the same signal: alike they are pure, and each other's company."""
    ends = [(0.0, "N"), (20.0, "N")]
    twins = make_record([*ends, (5.0, "V"), (5.0, "V"), (9.0, "V"), (9.0, "A"), (13.0, "A"), (13.0, "(AFIB")], 20.5)
    found = clauses(twins)
    assert found.sample.tolist() == [0, 1800, 1800, 3240, 3240, 4680, 4680, 7200]
    assert found.label.tolist() == [N, PVC, PVC, PVC, PAC, PAC, AFIB, N]
    assert found.pure.tolist() == [True, True, True, False, False, False, False, True]
    windows = label(twins, rule="deck")
    assert list(zip(windows.time, windows.y, strict=True)) == [
        (5.0, PVC), (5.0, PVC), (9.0, PVC), (9.0, PAC), (13.0, PAC)
    ]  # fmt: skip  # N at 0 does not begin in the record, so that at 20 is alone, as the mark of AFIB is
    long = make_record([(m.time, m.aux or m.symbol) for m in twins.marks], 20.5, database="ltdb")
    assert label(long, rule="deck").time.tolist() == [5.0, 5.0]


def test_company_is_another_mark_whose_window_begins(make_record):
    """By the words of the clause, also for a mark that the other clause drops."""
    found = clauses(make_record([(0.5, "V"), (0.6, "A"), (0.7, "A"), (7.0, "V"), (8.0, "N"), (9.0, "N")], 10.0))
    assert found.begins.tolist() == [False, False, False, True, True, True]
    assert found.company.tolist() == [True, False, False, False, True, True]


def test_a_rhythm_is_one_with_its_parenthesis(make_record):
    found = clauses(make_record([(2.0, "(AFIB"), (3.0, "AFIB"), (4.0, "(AFIBX"), (5.0, "(SBR"), (6.0, "(AFL")], 9.0))
    assert found.label.tolist() == [AFIB, -1, -1, SBR, -1]
    assert not found.is_beat.any()


def test_the_beat_of_a_rhythm_is_the_first_from_its_mark_on(make_record):
    marks = [(5.0, "(AFIB"), (5.0, "N"), (7.9, "F"), (8.0, "(AFIB"), (8.25, "Q"), (9.0, "N"), (12.0, "(AFIB")]
    windows = label(make_record(marks, 15.0), rule="deck")
    rhythm = windows.y == AFIB
    assert windows.time[rhythm].tolist() == [5.0, 8.0, 12.0]
    assert windows.anchor[rhythm].tolist() == [5.0, 8.25, 12.0]  # at once; a beat of any kind; none follows


# Records that lack something ------------------------------------------------------------------------------------


def test_without_any_mark(make_record):
    record = make_record([], 10.0)
    found = clauses(record)
    assert rows(found) == []
    assert [a.dtype.kind for a in (found.sample, found.label, found.pure, found.between)] == ["i", "i", "b", "b"]
    for rule in ("deck", "clean"):
        assert len(label(record, rule=rule).y) == 0


@pytest.mark.parametrize("database", ["mitdb", "ltafdb"])
def test_without_a_beat_there_is_no_window(make_record, database):
    record = make_record([(2.0, "(AFIB"), (5.0, "(SVTA"), (6.0, "(AFIB"), (7.0, "~")], 10.0, database=database)
    assert clauses(record).company.tolist() == [True, False, True, False]
    for rule in ("deck", "clean"):
        found = label(record, rule=rule)
        assert (len(found.y), len(found.time), len(found.anchor)) == (0, 0, 0)


def test_without_a_class_or_a_rhythm_mark(make_record):
    beats = [(t, "F") for t in np.arange(1.0, 20.0)]
    assert len(label(make_record(beats, 21.0), rule="deck").y) == 0  # beats, but none of the eight classes
    assert (clauses(make_record(beats, 21.0)).label == -1).all()
    steady = [(t, "N") for t in np.arange(1.0, 58.0, 0.75)]
    assert set(label(make_record(steady, 59.0), rule="clean").y) == {N}  # no rhythm mark: taken to be sinus rhythm
    noted = label(make_record([*steady, (0.5, "(P")], 59.0), rule="clean")
    assert len(noted.y) == 0
    for database in ("mitdb", "ltdb"):
        one = make_record([(5.0, "V")], 10.0, database=database)
        assert len(label(one, rule="deck").y) == 0  # alone; and nothing is between it and itself


def test_an_unknown_rule(make_record, one_line):
    with pytest.raises(UnknownNameError) as caught:
        label(make_record([(2.0, "N")], 9.0), rule="Deck")
    one_line(caught, "unknown rule 'Deck'", "deck")


# Files ----------------------------------------------------------------------------------------------------------

CODES = {"N": 1, "V": 5, "A": 8, "~": 14, "+": 28}


def annotation_file(marks):
    """An annotation file with its marks in the order given, each placed by a step of either sign."""
    words, at = [], 0
    for sample, symbol, aux in marks:
        step = (sample - at) & 0xFFFFFFFF
        words += [59 << 10, step >> 16, step & 0xFFFF, CODES[symbol] << 10]
        if aux:
            padded = aux.encode() + b"\0" * (len(aux) % 2)
            words += [63 << 10 | len(aux), *np.frombuffer(padded, "<u2").tolist()]
        at = sample
    return np.array([*words, 0], "<u2").tobytes()


@pytest.mark.parametrize("database", ["mitdb", "ltafdb"])
def test_marks_that_are_not_in_order(tmp_path, database):
    """A file may step back; what counts is time, and of marks at one time the order in the file."""
    f = 360 if database == "mitdb" else 128
    rng = np.random.default_rng(0)
    marks = [(int(s), str(rng.choice(["N", "N", "V", "A", "~"])), "") for s in rng.integers(0, 60 * f, 90)]
    marks += [(int(s), "+", str(rng.choice(["(AFIB", "(SVTA", "(N"]))) for s in rng.integers(0, 60 * f, 9)]
    rng.shuffle(marks)
    marks = [(int(s), str(t), str(a)) for s, t, a in marks]
    ordered = sorted(marks, key=lambda mark: mark[0])
    windows = {}
    for name, order in (("100", marks), ("101", ordered)):
        where = folder(database, tmp_path)
        where.mkdir(parents=True, exist_ok=True)
        (where / f"{name}.hea").write_text(f"{name} 1 {f} {61 * f}\n{name}.dat 16 200 12 0 0 0 0 MLII\n")
        (where / f"{name}.atr").write_bytes(annotation_file(order))
        record = read_annotations(database, name, root=tmp_path)
        assert rows(clauses(record)) == slow_clauses([(s, a or t) for s, t, a in ordered], f)
        windows[name] = label(record, rule="deck")
        assert [(round(t * f), c) for t, c in zip(windows[name].time, windows[name].y, strict=True)] == [
            w[:2] for w in slow_deck([(s, a or t) for s, t, a in ordered], f, database)
        ]
    assert len(windows["100"].y) >= 8
    np.testing.assert_array_equal(windows["100"].anchor, windows["101"].anchor)


def test_annotations_without_a_header_of_their_own_are_nobodys(phantom_root, tmp_path):
    """MITDB has `102-0.atr`, an older version, beside `102.atr`."""
    where = folder("phantom", tmp_path)
    where.mkdir(parents=True)
    for path in folder("phantom", phantom_root).glob("p0[12].*"):
        shutil.copy(path, where)
    before = labels("phantom", rule="deck", root=tmp_path)
    shutil.copy(where / "p01.atr", where / "p01-0.atr")
    assert record_names("phantom", tmp_path) == ["p01", "p02"]
    after = labels("phantom", rule="deck", root=tmp_path)
    np.testing.assert_array_equal(after.record, before.record)
    np.testing.assert_array_equal(after.time, before.time)


@pytest.mark.data
def test_the_older_annotations_of_102_are_not_counted(mitdb):
    if not (folder("mitdb", mitdb) / "102-0.atr").is_file():
        pytest.skip("102-0.atr is not here")
    found = [(r.name, len(r.marks)) for r in annotated("mitdb", root=mitdb)]
    assert len(found) == len(dict(found)) == 48
    assert sum(n for _, n in found) == 112_647
    of_102 = labels("mitdb", rule="deck", root=mitdb, records=["102"])
    assert of_102.counts()[["N", "PVC"]].tolist() == [99, 4]  # the other 2084 beats are paced


@pytest.mark.data
@pytest.mark.parametrize(
    ("database", "name"), [("mitdb", "207"), ("mitdb", "222"), ("ltdb", "14184"), ("ltafdb", "06")]
)
def test_clauses_of_real_records_are_the_slow_clauses(database, name, request):
    """Of the first marks, as many as a loop over all pairs can bear."""
    root = request.getfixturevalue(database)
    record = read_annotations(database, name, root=root)
    native, n = round(record.native_fs), 1500
    marks = [(round(m.time * native), str(m.aux) if m.symbol == "+" else str(m.symbol)) for m in record.marks[:n]]
    found = [row[:4] + row[6:] for row in rows(clauses(record))][: n - 20]  # what follows decides the others
    slow = [row[:4] + row[6:] for row in slow_clauses(marks, native)][: n - 20]
    assert [(s, c, b, g, p) for s, c, b, g, p in slow] == found
