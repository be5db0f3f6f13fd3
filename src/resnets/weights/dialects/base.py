"""Description of a dialect: how one codebase names the tensors of a network, and what it means by the same tensors.

A file is read in these steps (`identify.py`, `load.py`):

1. `matches(names)`: `dialect="auto"` keeps the dialects that match the file's names.
2. `our_keys(shapes)`: the file's names to ours, by the key table; a name that the table lacks is unexpected.
3. `layout`: every tensor is brought into torch's axis order (`axes.py`), by our key.
4. `detect_config.py` reads config fields off our keys and torch's shapes. `defaults` and `infer_defaults` supply the
   fields that tensors leave open or never determine (`norm_eps`, `stride_in`, `stem_pool`, ...). Apart from
   `attention_round`, they never override a field that the tensors determine. With `variant=`, a dialect that was
   requested by name applies its defaults to variants that match `variants`, and to fields that the variant leaves at
   the config's default.
5. `options`: the codebase's own spelling of options, one strict table. Config fields are always accepted.

Files are written with the same key table: `key_map(plan)` inverts it over the tensors of a plan, and
`axes.from_torch` converts the arrays. `tests/weights/dialects` checks the round trip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.nodes import Node
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError, UnknownNameError
from resnets.weights.dialects.axes import Layout, Shapes
from resnets.weights.dialects.key_table import KeyTable
from resnets.weights.slots import TENSOR_NAMES, Role, slots

__all__ = ["KERAS_ROLES", "Dialect", "Option", "choice", "has_component", "layer_of", "numbers", "rename_to"]

Option = Callable[[Any], dict[str, Any]]
"""Converts an option's value, as a codebase writes it, to config fields."""

CONFIG_FIELDS = tuple(dict.fromkeys(field.name for kind in (ResNetConfig, VGGConfig) for field in fields(kind)))
SAME_PATHS = KeyTable(keep=True)

