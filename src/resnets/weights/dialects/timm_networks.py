"""What timm builds under each name of its `resnet.py`, `resnetv2.py`, `senet.py` and `vgg.py`, as our configurations.

The table is of timm 1.0.31. A name may mean another network here (`senet154`, Cadene's: its pool rounds up), so weights
of timm are read by this table, not by `arch.variants`. `scripts/parity` compares every row with timm itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import VGG_DEPTHS
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError, UnknownNameError

__all__ = ["NETWORKS", "POOLS", "UNSUPPORTED", "timm_architecture", "timm_network"]

BASIC, BOTTLENECK = ResNetConfig(block="basic"), ResNetConfig()
DEPTHS: dict[str, tuple[int, ...]] = {
    "10": (1, 1, 1, 1), "14": (1, 1, 1, 1), "18": (2, 2, 2, 2), "26": (2, 2, 2, 2), "34": (3, 4, 6, 3),
    "50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3), "200": (3, 24, 36, 3), "201": (3, 24, 36, 4),
    "269": (3, 30, 48, 8), "light": (1, 1, 11, 3),
}  # fmt: skip
RS_DEPTHS = {"270": (4, 29, 53, 4), "350": (4, 36, 72, 4), "420": (4, 44, 87, 4)}

# Endings: c deep stem, d deep stem and average pool in shortcuts, s as c but wider, t as d with a tiered stem
STEMS: dict[str, dict[str, Any]] = {
    "": {},
    "c": {"stem": "deep"},
    "d": {"stem": "deep", "shortcut": "D"},
    "s": {"stem": "deep", "stem_width": 128},
    "t": {"stem": "tiered", "shortcut": "D"},
}
SE = {"attention": "se", "attention_round": 8}
ECA = {"attention": "eca"}
BLUR = {"antialias": True}
AVERAGE = {"antialias": True, "antialias_filter": "average", "stem_pool": "avg2"}
RS = {"stem": "deep", "stem_pool": "conv", "shortcut": "D", "attention_reduction": 4, **SE}
V2 = {"pre_activation": True}
BIT = {**V2, "norm": "group", "standardised": True, "stem_pool": "max_zero"}
LEGACY = {"attention": "se", "stem_pool": "max_ceil"}  # Cadene's


def _net(depth: str, ending: str = "", *traits: dict[str, Any], **fields: Any) -> ResNetConfig:
    base = BASIC if depth in ("10", "18", "34") else BOTTLENECK
    for trait in (STEMS[ending], *traits):
        fields = trait | fields
    return replace(base, depths=DEPTHS.get(depth) or RS_DEPTHS[depth], **fields)


def _next(size: str) -> dict[str, Any]:
    """Groups and their width of a ResNeXt: `32x4d`."""
    groups, width = size.removesuffix("d").split("x")
    return {"groups": int(groups), "group_width": int(width)}


def _bit(depth: str, factor: int) -> ResNetConfig:
    return _net(depth, "", BIT, stem_width=64 * factor, widths=tuple(factor * w for w in BOTTLENECK.widths))


SENET154 = {"groups": 64, "group_width": 4, "reduce_first": 2, "stem": "deep", "stem_width": 128, "shortcut_kernel": 3}

NETWORKS: dict[str, NetworkConfig] = {
    # resnet.py
    **{f"resnet{depth}": _net(depth) for depth in ("18", "26", "34", "50", "101", "152", "200")},
    **{f"resnet{depth}c": _net(depth, "c") for depth in ("50", "101", "152")},
    **{f"resnet{depth}d": _net(depth, "d") for depth in ("18", "26", "34", "50", "101", "152", "200")},
    **{f"resnet{depth}s": _net(depth, "s") for depth in ("50", "101", "152")},
    **{f"resnet{depth}t": _net(depth, "t") for depth in ("10", "14", "26", "50")},
    "resnet50_gn": _net("50", "", norm="group"),
    "wide_resnet50_2": _net("50", group_width=128),
    "wide_resnet101_2": _net("101", group_width=128),
    "resnext50_32x4d": _net("50", "", _next("32x4d")),
    "resnext50d_32x4d": _net("50", "d", _next("32x4d")),
    **{f"resnext101_{size}": _net("101", "", _next(size)) for size in ("32x4d", "32x8d", "32x16d", "32x32d", "64x4d")},
    **{f"ecaresnet{depth}d": _net(depth, "d", ECA) for depth in ("50", "101", "200", "269")},
    "ecaresnet26t": _net("26", "t", ECA),
    "ecaresnet50t": _net("50", "t", ECA),
    "ecaresnetlight": _net("light", "", ECA, shortcut="D"),
    "ecaresnext26t_32x4d": _net("26", "t", ECA, _next("32x4d")),
    "ecaresnext50t_32x4d": _net("50", "t", ECA, _next("32x4d")),
    **{f"seresnet{depth}": _net(depth, "", SE) for depth in ("18", "34", "50", "101", "152")},
    **{f"seresnet{depth}d": _net(depth, "d", SE) for depth in ("152", "200", "269")},
    "seresnet50t": _net("50", "t", SE),
    "seresnext26d_32x4d": _net("26", "d", SE, _next("32x4d")),
    "seresnext26t_32x4d": _net("26", "t", SE, _next("32x4d")),
    "seresnext50_32x4d": _net("50", "", SE, _next("32x4d")),
    **{f"seresnext101_{size}": _net("101", "", SE, _next(size)) for size in ("32x4d", "32x8d", "64x4d")},
    "seresnext101d_32x8d": _net("101", "d", SE, _next("32x8d")),
    "senet154": _net("152", "", SE, **SENET154),
    "resnetblur18": _net("18", "", BLUR),
    "resnetblur50": _net("50", "", BLUR),
    "resnetblur50d": _net("50", "d", BLUR),
    "resnetblur101d": _net("101", "d", BLUR),
    "resnetaa34d": _net("34", "d", AVERAGE),
    "resnetaa50": _net("50", "", AVERAGE),
    "resnetaa50d": _net("50", "d", AVERAGE),
    "resnetaa101d": _net("101", "d", AVERAGE),
    "seresnetaa50d": _net("50", "d", SE, AVERAGE),
    "seresnextaa101d_32x8d": _net("101", "d", SE, AVERAGE, _next("32x8d")),
    "seresnextaa201d_32x8d": _net("201", "d", SE, AVERAGE, _next("32x8d"), stem_width=128),
    **{f"resnetrs{depth}": _net(depth, "", RS) for depth in ("50", "101", "152", "200", "270", "350", "420")},
    # resnetv2.py
    **{f"resnetv2_{depth}": _net(depth, "", V2) for depth in ("18", "34", "50", "101", "152")},
    **{f"resnetv2_{depth}d": _net(depth, "d", V2) for depth in ("18", "34", "50", "101", "152")},
    "resnetv2_50t": _net("50", "t", V2),
    "resnetv2_50d_gn": _net("50", "d", V2, norm="group"),
    **{
        f"resnetv2_{depth}x{factor}_bit": _bit(depth, factor)
        for depth, factor in (("50", 1), ("50", 3), ("101", 1), ("101", 3), ("152", 2), ("152", 4))
    },
    # senet.py
    **{f"legacy_seresnet{depth}": _net(depth, "", LEGACY, branch_act=True) for depth in ("18", "34")},
    **{f"legacy_seresnet{depth}": _net(depth, "", LEGACY, stride_in="1x1") for depth in ("50", "101", "152")},
    **{f"legacy_seresnext{depth}_32x4d": _net(depth, "", LEGACY, _next("32x4d")) for depth in ("26", "50", "101")},
    "legacy_senet154": _net("152", "", LEGACY, **SENET154),
    # vgg.py
    **{name: VGGConfig(depths=depths, drop_rate=0.0) for name, depths in VGG_DEPTHS.items()},
    **{f"{name}_bn": VGGConfig(depths=depths, norm="batch", drop_rate=0.0) for name, depths in VGG_DEPTHS.items()},
}

UNSUPPORTED: dict[str, str] = {
    "ecaresnet50d_pruned": "its blocks have pruned widths of their own",
    "ecaresnet101d_pruned": "its blocks have pruned widths of their own",
    "resnetv2_50d_evos": "its norm is EvoNorm-S0",
    "resnetv2_50d_frn": "its norm is filter response normalisation with a thresholded activation",
    "test_resnet": "its stages have blocks of different kinds",
}
"""Names of these files whose networks cannot be built here, with the reason."""


# timm's names of global pools. Ours are accepted as well: `none` is timm's empty string.
POOLS: dict[str, dict[str, Any]] = {"": {"global_pool": "none"}, "fast": {"global_pool": "avg"}}
POOLS |= {pool: {"global_pool": pool} for pool in ("none", "gem")}
POOLS |= {fast + pool: {"global_pool": pool} for pool in ("avg", "max", "avgmax", "catavgmax") for fast in ("", "fast")}


def timm_architecture(name: str) -> str:
    """The architecture in a name of timm's weights: `resnet50.a1_in1k` -> `resnet50`."""
    return name.partition(".")[0]


def timm_network(architecture: str) -> NetworkConfig:
    """What timm builds under a name, without a tag.

    Raises:
        ConfigError: a network of these files that cannot be built here; the message says why.
        UnknownNameError: no network of these files.
    """
    if architecture in UNSUPPORTED:
        raise ConfigError(
            f"timm's {architecture} cannot be built here: {UNSUPPORTED[architecture]}; use timm itself for it"
        )
    if architecture not in NETWORKS:
        raise UnknownNameError("ResNet or VGG of timm", architecture, (*NETWORKS, *UNSUPPORTED))
    return NETWORKS[architecture]
