"""The networks that have a name. A name is a key in this table (or follows a rule below) and nothing more."""

from __future__ import annotations

import re
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

from resnets.arch.config import ResNetConfig
from resnets.errors import ConfigError, UnknownNameError

__all__ = ["VARIANTS", "get_config", "list_models", "name_of"]

R18 = ResNetConfig(block="basic", depths=(2, 2, 2, 2))
R34 = replace(R18, depths=(3, 4, 6, 3))
R50 = ResNetConfig()
R101 = replace(R50, depths=(3, 4, 23, 3))
R152 = replace(R50, depths=(3, 8, 36, 3))

CIFAR = ResNetConfig(
    block="basic",
    depths=(3, 3, 3),
    widths=(16, 32, 64),
    stem="3x3",
    stem_width=16,
    stem_pool="none",
    shortcut="A",
    num_classes=10,
    img_size=32,
)


def _cifar(depth: int, **overrides: Any) -> ResNetConfig:
    """He et al. 2015, section 4.2: three stages of n blocks; 6n+2 layers, or 9n+2 with bottlenecks."""
    layers = 9 if overrides.get("block") == "bottleneck" else 6
    blocks, rest = divmod(depth - 2, layers)
    if rest or blocks < 1:
        below, above = layers * max(blocks, 1) + 2, layers * (max(blocks, 0) + 1) + 2
        near = f"nearest are {below} and {above}" if below != above else f"the least is {below}"
        raise ConfigError(f"CIFAR depth must be {layers}n+2; got {depth}; {near}")
    return replace(CIFAR, depths=(blocks,) * 3, **overrides)


VARIANTS: dict[str, ResNetConfig] = {
    # v1.5: He et al. 2015, with a bottleneck's stride in its 3x3 as in torchvision
    "resnet18": R18,
    "resnet34": R34,
    "resnet50": R50,
    "resnet101": R101,
    "resnet152": R152,
    # v1: the stride in the first 1x1, as published
    "resnet50_v1": replace(R50, stride_in="1x1"),
    "resnet101_v1": replace(R101, stride_in="1x1"),
    "resnet152_v1": replace(R152, stride_in="1x1"),
    # Xie et al. 2017
    "resnext50_32x4d": replace(R50, groups=32, group_width=4),
    "resnext101_32x8d": replace(R101, groups=32, group_width=8),
    "resnext101_64x4d": replace(R101, groups=64, group_width=4),
    # Zagoruyko and Komodakis 2016
    "wide_resnet50_2": replace(R50, group_width=128),
    "wide_resnet101_2": replace(R101, group_width=128),
    # v2: He et al. 2016, stride in the 3x3 as in timm
    "resnetv2_18": replace(R18, pre_activation=True),
    "resnetv2_34": replace(R34, pre_activation=True),
    "resnetv2_50": replace(R50, pre_activation=True),
    "resnetv2_101": replace(R101, pre_activation=True),
    "resnetv2_152": replace(R152, pre_activation=True),
    # plain networks: He et al. 2015, without shortcuts
    "plain18": replace(R18, shortcut="none"),
    "plain34": replace(R34, shortcut="none"),
    # CIFAR networks: any other depth follows the same names
    **{f"resnet{depth}_cifar": _cifar(depth) for depth in (20, 32, 44, 56, 110, 1202)},
    **{f"resnetv2_{depth}_cifar": _cifar(depth, pre_activation=True) for depth in (20, 32, 44, 56, 110)},
    **{
        f"resnetv2_{depth}_bottleneck_cifar": _cifar(depth, block="bottleneck", pre_activation=True, shortcut="B")
        for depth in (164, 1001)
    },
    **{f"plain{depth}_cifar": _cifar(depth, shortcut="none") for depth in (20, 32, 44, 56)},
}

_RULE = re.compile(r"(?P<family>resnetv2_|resnet|plain)(?P<depth>\d+)(?P<bottleneck>_bottleneck)?_cifar")
_FAMILIES: dict[str, dict[str, Any]] = {
    "resnet": {},
    "resnetv2_": {"pre_activation": True},
    "plain": {"shortcut": "none"},
}


def get_config(name: str, **overrides: Any) -> ResNetConfig:
    """The description that `name` stands for, with some fields changed.

    Args:
        name: a key of `VARIANTS`, or a CIFAR network of any depth: `resnet38_cifar`, `resnetv2_29_bottleneck_cifar`.
        **overrides: fields of `ResNetConfig`.

    Raises:
        UnknownNameError: no such network or field.
        ConfigError: a depth that no rule makes, or fields that contradict each other.
    """
    config = VARIANTS.get(name)
    if config is None:
        match = _RULE.fullmatch(name)
        if match is None:
            raise UnknownNameError("model", name, VARIANTS)
        fields = dict(_FAMILIES[match["family"]])
        if match["bottleneck"]:
            fields |= {"block": "bottleneck", "shortcut": fields.get("shortcut", "B")}
        config = _cifar(int(match["depth"]), **fields)
    return config.with_overrides(**overrides)


def list_models(pattern: str = "*") -> list[str]:
    """The names in `VARIANTS` that match a shell pattern; a pattern without wildcards matches anywhere."""
    if not any(mark in pattern for mark in "*?["):
        pattern = f"*{pattern}*"
    return [name for name in VARIANTS if fnmatch(name, pattern)]


def name_of(config: ResNetConfig) -> str | None:
    """The variant that `config` is, but for classes, input channels and regularisation; `None` if it has no name."""
    free = ("num_classes", "in_chans", "img_size", "drop_rate", "drop_path_rate", "zero_init_last")
    for name, variant in VARIANTS.items():
        if replace(config, **{field: getattr(variant, field) for field in free}) == variant:
            return name
    return None
