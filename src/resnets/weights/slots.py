"""Tensors of a network as its plan names them: module path, role and shape.

Key maps of all dialects are written in terms of roles; each dialect has its own spelling and axis order.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from typing import Literal

from resnets.arch.networks import NetworkConfig
from resnets.arch.nodes import ChannelConv, Conv, GlobalPool, Linear, Node, Norm, join, walk

__all__ = ["COUNTER", "NOT_IN_TENSORS", "TENSOR_NAMES", "TRAINING_ONLY", "Role", "Slot", "differing_fields", "slots"]

Role = Literal["kernel", "matrix", "bias", "gamma", "beta", "mean", "var", "count", "power"]

TENSOR_NAMES: dict[Role, str] = {
    "kernel": "weight",  # of a convolution: (out, in / groups, height, width), or (out, in, taps)
    "matrix": "weight",  # of a linear layer: (out, in)
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "mean": "running_mean",
    "var": "running_var",
    "count": "num_batches_tracked",
    "power": "p",  # of generalised-mean pooling
}

COUNTER = ".num_batches_tracked"
"""End of the key of a batch norm's step counter. Evaluation never reads it, and old files lack it."""

TRAINING_ONLY = frozenset({"drop_rate", "drop_path_rate", "zero_init_last", "img_size", "norm_momentum", "neck_bias"})
"""Config fields that change nothing in evaluation mode."""

NOT_IN_TENSORS = TRAINING_ONLY | {"output_stride", "dilation_rule", "last_stride", "global_pool", "pool_window"}
"""Config fields that change no tensor's name, shape or value: they concern training or geometry alone."""


def differing_fields(config: NetworkConfig, other: NetworkConfig, ignored: Collection[str]) -> list[str]:
    """Fields in which two configs of one family differ, as `stem deep for 7x7`."""
    values = [(field.name, getattr(config, field.name), getattr(other, field.name)) for field in fields(other)]
    return [f"{name} {one} for {two}" for name, one, two in values if one != two and name not in ignored]


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One tensor of a network.

    Args:
        path: module that holds it, such as `layer1.0.conv1`.
        role: its function in that module.
        shape: in torch's axis order.
    """

    path: str
    role: Role
    shape: tuple[int, ...]

    @property
    def key(self) -> str:
        """Its key in the network's `state_dict`."""
        return join(self.path, TENSOR_NAMES[self.role])

    @property
    def numel(self) -> int:
        """Number of values in the tensor."""
        return math.prod(self.shape)


def slots(plan: Node) -> Iterator[Slot]:
    """Every tensor of the network of `plan`, in `state_dict` order."""
    for path, node in walk(plan):
        for role, shape in _tensors(node):
            yield Slot(path=path, role=role, shape=shape)


def _tensors(node: Node) -> list[tuple[Role, tuple[int, ...]]]:
    found: list[tuple[Role, tuple[int, ...]]] = []
    match node:
        case Conv():
            found.append(("kernel", (node.out_chans, node.in_chans // node.groups, node.kernel, node.kernel)))
            found += [("bias", (node.out_chans,))] if node.bias else []
        case ChannelConv():
            found.append(("kernel", (1, 1, node.kernel)))
        case Linear():
            found.append(("matrix", (node.out_features, node.in_features)))
            found += [("bias", (node.out_features,))] if node.bias else []
        case GlobalPool(kind="gem"):
            found.append(("power", (1,)))
        case Norm():
            each = (node.channels,)
            found += [("gamma", each), ("beta", each)]
            found += [("mean", each), ("var", each)] if node.kind in ("batch", "frozen_batch") else []
            found += [("count", ())] if node.kind == "batch" else []
    return found
