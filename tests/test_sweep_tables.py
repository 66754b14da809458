"""Maps are compared as scipy would compare them, and patients count once."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from ecglib.mask_sweep import Outcome
from ecglib.sweep_tables import agreement, controls, ends, over_patients, surrogate, visible


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4, 60))
    return {"a": a, "same": a**3, "back": -a, "steps": np.round(a), "flat": np.ones((4, 60))}


def test_agreement(maps):
    patient = np.array(["p", "p", "p", "q"])
    found = agreement(maps, patient).set_index(["a", "b"])
    assert found.rho["a", "same"] == pytest.approx(1)
    assert found.rho["a", "back"] == pytest.approx(-1)
    by_window = [spearmanr(a, b).statistic for a, b in zip(maps["a"], maps["steps"], strict=True)]
    assert found.rho["a", "steps"] == pytest.approx((np.mean(by_window[:3]) + by_window[3]) / 2)
    means = [np.mean(by_window[:3]), by_window[3]]
    assert [found.low["a", "steps"], found.high["a", "steps"]] == pytest.approx(sorted(means))
    assert found.windows["a", "steps"] == 4
    assert np.isnan(found.rho["a", "flat"])
    assert found.windows["a", "flat"] == 0
    assert len(found) == 10


def test_visible():
    ramp = np.linspace(0, 1, 401)
    maps = np.stack([0.5 + 1e-6 * ramp, -ramp, 0.009 * ramp, np.zeros(401), np.where(ramp < 0.5, 1e-4 * ramp, 1)])
    levels = visible(maps)
    np.testing.assert_allclose(levels[0], np.round(ramp, 2), atol=0.01)  # however faint, stretched
    np.testing.assert_allclose(levels[2:4], 0)  # a mask that deletes nothing
    assert len(np.unique(levels[0])) == 101
    assert np.unique(levels[4]).tolist() == [0, 1]  # its tremble is not seen
    assert levels[1, 0] == 0  # nowhere above 0


def test_over_patients_leaves_out_what_is_missing():
    values = np.array([[1.0, 1.0], [3.0, np.nan], [8.0, np.nan]])
    found = over_patients(values, np.array(["p", "p", "q"]))
    assert found[0].tolist() == [5.0, 1.0]
    assert found[:, 1].tolist() == [1.0, 1.0, 1.0]
    assert found[1:, 0].tolist() == [2.0, 8.0]


def test_ends():
    mask = np.array([[0.0, 1.0, 0.5, 1.0], [1.0, 1.0, 1.0, 1.0]])
    outcome = Outcome(
        mask, mask / 2, np.array([2.0, 1.0]), np.array([1.0, 1.0]), np.array([3.0, 1.0]), *np.ones((2, 2))
    )
    (row,) = ends({"one": outcome}, np.array(["p", "q"])).to_dict("records")
    expected = {
        "reached": 0.5,
        "low": 0,
        "high": 1,
        "idle": 0.5,
        "gap": 0.5,
        "area": 0.1875,
        "least area": (0.6875 + 0.5) / 2,
    }
    expected |= {"at 0": 0.125, "at 1": 0.75, "between": 0.125, "spread": np.std(mask[0]) / 2}
    assert {k: row[k] for k in expected} == pytest.approx(expected)


def test_controls():
    x = np.zeros((2, 1, 720), np.float32)
    x[0, 0, 100], x[1, 0, 300] = 2.0, -3.0
    found = controls(x, np.array([90, 310]))
    assert list(found) == ["amplitude", "slope", "bump at R"]
    assert found["bump at R"].argmax(1).tolist() == [90, 310]
    assert found["amplitude"].argmax(1).tolist() == [100, 300]
    assert found["slope"][0].nonzero()[0].tolist() == [99, 101]


def test_surrogate_is_as_smooth_and_unrelated():
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.normal(size=(200, 720)), axis=1)
    random = surrogate(smooth, seed=1)
    spectra = [np.abs(np.fft.rfft(m))[:, 1:360] for m in (smooth, random)]
    np.testing.assert_allclose(*spectra, rtol=1e-6)
    assert np.array_equal(random, surrogate(smooth, seed=1))
    found = agreement({"a": smooth, "b": random}, np.arange(200).astype(str), n_boot=200)
    assert abs(float(found.rho[0])) < 0.1
    assert float(np.std(random[0])) == pytest.approx(float(np.std(smooth[0])), rel=0.05)
    assert np.ptp(surrogate(np.ones((1, 720)), seed=0)) == pytest.approx(0)
