"""Reports for people and programs: how a weights file was read, and how weights were adapted to a related network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["AdaptReport", "LoadReport", "shorten"]


def shorten(names: Iterable[str], limit: int = 4) -> str:
    """The first names of a list, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more


class _Report:
    def to_dict(self) -> dict[str, Any]:
        """Every field, as JSON can hold it."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    @staticmethod
    def _text(lines: Iterable[str], lists: dict[str, Iterable[str]]) -> str:
        counted = {title: list(items) for title, items in lists.items()}
        listed = (f"  {title} ({len(items)}): {shorten(items, 6)}" for title, items in counted.items() if items)
        return "\n".join([*lines, *listed])


@dataclass(frozen=True, kw_only=True)
class LoadReport(_Report):
    """How the tensors of a file became a network.

    Args:
        source: the file, or `the tensors`.
        dialect: whose naming it follows.
        variant: the network's name, or `custom`.
        filled: share of the network's values (parameters and statistics) that came from the file, in [0, 1].
        renames: the file's key to ours, where they differ.
        missing: our keys that the file lacks: step counters, and with `min_filled` whatever starts fresh.
        unexpected: the file's keys that the network does not have; empty unless `min_filled` allows it.
        dropped: entries of the file left out on purpose.
        assumed: config fields that tensors do not determine, as the dialect sets them.
        notes: what else was done, a sentence each.
        preprocessing: fields of `Preprocessing` that the file states, such as the normalisation of an ONNX graph.
    """

    source: str
    dialect: str
    variant: str
    filled: float
    renames: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    assumed: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    preprocessing: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [
            f"{self.source}: {self.variant}, {self.dialect} naming, {self.filled:.2%} filled",
            *(f"  note: {note}" for note in self.notes),
        ]
        lists: dict[str, Iterable[str]] = {
            "assumed": [f"{name}={value!r}" for name, value in self.assumed.items()],
            "renamed": [f"{theirs} -> {ours}" for theirs, ours in self.renames.items()],
            "missing": self.missing,
            "unexpected": self.unexpected,
            "dropped": self.dropped,
        }
        return self._text(lines, lists)


@dataclass(frozen=True, kw_only=True)
class AdaptReport(_Report):
    """How the weights of one network became another's.

    Args:
        source: the weights, for people.
        kept: share of the new network's values that are the old ones unchanged, in [0, 1].
        changed: our key to what was done, for tensors that were summed, repeated or split.
        fresh: keys of tensors that start fresh.
        dropped: keys of the source that were left out.
        notes: each rule that was applied, a sentence each.
    """

    source: str
    kept: float
    changed: dict[str, str]
    fresh: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.kept:.2%} kept unchanged", *(f"  {note}" for note in self.notes)]
        changed = [f"{key} {change}" for key, change in self.changed.items()]
        return self._text(lines, {"changed": changed, "fresh": self.fresh, "dropped": self.dropped})
