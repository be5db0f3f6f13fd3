"""TF-slim's resnet_v1 and resnet_v2: `resnet_v2_50/block1/unit_1/bottleneck_v2/conv1/weights`.

The last unit of a stage strides (in its 3x3), a shortcut that keeps its channels subsamples every other cell, the
first pool is SAME, and the convolutions that stride are padded as torch pads them (`conv2d_same`). Logits are a 1x1
convolution. With `output_stride`, the unit that would stride keeps the dilation before it, as torchvision's does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from resnets.arch.preprocessing import NORMALISATIONS
from resnets.weights.dialects.axes import Shapes
from resnets.weights.dialects.base import KERAS_ROLES, Dialect, choice
from resnets.weights.dialects.key_table import KeyTable, depths_of

__all__ = ["SLIM", "VGG_PREPROCESSING"]

SLIM_ROLES = {**KERAS_ROLES, "kernel": "weights", "matrix": "weights", "bias": "biases"}
UNIT = re.compile(r"(?:.*/)?block\d{1,4}/unit_\d{1,4}/bottleneck_v[12]/.*")
VGG_PREPROCESSING = {"value_range": (0, 255), "mean": (123.68, 116.78, 103.94), "std": (1, 1, 1)}


def _rows(version: int) -> Iterator[tuple[str, str]]:
    block, unit = "layer{s}.{b}", f"block{{s}}/unit_{{b+1}}/bottleneck_v{version}"
    yield f"{block}.downsample.0", f"{unit}/shortcut"
    yield f"{block}.downsample.1", f"{unit}/shortcut/BatchNorm"
    yield f"{block}.conv{{n}}", f"{unit}/conv{{n}}"
    if version == 2:
        yield f"{block}.bn1", f"{unit}/preact"
    yield f"{block}.bn{{n}}", f"{unit}/conv{{n{'-1' if version == 2 else ''}}}/BatchNorm"
    # Behind the units, whose names end alike.
    yield from (("conv1", "conv1"), ("bn1", "conv1/BatchNorm"), ("norm", "postnorm"), ("fc", "logits"))


def _table(shapes: Shapes) -> KeyTable:
    version = 2 if "norm.weight" in shapes or any("/preact/" in name for name in shapes) else 1
    layers = sum(depths_of(shapes)) * (3 if "layer1.0.conv3.weight" in shapes else 2) + 2
    return KeyTable(_rows(version), scope=f"resnet_v{version}_{layers}/", kernels={"fc": 1})


def _infer_defaults(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if fields.get("block") != "bottleneck":
        return None
    return {} if fields["pre_activation"] else {"conv_bias": "none"}


SLIM = Dialect(
    name="slim",
    description="TF-slim's resnet_v1 and resnet_v2",
    matches=lambda names: any(map(UNIT.fullmatch, names)),
    layout="tensorflow",
    table=_table,
    roles=SLIM_ROLES,
    defaults={
        "stride_in": "3x3",
        "stride_unit": "last",
        "stem_pool": "max_same",
        "shortcut": "subsample",
        "norm_eps": 1e-5,
        "padding": "symmetric",
    },
    infer_defaults=_infer_defaults,
    variants=r"resnet_v[12]_.*",
    arguments=frozenset({"output_stride", "global_pool"}),
    options={
        # False: the last map, or with classes the logits of each of its cells.
        "global_pool": choice("global_pool", {True: {"global_pool": "avg"}, False: {"global_pool": "none"}}),
        "num_classes": lambda value: {"num_classes": value or 0},
        "include_root_block": choice("include_root_block", {True: {}}),
        "is_training": choice("is_training", {False: {}}),
    },
    preprocessing=lambda config: NORMALISATIONS["inception"] if config.pre_activation else VGG_PREPROCESSING,
)
