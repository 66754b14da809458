"""Means over patients and their corrected intervals, verdicts, and what planted maps, orders and networks must score."""

import numpy as np
import pytest
import torch
from torch import nn

from ecglib import CLASSES, claims, evidence, models, phantom
from ecglib.errors import DataError, UnknownNameError
from ecglib.evidence import METHODS, area, by_class, judge, least_tau, localise, over_patients
from ecglib.pairing import SILENT, truth
from ecglib.source import Source

pytestmark = pytest.mark.usefixtures("one_thread")
PATIENT = np.array(list("aabbbcddef"))


@pytest.fixture(scope="module")
def book(phantom_root):
    return Source("phantom", phantom_root, tuple(sorted(p.stem for p in phantom_root.rglob("*.hea"))))


@pytest.fixture(scope="module")
def some(phantom_clean):
    return phantom_clean.subsample(2, seed=0)


@pytest.fixture(scope="module")
def net():
    return models.build("murugesan-gap", width=4, seed=1)


class Late(nn.Module):
    """Says class 1 by the mean of samples 600 … 699, class 0 says nothing."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(4.0))

    def forward(self, x):
        z = self.gain * x[:, 0, 600:700].mean(1)
        return torch.stack([torch.zeros_like(z), z, *[torch.full_like(z, -50)] * 6], 1)


# Over patients


def test_patients_count_once_and_nan_not_at_all():
    values = np.array([0, 2, 5, 5, 8, np.nan, 1, 3, 4, np.nan])
    row = over_patients(values, PATIENT)
    assert row["estimate"] == (1 + 6 + 2 + 4) / 4  # a, b, d, e; c and f say nothing
    assert row["patients"] == 4


def test_interval_is_that_of_a_slow_bootstrap_and_widens_with_the_number_of_claims():
    rng = np.random.default_rng(1)
    means, who = rng.normal(size=40), np.arange(40).astype(str)
    slow = np.array([rng.choice(means, 40).mean() for _ in range(10000)])
    wide = []
    for together in (1, 8):
        row = over_patients(means, who, together=together)
        tail = 0.025 / together
        assert (row["low"], row["high"]) == pytest.approx(np.quantile(slow, [tail, 1 - tail]), abs=0.03)
        wide.append(row["high"] - row["low"])
    assert wide[1] / wide[0] == pytest.approx(2.734 / 1.960, rel=0.07)  # of a normal distribution


def test_one_patient_has_no_interval():
    row = over_patients(np.array([1.0, 2.0]), np.array(["a", "a"]))
    assert row["estimate"] == 1.5
    assert np.isnan([row["low"], row["high"]]).all()


# Verdicts


def test_verdicts_by_class_and_only_of_what_the_claim_speaks_of():
    patient = np.repeat(np.arange(6).astype(str), 2)
    tilt = np.linspace(-0.01, 0.01, 12)
    found = {"PVC": 0.3 + tilt, "AFIB": -0.3 + tilt, "N": 10 * tilt, "LBBB": 1 + tilt, "PAC": np.full(12, np.nan)}
    rows = {r["of"]: r for r in judge("clinic-cam", found, patient)}
    assert {k: r["verdict"] for k, r in rows.items()} == {"PVC": "held", "AFIB": "failed", "N": "undecided"}
    alone = over_patients(
        found["PVC"], patient, together=3
    )  # three classes are judged, so each interval is at 1 - 0.05/3
    assert (rows["PVC"]["low"], rows["PVC"]["high"]) == (alone["low"], alone["high"])
    assert claims.expectation("clinic-cam", "LBBB") == "none"


def test_few_patients_are_not_judged():
    row = judge("qrs-everywhere", {"N": np.full(4, 0.5)}, np.array(list("abcd")))[0]
    assert (row["estimate"], row["verdict"]) == (0.5, "undecided")


def test_values_by_class(make_windows):
    w = make_windows(["100", "101", "102"], ["N", "PVC", "N"], [5, 5, 5])
    parts = by_class(np.array([1.0, 2.0, 3.0]), w)
    assert list(parts) == list(CLASSES)
    np.testing.assert_equal(parts["N"], [1, np.nan, 3])
    np.testing.assert_equal(parts["PVC"], [np.nan, 2, np.nan])


# Tables


def test_a_planted_map_scores_one_and_a_uniform_one_chance(book, some):
    inside = truth(book, some, kind="planted")
    table = localise({"planted": inside.astype(float), "uniform": np.ones(inside.shape)}, inside, some)
    value = table.set_index(["name", "measure", "label"]).estimate
    for label in CLASSES:
        assert value["planted", "mass", label] == value["planted", "rank", label] == 1
        assert (
            value["planted", "pointing", label] == value["planted", "AUP", label] == value["planted", "AUR", label] == 1
        )
        assert value["uniform", "mass", label] == pytest.approx(value["chance", "mass", label])
        assert value["uniform", "rank", label] == pytest.approx(value["chance", "mass", label])


def test_near_beats_marks_every_beat_of_the_window(book, some):
    inside = evidence.near_beats(book, some)
    for k in (0, len(some) // 2, len(some) - 1):
        waves = phantom.read_truth(str(some.record[k]), root=book.root).waves
        beats = np.unique(waves.beat[waves.wave == "QRS"])
        time = some.time[k] - 1 + np.arange(720) / 360
        near = np.abs(time[:, None] - beats).min(1)
        assert inside[k][near < 0.058].all()
        assert not inside[k][near > 0.062].any()


def test_best_less_control_is_chosen_on_others():
    patient = np.array(["a", "b", "c"])
    masses = {"one": np.array([0.9, 0.1, 0.1]), "two": np.array([0.2, 0.4, 0.3]), "flat": np.array([0.1, 0.2, 0.3])}
    # for a the others choose two (.35 against .1), for b one (.5 against .25), for c one (.5 against .3)
    found = evidence.best_less_control(masses, patient, ["one", "two"], ["flat"])
    assert found == pytest.approx([0.2 - 0.1, 0.1 - 0.2, 0.1 - 0.3])


def test_least_tau_of_one_order_and_of_its_reverse():
    patient, rise = np.arange(8).astype(str), {n: np.full(8, float(k)) for k, n in enumerate("uvwx")}
    fall = {n: -v for n, v in rise.items()}
    assert least_tau({"a": rise, "b": rise}, patient)["estimate"] == 1
    row = least_tau({"a": rise, "b": rise, "c": fall}, patient)
    assert (row["estimate"], row["low"], row["high"], row["patients"]) == (-1, -1, -1, 8)
    swapped = {**rise, "u": rise["v"], "v": rise["u"]}  # one of six pairs turns
    assert least_tau({"a": rise, "b": swapped}, patient)["estimate"] == pytest.approx(4 / 6)
    with pytest.raises(DataError, match="1 fills and 4 names"):
        least_tau({"a": rise}, patient)


def test_area_is_the_mean_of_a_straight_line():
    assert area(np.array([[1.0, 0.5, 0.0], [2.0, 2.0, 2.0], [1.0, 0.0, 0.0]])) == pytest.approx([0.5, 2, 0.25])


# Networks


def test_curves_fall_at_once_where_the_evidence_goes_first(make_windows):
    w = make_windows(["100", "101"], ["PVC", "PVC"], [5, 5])
    w.x[:] = 1.0
    right, wrong = np.zeros((2, 720)), np.ones((2, 720))
    right[:, 600:700], wrong[:, 600:700] = 1, 0
    found = evidence.curves([(Late(), np.arange(2))], w, {"right": right, "wrong": wrong}, fill="zero", steps=36)
    full = 1 / (1 + np.exp(-4))
    assert found["right"][:, 0] == pytest.approx(full, abs=1e-6)
    assert found["right"][:, 5:] == pytest.approx(0.5, abs=1e-6)  # 100 of 720 samples are 5 of 36 steps
    assert found["wrong"][:, :32] == pytest.approx(full, abs=1e-6)
    back = evidence.curves([(Late(), np.arange(2))], w, {"right": right}, fill="zero", steps=36, insert=True)
    assert back["right"][:, 5:] == pytest.approx(full, abs=1e-6)


def test_each_window_is_explained_by_its_own_network_and_a_silent_mask_is_zero(some, net, monkeypatch):
    other = models.build("murugesan-gap", width=4, seed=2)
    halves = [(net, np.arange(0, 16, 2)), (other, np.arange(1, 16, 2))]
    mixed, first, second = (
        evidence.explain(a, some, ["cam"])["cam"] for a in (halves, [(net, np.arange(16))], [(other, np.arange(16))])
    )
    np.testing.assert_allclose(mixed[::2], first[::2], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(mixed[1::2], second[1::2], rtol=1e-4, atol=1e-6)
    assert np.abs(first - second).max() > 1e-3
    flat = torch.linspace(0, 2 * SILENT, 16)[:, None].expand(16, 720)
    monkeypatch.setattr(evidence, "attribute", lambda name, net, x, y, **options: flat)
    found = evidence.explain([(net, np.arange(16))], some, ["mask"])["mask"]
    assert (found.max(1) == 0).sum() == 8


def test_a_checkpoint_of_ones_own_explains_all_and_levels_are_checked(book, some, net, tmp_path):
    models.save(net, tmp_path / "own.safetensors")
    ((loaded, index),) = evidence.assign(book, some, model=str(tmp_path / "own.safetensors"))
    assert index.tolist() == list(range(16))
    torch.testing.assert_close(loaded.head.weight, net.head.weight, rtol=0, atol=1e-3)  # kept in half precision
    with pytest.raises(UnknownNameError, match="patient"):
        evidence.assign(book, some, split="patents")


def test_methods_that_can_serve(net):
    assert evidence.able(net) == METHODS
    assert evidence.able(Late()) == ("gradient_x_input", "integrated_gradients", "deep_lift", "occlusion")


def test_a_cascade_leaves_controls_alone_and_changes_maps(some, net):
    found = evidence.cascade([(net, np.arange(4))], some[np.arange(4)], ["cam", "amplitude"], seed=3)
    assert list(found) == ["head", "lstm", "norm", "blocks", "stem"]
    for step in found.values():
        assert step["amplitude"] == pytest.approx(1)
    assert (np.abs(found["stem"]["cam"]) < 0.999).all()


def test_networks_agree_with_themselves(some, net):
    few = some[np.arange(4)]
    other = models.build("murugesan-gap", width=4, seed=2)
    found = evidence.between({"a": net, "b": net, "c": other}, few, ["cam", "gradient_x_input"])
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
    for name in ("cam", "gradient_x_input"):
        assert found["a", "b"][name] == pytest.approx(1)
        assert found["a", "c"][name] == pytest.approx(found["b", "c"][name])
        assert (found["a", "c"][name] < 0.999).all()
