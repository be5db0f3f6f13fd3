"""Names of feature maps in other codebases, to the paths of our modules; where a codebase is absent, they are alike."""

from __future__ import annotations

from collections.abc import Callable

from resnets.arch.aliases import Shape, keras_points, shape_of, slim_points
from resnets.arch.nodes import Chain


def timm_points(plan: Chain) -> dict[str, str]:
    """The stages of resnetv2; all else is named as ours."""
    stages = [node for node in plan.nodes if isinstance(node, Chain) and node.role == "stage"]
    return {f"stages.{number}": stage.name for number, stage in enumerate(stages)}


def tutorial_points(plan: Chain) -> dict[str, str]:
    """Block names of the Keras tutorial, `out3d`, and of Caffe, `res3d`."""
    shape = shape_of(plan)
    if shape is None:
        return {}
    points = {"conv1": "conv1", "bn_conv1": "bn1", "conv1_relu": "act1", "pool1": "maxpool"}
    for stage, block, path in shape.blocks():
        for letter in block_letters(shape, stage, block):
            points |= {f"{word}{stage + 1}{letter}": path for word in ("out", "res")}
    return points


def block_letters(shape: Shape, stage: int, block: int) -> tuple[str, ...]:
    """Spellings of a block's position in its stage: `a`..`z`, or Caffe's `a`, `b1`, `b2` ..., preferred first.

    Caffe uses numbers in the middle stages of networks that have a stage of more than six blocks.
    """
    counted = "a" if block == 1 else f"b{block - 1}"
    if block > 26:
        return (counted,)
    lettered = chr(ord("a") + block - 1)
    long = max(shape.depths) > 6 and 1 < stage < len(shape.depths)
    return tuple(dict.fromkeys((counted, lettered) if long else (lettered, counted)))


def official_points(plan: Chain) -> dict[str, str]:
    """Layer names of TensorFlow's official network."""
    shape = shape_of(plan)
    if shape is None:
        return {}
    stages = {f"/block_layer{stage}": f"layer{stage}" for stage in range(1, len(shape.depths) + 1)}
    return {"/initial_conv": "conv1", "/initial_max_pool": "maxpool", **stages}


TAPS: dict[str, Callable[[Chain], dict[str, str]]] = {
    "keras": keras_points,
    "kerastutorial": tutorial_points,
    "slim": slim_points,
    "tfofficial": official_points,
    "timm": timm_points,
}
