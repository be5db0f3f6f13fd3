"""Kernel, stride and padding of ONNX's convolutions and pools at one input size."""

from __future__ import annotations

from resnets.arch.nodes import Padding
from resnets.weights.readers.onnx.file import UnknownGraphError
from resnets.weights.readers.onnx.graph import Graph, Op

__all__ = ["Sides", "explicit_pads", "pair", "planned_pads"]

Sides = tuple[int, int, int, int]
"""Cells before and after: top, left, bottom, right."""


def pair(op: Op, name: str, default: int) -> int:
    """An attribute that has one value for height and width."""
    values = tuple(op.attributes.get(name) or (default,))
    if len(set(values)) > 1:
        raise UnknownGraphError(f"{op.where} has {name} of {list(values)}; our networks have one for both axes")
    return int(values[0])


def explicit_pads(graph: Graph, op: Op, pad: Op | None = None) -> Sides:
    """Padding of a convolution or pool, with that of a Pad before it; automatic padding is computed."""
    rule = str(op.attributes.get("auto_pad", "NOTSET"))
    pads = tuple(op.attributes.get("pads") or (0, 0, 0, 0))
    if rule.startswith("SAME"):
        reach = (pair(op, "kernel_shape", kernel_of(graph, op)) - 1) * pair(op, "dilations", 1) + 1
        shape, stride = graph.shapes[op.inputs[0]], pair(op, "strides", 1)
        pads = same_pads(shape, reach, stride, after=rule == "SAME_UPPER") if reach > 1 else (0, 0, 0, 0)
    elif rule == "VALID":
        pads = (0, 0, 0, 0)
    if len(pads) != 4:
        raise UnknownGraphError(f"{op.where} has pads of {list(pads)}; our networks pad height and width")
    outer = pad_sides(graph, pad) if pad is not None else (0, 0, 0, 0)
    top, left, bottom, right = (int(own) + other for own, other in zip(pads, outer, strict=True))
    return top, left, bottom, right


def kernel_of(graph: Graph, op: Op) -> int:
    kernel = graph.constant(op, 1)
    return int(kernel.shape[-1]) if kernel is not None and kernel.ndim == 4 else 1


def pad_sides(graph: Graph, pad: Op) -> Sides:
    """Cells that a Pad adds to height and width."""
    given = graph.constant(pad, 1)
    values = [int(v) for v in (given.reshape(-1).tolist() if given is not None else pad.attributes.get("pads") or ())]
    axes = graph.constant(pad, 3)
    if axes is not None:
        order = [int(axis) % 4 for axis in axes.reshape(-1).tolist()]
        full = [0] * 8
        for index, axis in enumerate(order):
            full[axis], full[axis + 4] = values[index], values[index + len(order)]
        values = full
    if len(values) != 8 or values[0] or values[1] or values[4] or values[5] or min(values) < 0:
        raise UnknownGraphError(f"{pad.where} adds {values}; our networks pad height and width here")
    return values[2], values[3], values[6], values[7]


def same_pads(shape: tuple[int, ...], reach: int, stride: int, *, after: bool = True) -> Sides:
    """TensorFlow's SAME padding of (N, C, H, W); `after`: the odd cell is added at the end."""
    totals = [max((-(-size // stride) - 1) * stride + reach - size, 0) for size in shape[2:4]]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    before, behind = (small, large) if after else (large, small)
    return before[0], before[1], behind[0], behind[1]


def planned_pads(padding: Padding, shape: tuple[int, ...], reach: int, stride: int) -> Sides:
    """Padding of a node of a plan for an input of (N, C, H, W)."""
    if padding == "same":
        return same_pads(shape, reach, stride)
    before, after = padding if isinstance(padding, tuple) else (padding, padding)
    return before, before, after, after
