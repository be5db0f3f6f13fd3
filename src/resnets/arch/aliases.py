"""Layer names of other codebases, mapped to the paths of our modules.

| codebase | output of a block | inside a block |
|---|---|---|
| TF-slim | `resnet_v2_50/block1/unit_1/bottleneck_v2` | `.../conv1`: after its norm and activation |
| Keras | `conv2_block1_out`, VGG's `block1_conv2` | `conv2_block1_1_relu` |

The names identify blocks, not resolutions: TF-slim and Keras may stride in another block than the network here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from resnets.arch.nodes import Act, Chain, Conv, Norm, Pool, Residual, join, walk

__all__ = [
    "Shape",
    "aliases",
    "blocks",
    "keras_points",
    "shape_of",
    "slim_points",
]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Depths and block type of a residual network, from which the codebases derive their names.

    Args:
        depths: blocks in each stage.
        convs: convolutions in a block, 2 or 3.
        pre_activation: whether norms precede convolutions.
    """

    depths: tuple[int, ...]
    convs: int
    pre_activation: bool

    @property
    def layers(self) -> int:
        """Number of weight layers, as in the network's name."""
        return sum(self.depths) * self.convs + 2

    def blocks(self) -> Iterator[tuple[int, int, str]]:
        """(stage, block, path) of every block; stages and blocks count from 1."""
        for stage, depth in enumerate(self.depths, start=1):
            for block in range(depth):
                yield stage, block + 1, f"layer{stage}.{block}"


def shape_of(plan: Chain) -> Shape | None:
    """Depths and block type of a plan; `None` for a VGG."""
    stages = [node for node in plan.nodes if isinstance(node, Chain) and node.role == "stage" and node.name]
    if not stages:
        return None
    first = stages[0].nodes[0]
    assert isinstance(first, Residual | Chain)
    inside = (*first.pre, *first.body) if isinstance(first, Residual) else first.nodes
    return Shape(
        depths=tuple(len(stage.nodes) for stage in stages),
        convs=sum(isinstance(node, Conv) for node in inside),
        pre_activation=isinstance(inside[0], Norm),
    )


def blocks(plan: Chain) -> set[str]:
    """Paths of a residual network's blocks; empty for a VGG."""
    shape = shape_of(plan)
    return {path for *_, path in shape.blocks()} if shape else set()


def aliases(plan: Chain) -> dict[str, str]:
    """TF-slim's and Keras's names of stem, stages and blocks, which `Network.end_points` accepts too.

    Layers inside a block have no alias, since `end_points` keeps a feature map for every name.
    """
    outer = blocks(plan)
    every = slim_points(plan) | keras_points(plan)
    return {
        name: path for name, path in every.items() if not path.startswith("layer") or path in outer or "." not in path
    }


def slim_points(plan: Chain) -> dict[str, str]:
    """TF-slim's `end_points`. A convolution's name means the output of its norm and activation, if it has them."""
    shape = shape_of(plan)
    if shape is None or shape.convs != 3:
        return {}
    version = 2 if shape.pre_activation else 1
    scope = f"resnet_v{version}_{shape.layers}"
    points = {f"{scope}/conv1": "conv1" if shape.pre_activation else "act1"}
    after = ("act2", "act3", "conv3") if shape.pre_activation else ("act1", "act2", "bn3")
    held = dict(walk(plan))
    for stage, block, path in shape.blocks():
        unit = f"{scope}/block{stage}/unit_{block}/bottleneck_v{version}"
        points |= {f"{unit}/conv{number}": f"{path}.{name}" for number, name in enumerate(after, start=1)}
        shortcut = f"{path}.downsample.{0 if shape.pre_activation else 1}"
        if shortcut in held:
            points[f"{unit}/shortcut"] = shortcut
        points[unit] = path
        if block == shape.depths[stage - 1]:
            points[f"{scope}/block{stage}"] = f"layer{stage}"
    return points


def keras_points(plan: Chain) -> dict[str, str]:
    """Layer names of keras.applications."""
    shape = shape_of(plan)
    if shape is None:
        return _keras_vgg(plan)
    points = {"conv1_conv": "conv1", "pool1_pool": "maxpool"}
    points |= {"post_bn": "norm", "post_relu": "act"} if shape.pre_activation else {"conv1_bn": "bn1"}
    points |= {} if shape.pre_activation else {"conv1_relu": "act1"}
    for stage, block, path in shape.blocks():
        name, shift = f"conv{stage + 1}_block{block}", 1 if shape.pre_activation else 0
        for number in range(1, shape.convs + 1):
            points[f"{name}_{number}_conv"] = f"{path}.conv{number}"
            if number + shift <= shape.convs:
                points[f"{name}_{number}_bn"] = f"{path}.bn{number + shift}"
            if number < shape.convs:
                points[f"{name}_{number}_relu"] = f"{path}.act{number + shift}"
        if shape.pre_activation:
            points |= {f"{name}_preact_bn": f"{path}.bn1", f"{name}_preact_relu": f"{path}.act1"}
        points[f"{name}_out"] = path
    return points


def _keras_vgg(plan: Chain) -> dict[str, str]:
    points: dict[str, str] = {}
    features = plan.nodes[0]
    assert isinstance(features, Chain)
    for block in features.nodes:
        assert isinstance(block, Chain)
        acts = [node.name for node in block.nodes if isinstance(node, Act)]  # Keras's layers hold their activation
        points |= {f"{block.kind}_conv{i}": join("features", name) for i, name in enumerate(acts, start=1)}
        points |= {f"{block.kind}_pool": join("features", n.name) for n in block.nodes if isinstance(n, Pool)}
    return points
