"""Building networks by name or config, with initial or pretrained weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import get_config, name_of
from resnets.errors import ConfigError, WeightsError
from resnets.nn.model import FeatureExtractor, Network, build_model
from resnets.weights.adapt import Inflate, adapt, plain_config
from resnets.weights.open import open_model
from resnets.weights.registry import best_weights, get_weights
from resnets.weights.resolve import Reference, resolve

__all__ = ["create_model"]

LOG = logging.getLogger("resnets.weights")

# Fields that change what the same tensors compute: they differ from the weights' only if the caller passes them.
EXPLICIT_FIELDS = frozenset({"output_stride", "dilation_rule", "last_stride", "norm", "global_pool", "pool_window"})


def create_model(
    name_or_config: str | NetworkConfig,
    *,
    pretrained: bool | str | Path | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    inflate: Inflate = "auto",
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    output_stride: int | None = None,
    **overrides: Any,
) -> Network | FeatureExtractor:
    """Build a network, in training mode.

    Weights may be of a plainer network than the requested one: other input channels, another head, without instance
    norms or attention. `weights/adapt.py` has the rules; what was split, summed, started fresh or left out is logged.

    Args:
        name_or_config: a name that `list_models` returns, a CIFAR network of any depth, or a config. A name that
            `list_pretrained` returns (`resnet50.tv_in1k`) is its network, with initial weights as in timm, and
            `pretrained=True` then means these weights.
        pretrained: a model reference with weights: `starter`, named weights (`resnet50.tv_in1k`), a weights file, a
            model folder or a run folder; `True` for the named weights of this network with the highest top-1.
        num_classes: number of logits; 0 outputs embeddings; `None` takes the weights', or else the config's. Another
            number than the weights' gives a fresh classifier.
        in_chans: input channels; `None` takes the weights', or else the config's.
        inflate: how the first convolution is adapted to another number of channels: `sum`, `repeat`, or `auto`,
            which sums for one channel and repeats for more.
        features_only: return a `FeatureExtractor`, which outputs a list of feature maps instead of logits.
        out_indices: which feature maps (see `Network.forward_intermediates`), with `features_only`.
        output_stride: input pixels per cell of the last feature map; `None` takes the config's.
        **overrides: config fields.

    Returns:
        The network, or with `features_only` its extractor.

    Raises:
        UnknownNameError: an unknown name or option; the nearest are listed.
        ConfigError: options that contradict each other.
        WeightsError: weights that cannot be read, or are of another network.
    """
    if out_indices is not None and not features_only:
        raise ConfigError(f"out_indices selects feature maps; got {list(out_indices)}; pass features_only=True")
    options = {"num_classes": num_classes, "in_chans": in_chans, "output_stride": output_stride}
    given = overrides | {name: value for name, value in options.items() if value is not None}
    if name_or_config == "starter":
        raise ConfigError(
            "create_model takes the name of a network; got 'starter', a model; call load('starter'), or "
            "create_model('resnet20_cifar', pretrained='starter')"
        )
    if isinstance(name_or_config, str) and "." in name_or_config:
        weights = get_weights(name_or_config)
        name_or_config, pretrained = weights.variant, weights.name if pretrained is True else pretrained
    base = get_config(name_or_config) if isinstance(name_or_config, str) else name_or_config
    config = base.with_overrides(**given)
    if pretrained is None or pretrained is False:
        model = build_model(config)
    else:
        reference = resolve(_best_weights(name_or_config) if pretrained is True else pretrained)
        model = _with_weights(config, reference, frozenset(given) | _explicit_fields(name_or_config), inflate)
    return FeatureExtractor(model, out_indices) if features_only else model


def _explicit_fields(name_or_config: str | NetworkConfig) -> frozenset[str]:
    """Fields that a caller's config determines: sizes, and whatever is not the default; none for a name."""
    if isinstance(name_or_config, str):
        return frozenset()
    default = type(name_or_config)()
    changed = {f.name for f in fields(default) if getattr(name_or_config, f.name) != getattr(default, f.name)}
    return frozenset(changed) | {"num_classes", "in_chans"}


def _best_weights(name_or_config: str | NetworkConfig) -> str:
    """The named weights that `pretrained=True` selects."""
    name = name_or_config if isinstance(name_or_config, str) else name_of(name_or_config)
    best = best_weights(name) if name else None
    if best is None:
        raise WeightsError(
            f"pretrained requires weights; got True, and none are published for {name or 'this config'}; pass "
            "'starter' (resnet20_cifar), a weights file or a model folder"
        )
    LOG.info("pretrained=True: %s (top-1 %s %%, %s)", best.name, best.top1, best.license)
    return best.name


def _with_weights(config: NetworkConfig, reference: Reference, explicit: frozenset[str], inflate: Inflate) -> Network:
    if reference.kind == "variant":
        raise WeightsError(
            f"pretrained requires weights; {reference.text} is a network's name; pass True for its published weights, "
            "'starter', a weights file or a folder"
        )
    source = _read_file(reference, config) if reference.kind == "file" else open_model(reference).model
    has = source.config
    sizes = {name: getattr(has, name) for name in ("num_classes", "in_chans") if name not in explicit}
    fixed = EXPLICIT_FIELDS - explicit
    if config.global_pool == "none":  # outputs a feature map, whatever head the weights have
        sizes["num_classes"] = 0
        fixed -= {"global_pool"}
    requested = replace(config, **sizes)
    if requested == has:
        return source.train()
    model, report = adapt(source, requested, inflate=inflate, where=reference.text, fixed=fixed)
    if report.notes:
        LOG.info("%s", report)
    return model.train()


def _read_file(reference: Reference, config: NetworkConfig) -> Network:
    """The network of a weights file, read as the requested one, or as the plain one that `adapt` extends to it."""
    bare = replace(config, num_classes=0, global_pool="avg")  # the file's tensors determine the classes
    try:
        return open_model(reference, variant=bare).model
    except WeightsError:
        plain = plain_config(bare)
        if plain == bare:
            raise
        try:
            return open_model(reference, variant=plain).model
        except WeightsError:
            pass
        raise  # the error about the requested network is the more useful one
