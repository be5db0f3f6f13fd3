"""Validation: values are held against the declarations of a dataclass, and errors name the option."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from numbers import Integral, Real
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen

from resnets.errors import ConfigError, UnknownNameError, nearest
from resnets.options.declarations import SizeText, choices_of, describe_type, hints_of, listed, members, unwrap
from resnets.options.grammar import EMPTY_WORDS, TRUTH_WORDS, Quoted, parse_size, parse_tree

__all__ = ["Options", "build", "convert", "convert_fields", "validate"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of frozen dataclasses whose fields are checked against their annotations.

    Lists become tuples and whole numbers in a `float` field become floats, so that equal options compare equal.

    Raises:
        ConfigError: a value of the wrong type or out of bounds, or fields that contradict each other.
    """

    def __post_init__(self) -> None:
        for name, hint in hints_of(type(self)).items():
            object.__setattr__(self, name, convert(hint, getattr(self, name), name, text=False))
        self.check_rules()

    def check_rules(self) -> None:
        """Check rules between fields.

        Raises:
            ConfigError: fields that contradict each other.
        """


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
        return _convert(hint, value, name, text)
    except _MismatchError:
        raise ConfigError(_message(hint, value, name)) from None


class _MismatchError(ValueError):
    """The value does not fit the type."""


def _convert(hint: Any, value: Any, name: str, text: bool) -> Any:
    kind, metadata = unwrap(hint)
    if metadata:
        if text and isinstance(value, str) and any(isinstance(item, SizeText) for item in metadata):
            try:
                value = parse_size(value)
            except ConfigError:
                if value.lower() not in EMPTY_WORDS:
                    raise _MismatchError from None
        found = _convert(kind, value, name, text)
        if found is not None and not all(_within(item, found) for item in metadata):
            raise _MismatchError
        return found
    alternatives = _ordered(kind) if text and isinstance(value, str) else members(kind)
    for member in alternatives if len(alternatives) > 1 else ():
        try:
            return _convert(member, value, name, text)
        except _MismatchError:
            continue
    if len(alternatives) > 1:
        raise _MismatchError
    return _convert_one(kind, value, name, text)


def _ordered(kind: Any) -> list[Any]:
    """Alternatives in the order in which a text is tried: choices first, plain text last."""
    rank = {Literal: 0, NoneType: 1, bool: 2, int: 3, float: 4, str: 9}

    def order(member: Any) -> int:
        inner = unwrap(member)[0]
        return rank.get(get_origin(inner) or inner, 5)

    return sorted(members(kind), key=order)


def _convert_one(kind: Any, value: Any, name: str, text: bool) -> Any:
    origin = get_origin(kind) or kind
    if origin is Literal:
        return _choice(get_args(kind), value, text)
    if kind is Any:
        return value
    if is_dataclass(kind):
        if isinstance(value, kind):  # type: ignore[arg-type]
            return value
        tree = parse_tree(value) if text and isinstance(value, str) else value
        if text and isinstance(tree, Mapping):
            return validate(kind, tree, name)  # type: ignore[arg-type]
        raise _MismatchError
    if origin in (tuple, dict) and text and isinstance(value, str):
        value = _items(value) if origin is tuple else parse_tree(value)
    if origin is tuple:
        return _tuple(get_args(kind), value, name, text)
    if origin is dict:
        if isinstance(value, Mapping):
            return dict(value)
        raise _MismatchError
    return _scalar(kind, value, text)


def _choice(choices: tuple[Any, ...], value: Any, text: bool) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
        if text and isinstance(value, str) and str(choice) == value:
            return choice
    if text and (value is False or value is None):
        for word in ("off", "none") if value is False else ("none",):
            if word in choices:
                return word
    if text and isinstance(value, str) and (value.lower() in EMPTY_WORDS or TRUTH_WORDS.get(value.lower()) is False):
        return _choice(choices, False, text)
    raise _MismatchError


def _items(value: str) -> Any:
    if isinstance(value, Quoted):
        return [value]
    if not value:
        return []
    tree = parse_tree(value)
    return tree if isinstance(tree, list) else [tree]


def _tuple(kinds: tuple[Any, ...], value: Any, name: str, text: bool) -> tuple[Any, ...]:
    variadic = ... in kinds
    if text and variadic and kinds[0] is not bool and isinstance(value, int | float) and not is_dataclass(kinds[0]):
        value = [value]
    if not isinstance(value, list | tuple) or not (variadic or len(value) == len(kinds)):
        raise _MismatchError
    wanted = kinds[:1] * len(value) if variadic else kinds
    if variadic and is_dataclass(kinds[0]):  # messages name the item
        return tuple(convert(kinds[0], item, f"{name}.{at}", text=text) for at, item in enumerate(value))
    return tuple(_convert(kind, item, name, text) for kind, item in zip(wanted, value, strict=True))


def _scalar(kind: Any, value: Any, text: bool) -> Any:
    word = value.lower() if text and isinstance(value, str) and not isinstance(value, Quoted) else None
    if kind is NoneType:
        if value is None or word in EMPTY_WORDS:
            return None
    elif kind is str:
        if isinstance(value, str):
            return str(value)
    elif kind is bool:
        if isinstance(value, bool):
            return value
        if text and (value in (0, 1) or word in ("0", "1")):
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
        number = _float(word) if word is not None else value
        if not isinstance(number, bool) and isinstance(number, Real) and not math.isnan(number):
            return float(number)
    else:
        raise AssertionError(f"no rule for the type {kind} of an option")
    raise _MismatchError


def _float(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _within(bound: Any, value: Any) -> bool:
    match bound:
        case Ge():
            return bool(value >= bound.ge)
        case Gt():
            return bool(value > bound.gt)
        case Le():
            return bool(value <= bound.le)
        case Lt():
            return bool(value < bound.lt)
        case MinLen():
            return len(value) >= bound.min_length
        case _:  # documentation
            return True


def _message(hint: Any, value: Any, name: str) -> str:
    near = nearest(str(value), choices_of(hint), 1)
    remedy = f"; did you mean {near[0]}?" if near else ""
    shown = "nothing" if value is ... else repr(str(value) if isinstance(value, Quoted) else value)
    return f"{name} must be {listed(describe_type(hint))}; got {shown}{remedy}"


def _joined(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
