"""What a dialect is: how a codebase spells the roles of a plan, and what it means by the same tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from resnets.arch.config import ResNetConfig
from resnets.arch.nodes import Node
from resnets.errors import ConfigError, UnknownNameError
from resnets.weights.slots import OURS, Slot, slots

__all__ = ["Dialect", "Option"]

Option = Callable[[Any], dict[str, Any]]
"""From the value of an option, as a codebase writes it, to fields of `ResNetConfig`."""

CONFIG_FIELDS = tuple(field.name for field in fields(ResNetConfig))


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The naming and the habits of one codebase.

    Args:
        name: what `dialect=` takes.
        whose: whose files are written so, for people.
        parts: our name of a part of a path to theirs; parts that are not here are spelled alike.
        recognise: whether a set of key names is of this dialect and no other.
        settled: what the tensors of any network leave open, and this codebase does only one way.
        options: its own spelling of options that tensors cannot tell.
        preprocessing: fields of `Preprocessing` that its networks were trained with, where they differ from ImageNet's.
    """

    name: str
    whose: str
    recognise: Callable[[frozenset[str]], bool]
    parts: Mapping[str, str] = field(default_factory=dict)
    settled: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)

    def spell(self, slot: Slot) -> str:
        """The key that this codebase gives to a slot."""
        path = ".".join(self.parts.get(part, part) for part in slot.path.split("."))
        return f"{path}.{OURS[slot.role]}"

    def read(self, name: str) -> str:
        """The key of ours that one of theirs stands for, before any plan is known."""
        ours = {theirs: part for part, theirs in self.parts.items()}
        return ".".join(ours.get(part, part) for part in name.split("."))

    def key_map(self, plan: Node) -> dict[str, str]:
        """Our key of every tensor of a plan to theirs, one to one."""
        return {slot.name: self.spell(slot) for slot in slots(plan)}

    def translate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options in this codebase's spelling, or fields of `ResNetConfig`, as fields of `ResNetConfig`.

        Raises:
            UnknownNameError: an option that neither knows.
            ConfigError: two options that set the same field, or a value without a counterpart.
        """
        changes: dict[str, Any] = {}
        for name, value in options.items():
            if name in self.options:
                new = self.options[name](value)
            elif name in CONFIG_FIELDS:
                new = {name: value}
            else:
                raise UnknownNameError(f"{self.name} option", name, (*self.options, *CONFIG_FIELDS))
            if twice := changes.keys() & new.keys():
                raise ConfigError(f"an option is set once; got {name} and another for {', '.join(twice)}; drop one")
            changes |= new
        return changes


def has_part(names: Iterable[str], part: str) -> bool:
    """Whether some key has `part` as a component of its path."""
    return any(part in name.split(".") for name in names)
