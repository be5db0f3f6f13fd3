"""Identification of a weights file: which dialect its names follow, and which network its tensors are of.

Inputs are names and shapes alone. If several networks fit, the error lists the options that decide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import product
from typing import Any

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import FAMILIES, NetworkConfig
from resnets.arch.variants import get_config, name_of
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError, WeightsError
from resnets.weights.detect_config import DetectedConfig, detect_config
from resnets.weights.dialects import Dialect, get_dialect, matching_dialects
from resnets.weights.dialects.axes import Shapes, torch_shape
from resnets.weights.head import find_head
from resnets.weights.slots import TRAINING_ONLY

__all__ = ["Identification", "identify"]

# Fields in which codebases differ under one variant name.
BLOCK_DETAILS = (
    "se_form",
    "attention_reduction",
    "attention_round",
    "conv_bias",
    "shortcut",
    "shortcut_kernel",
    "shortcut_norm",
)
# Paths of a classifier that are none of ours in a network with `layer1`: `fc.1`, `head`, `classifier.0`.
OTHER_HEAD = re.compile(r"(?:fc\.\w+|classifier|head|last_linear|linear|output)(?:\.\w+)*\.(?:weight|bias)")
FEATURE_MAP = {"num_classes": 0, "global_pool": "none"}  # of a network that outputs its last map


class UnsupportedNetworkError(WeightsError):
    """Tensors of a network that a dialect's codebase does not have."""


@dataclass(frozen=True, kw_only=True)
class Identification:
    """Dialect and network of a set of tensors.

    Args:
        dialect: whose naming they follow.
        keys: our key for each name that the dialect has.
        config: the network.
        assumed: config fields that neither tensors nor the caller determine.
        headless: whether the network was requested without its classifier.
    """

    dialect: Dialect
    keys: dict[str, str]
    config: NetworkConfig
    assumed: dict[str, Any]
    headless: bool = False


def identify(
    shapes: Shapes,
    dialect: str,
    variant: str | NetworkConfig,
    options: Mapping[str, Any],
    where: str,
    facts: Mapping[str, Any] | None = None,
) -> Identification:
    """Identify the network of a set of tensors.

    Args:
        shapes: by the file's names, in its axis order.
        dialect: a name, or `auto`: all that match, provided that they agree on the network.
        variant: a name or config, or `auto`: detected from the tensors.
        options: in the dialect's spelling.
        where: the file, for messages.
        facts: config fields that the file states besides its tensors; they override the dialect's defaults and the
            variant's fields.
    """
    if dialect == "timm" and isinstance(variant, str) and variant.startswith("legacy_"):
        dialect = "cadene"  # timm's `senet.py` has its names
    sources = _Sources(shapes=shapes, options=options, where=where, facts=dict(facts or {}))
    if dialect != "auto":
        return _identify(get_dialect(dialect), variant, sources, requested=True)
    found, errors = list[Identification](), list[Exception]()
    for candidate in matching_dialects(shapes, where):
        try:
            found.append(_identify(candidate, variant, sources, requested=False))
        except (UnsupportedNetworkError, ConfigError) as error:
            errors.append(error)
    if not found:
        raise _no_dialect(errors, where)
    differing = [other for other in found if other.config != found[0].config]
    if differing and variant == "auto":
        one, other = found[0], differing[0]
        names = [name for name, value in vars(one.config).items() if vars(other.config).get(name) != value]
        both = " and ".join(
            f"{each.dialect.name} ({', '.join(f'{name}={vars(each.config).get(name)!r}' for name in names)})"
            for each in (one, other)
        )
        raise WeightsError(f"the keys must be of one dialect; in {where} they read as {both}; pass dialect=")
    return found[0]


@dataclass(frozen=True, kw_only=True)
class _Sources:
    """What is known of a network besides dialect and variant; arguments of `identify`."""

    shapes: Shapes
    options: Mapping[str, Any]
    where: str
    facts: dict[str, Any] = field(default_factory=dict)


