"""Operations of a graph as those of residual networks: what exporters spread over several nodes becomes one operation.

| kind | read from |
|---|---|
| `Act` | Relu, LeakyRelu, HardSwish, Swish; x * Sigmoid(x), x * HardSigmoid(x), x * Clip(x + 3, 0, 6) / 6 |
| `Affine` | Mul, Add, Sub, Div by a constant of each channel |
| `GroupNorm` | GroupNormalization; Reshape, InstanceNormalization, Reshape, Mul, Add |
| `SplitNorm` | Slice or Split over channels, a norm of each part, Concat |
| `Gate` | a mean over the map, layers, Sigmoid, Mul with the map |
| `GlobalPool` | GlobalAveragePool, GlobalMaxPool, ReduceMean, ReduceMax; Clip, Pow, mean, Pow |
| `Linear` | Gemm; MatMul, Add |
| `Flatten` | Flatten, Reshape, Squeeze |
| `Subsample` | Slice with steps over the map |
| `Blur` | Pad by reflection, convolution of each channel with the 3x3 binomial filter |

Identity, Dropout, casts between floats, and reshapes that only add or drop axes of one cell are left out. Convolutions,
batch norms, pools and pads keep ONNX's kinds and attributes.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from resnets.weights.readers.onnx.activations import join_activations
from resnets.weights.readers.onnx.branches import join_gates, join_split_norms
from resnets.weights.readers.onnx.file import UnknownGraphError
from resnets.weights.readers.onnx.graph import Array, Graph, Op
from resnets.weights.readers.onnx.pools import join_blurs, join_pools, join_subsampling
from resnets.weights.readers.onnx.rewrite import per_channel, rewrite, scalar

__all__ = ["simplify"]

FLOAT = 1  # ONNX's number of the type float32
RESHAPES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Expand", "Gather")
ARITHMETIC = ("Add", "Sub", "Mul", "Div")


def simplify(graph: Graph) -> None:
    """Replace the operations of a graph by those of the table above; what it does not know stays as it is."""
    for rule in RULES:
        rule(graph)
        graph.index()


# Operations that change nothing


def _pass_on(graph: Graph) -> None:
    alias: dict[str, str] = {}
    kept = []
    for op in graph.ops:
        op = replace(op, inputs=tuple(alias.get(name, name) for name in op.inputs))
        if op.kind == "Identity" or (op.kind == "Cast" and op.attributes.get("to") == FLOAT):
            alias[op.out] = op.inputs[0]
        elif op.kind == "Dropout":
            training = graph.constant(op, 2)
            if len(op.inputs) > 2 and op.inputs[2] and (training is None or bool(training)):
                raise UnknownGraphError(f"{op.where} drops values at random")
            alias[op.out] = op.inputs[0]
        else:
            kept.append(op)
    graph.ops, graph.output = kept, alias.get(graph.output, graph.output)


# Layers


def _linear(graph: Graph) -> None:
    def change(op: Op) -> Op | None:
        if op.kind == "Gemm":
            weight, bias = graph.constant(op, 1), graph.constant(op, 2)
            if weight is None or weight.ndim != 2 or op.attributes.get("transA", 0):
                return None
            weight = weight if op.attributes.get("transB", 0) else weight.T
            weight = weight * np.float32(op.attributes.get("alpha", 1.0))
            if bias is not None:
                bias = per_channel(bias, 2, weight.shape[0])
                if bias is None:
                    return None
                bias = bias * np.float32(op.attributes.get("beta", 1.0))
            elif len(op.inputs) > 2 and op.inputs[2]:
                return None
            return _linear_op(op, weight, bias)
        if op.kind == "MatMul":
            weight = graph.constant(op, 1)
            if weight is None or weight.ndim != 2 or len(graph.shapes[op.inputs[0]]) != 2:
                return None
            return _linear_op(op, weight.T, None)
        return None

    def biased(op: Op) -> Op | None:
        sources = graph.sources(op)
        maker = graph.makers.get(sources[0]) if op.kind == "Add" and len(sources) == 1 else None
        if maker is None or maker.kind != "Linear" or graph.only_reader(maker.out) is not op:
            return None
        constant = next(c for index in (0, 1) if (c := graph.constant(op, index)) is not None)
        bias = per_channel(constant, 2, maker.attributes["weight"].shape[0])
        if bias is None or maker.attributes["bias"] is not None:
            return None
        return replace(maker, out=op.out, attributes={**maker.attributes, "bias": bias})

    rewrite(graph, change)
    graph.index()
    rewrite(graph, biased)


def _linear_op(op: Op, weight: Array, bias: Array | None) -> Op:
    return replace(op, kind="Linear", inputs=op.inputs[:1], attributes={"weight": weight, "bias": bias})


def _group_norm(graph: Graph) -> None:
    def change(op: Op) -> Op | None:
        if op.kind == "GroupNormalization":
            groups, channels = int(op.attributes["num_groups"]), graph.shapes[op.inputs[0]][1]
            terms = [graph.constant(op, index) for index in (1, 2)]
            if any(term is None or term.size not in (groups, channels) for term in terms) or channels % groups:
                return None
            weight, bias = (np.repeat(t.reshape(-1), channels // t.size) for t in terms if t is not None)
            return _group_op(op, op, groups, weight, bias)
        if op.kind != "Reshape" or len(graph.shapes[op.out]) != 4:
            return None
        norm = graph.makers.get(op.inputs[0])
        before = graph.makers.get(norm.inputs[0]) if norm is not None and norm.kind == "InstanceNormalization" else None
        if norm is None or before is None or before.kind != "Reshape":
            return None
        inside, shape = graph.shapes[before.out], graph.shapes[before.inputs[0]]
        scale, shift = graph.constant(norm, 1), graph.constant(norm, 2)
        if graph.shapes[op.out] != shape or inside[0] != shape[0] or scale is None or shift is None:
            return None
        groups, channels = inside[1], shape[1]
        if (
            not scale.size == shift.size == groups
            or channels % groups
            or math.prod(inside[2:]) != math.prod(shape[1:]) // groups
        ):
            return None
        weight, bias = (np.repeat(term.reshape(-1), channels // groups) for term in (scale, shift))
        return _group_op(replace(op, inputs=before.inputs[:1]), norm, groups, weight, bias)

    rewrite(graph, change)


def _group_op(op: Op, norm: Op, groups: int, weight: Array, bias: Array) -> Op:
    attributes = {"groups": groups, "epsilon": norm.attributes.get("epsilon", 1e-5), "weight": weight, "bias": bias}
    return replace(op, kind="GroupNorm", inputs=op.inputs[:1], attributes=attributes, where=norm.where)


def _affine(graph: Graph) -> None:
    """One constant scale and shift of each channel; of several in a row, their product."""

    def change(op: Op) -> Op | None:
        sources = graph.sources(op)
        shape = graph.shapes[op.out]
        if op.kind not in ARITHMETIC or len(sources) != 1 or len(op.inputs) != 2 or len(shape) != 4:
            return None
        index = 1 if op.inputs[0] == sources[0] else 0
        constant = graph.constant(op, index)
        if constant is None or graph.shapes[sources[0]] != shape or (op.kind == "Div" and index == 0):
            return None
        axis = 3 if _channels_last(graph, op.out) else 1
        term = per_channel(constant, 4, shape[axis], axis)
        if term is None:
            return None
        one, zero = np.ones_like(term), np.zeros_like(term)
        scale, shift = {
            "Mul": (term, zero),
            "Div": (one / term, zero),
            "Add": (one, term),
            "Sub": (one, -term) if index else (-one, term),
        }[op.kind]
        before = graph.makers.get(sources[0])
        if before is None or graph.only_reader(before.out) is not op:
            before = None
        if before is not None and before.kind == "Affine":
            inner_scale, inner_shift = before.attributes["scale"], before.attributes["shift"]
            scale, shift = scale * inner_scale, scale * inner_shift + shift
            sources = list(before.inputs)
        if before is not None and before.kind == "GroupNorm":
            weight, bias = before.attributes["weight"] * scale, before.attributes["bias"] * scale + shift
            return replace(before, out=op.out, attributes={**before.attributes, "weight": weight, "bias": bias})
        return replace(op, kind="Affine", inputs=tuple(sources[:1]), attributes={"scale": scale, "shift": shift})

    with np.errstate(divide="ignore", invalid="ignore"):
        rewrite(graph, change)


def _channels_last(graph: Graph, value: str) -> bool:
    """Whether a value lies between an input of (N, H, W, C) and its transposition."""
    seen = 0
    while (reader := graph.only_reader(value)) is not None and seen < 8:
        if reader.kind == "Transpose":
            return tuple(reader.attributes.get("perm", ())) == (0, 3, 1, 2)
        if reader.kind not in ARITHMETIC:
            return False
        value, seen = reader.out, seen + 1
    return False


def _reshapes(graph: Graph) -> None:
    """Drop reshapes that only add or drop axes of one cell; name those `Flatten` that join channels and cells."""
    alias: dict[str, str] = {}
    kept = []
    for op in graph.ops:
        before = graph.shapes.get(op.inputs[0], ())
        op = replace(op, inputs=tuple(alias.get(name, name) for name in op.inputs))
        if op.kind == "Transpose" and len(before) == 3 and _keeps_order(op, before):
            alias[op.out] = op.inputs[0]
            continue
        if op.kind in RESHAPES and graph.sources(op) == [op.inputs[0]]:
            after = graph.shapes[op.out]
            same_cells = [size for size in before[1:] if size > 1] == [size for size in after[1:] if size > 1]
            one = op.kind != "Gather" or scalar(graph.constant(op, 1)) is not None
            if before[:1] == after[:1] and same_cells and one and (before == after or len(before) != len(after)):
                alias[op.out] = op.inputs[0]
                continue
            if op.kind in ("Flatten", "Reshape") and len(before) == 4 and after == (before[0], math.prod(before[1:])):
                op = replace(op, kind="Flatten", inputs=op.inputs[:1], attributes={})
        kept.append(op)
    graph.ops, graph.output = kept, alias.get(graph.output, graph.output)


def _keeps_order(op: Op, shape: tuple[int, ...]) -> bool:
    """Whether a Transpose moves no axis past another but those of one cell."""
    order = [axis for axis in op.attributes.get("perm", ()) if shape[axis] > 1]
    return bool(op.attributes.get("perm")) and order == sorted(order)


RULES = (
    _pass_on,
    join_activations,
    _linear,
    _group_norm,
    _affine,
    join_pools,
    _reshapes,
    join_split_norms,
    join_gates,
    join_subsampling,
    join_blurs,
)
