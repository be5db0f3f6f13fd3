"""Griffe extension for the API reference: one entry for each parameter that a docstring documents together.

Docstrings may write `mean, std: per channel.` for two parameters; the reference shows both with that text.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ENTRY = re.compile(r"^    (\w+(?:, \w+)+): (.*(?:\n {5,}.*)*)", re.MULTILINE)
SECTION = re.compile(r"^(?:Args|Attributes):\n(?:(?: +.*)?\n?)*", re.MULTILINE)


class SplitParameters(griffe.Extension):
    """Rewrite docstrings before they are parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Split the combined entries of `obj`'s docstring."""
        if obj.docstring is not None:
            obj.docstring.value = split(obj.docstring.value)


def split(docstring: str) -> str:
    """The docstring with each `a, b: text` of its Args and Attributes as `a: text` and `b: text`."""
    return SECTION.sub(lambda section: ENTRY.sub(_entries, section[0]), docstring)


def _entries(entry: re.Match[str]) -> str:
    return "\n".join(f"    {name}: {entry[2]}" for name in entry[1].split(", "))
