"""The grammar of option text: KEY=VALUE, values, and image sizes.

A value is a word, a quoted text, or several of them: `0.9,0.99`, `(0.9, 0.99)`, `[0.9, 0.99]`, `{epochs: 3}`.
`none` and `null` mean no value; `true`, `yes`, `on` and `false`, `no`, `off` are truth values. The declared type of
an option decides between these readings (see `validate.convert`): `off` stays a word where it is one of the choices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from resnets.errors import ConfigError

__all__ = ["EMPTY_WORDS", "TRUTH_WORDS", "Quoted", "Tree", "parse_settings", "parse_size", "parse_tree", "parse_value"]

EMPTY_WORDS = ("none", "null")
TRUTH_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

Tree = Any
"""A parsed text whose leaves are still text: `str`, `Quoted`, a list of trees, or a dict of trees."""


class Quoted(str):
    """Text that stood in quotation marks: never read as a number, a truth value or `none`."""


def parse_settings(settings: Iterable[str], example: str = "label_smoothing=0.1") -> dict[str, str]:
    """Split KEY=VALUE texts; the last of two with the same key counts.

    Args:
        settings: such as `drop-rate=0.1`; dashes in a key become underscores.
        example: a setting to show in the error message.

    Returns:
        Key -> text of the value; a `Quoted` where quotation marks enclose it.

    Raises:
        ConfigError: no `=`.
    """
    found = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"a setting is KEY=VALUE; got {setting!r}; write, for example, {example}")
        text = text.strip()
        quoted = re.fullmatch(r"'([^']*)'|\"([^\"]*)\"", text)
        found[key.strip().replace("-", "_")] = Quoted(quoted[1] or quoted[2] or "") if quoted else text
    return found


def parse_size(text: str) -> int | tuple[int, int]:
    """Image size in pixels: `224` -> 224; `256x128`, `256,128` or `(256, 128)` -> (256, 128), height first.

    Raises:
        ConfigError: anything else.
    """
    match = re.fullmatch(
        r"(\d+)(?:\s*[x×,]\s*(\d+))?", re.sub(r"^[(\[](.*)[)\]]$", r"\1", text.strip()).strip().lower()
    )
    if match is None or not int(match[1]) or (match[2] is not None and not int(match[2])):
        raise ConfigError(f"a size is N or HEIGHTxWIDTH in pixels; got {text!r}; write, for example, 224 or 256x128")
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))


def parse_value(text: str) -> Any:
    """The value of an option whose type is not known: none, truth value, number, text, tuple or dict.

    Raises:
        ConfigError: brackets or quotation marks that do not close.
    """
    return _typed(text if isinstance(text, Quoted) else parse_tree(text))


def parse_tree(text: str) -> Tree:
    """The structure of a value, its words left as text.

    Raises:
        ConfigError: brackets or quotation marks that do not close.
    """
    parser = _Parser(text)
    items = parser.items("")
    return items[0] if len(items) == 1 else items


def _typed(tree: Tree) -> Any:
    if isinstance(tree, list):
        return tuple(_typed(item) for item in tree)
    if isinstance(tree, dict):
        return {key: _typed(item) for key, item in tree.items()}
    if isinstance(tree, Quoted):
        return str(tree)
    word = tree.lower()
    if word in EMPTY_WORDS:
        return None
    if word in TRUTH_WORDS:
        return TRUTH_WORDS[word]
    if re.fullmatch(r"[+-]?\d+", word):
        return int(word)
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", word):
        return float(word)
    return tree


class _Parser:
    """Recursive descent over a text."""

    CLOSING = {"(": ")", "[": "]", "{": "}"}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def items(self, closing: str) -> list[Tree]:
        """Values between commas up to `closing`, or to the end of the text if it is empty."""
        found: list[Tree] = []
        while True:
            self._skip_spaces()
            if closing and self._ahead() == closing:  # also behind a last comma, as Python allows
                self.at += 1
                return found
            found.append(self._value(f",{closing}"))
            if self._next(f",{closing}", end=not closing) != ",":
                return found

    def _mapping(self) -> dict[str, Tree]:
        found: dict[str, Tree] = {}
        while True:
            self._skip_spaces()
            if self._ahead() == "}":
                self.at += 1
                return found
            key = self._value(":,}")
            self._next(":")
            self._skip_spaces()
            found[str(key)] = self._value(",}")
            if self._next(",}") == "}":
                return found

    def _value(self, stops: str) -> Tree:
        first = self._ahead()
        if first == "{":
            self.at += 1
            return self._mapping()
        if first in ("(", "["):
            self.at += 1
            return self.items(self.CLOSING[first])
        if first in ("'", '"'):
            end = self.text.find(first, self.at + 1)
            if end < 0:
                raise self._error()
            word, self.at = Quoted(self.text[self.at + 1 : end]), end + 1
            return word
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in stops:
            self.at += 1
        return self.text[start : self.at].strip()

    def _ahead(self) -> str:
        return self.text[self.at : self.at + 1]

    def _next(self, allowed: str, end: bool = False) -> str:
        self._skip_spaces()
        mark = self._ahead()
        if not (mark and mark in allowed) and not (end and not mark):
            raise self._error()
        self.at += 1
        return mark

    def _skip_spaces(self) -> None:
        while self._ahead().isspace():
            self.at += 1

    def _error(self) -> ConfigError:
        return ConfigError(
            f"brackets and quotation marks of a value must close; got {self.text!r}; write, for example, (0.9, 0.99)"
        )