# Names of variables in Keras and TensorFlow, whose norms count no steps: no role `count`.
KERAS_ROLES: dict[Role, str] = {
    "kernel": "kernel",
    "matrix": "kernel",
    "bias": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "mean": "moving_mean",
    "var": "moving_variance",
}


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """Tensor names and conventions of one codebase.

    Args:
        name: value of `dialect=`.
        description: the codebase, for people.
        matches: whether a set of tensor names may be of this dialect.
        layout: axis order of its tensors. Names are `path.tensor` in torch, `layer/variable` in TensorFlow, where
            `:0` may follow.
        table: key table for tensors with these names and shapes. Called with the file's names when a file is read
            and with our keys when one is written.
        roles: its name of the tensor of each role, if they are not torch's or Keras's by `layout`; roles without a
            name are not stored.
        clean: normalises a name before the table is consulted.
        defaults: config fields that tensors leave open and that are the same in all of its networks.
        infer_defaults: the same, where they depend on the detected fields; `None` for a network that the codebase
            does not have (`auto` then skips the dialect).
        variants: pattern of variant names for which `defaults` override the variant's own fields.
        has_classifier: whether its networks output logits; if not, they output the last feature map, and a
            classifier in the file is dropped.
        options: its own spelling of options that tensors do not determine.
        family_options: from the file's names and shapes, options that its families read in another way.
        unseen: from the detected fields, those that its names leave open although one reading is usual.
        preprocessing: from a config, the fields of `Preprocessing` that its networks were trained with, where they
            differ from ImageNet's.
        notes: from a config, in which respects our network differs from the codebase's, a sentence each.
        unused: whether the network of a file has no use for a tensor of this name, which is dropped.
        arguments: config fields that its codebase takes as arguments, whatever the tensors.
        networks: what its codebase builds under each name; other names mean the networks of `variants.py`.
        unsupported: names of its codebase that cannot be built here, with the reason.
    """

    name: str
    description: str
    matches: Callable[[frozenset[str]], bool]
    layout: Layout = "torch"
    table: Callable[[Shapes], KeyTable] = lambda shapes: SAME_PATHS
    roles: Mapping[Role, str] | None = None
    clean: Callable[[str], str] = lambda name: name.removesuffix(":0")
    defaults: Mapping[str, Any] = field(default_factory=dict)
    infer_defaults: Callable[[Mapping[str, Any]], Mapping[str, Any] | None] = lambda fields: {}
    variants: str = ".*"
    has_classifier: bool = True
    options: Mapping[str, Option] = field(default_factory=dict)
    family_options: Callable[[Shapes], Mapping[str, Option]] = lambda shapes: {}
    unseen: Callable[[Mapping[str, Any]], frozenset[str]] = lambda fields: frozenset()
    preprocessing: Callable[[Any], Mapping[str, Any]] = lambda config: {}
    notes: Callable[[Any], tuple[str, ...]] = lambda config: ()
    unused: Callable[[str], bool] = lambda name: False
    arguments: frozenset[str] = frozenset()
    networks: Mapping[str, NetworkConfig] = field(default_factory=dict)
    unsupported: Mapping[str, str] = field(default_factory=dict)

    def our_keys(self, shapes: Shapes) -> dict[str, str]:
        """Our key for each of the file's names that the table has."""
        cleaned = {name: self.clean(name) for name in shapes}
        table = self.table({cleaned[name]: shape for name, shape in shapes.items()})
        separator, roles = self._spelling
        tensors = {theirs: TENSOR_NAMES[role] for role, theirs in roles.items()}
        paths: dict[str, str | None] = {}
        keys: dict[str, str] = {}
        for name in shapes:
            if self.unused(name):
                continue
            path, _, tensor = cleaned[name].rpartition(separator)
            if path not in paths:
                paths[path] = table.ours(path)
            if (ours := paths[path]) and tensor in tensors:
                keys[name] = f"{ours}.{tensors[tensor]}"
        return keys

    def key_map(self, plan: Node) -> dict[str, str]:
        """The dialect's name for each of our keys; keys that it has no name for are left out."""
        every = list(slots(plan))
        table = self.table({slot.key: slot.shape for slot in every})
        separator, roles = self._spelling
        names: dict[str, str] = {}
        for slot in every:
            if slot.role in roles and (path := table.theirs(slot.path)) is not None:
                names[slot.key] = f"{path}{separator}{roles[slot.role]}"
        return names

    @property
    def _spelling(self) -> tuple[str, Mapping[Role, str]]:
        """The separator between path and tensor, and the names of roles."""
        separator, roles = (".", TENSOR_NAMES) if self.layout == "torch" else ("/", KERAS_ROLES)
        return separator, self.roles or roles

    def kernels(self, plan: Node) -> dict[str, int]:
        """Our keys of linear layers that the dialect stores as convolutions, to the kernel's side in cells."""
        table = self.table({slot.key: slot.shape for slot in slots(plan)})
        return {f"{path}.weight": side for path, side in table.kernels.items()}

    def classifies_cells(self, shapes: Shapes) -> bool:
        """Whether the classifier of a file's network is a convolution, so that without pooling it outputs a map."""
        return "fc" in self.table({self.clean(name): shape for name, shape in shapes.items()}).kernels

    def translate_options(self, options: Mapping[str, Any], shapes: Shapes) -> dict[str, Any]:
        """Options in this codebase's spelling, or config fields, as config fields.

        Args:
            shapes: of the file's tensors, by its names.
        """
        own = {**self.options, **self.family_options({self.clean(name): shape for name, shape in shapes.items()})}
        changes: dict[str, Any] = {}
        for name, value in options.items():
            if name in own:
                new = own[name](value)
            elif name in CONFIG_FIELDS:
                new = {name: value}
            else:
                raise UnknownNameError(f"{self.name} option", name, (*own, *CONFIG_FIELDS))
            if twice := [key for key in changes.keys() & new.keys() if changes[key] != new[key]]:
                raise ConfigError(f"an option is set once; got {name} and another for {', '.join(twice)}; drop one")
            changes |= new
        return changes


def rename_to(field: str) -> Option:
    """Option with the meaning of a config field of another name."""
    return lambda value: {field: value}


def choice(name: str, choices: Mapping[Any, dict[str, Any]]) -> Option:
    """Option with a fixed set of values, each with its config fields; any other value is an error that lists them."""

    def translate(value: Any) -> dict[str, Any]:
        try:
            return choices[value]
        except (KeyError, TypeError):
            known = ", ".join(map(repr, choices))
            raise ConfigError(f"{name} must be one of {known}; got {value!r}; no other has a counterpart") from None

    return translate


def numbers(name: str, field: str) -> Option:
    """Option that is a list of whole numbers, one for each stage, with the meaning of a config field."""

    def translate(value: Any) -> dict[str, Any]:
        whole = isinstance(value, list | tuple) and all(isinstance(one, int | float) and one == one for one in value)
        if not whole or any(abs(one) > 2**31 or int(one) != one for one in value):
            raise ConfigError(f"{name} must be whole numbers, one for each stage; got {value!r}")
        return {field: tuple(map(int, value))}

    return translate


def layer_of(name: str) -> str:
    """Name of the layer that a TensorFlow variable belongs to."""
    return name.rpartition("/")[0]


def has_component(names: Iterable[str], part: str) -> bool:
    """Whether some name has `part` between dots."""
    return any(part in name and part in name.split(".") for name in names)
