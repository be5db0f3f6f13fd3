"""Tools for replacing operations of a graph by others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from resnets.weights.readers.onnx.graph import Array, Graph, Op

__all__ = ["axes_of", "limits_of", "per_channel", "rewrite", "scalar", "slices_of"]


def per_channel(array: Array, rank: int, channels: int, axis: int = 1) -> Array | None:
    """A constant that broadcasts over one axis of a value, as an array of its channels; `None` for any other."""
    shape = (1,) * (rank - array.ndim) + array.shape
    if len(shape) != rank or any(size != 1 for index, size in enumerate(shape) if index != axis):
        return None
    if shape[axis] not in (1, channels):
        return None
    return np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (channels,))).astype(np.float32)


def rewrite(graph: Graph, change: Callable[[Op], Op | None]) -> None:
    """Replace each operation for which `change` returns another; operations that nothing reads then disappear."""
    for index, op in enumerate(graph.ops):
        new = change(op)
        if new is not None and new is not op:
            graph.ops[index] = new
            graph.makers[new.out] = new


def scalar(array: Array | None) -> float | None:
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def axes_of(graph: Graph, op: Op, rank: int) -> tuple[int, ...] | None:
    """The axes of a Reduce, Squeeze or Unsqueeze, which older operators have as an attribute."""
    axes = op.attributes.get("axes")
    if axes is None and (given := graph.constant(op, 1)) is not None:
        axes = given.reshape(-1).tolist()
    return None if axes is None else tuple(sorted(int(axis) % rank for axis in axes))


def limits_of(graph: Graph, op: Op) -> tuple[float | None, float | None]:
    """Bounds of a Clip; `None` where there is none."""
    low, high = (scalar(graph.constant(op, index)) for index in (1, 2))
    if len(op.inputs) == 1:
        low, high = op.attributes.get("min"), op.attributes.get("max")
    return low, high


def slices_of(graph: Graph, op: Op) -> dict[int, tuple[int, int]] | None:
    """Start and step of a Slice by axis, of axes that it changes."""
    shape = graph.shapes[op.inputs[0]]
    if "starts" in op.attributes:
        starts = list(op.attributes["starts"])
        axes, steps = list(op.attributes.get("axes", range(len(starts)))), [1] * len(starts)
    else:
        given = [graph.constant(op, index) for index in (1, 3, 4)]
        if given[0] is None or any(
            c is None and i < len(op.inputs) and op.inputs[i] for i, c in zip((1, 3, 4), given, strict=True)
        ):
            return None
        starts = given[0].reshape(-1).tolist()
        axes = list(range(len(starts))) if given[1] is None else given[1].reshape(-1).tolist()
        steps = [1] * len(starts) if given[2] is None else given[2].reshape(-1).tolist()
    found = {}
    for axis, start, step in zip(axes, starts, steps, strict=True):
        axis, size = axis % len(shape), shape[axis % len(shape)]
        start = max(start + size, 0) if start < 0 else start
        if graph.shapes[op.out][axis] != size or step != 1:
            found[axis] = (int(start), int(step))
    return found
