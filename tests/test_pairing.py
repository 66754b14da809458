"""Which explanations are compared, of which network, with which other window, and inside which samples."""

import numpy as np
import pytest
import torch

from ecglib import CLASSES, clinic, masks, models, networks, pairing, phantom
from ecglib.attribution import attribute
from ecglib.cam import class_activation_map
from ecglib.errors import DataError, UnknownNameError
from ecglib.evaluation import predict
from ecglib.overlap import MEASURES, Relevance, by_step, compare
from ecglib.pairing import CONTROLS, Explained, explain, mass, pairs, truth
from ecglib.source import Source

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def _short_masks():
    """What a mask finds is not asked here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "RECIPES", {"settled": {**masks.RECIPES["settled"], "n_iter": 15, "lambda_area": 0.0}})
        yield


@pytest.fixture(scope="module")
def book(phantom_root):
    return Source("phantom", phantom_root, tuple(sorted(p.stem for p in phantom_root.rglob("*.hea"))))


@pytest.fixture(scope="module")
def some(phantom_clean):
    return phantom_clean.subsample(2, seed=0)


@pytest.fixture(scope="module")
def nets(some, tmp_path_factory):
    """Two untrained networks by patient, of which each has not seen half of the patients, and one by window."""
    where, people = tmp_path_factory.mktemp("nets"), sorted(set(some.patient))
    held = {"patient0": people[::2], "patient1": people[1::2], "window": []}
    for seed, (name, unseen) in enumerate(held.items()):
        net = models.build("murugesan-gap", width=4, seed=seed)
        models.save(net, where / f"{name}.safetensors", notes={"patients_held_out": unseen})
    return {name: where / f"{name}.safetensors" for name in held}


@pytest.fixture(scope="module")
def explained(book, some, nets):
    def of_level(database, level):
        assert database == "phantom"
        return [path for name, path in nets.items() if name.startswith(level)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "checkpoints", of_level)
        return explain(book, some)


def made(windows, maps):
    """Explanations by hand: samples by name."""
    n = len(windows)
    found = {k: Relevance(m, by_step(m), m.max(1) < pairing.SILENT) for k, m in maps.items()}
    return Explained(windows, found, np.zeros(n, int), np.ones(n, bool))


def everything(windows, rng):
    names = ["CAM", "mask", "another network's CAM", "another network's mask", *CONTROLS]
    return {name: rng.uniform(0.1, 1, (len(windows), 720)) for name in names}


def test_each_window_is_explained_by_the_network_that_did_not_see_its_patient(explained, some, nets):
    loaded = {name: models.load(path) for name, path in nets.items()}
    people = sorted(set(some.patient))
    for i in range(len(some)):
        unseen = "patient0" if some.patient[i] in people[::2] else "patient1"
        other = "patient1" if unseen == "patient0" else "patient0"
        x, y = torch.from_numpy(some.x[i : i + 1]), int(some.y[i])
        for prefix, name in (("", unseen), ("another network's ", other)):
            expected = class_activation_map(loaded[name], x, y)[0, 1:-1]
            np.testing.assert_allclose(explained.relevance[f"{prefix}CAM"].steps[i], expected, atol=1e-5)
        assert explained.network[i] == int(unseen[-1])
        assert explained.right[i] == (predict(loaded[unseen], some.x[i : i + 1]).argmax() == y)


def test_masks_are_those_of_one_window_at_a_time(explained, some, nets):
    loaded = [models.load(nets["patient0"]), models.load(nets["patient1"])]
    for i in (0, 5):
        x = torch.from_numpy(some.x[i : i + 1])
        for prefix, k in (("", explained.network[i]), ("another network's ", 1 - explained.network[i])):
            expected = attribute("mask", loaded[k], x, int(some.y[i]))[0]
            np.testing.assert_allclose(explained.relevance[f"{prefix}mask"].samples[i], expected, atol=1e-3)
            assert expected.max() > 0.05


def test_controls_look_at_the_signal_and_the_bump_at_the_labelled_peak(explained, some):
    assert set(CONTROLS) < set(explained.relevance)
    bump = explained.relevance["bump"].samples
    assert bump.argmax(1).tolist() == np.round(some.r_position * 360).astype(int).tolist()
    assert explained.relevance["amplitude"].samples[0].tolist() == pytest.approx(
        abs(some.x[0, 0] - np.sort(some.x[0, 0])[359]).tolist()
    )


def test_pairs_of_one_window_are_what_they_are_called(explained, some):
    table = pairs(explained).set_index(["pair", "window"])
    assert set(pairing.GROUPS) < set(table.index.get_level_values(0))
    for a, b in (("CAM", "mask"), ("CAM", "slope"), ("mask", "another network's mask"), ("mask", "bump")):
        own = table.loc[f"{a} · {b}"]
        for m, values in compare(explained.relevance[a], explained.relevance[b]).items():
            np.testing.assert_allclose(own[m], values)
    assert table.loc["CAM · mask"].label.tolist() == [CLASSES[y] for y in some.y]
    assert table.loc["CAM · mask"].patient.tolist() == some.patient.tolist()
    assert table.loc["CAM · mask"].right.tolist() == explained.right.tolist()


def test_masks_that_follow_the_beat_agree_at_the_beat_whatever_the_window(some):
    """One shape on every labelled peak: another window's mask is as good there, and elsewhere it is not."""
    rng = np.random.default_rng(0)
    centre = np.round(some.r_position * 360).astype(int)[:, None]
    shape = np.exp(-0.5 * ((np.arange(720) - centre - 40) / 30) ** 2) + 0.1
    ours = everything(some, rng) | {"CAM": shape, "mask": shape}
    table = pairs(made(some, ours)).pivot(index="window", columns="pair", values="rank, steps")
    np.testing.assert_allclose(table["CAM · mask"], 1)
    np.testing.assert_allclose(table["CAM · mask, at the beat"], 1)
    assert table["CAM · another window's mask, at the beat"].min() > 0.9
    assert table["CAM · another window's mask"].mean() < 0.8


