"""The Keras tutorials' ResNet-50 and Keras's own before 2.2: Caffe's names `res2a_branch2a`, `bn2a_branch2a`, `fc6`.

Pad 3 and a valid 7x7, an unpadded 3x3 pool, the stride in the first 1x1, biased convolutions, Keras's epsilon of 1e-3,
then an average over fixed windows that the image's size fits: 2x2 at 64 pixels in the tutorials, 7x7 at 224 in the
network of 1000 classes. Other sizes are said with `img_size` and `pool_window`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from resnets.arch.aliases import block_letters, shape_of, tutorial_points
from resnets.arch.nodes import Chain, Linear, Node, walk
from resnets.weights.dialects.axes import Shapes
from resnets.weights.dialects.base import Dialect
from resnets.weights.dialects.keras import CAFFE
from resnets.weights.dialects.tf_names import KERAS_ROLES, key_table, renamed_by, variables

__all__ = ["KERASTUTORIAL"]

LAYER = re.compile(r"(res|bn)(\d{1,4})(?:a?b(\d{1,4})|([a-z]))_branch(?:(1)|2([a-c]))")
HEAD = re.compile(r"fc\d+")


def _path(layer: str) -> str | None:
    if HEAD.fullmatch(layer):
        return "fc"
    if layer in ("conv1", "bn_conv1"):
        return {"conv1": "conv1", "bn_conv1": "bn1"}[layer]
    if (match := LAYER.fullmatch(layer)) is None:
        return None
    kind, stage, counted, letter, shortcut, branch = match.groups()
    block = int(counted) if counted else ord(letter) - ord("a")
    path = f"layer{int(stage) - 1}.{block}"
    if shortcut:
        return f"{path}.downsample.{0 if kind == 'res' else 1}"
    return f"{path}.{'conv' if kind == 'res' else 'bn'}{ord(branch) - ord('a') + 1}"


def _rename(shapes: Shapes) -> dict[str, str | None]:
    return renamed_by(shapes, _path)


def _key_map(plan: Node) -> dict[str, str]:
    assert isinstance(plan, Chain)
    shape = shape_of(plan)
    assert shape is not None
    layers = {"conv1": "conv1", "bn1": "bn_conv1"}
    layers |= {path: f"fc{node.out_features}" for path, node in walk(plan) if isinstance(node, Linear)}
    for stage, block, path in shape.blocks():
        place = f"{stage + 1}{block_letters(shape, stage, block)[0]}"
        for number in range(1, shape.convs + 1):
            branch = f"{place}_branch2{chr(ord('a') + number - 1)}"
            layers |= {f"{path}.conv{number}": f"res{branch}", f"{path}.bn{number}": f"bn{branch}"}
        layers |= {f"{path}.downsample.0": f"res{place}_branch1", f"{path}.downsample.1": f"bn{place}_branch1"}
    return key_table(plan, layers.__getitem__, KERAS_ROLES)


def _habits(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if fields.get("pre_activation", True):
        return None
    if not fields["num_classes"]:
        return {"global_pool": "none"}
    published = fields["num_classes"] == 1000
    return {
        "global_pool": "window",
        "pool_window": 7 if published else 2,
        "img_size": 224 if published else 64,
    }


def _window(value: Any) -> dict[str, Any]:
    return {"pool_window": value[0] if isinstance(value, list | tuple) and len({*value}) == 1 else value}


def _input_shape(value: Any) -> dict[str, Any]:
    return (
        {"img_size": value[0]} if isinstance(value, list | tuple) and value[:1] == value[1:2] else {"img_size": value}
    )


def preprocessing(config: Any) -> Mapping[str, Any]:
    """Caffe's way for the published network; the tutorials divide by 255."""
    return CAFFE if config.img_size == 224 else {"mean": (0, 0, 0), "std": (1, 1, 1)}


KERASTUTORIAL = Dialect(
    name="kerastutorial",
    whose="the Keras tutorials' ResNet-50 and Keras's before 2.2, in Caffe's names",
    recognise=lambda names: {"res2a_branch2a", "bn2a_branch2a"} <= {variables(name)[0] for name in names},
    layout="tensorflow",
    renames=_rename,
    maps=_key_map,
    points=tutorial_points,
    settled={
        "norm_eps": 1e-3,
        "stem_pool": "max_valid",
        "stride_in": "1x1",
        "shortcut": "B",
        "padding": "symmetric",
    },
    by_network=_habits,
    names="",
    options={"pool_size": _window, "input_shape": _input_shape},
    prepares=preprocessing,
)
