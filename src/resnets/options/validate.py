"""Values into dataclasses, strictly; what does not fit is said in the words of options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from resnets.errors import ConfigError, nearest

__all__ = ["checked"]

T = TypeVar("T")
ONE = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    NoneType: "null",
    dict: "a mapping",
}
MANY = {int: "whole numbers", float: "numbers", str: "texts"}


def checked(kind: type[T], values: Mapping[str, Any], group: str = "") -> T:
    """The dataclass `kind` of these values; numbers may come as text, as YAML has `5e-4`.

    Args:
        group: where the values stand, to name them.

    Raises:
        ConfigError: a value of the wrong type or against a rule: what it must be, what came, and the nearest choice.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":  # a rule of ours says all there is to say
            raise ConfigError(first["msg"].removeprefix("Value error, ")) from None
        raise ConfigError(_complaint(kind, values, first["loc"], group)) from None


def _complaint(kind: Any, values: Any, where: Iterable[int | str], group: str) -> str:
    """What the option that `where` leads to must be; steps into what is no option of its own are left out."""
    names = [group] if group else []
    for part in where:
        inside = get_type_hints(kind) if is_dataclass(kind) else {}
        if isinstance(part, str) and part in inside:
            kind, values = inside[part], values.get(part, ...)
        elif isinstance(part, int) and is_dataclass(_item(kind)):
            kind, values = _item(kind), values[part]
        else:
            break
        names.append(str(part))
    near = nearest(str(values), _choices(kind), 1)
    remedy = f"; did you mean {near[0]}?" if near else ""
    came = "nothing" if values is ... else repr(values)
    return f"{'.'.join(names)} must be {_listed(_wanted(kind))}; got {came}{remedy}"


def _item(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is tuple else None


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _choices(hint: Any) -> list[str]:
    return [str(one) for member in _members(hint) if get_origin(member) is Literal for one in get_args(member)]


def _wanted(hint: Any) -> list[str]:
    """What a type takes, in words."""
    words: list[str] = []
    for member in _members(hint):
        kinds = get_args(member)
        if get_origin(member) is Literal:
            words += map(str, kinds)
        elif get_origin(member) is tuple:
            words.append(f"{'a list of' if ... in kinds else len(kinds)} {_many(kinds[0])}")
        elif is_dataclass(member):
            words.append(f"a mapping of {_listed([one.name for one in fields(member)])}")
        else:
            words.append(ONE[get_origin(member) or member])
    return words


def _many(hint: Any) -> str:
    if get_origin(hint) is tuple:
        return f"lists of {len(get_args(hint))} numbers"
    return "mappings" if is_dataclass(hint) else MANY[hint]


def _listed(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
