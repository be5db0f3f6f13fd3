"""Attention and split norms: parts of a block that fork and join inside one of its paths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from resnets.weights.readers.onnx.graph import Graph, Op
from resnets.weights.readers.onnx.rewrite import axes_of, rewrite, slices_of

__all__ = ["join_gates", "join_split_norms"]


def join_split_norms(graph: Graph) -> None:
    """Norms of two parts of the channels, joined again."""
    norms = ("InstanceNormalization", "BatchNormalization", "GroupNorm", "Affine")

    def change(op: Op) -> Op | None:
        if op.kind != "Concat" or len(op.inputs) != 2 or op.attributes.get("axis") != 1:
            return None
        parts = [graph.makers.get(name) for name in op.inputs]
        halves = [graph.makers.get(part.inputs[0]) for part in parts if part is not None and part.kind in norms]
        if len(halves) != 2 or any(half is None or half.kind not in ("Slice", "Split") for half in halves):
            return None
        sources = {half.inputs[0] for half in halves if half is not None}
        if len(sources) != 1:
            return None
        source = sources.pop()
        start = 0
        for half in halves:
            assert half is not None
            if _channel_range(graph, half) != (start, start + graph.shapes[half.out][1]):
                return None
            start += graph.shapes[half.out][1]
        if start != graph.shapes[source][1]:
            return None
        return replace(op, kind="SplitNorm", inputs=(source,), attributes={"parts": parts})

    rewrite(graph, change)


def _channel_range(graph: Graph, op: Op) -> tuple[int, int] | None:
    """The channels that a Slice or Split takes; `None` for any other."""
    source, part = graph.shapes[op.inputs[0]], graph.shapes[op.out]
    if len(part) != 4 or source[2:] != part[2:] or source[0] != part[0]:
        return None
    if op.kind == "Split":
        if op.attributes.get("axis", 0) != 1:
            return None
        sizes = [graph.shapes[name][1] for name in op.attributes["parts"]]
        start = sum(sizes[: op.attributes["part"]])
        return start, start + part[1]
    found = slices_of(graph, op)
    if found is None or set(found) != {1} or found[1][1] != 1:
        return None
    return found[1][0], found[1][0] + part[1]


def join_gates(graph: Graph) -> None:
    """Attention by channels: the map times a sigmoid of layers of its mean."""

    def change(op: Op) -> Op | None:
        sources = graph.sources(op)
        if op.kind != "Mul" or len(sources) != 2 or len(graph.shapes[op.out]) != 4:
            return None
        for value, gate in (sources, sources[::-1]):
            for kind, read in (("se", _gate_layers), ("channel", _channel_gate), ("spatial", _spatial_gate)):
                layers = read(graph, gate, value)
                if layers is not None:
                    one = kind == "se" and [layer.kind for layer in layers] == ["Conv"]
                    attributes = {"kind": "eca" if one else kind, "layers": layers}
                    return replace(op, kind="Gate", inputs=(value,), attributes=attributes)
        return None

    rewrite(graph, change)


def _before_sigmoid(graph: Graph, gate: str) -> str | None:
    sigmoid = graph.makers.get(gate)
    if sigmoid is not None and sigmoid.kind == "Expand":  # to the size of the map
        sigmoid = graph.makers.get(sigmoid.inputs[0])
    return sigmoid.inputs[0] if sigmoid is not None and _is_sigmoid(sigmoid) else None


def _is_sigmoid(op: Op) -> bool:
    return op.kind == "Act" and op.attributes["kind"] == "sigmoid"


def _chain_back(graph: Graph, value: str | None, *kinds: str) -> tuple[Op | None, list[Op]]:
    """Operations of these kinds that lead to a value, each read once; and what makes their input."""
    layers = list[Op]()
    op = graph.makers.get(value or "")
    while op is not None and op.kind in kinds and len(layers) < 8 and len(graph.readers.get(op.out, ())) == 1:
        layers.insert(0, op)
        op = graph.makers.get(op.inputs[0])
    return op, layers


def _gate_layers(graph: Graph, gate: str, value: str) -> list[Op] | None:
    """The layers between the mean of `value` and a sigmoid, if `gate` is such a sigmoid."""
    mean, layers = _chain_back(graph, _before_sigmoid(graph, gate), "Conv", "Linear", "Act")
    return layers if mean is not None and _is_pool(mean, value, "avg") and layers else None


def _is_pool(op: Op, value: str, kind: str) -> bool:
    return op.kind == "GlobalPool" and op.inputs[0] == value and op.attributes["kind"] == kind


def _channel_gate(graph: Graph, gate: str, value: str) -> list[Op] | None:
    """Layers of CBAM's channel gate: of mean and maximum side by side, or twice with the same weights."""
    total = graph.makers.get(_before_sigmoid(graph, gate) or "")
    if total is not None and total.kind == "ReduceSum" and axes_of(graph, total, 4) == (3,):
        both, layers = _chain_back(graph, total.inputs[0], "Conv", "Act")
        if both is None or both.kind != "Concat" or both.attributes.get("axis") not in (3, -1):
            return None
        pools = [graph.makers.get(name) for name in both.inputs]
        return layers if _are_mean_and_max(pools, value) else None
    if total is None or total.kind != "Add" or len(graph.sources(total)) != 2:
        return None
    (one, layers), (other, again) = (_chain_back(graph, name, "Conv", "Linear", "Act") for name in total.inputs)
    alike = len(layers) == len(again) and all(_are_alike(graph, a, b) for a, b in zip(layers, again, strict=False))
    pools = [one, other]
    return layers if alike and (_are_mean_and_max(pools, value) or _are_mean_and_max(pools[::-1], value)) else None


def _are_mean_and_max(pools: list[Op | None], value: str) -> bool:
    kinds = ("avg", "max")
    return len(pools) == 2 and all(p is not None and _is_pool(p, value, k) for p, k in zip(pools, kinds, strict=True))


def _are_alike(graph: Graph, one: Op, other: Op) -> bool:
    """Whether two layers have the same weights and attributes."""
    if one.kind != other.kind or one.attributes.keys() != other.attributes.keys():
        return False
    for name, mine in one.attributes.items():
        if not np.array_equal(np.asarray(mine, dtype=object), np.asarray(other.attributes[name], dtype=object)):
            return False
    constants = [[graph.constants.get(name) for name in op.inputs[1:]] for op in (one, other)]
    return len(constants[0]) == len(constants[1]) and all(
        a is not None and b is not None and np.array_equal(a, b) for a, b in zip(*constants, strict=True)
    )


def _spatial_gate(graph: Graph, gate: str, value: str) -> list[Op] | None:
    """Layers of CBAM's spatial gate: of mean and maximum over channels."""
    both, layers = _chain_back(graph, _before_sigmoid(graph, gate), "Conv", "BatchNormalization", "Affine")
    if both is None or both.kind != "Concat" or both.attributes.get("axis") != 1 or len(both.inputs) != 2:
        return None
    for name, kind in zip(both.inputs, ("ReduceMean", "ReduceMax"), strict=True):
        op = graph.makers.get(name)
        if op is None or op.kind != kind or op.inputs[0] != value or axes_of(graph, op, 4) != (1,):
            return None
        if not op.attributes.get("keepdims", 1):
            return None
    return layers
