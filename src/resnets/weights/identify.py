"""From tensors, a dialect, a name and options to one description; two readings that remain are an error that asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import FAMILIES, NetworkConfig
from resnets.arch.variants import get_config, name_of
from resnets.errors import ConfigError, WeightsError
from resnets.weights.detect import Detected, detect
from resnets.weights.dialects import Dialect, find_dialects, get_dialect
from resnets.weights.dialects.axes import Shapes, torch_shape

__all__ = ["AmbiguousError", "NoSuchNetworkError", "Reading", "find_reading"]

# Fields of a block's details, in which codebases differ under one name.
DETAILS = (
    "se_form",
    "attention_reduction",
    "attention_round",
    "conv_bias",
    "shortcut",
    "shortcut_kernel",
    "shortcut_norm",
)
FINISH = {"num_classes": 0, "global_pool": "none"}  # of a network that answers its last map


class AmbiguousError(WeightsError):
    """Tensors that fit more than one network."""


class NoSuchNetworkError(WeightsError):
    """Tensors of a network that a dialect does not have."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How tensors are understood.

    Args:
        dialect: whose they are.
        names: their name to our key, `None` where it is dropped on purpose.
        config: the network.
        assumed: the part of it that neither tensors nor the caller said.
    """

    dialect: Dialect
    names: dict[str, str | None]
    config: NetworkConfig
    assumed: dict[str, Any]


def find_reading(
    shapes: Shapes,
    dialect: str,
    variant: str | NetworkConfig,
    options: Mapping[str, Any],
    where: str,
    facts: Mapping[str, Any] | None = None,
) -> Reading:
    """How tensors are understood, by the dialects that spell keys as theirs are spelled.

    Args:
        shapes: by their names, in their axis order.
        dialect: a name, or `auto`: all that fit, as long as they read the same network.
        variant: a name or description, or `auto`: read off the tensors.
        options: in the dialect's spelling.
        where: the file, for messages.
        facts: fields that the file says besides its tensors; they stand above a dialect's habits and a name.

    Raises:
        WeightsError: tensors of no network, or of more than one.
        ConfigError: an unknown dialect, variant or option, or options that contradict each other.
    """
    facts = dict(facts or {})
    if dialect != "auto":
        return _read(get_dialect(dialect), variant, shapes, options, where, facts, asked=True)
    found, errors = list[Reading](), list[Exception]()
    for speech in find_dialects(shapes, where):
        try:
            found.append(_read(speech, variant, shapes, options, where, facts, asked=False))
        except (NoSuchNetworkError, ConfigError) as error:
            errors.append(error)
    if not found:
        raise _none_has_it(errors, where)
    differing = [other for other in found if other.config != found[0].config]
    if differing and variant == "auto":
        one, other = found[0], differing[0]
        fields = [name for name, value in vars(one.config).items() if vars(other.config).get(name) != value]
        unlike = " and ".join(
            f"{reading.dialect.name} ({', '.join(f'{n}={vars(reading.config).get(n)!r}' for n in fields)})"
            for reading in (one, other)
        )
        raise AmbiguousError(f"the keys must be of one dialect; in {where} they read as {unlike}; pass dialect=")
    return found[0]


def _read(
    dialect: Dialect,
    variant: str | NetworkConfig,
    shapes: Shapes,
    options: Mapping[str, Any],
    where: str,
    facts: dict[str, Any],
    *,
    asked: bool,
) -> Reading:
    if variant == "auto":
        return _read_alone(dialect, shapes, options, where, facts)
    return _read_named(dialect, variant, shapes, options, where, facts, asked=asked)


def _read_alone(
    dialect: Dialect, shapes: Shapes, options: Mapping[str, Any], where: str, facts: dict[str, Any]
) -> Reading:
    """The network that tensors are of, as a dialect reads them."""
    names, ours = _ours(dialect, shapes, where)
    changes = _changes(dialect, options)
    read = detect(ours, where)
    own = {field.name for field in fields(FAMILIES[read.family])}
    said = {name: value for name, value in (facts | changes).items() if name in own or name in changes}
    settled = _settled(dialect, read, where)
    known, assumed, left = read.likely | read.fields, {}, {}
    for name, values in read.open.items():
        if name in said:
            continue
        if name in settled and (not values or settled[name] in values):
            assumed[name] = settled[name]
        elif len(values) == 1:
            known[name] = values[0]
        elif name not in read.likely:
            left[name] = values
    unseen = own - read.fields.keys() - read.open.keys() - said.keys()
    assumed |= {name: value for name, value in settled.items() if name in unseen}
    known |= assumed | said
    if left:
        raise _ambiguous(read.family, known, left, where)
    return Reading(dialect=dialect, names=names, config=_config(read.family, known), assumed=assumed)


def _read_named(
    dialect: Dialect,
    variant: str | NetworkConfig,
    shapes: Shapes,
    options: Mapping[str, Any],
    where: str,
    facts: dict[str, Any],
    *,
    asked: bool,
) -> Reading:
    """The network of a name or description, with the classes and input channels of the tensors.

    A name means the network of the codebase that introduced it (`variants.py`); where the caller `asked` for a
    dialect, what that codebase means by it.
    """
    names, ours = _ours(dialect, shapes, where)
    changes = _changes(dialect, options)
    config = variant if isinstance(variant, NetworkConfig) else get_config(variant)
    assumed = _meant(dialect, variant, config, ours, where) if asked and isinstance(variant, str) else {}
    own = {field.name for field in fields(config)}
    said = {name: value for name, value in facts.items() if name in own} | _sizes(ours) | changes
    assumed = {name: value for name, value in assumed.items() if name not in said}
    return Reading(
        dialect=dialect,
        names=names,
        config=config.with_overrides(**assumed | said),
        assumed={name: value for name, value in assumed.items() if getattr(config, name) != value},
    )


def _ours(dialect: Dialect, shapes: Shapes, where: str) -> tuple[dict[str, str | None], dict[str, tuple[int, ...]]]:
    """Their names to our keys, and shapes by our keys; names that the dialect does not know keep their own."""
    names = dialect.rename(shapes)
    ours: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        key = names.get(name, name)
        if key is None:
            continue
        if key in ours:
            twice = [other for other, place in names.items() if place == key]
            raise WeightsError(
                f"each tensor has one place; {where} has {' and '.join(twice)} for {key}; drop one, or pass dialect="
            )
        ours[key] = torch_shape(key, shape, dialect.layout)
    return names, ours


def _changes(dialect: Dialect, options: Mapping[str, Any]) -> dict[str, Any]:
    changes = dialect.translate(options)
    if changes.get("global_pool") == "none":
        changes.setdefault("num_classes", 0)
    return changes if dialect.head else FINISH | changes


def _settled(dialect: Dialect, read: Detected, where: str) -> dict[str, Any]:
    more = dialect.by_network(read.fields)
    if more is None:
        raise NoSuchNetworkError(
            f"{dialect.name} has no such network ({dialect.whose}); in {where}; pass another dialect, or dialect='auto'"
        )
    settled = {**dialect.settled, **more}
    if read.fields.get("block") == "basic":
        settled.pop("stride_in", None)  # a bottleneck's
    return settled


def _config(family: str, known: Mapping[str, Any]) -> NetworkConfig:
    return FAMILIES[family]().with_overrides(**known)


def _meant(dialect: Dialect, variant: str, config: NetworkConfig, ours: Shapes, where: str) -> dict[str, Any]:
    """What a dialect means by a name: fields that it settles, and details that its tensors show."""
    try:
        read = detect(ours, where)
    except WeightsError:  # what is wrong with the tensors is said against the named network
        return {}
    own = {field.name for field in fields(config)}
    if FAMILIES[read.family] is not type(config):
        return {}
    default, told = type(config)(), dialect.knows(variant)
    settled = {
        name: value
        for name, value in _settled(dialect, read, where).items()
        if name in own and (told or getattr(config, name) == getattr(default, name))
    }
    shown = {name: read.fields[name] for name in DETAILS if name in read.fields and name in own}
    if isinstance(config, ResNetConfig) and config.attention != read.fields["attention"]:
        shown = {name: value for name, value in shown.items() if name.startswith(("conv", "shortcut"))}
    for name, values in read.open.items():  # of a settled field, only what fits the tensors
        if name in settled and values and settled[name] not in values:
            del settled[name]
        shows = name in DETAILS and name in read.likely and name not in settled
        if shows and getattr(config, name) not in values:
            shown[name] = read.likely[name]
    return {name: value for name, value in settled.items() if name not in read.fields} | shown


def _sizes(ours: Shapes) -> dict[str, int]:
    """Input channels and classes, where the tensors have them."""
    sizes = {}
    for stem in ("conv1.weight", "conv1.0.weight", "features.0.weight"):
        if len(ours.get(stem, ())) == 4:
            sizes["in_chans"] = ours[stem][1]
    last = "classifier.6.weight" if "features.0.weight" in ours else "fc.weight"
    sizes["num_classes"] = ours[last][0] if len(ours.get(last, ())) == 2 else 0
    return sizes


def _none_has_it(errors: list[Exception], where: str) -> Exception:
    """What is wrong where no dialect reads the tensors: with the options, or with all of the dialects."""
    wrong = [error for error in errors if not isinstance(error, NoSuchNetworkError)]
    if wrong or len(errors) == 1:
        return (wrong or errors)[0]
    return NoSuchNetworkError(
        f"the codebases that spell keys so have no such network; in {where}; pass variant=, or dialect= (resnets reads "
        "any network of ours)"
    )


def _ambiguous(family: str, known: dict[str, Any], left: dict[str, tuple[Any, ...]], where: str) -> AmbiguousError:
    """The readings that remain, by name where they have one."""
    choices = {name: values for name, values in left.items() if values}
    names: list[str] = []
    for values in product(*choices.values()):
        reading = dict(zip(choices, values, strict=True))
        try:
            name = name_of(_config(family, known | reading))
        except ConfigError:
            continue
        names += [name] if name else []
    asked = " and ".join(f"{name}= ({' or '.join(map(repr, v)) or 'a number'})" for name, v in left.items())
    fits = f", such as {' or '.join(names)}" if names else ""
    return AmbiguousError(f"the tensors fit more than one network{fits}; in {where}; say variant=, or {asked}")
