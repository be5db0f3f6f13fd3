"""Validation of values against the declarations of a dataclass; errors name the option."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import cache, lru_cache
from numbers import Integral, Real
from types import NoneType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from annotated_types import MinLen

from resnets.errors import ConfigError, UnknownNameError, nearest
from resnets.options.declarations import BOUNDS, ImageSize, alternatives, choices_of, describe_type, hints_of, limit_of
from resnets.options.grammar import EMPTY_WORDS, TRUTH_WORDS, Quoted, parse_tree
from resnets.options.short_repr import short_repr

__all__ = ["Options", "build", "convert", "convert_fields", "parse_size", "validate"]

T = TypeVar("T")
SCALARS = (bool, int, float, str, NoneType)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of frozen dataclasses whose fields are checked against their annotations.

    Lists become tuples and whole numbers in a `float` field become floats, so that equal options compare equal.

    Raises:
        ConfigError: a value of the wrong type or out of bounds, or fields that contradict each other.
    """

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls.__repr__ = short_repr  # type: ignore[method-assign]  # which `dataclass` then leaves as it is

    def __post_init__(self) -> None:
        for name, hint in hints_of(type(self)).items():
            object.__setattr__(self, name, convert(hint, getattr(self, name), name, text=False))
        self.check_rules()

    def check_rules(self) -> None:
        """Check rules between fields; raise `ConfigError` where they contradict each other."""

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values; tuples become lists."""
        return cast(dict[str, Any], json.loads(json.dumps(asdict(self))))


def validate(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass `kind` from a mapping, as files and command lines have it.

    Args:
        kind: a dataclass, possibly with fields that are dataclasses.
        values: option -> value, or the text of one.
        where: name of the group, for messages.

    Raises:
        UnknownNameError: an option that `kind` does not have.
        ConfigError: a missing value, a value of the wrong type or out of bounds, or values that contradict each other.
    """
    return build(kind, convert_fields(hints_of(kind), values, where), where)


