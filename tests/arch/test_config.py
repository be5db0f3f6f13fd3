"""Rules of a description: each is an error of one line that says the rule and what came."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from resnets.arch.config import ResNetConfig
from resnets.arch.plan import plan
from resnets.errors import ConfigError, UnknownNameError
from tests.strategies import configs

BAD = [
    ({"block": "botleneck"}, "block must be one of basic, bottleneck; got 'botleneck'"),
    ({"depths": ()}, "depths must hold whole numbers of at least 1; got ()"),
    ({"depths": (3, 0, 6, 3)}, "depths must hold whole numbers of at least 1; got (3, 0, 6, 3)"),
    ({"depths": 3}, "depths must be a tuple, one item a stage; got 3"),
    ({"widths": (64, 128, 256, 51.2)}, "widths must hold whole numbers of at least 1; got (64, 128, 256, 51.2)"),
    ({"depths": (3, 4, 6)}, "depths and widths name the same stages; got 3 and 4"),
    ({"pre_activation": 1}, "pre_activation must be true or false; got 1"),
    ({"stem": "5x5"}, "stem must be one of 7x7, 3x3, deep, tiered; got '5x5'"),
    ({"stem_width": 0}, "stem_width must be a whole number of at least 1; got 0"),
    ({"stem_width": True}, "stem_width must be a whole number of at least 1; got True"),
    ({"in_chans": 0}, "in_chans must be a whole number of at least 1; got 0"),
    ({"num_classes": -1}, "num_classes must be a whole number of at least 0; got -1"),
    ({"group_width": 0.5}, "group_width must be a whole number of at least 1; got 0.5"),
    ({"norm_eps": "small"}, "norm_eps must be a number; got 'small'"),
    ({"block": "basic", "groups": 2}, "groups and group_width shape the 3x3 of a bottleneck; got 2 and 64"),
    ({"block": "basic", "group_width": 4}, "use block='bottleneck'"),
    ({"block": "basic", "stride_in": "1x1"}, "stride_in='1x1' places a bottleneck's stride; got basic blocks"),
    ({"shortcut": "none", "pre_activation": True}, "a plain network (shortcut='none') has no residual branch"),
    ({"shortcut": "none", "drop_path_rate": 0.1}, "a plain network (shortcut='none') has no residual branch"),
    ({"shortcut": "none", "zero_init_last": True}, "has no residual branch; got zero_init_last=True; drop it"),
    ({"kernel": 4}, "kernel must be odd; got 4"),
    ({"shortcut_kernel": 2}, "shortcut_kernel must be odd; got 2"),
    ({"shortcut_kernel": 3, "shortcut": "A"}, "shortcut_kernel is that of a projection that strides; got shortcut='A'"),
    ({"shortcut_kernel": 3, "shortcut": "D"}, "shortcut_kernel is that of a projection that strides; got shortcut='D'"),
    ({"shortcut_norm": False, "pre_activation": True}, "shortcut_norm is a post-activation network's"),
    ({"shortcut_norm": False, "shortcut": "A_after"}, "shortcut_norm is a projection's; got shortcut='A_after'"),
    ({"stem": "deep", "stem_width": 33}, "a deep stem's stem_width must be a multiple of 2; got 33; the nearest is 32"),
    (
        {"stem": "tiered", "stem_width": 4},
        "a tiered stem's stem_width must be a multiple of 8; got 4; the nearest is 8",
    ),
    ({"stem_act": False, "pre_activation": True}, "stem_act belongs to a post-activation stem; got pre_activation"),
    (
        {"antialias": True, "stem_pool": "max_ceil"},
        "antialias has a pool of its own in the stem; got stem_pool='max_ceil'",
    ),
    ({"ibn": ("a", "a")}, "ibn names every stage or none; got 2 for 4 stages"),
    ({"ibn": ("a", "c", "", "")}, "each of ibn must be one of a, b, empty; got 'c'"),
    ({"ibn": ("a", "", "", ""), "pre_activation": True}, "ibn belongs to post-activation blocks; got pre_activation"),
    ({"se_form": "linear"}, "se_form shapes squeeze and excitation; got attention='none'"),
    ({"se_form": "linear", "attention": "cbam"}, "se_form shapes squeeze and excitation; got attention='cbam'"),
    ({"attention": "eca", "attention_reduction": 8}, "attention_reduction is that of se and cbam; got attention='eca'"),
    ({"drop_path_rate": 1.0}, "drop_path_rate is a probability in [0, 1); got 1.0"),
    ({"drop_rate": -0.1}, "drop_rate is a probability in [0, 1); got -0.1"),
    ({"global_pool": "none"}, "a classifier needs pooled features; got global_pool='none' with num_classes=1000"),
    ({"last_stride": 3}, "last_stride must be 1 or 2; got 3"),
    ({"depths": (3,), "widths": (64,), "last_stride": 1}, "last_stride belongs to a later stage; got a network of one"),
    ({"norm": "group", "norm_groups": 48}, "norm_groups must divide every width; got 48 for a width of 64"),
    ({"norm_eps": 0.0}, "norm_eps must be above 0 and norm_momentum in [0, 1]; got 0.0 and 0.1"),
    ({"norm_momentum": 2}, "norm_eps must be above 0 and norm_momentum in [0, 1]; got 1e-05 and 2"),
    ({"output_stride": 12}, "output_stride must be one of 4, 8, 16, 32; got 12"),
    ({"output_stride": 16, "last_stride": 2}, "last_stride=2 keeps the output stride at 32; got output_stride=16"),
    ({"output_stride": 32, "last_stride": 1}, "last_stride=1 makes the output stride 16; got output_stride=32"),
]

BAD_PLANS = [
    (
        {"norm": "group", "norm_groups": 16, "groups": 3, "group_width": 24},
        "norm_groups must divide the channels of every norm; got 16 for 72",
    ),
    ({"widths": (8, 16, 32, 64), "groups": 32, "group_width": 4}, "a stage's width x group_width / 64"),
    ({"reduce_first": 3}, "reduce_first must divide every block's 3x3; got 3 for 64 channels"),
    ({"norm": "group", "stem": "tiered"}, "norm_groups must divide the channels of every norm; got 32 for 24"),
    ({"norm": "group", "ibn": ("a", "", "", ""), "norm_groups": 64}, "got 64 for 32; set norm_groups=32"),
    ({"widths": (64, 32, 32, 64), "shortcut": "A"}, "shortcut A pads with channels of zeros, and cannot drop any"),
]


@pytest.mark.parametrize(("fields", "message"), BAD, ids=[str(fields) for fields, _ in BAD])
def test_a_rule_that_is_broken(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ResNetConfig(**fields)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("fields", "message"), BAD_PLANS, ids=[str(fields) for fields, _ in BAD_PLANS])
def test_a_rule_about_derived_widths(fields: dict[str, Any], message: str) -> None:
    """Widths are worked out in the plan, so that the plan is where these are found."""
    with pytest.raises(ConfigError) as caught:
        plan(ResNetConfig(**fields))
    assert message in str(caught.value)


def test_strides_that_agree_are_fine() -> None:
    assert ResNetConfig(output_stride=32, last_stride=2).output_stride == 32
    assert ResNetConfig(output_stride=16, last_stride=1).output_stride == 16
    assert ResNetConfig(output_stride=8, last_stride=1).output_stride == 8


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown model option; got 'num_clases'; did you mean num_classes"):
        ResNetConfig().with_overrides(num_clases=3)


@given(configs())
def test_a_config_survives_json(config: ResNetConfig) -> None:
    assert ResNetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_what_an_older_version_wrote_keeps_defaults() -> None:
    assert ResNetConfig.from_dict({"block": "basic", "depths": [2, 2, 2, 2]}).norm == "batch"
    assert ResNetConfig.from_dict({"block": "basic", "depths": [2, 2, 2, 2]}).depths == (2, 2, 2, 2)


def test_a_config_is_frozen_and_hashable() -> None:
    config = ResNetConfig()
    with pytest.raises(AttributeError):
        config.block = "basic"  # type: ignore[misc]
    assert len({config, ResNetConfig(), ResNetConfig(groups=2)}) == 2
