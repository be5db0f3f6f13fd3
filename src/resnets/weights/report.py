"""What reading a weights file understood: said once, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from resnets.weights.strict import listed

__all__ = ["LoadReport"]


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """How foreign tensors became a network.

    Args:
        source: the file, or `tensors`.
        dialect: whose naming it follows.
        variant: the network's name, or `custom`.
        filled: share of the network's numbers (parameters and statistics) that the file gave, in [0, 1].
        renames: the file's key to ours, where they differ.
        missing: our keys that the file lacks; only step counters may be among them.
        unexpected: the file's keys that are not the network's; always empty, for a network that was filled.
        dropped: entries of the file left out on purpose.
        assumed: fields that the tensors cannot tell, as the dialect settles them.
        notes: what else was done, a sentence each.
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

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    def __str__(self) -> str:
        renames = [f"{theirs} -> {ours}" for theirs, ours in self.renames.items()]
        assumed = [f"{name}={value!r}" for name, value in self.assumed.items()]
        lines = [
            f"{self.source}: {self.variant}, {self.dialect} naming, {self.filled:.2%} filled",
            *(f"  note: {note}" for note in self.notes),
        ]
        for title, items in (
            ("assumed", assumed),
            ("renamed", renames),
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("dropped", self.dropped),
        ):
            if items:
                lines.append(f"  {title} ({len(items)}): {listed(items, 6)}")
        return "\n".join(lines)
