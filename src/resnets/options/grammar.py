"""The grammar of option text: KEY=VALUE, and values.

A value is a word, a quoted text, or several of them: `0.9,0.99`, `(0.9, 0.99)`, `[0.9, 0.99]`, `{epochs: 3}`.
`none` and `null` mean no value; `true`, `yes`, `on` and `false`, `no`, `off` are truth values. The declared type of
an option decides between these readings (see `validate.convert`): `off` stays a word where it is one of the choices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from resnets.errors import ConfigError

__all__ = ["EMPTY_WORDS", "TRUTH_WORDS", "Quoted", "Tree", "parse_settings", "parse_tree", "parse_value"]

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
    items = _Parser(text).items("")
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

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def items(self, closing: str) -> Any:
        """Values between commas up to `closing` (the end of the text if it is empty); up to a brace, a mapping."""
        pairs: list[tuple[str, Tree]] = []
        while not (closing and self._skip(closing)):  # also behind a last comma, as Python allows
            key = ""
            if closing == "}":
                key = str(self._value(":,}"))
                self._skip(":", required=True)
            pairs.append((key, self._value(f",{closing}")))
            if not self._skip(","):
                self._skip(closing or r"\Z", required=True)
                break
        return dict(pairs) if closing == "}" else [value for _, value in pairs]

    def _value(self, stops: str) -> Tree:
        for opening, closing in ("()", "[]", "{}"):
            if self._skip(opening):
                return self.items(closing)
        if quoted := self._skip(r"'[^']*'|\"[^\"]*\""):
            return Quoted(quoted[1:-1])
        if self._skip(r"['\"]"):
            raise self._error()
        return self._skip(f"[^{re.escape(stops)}]*").strip()

    def _skip(self, pattern: str, required: bool = False) -> str:
        """Skip spaces and a match of `pattern`, a regular expression or a single character; empty if none follows."""
        match = re.compile(r"\s*(" + (re.escape(pattern) if len(pattern) == 1 else pattern) + ")").match(
            self.text, self.at
        )
        if match is None and required:
            raise self._error()
        self.at = match.end() if match else self.at
        return match[1] if match else ""

    def _error(self) -> ConfigError:
        return ConfigError(
            f"brackets and quotation marks of a value must close; got {self.text!r}; write, for example, (0.9, 0.99)"
        )
