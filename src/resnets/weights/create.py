"""Networks by name, fresh or with weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import get_config
from resnets.errors import ConfigError, WeightsError
from resnets.nn.model import FeatureExtractor, Network, build_model
from resnets.weights.bundle import read_folder
from resnets.weights.load import import_weights
from resnets.weights.reference import resolve
from resnets.weights.strict import fill

__all__ = ["create_model"]

LOG = logging.getLogger("resnets.weights")

# Fields that leave every tensor as it is and concern training alone.
TRAINING = frozenset({"drop_rate", "drop_path_rate", "zero_init_last", "img_size", "norm_momentum"})
# Fields that change what the same tensors compute, and that people change on purpose: only when they say so.
GEOMETRY = frozenset({"output_stride", "last_stride", "norm", "global_pool"})


def create_model(
    name_or_config: str | NetworkConfig,
    *,
    pretrained: bool | str | Path | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    output_stride: int | None = None,
    **overrides: Any,
) -> Network | FeatureExtractor:
    """A network, in training mode as torch builds things.

    Args:
        name_or_config: a name that `list_models` knows, a CIFAR network of any depth, or a description.
        pretrained: a model reference with weights: `starter`, a weights file, a model folder or a run folder.
        num_classes: logits; 0 answers embeddings; `None` what the weights have, or else the description. Another
            number than the weights' gives a fresh classifier, which is logged.
        in_chans: channels of the input; `None` what the weights have, or else the description.
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
    if pretrained is True:
        raise WeightsError(
            f"pretrained names its weights; got True, and no weights are published for {name_or_config!r} here; "
            "pass 'starter' (resnet20_cifar), a weights file or a model folder"
        )
    if pretrained is None or pretrained is False:
        model = build_model(config)
    else:
        asked = frozenset(given) | _said(name_or_config)
        model = _with_weights(config, pretrained, asked)
    return FeatureExtractor(model, out_indices) if features_only else model


def _said(name_or_config: str | NetworkConfig) -> frozenset[str]:
    """The fields that a caller stated: with a description, sizes, and whatever is not its default."""
    if isinstance(name_or_config, str):
        return frozenset()
    default = type(name_or_config)()
    changed = {f.name for f in fields(default) if getattr(name_or_config, f.name) != getattr(default, f.name)}
    return frozenset(changed) | {"num_classes", "in_chans"}


def _with_weights(config: NetworkConfig, reference: str | Path, asked: frozenset[str]) -> Network:
    found = resolve(reference)
    if found.path is None:
        raise WeightsError(
            f"pretrained needs weights; {found.text} is a network's name; pass 'starter', a weights file or a folder"
        )
    if found.kind == "file":
        bare = replace(config, num_classes=0, global_pool="avg")  # classes are seen from the file's tensors
        source, _ = import_weights(found.path, variant=bare)
    else:
        source = read_folder(found.path).model
    has = source.config
    sizes = {name: getattr(has, name) for name in ("num_classes", "in_chans") if name not in asked}
    wanted = replace(config, **sizes)
    _check_same(wanted, has, asked, found.text)
    pool = has.global_pool if wanted.global_pool == "none" else wanted.global_pool
    model = _moved(source, wanted.with_overrides(num_classes=has.num_classes, global_pool=pool), found.text)
    if (wanted.num_classes, wanted.global_pool) != (model.num_classes, pool):
        model.reset_classifier(wanted.num_classes, wanted.global_pool)
        if wanted.num_classes:
            LOG.info(
                "%s has %d classes, %d are wanted: the classifier starts fresh",
                found.text,
                has.num_classes,
                wanted.num_classes,
            )
    return model.train()


def _check_same(wanted: NetworkConfig, has: NetworkConfig, asked: frozenset[str], reference: str) -> None:
    """What the weights were made for is what is built, but for what may change."""
    may_change = TRAINING | {"num_classes"} | (GEOMETRY & asked)
    differing = [
        f"{f.name} {getattr(wanted, f.name)} for {getattr(has, f.name)}"
        for f in fields(has)
        if f.name not in may_change and getattr(wanted, f.name) != getattr(has, f.name)
    ]
    if differing:
        raise WeightsError(
            f"the weights must be of the network that is built; {reference} differs in {', '.join(differing)}; "
            "name the network that they belong to, or pass what should change"
        )


def _moved(source: Network, config: NetworkConfig, reference: str) -> Network:
    """The tensors of `source` in a network of `config`, which has them all under the same names."""
    if config == source.config:
        return source
    model = build_model(config, init=False)
    held, expected = source.state_dict(), model.state_dict()
    counters = {name for name in {*held} ^ {*expected} if name.endswith(".num_batches_tracked")}
    tensors = {name: tensor for name, tensor in held.items() if name not in counters}
    tensors |= {name: torch.tensor(0) for name in counters if name in expected}  # frozen norms count no steps
    fill(model, tensors, reference)
    return model