def _identify(dialect: Dialect, variant: str | NetworkConfig, sources: _Sources, *, requested: bool) -> Identification:
    keys, ours = _our_shapes(dialect, sources)
    changes = dialect.translate_options(sources.options, sources.shapes)
    if changes.get("global_pool") == "none" and not dialect.classifies_cells(sources.shapes):
        changes.setdefault("num_classes", 0)
    if not dialect.has_classifier:
        changes = FEATURE_MAP | changes
    if variant == "auto":
        config, assumed = _from_tensors(dialect, ours, changes, sources)
    else:
        config, assumed = _from_variant(dialect, variant, ours, changes, sources, requested=requested)
    if isinstance(config, VGGConfig) and dialect.name == "timm" and sources.options.get("global_pool") == "":
        raise ConfigError(
            "timm's VGG without global_pool returns the map behind its hidden layers, which no network here does; got "
            "global_pool=''; pass features_only=True for feature maps"
        )
    headless = changes.get("num_classes") == 0
    return Identification(dialect=dialect, keys=keys, config=config, assumed=assumed, headless=headless)


def _our_shapes(dialect: Dialect, sources: _Sources) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """The file's names to our keys, and shapes by our keys; names that the dialect lacks keep their spelling."""
    keys = dialect.our_keys(sources.shapes)
    keys |= _head(dialect, keys, sources.shapes)
    ours: dict[str, tuple[int, ...]] = {}
    for name, shape in sources.shapes.items():
        key = keys.get(name, name)
        if key in ours:
            twice = [other for other in sources.shapes if keys.get(other, other) == key]
            raise WeightsError(
                f"each tensor has one place; {sources.where} has {' and '.join(twice)} for {key}; drop one, or pass "
                "dialect="
            )
        ours[key] = torch_shape(key, shape, dialect.layout)
    return keys, ours


def _head(dialect: Dialect, keys: Mapping[str, str], shapes: Shapes) -> dict[str, str]:
    """The classifier under a name that the dialect lacks; tables that keep names know it, but as no layer of ours."""
    foreign = {name for name in shapes if name not in keys or OTHER_HEAD.fullmatch(keys[name])}
    ours = {keys[name]: torch_shape(keys[name], shapes[name], dialect.layout) for name in keys.keys() - foreign}
    others = {
        name: torch_shape("fc.weight" if len(shapes[name]) == 2 else name, shapes[name], dialect.layout)
        for name in foreign
    }
    return find_head(ours, others)


def _from_tensors(
    dialect: Dialect, ours: Shapes, changes: dict[str, Any], sources: _Sources
) -> tuple[NetworkConfig, dict[str, Any]]:
    """The network as a dialect reads it off tensors, and the fields that it assumes."""
    detected = detect_config(ours, sources.where)
    own = {field.name for field in fields(FAMILIES[detected.family])}
    stated = {name: value for name, value in (sources.facts | changes).items() if name in own or name in changes}
    defaults = _defaults(dialect, detected, sources.where)
    known, assumed, left = detected.likely | detected.fields, dict[str, Any](), dict[str, tuple[Any, ...]]()
    for name, values in detected.ambiguous.items():
        if name in stated:
            continue
        if name in defaults and (not values or defaults[name] in values):
            assumed[name] = defaults[name]
        elif len(values) == 1:
            known[name] = values[0]
        elif name not in detected.likely:
            left[name] = values
    unseen = own - detected.fields.keys() - detected.ambiguous.keys() - stated.keys()
    assumed |= {name: value for name, value in defaults.items() if name in unseen}
    known |= assumed | stated
    if left:
        raise _ambiguous(detected.family, known, left, sources.where)
    config = FAMILIES[detected.family]().with_overrides(**known)
    determined = detected.fields.keys() - detected.ambiguous.keys() - dialect.unseen(detected.fields)
    determined |= stated.keys() | TRAINING_ONLY | config.inert
    return config, {name: getattr(config, name) for name in (*assumed, *sorted(own)) if name not in determined}


def _from_variant(
    dialect: Dialect,
    variant: str | NetworkConfig,
    ours: Shapes,
    changes: dict[str, Any],
    sources: _Sources,
    *,
    requested: bool,
) -> tuple[NetworkConfig, dict[str, Any]]:
    """The network of a name or config, with the classes and input channels of the tensors.

    A name means the network of the codebase that introduced it (`variants.py`); where the caller `requested` the
    dialect, what that codebase means by it.
    """
    if requested and isinstance(variant, str):
        if variant in dialect.unsupported:
            raise ConfigError(f"{dialect.name}'s {variant} cannot be built here: {dialect.unsupported[variant]}")
        variant = dialect.networks.get(variant, variant)
    config = variant if isinstance(variant, NetworkConfig) else get_config(variant)
    own = {field.name for field in fields(config)}
    stated = {name: value for name, value in sources.facts.items() if name in own} | _sizes(ours) | changes
    if not isinstance(variant, str):
        return config.with_overrides(**stated), {}
    by_dialect = _meaning_of_variant(dialect, variant, config, ours, sources.where)
    by_dialect = {name: value for name, value in by_dialect.items() if name not in stated}
    found = config.with_overrides(**(by_dialect if requested else {}) | stated)
    # The fields in which the name and the dialect differ: whichever was taken, the other may be meant.
    return found, {name: getattr(found, name) for name, value in by_dialect.items() if getattr(config, name) != value}


