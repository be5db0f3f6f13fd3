"""Dialects that number layers in order of creation: TensorFlow's official ResNet, and Keras's CIFAR example.

Both name their layers `conv2d conv2d_1 ... batch_normalization batch_normalization_1 ... dense`. Numbers may begin
anywhere (a program that builds two networks keeps counting), so only their order counts: the file's layers are
sorted by number, and kernel sizes show where blocks and stages begin.

| | shortcut's convolution | its norm | biases | epsilon |
|---|---|---|---|---|
| TensorFlow official v1 | before the block's, in every stage's first block | yes | none | 1e-5 |
| TensorFlow official v2 | the same, behind the block's first norm | none | none | 1e-5 |
| MLPerf Tiny, keras.io's `cifar10_resnet` | behind the block's, where the shape changes | none | all | 1e-3 |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from resnets.weights.dialects.axes import Shapes
from resnets.weights.dialects.base import Dialect, choice, layer_of
from resnets.weights.dialects.key_table import KeyTable, depths_of
from resnets.weights.dialects.slim import VGG_PREPROCESSING

__all__ = ["MLPERF", "TFOFFICIAL"]

LAYER = re.compile(r"(?:.*/)?(conv2d|batch_normalization|dense)(?:_(\d+))?")
BIAS = re.compile(r"(?:.*/)?conv2d(_\d+)?/bias(:0)?")

Paths = tuple[list[str], list[str]]
"""Our paths of a network's convolutions and norms, in the codebase's order of creation."""


def _layers(shapes: Shapes) -> dict[str, list[str]]:
    """The file's layers by kind, in order of creation."""
    found: dict[str, dict[str, int]] = {"conv2d": {}, "batch_normalization": {}, "dense": {}}
    for name in shapes:
        if match := LAYER.fullmatch(layer_of(name)):
            found[match[1]][match[0]] = int(match[2] or 0)
    return {kind: sorted(numbers, key=numbers.__getitem__) for kind, numbers in found.items()}


def _kernels(shapes: Shapes, convs: list[str]) -> list[tuple[int, int]]:
    """Side and output channels of each convolution's kernel, in order; zeros where it is no kernel."""
    kernels = [shapes.get(f"{conv}/kernel", ()) for conv in convs]
    return [(kernel[0], kernel[3]) if len(kernel) == 4 else (0, 0) for kernel in kernels]


def _table(shapes: Shapes, paths: Paths | None, layers: dict[str, list[str]], scope: str = "") -> KeyTable:
    """A row for each layer of the file, or, where there are none, for each of our paths, numbered from 0."""
    if paths is None or len(layers["dense"]) > 1:
        return KeyTable()
    convs, norms = paths
    if "conv1.weight" in shapes:  # our keys
        layers = {
            kind: [f"{scope}{kind}" + (f"_{number}" if number else "") for number in range(count)]
            for kind, count in (("conv2d", len(convs)), ("batch_normalization", len(norms)), ("dense", 1))
        }
    if (len(convs), len(norms)) != (len(layers["conv2d"]), len(layers["batch_normalization"])):
        return KeyTable()
    ours = (*convs, *norms, *["fc" for _ in layers["dense"]])
    return KeyTable(zip(ours, (name for kind in layers.values() for name in kind), strict=True))


# TensorFlow official


def _official_table(shapes: Shapes) -> KeyTable:
    layers = _layers(shapes)
    if depths := depths_of(shapes):  # our keys
        paths = _official_paths(depths, 3 if "layer1.0.conv3.weight" in shapes else 2, "norm.weight" in shapes)
    else:
        sides = [side for side, _ in _kernels(shapes, layers["conv2d"])][1:]
        depths, count = _official_depths(sides)
        pre_activation = len(layers["batch_normalization"]) != len(layers["conv2d"])
        paths = _official_paths(depths, count, pre_activation)
    return _table(shapes, paths if depths else None, layers, "resnet_model/")


def _official_depths(sides: list[int]) -> tuple[tuple[int, ...], int]:
    """Blocks by stage, and convolutions in a block, from the kernel sizes behind the stem; no depths where none fit."""
    basic = 1 not in sides or sides[:3] == [1, 3, 3]
    first, other = ([1, 3, 3], [3, 3]) if basic else ([1, 1, 3, 1], [1, 3, 1])
    depths, at = list[int](), 0
    while at < len(sides):
        if sides[at : at + len(first)] == first:
            depths.append(1)
            at += len(first)
        elif sides[at : at + len(other)] == other and depths:
            depths[-1] += 1
            at += len(other)
        else:
            return (), len(other)
    return tuple(depths), len(other)


