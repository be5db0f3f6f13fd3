"""Text to settings, values and sizes."""

from __future__ import annotations

from typing import Any

import pytest

from resnets.errors import ConfigError
from resnets.options.grammar import Quoted, parse_settings, parse_value
from resnets.options.validate import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("352", 352),
        ("720x1280", (720, 1280)),
        (" 7 x 9 ", (7, 9)),
        ("720×1280", (720, 1280)),
        ("3,4", (3, 4)),
        ("(256, 128)", (256, 128)),
        ("[256,128]", (256, 128)),
        ("8X9", (8, 9)),
    ],
)
def test_sizes(text: str, size: int | tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "12x", "x12", "0", "224x0", "-5", "2.5", "1x2x3", "big", "(3", "none"])
def test_invalid_sizes(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)
    assert "256x128" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("none", None),
        ("Null", None),
        ("yes", True),
        ("OFF", False),
        ("3", 3),
        ("-3", -3),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("3x3", "3x3"),
        ("runs/x(1)", "runs/x(1)"),
        ("'none'", "none"),
        ("3,4", (3, 4)),
        ("(3, 4)", (3, 4)),
        ("[3,]", (3,)),
        ("()", ()),
        ("((0, 128), (0.7, 176))", ((0, 128), (0.7, 176))),
        ("a,a,", ("a", "a", "")),
        ('{a: 1, b: [x, "2"], }', {"a": 1, "b": ("x", "2")}),
        ("{}", {}),
        ("", ""),
    ],
)
def test_values_without_a_declared_type(text: str, value: Any) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["(1", "[1, 2", "{a: 1", "{a}", "'a", "(1]", "(1) 2", "{a: 1} x"])
def test_brackets_and_quotes_must_close(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_value(text)
    assert repr(text) in str(caught.value)


def test_settings() -> None:
    found = parse_settings(["stem-width = 32", "groups=2", "groups=4", "name='none'", "path=a=b", "ibn="])
    assert found == {"stem_width": "32", "groups": "4", "name": "none", "path": "a=b", "ibn": ""}
    assert isinstance(found["name"], Quoted)


def test_a_setting_needs_an_equals_sign() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(["stem_width"], "stem_width=32")
    assert "got 'stem_width'" in str(caught.value)
    assert "stem_width=32" in str(caught.value)