def _defaults(dialect: Dialect, detected: DetectedConfig, where: str) -> dict[str, Any]:
    inferred = dialect.infer_defaults(detected.fields)
    if inferred is None:
        raise UnsupportedNetworkError(
            f"{dialect.name} has no such network ({dialect.description}); in {where}; pass another dialect, or "
            "dialect='auto'"
        )
    defaults = {**dialect.defaults, **inferred}
    if detected.fields.get("block") == "basic":
        defaults.pop("stride_in", None)  # concerns bottlenecks alone
    return defaults


def _meaning_of_variant(
    dialect: Dialect, variant: str, config: NetworkConfig, ours: Shapes, where: str
) -> dict[str, Any]:
    """Fields in which a dialect's network of that name differs: its defaults, and details that its tensors show."""
    try:
        detected = detect_config(ours, where)
    except WeightsError:  # strict filling reports these tensors against the named network
        return {}
    own = {field.name for field in fields(config)}
    if FAMILIES[detected.family] is not type(config):
        return {}
    default, overrides_all = type(config)(), re.fullmatch(dialect.variants, variant) is not None
    settled = {
        name: value
        for name, value in _defaults(dialect, detected, where).items()
        if name in own and (overrides_all or getattr(config, name) == getattr(default, name))
    }
    shown = {name: detected.fields[name] for name in BLOCK_DETAILS if name in detected.fields and name in own}
    if isinstance(config, ResNetConfig) and config.attention != detected.fields["attention"]:
        shown = {name: value for name, value in shown.items() if name.startswith(("conv", "shortcut"))}
    for name, values in detected.ambiguous.items():  # of a default, only what fits the tensors
        if name in settled and values and settled[name] not in values:
            del settled[name]
        likely = name in BLOCK_DETAILS and name in detected.likely and name not in settled
        if likely and getattr(config, name) not in values:
            shown[name] = detected.likely[name]
    return {name: value for name, value in settled.items() if name not in detected.fields} | shown


def _sizes(ours: Shapes) -> dict[str, int]:
    """Input channels and classes, where the tensors have them."""
    sizes = {}
    for stem in ("conv1.weight", "conv1.0.weight", "features.0.weight"):
        if len(ours.get(stem, ())) == 4:
            sizes["in_chans"] = ours[stem][1]
    last = "classifier.6.weight" if "features.0.weight" in ours else "fc.weight"
    sizes["num_classes"] = ours[last][0] if len(ours.get(last, ())) == 2 else 0
    return sizes


def _no_dialect(errors: list[Exception], where: str) -> Exception:
    """The error where no dialect reads the tensors: a wrong option, or a network that none of the dialects has."""
    wrong = [error for error in errors if not isinstance(error, UnsupportedNetworkError)]
    if wrong or len(errors) == 1:
        return (wrong or errors)[0]
    return UnsupportedNetworkError(
        f"the codebases with such keys have no such network; in {where}; pass the network as variant= (--variant), or "
        "rename the keys with a key map (--map)"
    )


def _ambiguous(family: str, known: dict[str, Any], left: dict[str, tuple[Any, ...]], where: str) -> WeightsError:
    """The networks that remain, by name where they have one, and the options that decide between them."""
    choices = {name: values for name, values in left.items() if values}
    names: list[str] = []
    for values in product(*choices.values()):
        try:
            name = name_of(FAMILIES[family]().with_overrides(**known | dict(zip(choices, values, strict=True))))
        except ConfigError:
            continue
        names += [name] if name else []
    options = " and ".join(f"{name}= ({' or '.join(map(repr, v)) or 'a number'})" for name, v in left.items())
    fits = f", such as {' or '.join(names)}" if names else ""
    first = next(iter(left))
    return WeightsError(
        f"the tensors fit more than one network{fits}; in {where}; pass variant=, or {options} (on the command line "
        f"--variant NAME, or --set {first}=...)"
    )
