"""The committed results, held to each other: scores to confusions, verdicts to intervals, files to files."""

import itertools
from collections import defaultdict

import numpy as np
import pytest
from scipy.stats import kendalltau

from ecglib import CLASSES, claims, models, networks
from ecglib.clinic import CRITERIA
from ecglib.networks import project_root
from ecglib.splits import DS2

RESULTS = project_root() / "results"
ROUNDED = 6e-5  # half of the last of four decimals, and a little
GROUP = dict(zip(CLASSES, "NVSNSNNN", strict=True))
#: windows of a class that a seed is scored on, all folds together
SUPPORTS = {
    ("grid", "ds1-ds2"): [400, 400, 153, 400, 45, 400, 400, 400],
    ("grid", "patient"): [1200, 1200, 388, 1200, 328, 1200, 1200, 1200],
    ("compact", "ds1-ds2"): [400, 400, 153, 400, 45, 400, 400, 400],
    ("compact", "patient"): [1200, 1200, 388, 1200, 328, 1200, 1200, 1200],
    ("other", "patient"): [1000, 1000, 388, 900, 900, 900, 656, 139, 1000, 764, 1000, 316, 163, 397, 400],
    ("other", "window"): [200, 200, 78, 200, 200, 200, 131, 28, 200, 173, 200, 64, 33, 79, 109],
}


def matrix(run, k):
    out = np.zeros(k * k, int)
    for place, count in run["confusion"].values():
        out[place] += count
    return out.reshape(k, k)


def scored(m):
    hit, true, called = np.diag(m).astype(float), m.sum(1), m.sum(0)
    occurs = true + called > 0
    each = np.stack([hit / np.maximum(called, 1), hit / np.maximum(true, 1), 2 * hit / np.maximum(true + called, 1)])
    names = ("precision", "recall", "f1")
    out = {f"{n}_macro": v[occurs].mean() for n, v in zip(names, each, strict=True)}
    out |= {f"{n}_weighted": (v * true).sum() / true.sum() for n, v in zip(names, each, strict=True)}
    return out | {"accuracy": hit.sum() / m.sum()}


def index_jk(m):
    """κ / 2 + j / 8 of a matrix of the groups N, S, V, F, by the definitions in words."""
    share = m[:4, :4] / m[:4, :4].sum()
    chance = share.sum(0) @ share.sum(1)
    kappa = (np.trace(share) - chance) / (1 - chance)
    called = m.sum(0) - [0, m[4, 1] if len(m) > 4 else 0, m[3:, 2].sum(), *[0] * (len(m) - 3)]
    return kappa / 2 + sum(m[g, g] / m[g].sum() + m[g, g] / max(1, called[g]) for g in (1, 2)) / 8


def of(table, *keys):
    return {tuple(row[k] for k in keys): row for row in table}


@pytest.mark.parametrize("name", ["grid", "compact", "other"])
def test_runs(name):
    found = networks.results(name)
    classes = found.get("classes", list(CLASSES))
    assert name == "other" or classes == list(CLASSES)
    member = np.array([[GROUP.get(c) == g for g in "NSVF"] for c in classes], int)
    support, people = defaultdict(int), defaultdict(list)
    for run in found["runs"]:
        m, cell = matrix(run, len(classes)), (run["model"], run["level"], run["seed"])
        assert run["scores"] == pytest.approx(scored(m), abs=ROUNDED), cell
        if "jk" in run:
            assert run["jk"] == pytest.approx(index_jk(member.T @ m @ member), abs=ROUNDED), cell
        support[cell] += m.sum(1)
        people[cell] += list(run["confusion"])
        if run["run"]:
            assert (run["run"]["level"], run["run"]["fold"]) == (run["level"].split(",")[0], run["fold"])
            assert m.sum() == run["run"]["windows"]["test"] or m.sum(1).max() == 400
    for (model, level, seed), windows in support.items():
        if (name, level) in SUPPORTS:
            assert windows.tolist() == SUPPORTS[name, level], (model, level, seed)
        if level == "patient":  # each in one fold
            assert len(people[model, level, seed]) == (46 if name == "other" else 45)
        if level == "ds1-ds2":  # no clean window of 232; 202 is the patient of 201
            assert people[model, level, seed] == sorted(f"mitdb/{201 if r == '202' else r}" for r in DS2 if r != "232")
        if level != "window":
            assert len(set(people[model, level, seed])) == len(people[model, level, seed])


def test_beats_of_the_groups():
    for found in networks.results("compact")["beats"]["found"].values():
        m = np.array(found["confusion"])
        assert found["scores"]["jk"] == pytest.approx(index_jk(m), abs=ROUNDED)
        assert found["scores"]["accuracy"] == pytest.approx(np.trace(m) / m.sum(), abs=ROUNDED)
        for row, group, own in zip(found["per_group"], "NSVF", m, strict=False):
            at = "NSVF".index(group)
            assert (row["group"], row["support"]) == (group, own.sum())
            assert row["sensitivity"] == pytest.approx(own[at] / own.sum(), abs=ROUNDED)


