"""Case studies: segments by hand and by a slow count, masses that add up, sentences without holes, pages in step."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from ecglib import CLASSES, averages, cases, clinic, models, pages, source
from ecglib.errors import DataError, UnknownNameError
from ecglib.segments import OTHERS, SEGMENTS, segments, share

ROOT = Path(__file__).resolve().parent.parent
PAGES = {label: ROOT / "book" / f"case_{label.lower()}.md" for label in CLASSES}


# Segments ------------------------------------------------------------------------------------------------------------


def at(places: np.ndarray, start: float, *times: float) -> list[str]:
    return [str(places[round((t - start) * 360)]) for t in times]


def test_segments_of_a_normal_beat():
    beats, symbols = np.array([9.0, 10.0, 11.0]), np.array(["N", "N", "N"])
    places = segments(beats, symbols, anchor=10.0, start=9.0)
    # P 0.22 to 0.11 s before R, PR to 0.05 before, QRS to 0.05 after, ST-T to 0.36 after, T-P to the next P
    assert at(places, 9.0, 9.70, 9.80, 9.87, 9.92, 9.98, 10.02, 10.10, 10.30, 10.40, 10.70) == [
        "T–P", "P", "P", "PR", "QRS", "QRS", "ST-T", "ST-T", "T–P", "T–P",
    ]  # fmt: skip
    assert at(places, 9.0, 9.0, 9.2, 10.8, 10.92, 10.98) == [
        "QRS, other beats", "ST-T, other beats", "P, other beats", "PR, other beats", "QRS, other beats",
    ]  # fmt: skip
    # 0.1 s of QRS at 360 Hz are 36 samples
    assert (places == "QRS").sum() == 36
    assert (places == "P").sum() == pytest.approx(0.11 * 360, abs=1)


def test_a_ventricular_beat_is_broad_and_has_no_p():
    beats, symbols = np.array([9.2, 9.7, 11.0]), np.array(["N", "V", "N"])
    places = segments(beats, symbols, anchor=9.7, start=9.0)
    assert at(places, 9.0, 9.50, 9.60, 9.65, 9.78, 9.82, 10.10, 10.20) == [
        "ST-T, other beats", "T–P", "QRS", "QRS", "ST-T", "ST-T", "T–P",
    ]  # fmt: skip
    assert not np.isin(places, ["P", "PR"]).any()


def test_waves_that_meet():
    beats = np.array([9.5, 9.9, 10.3])  # 150 a minute: T would end at 0.36 s, where the next P has begun long before
    places = segments(beats, np.array(["A", "A", "A"]), anchor=9.9, start=9.0)
    assert at(places, 9.0, 9.60, 9.70, 9.80, 9.88, 10.0, 10.12) == [
        "ST-T, other beats", "P", "PR", "QRS", "ST-T", "P, other beats",
    ]  # fmt: skip
    assert "T–P" not in places[: round(1.2 * 360)][round(0.5 * 360) :]


def slowly(beats, symbols, anchor, start) -> list[str]:
    """Sample by sample: which beats claim it, in the order in which they win."""
    out = []
    for k in range(720):
        t, claims = start + k / 360 + 1e-6, []
        for b, s in zip(beats, symbols, strict=True):
            on, off, t_end = (-0.06, 0.10, 0.45) if s in "VEFLR" else (-0.05, 0.05, 0.36)
            others = [o for o in beats if o != b]
            last = not any(o <= t for o in others if o > b)  # no beat between this one and the sample
            first = not any(o > t for o in others if o < b)
            ahead, behind = t < b and first, t >= b and last
            if (ahead and t - b >= on) or (behind and t - b < off):
                claims.append((0, b, "QRS"))
            elif ahead and s not in "VE" and t - b >= -0.11:
                claims.append((1, b, "PR"))
            elif ahead and s not in "VE" and t - b >= -0.22:
                claims.append((2, b, "P"))
            elif behind and t - b < t_end:
                claims.append((3, b, "ST-T"))
        if claims:
            _, b, name = min(claims)
            own = b == anchor
        else:
            around = [b for b in beats if b <= t][-1:] + [b for b in beats if b > t][:1]
            name, own = "T–P", anchor in around
        out.append(name if own else f"{name}, other beats")
    return out


@pytest.mark.parametrize("seed", range(4))
def test_segments_are_those_of_a_slow_count(seed):
    rng = np.random.default_rng(seed)
    beats = 5 + np.cumsum(rng.uniform(0.3, 1.3, 6))
    symbols = rng.choice(list("NVALR"), 6)
    anchor = float(beats[2])
    start = anchor - rng.uniform(0.5, 1.5)
    found = segments(beats, symbols, anchor=anchor, start=start)
    assert found.tolist() == slowly(beats.tolist(), symbols.tolist(), anchor, start)
    assert set(found) <= {*SEGMENTS, *OTHERS}


def test_share():
    r = np.array([[1.0, 3.0, -2.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    inside = np.array([[0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
    assert share(r, inside).tolist() == pytest.approx([0.75, np.nan, 0.0], nan_ok=True)


# A study ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(phantom_root, tmp_path_factory) -> cases.Study:
    """PAC on the small phantom, explained by an untrained network that is said to have held out all but one patient."""
    names = tuple(sorted(p.stem for p in (phantom_root / "phantom" / "1.0.0").glob("*.hea")))
    book = source.Source("phantom", phantom_root, names)
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    net = models.build("murugesan-gap", width=8, seed=0)
    models.save(net, path, notes={"patients_held_out": [f"phantom/{n}" for n in names]})
    return cases.study(book, "PAC", model=str(path), most=6)


def test_windows_are_of_the_class_and_patients_take_turns(found):
    assert set(found.windows.y.tolist()) == {CLASSES.index("PAC")}
    assert len(found.windows) == 6
    assert max(Counter(found.windows.patient.tolist()).values()) == 2  # four patients show the class
    assert found.strangers
    assert found.maps.shape == (6, 8, 720)


def test_relevance_is_of_the_class_of_the_page(found):
    x = torch.from_numpy(found.beat.window.x)
    wanted = cases.attribute("cam", found.net, x, CLASSES.index("PAC"))[0].relu().numpy()
    assert found.relevance["CNN map"] == pytest.approx(wanted)
    part = found.windows.x[[3]]
    own = cases.attribute("cam", found.net, torch.from_numpy(part), CLASSES.index("PAC"))[0].numpy()
    assert found.methods["CNN map"][3] == pytest.approx(own, abs=1e-5)
    with torch.no_grad():
        assert found.logits[3] == pytest.approx(found.net(torch.from_numpy(part))[0].numpy(), abs=1e-4)


def test_masses_add_up_to_one(found):
    table = cases.masses(found)
    sums = table.groupby("pair")["mean"].sum()
    assert sums.drop("LSTM mask").tolist() == pytest.approx([1.0] * 4)
    assert sums["LSTM mask"] == pytest.approx(1.0) or not (found.masks.max(1) >= cases.SILENT).any()
    assert table.low.isna().all()  # four patients: no interval
    chance = table[(table.pair == "chance") & (table.label == "QRS")]["mean"].item()
    by_patient = pd.Series((found.places == "QRS").mean(1)).groupby(found.windows.patient).mean()
    assert chance == pytest.approx(by_patient.mean())


def test_expected_is_a_slow_count(found):
    table = cases.expected(found)
    per = {}
    for name, r in found.methods.items():
        values = []
        for i in range(len(found.windows)):
            begin = found.windows.time[i] - 1
            times = begin + (np.arange(720) + 1e-6) / 360
            where = clinic.spans("PAC", anchor=float(found.windows.anchor[i]), start=begin, stop=begin + 2)
            inside = np.any([(times >= a) & (times < b) for a, b in where], axis=0)
            p = np.maximum(r[i].astype(float), 0)
            values.append(p[inside].sum() / p.sum() if p.sum() else np.nan)
        per[name] = pd.Series(values)
    means = {name: v.groupby(found.windows.patient).mean().mean() for name, v in per.items()}
    assert table["mean"].astype(float).to_dict() == pytest.approx(means, nan_ok=True, abs=1e-6)
    best = max(cases.CONTROLS, key=means.get)
    assert table.best.unique().tolist() == [best]
    over = (per["CNN map"] - per[best]).groupby(found.windows.patient).mean().mean()
    assert table.best_mean["CNN map"] == pytest.approx(over, abs=1e-6)
    assert table.chance_mean["CNN map"] == pytest.approx(means["CNN map"] - means["chance"], abs=1e-6)


def test_further_windows_are_of_other_patients(found):
    others = found.windows.patient[cases.further(found)]
    assert len(others) == len(set(others)) == 3
    assert found.beat.window.patient[0] not in others


def test_decisions(found):
    right = found.logits.argmax(1) == CLASSES.index("PAC")
    chosen = cases.decisions(found)
    assert set(chosen) == {name for name, some in (("right", right.any()), ("wrong", (~right).any())) if some}
    assert all(right[i] == (name == "right") for name, i in chosen.items())


def test_average_shows_this_build_and_the_reference(found):
    table = cases.average(found)
    assert list(dict.fromkeys(table.label)) == ["CNN map", "LSTM mask", "reference: CNN map", "reference: LSTM mask"]
    own = averages.by_class(found.windows, averages.relative(found.maps[:, CLASSES.index("PAC")]))
    assert table[table.label == "CNN map"]["mean"].to_numpy() == pytest.approx(own["mean"].to_numpy())


def test_every_number_of_the_page_has_a_word(found):
    span = cases.smallest_span(found.net, torch.from_numpy(found.beat.window.x), step_s=0.25)
    said = cases.words(found, cases.expected(found), cases.masses(found), cases.decisions(found), span)
    wanted = set(re.findall(r"\{glue:text\}`study_(\w+)`", (ROOT / "book" / "case_study.md").read_text()))
    assert wanted <= set(said)
    assert {k: v for k, v in said.items() if re.search(r"\b(nan|None|inf)\b|^$", v)} == {}
    assert said["windows"] == "6"
    assert said["patients"] == "4 patients"
    assert said["map_verdict"].startswith("too few patients")
    assert said["strangers"] == "never saw their patients"


def test_the_panel_of_a_window_shows_its_class_and_the_one_that_is_named(found):
    logits, maps, masks = np.zeros((6, 8)), found.maps.copy(), np.full_like(found.masks, 0.001)
    logits[:, CLASSES.index("PAC")] = 1
    logits[2, CLASSES.index("PVC")] = 2
    maps[2, CLASSES.index("PVC")] = np.linspace(-1, 3, 720)
    maps[2, CLASSES.index("PAC")] = -1
    masks[2, 100:200] = 0.42
    changed = replace(found, logits=logits, maps=maps, masks=masks)
    assert changed.named.tolist() == [2, 2, 1, 2, 2, 2]
    panel = changed.panel(2)
    assert list(panel["relevance"]) == [
        "CNN map, PAC (nowhere positive)", "CNN map, PVC", "LSTM mask, PAC (deletes up to 0.42)",
    ]  # fmt: skip
    assert panel["relevance"]["CNN map, PVC"] == pytest.approx(np.maximum(np.linspace(-1, 3, 720), 0))
    assert np.flatnonzero(panel["relevance"]["LSTM mask, PAC (deletes up to 0.42)"] > 0.1)[[0, -1]].tolist() == [
        100,
        199,
    ]
    record, begin = found.windows.record[2], found.windows.time[2] - 1
    assert panel["title"] == f"Record {record}, annotated PAC, named PVC"
    assert panel["start"] == begin
    assert np.array_equal(panel["signal"], found.windows.x[2, 0])
    assert panel["marks"] == {"expected": cases.where("PAC", anchor=found.windows.anchor[2], begin=begin)}
    right = changed.panel(3)
    assert [name.split(" (")[0] for name in right["relevance"]] == ["CNN map, PAC", "LSTM mask, PAC"]
    assert (right["relevance"]["LSTM mask, PAC (deletes nothing)"] == 0).all()
    strip = {"CNN map": np.linspace(-1, 1, 720), "LSTM mask": np.full(720, 0.5)}
    shown = replace(found, relevance=strip).shown
    assert list(shown) == ["CNN map", "LSTM mask (deletes up to 0.50)"]
    assert shown["CNN map"].min() == 0


class Step(torch.nn.Module):
    """Names PVC where any of the samples ``a`` up to ``b`` is above 0.5, else N."""

    def __init__(self, a: int, b: int):
        super().__init__()
        self.a, self.b, self.seen = a, b, 0

    def forward(self, x):
        self.seen += len(x)
        high = (x[:, 0, self.a : self.b] > 0.5).any(1).float()
        return torch.eye(8)[torch.where(high > 0, 1, 0)]


def planted(found, a, b):
    """A study of a window with a step of 1 mV on the samples ``a`` up to ``b``, from 9.0 s on, with R at 10.0 s."""
    x = np.zeros((1, 1, 720), np.float32)
    x[..., a:b] = 1
    window = replace(
        found.beat.window, x=x, y=np.array([1]), record=np.array(["p01"]), database=np.array(["phantom"]),
        time=np.array([10.0]), anchor=np.array([10.0]),
    )  # fmt: skip
    votes = pd.DataFrame({"logit": np.eye(8)[1]})
    beat = SimpleNamespace(window=window, begin=9.0, votes=votes)
    return replace(found, label="PVC", beat=beat, net=Step(a, b))


def test_a_decision_flips_by_the_shortest_span_that_two_grids_have(found):
    from ecglib.case_pages import _flip

    near = planted(found, 346, 368)  # 61 ms from 39 ms before R: of the grid of 20 ms, four steps
    span = cases.flip(near)
    assert (span.start, span.stop, span.before, span.after) == pytest.approx((346 / 360, 374 / 360, 1, 0), abs=0.006)
    assert span.start * 360 <= 346
    assert span.stop * 360 >= 368
    wide = planted(found, 300, 400)  # 0.28 s from 0.17 s before R: four steps of 0.1 s
    span = cases.flip(wide)
    assert (span.start, span.stop) == pytest.approx((0.8, 1.2))
    assert wide.net.seen <= 501
    # of the 400 ms about R, PVC's evidence takes those from 80 ms before it on: 280
    assert _flip(wide, span) == (
        "Without 400 ms, from -200 to +200 ms about the R peak, the network names N in place of PVC. "
        "Of that span 70% lies where the evidence of PVC is expected."
    )
    never = planted(found, 0, 720)
    assert cases.flip(never) is None
    assert never.net.seen <= 502
    assert _flip(never, None) == "No span on these grids makes the network name anything but PVC."


def test_no_more_than_all_of_a_span_lies_in_the_evidence(found):
    from ecglib.case_pages import _flip

    calm = replace(planted(found, 337, 345), label="N")
    span = SimpleNamespace(start=0.94, stop=0.96, before=1, after=0)  # P and PR end, the QRS begins
    assert "Of that span 100% lies" in _flip(calm, span)


def test_spans_that_meet_are_one():
    assert np.array(cases.where("N", anchor=10.0, begin=9.0)) == pytest.approx(np.array([[9.80, 10.05]]))
    two = cases.where("SBR", anchor=10.0, begin=9.5)  # the first begins with the window
    assert np.array(two) == pytest.approx(np.array([[9.5, 9.78], [10.45, 10.80]]))


def test_bands_say_when_there_is_nothing(found):
    from ecglib.cases import _map_band, _mask_band

    assert list(_map_band(np.array([-1.0, 0.0]), "CNN map")) == ["CNN map (nowhere positive)"]
    assert _map_band(np.array([-1.0, 2.0]), "CNN map")["CNN map"].tolist() == [0, 2]
    assert _mask_band(np.array([0.0, 0.009]), "mask")["mask (deletes nothing)"].tolist() == [0, 0]
    assert list(_mask_band(np.array([0.0, 0.25]), "mask")) == ["mask (deletes up to 0.25)"]


def test_verdicts():
    from ecglib.case_pages import _verdict

    row = {"chance_low": 0.1, "chance_high": 0.2, "best_low": -0.1, "best_high": 0.1}
    assert _verdict(row, "R bump") == "more than chance and not told from R bump, as far as these patients go"
    assert _verdict({**row, "best_high": -0.01}, "R bump").startswith("more than chance and less than R bump")
    same = {"chance_low": -0.2, "chance_high": -0.1, "best_low": -0.2, "best_high": -0.1}
    assert _verdict(same, "chance") == "less than chance, as far as these patients go"


def test_bad_arguments(phantom_root):
    book = source.Source("phantom", phantom_root, ("p01",))
    with pytest.raises(UnknownNameError, match="unknown class 'PVX'"):
        cases.study(book, "PVX")
    with pytest.raises(UnknownNameError, match="unknown split 'block'"):
        cases.study(book, "PVC", split="block")
    with pytest.raises(DataError, match="phantom has no clean window of RBBB; choose another"):
        cases.study(book, "RBBB", split="window")  # a patient with another rhythm
    none = source.Source("phantom", phantom_root, ())
    with pytest.raises(DataError):
        cases.study(none, "PVC", split="window")


# Pages ---------------------------------------------------------------------------------------------------------------


def test_pages_are_in_step_with_their_template():
    assert cases.write_pages(ROOT, write=False) == []


def test_a_page_takes_its_class():
    template = (
        '# A case study\n\n% only PVC\nEarly.\n% end\n% only N\nCalm.\n% end\nlabel: str = "PVC"  # class\n'
        'name: fig-study-a\n{glue:text}`study_b`, glue(f"study_{key}"), cases.study(book), book/case_study.ipynb\n'
    )
    assert cases.page(template, "N") == (
        '# N: normal sinus rhythm\n\nCalm.\nlabel: str = "N"  # class\n'
        'name: fig-n-a\n{glue:text}`n_b`, glue(f"n_{key}"), cases.study(book), book/case_n.ipynb\n'
    )


def test_stale_pages_are_named_and_written(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "case_study.md").write_text("# A case study\n")
    assert len(cases.write_pages(tmp_path)) == 8
    assert cases.write_pages(tmp_path) == []
    (tmp_path / "book" / "case_afib.md").write_text("changed")
    assert [p.name for p in cases.write_pages(tmp_path, write=False)] == ["case_afib.md"]
    assert (tmp_path / "book" / "case_afib.md").read_text() == "changed"


def test_no_label_and_no_number_is_on_two_pages():
    figures, numbers = Counter(), Counter()
    for label, path in PAGES.items():
        text, key = path.read_text(), label.lower()
        names = re.findall(r"^ +name: (fig-\S+)$", text, flags=re.MULTILINE)
        glued = set(re.findall(r"\{glue:text\}`(\w+)`", text))
        assert len(names) == 8
        assert all(name.startswith(f"fig-{key}-") for name in names)
        assert all(number.startswith(f"{key}_") for number in glued)
        assert f'glue(f"{key}_{{key}}"' in text
        assert "% only" not in text
        assert "% end" not in text
        assert f'label: str = "{label}"' in text
        figures.update(names)
        numbers.update(glued)
    assert max(figures.values()) == max(numbers.values()) == 1
    rest = [p for p in (ROOT / "book").glob("*.md") if not p.name.startswith("case_")]
    others = {name for p in rest for name in re.findall(r"^ +name: (fig-\S+)$", p.read_text(), flags=re.MULTILINE)}
    assert not others & set(figures)


def test_pages_are_notebooks_of_short_cells():
    for path in PAGES.values():
        assert pages.is_executable(path)
        code = [c for c in pages.notebook(path).cells if c.cell_type == "code"]
        assert max(len(c.source.splitlines()) for c in code) <= 15
        assert "parameters" in code[0].metadata["tags"]
