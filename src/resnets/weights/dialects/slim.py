"""TF-slim's resnet_v1 and resnet_v2: `resnet_v2_50/block1/unit_1/bottleneck_v2/conv1/weights`.

The last unit of a stage strides (in its 3x3), a shortcut that keeps its channels takes every other cell, the first
pool is SAME and the convolutions that stride are padded as torch pads them (`conv2d_same`). Logits are a 1x1
convolution. With `output_stride` the unit that would stride keeps the rate before it, as torchvision's does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from resnets.arch.aliases import shape_of, slim_points
from resnets.arch.nodes import Chain, Node
from resnets.errors import ConfigError
from resnets.weights.dialects.axes import Shapes
from resnets.weights.dialects.base import Dialect
from resnets.weights.dialects.keras import INCEPTION
from resnets.weights.dialects.tf_names import SLIM_ROLES, key_table, renamed_by, variables

__all__ = ["SLIM"]

UNIT = re.compile(
    r"(?:.*/)?block(\d{1,4})/unit_(\d{1,4})/bottleneck_v[12]/(?:(preact)|(shortcut)|conv([1-3]))(/BatchNorm)?"
)
STEM = re.compile(r"(?:.*/)?(conv1|logits|postnorm)(/BatchNorm)?")
VGG = {"value_range": (0, 255), "mean": (123.68, 116.78, 103.94), "std": (1, 1, 1)}


def _rename(shapes: Shapes) -> dict[str, str | None]:
    pre_activation = any("/preact/" in name for name in shapes)

    def path_of(layer: str) -> str | None:
        if match := UNIT.fullmatch(layer):
            path = f"layer{match[1]}.{int(match[2]) - 1}"
            if match[3]:
                return f"{path}.bn1"
            if match[4]:
                return f"{path}.downsample.{1 if match[6] else 0}"
            number = int(match[5])
            return f"{path}.bn{number + pre_activation}" if match[6] else f"{path}.conv{number}"
        if match := STEM.fullmatch(layer):
            return {"conv1": "bn1" if match[2] else "conv1", "logits": "fc", "postnorm": "norm"}[match[1]]
        return None

    return renamed_by(shapes, path_of)


def _key_map(plan: Node) -> dict[str, str]:
    assert isinstance(plan, Chain)
    shape = shape_of(plan)
    assert shape is not None
    version = 2 if shape.pre_activation else 1
    scope = f"resnet_v{version}_{shape.layers}"
    layers = {"conv1": "conv1", "bn1": "conv1/BatchNorm", "norm": "postnorm", "fc": "logits"}
    for stage, block, path in shape.blocks():
        unit = f"block{stage}/unit_{block}/bottleneck_v{version}"
        layers |= {f"{path}.downsample.0": f"{unit}/shortcut", f"{path}.downsample.1": f"{unit}/shortcut/BatchNorm"}
        for number in range(1, shape.convs + 1):
            layers[f"{path}.conv{number}"] = f"{unit}/conv{number}"
            layers[f"{path}.bn{number + (version == 2)}"] = f"{unit}/conv{number}/BatchNorm"
        layers |= {f"{path}.bn1": f"{unit}/preact"} if version == 2 else {}
    return key_table(plan, lambda path: f"{scope}/{layers[path]}", SLIM_ROLES)


def _habits(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if fields.get("block") != "bottleneck":
        return None
    return {} if fields["pre_activation"] else {"conv_bias": "none"}


def _global_pool(value: Any) -> dict[str, Any]:
    """False: the last map. (Where slim has logits too, it classifies every cell, which no network here does.)"""
    if value not in (True, False):
        raise ConfigError(f"slim's global_pool is True or False; got {value!r}; pass one of them")
    return {"global_pool": "avg" if value else "none"}


def _num_classes(value: Any) -> dict[str, Any]:
    return {"num_classes": value or 0}


def _only(name: str, allowed: Any) -> Any:
    def check(value: Any) -> dict[str, Any]:
        if value is not allowed:
            raise ConfigError(f"slim's {name} is {allowed} here; got {value!r}; leave it out")
        return {}

    return check


def preprocessing(config: Any) -> Mapping[str, Any]:
    """v1 takes images less their means, v2 from -1 to 1."""
    return INCEPTION if config.pre_activation else VGG


SLIM = Dialect(
    name="slim",
    whose="TF-slim's resnet_v1 and resnet_v2",
    recognise=lambda names: any(UNIT.fullmatch(variables(name)[0]) for name in names),
    layout="tensorflow",
    renames=_rename,
    maps=_key_map,
    points=slim_points,
    kernels=lambda plan: {"fc.weight": 1},
    settled={
        "stride_in": "3x3",
        "stride_unit": "last",
        "stem_pool": "max_same",
        "shortcut": "subsample",
        "norm_eps": 1e-5,
        "padding": "symmetric",
    },
    by_network=_habits,
    names=r"resnet_v[12]_.*",
    options={
        "global_pool": _global_pool,
        "num_classes": _num_classes,
        "include_root_block": _only("include_root_block", True),
        "is_training": _only("is_training", False),
    },
    prepares=preprocessing,
)
