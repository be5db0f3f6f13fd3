"""What a plan is made of: operations and the ways to put them together. Nothing here knows of ResNets.

A node's `name` is its attribute in the module that holds it; names joined by dots are the paths that a
`state_dict` uses. A chain named `""` groups its children (a stem, a head) without a level of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Act",
    "AdaptivePool",
    "Blur",
    "Chain",
    "ChannelConv",
    "Conv",
    "Dropout",
    "Flatten",
    "Gate",
    "GlobalPool",
    "Identity",
    "Linear",
    "Node",
    "Norm",
    "PadChannels",
    "Padding",
    "Pool",
    "Residual",
    "SplitNorm",
    "children",
    "walk",
]

Padding = int | tuple[int, int] | Literal["same"]
"""Cells on every side; (before, after) on both axes; or TensorFlow's SAME, which depends on the input's size."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """Anything in a plan. `name` is the attribute that holds it, `""` for a chain without a level."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Conv(Node):
    """A square 2-d convolution. (N, in_chans, H, W) -> (N, out_chans, H', W').

    `standardised`: each filter is brought to mean 0 and variance 1 before use.
    """

    in_chans: int
    out_chans: int
    kernel: int
    stride: int = 1
    padding: Padding = 0
    dilation: int = 1
    groups: int = 1
    bias: bool = False
    standardised: bool = False
    zero_init: bool = False


@dataclass(frozen=True, kw_only=True)
class ChannelConv(Node):
    """A 1-d convolution along the channels: (N, C, 1, 1) -> (N, 1, C)."""

    channels: int
    kernel: int


@dataclass(frozen=True, kw_only=True)
class Norm(Node):
    """Normalisation over `channels`; `groups` counts only for `kind="group"`."""

    kind: Literal["batch", "group", "frozen_batch", "instance"]
    channels: int
    eps: float
    momentum: float
    groups: int
    zero_init: bool = False


@dataclass(frozen=True, kw_only=True)
class Act(Node):
    """An element-wise activation."""

    kind: Literal["relu"]


@dataclass(frozen=True, kw_only=True)
class Pool(Node):
    """Max or average pooling over a square window.

    `zeros`: a max pool's padding is zeros, not minus infinity. An average never counts cells that its symmetric
    padding or rounding up adds.
    """

    kind: Literal["max", "avg"]
    kernel: int
    stride: int
    padding: Padding = 0
    ceil: bool = False
    zeros: bool = False


@dataclass(frozen=True, kw_only=True)
class Blur(Node):
    """A 3x3 binomial filter, then every `stride`-th cell; edges are reflected."""

    stride: int


@dataclass(frozen=True, kw_only=True)
class GlobalPool(Node):
    """Pooling over the whole map. (N, C, H, W) -> (N, C, 1, 1)."""

    kind: Literal["avg", "max", "gem"]


@dataclass(frozen=True, kw_only=True)
class AdaptivePool(Node):
    """Averages over a `size` x `size` grid, whatever the map. (N, C, H, W) -> (N, C, size, size)."""

    size: int


@dataclass(frozen=True, kw_only=True)
class Dropout(Node):
    """Zeroes each number with probability `rate` in training. Shape kept."""

    rate: float


@dataclass(frozen=True, kw_only=True)
class Flatten(Node):
    """(N, C, H, W) -> (N, C * H * W). A step of `forward`, no module."""


@dataclass(frozen=True, kw_only=True)
class Linear(Node):
    """A fully connected layer. (N, in_features) -> (N, out_features)."""

    in_features: int
    out_features: int
    bias: bool = True


@dataclass(frozen=True, kw_only=True)
class PadChannels(Node):
    """Every `stride`-th cell, with channels of zeros before and after: (N, C, H, W) -> (N, before+C+after, ...)."""

    stride: int
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class Identity(Node):
    """Nothing; it keeps the place of a module that another network of the family has there."""


@dataclass(frozen=True, kw_only=True)
class Chain(Node):
    """Nodes one after the other. `role` is its place in the network, `kind` what readers call it."""

    role: Literal["network", "stem", "features", "stage", "block", "head", "group"]
    nodes: tuple[Node, ...]
    kind: str = ""


@dataclass(frozen=True, kw_only=True)
class Residual(Node):
    """A block with a shortcut: `p = pre(x)`, then `post(body(p) + shortcut(s))`.

    Args:
        kind: what readers call it, such as `"Bottleneck"`.
        pre: operations before the fork; then body and shortcut both read their result.
        body: the residual function.
        shortcut: operations on the other path; none is the identity.
        post: operations after the sum.
        drop_path: probability that training leaves the body out, for a sample.
    """

    kind: str
    pre: tuple[Node, ...] = ()
    body: tuple[Node, ...]
    shortcut: tuple[Node, ...] = ()
    post: tuple[Node, ...] = ()
    drop_path: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SplitNorm(Node):
    """The channels in parts, each with a norm of its own, as IBN has them."""

    parts: tuple[Norm, ...]


@dataclass(frozen=True, kw_only=True)
class Gate(Node):
    """Attention: the input times what `nodes` make of it, in (0, 1).

    Args:
        kind: `se` (mean of each channel, through `nodes`), `eca` (the same), `channel` (mean and maximum of each
            channel, side by side as (C, 1, 2) through `nodes`, then added) or `spatial` (mean and maximum over the
            channels, as two channels).
    """

    kind: Literal["se", "eca", "channel", "spatial"]
    nodes: tuple[Node, ...]


def children(node: Node) -> tuple[tuple[str, Node], ...]:
    """The nodes directly inside `node`, each with its path from there."""
    match node:
        case Chain() | Gate():
            return tuple((child.name, child) for child in node.nodes)
        case SplitNorm():
            return tuple((part.name, part) for part in node.parts)
        case Residual():
            shortcut = ((f"downsample.{child.name}", child) for child in node.shortcut)
            own = ((child.name, child) for child in (*node.pre, *node.body))
            return (*own, *shortcut, *((child.name, child) for child in node.post))
        case _:
            return ()


def join(path: str, name: str) -> str:
    """`path.name`, where either may be empty."""
    return f"{path}.{name}" if path and name else path or name


def walk(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """`node` and all inside it, parents first, each with its dotted path."""
    yield path, node
    for name, child in children(node):
        yield from walk(child, join(path, name))
