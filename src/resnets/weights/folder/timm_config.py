"""timm's fields of `config.json`: which network it builds, how, and from which images."""

from __future__ import annotations

from typing import Any

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.nodes import Conv, walk
from resnets.arch.shapes import trace
from resnets.errors import ShapeError, WeightsError
from resnets.weights.dialects import get_dialect
from resnets.weights.dialects.timm_networks import NETWORKS, UNSUPPORTED
from resnets.weights.export import call_for, naming_dialect
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.config_json import timm_preprocessing
from resnets.weights.target import TargetCall

__all__ = ["timm_call", "timm_config_json"]

IN_PRETRAINED_CFG = ("num_classes", "in_chans")  # timm takes these from there


def timm_call(config: NetworkConfig, *, own_keys: bool = True) -> TargetCall | None:
    """How timm builds a network; None if it does not.

    Args:
        own_keys: timm's keys must be ours.
    """
    try:
        call = call_for(config, "timm")
    except WeightsError:
        return None
    if call is None or (own_keys and not (_keeps_keys(config) and not call.architecture.startswith("legacy_"))):
        return None
    return call


def _keeps_keys(config: NetworkConfig) -> bool:
    return isinstance(config, ResNetConfig) and not config.pre_activation


def timm_config_json(bundle: Bundle, call: TargetCall | None) -> dict[str, Any]:
    """timm's fields for a bundle.

    Args:
        call: how timm builds the network; without one, the architecture is a name that timm does not know, so that it
            refuses the folder.
    """
    config, preprocessing = bundle.config, bundle.preprocessing
    paths = naming_dialect(get_dialect("timm"), call).key_map(bundle.model.plan) if call else {}
    first = next(path for path, node in walk(bundle.model.plan) if isinstance(node, Conv))
    classifier = "fc" if isinstance(config, ResNetConfig) else "classifier.6"
    arguments = {} if call is None else call.arguments
    return {
        "architecture": _unknown_to_timm(bundle.name) if call is None else call.architecture,
        "num_classes": config.num_classes,
        "num_features": bundle.model.num_features,
        "global_pool": "" if config.global_pool == "none" else config.global_pool,  # timm's word for no pooling
        "label_names": list(bundle.classes),
        "model_args": {name: value for name, value in arguments.items() if name not in IN_PRETRAINED_CFG},
        "pretrained_cfg": {
            **timm_preprocessing(preprocessing),
            "num_classes": config.num_classes,
            "pool_size": _pool_size(bundle),
            "first_conv": _module(paths, first),
            "classifier": _module(paths, classifier),
            "license": bundle.license,
        },
    }


def _unknown_to_timm(name: str) -> str:
    return f"resnets_{name}" if name in NETWORKS or name in UNSUPPORTED else name


def _module(paths: dict[str, str], path: str) -> str:
    """timm's path of a module."""
    return paths.get(f"{path}.weight", f"{path}.weight").removesuffix(".weight")


def _pool_size(bundle: Bundle) -> list[int] | None:
    """(H, W) of the feature map before the head; `None` for an input that is too small for the network."""
    try:
        records = trace(bundle.model.plan, (bundle.config.in_chans, *bundle.preprocessing.size))
    except ShapeError:
        return None
    return list(next(record.source.shape[1:] for record in records if record.path == "avgpool"))
