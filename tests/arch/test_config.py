"""Rules of a network configuration: each is an error of one line with the rule and the value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import config_from_dict
from resnets.arch.plan import plan
from resnets.arch.variants import get_config
from resnets.errors import ConfigError, UnknownNameError
from tests.strategies import configs

BAD: list[tuple[dict[str, Any], tuple[str, ...]]] = [  # fields, facts of the message
    ({"block": "botleneck"}, ("block", "basic or bottleneck", "got 'botleneck'", "did you mean bottleneck?")),
    ({"depths": ()}, ("depths", "non-empty", "got ()")),
    ({"depths": (3, 0, 6, 3)}, ("depths", "at least 1", "got (3, 0, 6, 3)")),
    ({"depths": 3}, ("depths", "a non-empty list of whole numbers of at least 1", "got 3")),
    ({"widths": (64, 128, 256, 51.2)}, ("widths", "whole numbers", "got (64, 128, 256, 51.2)")),
    ({"depths": (3, 4, 6)}, ("depths and widths", "got 3 and 4")),
    ({"pre_activation": 1}, ("pre_activation", "true or false", "got 1")),
    ({"stem": "5x5"}, ("stem", "7x7, 3x3, deep or tiered", "got '5x5'")),
    ({"stem_width": 0}, ("stem_width", "at least 1", "got 0")),
    ({"stem_width": True}, ("stem_width", "a whole number", "got True")),
    ({"stem_width": "32"}, ("stem_width", "a whole number", "got '32'")),
    ({"in_chans": 0}, ("in_chans", "at least 1", "got 0")),
    ({"num_classes": -1}, ("num_classes", "at least 0", "got -1")),
    ({"group_width": 0.5}, ("group_width", "a whole number of at least 1", "got 0.5")),
    ({"norm_eps": "small"}, ("norm_eps", "a number above 0", "got 'small'")),
    ({"block": "basic", "groups": 2}, ("groups=2 requires block='bottleneck'", "got block='basic'")),
    ({"block": "basic", "group_width": 4}, ("group_width=4 requires block='bottleneck'", "got block='basic'")),
    ({"block": "basic", "stride_in": "1x1"}, ("stride_in='1x1'", "got block='basic'")),
    ({"shortcut": "none", "pre_activation": True}, ("pre_activation=True requires", "got shortcut='none'")),
    ({"shortcut": "none", "drop_path_rate": 0.1}, ("drop_path_rate=0.1 requires", "got shortcut='none'")),
    ({"shortcut": "none", "zero_init_last": True}, ("zero_init_last=True requires", "got shortcut='none'")),
    ({"kernel": 4}, ("kernel", "odd", "got 4")),
    ({"shortcut_kernel": 2}, ("shortcut_kernel", "odd", "got 2")),
    ({"shortcut_kernel": 3, "shortcut": "A"}, ("shortcut_kernel", "got shortcut='A'")),
    ({"shortcut_kernel": 3, "shortcut": "D"}, ("shortcut_kernel", "got shortcut='D'")),
    ({"shortcut_norm": False, "pre_activation": True}, ("shortcut_norm", "got pre_activation")),
    ({"shortcut_norm": False, "shortcut": "A_after"}, ("shortcut_norm", "got shortcut='A_after'")),
    ({"stem": "deep", "stem_width": 33}, ("deep", "stem_width", "multiple of 2", "got 33", "nearest is 32")),
    ({"stem": "tiered", "stem_width": 4}, ("tiered", "stem_width", "multiple of 8", "got 4", "nearest is 8")),
    ({"stem_act": False, "pre_activation": True}, ("stem_act", "got pre_activation")),
    ({"antialias": True, "stem_pool": "max_ceil"}, ("antialias", "got stem_pool='max_ceil'")),
    ({"ibn": ("a", "a")}, ("ibn", "got 2 for 4 stages")),
    ({"ibn": ("a", "c", "", "")}, ("ibn", "a, b or ''", "got ('a', 'c', '', '')")),
    ({"ibn": ("a", "", "", ""), "pre_activation": True}, ("ibn", "got pre_activation")),
    ({"se_form": "linear"}, ("se_form", "got attention='none'")),
    ({"se_form": "linear", "attention": "cbam"}, ("se_form", "got attention='cbam'")),
    ({"attention": "eca", "attention_reduction": 8}, ("attention_reduction", "got attention='eca'")),
    ({"drop_path_rate": 1.0}, ("drop_path_rate", "of at least 0 and below 1", "got 1.0")),
    ({"drop_rate": -0.1}, ("drop_rate", "of at least 0 and below 1", "got -0.1")),
    ({"last_stride": 3}, ("last_stride", "1, 2 or none", "got 3")),
    ({"depths": (3,), "widths": (64,), "last_stride": 1}, ("last_stride", "got last_stride=1 with one stage")),
    ({"norm": "group", "norm_groups": 48}, ("norm_groups", "got 48 for a width of 64")),
    ({"norm_eps": 0.0}, ("norm_eps", "above 0", "got 0.0")),
    ({"norm_eps": float("inf")}, ("norm_eps", "must be finite", "got inf")),
    ({"norm_momentum": 2}, ("norm_momentum", "of at least 0 and at most 1", "got 2")),
    ({"output_stride": 12}, ("output_stride", "4, 8, 16 or 32", "got 12")),
    ({"output_stride": 16, "last_stride": 2}, ("last_stride=2", "32", "got output_stride=16")),
    ({"output_stride": 32, "last_stride": 1}, ("last_stride=1", "16", "got output_stride=32")),
]

BAD_PLANS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"norm": "group", "norm_groups": 16, "groups": 3, "group_width": 24}, ("norm_groups", "got 16 for 72")),
    ({"widths": (8, 16, 32, 64), "groups": 32, "group_width": 4}, ("group_width", "at least 1", "got 8 x 4")),
    ({"reduce_first": 3}, ("reduce_first", "got 3 for 64 channels")),
    ({"norm": "group", "stem": "tiered"}, ("norm_groups", "got 32 for 24")),
    ({"norm": "group", "ibn": ("a", "", "", ""), "norm_groups": 64}, ("got 64 for 32", "norm_groups=32")),
    ({"widths": (64, 32, 32, 64), "shortcut": "A"}, ("shortcut", "got 256 channels", "shortcut='B'")),
]


@pytest.mark.parametrize(("fields", "facts"), BAD, ids=[str(fields) for fields, _ in BAD])
def test_invalid_fields(fields: dict[str, Any], facts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        ResNetConfig(**fields)
    assert_message(str(caught.value), facts)


@pytest.mark.parametrize(("fields", "facts"), BAD_PLANS, ids=[str(fields) for fields, _ in BAD_PLANS])
def test_invalid_derived_widths(fields: dict[str, Any], facts: tuple[str, ...]) -> None:
    """Widths are derived in the plan, which therefore checks these rules."""
    with pytest.raises(ConfigError) as caught:
        plan(ResNetConfig(**fields))
    assert_message(str(caught.value), facts)


def assert_message(message: str, facts: tuple[str, ...]) -> None:
    assert [fact for fact in facts if fact not in message] == [], message
    assert "\n" not in message


def test_consistent_strides_are_valid() -> None:
    assert ResNetConfig(output_stride=32, last_stride=2).output_stride == 32
    assert ResNetConfig(output_stride=16, last_stride=1).output_stride == 16
    assert ResNetConfig(output_stride=8, last_stride=1).output_stride == 8


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"'num_clases'.*num_classes"):
        ResNetConfig().with_overrides(num_clases=3)


@given(configs())
def test_a_config_survives_json(config: ResNetConfig) -> None:
    assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_missing_fields_keep_their_defaults() -> None:
    config = config_from_dict({"block": "basic", "depths": [2, 2, 2, 2]})
    assert (config.norm, config.depths) == ("batch", (2, 2, 2, 2))


def test_a_config_is_frozen_and_hashable() -> None:
    config = ResNetConfig()
    with pytest.raises(AttributeError):
        config.block = "basic"  # type: ignore[misc]
    assert len({config, ResNetConfig(), ResNetConfig(groups=2)}) == 2


def test_groups_divide_the_channels_before_them() -> None:
    with pytest.raises(ConfigError, match="groups must divide the channels before every 3x3; got 64 for 32"):
        plan(get_config("resnext101_64x4d", reduce_first=2, group_width=1))
