"""Known facts about shapes, receptive fields and costs; warnings; the table's forms."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnets.arch import describe as module
from resnets.arch.config import ResNetConfig
from resnets.arch.describe import Description, LayerRow, describe
from resnets.arch.networks import NetworkConfig
from resnets.arch.nodes import Chain, Conv
from resnets.arch.plan import plan
from resnets.arch.shapes import trace
from resnets.arch.variants import VARIANTS, get_config
from resnets.errors import ConfigError, ShapeError, UnknownNameError
from tests.strategies import configs


def row(table: Description, name: str) -> LayerRow:
    return next(row for row in table.rows if row.name == name)


def stages(table: Description) -> list[str]:
    return ["x".join(map(str, row.output)) for row in table.rows if row.role == "stage"]


def test_resnet50_at_352() -> None:
    assert stages(describe("resnet50", 352)) == ["256x88x88", "512x44x44", "1024x22x22", "2048x11x11"]


def test_resnet34_at_720_by_1280() -> None:
    assert stages(describe("resnet34", (720, 1280))) == ["64x180x320", "128x90x160", "256x45x80", "512x23x40"]


def test_resnet50_params_and_macs() -> None:
    table = describe("resnet50", 224)
    assert (table.params, round(table.macs / 1e9, 2)) == (25_557_032, 4.09)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        # Araujo et al. 2019, "Computing receptive fields of convolutional neural networks": ResNet-v1-50 has 483 in
        # slim, whose stride comes last; with torchvision's strides it is 427.
        ("resnet50", [35, 91, 267, 427]),
        ("resnet101", [35, 91, 811, 971]),
        ("resnet18", [43, 99, 211, 435]),
        ("resnet34", [59, 179, 547, 899]),
    ],
)
def test_receptive_fields(name: str, fields: list[int]) -> None:
    table = describe(name)
    assert [row(table, f"layer{stage}").receptive_field for stage in (1, 2, 3, 4)] == fields


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        # slim's strides come last: Araujo et al. 2019 give 483 for its last map
        ("resnet_v1_50", [35, 99, 291, 483]),
        ("resnet_v2_50", [35, 99, 291, 483]),
        # statistics of the whole feature map do not extend it
        ("seresnet50", [35, 91, 267, 427]),
        ("resnet50_ibn_a", [35, 91, 267, 427]),
    ],
)
def test_receptive_fields_of_dialects(name: str, fields: list[int]) -> None:
    table = describe(name)
    assert [row(table, f"layer{stage}").receptive_field for stage in (1, 2, 3, 4)] == fields


def test_the_published_v1_stride_costs_less() -> None:
    assert describe("resnet50_v1").params == describe("resnet50").params
    assert round(describe("resnet50_v1").macs / 1e9, 1) == 3.9  # He et al. 2015, table 1: 3.8e9, downsampling excluded


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50_v1", "resnetv2_50", "resnetv2_18", "plain18"])
@pytest.mark.parametrize(("stride", "cells"), [(4, [56, 56, 56, 56]), (8, [56, 28, 28, 28]), (16, [56, 28, 14, 14])])
def test_output_stride_on_every_block_type(name: str, stride: int, cells: list[int]) -> None:
    table = describe(get_config(name, output_stride=stride), 224)
    assert [row(table, f"layer{stage}").output[1] for stage in (1, 2, 3, 4)] == cells
    assert row(table, "layer4").stride == stride
    assert table.params == describe(name).params  # dilation adds no weights


def test_dilation_follows_torchvision() -> None:
    """The block that would stride still has the dilation before it; those that follow have the next."""
    convs = dict(convs_of(get_config("resnet50", output_stride=8)))
    assert [convs[f"layer3.{block}.conv2"].dilation for block in (0, 1, 5)] == [1, 2, 2]
    assert [convs[f"layer4.{block}.conv2"].dilation for block in (0, 1, 2)] == [2, 4, 4]
    assert {conv.stride for path, conv in convs.items() if path.startswith(("layer3", "layer4"))} == {1}
    assert convs["layer4.2.conv2"].padding == 4


def convs_of(config: NetworkConfig) -> list[tuple[str, Conv]]:
    return [(r.path, r.node) for r in trace(plan(config), (3, 64, 64)) if isinstance(r.node, Conv)]


def test_last_stride() -> None:
    table = describe(get_config("resnet50", last_stride=1), (256, 128))
    assert row(table, "layer4").output == (2048, 16, 8)
    assert row(table, "layer4").stride == 16
    assert {conv.dilation for _, conv in convs_of(get_config("resnet50", last_stride=1))} == {1}


def test_a_small_input_warns_and_names_the_stage() -> None:
    assert describe("resnet50", 32).warnings == ()
    (warning,) = describe("resnet50", 31).warnings
    assert "smaller than the total reduction of 32; got 31x31; the output of layer4 is 1x1" in warning
    (warning,) = describe("resnet50", (640, 8)).warnings
    assert "got 640x8; the output of layer2 is 80x1" in warning
    assert describe("resnet20_cifar", 4).warnings == ()
    assert "output of layer2 is 1x1" in describe("resnet20_cifar", 2).warnings[0]


def test_an_empty_output_names_the_stage_and_the_minimum_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """No named network has an empty stage, so the plan is made by hand: two unpadded 5x5 convolutions."""
    layers = tuple(
        Chain(name=f"layer{stage}", role="stage", nodes=(Conv(name="0", in_chans=3, out_chans=3, kernel=5, stride=2),))
        for stage in (1, 2)
    )
    monkeypatch.setattr(module, "plan", lambda _: Chain(name="", role="network", nodes=layers))
    with pytest.raises(ShapeError) as caught:
        describe(ResNetConfig(num_classes=0), (12, 40))
    for fact in ("layer2.0", "window of 5", "4 cells", "got 12x40", "minimum size is 13x13"):
        assert fact in str(caught.value)
    assert describe(ResNetConfig(num_classes=0), (13, 40)).rows[0].output == (3, 1, 7)


def test_layers_that_require_more_than_one_cell() -> None:
    with pytest.raises(ShapeError, match=r"layer3\.1\.bn1\.IN is an instance norm.*17x17"):
        describe("resnet50_ibn_a", 16)
    with pytest.raises(ShapeError, match=r"maxpool\.1 reflects its edges .*got 1x8"):
        describe("resnetblur50", (2, 16))
    assert describe("resnet50d", 16).rows[-1].output == (1000,)  # its rounded-up pools take a single cell


def test_unknown_names_and_impossible_sizes() -> None:
    with pytest.raises(UnknownNameError, match="did you mean resnet50"):
        describe("resnet-50")
    with pytest.raises(ConfigError, match="at least 1; got 0x224"):
        describe("resnet50", (0, 224))


@pytest.mark.parametrize("name", VARIANTS)
def test_the_rows_add_up(name: str) -> None:
    table = describe(name)
    leaves = [row for row in table.rows if row.role == "layer"]
    assert sum(row.params for row in leaves) == table.params == table.rows[0].params
    assert sum(row.macs for row in leaves) == table.macs
    shown = [row for row in table.select() if row.role != "block"]
    assert sum(row.params for row in shown) == table.params


def test_json() -> None:
    table = describe("resnet18")
    data = json.loads(json.dumps(table.to_dict()))
    assert data["macs"] == 1_814_073_344
    assert data["rows"][0] == {
        "name": "conv1",
        "role": "layer",
        "operations": "7x7 64 /2 conv",
        "output": [64, 112, 112],
        "stride": 2,
        "receptive_field": 7,
        "params": 9408,
        "macs": 118_013_952,
    }


def test_operations_of_blocks() -> None:
    def of(name: str, path: str) -> str:
        return row(describe(name), path).operations

    assert of("resnext50_32x4d", "layer2.0") == (
        "Bottleneck: 1x1 256, 3x3 256 /2 groups 32, 1x1 512; shortcut 1x1 512 /2"
    )
    assert of("resnet20_cifar", "layer2.0") == (
        "BasicBlock: 3x3 32 /2, 3x3 32; shortcut every 2nd cell, 8+8 zero channels"
    )
    assert of("resnet50d", "conv1") == ("3x3 32 /2 conv, batch norm, ReLU, 3x3 32 conv, batch norm, ReLU, 3x3 64 conv")
    assert of("resnet50d", "layer2.0").endswith("; shortcut 2x2 avg pool /2 rounded up, 1x1 512")
    assert of("se_resnet50", "maxpool") == "3x3 max pool /2 unpadded and rounded up"
    assert of("keras_resnet50", "maxpool") == "3x3 max pool /2 zero-padded"
    assert of("resnet_v2_50", "maxpool") == "3x3 max pool /2 SAME"
    assert of("resnetblur50", "maxpool") == "3x3 max pool, 3x3 blur /2"
    assert of("keras_resnet50", "conv1") == "7x7 64 /2 conv with bias"
    assert of("resnetv2_50x1_bit", "conv1") == "7x7 64 /2 standardised conv"
    assert of("resnet50_gn", "bn1") == "group norm of 32 groups"
    assert of("resnetblur50", "layer2.0") == ("Bottleneck: 1x1 128, 3x3 128, 3x3 blur /2, 1x1 512; shortcut 1x1 512 /2")
    assert of("se_resnet50", "layer1.1") == "Bottleneck: 1x1 64, 3x3 64, 1x1 256, SE 256-16-256; shortcut identity"
    assert of("se_resnet50", "layer1.1.se") == "squeeze and excitation 256-16-256"
    assert (
        of("ecaresnet50t", "layer1.1") == "Bottleneck: 1x1 64, 3x3 64, 1x1 256, ECA over 5 channels; shortcut identity"
    )
    assert of("cbamresnet50", "layer1.1") == "Bottleneck: 1x1 64, 3x3 64, 1x1 256, CBAM 256-16-256; shortcut identity"
    assert of("resnet50_ibn_a", "layer1.1") == "Bottleneck: 1x1 64, IBN, 3x3 64, 1x1 256; shortcut identity"
    assert of("resnet50_ibn_a", "layer1.1.bn1") == "IBN: instance norm of 32, batch norm of 32"
    assert of("resnet50_ibn_b", "layer1.2").endswith("; shortcut identity; then instance norm")
    assert of("resnet_v2_50", "layer1.2").endswith("; shortcut every 2nd cell")
    assert of("resnetv2_50x1_bit", "layer1.1") == (
        "PreActBottleneck: 1x1 64, 3x3 64, 1x1 256, standardised; shortcut identity"
    )
    assert of("plain18", "layer1.0") == "PlainBasicBlock: 3x3 64, 3x3 64"
    assert of("resnetv2_50", "layer1.1") == "PreActBottleneck: 1x1 64, 3x3 64, 1x1 256; shortcut identity"


@given(configs(), st.integers(1, 90), st.integers(1, 90))
def test_every_generated_network_has_a_table(config: ResNetConfig, height: int, width: int) -> None:
    table = describe(config, (height, width))
    assert sum(row.macs for row in table.rows if row.role == "layer") == table.macs