def test_reports():
    for cell in networks.results("reference_runs")["cells"]:
        report = cell["seeds"][0]["report"]
        m = np.array(report["confusion"])
        assert report["scores"] == pytest.approx(scored(m), abs=ROUNDED)
        for c, row in enumerate(report["per_class"]):
            assert (row["class"], row["support"]) == (CLASSES[c], m[c].sum())
            assert row["f1"] == pytest.approx(2 * m[c, c] / (m[c].sum() + m[:, c].sum()), abs=ROUNDED)


def everything(found):
    if isinstance(found, dict):
        yield found
    for value in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from everything(value)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda p: p.stem)
def test_intervals_hold_their_estimates(path):
    patients = networks.results("grid")["windows"]["patients"]
    for row in everything(networks.results(path.stem)):
        for low in [k for k in row if k.endswith("low") and isinstance(row[k], float) and row[k] == row[k]]:
            names = (
                [low[:-4]] if low != "low" else [k for k in ("estimate", "mean", "mass", "accuracy", "f1") if k in row]
            )
            assert row[low] <= row[low[:-3] + "high"], row
            for value in (row[k] for k in names if k in row):
                assert row[low] - 1e-6 <= value <= row[low[:-3] + "high"] + 1e-6, row
        label = row.get("label")
        if path.stem in {"agreement", "identity", "maps"} and isinstance(label, str) and "patients" in row:
            assert row["patients"] <= patients[label], row


def test_verdicts():
    rows = networks.results("evidence")["verdicts"] + networks.results("expert")["judged"]
    for row in rows + networks.results("expert")["sensitivity"]["judged"]:
        rule = claims.CLAIMS[row["claim"]]
        verdict = "undecided"
        if row["patients"] >= 5 and row["low"] is not None and not row["low"] <= rule.threshold <= row["high"]:
            verdict = "held" if (row["estimate"] > rule.threshold) == rule.above else "failed"
        assert row["verdict"] == verdict, row


def test_verdicts_are_of_the_tables_beside_them():
    found = networks.results("evidence")
    said = {k: row["estimate"] for k, row in of(found["verdicts"], "claim", "of").items()}
    tables = {"clinic": found["localisation"]["clinic"], "beats": found["localisation"]["beats"],
              "planted": found["planted"]["planted"]}  # fmt: skip
    mass = {
        (table, *at[:2]): row
        for table, rows in tables.items()
        for at, row in of(rows, "name", "label", "measure").items()
        if at[2] == "mass"
    }
    pairs = {"clinic-cam": ("clinic", "cam", "chance"), "clinic-control": ("clinic", "cam", "amplitude"),
             "clinic-mask": ("clinic", "mask", "chance"), "qrs-everywhere": ("beats", "cam", "chance"),
             "planted-cam": ("planted", "cam", "chance")}  # fmt: skip
    for claim, (table, a, b) in pairs.items():
        for c in (c for c in CLASSES if (claim, c) in said):
            a_, b_ = mass[table, a, c], mass[table, b, c]
            near = 0.013 if a_["patients"] == b_["patients"] else 0.2  # windows without positive relevance are left out
            assert said[claim, c] == pytest.approx(a_["estimate"] - b_["estimate"], abs=near), (claim, c)
    areas = {k: row["estimate"] for k, row in of(found["faithfulness"]["curves"], "name", "fill").items()}
    for row in found["faithfulness"]["curves"]:
        assert row["estimate"] == pytest.approx(np.trapezoid(row["score"], dx=0.1), abs=2 * ROUNDED)
    methods = [m for claim, m in said if claim == "deletion-random"]
    for m, control in itertools.product(methods, ("random", "amplitude")):
        assert said[f"deletion-{control}", m] == pytest.approx(areas[control, "linear"] - areas[m, "linear"], abs=2e-4)
    orders = [[areas[m, fill] for m in methods] for fill in ("linear", "zero", "blurred")]
    least = min(kendalltau(a, b).statistic for a, b in itertools.combinations(orders, 2))
    assert said["fill-order", "all"] == pytest.approx(least, abs=ROUNDED)
    silenced = of(networks.results("branches")["levels"]["patient"]["effects"], "condition")["without lstm, mean",]
    assert said["votes", "all"] == silenced["changed"]
    last = of(found["sanity"]["steps"], "name", "step")
    twins = of(found["twins"]["agreement"], "name", "windows", "what")
    for m in methods:
        assert said["cascade", m] == last[m, "stem"]["estimate"]
        assert said["seeds", m] == twins[m, "LTAFDB", "two networks"]["estimate"]
        assert said["recognise", m] == twins[m, "LTAFDB", "difference"]["estimate"]


