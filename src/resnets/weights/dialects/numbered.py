"""Dialects that number layers in their order of creation: TensorFlow's official network, and Keras's CIFAR example.

Both call their layers `conv2d conv2d_1 ... batch_normalization batch_normalization_1 ... dense`. Numbers may begin
anywhere (a program that built two networks goes on counting), so only their order counts.

| | shortcut's convolution | its norm | biases | epsilon |
|---|---|---|---|---|
| TensorFlow official v1 | before the block's, in every stage's first block | yes | none | 1e-5 |
| TensorFlow official v2 | the same, behind the block's first norm | none | none | 1e-5 |
| MLPerf Tiny, keras.io's `cifar10_resnet` | behind the block's, where the shape changes | none | all | 1e-3 |
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from resnets.arch.aliases import official_points, shape_of
from resnets.arch.nodes import Chain, Node, walk
from resnets.errors import ConfigError
from resnets.weights.dialects.axes import Shapes
from resnets.weights.dialects.base import Dialect, Option
from resnets.weights.dialects.slim import VGG
from resnets.weights.dialects.tf_names import KERAS_ROLES, key_table, renamed_by, variables

__all__ = ["MLPERF", "TFOFFICIAL"]

LAYER = re.compile(r"(?:.*/)?(conv2d|batch_normalization|dense)(?:_(\d+))?")
KINDS = ("conv2d", "batch_normalization", "dense")


def _layers(shapes: Shapes) -> dict[str, list[str]]:
    """Their layers by kind, in order of creation."""
    found: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    for name in shapes:
        if match := LAYER.fullmatch(variables(name)[0]):
            found[match[1]][match[0]] = int(match[2] or 0)
    return {kind: sorted(numbers, key=numbers.__getitem__) for kind, numbers in found.items()}


def _sides(shapes: Shapes, convs: list[str]) -> list[tuple[int, int]]:
    """Kernel size and channels out of each convolution."""
    kernels = {variables(name)[0]: shape for name, shape in shapes.items() if variables(name)[1] == "kernel"}
    return [(kernels[conv][0], kernels[conv][3]) if len(kernels.get(conv, ())) == 4 else (0, 0) for conv in convs]


def _official_order(shapes: Shapes, convs: list[str], norms: list[str]) -> tuple[list[str], list[str]] | None:
    """Our paths of the convolutions and norms; `None` where they are of another network."""
    sides = [side for side, _ in _sides(shapes, convs)][1:]
    basic = 1 not in sides or (sides[:3] == [1, 3, 3])
    first, other = ([1, 3, 3], [3, 3]) if basic else ([1, 1, 3, 1], [1, 3, 1])
    stages, at = list[int](), 0
    while at < len(sides):
        if sides[at : at + len(first)] == first:
            stages.append(1)
            at += len(first)
        elif sides[at : at + len(other)] == other and stages:
            stages[-1] += 1
            at += len(other)
        else:
            return None
    pre_activation = len(norms) != len(convs)
    paths = _official_paths(tuple(stages), len(other), pre_activation)
    return paths if [len(convs), len(norms)] == [len(path) for path in paths] else None


def _official_paths(depths: tuple[int, ...], count: int, pre_activation: bool) -> tuple[list[str], list[str]]:
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


def _tiny_order(shapes: Shapes, convs: list[str], norms: list[str]) -> tuple[list[str], list[str]] | None:
    sides = _sides(shapes, convs)
    ours, bns = ["conv1"], ["bn1"]
    stage, block, width, at = 1, 0, sides[0][1] if sides else 0, 1
    while at < len(sides):
        if [side for side, _ in sides[at : at + 2]] != [3, 3]:
            return None
        projects = sides[at + 2 : at + 3] == [(1, sides[at][1])]
        if sides[at][1] != width or projects:
            stage, block, width = stage + (at > 1), 0, sides[at][1]
        path = f"layer{stage}.{block}"
        ours += [f"{path}.conv1", f"{path}.conv2", *([f"{path}.downsample.0"] if projects else [])]
        bns += [f"{path}.bn1", f"{path}.bn2"]
        at, block = at + 2 + projects, block + 1
    return (ours, bns) if [len(convs), len(norms)] == [len(ours), len(bns)] else None


def _renamer(order: Any) -> Any:
    def rename(shapes: Shapes) -> dict[str, str | None]:
        layers = _layers(shapes)
        paths = order(shapes, layers["conv2d"], layers["batch_normalization"])
        if paths is None or len(layers["dense"]) > 1:
            return {}
        ours = dict(zip(layers["conv2d"], paths[0], strict=True))
        ours |= dict(zip(layers["batch_normalization"], paths[1], strict=True))
        ours |= dict.fromkeys(layers["dense"], "fc")
        return renamed_by(shapes, ours.get)

    return rename


def _numbered(kind: str, paths: list[str], scope: str) -> Iterator[tuple[str, str]]:
    for number, path in enumerate(paths):
        yield path, f"{scope}{kind}_{number}" if number else f"{scope}{kind}"


def _official_map(plan: Node) -> dict[str, str]:
    assert isinstance(plan, Chain)
    shape = shape_of(plan)
    assert shape is not None
    convs, norms = _official_paths(shape.depths, shape.convs, shape.pre_activation)
    scope = "resnet_model/"
    layers = dict([*_numbered("conv2d", convs, scope), *_numbered("batch_normalization", norms, scope)])
    return key_table(plan, (layers | {"fc": f"{scope}dense"}).__getitem__, KERAS_ROLES)


def _tiny_map(plan: Node) -> dict[str, str]:
    assert isinstance(plan, Chain)
    shape, held = shape_of(plan), dict(walk(plan))
    assert shape is not None
    convs, norms = ["conv1"], ["bn1"]
    for _, _, path in shape.blocks():
        convs += [f"{path}.conv1", f"{path}.conv2"]
        convs += [f"{path}.downsample.0"] if f"{path}.downsample.0" in held else []
        norms += [f"{path}.bn1", f"{path}.bn2"]
    layers = dict([*_numbered("conv2d", convs, ""), *_numbered("batch_normalization", norms, "")])
    return key_table(plan, (layers | {"fc": "dense"}).__getitem__, KERAS_ROLES)


def _counts(names: frozenset[str]) -> bool:
    return sum(LAYER.fullmatch(variables(name)[0]) is not None for name in names) * 2 > len(names)


def _biased(names: frozenset[str]) -> bool:
    return any(re.fullmatch(r"(?:.*/)?conv2d(_\d+)?/bias(:0)?", name) for name in names)


def _official_habits(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if fields.get("conv_bias") != "none":
        return None
    return {"stem_pool": "none" if fields["stem"] == "3x3" else "max_same"}


def _tiny_habits(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return {} if fields.get("block") == "basic" and fields["stem"] == "3x3" else None


def _version(wanted: Mapping[Any, bool]) -> Option:
    def check(value: Any) -> dict[str, Any]:
        if value not in wanted:
            raise ConfigError(f"resnet_version is {' or '.join(map(repr, wanted))}; got {value!r}; pass one of them")
        return {"pre_activation": wanted[value]}

    return check


def preprocessing(config: Any) -> Mapping[str, Any]:
    """ImageNet images less their means, as slim's v1; CIFAR images were standardised one by one."""
    return VGG if config.stem != "3x3" else {"value_range": (0, 255), "mean": (127.5,) * 3, "std": (64.0,) * 3}