def _official_paths(depths: tuple[int, ...], count: int, pre_activation: bool) -> Paths:
    convs, norms = ["conv1"], [] if pre_activation else ["bn1"]
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            path = f"layer{stage}.{block}"
            if block == 0:
                convs.append(f"{path}.downsample.0")
                norms += [] if pre_activation else [f"{path}.downsample.1"]
            convs += [f"{path}.conv{number}" for number in range(1, count + 1)]
            norms += [f"{path}.bn{number}" for number in range(1, count + 1)]
    return convs, [*norms, "norm"] if pre_activation else norms


def _infer_official(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if fields.get("conv_bias") != "none":
        return None
    return {"stem_pool": "none" if fields["stem"] == "3x3" else "max_same"}


# MLPerf Tiny and keras.io


def _cifar_table(shapes: Shapes) -> KeyTable:
    layers = _layers(shapes)
    if depths := depths_of(shapes):  # our keys
        blocks = [
            (f"layer{stage}.{block}", f"layer{stage}.{block}.downsample.0.weight" in shapes)
            for stage, depth in enumerate(depths, start=1)
            for block in range(depth)
        ]
    else:
        blocks = _cifar_blocks(_kernels(shapes, layers["conv2d"]))
    convs, norms = ["conv1"], ["bn1"]
    for path, projects in blocks:
        convs += [f"{path}.conv1", f"{path}.conv2", *([f"{path}.downsample.0"] if projects else [])]
        norms += [f"{path}.bn1", f"{path}.bn2"]
    return _table(shapes, (convs, norms) if blocks else None, layers)


def _cifar_blocks(kernels: list[tuple[int, int]]) -> list[tuple[str, bool]]:
    """Path of each block, and whether a projection follows it; empty where the kernels are of another network."""
    blocks = list[tuple[str, bool]]()
    stage, block, width, at = 1, 0, kernels[0][1] if kernels else 0, 1
    while at < len(kernels):
        if [side for side, _ in kernels[at : at + 2]] != [3, 3]:
            return []
        projects = kernels[at + 2 : at + 3] == [(1, kernels[at][1])]
        if kernels[at][1] != width or projects:
            stage, block, width = stage + (at > 1), 0, kernels[at][1]
        blocks.append((f"layer{stage}.{block}", projects))
        at, block = at + 2 + projects, block + 1
    return blocks


def _counts_layers(names: frozenset[str]) -> bool:
    return sum(LAYER.fullmatch(layer_of(name)) is not None for name in names) * 2 > len(names)


def _has_biases(names: frozenset[str]) -> bool:
    return any(map(BIAS.fullmatch, names))


# ImageNet images less their means, as slim's v1; CIFAR images were standardised one by one.
OFFICIAL_CIFAR = {"value_range": (0, 255), "mean": (127.5,) * 3, "std": (64.0,) * 3}
RAW_PIXELS = {"value_range": (0, 255), "mean": (0, 0, 0), "std": (1, 1, 1)}

TFOFFICIAL = Dialect(
    name="tfofficial",
    description="TensorFlow's official resnet, r1.x, of any depth, ImageNet's and CIFAR's",
    matches=lambda names: _counts_layers(names) and not _has_biases(names),
    layout="tensorflow",
    table=_official_table,
    defaults={
        "stride_in": "3x3",
        "stride_unit": "first",
        "norm_eps": 1e-5,
        "shortcut": "first",
        "padding": "symmetric",
    },
    infer_defaults=_infer_official,
    variants="",
    options={"resnet_version": choice("resnet_version", {n: {"pre_activation": n == 2} for n in (1, 2)})},
    preprocessing=lambda config: VGG_PREPROCESSING if config.stem != "3x3" else OFFICIAL_CIFAR,
    notes=lambda config: (
        ()
        if getattr(config, "stem", "") != "3x3"
        else (
            "its CIFAR images were standardised one by one, which no preprocessing here does: the assumed one is near",
        )
    ),
)

MLPERF = Dialect(
    name="mlperf",
    description="MLPerf Tiny's ResNet-8 and keras.io's CIFAR-10 ResNets v1",
    matches=lambda names: _counts_layers(names) and _has_biases(names),
    layout="tensorflow",
    table=_cifar_table,
    defaults={
        "norm_eps": 1e-3,
        "shortcut": "B",
        "stem_pool": "none",
        "padding": "same",
        "global_pool": "window",
        "pool_window": 8,
    },
    infer_defaults=lambda fields: {} if fields.get("block") == "basic" and fields["stem"] == "3x3" else None,
    variants="",
    preprocessing=lambda config: RAW_PIXELS,
)
