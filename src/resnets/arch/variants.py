"""Named networks. A name is a key of this table, or follows the rule of CIFAR networks, and never drives behaviour."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError, UnknownNameError

__all__ = ["VARIANTS", "cifar_config", "get_config", "list_models", "matching", "name_of"]

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


def cifar_config(depth: int, **overrides: Any) -> ResNetConfig:
    """CIFAR network (He et al. 2015, section 4.2): three stages of n blocks, 6n+2 layers, or 9n+2 with bottlenecks."""
    layers = 9 if overrides.get("block") == "bottleneck" else 6
    blocks, rest = divmod(depth - 2, layers)
    if rest or blocks < 1:
        below, above = layers * max(blocks, 1) + 2, layers * (max(blocks, 0) + 1) + 2
        near = f"nearest are {below} and {above}" if below != above else f"the minimum is {below}"
        raise ConfigError(f"CIFAR depth must be {layers}n+2; got {depth}; {near}")
    return replace(CIFAR, depths=(blocks,) * 3, **overrides)


# timm's ResNet-D: three 3x3 in the stem, average pool before a projection (He et al. 2019)
D = {"stem": "deep", "shortcut": "D"}
# IBN-Net (Pan et al. 2018)
IBN_A = {"ibn": ("a", "a", "a", "")}
IBN_B = {"ibn": ("b", "b", "", "")}
# Squeeze and excitation: timm's, that of IBN-Net and re-identification, Caffe's
SE = {"attention": "se", "attention_round": 8}
SE_LINEAR = {"attention": "se", "se_form": "linear"}
SE_CAFFE = {"attention": "se", "stem_pool": "max_ceil"}
# TF-slim: the last block of a stage strides, SAME pool, strided identity
SLIM = {"stride_unit": "last", "stem_pool": "max_same", "shortcut": "subsample"}
# keras.applications
KERAS = {"conv_bias": "all", "norm_eps": 1.001e-5, "stride_in": "1x1", "stem_pool": "max_zero"}
KERAS_V2 = {
    "pre_activation": True,
    "conv_bias": "unnormed",
    "norm_eps": 1.001e-5,
    "stride_unit": "last",
    "shortcut": "subsample",
    "stem_pool": "max_zero",
}
# Big Transfer (Kolesnikov et al. 2020)
BIT = {"pre_activation": True, "norm": "group", "standardised": True, "stem_pool": "max_zero"}


VGG_DEPTHS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}


def _with(base: ResNetConfig, *traits: dict[str, Any], **fields: Any) -> ResNetConfig:
    for trait in traits:
        fields = trait | fields
    return replace(base, **fields)


def _wide(base: ResNetConfig, factor: int) -> ResNetConfig:
    return _with(base, BIT, stem_width=64 * factor, widths=tuple(width * factor for width in base.widths))


DEPTHS = {"18": R18, "34": R34, "50": R50, "101": R101, "152": R152}
DEEP = {depth: DEPTHS[depth] for depth in ("50", "101", "152")}

VARIANTS: dict[str, NetworkConfig] = {
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
    "resnext101_32x4d": replace(R101, groups=32, group_width=4),
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
    # ResNet-D, and timm's tiered stem
    **{f"resnet{depth}d": _with(base, D) for depth, base in DEPTHS.items()},
    "resnet50t": _with(R50, D, stem="tiered"),
    # attention
    **{f"seresnet{depth}": _with(base, SE) for depth, base in DEPTHS.items()},
    "seresnext50_32x4d": _with(R50, SE, groups=32, group_width=4),
    "seresnext101_32x4d": _with(R101, SE, groups=32, group_width=4),
    "seresnext101_32x8d": _with(R101, SE, groups=32, group_width=8),
    "ecaresnet50t": _with(R50, D, stem="tiered", attention="eca"),
    "ecaresnet50d": _with(R50, D, attention="eca"),
    "ecaresnet101d": _with(R101, D, attention="eca"),
    "cbamresnet50": replace(R50, attention="cbam"),
    # Caffe's, as Cadene's: SE-ResNets stride in the first 1x1, SE-ResNeXts and SENet-154 in the 3x3
    **{f"se_resnet{depth}": _with(base, SE_CAFFE, stride_in="1x1") for depth, base in DEEP.items()},
    "se_resnext50_32x4d": _with(R50, SE_CAFFE, groups=32, group_width=4),
    "se_resnext101_32x4d": _with(R101, SE_CAFFE, groups=32, group_width=4),
    "senet154": _with(
        R152,
        SE_CAFFE,
        groups=64,
        group_width=4,
        reduce_first=2,
        stem="deep",
        stem_width=128,
        shortcut_kernel=3,
        drop_rate=0.2,
    ),
    # anti-aliased; other norms
    "resnetblur50": replace(R50, antialias=True),
    "resnet50_gn": replace(R50, norm="group"),
    # instance norm
    **{f"resnet{depth}_ibn_a": _with(base, IBN_A) for depth, base in DEPTHS.items()},
    **{f"resnet{depth}_ibn_b": _with(base, IBN_B) for depth, base in DEPTHS.items()},
    "resnext50_ibn_a": _with(R50, IBN_A, groups=32, group_width=4),
    "resnext101_ibn_a": _with(R101, IBN_A, groups=32, group_width=4),
    **{f"se_resnet{depth}_ibn_a": _with(base, IBN_A, SE_LINEAR) for depth, base in DEEP.items()},
    # TF-slim
    **{f"resnet_v1_{depth}": _with(base, SLIM) for depth, base in DEEP.items()},
    **{
        f"resnet_v2_{depth}": _with(base, SLIM, pre_activation=True, conv_bias="unnormed", num_classes=1001)
        for depth, base in DEEP.items()
    },
    # keras.applications
    **{f"keras_resnet{depth}": _with(base, KERAS) for depth, base in DEEP.items()},
    **{f"keras_resnet{depth}v2": _with(base, KERAS_V2) for depth, base in DEEP.items()},
    # BiT, of one and three times the width
    "resnetv2_50x1_bit": _with(R50, BIT),
    "resnetv2_101x1_bit": _with(R101, BIT),
    "resnetv2_50x3_bit": _wide(R50, 3),
    # Simonyan and Zisserman 2014
    **{
        name + suffix: replace(norm, depths=depths)
        for suffix, norm in (("", VGGConfig()), ("_bn", VGGConfig(norm="batch")))
        for name, depths in VGG_DEPTHS.items()
    },
    # CIFAR networks: any other depth follows the same names
    **{f"resnet{depth}_cifar": cifar_config(depth) for depth in (20, 32, 44, 56, 110, 1202)},
    **{f"resnetv2_{depth}_cifar": cifar_config(depth, pre_activation=True) for depth in (20, 32, 44, 56, 110)},
    **{
        f"resnetv2_{depth}_bottleneck_cifar": cifar_config(depth, block="bottleneck", pre_activation=True, shortcut="B")
        for depth in (164, 1001)
    },
    **{f"plain{depth}_cifar": cifar_config(depth, shortcut="none") for depth in (20, 32, 44, 56)},
}

_RULE = re.compile(r"(?P<family>resnetv2_|resnet|plain)(?P<depth>\d+)(?P<bottleneck>_bottleneck)?_cifar")
_FAMILIES: dict[str, dict[str, Any]] = {
    "resnet": {},
    "resnetv2_": {"pre_activation": True},
    "plain": {"shortcut": "none"},
}


def get_config(name: str, **overrides: Any) -> NetworkConfig:
    """Configuration of a named network, with some fields changed.

    Args:
        name: a key of `VARIANTS`, or a CIFAR network of any depth: `resnet38_cifar`, `resnetv2_29_bottleneck_cifar`.
        **overrides: fields of its configuration.

    Raises:
        UnknownNameError: an unknown network or field; the message names the nearest.
        ConfigError: an impossible depth, an invalid value, or fields that contradict each other.
    """
    config = VARIANTS.get(name)
    if config is None:
        match = _RULE.fullmatch(name)
        if match is None:
            raise UnknownNameError("model", name, VARIANTS)
        fields = dict(_FAMILIES[match["family"]])
        if match["bottleneck"]:
            fields |= {"block": "bottleneck", "shortcut": fields.get("shortcut", "B")}
        config = cifar_config(int(match["depth"]), **fields)
    return config.with_overrides(**overrides)


def list_models(pattern: str = "*") -> list[str]:
    """Names in `VARIANTS` that match a shell pattern; a pattern without wildcards matches anywhere in a name."""
    return matching(VARIANTS, pattern)


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """The names that match a shell pattern, or that contain it if it has no wildcards."""
    if not any(mark in pattern for mark in "*?["):
        pattern = f"*{pattern}*"
    return [name for name in names if fnmatch(name, pattern)]


def name_of(config: NetworkConfig) -> str | None:
    """Name of `config`, ignoring classes, input channels, image size and regularisation; `None` if it has none."""
    wanted = _key(config)
    return next((name for name in (*VARIANTS, *_by_rule(config)) if _key(get_config(name)) == wanted), None)


def _key(config: NetworkConfig) -> dict[str, Any]:
    """Type and fields, without those that names do not determine."""
    ignored = ("num_classes", "in_chans", "img_size", "drop_rate", "drop_path_rate", "zero_init_last")
    return {"": type(config)} | {field: value for field, value in vars(config).items() if field not in ignored}


def _by_rule(config: NetworkConfig) -> list[str]:
    """Possible names of a CIFAR network with these blocks."""
    if isinstance(config, VGGConfig) or len(set(config.depths)) != 1 or len(config.depths) != 3:
        return []
    layers, suffix = (9, "_bottleneck") if config.block == "bottleneck" else (6, "")
    return [f"{family}{layers * config.depths[0] + 2}{suffix}_cifar" for family in _FAMILIES]
