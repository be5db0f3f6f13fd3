"""Shapes, receptive fields, parameters and MACs of a plan, in one walk over the tree, in integers.

Shape letters: C channels, H height, W width. MACs are multiply-adds of convolutions and linear layers, for one
image; FLOPs are twice that. The receptive field is that of convolutions and pools, in input pixels a side; `None` is
the whole image, from a global pool on. Statistics of the whole feature map (of a gate, an instance norm or a group
norm) do not extend it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice

from resnets.arch import nodes
from resnets.errors import ShapeError

__all__ = ["Record", "Signal", "apply", "count_params", "trace"]


@dataclass(frozen=True)
class Signal:
    """Shape, receptive field and stride of a tensor between two operations.

    Args:
        shape: (C, H, W), or (D,) once flattened.
        receptive_field: of one cell, in input pixels a side; `None` for the whole image.
        stride: distance of neighbouring cells, in input pixels.
    """

    shape: tuple[int, ...]
    receptive_field: int | None = 1
    stride: int = 1


@dataclass(frozen=True)
class Record:
    """A visited node: its path, input, output, and the cost of it and its children."""

    path: str
    node: nodes.Node
    source: Signal
    result: Signal
    params: int
    macs: int


def trace(plan: nodes.Node, shape: tuple[int, int, int]) -> list[Record]:
    """Trace an input of `shape` (C, H, W) through every node of `plan`; parents come first.

    Raises:
        ShapeError: the wrong number of channels, or an empty output; the message names the node.
    """
    return _trace(plan, Signal(shape), "")


def _trace(node: nodes.Node, signal: Signal, path: str) -> list[Record]:
    branches = iter(nodes.children(node))
    inside: list[Record] = []
    params, macs = 0, 0

    def run(here: Signal, count: int | None = None) -> Signal:
        """Run the next `count` children, by default all that are left."""
        nonlocal params, macs
        for name, child in islice(branches, count):
            records = _trace(child, here, nodes.join(path, name))
            inside.extend(records)
            here, params, macs = records[0].result, params + records[0].params, macs + records[0].macs
        return here

    shape, field, stride = signal.shape, signal.receptive_field, signal.stride
    match node:
        case nodes.Chain():
            result = run(signal)
        case nodes.SplitNorm():
            _expect(shape, sum(part.channels for part in node.parts), path)
            for part in node.parts:
                run(Signal((part.channels, *shape[1:]), field, stride), 1)
            result = signal
        case nodes.Gate(kind="spatial"):
            gate = run(Signal((2, *shape[1:]), field, stride))
            result = Signal(shape, gate.receptive_field, stride)
        case nodes.NonLocal():
            values = run(signal, 1)
            run(signal, 1)
            run(signal, 1)
            result = Signal(run(values).shape, None, stride)
        case nodes.Gate():
            run(Signal((shape[0], 1, 2 if node.kind == "channel" else 1), None, stride))
            result = signal
        case nodes.Residual():
            fork = run(signal, len(node.pre))
            body, shortcut = run(fork, len(node.body)), run(fork, len(node.shortcut))
            if body.shape != shortcut.shape:
                raise ShapeError(
                    f"both paths of a block must have one output shape; got {body.shape} and {shortcut.shape} at {path}"
                )
            result = run(Signal(body.shape, _wider(body.receptive_field, shortcut.receptive_field), body.stride))
        case _:
            result = apply(node, signal, path)
            params, macs = _params(node), _macs(node, result)
    return [Record(path, node, signal, result, params, macs), *inside]


def _wider(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


def apply(node: nodes.Node, signal: Signal, path: str) -> Signal:
    """The signal after a single operation.

    Raises:
        ShapeError: the wrong channels, or an empty output.
    """
    shape, field, stride = signal.shape, signal.receptive_field, signal.stride
    match node:
        case nodes.Conv():
            _expect(shape, node.in_chans, path)
            reach = node.dilation * (node.kernel - 1) + 1
            cells = (_window(size, reach, node.stride, node.padding, False, path) for size in shape[1:])
            return Signal((node.out_chans, *cells), field and field + (reach - 1) * stride, stride * node.stride)
        case nodes.Pool():
            cells = (_window(size, node.kernel, node.stride, node.padding, node.ceil, path) for size in shape[1:])
            return Signal((shape[0], *cells), field and field + (node.kernel - 1) * stride, stride * node.stride)
        case nodes.Blur():
            if min(shape[1:]) < 2:
                raise ShapeError(f"{path} reflects its edges and requires two cells a side; got {shape[1]}x{shape[2]}")
            cells = (-(-size // node.stride) for size in shape[1:])
            return Signal((shape[0], *cells), field and field + 2 * stride, stride * node.stride)
        case nodes.ChannelConv():
            _expect(shape, node.channels, path)
            return Signal((1, node.channels), field, stride)
        case nodes.PadChannels():
            cells = (-(-size // node.stride) for size in shape[1:])
            return Signal((node.before + shape[0] + node.after, *cells), field, stride * node.stride)
        case nodes.GlobalPool():
            return Signal((shape[0] * (2 if node.kind == "catavgmax" else 1), 1, 1), None, stride)
        case nodes.AdaptivePool():
            return Signal((shape[0], node.size, node.size), None, stride)
        case nodes.Flatten():
            return Signal((shape[0] * shape[1] * shape[2],), field, stride)
        case nodes.Linear():
            _expect(shape, node.in_features, path)
            if node.dense:
                return Signal((node.out_features, *shape[1:]), field, stride)
            return Signal((node.out_features,), None, stride)
        case nodes.Norm():
            _expect(shape, node.channels, path)
            if node.kind == "instance" and shape[1:] == (1, 1):
                raise ShapeError(f"{path} is an instance norm, which requires more than one cell; got 1x1")
            return signal
        case nodes.Act() | nodes.Dropout() | nodes.Identity():
            return signal
        case _:
            raise AssertionError(f"no shape rule for {type(node).__name__}")


def _expect(shape: tuple[int, ...], channels: int, path: str) -> None:
    if shape[0] != channels:
        raise ShapeError(f"{path} requires {channels} channels; got {shape[0]}; pass in_chans={shape[0]}")


def _window(size: int, reach: int, stride: int, padding: nodes.Padding, ceil: bool, path: str) -> int:
    """Output cells of a window of `reach` cells over `size` cells."""
    if padding == "same":
        return -(-size // stride)
    before, after = padding if isinstance(padding, tuple) else (padding, padding)
    room = size + before + after - reach
    cells = (-(-room // stride) if ceil else room // stride) + 1
    if ceil and (cells - 1) * stride >= size + before:
        cells -= 1  # the last window must start inside the image or the padding before it, as in torch
    if cells < 1:
        raise ShapeError(f"{path} would have an empty output: its window of {reach} exceeds {size} cells")
    return cells


def count_params(plan: nodes.Node) -> int:
    """Parameters of all nodes of `plan`, without tracing an image."""
    return sum(_params(node) for _, node in nodes.walk(plan))


def _params(node: nodes.Node) -> int:
    match node:
        case nodes.Conv():
            weights = node.out_chans * (node.in_chans // node.groups) * node.kernel**2
            return weights + (node.out_chans if node.bias else 0)
        case nodes.Linear():
            return node.out_features * (node.in_features + node.bias)
        case nodes.ChannelConv():
            return node.kernel
        case nodes.GlobalPool():
            return 1 if node.kind == "gem" else 0
        case nodes.Norm():
            return 0 if node.kind == "frozen_batch" else 2 * node.channels
        case _:
            return 0


def _macs(node: nodes.Node, result: Signal) -> int:
    match node:
        case nodes.Conv():
            cells = result.shape[1] * result.shape[2]
            return cells * node.out_chans * (node.in_chans // node.groups) * node.kernel**2
        case nodes.Linear():
            cells = math.prod(result.shape[1:])
            return cells * node.out_features * node.in_features
        case nodes.ChannelConv():
            return node.channels * node.kernel
        case _:
            return 0
