"""What a dataclass declares about its options: types, bounds, choices, documentation and defaults."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt, MinLen
from typing_extensions import Doc

__all__ = [
    "DefaultText",
    "ImageSize",
    "Option",
    "SizeText",
    "bounds_of",
    "choices_of",
    "describe_type",
    "hints_of",
    "options_of",
    "unwrap",
]

ONE = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    NoneType: "none",
    dict: "a mapping",
}
MANY = {int: "whole numbers", float: "numbers", str: "texts"}


@dataclass(frozen=True)
class DefaultText:
    """Metadata of a field: the text that help pages show as its default, such as `by image size`."""

    text: str


@dataclass(frozen=True)
class SizeText:
    """Metadata of a field: its text is an image size, read by `grammar.parse_size`."""


Pixels = Annotated[int, Ge(1)]
ImageSize = Annotated[Pixels | tuple[Pixels, Pixels], SizeText()]
"""Image size in pixels: one number for a square, or (H, W)."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option as a person looks it up.

    Args:
        name: of the field.
        default: as text, such as `0.1` or `by image size`; empty for a required option.
        help: documentation; its first sentence stands alone.
        choices: the words it accepts, if it accepts only certain ones.
    """

    name: str
    default: str
    help: str
    choices: tuple[str, ...]

    def summary(self, *, list_choices: bool = False) -> str:
        """First sentence of the documentation, the choices if wanted, and the default unless it is none or false."""
        text = re.split(r"(?<! al)\. ", self.help)[0].rstrip(".")
        if list_choices and self.choices:
            text += f": {listed([*self.choices])}"
        return f"{text}." if self.default in ("", "none", "false") else f"{text} (default: {self.default})."


def hints_of(kind: Any) -> dict[str, Any]:
    """Field of a dataclass -> annotation with its metadata; cached, since resolving annotations takes milliseconds."""
    if kind not in _HINTS:
        _HINTS[kind] = get_type_hints(kind, include_extras=True)
    return _HINTS[kind]


_HINTS: dict[Any, dict[str, Any]] = {}


def options_of(kind: type[Any]) -> list[Option]:
    """All options that the dataclass `kind` declares, in order."""
    found = []
    for field in fields(kind):
        hint = hints_of(kind)[field.name]
        _, metadata = unwrap(hint)
        docs = [item.documentation for item in metadata if isinstance(item, Doc)]
        texts = [item.text for item in metadata if isinstance(item, DefaultText)]
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        shown = "" if default is MISSING else _default_text(default)
        found.append(
            Option(
                name=field.name,
                default=texts[0] if texts else shown,
                help=docs[0] if docs else "",
                choices=tuple(choices_of(hint)),
            )
        )
    return found


def unwrap(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type inside `Annotated`, and its metadata with grouped bounds such as `Interval` taken apart."""
    if get_origin(hint) is not Annotated:
        return hint, ()
    kind, *metadata = get_args(hint)
    flat: list[Any] = []
    for item in metadata:
        flat.extend(item if isinstance(item, GroupedMetadata) else (item,))
    return kind, tuple(flat)


def members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the type itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def choices_of(hint: Any) -> list[str]:
    """The words that a type accepts, from its `Literal` alternatives."""
    found = []
    for member in members(unwrap(hint)[0]):
        inner = unwrap(member)[0]
        if get_origin(inner) is Literal:
            found += [str(choice) for choice in get_args(inner)]
        elif inner is not hint and get_origin(inner) in (Union, UnionType):
            found += choices_of(inner)
    return found


def bounds_of(metadata: Iterable[Any]) -> str:
    """Bounds in words: `above 0`, `of at least 1`, `in [0, 1)`."""
    low: Any = next((item for item in metadata if isinstance(item, Ge | Gt)), None)
    high: Any = next((item for item in metadata if isinstance(item, Le | Lt)), None)
    if isinstance(high, Lt) and high.lt == math.inf:
        return bounds_of([low]) + " and finite"
    if low is not None and high is not None:
        left = f"[{low.ge}" if isinstance(low, Ge) else f"({low.gt}"
        return f" in {left}, {f'{high.le}]' if isinstance(high, Le) else f'{high.lt})'}"
    if low is not None:
        return f" of at least {low.ge}" if isinstance(low, Ge) else f" above {low.gt}"
    if high is not None:
        return f" of at most {high.le}" if isinstance(high, Le) else f" below {high.lt}"
    return ""


def describe_type(hint: Any, metadata: tuple[Any, ...] = ()) -> list[str]:
    """What a type accepts, in words, one text an alternative."""
    kind, own = unwrap(hint)
    metadata = (*own, *metadata)
    if any(isinstance(item, SizeText) for item in metadata):
        others = ["none"] if NoneType in members(kind) else []
        return ["a size such as 224 or 256x128", *others]
    words: list[str] = []
    for member in members(kind):
        inner, more = unwrap(member)
        if get_origin(inner) in (Union, UnionType):
            words += describe_type(member, metadata)
        elif get_origin(inner) is Literal:
            words += [str(choice) or "''" for choice in get_args(inner)]
        elif any(isinstance(item, SizeText) for item in more):
            words += describe_type(member)
        elif get_origin(inner) is tuple:
            words.append(_describe_tuple(inner, (*more, *metadata)))
        elif is_dataclass(inner):
            words.append(f"a mapping of {listed([field.name for field in fields(inner)])}")
        else:
            bounds = bounds_of((*more, *metadata)) if inner in (int, float) else ""
            words.append(ONE[get_origin(inner) or inner] + bounds)
    return words


def listed(words: list[str]) -> str:
    """Words with commas and a last `or`."""
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _describe_tuple(kind: Any, metadata: tuple[Any, ...]) -> str:
    items = get_args(kind)
    if ... not in items:
        plurals = list(dict.fromkeys(_plural(item) for item in items))
        if len(plurals) == 1:
            return f"{len(items)} {plurals[0]}"
        return f"{len(items)} values: " + ", ".join(listed(describe_type(item)) for item in items)
    some = any(isinstance(item, MinLen) and item.min_length for item in metadata)
    return f"a {'non-empty ' * some}list of {_plural(items[0])}"


def _plural(hint: Any) -> str:
    kind, metadata = unwrap(hint)
    if get_origin(kind) is tuple:
        return "lists of " + _describe_tuple(kind, metadata)
    if get_origin(kind) is Literal:
        return listed(describe_type(kind))
    return "mappings" if is_dataclass(kind) else MANY[kind] + bounds_of(metadata)


def _default_text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_default_text, value)) + ")"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
