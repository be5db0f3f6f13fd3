"""Nodes of a plan: operations and the ways to combine them, independent of any family of networks.

A node's `name` is its attribute in the parent module; names joined by dots are the paths of a `state_dict`. A chain
named `""` groups its children (a stem, a head) without being a module.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Act",
    "Activation",
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
    "NonLocal",
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

Activation = Literal["relu", "silu", "leaky_relu", "hard_swish", "gelu"]
Padding = int | tuple[int, int] | Literal["same"]
"""Cells on every side, (before, after) on both axes, or TensorFlow's SAME, which depends on the input size."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """Base of all nodes. `name` is its attribute in the parent module, `""` for a chain without a module."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Conv(Node):
    """A 2-d convolution with a square kernel. (N, in_chans, H, W) -> (N, out_chans, H', W').

    `standardised`: each filter is normalised to mean 0 and variance 1 before use; `standardised_eps` is added to its
    variance.
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
    standardised_eps: float = 1e-8
    zero_init: bool = False


@dataclass(frozen=True, kw_only=True)
class ChannelConv(Node):
    """A 1-d convolution along the channels: (N, C, 1, 1) -> (N, 1, C)."""

    channels: int
    kernel: int


@dataclass(frozen=True, kw_only=True)
class Norm(Node):
    """Normalisation over `channels`; `groups` applies to `kind="group"` only.

    `flat`: of features (N, C) instead of a map. `fixed_bias`: its bias is a parameter that is never trained.
    """

    kind: Literal["batch", "group", "frozen_batch", "instance"]
    channels: int
    eps: float
    momentum: float
    groups: int
    zero_init: bool = False
    flat: bool = False
    fixed_bias: bool = False


@dataclass(frozen=True, kw_only=True)
class Act(Node):
    """An element-wise activation. `leaky_relu` has a slope of 0.01 below zero."""

    kind: Activation


@dataclass(frozen=True, kw_only=True)
class Pool(Node):
    """Max or average pooling over a square window.

    `zeros`: a max pool pads with zeros instead of minus infinity. An average pool excludes cells that symmetric padding
    or rounding up adds.
    """

    kind: Literal["max", "avg"]
    kernel: int
    stride: int
    padding: Padding = 0
    ceil: bool = False
    zeros: bool = False


@dataclass(frozen=True, kw_only=True)
class Blur(Node):
    """A 3x3 binomial filter with reflected edges, then subsampling by `stride`."""

    stride: int


@dataclass(frozen=True, kw_only=True)
class GlobalPool(Node):
    """Pooling over the whole feature map. (N, C, H, W) -> (N, C, 1, 1).

    `avgmax`: the mean of average and maximum, `sumavgmax` their sum; `catavgmax`: average, then maximum, of 2 C
    channels; `clipavg`: average, clipped to [0, 1].
    """

    kind: Literal["avg", "max", "gem", "avgmax", "sumavgmax", "catavgmax", "clipavg"]


@dataclass(frozen=True, kw_only=True)
class AdaptivePool(Node):
    """Average pooling to a fixed size. (N, C, H, W) -> (N, C, size, size)."""

    size: int


@dataclass(frozen=True, kw_only=True)
class Dropout(Node):
    """Zeroes each element with probability `rate` in training. The shape is unchanged."""

    rate: float


@dataclass(frozen=True, kw_only=True)
class Flatten(Node):
    """(N, C, H, W) -> (N, C * H * W). A step of `forward` without a module."""


@dataclass(frozen=True, kw_only=True)
class Linear(Node):
    """A fully connected layer. (N, in_features) -> (N, out_features).

    `dense`: on each cell of a map, (N, in_features, H, W) -> (N, out_features, H, W). `cosine`: `cosine` times the
    cosine similarities of the input and each row of the weights. `init_std`: standard deviation of initial weights.
    """

    in_features: int
    out_features: int
    bias: bool = True
    dense: bool = False
    cosine: float | None = None
    init_std: float | None = None


@dataclass(frozen=True, kw_only=True)
class PadChannels(Node):
    """Subsampling by `stride`, with zero channels before and after: (N, C, H, W) -> (N, before+C+after, ...)."""

    stride: int
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class Identity(Node):
    """The identity, in place of a module that other networks of the family have there."""


@dataclass(frozen=True, kw_only=True)
class Chain(Node):
    """Nodes in sequence. `role` is its part of the network, `kind` its name for readers."""

    role: Literal["network", "stem", "features", "stage", "block", "head", "group"]
    nodes: tuple[Node, ...]
    kind: str = ""


@dataclass(frozen=True, kw_only=True)
class Residual(Node):
    """A block with a shortcut: `p = pre(x)`, then `post(body(p) + shortcut(s))`.

    Args:
        kind: name for readers, such as `"Bottleneck"`.
        pre: operations before the fork, whose output is the input of body and shortcut.
        body: the residual function.
        shortcut: operations of the other path; empty for the identity.
        post: operations after the sum.
        drop_path: probability of skipping the body for a sample, in training.
    """

    kind: str
    pre: tuple[Node, ...] = ()
    body: tuple[Node, ...]
    shortcut: tuple[Node, ...] = ()
    post: tuple[Node, ...] = ()
    drop_path: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SplitNorm(Node):
    """Channels split into parts, each with its own norm, as in IBN-Net."""

    parts: tuple[Norm, ...]


@dataclass(frozen=True, kw_only=True)
class Gate(Node):
    """Attention: the input times the sigmoid of `nodes`, applied to statistics of the input.

    Args:
        kind: the statistics. `se` and `eca`: mean of each channel; `channel`: mean and maximum of each channel, stacked
            as (C, 1, 2), whose outputs are added; `spatial`: mean and maximum over channels, as two channels.
    """

    kind: Literal["se", "eca", "channel", "spatial"]
    nodes: tuple[Node, ...]


@dataclass(frozen=True, kw_only=True)
class NonLocal(Node):
    """Self-attention over positions (Wang et al. 2018): x + W(theta(x) phi(x)^T g(x) / positions).

    Its MACs are those of the four convolutions; the products between positions are not counted.

    Args:
        nodes: the 1x1 convolutions `g`, `theta` and `phi`, and `W`, a 1x1 convolution with a norm.
    """

    nodes: tuple[Node, ...]


def children(node: Node) -> tuple[tuple[str, Node], ...]:
    """Direct children of `node`, each with its path from there."""
    match node:
        case Chain() | Gate() | NonLocal():
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
    """`node` and all its descendants, parents first, each with its dotted path."""
    yield path, node
    for name, child in children(node):
        yield from walk(child, join(path, name))
