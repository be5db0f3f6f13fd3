"""Variable names of the TensorFlow dialects: `layer/variable`, where `:0` may follow."""

from __future__ import annotations

from resnets.weights.slots import Role

__all__ = ["KERAS_ROLES", "SLIM_ROLES", "clean", "layer_of"]

# TensorFlow counts no steps in its norms: no role `count`.
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


def clean(name: str) -> str:
    """A variable's name without the `:0` that TensorFlow appends."""
    return name.removesuffix(":0")


def layer_of(name: str) -> str:
    """Name of the layer that a variable belongs to."""
    return name.rpartition("/")[0]
