"""keras.applications: `conv2_block1_1_conv/kernel`, `block1_conv1/kernel`; stages count from 2, blocks from 1.

| network | strides | epsilon | biases | first pool |
|---|---|---|---|---|
| ResNet50, 101, 152 | in the first 1x1 | 1.001e-5 | every convolution | padded with zeros |
| ResNet50V2 ... | in the last block of a stage, in the 3x3 | 1.001e-5 | where no norm follows | padded with zeros |
| VGG16, 19 | | | every convolution | |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from resnets.arch.aliases import keras_points
from resnets.arch.nodes import Chain, Conv, Node, walk
from resnets.errors import ConfigError
from resnets.weights.dialects.axes import Shapes
from resnets.weights.dialects.base import Dialect
from resnets.weights.dialects.tf_names import KERAS_ROLES, key_table, renamed_by, variables

__all__ = ["KERAS"]

BLOCK = re.compile(r"conv(\d{1,4})_block(\d{1,4})_(?:(\d)_(conv|bn)|(preact_bn))")
VGG_LAYER = re.compile(r"block(\d{1,3})_conv(\d{1,3})")
HEADS = ("predictions", "probs", "fc1000")
CAFFE = {"channels": "BGR", "value_range": (0, 255), "mean": (103.939, 116.779, 123.68), "std": (1, 1, 1)}
INCEPTION = {"value_range": (-1, 1), "mean": (0, 0, 0), "std": (1, 1, 1)}


def _names(names: frozenset[str]) -> bool:
    layers = {variables(name)[0] for name in names}
    return "conv1_conv" in layers or {"block1_conv1", "block2_conv1"} <= layers


def _rename(shapes: Shapes) -> dict[str, str | None]:
    layers = {variables(name)[0] for name in shapes}
    if any(VGG_LAYER.fullmatch(layer) for layer in layers):
        return renamed_by(shapes, _vgg_layers(layers).get)
    return renamed_by(shapes, partial(_path, "post_bn" in layers))


def _path(pre_activation: bool, layer: str) -> str | None:
    fixed = {"conv1_conv": "conv1", "conv1_bn": "bn1", "post_bn": "norm", **dict.fromkeys(HEADS, "fc")}
    if layer in fixed:
        return fixed[layer]
    if (match := BLOCK.fullmatch(layer)) is None:
        return None
    path, number = f"layer{int(match[1]) - 1}.{int(match[2]) - 1}", int(match[3] or 0)
    if match[5]:
        return f"{path}.bn1"
    if number == 0:
        return f"{path}.downsample.{0 if match[4] == 'conv' else 1}"
    return f"{path}.{match[4]}{number + (pre_activation and match[4] == 'bn')}"


def _vgg_layers(layers: set[str]) -> dict[str, str]:
    places = sorted((int(m[1]), int(m[2]), m[0]) for layer in layers if (m := VGG_LAYER.fullmatch(layer)))
    found = {"fc1": "classifier.0", "fc2": "classifier.3", **dict.fromkeys(HEADS, "classifier.6")}
    number, block = 0, 1
    for at, _, layer in places:
        number += at - block  # the pools between
        found[layer], block = f"features.{number}", at
        number += 2
    return found


def _key_map(plan: Node) -> dict[str, str]:
    assert isinstance(plan, Chain)
    if isinstance(plan.nodes[0], Chain) and plan.nodes[0].role == "features":
        return key_table(plan, _vgg_table(plan).__getitem__, KERAS_ROLES)
    layers = {path: name for name, path in keras_points(plan).items()} | {"fc": "predictions"}
    for name, path in keras_points(plan).items():
        if name.endswith("_out"):
            layers |= {f"{path}.downsample.{at}": f"{name[:-4]}_0_{kind}" for at, kind in enumerate(("conv", "bn"))}
    return key_table(plan, layers.__getitem__, KERAS_ROLES)


def _vgg_table(plan: Chain) -> dict[str, str]:
    features = plan.nodes[0]
    assert isinstance(features, Chain)
    found = {"classifier.0": "fc1", "classifier.3": "fc2", "classifier.6": "predictions"}
    for block in features.nodes:
        convs = [name for name, node in walk(block) if isinstance(node, Conv)]
        assert isinstance(block, Chain)
        found |= {f"features.{name}": f"{block.kind}_conv{number}" for number, name in enumerate(convs, start=1)}
    return found


def _habits(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if "block" not in fields:
        return {}
    if fields["block"] != "bottleneck" or fields["stem"] != "7x7":
        return None
    habits: dict[str, Any] = {"norm_eps": 1.001e-5, "stem_pool": "max_zero", "padding": "symmetric"}
    habits |= {} if fields["num_classes"] else {"global_pool": "none"}  # include_top=False
    if fields["pre_activation"]:
        return habits | {"stride_in": "3x3", "stride_unit": "last", "shortcut": "subsample"}
    return habits | {"stride_in": "1x1", "shortcut": "B"}


def _include_top(value: Any) -> dict[str, Any]:
    if value not in (True, False):
        raise ConfigError(f"include_top is True or False; got {value!r}; say which")
    return {} if value else {"num_classes": 0}


def _pooling(value: Any) -> dict[str, Any]:
    if value not in ("avg", "max", None):
        raise ConfigError(f"pooling is 'avg', 'max' or None; got {value!r}; pass one of them")
    return {"global_pool": value or "none"}


def _classes(value: Any) -> dict[str, Any]:
    return {"num_classes": value}


def preprocessing(config: Any) -> Mapping[str, Any]:
    """As the networks of keras.applications take images: Caffe's way, but for V2's."""
    return INCEPTION if getattr(config, "pre_activation", False) else CAFFE


KERAS = Dialect(
    name="keras",
    whose="keras.applications",
    recognise=_names,
    layout="tensorflow",
    renames=_rename,
    maps=_key_map,
    points=keras_points,
    by_network=_habits,
    names=r"keras_.*",
    options={"include_top": _include_top, "pooling": _pooling, "classes": _classes},
    prepares=preprocessing,
)