def test_one_quantity_in_two_files():
    maps, other = of(networks.results("maps")["mass"], "method", "class"), networks.results("agreement")
    pairs = of(other["mass"], "pair", "label")
    for c, (name, pair) in itertools.product(CLASSES, {"cam": "CAM", "amplitude": "amplitude", "bump": "bump"}.items()):
        assert maps[name, c]["mass"] == pytest.approx(pairs[pair, c]["mean"], abs=1e-3), (c, name)
    by_class = networks.results("branches")["levels"]["patient"]["by class"]
    assert {row["label"]: row["right"] for row in other["silence"]} == {c: by_class[c][0]["accuracy"] for c in CLASSES}
    counts, annotated = (
        networks.results("dataset")["mitdb"],
        networks.results("annotations")["survey"]["mitdb"]["counts"],
    )
    assert {r: [row[c] for c in CLASSES] for r, row in counts["deck"].items()} == annotated
    clean = {c: {r: row[c] for r, row in counts["clean"].items() if row[c]} for c in CLASSES}
    fifteen = networks.results("other")["counts"]
    for c in ("N", "PAC", "AFIB", "RBBB"):
        assert fifteen["clean"][c]["records"] == clean[c]
    for c in ("SVTA", "SBR"):
        assert fifteen["not taken"][c]["records"] == clean[c]
    drawn = networks.results("grid")["windows"]
    assert drawn["counts"] == {c: min(2500, sum(own.values())) for c, own in clean.items()}
    people = {c: len({"201" if r == "202" else r for r in own}) for c, own in clean.items()}
    assert drawn["patients"] == people == networks.results("reference_runs")["windows"]["clean"]["patients"]


def test_chance_is_the_spans_share_of_two_seconds():
    found = of(networks.results("evidence")["localisation"]["clinic"], "name", "label", "measure")
    for c in set(CLASSES) - {"SBR"}:  # only its spans reach beyond the window
        inside = {t for a, b, _ in CRITERIA[c].spans for t in range(round(a * 1000), round(b * 1000))}
        assert found["chance", c, "mass"]["estimate"] == pytest.approx(len(inside) / 2000, abs=2 / 720)


def test_differences():
    found = networks.results("identity")
    for part in (found["hidden"]["by window"], found["hidden"]["by patient 0"]):
        value = {k: row["mean"] for k, row in of(part, "hidden", "of", "quantity").items()}
        for hidden, who in itertools.product(("most relevant", "least relevant", "at random"), ("patient", "class")):
            fall = value["nothing", who, "accuracy"] - value[hidden, who, "accuracy"]
            assert value[hidden, who, "fall"] == pytest.approx(fall, abs=2e-4)
            assert value[hidden, who, "beyond random"] == pytest.approx(
                fall - value["at random", who, "fall"], abs=3e-4
            )
    asked = [row for row in networks.results("agreement")["questions"] if row["p"] is not None and row["p"] == row["p"]]
    worst = 0.0
    for i, row in enumerate(sorted(asked, key=lambda row: row["p"])):  # Holm's steps
        worst = min(1, max(worst, row["p"] * (len(asked) - i)))
        assert row["adjusted"] == pytest.approx(worst, abs=ROUNDED)
    found = networks.results("retraining")
    score = of(found["scores"], "model", "name", "kind", "fill", "fraction")
    for row in found["against another window's"]:
        at = [row[k] for k in ("model", "name", "kind", "fill", "fraction")]
        stranger = score[at[0], f"{at[1]}, another window's", *at[2:]]
        assert row["accuracy"] == pytest.approx(score[tuple(at)]["accuracy"] - stranger["accuracy"], abs=2e-4)


def test_checkpoints_say_what_the_results_say():
    drawn, held, tested = networks.results("grid")["windows"], [], 0
    for fold in range(3):
        notes = models.metadata(networks.checkpoint("mitdb", "patient", fold))
        assert (notes["run"]["fold"], notes["run"]["data_sha256"]) == (fold, drawn["sha256"])
        held += notes["patients_held_out"]
        tested += notes["run"]["windows"]["test"]
    assert len(held) == len(set(held)) == 45
    assert tested == sum(drawn["counts"].values())
    found = networks.results("other")
    for run in (r for r in found["runs"] if (r["model"], r["level"], r["seed"]) == ("compact", "patient", 0)):
        notes = models.metadata(RESULTS / "mitdb15" / f"compact-patient{run['fold']}.safetensors")
        assert notes["patients_held_out"] == sorted(run["confusion"])
        assert notes["classes"] == found["classes"]
        assert notes["run"]["train_sha256"] == run["run"]["train_sha256"]
