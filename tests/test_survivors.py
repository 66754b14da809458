"""What mutants of the code had survived until somebody asked for it."""

from __future__ import annotations

import re
import shutil
import warnings

import numpy as np
import pytest
import torch

from ecglib import cam, labelsets, localisation, models, phantom, records, splits, windows
from ecglib.errors import DataError, UnknownNameError
from ecglib.masks import learn_mask
from ecglib.windows import count_table


def test_an_unknown_rule_is_called_a_rule(tmp_path):
    for call in (
        lambda: windows.labels("phantom", rule="dekc", root=tmp_path),
        lambda: windows.cut_database("phantom", rule="dekc", root=tmp_path),
        lambda: count_table(tmp_path, rule="dekc"),
    ):
        with pytest.raises(UnknownNameError, match=r"^unknown rule 'dekc'; did you mean 'deck'"):
            call()


def test_nothing_to_split_is_said_so(make_windows):
    with pytest.raises(DataError, match=r"^there are no windows to split$"):
        splits.split(make_windows([], [], []), level="patient", seed=0)


def test_a_map_of_zeros_has_no_sparseness():
    found = localisation.sparseness(np.stack([np.zeros(8), np.eye(8)[3]]))
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(7 / 8)


def test_a_score_that_does_not_look_at_the_signal_leaves_the_area_alone_to_push():
    x = torch.linspace(-1, 1, 30).expand(2, 1, 30)
    blind = lambda masked: torch.zeros(len(masked), requires_grad=True)  # noqa: E731
    found = learn_mask(blind, x, n_iter=5, lr=0.01, init=0.5)
    plain = learn_mask(lambda masked: 0 * masked.sum((1, 2)), x, n_iter=5, lr=0.01, init=0.5)
    assert torch.equal(found.mask, plain.mask)
    assert not torch.equal(found.mask, torch.full_like(found.mask, 0.5))


def test_counts_have_a_bar_on_request_alone_and_dashes_by_the_deck_alone(tmp_path, capsys):
    own = phantom.write(tmp_path, patients=2, minutes=2, seed=0)
    shutil.copytree(own, tmp_path / "ltafdb" / "1.0.0")
    deck, clean = (count_table(tmp_path, rule=rule) for rule in ("deck", "clean"))
    assert "annotations of" not in capsys.readouterr().err
    count_table(tmp_path, rule="clean", progress=True)
    assert re.search(r"annotations of ltafdb: +0%.*\| 2/2 ", capsys.readouterr().err, flags=re.S)
    dashes = deck.ltafdb.isna()
    assert dashes.any()
    assert not dashes.all()
    assert not clean.ltafdb.isna().any()
    same = ~dashes
    assert (deck.ltafdb[same] == deck.phantom[same]).all() if "phantom" in deck else True


def silent(where, record: str) -> None:
    """Make a record's samples -2048, which stands for no value."""
    raw = np.frombuffer((where / f"{record}.dat").read_bytes(), np.uint8).reshape(-1, 3).copy()
    raw[:] = (0, 0x88, 0)
    (where / f"{record}.dat").write_bytes(raw.tobytes())
    (where / f"{record}.hea").write_text(f"{record} 2 360 43200\n" + f"{record}.dat 212 200(1024)/mV 12 0\n" * 2)


def test_windows_without_a_value_are_left_out_and_the_others_filled(tmp_path, capsys):
    where = phantom.write(tmp_path, patients=2, minutes=2, seed=0)
    wanted = windows.labels("phantom", rule="clean", root=tmp_path)
    whole = windows.fill(wanted, root=tmp_path)
    silent(where, "p01")
    with pytest.warns(
        UserWarning, match=f"^{(wanted.record == 'p01').sum()} windows lie where their lead holds no value"
    ):
        found = windows.fill(wanted, root=tmp_path, progress=True)
    assert set(found.record) == {"p02"}
    assert np.array_equal(found.x, whole.x[whole.record == "p02"])
    assert "signals: " in capsys.readouterr().err


def test_a_draw_from_each_record_follows_its_seed(tmp_path):
    phantom.write(tmp_path, patients=2, minutes=2, seed=0)
    first, again, other = (
        windows.labels("phantom", rule="clean", root=tmp_path, per_record=3, seed=seed).time for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_record_is_cut_by_the_labels_that_are_asked_for(tmp_path):
    phantom.write(tmp_path, patients=1, minutes=2, seed=0)
    record = records.read_record("phantom", "p01", root=tmp_path)
    eight, fifteen = (windows.cut(record, rule="deck", labels=labels) for labels in ("mitdb8", "mitdb15"))
    assert len(eight.classes) == 8
    assert len(fifteen.classes) == 15
    assert fifteen.classes[int(fifteen.y[0])] in fifteen.classes
    kinds = labelsets.load("mitdb15")
    beats = {round(t, 6): kinds.beats[s] for t, s in record.beats if s in kinds.beats}
    own = [(round(t, 6), y) for t, y in zip(fifteen.anchor, fifteen.y, strict=True) if round(t, 6) in beats]
    assert own
    assert all(y == beats[t] or kinds.kinds[y].rhythms for t, y in own)


def test_windows_without_a_value_are_told_where_they_are_asked_for(tmp_path):
    where = phantom.write(tmp_path, patients=1, minutes=2, seed=0)
    wanted = windows.labels("phantom", rule="clean", root=tmp_path)
    silent(where, "p01")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = windows.fill(wanted, root=tmp_path)
    assert len(found) == 0 < len(wanted)
    (told,) = [w for w in said if "no value" in str(w.message)]
    assert str(told.message) == f"{len(wanted)} windows lie where their lead holds no value; they are left out"
    assert told.filename == __file__


def test_a_record_without_beats_is_named(make_record):
    for call in (lambda r: windows.cut(r, rule="clean"), lambda r: windows.at(r, time=5.0)):
        with pytest.raises(DataError, match=r"^record r1 has no annotated beats, so no window of it can be labelled$"):
            call(make_record([], 10.0))


def test_steps_that_tile_a_window_need_no_padding():
    assert cam.padding(45) == 0
    assert cam.padding(48) == 24
    assert cam.step_edges(45)[[0, 1, -1]].tolist() == [0, 16, 720]


def test_what_cannot_be_explained_is_named():
    with pytest.raises(DataError, match=r"^Linear has no feature_map to explain"):
        cam.grad_cam(torch.nn.Linear(720, 8), torch.zeros(1, 1, 720), 0)
    with pytest.raises(DataError, match=r"mV, received str$"):
        cam.class_activation_map(models.build("murugesan-gap", width=8), "an ECG", 0)
