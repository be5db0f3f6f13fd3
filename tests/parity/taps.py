"""Names of feature maps in other codebases, to the paths of our modules; where a codebase is absent, they are alike."""

from __future__ import annotations

from collections.abc import Callable

from resnets.arch.aliases import keras_points, official_points, slim_points, tutorial_points
from resnets.arch.nodes import Chain


def timm_points(plan: Chain) -> dict[str, str]:
    """The stages of resnetv2; all else is named as ours."""
    stages = [node for node in plan.nodes if isinstance(node, Chain) and node.role == "stage"]
    return {f"stages.{number}": stage.name for number, stage in enumerate(stages)}


TAPS: dict[str, Callable[[Chain], dict[str, str]]] = {
    "keras": keras_points,
    "kerastutorial": tutorial_points,
    "slim": slim_points,
    "tfofficial": official_points,
    "timm": timm_points,
}
