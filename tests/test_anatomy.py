"""What is said and drawn about a network is what its live modules do."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
import vl_convert

from ecglib import models, plots
from ecglib.errors import DataError, UnknownNameError
from ecglib.models.anatomy import layers, summary, totals
from ecglib.models.receptive import Field, receptive_field

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIGURATIONS = [
    ("hannun", {}), ("zihlmann", {}), ("zihlmann", {"hop": 8}), ("murugesan", {}), ("murugesan", {"pad": 0}),
    ("murugesan-gap", {}),
]  # fmt: skip


@pytest.fixture(params=CONFIGURATIONS, ids=lambda c: "-".join(map(str, (c[0], *c[1].values()))))
def net(request):
    name, options = request.param
    return models.build(name, width=8, **options)


def rows(name, **options):
    return layers(models.build(name, **options)).set_index("name")


# Layers


def test_rows_of_ecgnet():
    table = rows("murugesan")
    assert [*table.index[:2], *table.index[7:10], *table.index[-5:]] == [
        "stem", "blocks.0", "blocks.6", "lstm", "tail.0", "tail.8", "norm", "head.0", "head.1", "head.2",
    ]  # fmt: skip
    labels = ["stem", "block1", *(f"res{k}" for k in range(2, 8)), "LSTM", *(f"res{k}" for k in range(8, 17))]
    assert list(table["label"]) == [*labels, "norm", "affine 1", "affine 2", "affine 3"]
    assert table.loc["blocks.6", ["kind", "shape", "channels", "steps"]].tolist() == ["Block", (128, 48), 128, 48]
    assert table.loc["lstm", ["kind", "shape", "channels", "steps", "parameters"]].tolist() == [
        "LSTM", (12, 40), 40, 12, 29_440,
    ]  # fmt: skip
    assert table.loc["head.0", ["shape", "channels", "steps"]].tolist() == [(500,), 500, 1]
    block = 2 * (128 * 128 * 15 + 128) + 2 * 2 * 128  # two convolutions, two normalisations
    assert table.loc["blocks.6", "parameters"] == block == 492_288


def test_flops_by_hand():
    table = rows("murugesan")
    assert table.loc["stem", "flops"] == 2 * 768 * 16 * (15 + 17 + 19 + 21)
    assert table.loc["blocks.6", "flops"] == 2 * 2 * 96 * 128 * 128 * 15  # both convolutions before the pool
    assert table.loc["tail.0", "flops"] == 2 * 48 * (128 * 192 * 15 + 192 * 192 * 15 + 128 * 192)
    assert table.loc["lstm", "flops"] == 2 * 12 * 4 * 40 * (60 + 40 + 40 + 40)
    assert table.loc["head.0", "flops"] == 2 * 1000 * 500
    assert rows("hannun").loc["blocks.9", "flops"] == 2 * 24 * 2 * 128 * 128 * 16
    assert rows("zihlmann").loc["lstm_forward", "flops"] == 2 * 2 * 400 * (480 + 100 + 2 * 200)


def test_steps_in_time():
    table = rows("murugesan")
    begin, long = table["start"] * 360, table["step"] * 360
    assert begin[["stem", "blocks.6", "tail.8", "lstm"]].round(6).tolist() == [-24, -24, -24, 0]
    assert long[["stem", "blocks.0", "blocks.6", "tail.8", "lstm"]].round(6).tolist() == [1, 2, 16, 256, 60]
    assert np.isnan(table.loc["head.0", ["start", "step"]].astype(float)).all()
    published = rows("murugesan", pad=0)
    assert (published["start"].dropna() == 0).all()
    covered = published["steps"] * published["step"]
    assert covered["blocks.6"] == pytest.approx(2)
    assert covered["tail.8"] == pytest.approx(512 / 360)  # 2 steps of 256: the floors have dropped 0.58 s
    spectral = rows("zihlmann")
    assert (spectral.loc["spectrogram", ["start", "step"]] * 360).tolist() == pytest.approx([16, 32])
    assert (spectral.loc["lstm_backward", ["start", "step"]] * 360).tolist() == pytest.approx([16, 512])
    assert spectral.loc["blocks.0", "shape"] == (64, 17, 11)
    assert spectral.loc["drop", ["shape", "channels", "steps"]].tolist() == [(2, 200), 200, 2]
    hannun = rows("hannun")
    assert hannun.loc["dense", ["channels", "steps"]].tolist() == [8, 3]
    assert hannun.loc["dense", "step"] * 360 == pytest.approx(256)
    assert hannun.loc["blocks.15", "label"] == "block 15"


def test_rows_add_up(net):
    table, whole = layers(net), totals(net)
    assert table["parameters"].sum() == whole["parameters"] == sum(p.numel() for p in net.parameters())
    assert table["flops"].sum() == whole["flops"] > 0
    leaves = layers(net, leaves=True)
    assert leaves["parameters"].sum() == whole["parameters"]
    assert leaves["flops"].sum() == whole["flops"]
    assert len(leaves) > len(table)
    assert not {"Block", "Stem"} & set(leaves["kind"])


def test_shapes_are_those_of_a_real_run(net):
    table = layers(net).set_index("name")
    seen = {}
    for name in table.index:
        net.get_submodule(name).register_forward_hook(
            lambda m, i, o, name=name: seen.update(
                {name: tuple((o if isinstance(o, torch.Tensor) else o[0]).shape)[1:]}
            )
        )
    with torch.no_grad():
        net(torch.randn(2, 1, 720))
    assert seen == table["shape"].to_dict()
    assert list(seen) == list(table.index)


def test_the_network_is_left_alone():
    net = models.build("murugesan", width=4).train()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    layers(net)
    totals(net)
    receptive_field(net, "blocks.1")
    assert all(m.training for m in net.modules())
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert {p.device.type for p in net.parameters()} == {"cpu"}
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert [m for m in net.modules() if m._forward_hooks] == []


def test_other_lengths():
    net = models.build("hannun", pad=0)
    assert layers(net, samples=768).set_index("name").loc["blocks.7", "shape"] == (64, 48)
    with pytest.raises(DataError, match="23 and 22 steps"):
        layers(net)


# Receptive fields


@pytest.mark.parametrize(
    ("name", "layer", "field"),
    [
        ("murugesan", "stem", Field(21, 1)),
        ("murugesan", "blocks.0", Field(21 + 2 * 14 + 1, 2)),
        ("murugesan", "blocks.6", Field(848, 16)),  # res7
        ("murugesan", "tail.0", Field(1296, 16)),  # res8
        ("murugesan-gap", "norm", Field(848, 16)),
        ("hannun", "opening", Field(16, 1)),
        ("hannun", "blocks.0", Field(16 + 15 + 15, 1)),
        ("zihlmann", "spectrogram", Field(64, 32)),
    ],
)
def test_receptive_field(name, layer, field):
    assert receptive_field(models.build(name, width=4), layer) == field


def arithmetic(jumps):
    """Field and step of a chain of (kernel, stride)."""
    field, step = 1, 1
    for kernel, stride in jumps:
        field, step = field + (kernel - 1) * step, step * stride
    return Field(field, step)


def test_receptive_field_by_arithmetic():
    conv = [(15, 1), (15, 1)]
    ecgnet = [(21, 1), *(layer for i in range(7) for layer in conv + [(2, 2)] * (i % 2 == 0))]
    assert arithmetic(ecgnet) == Field(848, 16)
    hannun = [(16, 1), *((16, stride) for i in range(8) for stride in (1 + i % 2, 1))]
    assert arithmetic(hannun) == receptive_field(models.build("hannun", width=2), "blocks.7") == Field(1141, 16)


@pytest.mark.slow
@pytest.mark.parametrize(("hop", "step"), [(32, 512), (8, 128)])
def test_receptive_field_of_zihlmann(hop, step):
    blocks = arithmetic(([(5, 1)] * 5 + [(5, 2)]) * 4)  # in segments
    expected = Field((blocks.samples - 1) * hop + 64, step)
    assert blocks.step_samples * hop == step
    assert receptive_field(models.build("zihlmann", width=2, hop=hop), "blocks.3") == expected


def test_receptive_field_does_not_depend_on_the_width():
    found = {receptive_field(models.build("murugesan", width=w, pad=p), "blocks.2") for w in (4, 16) for p in (0, 24)}
    assert found == {arithmetic([(21, 1), (15, 1), (15, 1), (2, 2), (15, 1), (15, 1), (15, 1), (15, 1), (2, 2)])}


def test_receptive_field_is_where_a_change_is_felt():
    net = models.build("murugesan", width=4).eval()  # real weights: what lies outside the field cannot matter
    at = 20  # step of res7; its field begins at 16 * 20 - (848 - 16) / 2 of the padded window, 24 before the other
    first = 16 * at - (848 - 16) // 2 - 24
    x = torch.randn(1, 1, 720, generator=torch.Generator().manual_seed(0))
    far, near = x.clone(), x.clone()
    far[..., first + 848 :] += 5
    near[..., first + 848 - 200 :] += 5
    with torch.no_grad():
        same, felt = (float((net.feature_map(o) - net.feature_map(x))[..., at].abs().max()) for o in (far, near))
    assert same == 0
    assert felt > 0


def test_unknown_layers():
    net = models.build("murugesan", width=4)
    with pytest.raises(UnknownNameError, match=r"unknown layer 'blocks.9'"):
        receptive_field(net, "blocks.9")
    for name, kind in (("stem.convs", "ModuleList"), ("lstm", "LSTM"), ("head.0", "Linear")):
        with pytest.raises(DataError, match=f"layer '{name}' is a {kind}; name a convolution"):
            receptive_field(net, name)


def test_summary_of_every_network():
    found = {
        (name, *options.values()): summary(name, layer, **options)
        for name, layer, options in [
            ("hannun", "blocks.7", {}), ("zihlmann", "blocks.3", {"hop": 8}), ("murugesan", "blocks.6", {}),
            ("murugesan-gap", "norm", {}),
        ]
    }  # fmt: skip
    nan = float("nan")
    expected = {
        ("hannun",): ["hannun", 10.467176, 416.034816, "block 7", nan, 48, 44.4444, 3.16944],
        ("zihlmann", 8): ["zihlmann, hop 8", 5.635752, 2150.0112, "block 4", 6, 6, 355.5556, 8.17778],
        ("murugesan",): ["murugesan", 17.598384, 1360.329504, "res7", 45, 48, 44.4444, 2.35556],
        ("murugesan-gap",): ["murugesan-gap", 2.25652, 902.141568, "norm", nan, 48, 44.4444, 2.35556],
    }
    keys = ["network", "parameters (M)", "operations (M)", "map", "steps of 720", "steps of 768", "one step (ms)"]
    for key, values in expected.items():
        assert list(found[key]) == [*keys, "sees (s)"]
        for got, wanted in zip(found[key].values(), values, strict=True):
            assert got == wanted if isinstance(wanted, str) else got == pytest.approx(wanted, rel=1e-5, nan_ok=True)


# Drawn

WINDOW = np.sin(np.arange(720) / 30)


def drawn(name, **options):
    """Rows, path and borders that a chart carries, as frames."""
    chart = plots.architecture(layers(models.build(name, **options)), WINDOW, description="A network.").to_dict()
    frames = [pd.DataFrame(rows) for rows in chart["datasets"].values() if rows]
    return chart, *(next(f for f in frames if column in f) for column in ("shade", "edge", "at"))


def test_bands_are_the_steps_in_time():
    _, rows, _, borders = drawn("murugesan", pad=0)
    rows = rows.set_index("name")
    assert rows.loc["blocks.6", ["label", "size", "start", "count"]].tolist() == ["res7", "128 × 45", 0, "0.49 M"]
    assert rows.loc["blocks.6", "stop"] == pytest.approx(2)
    assert rows.loc["tail.8", "stop"] == pytest.approx(512 / 360, abs=1e-4)
    assert rows.loc["lstm", ["lane", "size", "long"]].tolist() == ["LSTM", "40 × 12", "167 ms"]
    assert rows.loc["head.0", ["lane", "size", "long", "stop"]].tolist() == ["classes", "500", "no time left", 2]
    assert "norm" not in rows.index
    assert (rows["top"] < rows["bottom"]).all()
    assert (rows["middle"].diff().dropna() > 0).all()
    height = (rows["bottom"] - rows["top"]).round(1)
    assert height["tail.8"] / height["blocks.6"] == pytest.approx(320 / 128, rel=0.02)
    last = borders[borders["top"] == rows.loc["tail.8", "top"]]
    assert last["at"].tolist() == pytest.approx([256 / 360], abs=1e-4)
    assert len(borders[borders["top"] == rows.loc["blocks.6", "top"]]) == 44
    assert not (borders["top"] == rows.loc["blocks.0", "top"]).any()  # 360 steps have no borders


def ends(path):
    """(from, to) of every edge, as (rail, y)."""
    edge = path.sort_values(["edge", "order"]).groupby("edge")[["rail", "middle"]]
    return {tuple(map(tuple, pair)) for pair in np.stack([edge.first(), edge.last()], 1).tolist()}


def test_the_path_of_the_data():
    _, rows, path, _ = drawn("murugesan")
    at = {name: (rail, y) for name, rail, y in zip(rows["name"], rows["rail"], rows["middle"], strict=True)}
    signal = (0, 36.0)
    edges = ends(path)
    assert at["lstm"][0] == 1  # beside the CNN
    assert {
        (signal, at["stem"]),
        (signal, at["lstm"]),
        (at["lstm"], at["head.0"]),
        (at["tail.8"], at["head.0"]),
    } <= edges
    assert (at["tail.8"], at["lstm"]) not in edges
    assert len(edges) == len(rows) + 1

    _, rows, path, _ = drawn("zihlmann")
    at = {name: (rail, y) for name, rail, y in zip(rows["name"], rows["rail"], rows["middle"], strict=True)}
    both, edges = [at["lstm_forward"], at["lstm_backward"]], ends(path)
    assert {(at["blocks.3"], lstm) for lstm in both} | {(lstm, at["dense"]) for lstm in both} <= edges
    assert len(edges) == len(rows) + 1
    assert list(rows["name"]) == [
        "spectrogram",
        *(f"blocks.{i}" for i in range(4)),
        "lstm_forward",
        "lstm_backward",
        "dense",
    ]


@pytest.mark.parametrize(("name", "options"), CONFIGURATIONS)
def test_every_network_draws_within_the_column(name, options):
    chart, *_ = drawn(name, **options)
    assert chart["description"] == "A network."
    svg = vl_convert.vegalite_to_svg(chart)
    assert "NaN" not in svg
    assert "undefined" not in svg
    width, height = (float(v) for v in re.search(r'width="([\d.]+)" height="([\d.]+)"', svg).groups())
    assert width <= 690
    assert height < 800


def test_a_part_can_be_drawn_and_marked():
    table = layers(models.build("murugesan"))
    part = table[table["name"].str.contains("blocks.6|tail|head")]
    chart = plots.architecture(part, WINDOW, mark=["blocks.6"], title="Upper half").to_dict()
    rows = pd.DataFrame(next(r for r in chart["datasets"].values() if r and "shade" in r[0]))
    assert dict(zip(rows["name"], rows["shade"], strict=True))["blocks.6"] == 1
    assert set(rows["shade"]) == {1, 0.5, 0.25}
    assert chart["title"] == "Upper half"
    with pytest.raises(DataError, match=r"mark: expected names of layers, received \['res7'\]"):
        plots.architecture(table, WINDOW, mark=["res7"])
    with pytest.raises(DataError, match=r"received none called \['step'\]"):
        plots.architecture(table.drop(columns="step"), WINDOW)


def test_spectrograms_carry_their_values_and_places():
    image = np.arange(33 * 3).reshape(33, 3) / 10
    chart = plots.spectrograms({32: image, 16: image + 1}, description="Two images.").to_dict()
    rows = pd.DataFrame(next(iter(chart["datasets"].values())))
    assert len(rows) == 2 * 33 * 3
    assert rows[(rows["hop"] == 16) & (rows["bin"] == 32) & (rows["k"] == 2)]["log"].tolist() == [10.8]
    steps = {t["as"]: t["calculate"] for t in chart["transform"]} if "transform" in chart else None
    steps = steps or {t["as"]: t["calculate"] for t in chart["spec"]["transform"]}
    begin = eval(steps["t"].replace("datum.k", "2").replace("datum.hop", "32"))
    assert begin == pytest.approx((2 * 32 + 16) / 360)  # segment 2 is 64 … 127, its middle 96
    assert eval(steps["f"].replace("datum.bin", "8")) == pytest.approx(7.5 * 5.625)
    assert "NaN" not in vl_convert.vegalite_to_svg(chart)
    with pytest.raises(DataError, match="arrays of 33 frequencies by hop, received"):
        plots.spectrograms({32: image[:5]})
