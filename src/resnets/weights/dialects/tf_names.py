"""What the TensorFlow dialects share: the variables of a layer, and tables from our paths to their layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from resnets.arch.nodes import Chain, Node
from resnets.weights.dialects.axes import Shapes
from resnets.weights.slots import Role, slots

__all__ = ["KERAS_ROLES", "SLIM_ROLES", "key_table", "renamed_by", "variables"]

KERAS_ROLES: dict[Role, str] = {
    "kernel": "kernel",
    "matrix": "kernel",
    "bias": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "mean": "moving_mean",
    "var": "moving_variance",
}
SLIM_ROLES: dict[Role, str] = {**KERAS_ROLES, "kernel": "weights", "matrix": "weights", "bias": "biases"}

OURS = {
    "kernel": "weight",
    "weights": "weight",
    "bias": "bias",
    "biases": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def key_table(plan: Node, layer: Callable[[str], str], roles: Mapping[Role, str]) -> dict[str, str]:
    """Our keys to theirs. `layer`: our path to their layer. They count no steps, so step counters are left out."""
    assert isinstance(plan, Chain)
    return {slot.name: f"{layer(slot.path)}/{roles[slot.role]}" for slot in slots(plan) if slot.role != "count"}


def renamed_by(shapes: Shapes, layer: Callable[[str], str | None]) -> dict[str, str | None]:
    """Their names to our keys. `layer`: their layer to our path, `None` where there is no such layer."""
    found: dict[str, str | None] = {}
    for name in shapes:
        theirs, variable = variables(name)
        path = layer(theirs)
        if path is not None and variable in OURS:
            found[name] = f"{path}.{OURS[variable]}"
    return found


def variables(name: str) -> tuple[str, str]:
    """The layer and the variable of a name; `:0`, which TensorFlow appends, is cut."""
    layer, _, variable = name.removesuffix(":0").rpartition("/")
    return layer, variable