def test_other_windows_are_of_the_class_and_network_and_of_another_patient(make_windows):
    windows = make_windows(["100", "100", "101", "101", "103", "105", "106"], ["N", "N", "N", "N", "PVC", "PVC", "PAC"],
                           np.arange(7) * 10.0 + 5)  # fmt: skip
    maps = everything(windows, np.random.default_rng(1))
    maps["mask"][3] = 0  # silent: not to be drawn, and without a partner to be compared with
    found = made(windows, maps)
    drawn = pairing._strangers(found, 40, np.random.default_rng(0))
    assert [set(column) for column in drawn.T] == [{2}, {2}, {0, 1}, {0, 1}, {5}, {4}, {-1}]
    apart = Explained(windows, found.relevance, np.array([0, 0, 1, 1, 0, 1, 0]), found.right)
    drawn = pairing._strangers(apart, 5, np.random.default_rng(0))  # no other patient: another window of the same
    assert [set(column) for column in drawn.T] == [{1}, {0}, {-1}, {2}, {-1}, {-1}, {-1}]
    table = pairs(apart).pivot(index="window", columns="pair", values="rank, steps")["CAM · another window's mask"]
    assert table.isna().tolist() == [False, False, True, False, True, True, True]
    cam, mask = found.relevance["CAM"], found.relevance["mask"]
    expected = compare(cam[np.array([0, 3])], mask[np.array([1, 2])])["rank, steps"]
    np.testing.assert_allclose(table[[0, 3]], expected)
    silent = pairs(found).pivot(index="window", columns="pair", values="top 20 %")["CAM · mask"]
    assert silent.isna().tolist() == [False] * 3 + [True] + [False] * 3


def test_same_seed_same_strangers(phantom_clean):
    windows = phantom_clean.subsample(4, seed=0)
    found = made(windows, everything(windows, np.random.default_rng(0)))
    a, b, c = pairs(found), pairs(found), pairs(found, seed=1)
    name = "CAM · another window's mask"
    assert a.equals(b)
    assert not a[a.pair == name][[*MEASURES]].equals(c[c.pair == name][[*MEASURES]])


# Truth


def test_mass_inside_a_truth(make_windows):
    windows = make_windows(["100", "100", "101"], ["N"] * 3, [5.0, 9.0, 5.0])
    inside = np.zeros((3, 720), bool)
    inside[:, :180] = True
    maps = everything(windows, np.random.default_rng(0))
    maps["CAM"], maps["mask"] = np.where(inside, 3.0, -1.0), np.where(inside, 1.0, 1.0)
    maps["mask"][1] = 0.001  # silent
    found = mass(made(windows, maps), inside).set_index("pair")
    assert found["mean"]["CAM"] == 1  # what is negative does not count
    assert found["mean"]["mask"] == found["mean"]["chance"] == 0.25
    assert found["mean"]["CAM less mask"] == 0.75
    assert (found.windows["CAM"], found.windows["mask"], found.windows["CAM less mask"]) == (3, 2, 2)
    assert found.patients["mask"] == 2


def test_planted_truth_is_found_by_a_planted_explanation(book, some):
    planted = truth(book, some, kind="planted")
    for i in (0, len(some) - 1):
        known = phantom.read_truth(some.record[i], root=book.root)
        label, start = CLASSES[some.y[i]], some.time[i] - 1
        assert planted[i].tolist() == phantom.evidence_mask(known, label=label, start=start).tolist()
    maps = everything(some, np.random.default_rng(0)) | {"CAM": planted + 1e-9}
    found = mass(made(some, maps), planted).set_index(["pair", "label"])["mean"]
    assert found["CAM"].min() > 0.999
    np.testing.assert_allclose(found["uniform"], found["chance"], atol=0.03)


def test_expected_truth_is_the_clinics(some, book):
    expected = truth(book, some)
    i = int(np.flatnonzero(some.y == CLASSES.index("RBBB"))[0])
    ((a, b),) = clinic.spans("RBBB", anchor=some.r_position[i])
    assert np.flatnonzero(expected[i])[[0, -1]].tolist() == [np.ceil(a * 360 - 1e-6), np.ceil(b * 360 - 1e-6) - 1]
    assert np.diff(np.flatnonzero(expected[i])).max() == 1


def test_errors(book, some, one_line):
    with pytest.raises(DataError, match="no windows to explain") as caught:
        explain(book, some[:0])
    one_line(caught, "choose a record")
    with pytest.raises(UnknownNameError, match="unknown truth 'plantd'"):
        truth(book, some, kind="plantd")
