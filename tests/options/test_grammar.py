"""Text to sizes and fields."""

from __future__ import annotations

from typing import Any

import pytest
from resnets.arch.overrides import parse_overrides, parse_size

from resnets.errors import ConfigError, UnknownNameError


@pytest.mark.parametrize(
    ("text", "size"),
    [("352", (352, 352)), ("720x1280", (720, 1280)), (" 7 x 9 ", (7, 9)), ("720×1280", (720, 1280)), ("3,4", (3, 4))],
)
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "12x", "x12", "0", "224x0", "-5", "2.5", "1x2x3", "big"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match="write 352 or 720x1280"):
        parse_size(text)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("stem_width=32", {"stem_width": 32}),
        ("stem-width=32", {"stem_width": 32}),
        ("depths=3,4,6,3", {"depths": (3, 4, 6, 3)}),
        ("depths=[3, 4]", {"depths": (3, 4)}),
        ("ibn=a,a,a,", {"ibn": ("a", "a", "a", "")}),
        ("ibn=", {"ibn": ()}),
        ("zero_init_last=yes", {"zero_init_last": True}),
        ("zero_init_last=False", {"zero_init_last": False}),
        ("drop_path_rate=.1", {"drop_path_rate": 0.1}),
        ("output_stride=8", {"output_stride": 8}),
        ("output_stride=none", {"output_stride": None}),
        ("shortcut=none", {"shortcut": "none"}),
        ("norm=group", {"norm": "group"}),
        ("hidden=512", {"hidden": 512}),  # a VGG's
    ],
)
def test_fields(setting: str, value: dict[str, Any]) -> None:
    assert parse_overrides([setting]) == value


def test_the_last_of_two_counts() -> None:
    assert parse_overrides(["groups=2", "groups=4"]) == {"groups": 4}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stem_width", "a setting is key=value; got 'stem_width'"),
        ("stem_width=wide", "stem_width takes a whole number; got 'wide'"),
        ("depths=3,x", "depths takes whole numbers with commas, such as 3,4,6,3; got '3,x'"),
        ("depths=3,,4", "depths takes whole numbers with commas"),
        ("zero_init_last=maybe", "zero_init_last takes true or false; got 'maybe'"),
        ("drop_rate=high", "drop_rate takes a number; got 'high'"),
        ("output_stride=x", "output_stride takes a whole number or none; got 'x'"),
    ],
)
def test_values_of_the_wrong_type(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_overrides([setting])
    assert message in str(caught.value)


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean depths"):
        parse_overrides(["depth=3"])
