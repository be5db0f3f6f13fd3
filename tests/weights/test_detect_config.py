"""Configs detected from our own keys: every field that tensors determine, for every network."""

from __future__ import annotations

from typing import Any

import pytest

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.plan import plan
from resnets.arch.variants import VARIANTS, get_config
from resnets.arch.vgg import VGGConfig
from resnets.errors import WeightsError
from resnets.weights.detect_config import detect_config
from resnets.weights.dialects.axes import Shapes
from resnets.weights.slots import slots

# Fields that no tensor determines.
HIDDEN = {
    "antialias",
    "attention_round",
    "dilation_rule",
    "drop_path_rate",
    "drop_rate",
    "img_size",
    "last_stride",
    "norm_eps",
    "norm_momentum",
    "norm_groups",
    "output_stride",
    "padding",
    "standardised",
    "stem_act",
    "stem_pool",
    "stride_in",
    "stride_unit",
    "zero_init_last",
}


def shapes_of(config: NetworkConfig) -> Shapes:
    return {slot.key: slot.shape for slot in slots(plan(config))}


def visible_fields(config: NetworkConfig) -> dict[str, Any]:
    """Fields that must be detected."""
    return {name: value for name, value in vars(config).items() if name not in HIDDEN}


def check(config: NetworkConfig) -> None:
    found = detect_config(shapes_of(config), "here")
    expected = visible_fields(config)
    defaults = vars(type(config)())
    for name, value in expected.items():
        if name in found.ambiguous:
            assert value in found.ambiguous[name], name
        else:
            assert found.fields.get(name, defaults[name]) == value, name
    assert found.fields.keys() | found.ambiguous.keys() <= defaults.keys()
    if isinstance(config, ResNetConfig) and config.attention in ("se", "cbam"):
        assert config.attention_round in found.ambiguous["attention_round"]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant(name: str) -> None:
    check(get_config(name, num_classes=7, in_chans=5))


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("pre_activation", [False, True])
@pytest.mark.parametrize(
    "option",
    [
        {"stem": "3x3"},
        {"stem": "deep"},
        {"stem": "tiered"},
        {"shortcut": "A"},
        {"shortcut": "C"},
        {"shortcut": "D"},
        {"shortcut": "first"},
        {"shortcut_kernel": 3},
        {"conv_bias": "all"},
        {"kernel": 5},
        {"reduce_first": 2},
        {"norm": "group"},
        {"attention": "se"},
        {"attention": "se", "attention_reduction": 8, "attention_round": 8},
        {"attention": "se", "se_form": "linear", "attention_reduction": 4},
        {"attention": "eca"},
        {"attention": "cbam"},
        {"global_pool": "gem"},
        {"num_classes": 0},
    ],
    ids=str,
)
def test_every_option(block: str, pre_activation: bool, option: dict[str, Any]) -> None:
    check(
        ResNetConfig(
            **{
                "block": block,
                "pre_activation": pre_activation,
                "depths": (2, 1, 2),
                "widths": (64, 128, 256),
                **option,
            }
        )
    )


@pytest.mark.parametrize("ibn", [("a", "a", ""), ("b", "", ""), ("a", "b", "a"), ("", "", "b")])
def test_instance_norms_by_stage(ibn: tuple[Any, ...]) -> None:
    for block in ("basic", "bottleneck"):
        check(ResNetConfig(block=block, depths=(2, 1, 2), widths=(64, 128, 256), ibn=ibn))


@pytest.mark.parametrize(("groups", "group_width"), [(1, 64), (32, 4), (64, 4), (1, 128), (8, 24)])
@pytest.mark.parametrize("reduce_first", [1, 2])
def test_cardinality(groups: int, group_width: int, reduce_first: int) -> None:
    check(
        ResNetConfig(depths=(1, 1), widths=(64, 128), groups=groups, group_width=group_width, reduce_first=reduce_first)
    )


def test_biases_without_a_norm_are_seen() -> None:
    for block in ("basic", "bottleneck"):
        check(ResNetConfig(block=block, pre_activation=True, conv_bias="unnormed"))


def test_shortcut_norm_is_seen() -> None:
    check(ResNetConfig(depths=(1, 1), widths=(64, 128), shortcut_norm=False))
    check(ResNetConfig(depths=(1, 1), widths=(64, 128), shortcut_norm=False, conv_bias="unnormed"))


@pytest.mark.parametrize(
    "config",
    [
        VGGConfig(depths=(1, 3, 2), widths=(8, 8, 16), norm="batch", hidden=32, num_classes=3),
        VGGConfig(depths=(2, 2), widths=(8, 16), num_classes=0, global_pool="none"),
        VGGConfig(num_classes=0, in_chans=1),
    ],
)
def test_vgg(config: VGGConfig) -> None:
    check(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer9999.0.conv1.weight": (1, 1, 1, 1)}, "stages are numbered"),
        ({"layer1.9999.conv1.weight": (1, 1, 1, 1)}, "blocks are numbered"),
        ({"layer1.0.conv2.weight": (10**9, 10**9, 3, 3)}, "has no 3x3"),
        ({"layer1.0.conv2.weight": (64, 0, 3, 3)}, "square and not empty"),
        ({"layer2.0.conv3.weight": (510, 128, 1, 1)}, "four times wider"),
        ({"conv1.weight": (64, 3, 11, 11)}, "conv1 is 11x11"),
        ({"fc.weight": (10,)}, "must have 2 axes"),
    ],
)
def test_contradicting_sizes_are_errors(change: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        detect_config({**shapes_of(get_config("resnet50")), **change}, "here")
    assert "\n" not in str(caught.value)


def test_a_classifier_of_twice_the_features() -> None:
    config = ResNetConfig(block="basic", depths=(1, 1, 1, 1), num_classes=3, global_pool="catavgmax")
    assert detect_config(shapes_of(config), "w.pth").fields["global_pool"] == "catavgmax"
