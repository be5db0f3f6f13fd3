"""Networks by name, fresh or with weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import get_config, name_of
from resnets.errors import ConfigError, WeightsError
from resnets.nn.model import FeatureExtractor, Network, build_model
from resnets.weights.adapt import ATTENTION, Inflate, adapt
from resnets.weights.load import import_weights
from resnets.weights.registry import best_weights
from resnets.weights.resolve import load_named, open_folder, resolve

__all__ = ["create_model"]

LOG = logging.getLogger("resnets.weights")

# Fields that change what the same tensors compute, and that people change on purpose: only when they say so.
GEOMETRY = frozenset({"output_stride", "dilation_rule", "last_stride", "norm", "global_pool", "pool_window"})


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
    """A network, in training mode as torch builds things.

    Weights may be of a plainer network than the one that is built: other input channels, another head, instance
    norms or attention on top. `adapt` has the rules; what was split, summed, started fresh or left out is logged.

    Args:
        name_or_config: a name that `list_models` knows, a CIFAR network of any depth, or a description.
        pretrained: a model reference with weights: `starter`, named weights (`resnet50.tv_in1k`), a weights file, a
            model folder or a run folder; `True` for the named weights of this network with the highest top-1.
        num_classes: logits; 0 answers embeddings; `None` what the weights have, or else the description. Another
            number than the weights' gives a fresh classifier.
        in_chans: channels of the input; `None` what the weights have, or else the description.
        inflate: how the first convolution takes another number of channels: `sum`, `repeat`, or `auto`, which sums
            for one channel and repeats for more.
        features_only: answer a list of maps instead of logits.
        out_indices: which maps (see `Network.forward_intermediates`), with `features_only`.
        output_stride: input cells per cell of the last map; `None` what the description says.
        **overrides: fields of `NetworkConfig`.

    Raises:
        UnknownNameError: an unknown name or option; the nearest are offered.
        ConfigError: options that contradict each other.
        WeightsError: weights that cannot be read, or are of another network.
    """
    if out_indices is not None and not features_only:
        raise ConfigError(f"out_indices chooses among feature maps; got {list(out_indices)}; pass features_only=True")
    options = {"num_classes": num_classes, "in_chans": in_chans, "output_stride": output_stride}
    given = overrides | {name: value for name, value in options.items() if value is not None}
    base = get_config(name_or_config) if isinstance(name_or_config, str) else name_or_config
    config = base.with_overrides(**given)
    if pretrained is None or pretrained is False:
        model = build_model(config)
    else:
        asked = frozenset(given) | _said(name_or_config)
        reference = _best(name_or_config) if pretrained is True else pretrained
        model = _with_weights(config, reference, asked, inflate)
    return FeatureExtractor(model, out_indices) if features_only else model


def _said(name_or_config: str | NetworkConfig) -> frozenset[str]:
    """The fields that a caller stated: with a description, sizes, and whatever is not its default."""
    if isinstance(name_or_config, str):
        return frozenset()
    default = type(name_or_config)()
    changed = {f.name for f in fields(default) if getattr(name_or_config, f.name) != getattr(default, f.name)}
    return frozenset(changed) | {"num_classes", "in_chans"}


def _best(name_or_config: str | NetworkConfig) -> str:
    """The named weights that `pretrained=True` stands for."""
    name = name_or_config if isinstance(name_or_config, str) else name_of(name_or_config)
    best = best_weights(name) if name else None
    if best is None:
        raise WeightsError(
            f"pretrained names its weights; got True, and no weights are published for {name or 'this description'}; "
            "pass 'starter' (resnet20_cifar), a weights file or a model folder"
        )
    LOG.info("pretrained=True: %s (top-1 %s %%, %s)", best.name, best.top1, best.license)
    return best.name


def _with_weights(
    config: NetworkConfig, reference: str | Path, asked: frozenset[str], inflate: Inflate = "auto"
) -> Network:
    found = resolve(reference)
    if found.kind == "variant":
        raise WeightsError(
            f"pretrained needs weights; {found.text} is a network's name; pass True for its published weights, "
            "'starter', a weights file or a folder"
        )
    if found.kind == "named":
        source = load_named(found.text)[0]
    elif found.path is not None and found.kind == "file":
        source = _of_file(found.path, config)
    else:
        assert found.path is not None
        source = open_folder(found.path).model
    has = source.config
    sizes = {name: getattr(has, name) for name in ("num_classes", "in_chans") if name not in asked}
    if config.global_pool == "none":  # maps: no classifier, whatever the weights have
        sizes["num_classes"] = 0
    wanted = replace(config, **sizes)
    if wanted == has:
        return source.train()
    pool = frozenset({"global_pool"}) if wanted.global_pool == "none" else frozenset()
    model, report = adapt(source, wanted, inflate=inflate, where=found.text, fixed=GEOMETRY - asked - pool)
    if report.notes:
        LOG.info("%s", report)
    return model.train()


def _of_file(path: Path, config: NetworkConfig) -> Network:
    """The network in a file that is meant for `config`: that one, or the plain one that it stems from."""
    bare = replace(config, num_classes=0, global_pool="avg")  # classes are seen from the file's tensors
    try:
        return import_weights(path, variant=bare)[0]
    except WeightsError:
        plain = _plain(bare)
        if plain == bare:
            raise
        try:
            return import_weights(path, variant=plain)[0]
        except WeightsError:
            pass
        raise  # what was wrong with the network that was asked for says more


def _plain(config: NetworkConfig) -> NetworkConfig:
    """Without instance norms, attention and frozen norms."""
    if not isinstance(config, ResNetConfig):
        return config
    default = ResNetConfig()
    fresh = {name: getattr(default, name) for name in (*ATTENTION, "ibn")}
    return replace(config, **fresh, norm="batch" if config.norm == "frozen_batch" else config.norm)
