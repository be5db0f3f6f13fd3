"""Two-way tables of module paths, written once as rows (our path, their path).

A row holds fields in braces: one letter is a number (`{s}`), a longer name is any text (`{rest}`). A number may be
shifted (`{s+1}` is written as one more than its value) and spelled by a codec (`{b:letter}`). The first row that
matches decides, in both directions; later rows for the same path are further spellings that are read.

    ("layer{s}.{b}.bn{n}", "stages.{s-1}.blocks.{b}.norm{n}")      layer1.0.bn2  <->  stages.0.blocks.0.norm2
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

__all__ = ["KeyTable", "depths_of"]

FIELD = re.compile(r"\{(\w+?)([+-]\d+)?(?::(\w+))?\}")
BLOCK = re.compile(r"layer(\d{1,4})\.(\d{1,4})\.")


@dataclass(frozen=True)
class Codec:
    """Spelling of a number: a regular expression, and its conversion in both directions (`None`: no spelling)."""

    pattern: str
    read: Callable[[str], int]
    write: Callable[[int], str | None]


CODECS = {
    "": Codec(r"\d{1,4}", int, str),
    "letter": Codec("[a-z]", lambda text: ord(text) - ord("a"), lambda n: chr(ord("a") + n) if n < 26 else None),
    "caffe": Codec(r"a|b\d{1,4}", lambda text: int(text[1:] or 0), lambda n: f"b{n}" if n else "a"),
}


class Pattern:
    """One side of a row."""

    def __init__(self, template: str, prefix: str = "") -> None:
        self.template = template
        fields = list(FIELD.finditer(template))
        self.fields = [(m[1], int(m[2] or 0), CODECS[m[3] or ""]) for m in fields]
        literals = [re.escape(text) for text in FIELD.split(template)[:: FIELD.groups + 1]]
        groups = [f"({codec.pattern})" if len(name) == 1 else "(.+)" for name, _, codec in self.fields]
        self.regex = re.compile(prefix + "".join(map("".join, zip(literals, [*groups, ""], strict=True))))

    def read(self, path: str) -> dict[str, str | int] | None:
        """Values of the fields in `path`; `None` where it does not match."""
        if (match := self.regex.fullmatch(path)) is None:
            return None
        values: dict[str, str | int] = {}
        for (name, shift, codec), text in zip(self.fields, match.groups(), strict=True):
            values[name] = codec.read(text) - shift if len(name) == 1 else text
        return None if any(isinstance(value, int) and value < 0 for value in values.values()) else values

    def write(self, values: Mapping[str, str | int]) -> str | None:
        """The path with these values of its fields; `None` where one is absent or has no spelling."""
        texts = []
        for name, shift, codec in self.fields:
            value = values.get(name)
            if isinstance(value, int):
                value = codec.write(value + shift) if value + shift >= 0 else None
            texts.append(value)
        if None in texts:
            return None
        parts = iter(texts)
        return FIELD.sub(lambda _: str(next(parts)), self.template)


class KeyTable:
    """A table of paths, read and written by the same rows.

    Args:
        rows: pairs (our path, their path) as the module docstring has them.
        keep: paths that no row matches are spelled alike.
        scope: what stands before each of their paths as they are written; any scope is cut when they are read.
        kernels: our paths of linear layers that they store as convolutions, to the kernel's side in cells.
    """

    def __init__(
        self,
        rows: Iterable[tuple[str, str]] = (),
        *,
        keep: bool = False,
        scope: str = "",
        kernels: Mapping[str, int] | None = None,
    ) -> None:
        self.keep, self.scope, self.kernels = keep, scope, kernels or {}
        self._writing: dict[str, str] = {}  # rows without fields are looked up
        self._reading: dict[str, str] = {}
        self._rows: list[tuple[Pattern, Pattern]] = []
        for ours, theirs in rows:
            if "{" in theirs or scope:
                self._rows.append((Pattern(ours), Pattern(theirs, r"(?:.*/)?" if scope else "")))
            else:
                self._writing.setdefault(ours, theirs)
                self._reading.setdefault(theirs, ours)

    def ours(self, theirs: str) -> str | None:
        """Our path for one of theirs; `None` where the table has none."""
        if theirs in self._reading:
            return self._reading[theirs]
        for mine, other in self._rows:
            if (values := other.read(theirs)) is not None and (path := mine.write(values)) is not None:
                return path
        return theirs if self.keep else None

    def theirs(self, ours: str) -> str | None:
        """Their path for one of ours; `None` where the table has none."""
        if ours in self._writing:
            return self._writing[ours]
        for mine, other in self._rows:
            if (values := mine.read(ours)) is not None and (path := other.write(values)) is not None:
                return self.scope + path
        return ours if self.keep else None


def depths_of(keys: Iterable[str]) -> tuple[int, ...]:
    """Blocks by stage in our keys of a residual network; empty for keys of another spelling."""
    found = dict[int, int]()
    for key in keys:
        if match := BLOCK.match(key):
            found[int(match[1])] = max(found.get(int(match[1]), 0), int(match[2]) + 1)
    return tuple(found[stage] for stage in sorted(found))