TFOFFICIAL = Dialect(
    name="tfofficial",
    whose="TensorFlow's official resnet, r1.x, of any depth, ImageNet's and CIFAR's",
    recognise=lambda names: _counts(names) and not _biased(names),
    layout="tensorflow",
    renames=_renamer(_official_order),
    maps=_official_map,
    points=official_points,
    settled={
        "stride_in": "3x3",
        "stride_unit": "first",
        "norm_eps": 1e-5,
        "shortcut": "first",
        "padding": "symmetric",
    },
    by_network=_official_habits,
    names="",
    options={"resnet_version": _version({1: False, 2: True})},
    prepares=preprocessing,
)

MLPERF = Dialect(
    name="mlperf",
    whose="MLPerf Tiny's ResNet-8 and keras.io's CIFAR-10 ResNets v1",
    recognise=lambda names: _counts(names) and _biased(names),
    layout="tensorflow",
    renames=_renamer(_tiny_order),
    maps=_tiny_map,
    settled={
        "norm_eps": 1e-3,
        "shortcut": "B",
        "stem_pool": "none",
        "padding": "same",
        "global_pool": "window",
        "pool_window": 8,
    },
    by_network=_tiny_habits,
    names="",
    preprocessing={"value_range": (0, 255), "mean": (0, 0, 0), "std": (1, 1, 1)},
)
