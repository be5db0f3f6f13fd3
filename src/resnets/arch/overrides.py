"""Text from a command line to sizes and config fields."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from resnets.arch.networks import FAMILIES
from resnets.errors import ConfigError, UnknownNameError

__all__ = ["parse_overrides", "parse_size"]

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def parse_size(text: str) -> tuple[int, int]:
    """(H, W) in pixels, of `352` or `720x1280` (height first).

    Raises:
        ConfigError: anything else.
    """
    match = re.fullmatch(r"(\d+)(?:\s*[x×,]\s*(\d+))?", text.strip())
    if match is None or not int(match[1]) or (match[2] is not None and not int(match[2])):
        raise ConfigError(f"a size is one number or HEIGHTxWIDTH, in pixels; got {text!r}; write 352 or 720x1280")
    return int(match[1]), int(match[2] or match[1])


def parse_overrides(settings: Iterable[str]) -> dict[str, Any]:
    """Fields of a description from `key=value` texts: `depths=3,4,6,3`, `zero_init_last=true`, `last_stride=none`.

    Raises:
        UnknownNameError: no such field.
        ConfigError: no `=`, or a value that is not of the field's type.
    """
    hints: dict[str, Any] = {}
    for family in reversed(FAMILIES.values()):  # what two families share is of one type
        hints |= get_type_hints(family)
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        name = key.strip().replace("-", "_")
        if not equals:
            raise ConfigError(f"a setting is key=value; got {setting!r}; write, for example, stem_width=32")
        if name not in hints:
            raise UnknownNameError("model option", name, hints)
        try:
            values[name] = _value(hints[name], text.strip())
        except ValueError:
            raise ConfigError(f"{name} takes {_wanted(hints[name])}; got {text!r}") from None
    return values


def _value(hint: Any, text: str) -> Any:
    kinds = get_args(hint)
    if NoneType in kinds:
        return None if text.lower() == "none" else _value(kinds[0], text)
    if get_origin(hint) is Literal:
        return text  # the config itself lists the choices
    if get_origin(hint) is tuple:
        parts = [part.strip() for part in text.strip("()[]").split(",")] if text.strip("()[]") else []
        return tuple(_value(kinds[0], part) for part in parts)
    if hint is bool:
        if text.lower() not in _WORDS:
            raise ValueError(text)
        return _WORDS[text.lower()]
    return hint(text)


def _wanted(hint: Any) -> str:
    kinds = get_args(hint)
    if NoneType in kinds:
        return f"{_wanted(kinds[0])} or none"
    if get_origin(hint) is tuple:
        return "whole numbers with commas, such as 3,4,6,3"
    return {bool: "true or false", int: "a whole number", float: "a number"}[hint]
