"""What a dialect is: how a codebase spells the roles of a plan, and what it means by the same tensors.

A file goes through a dialect in this order (`weights/load.py`):

1. `recognise(names)`: `dialect="auto"` keeps the dialects that say yes to the file's names.
2. `rename(shapes)`: the file's names (with all shapes, so that an order of creation can be counted) to our keys.
   `None` drops a name on purpose, and the report says so; a name that is absent is not understood, and refused.
   Simple dialects give `parts` and `prefixes`; others give `renames` and `maps`.
3. `layout`: every tensor is brought into torch's axis order (`axes.py`), by our key.
4. `detect.py` reads the description off our keys and torch's shapes. What they leave open, `settled` and
   `by_network` say: `settled` for all networks of the codebase, `by_network` from the fields that were read (`None`
   where no network of this codebase has such fields: then `auto` passes over the dialect). Both may also name fields
   that tensors never tell (`norm_eps`, `stride_in`, `stem_pool`, ...). A field that the tensors do tell is not
   overridden, but for `attention_round`. With `variant=`, a dialect that was asked for by name says what that name
   means to it: always for names that match `names`, else where the variant has the default.
5. `options`: the codebase's own spelling of what tensors cannot tell, one strict table. Fields of our descriptions are
   always understood; `features_only` and `out_indices` belong to `import_weights` itself.
6. `head=False`: its networks answer the last map; a classifier in the file is dropped by name.

Saving goes back: `key_map(plan)` answers our key -> theirs for every tensor of a plan, and `axes.from_torch` with
`layout` and `kernels(plan)` (our key -> cells a side, for linear layers that it stores as convolutions) the array.
`rename` must undo `key_map` for every plan of the codebase, which tests/weights/test_dialects_torch.py checks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from resnets.arch.config import ResNetConfig
from resnets.arch.nodes import Chain, Node
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError, UnknownNameError
from resnets.weights.dialects.axes import Layout, Shapes
from resnets.weights.slots import OURS, slots

__all__ = ["Dialect", "Option", "has_part", "renamed"]

Option = Callable[[Any], dict[str, Any]]
"""From the value of an option, as a codebase writes it, to fields of a description."""

CONFIG_FIELDS = tuple(dict.fromkeys(field.name for kind in (ResNetConfig, VGGConfig) for field in fields(kind)))


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The naming and the habits of one codebase.

    Args:
        name: what `dialect=` takes.
        whose: whose files are written so, for people.
        recognise: whether a set of key names may be of this dialect.
        layout: the order of its tensors' axes.
        parts: our name of a part of a path to theirs; parts that are not here are spelled alike.
        renames: in place of `parts`: from their shapes by name to our keys, `None` for what is dropped on purpose.
        maps: in place of `parts`: from a plan to their name of each of our keys.
        kernels: from a plan, our keys of linear layers that it stores as convolutions, to their cells a side.
        settled: what the tensors of any network leave open, and this codebase does only one way.
        by_network: the same, where it depends on what was read; `None` for a network that it does not have.
        names: pattern of the variant names that it has a meaning of its own for.
        head: whether its networks answer logits; if not, they answer the last map.
        options: its own spelling of options that tensors cannot tell.
        preprocessing: fields of `Preprocessing` that its networks were trained with, where they differ from ImageNet's.
        prepares: the same, from the description, where its networks differ in it.
        points: from a plan, its names of maps inside the network to the paths of our modules.
        remarks: from a description, where ours is not the same network after all, a sentence each, for the report.
    """

    name: str
    whose: str
    recognise: Callable[[frozenset[str]], bool]
    layout: Layout = "torch"
    parts: Mapping[str, str] = field(default_factory=dict)
    renames: Callable[[Shapes], dict[str, str | None]] | None = None
    maps: Callable[[Node], dict[str, str]] | None = None
    kernels: Callable[[Node], Mapping[str, int]] = lambda plan: {}
    settled: Mapping[str, Any] = field(default_factory=dict)
    by_network: Callable[[Mapping[str, Any]], Mapping[str, Any] | None] = lambda fields: {}
    names: str = ".*"
    head: bool = True
    options: Mapping[str, Option] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    prepares: Callable[[Any], Mapping[str, Any]] | None = None
    points: Callable[[Chain], Mapping[str, str]] = lambda plan: {}
    remarks: Callable[[Any], tuple[str, ...]] = lambda config: ()

    def rename(self, shapes: Shapes) -> dict[str, str | None]:
        """Our key for each name that is understood, `None` for one that is dropped on purpose."""
        if self.renames is not None:
            return self.renames(shapes)
        ours = {theirs: part for part, theirs in self.parts.items()}
        return {name: ".".join(ours.get(part, part) for part in name.split(".")) for name in shapes}

    def key_map(self, plan: Node) -> dict[str, str]:
        """Our key of every tensor of a plan to theirs, one to one."""
        if self.maps is not None:
            return self.maps(plan)
        return {
            slot.name: ".".join(self.parts.get(part, part) for part in (*slot.path.split("."), OURS[slot.role]))
            for slot in slots(plan)
        }

    def preprocessing_for(self, config: Any) -> Mapping[str, Any]:
        """Fields of `Preprocessing` that a network of this codebase was trained with."""
        return self.prepares(config) if self.prepares else self.preprocessing

    def knows(self, variant: str) -> bool:
        """Whether a variant's name is one that this codebase has a meaning of its own for."""
        return re.fullmatch(self.names, variant) is not None

    def translate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options in this codebase's spelling, or fields of a description, as fields of a description.

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


def renamed(field: str) -> Option:
    """An option that is a field of ours under another name."""
    return lambda value: {field: value}


def has_part(names: Iterable[str], part: str) -> bool:
    """Whether some key has `part` as a component of its path."""
    return any(part in name and part in name.split(".") for name in names)
