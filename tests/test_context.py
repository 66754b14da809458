"""RR intervals around a beat, against literal beat times and records."""

import numpy as np
import pytest

from ecglib import context
from ecglib.windows import WindowSet, cut_database


def test_an_early_beat_by_hand():
    time = np.array([0.0, 1, 2, 2.5, 4, 5])  # the fourth beat comes early
    before, after, mean, variation = context._around(time, np.array([2.51]))[0]
    rr = np.log([1, 1, 0.5, 1.5, 1])
    assert mean == pytest.approx(rr.mean())
    assert before == pytest.approx(np.log(0.5) - rr.mean())
    assert after == pytest.approx(np.log(1.5) - rr.mean())
    assert variation == pytest.approx(np.abs([0, 0, *np.diff(rr)[1:]]).mean())


def test_ends_and_gaps_of_a_record():
    time = np.array([0.0, 1, 2, 60, 61])
    first, last, gap = context._around(time, np.array([0.0, 61, 2]))
    rr = np.log([1, 1, 3, 1])  # a gap counts as 3 s
    np.testing.assert_allclose(first[:2], [0 - rr.mean()] * 2)  # there is none before: the one after stands for it
    np.testing.assert_allclose(last[:2], [0 - rr.mean()] * 2)
    assert gap[1] == pytest.approx(np.log(3) - rr.mean())


def test_the_nearest_beat():
    time = np.array([0.0, 1, 2])
    assert context._nearest(time, np.array([-1, 0.4, 0.6, 1.5, 9])).tolist() == [0, 0, 1, 1, 2]


def test_values_become_leads():
    windows = WindowSet(
        x=np.ones((2, 1, 720), np.float32), y=np.zeros(2, int), record=np.array(["a", "b"]),
        database=np.array(["", ""]), time=np.zeros(2), anchor=np.zeros(2),
    )  # fmt: skip
    found = context.with_context(windows, np.array([[1, 2], [3, 4]]))
    assert found.x.shape == (2, 3, 720)
    assert found.x.dtype == np.float32
    assert (found.x[1, 2] == 4).all()
    assert (found.x[:, 0] == 1).all()


@pytest.mark.data
def test_on_mitdb_the_values_tell_what_they_should(mitdb):
    windows = cut_database("mitdb", rule="clean", root=mitdb, records=["100", "119", "203", "123"])
    found = context.rr_context(windows, root=mitdb)
    assert np.isfinite(found).all()
    of = {c: found[windows.y == i] for i, c in enumerate("N PVC PAC AFIB SVTA SBR LBBB RBBB".split())}
    assert (of["PVC"][:, 0] < 0.05).mean() > 0.95  # early
    assert np.median(of["AFIB"][:, 3]) > 3 * np.median(of["N"][:, 3])  # irregular
    assert np.exp(np.median(of["SBR"][:, 2])) > 0.95  # slow
