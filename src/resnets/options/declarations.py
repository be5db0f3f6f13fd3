"""What a dataclass declares about its options: types, bounds, choices, documentation and defaults."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt, MinLen
from typing_extensions import Doc

__all__ = [
    "DefaultText",
    "ImageSize",
    "Option",
    "TypeText",
    "alternatives",
    "choices_of",
    "describe_type",
    "hints_of",
    "limit_of",
    "listed",
    "options_of",
]

TYPES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    NoneType: "none",
    dict: "a mapping",
}
BOUNDS = {Ge: "at least", Gt: "above", Le: "at most", Lt: "below"}


@dataclass(frozen=True)
class DefaultText:
    """Metadata of a field: the text that help pages show as its default, such as `by image size`."""

    text: str


@dataclass(frozen=True)
class TypeText:
    """Metadata of a type: how error messages describe it."""

    text: str


Pixels = Annotated[int, Ge(1)]
ImageSize = Annotated[Pixels | tuple[Pixels, Pixels], TypeText("a size such as 224 or 256x128")]
"""Image size in pixels: one number for a square, or (H, W)."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option as help pages list it.

    Args:
        name: of the field.
        default: as text, such as `0.1` or `by image size`; empty for a required option.
        help: documentation; its first sentence is the summary.
        choices: the accepted words, if only certain ones are.
    """

    name: str
    default: str
    help: str
    choices: tuple[str, ...]

    @property
    def first_sentence(self) -> str:
        """First sentence of the documentation, without its full stop."""
        return re.split(r"(?<! al)\. ", self.help)[0].rstrip(".")

    def summary(self, *, list_choices: bool = False) -> str:
        """First sentence of the documentation, the choices if wanted, and the default unless it is none or false."""
        text = self.first_sentence + (f": {listed(self.choices)}" if list_choices and self.choices else "")
        return f"{text}." if self.default in ("", "none", "false") else f"{text} (default: {self.default})."


def hints_of(kind: Any) -> dict[str, Any]:
    """Field of a dataclass -> annotation with its metadata; cached, since resolving annotations takes milliseconds."""
    if kind not in _HINTS:
        hints = get_type_hints(kind, include_extras=True)
        _HINTS[kind] = {field.name: hints[field.name] for field in fields(kind)}  # not the class variables
    return _HINTS[kind]


_HINTS: dict[Any, dict[str, Any]] = {}


def options_of(kind: type[Any]) -> list[Option]:
    """All options that the dataclass `kind` declares, in order."""
    found = []
    for field in fields(kind):
        hint = hints_of(kind)[field.name]
        metadata = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        texts = [item.text for item in metadata if isinstance(item, DefaultText)]
        found.append(
            Option(
                name=field.name,
                default=texts[0] if texts else _default_text(default),
                help=next((item.documentation for item in metadata if isinstance(item, Doc)), ""),
                choices=tuple(choices_of(hint)),
            )
        )
    return found


@cache
def alternatives(hint: Any) -> tuple[tuple[Any, tuple[Any, ...]], ...]:
    """The types of a union, nested ones included, each with the metadata that applies to it; groups are unpacked."""
    if get_origin(hint) is Annotated:
        kind, *groups = get_args(hint)
        own = [item for group in groups for item in (group if isinstance(group, GroupedMetadata) else (group,))]
        return tuple((member, (*metadata, *own)) for member, metadata in alternatives(kind))
    if get_origin(hint) in (Union, UnionType):
        return tuple(found for member in get_args(hint) for found in alternatives(member))
    return ((hint, ()),)


def choices_of(hint: Any) -> list[str]:
    """The words that a type accepts, from its `Literal` alternatives."""
    return [str(choice) for kind, _ in alternatives(hint) if get_origin(kind) is Literal for choice in get_args(kind)]


def describe_type(hint: Any) -> str:
    """What a type accepts, in words: `1, 2 or none`, `a number of at least 0 and below 1`."""
    words: list[str] = []
    for kind, metadata in alternatives(hint):
        named = [item.text for item in metadata if isinstance(item, TypeText)]
        words += named or _describe(kind, metadata)
    return listed(words)


def _describe(kind: Any, metadata: tuple[Any, ...]) -> list[str]:
    origin = get_origin(kind) or kind
    if origin is Literal:
        return [str(choice) or "''" for choice in get_args(kind)]
    if origin is tuple:
        return [_describe_tuple(get_args(kind), metadata)]
    if is_dataclass(kind):
        return [f"a mapping of {listed([field.name for field in fields(kind)])}"]
    limits = " and ".join(f"{BOUNDS[type(item)]} {limit_of(item)}" for item in metadata if type(item) in BOUNDS)
    if not limits or kind is NoneType:
        return [TYPES[origin]]
    return [f"{TYPES[origin]} {'of ' * limits.startswith('at')}{limits}"]


def _describe_tuple(items: tuple[Any, ...], metadata: tuple[Any, ...]) -> str:
    kinds = [describe_type(item) for item in items if item is not ...]
    plural = "texts" if kinds[0] == "text" else re.sub(r"^an? (.*?)(number|mapping|list)", r"\1\2s", kinds[0])
    plural = f"lists of {plural}" if plural[0].isdigit() else plural
    if ... in items:
        some = any(isinstance(item, MinLen) and item.min_length for item in metadata)
        return f"a {'non-empty ' * some}list of {plural}"
    return f"{len(items)} {plural}" if len(set(kinds)) == 1 else f"{len(items)} values: {', '.join(kinds)}"


def limit_of(bound: Any) -> Any:
    """The limit of a bound: 1 of `Ge(1)`."""
    return getattr(bound, type(bound).__name__.lower())


def listed(words: Iterable[str]) -> str:
    """Words with commas and a last `or`; repeated ones once."""
    *others, last = dict.fromkeys(words)
    return f"{', '.join(others)} or {last}" if others else last


def _default_text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if value is MISSING:
        return ""
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_default_text, value)) + ")"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
