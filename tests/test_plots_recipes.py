"""Charts of recipes carry the masks and the correlations that they were given, and stay small."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from ecglib import plots
from ecglib.errors import DataError

T = np.arange(720)
ECG = np.exp(-0.5 * ((T - 300) / 6) ** 2)
STEPS = list(range(0, 501, 10))
#: climbs by 0.001 a step; what sets the samples apart is a millionth
MASKS = 0.001 * np.array(STEPS)[:, None] + 1e-6 * np.sin(T / 40)[None] * np.linspace(0, 1, 51)[:, None]

PAIRS = pd.DataFrame(
    [("one", "two", 0.5, 0.4, 0.6, 96), ("one", "bump", -0.25, -0.3, -0.2, 90), ("two", "bump", np.nan, np.nan, np.nan, 0)],
    columns=["a", "b", "rho", "low", "high", "windows"],
)  # fmt: skip


def rows(chart, having):
    """The data set that has a column."""
    (found,) = [d for d in chart.to_dict()["datasets"].values() if having in d[0]]
    return pd.DataFrame(found)


@pytest.fixture(scope="module")
def path():
    return plots.mask_path(ECG, MASKS, steps=STEPS, lr=0.001, start=10.0, title="deck")


def test_a_path_carries_every_mask_to_three_digits(path):
    data, text = rows(path, "d"), json.dumps(path.to_dict())
    assert data.t.tolist() == pytest.approx((10 + T / 360).tolist(), abs=1e-4)
    np.testing.assert_allclose(data.mv, ECG, atol=5e-4)
    factor, mean = (
        json.loads(m) for m in sorted(set(re.findall(r"(\[[-0-9., e]+\])\[round", text)), key=text.index)[:2]
    )
    assert len(factor) == len(mean) == 51
    found = np.array(mean)[:, None] + np.array(factor)[:, None] * np.stack(data.d).T
    np.testing.assert_allclose(found, MASKS, atol=1e-6 / 999)


def test_a_slider_chooses_the_iteration(path):
    (slider,) = [p for p in path.to_dict()["params"] if "bind" in p and "input" in p["bind"]]
    assert slider["value"] == 500
    assert slider["bind"] == {"input": "range", "min": 0, "max": 500, "step": 10, "name": "iteration "}
    calculated = [t["calculate"] for t in steps_of(path.to_dict())]
    assert sum(slider["name"] in c for c in calculated) >= 4  # departure, mask, bound, rule
    assert any(c == f"datum.from + datum.way * 0.001 * {slider['name']}" for c in calculated)


def steps_of(node):
    """Every calculation in a specification."""
    if isinstance(node, dict):
        yield from (t for t in node.get("transform", []) if "calculate" in t)
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from steps_of(child)


def test_the_range_over_the_iterations(path):
    data = rows(path, "bound")
    assert data.n.tolist() == STEPS
    np.testing.assert_allclose(data["mean"], 0.001 * np.array(STEPS), atol=1e-5)
    np.testing.assert_allclose(data.bound, 0.001 * np.array(STEPS), atol=1e-5)


def test_a_mask_at_rest_has_no_contrast():
    flat = plots.mask_path(ECG, np.ones((3, 720)) / 3, steps=[0, 6, 12], lr=0.05)
    assert {tuple(d) for d in rows(flat, "d").d} == {(0, 0, 0)}


def test_charts_are_small(path):
    many = [f"deck, setting {i}" for i in range(36)]
    pairs = [(a, b, 0.123, 0.1, 0.2, 96) for i, a in enumerate(many) for b in many[:i]]
    matrix = plots.rank_matrix(pd.DataFrame(pairs, columns=PAIRS.columns))
    classes, recipes = range(8), range(4)
    noise = np.random.default_rng(0).normal(size=720)
    grid = plots.relevance_grid(
        {f"{c}": noise for c in classes}, {f"{r}": {f"{c}": noise for c in classes} for r in recipes}
    )
    for chart in (path, matrix, grid):
        assert len(json.dumps(chart.to_dict())) < 400_000


def test_matrix_is_symmetric_and_controls_stand_at_the_right():
    chart = plots.rank_matrix(PAIRS, columns=["bump"])
    data = rows(chart, "rho").set_index(["a", "b"])
    assert set(data.index) == {("one", "two"), ("two", "one"), ("one", "bump"), ("two", "bump")}
    assert data.rho["one", "two"] == data.rho["two", "one"] == 0.5
    assert data.loc[("one", "bump"), ["rho", "low", "high", "windows"]].tolist() == [-0.25, -0.3, -0.2, 90]
    encoding = chart.to_dict()["layer"][0]["encoding"]
    assert encoding["x"]["sort"] == ["one", "two", "bump"]
    assert encoding["y"]["sort"] == ["one", "two"]
    assert encoding["color"]["scale"]["domain"][0] == -1
    assert {t["field"] for t in encoding["tooltip"]} == set(PAIRS.columns)


def test_grid_stretches_every_map():
    relevance = {"deck": {"N": 0.5 + 1e-6 * T, "PVC": np.ones(720)}, "ours": {"N": -T, "PVC": (T == 300) * 2.0}}
    data = rows(plots.relevance_grid({"N": ECG, "PVC": ECG + 3}, relevance), "mv")
    own = {name: part for name, part in data.groupby("row")}
    assert (own["N"].r0.iloc[0], own["N"].r0.iloc[-1]) == (pytest.approx(0, abs=0.01), 1)
    assert (own["N"].r1.iloc[0], own["N"].r1.iloc[-1]) == (1, 0)
    assert own["PVC"].r0.unique().tolist() == [0]  # constant
    assert own["PVC"].r1.sum() == 1  # one sample, which thinning keeps
    assert own["PVC"].t[own["PVC"].r1 == 1].item() == pytest.approx(300 / 360, abs=1e-3)
    assert own["PVC"].mv.max() == pytest.approx(1, abs=0.01)  # from the median


def test_grid_leaves_a_map_as_it_is():
    relevance = {"deck": {"N": 0.5 + 1e-6 * T}, "ours": {"N": 0.2 + 0.001 * T}}
    chart = plots.relevance_grid({"N": ECG}, relevance, stretch=["deck"])
    data = rows(chart, "mv")
    assert (data.r0.min(), data.r0.max()) == (pytest.approx(0, abs=0.01), 1)
    assert (data.r1.min(), data.r1.max()) == (pytest.approx(0.2, abs=0.01), pytest.approx(0.92, abs=0.01))
    spec = chart.to_dict()
    assert spec["transform"][0]["fold"] == ["r0", "r1"]
    assert spec["transform"][1]["calculate"].startswith('["deck", "ours"]')


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plots.mask_path(ECG, MASKS[:, :7], steps=STEPS, lr=1), "shape (51, 720), received (51, 7)"),
        (lambda: plots.mask_path(ECG, MASKS[:3], steps=[0, 1, 3], lr=1), "evenly spaced, received [0, 1, 3]"),
        (lambda: plots.mask_path(ECG, MASKS[:3] * np.nan, steps=[0, 1, 2], lr=1), "finite"),
        (lambda: plots.rank_matrix(PAIRS.drop(columns="low")), "low"),
        (lambda: plots.relevance_grid({"N": ECG}, {"deck": {"PVC": ECG}}), "[('deck', 'N')]"),
        (lambda: plots.relevance_grid({"N": ECG}, {"deck": {"N": ECG[:5]}}), "(720,), received (5,)"),
    ],
)
def test_what_does_not_fit(call, words, one_line):
    with pytest.raises(DataError) as caught:
        call()
    one_line(caught, words)
