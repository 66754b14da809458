"""Logits in parts: they add up, silencing does what it says, and only affine heads are taken apart."""

import numpy as np
import pytest
import torch

from ecglib import branches, models
from ecglib.branches import Parts
from ecglib.errors import DataError

pytestmark = pytest.mark.usefixtures("one_thread")

PARTS = Parts(cnn=np.array([[1.0, 0], [3, 2]]), lstm=np.array([[0.0, 2], [0, 4]]), bias=np.array([0.5, 0]))


def windows(n=6):
    return torch.from_numpy(np.random.default_rng(0).standard_normal((n, 1, 720)).astype(np.float32))


@pytest.mark.parametrize("name", ["murugesan", "murugesan-gap"])
def test_parts_add_up_to_the_logits(name):
    net, x = models.build(name, width=8, seed=1), windows()
    with torch.no_grad():
        expected = net(x).numpy()
    split = branches.parts(net, x, batch_size=4)
    np.testing.assert_allclose(split.logits, expected, atol=1e-5)
    assert np.abs(split.lstm - split.lstm.mean(0)).max() > 1e-6  # the branch is there, and differs between windows


def test_each_part_depends_on_its_branch_alone():
    net, x, other = models.build("murugesan-gap", width=8), windows(), windows().flip(0)
    with torch.no_grad():
        mixed = net(x, other).numpy()  # the CNN sees x, the LSTM other windows
    a, b = branches.parts(net, x), branches.parts(net, other)
    np.testing.assert_allclose(a.cnn + b.lstm + a.bias, mixed, atol=1e-5)


def test_parts_of_gap_are_the_heads_weights():
    net, x = models.build("murugesan-gap", width=8), windows()
    with torch.no_grad():
        cnn = net.feature_map(x).mean(-1) @ net.head.weight[:, :16].T
    np.testing.assert_allclose(branches.parts(net, x).cnn, cnn.numpy(), atol=1e-5)


def test_the_network_is_left_as_it_was():
    net = models.build("murugesan-gap", width=8).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    branches.parts(net, windows())
    assert net.training
    assert not net.head._forward_pre_hooks
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("name", ["hannun", "zihlmann", "compact"])
def test_other_networks_are_refused(name):
    assert not branches.separable(models.build(name))
    with pytest.raises(DataError, match="affine head"):
        branches.parts(models.build(name), windows(1))


def test_silencing_by_hand():
    np.testing.assert_allclose(PARTS.logits, [[1.5, 2], [3.5, 6]])
    np.testing.assert_allclose(PARTS.silenced("lstm"), [[1.5, 3], [3.5, 5]])  # its mean is [0, 3]
    np.testing.assert_allclose(PARTS.silenced("lstm", by="zero"), [[1.5, 0], [3.5, 2]])
    np.testing.assert_allclose(PARTS.silenced("cnn", by="zero"), [[0.5, 2], [0.5, 4]])


def test_what_all_classes_gain_alike_has_no_spread():
    cnn, lstm = Parts(np.array([[1.0, 1], [5, 5]]), np.array([[1.0, 0], [0, 1]]), np.zeros(2)).spread()
    np.testing.assert_allclose(cnn, [0, 0])
    np.testing.assert_allclose(lstm, [0.5, 0.5])


def test_accuracies_by_hand():
    found = branches.accuracies(PARTS, np.array([1, 1]))
    assert found == {
        "both": 1.0, "without cnn, mean": 1.0, "without lstm, mean": 1.0,
        "without cnn, zero": 1.0, "without lstm, zero": 0.0,
    }  # fmt: skip


def test_effects_count_each_patient_once():
    whole = np.array([[1.0, 0]] * 4)  # class 0 everywhere
    other = np.array([[1.0, 0], [0, 1], [0, 1], [0, 1]])
    y, patient = np.array([0, 0, 1, 1]), np.array(["a", "a", "a", "b"])
    table = branches.effects({"both": whole, "without lstm, mean": other}, y, patient).set_index("condition")
    assert table.loc["both", "accuracy"] == pytest.approx((2 / 3 + 0) / 2)
    row = table.loc["without lstm, mean"]
    assert row.accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert row.changed == pytest.approx((2 / 3 + 1) / 2)
    assert row.lost == pytest.approx((1 / 3 + 0) / 2)
    assert row.gained == pytest.approx((1 / 3 + 1) / 2)
    assert row.gained_low == pytest.approx(1 / 3)
    assert row.gained_high == pytest.approx(1)
