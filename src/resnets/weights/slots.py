"""The tensors of a network as its plan names them: where each stands, what it is for, and its shape.

A slot's role is what key maps of all dialects speak of; how a role is spelled, and the order of its axes, is the
dialect's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from resnets.arch.nodes import ChannelConv, Conv, GlobalPool, Linear, Node, Norm, join, walk

__all__ = ["OURS", "Role", "Slot", "slots"]

Role = Literal["kernel", "matrix", "bias", "gamma", "beta", "mean", "var", "count", "power"]

OURS: dict[Role, str] = {
    "kernel": "weight",  # of a convolution: out, in / groups, height, width; or out, in, cells
    "matrix": "weight",  # of a linear layer: out, in
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "mean": "running_mean",
    "var": "running_var",
    "count": "num_batches_tracked",
    "power": "p",  # of a generalised mean
}


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A place for one tensor.

    Args:
        path: of the operation that it belongs to, such as `layer1.0.conv1`.
        role: what it is there.
        shape: in torch's axis order.
    """

    path: str
    role: Role
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """The key in our `state_dict`."""
        return join(self.path, OURS[self.role])


def slots(plan: Node) -> Iterator[Slot]:
    """Every tensor of the network of `plan`, in the order of its parts."""
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