def build(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass `kind` from values of their types.

    Raises:
        ConfigError: a missing value.
    """
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(_message(hints_of(kind)[field.name], ..., _joined(where, field.name)))
    return kind(**values)


def convert_fields(
    hints: Mapping[str, Any], values: Mapping[str, Any], where: str = "", *, option: str = "option"
) -> dict[str, Any]:
    """Convert the given values only, each to its declared type.

    Args:
        hints: option -> annotation.
        values: option -> value, or the text of one.
        where: name of the group, for messages.
        option: what an unknown name is called in the message.

    Raises:
        UnknownNameError: an option without an annotation.
        ConfigError: a value of the wrong type or out of bounds.
    """
    for name in values:
        if name not in hints:
            raise UnknownNameError(option, _joined(where, str(name)), [_joined(where, one) for one in hints])
    return {name: convert(hints[name], value, _joined(where, name)) for name, value in values.items()}


def parse_size(text: str) -> int | tuple[int, int]:
    """Image size in pixels: `224` -> 224; `256x128`, `256,128` or `(256, 128)` -> (256, 128), height first.

    Raises:
        ConfigError: anything else.
    """
    return cast(int | tuple[int, int], convert(ImageSize, text, "size"))


def convert(hint: Any, value: Any, name: str, *, text: bool = True) -> Any:
    """The value in its declared type.

    Args:
        hint: the annotation, with bounds.
        value: the value, or with `text` the text of one as `grammar` defines it. Python's `False` and `None` then
            mean the choices `off` and `none`.
        name: of the option, for the message.

    Raises:
        ConfigError: the wrong type, or out of bounds.
    """
    try:
        if not text and type(value) in SCALARS:
            return _convert_scalar(hint, value)
        return _convert(hint, value, name, text)
    except _MismatchError:
        raise ConfigError(_message(hint, value, name)) from None


class _MismatchError(ValueError):
    """The value does not fit the type."""


@lru_cache(maxsize=4096, typed=True)  # the named networks have the same few values in 4,000 fields
def _convert_scalar(hint: Any, value: Any) -> Any:
    return _convert(hint, value, "", text=False)


@cache
def _ordered(hint: Any) -> list[tuple[Any, tuple[Any, ...]]]:
    """Alternatives in the order in which a text is tried: choices first, plain text last."""
    ranks = {Literal: 0, NoneType: 1, bool: 2, int: 3, float: 4, str: 9}
    return sorted(alternatives(hint), key=lambda found: ranks.get(get_origin(found[0]) or found[0], 5))


def _convert(hint: Any, value: Any, name: str, text: bool) -> Any:
    for kind, metadata in _ordered(hint):
        try:
            found = _convert_one(kind, value, name, text)
        except _MismatchError:
            continue
        if found is None or all(_within(item, found) for item in metadata):
            return found
    raise _MismatchError


def _convert_one(kind: Any, value: Any, name: str, text: bool) -> Any:
    origin = get_origin(kind) or kind
    if origin is Any:
        return value
    if origin is Literal:
        return _choice(get_args(kind), value, text)
    if origin is tuple:
        return _tuple(get_args(kind), value, name, text)
    if origin is not dict and not is_dataclass(kind):
        return _scalar(kind, value, text)
    if text and isinstance(value, str):
        value = _tree(value)
    if origin is dict and isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(kind) and isinstance(value, kind):  # type: ignore[arg-type]
        return value
    if is_dataclass(kind) and text and isinstance(value, Mapping):
        return validate(kind, value, name)  # type: ignore[arg-type]
    raise _MismatchError


def _choice(choices: tuple[Any, ...], value: Any, text: bool) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
        if text and isinstance(value, str) and str(choice) == value:
            return choice
    if not text:
        raise _MismatchError
    if isinstance(value, str) and (value.lower() in EMPTY_WORDS or TRUTH_WORDS.get(value.lower()) is False):
        value = False
    for word in ("off", "none") if value is False else ("none",) if value is None else ():
        if word in choices:
            return word
    raise _MismatchError


def _tuple(kinds: tuple[Any, ...], value: Any, name: str, text: bool) -> tuple[Any, ...]:
    variadic, item = ... in kinds, kinds[0]
    if text and isinstance(value, str):
        value = _items(value, size=kinds == (item, item))
    elif text and variadic and item is not bool and isinstance(value, int | float) and not is_dataclass(item):
        value = [value]
    if not isinstance(value, list | tuple) or not (variadic or len(value) == len(kinds)):
        raise _MismatchError
    if variadic and is_dataclass(item):  # messages name the item
        return tuple(convert(item, one, f"{name}.{at}", text=text) for at, one in enumerate(value))
    wanted = [item] * len(value) if variadic else kinds
    return tuple(_convert(kind, one, name, text) for kind, one in zip(wanted, value, strict=True))


def _items(text: str, size: bool) -> Any:
    """The items of a tuple's text; with `size` also of `256x128`."""
    if isinstance(text, Quoted):
        return [text]
    if size and re.fullmatch(r"\d+\s*[x×]\s*\d+", text.strip().lower()):
        return re.split(r"[x×]", text.lower())
    tree = _tree(text) if text else []
    return tree if isinstance(tree, list) else [tree]


def _tree(text: str) -> Any:
    try:
        return parse_tree(text)
    except ConfigError:
        raise _MismatchError from None


def _scalar(kind: Any, value: Any, text: bool) -> Any:
    word = value.strip().lower() if text and isinstance(value, str) and not isinstance(value, Quoted) else None
    if kind is NoneType:
        if value is None or word in EMPTY_WORDS:
            return None
    elif kind is str:
        if isinstance(value, str):
            return str(value)
    elif kind is bool:
        if isinstance(value, bool):
            return value
        if text and (word in ("0", "1") or (isinstance(value, int | float) and value in (0, 1))):
            return bool(int(value))
        if word in TRUTH_WORDS:
            return TRUTH_WORDS[word]
    elif kind is int:
        if word is not None and re.fullmatch(r"[+-]?\d+", word):
            return int(word)
        if not isinstance(value, bool) and isinstance(value, Integral):
            return int(value)
        if text and isinstance(value, float) and value.is_integer():
            return int(value)
    elif kind is float:
        try:
            number = float(value if word is None and isinstance(value, Real) else word or "")
        except (ValueError, OverflowError):
            raise _MismatchError from None
        if not isinstance(value, bool) and not math.isnan(number):
            return number
    else:
        raise AssertionError(f"no rule for the type {kind} of an option")
    raise _MismatchError


def _within(item: Any, value: Any) -> bool:
    """Whether `value` satisfies a bound; other metadata is documentation."""
    if isinstance(item, MinLen):
        return len(value) >= item.min_length
    return type(item) not in BOUNDS or bool(getattr(operator, type(item).__name__.lower())(value, limit_of(item)))


def _message(hint: Any, value: Any, name: str) -> str:
    near = nearest(str(value), choices_of(hint), 1)
    remedy = f"; did you mean {near[0]}?" if near else ""
    shown = "nothing" if value is ... else repr(str(value) if isinstance(value, Quoted) else value)
    return f"{name} must be {describe_type(hint)}; got {shown}{remedy}"


def _joined(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
