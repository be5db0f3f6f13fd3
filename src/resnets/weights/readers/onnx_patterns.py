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
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from resnets.weights.readers.onnx_file import UnknownGraphError
from resnets.weights.readers.onnx_graph import Array, Graph, Op
from resnets.weights.readers.onnx_pads import explicit_pads, pad_sides, pair

__all__ = ["per_channel", "simplify"]

BINOMIAL = np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25]).astype(np.float32)
FLOAT = 1  # ONNX's number of the type float32
ACTS = {"Relu": "relu", "LeakyRelu": "leaky_relu", "HardSwish": "hard_swish", "Swish": "silu", "Sigmoid": "sigmoid"}
RESHAPES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Expand", "Gather")
ARITHMETIC = ("Add", "Sub", "Mul", "Div")


def simplify(graph: Graph) -> None:
    """Replace the operations of a graph by those of the table above; what it does not know stays as it is."""
    for rule in (
        _pass_on,
        _acts,
        _linear,
        _group_norm,
        _affine,
        _pools,
        _reshapes,
        _split_norm,
        _gates,
        _subsample,
        _blurs,
    ):
        rule(graph)
        graph.index()


def per_channel(array: Array, rank: int, channels: int, axis: int = 1) -> Array | None:
    """A constant that broadcasts over one axis of a value, as an array of its channels; `None` for any other."""
    shape = (1,) * (rank - array.ndim) + array.shape
    if len(shape) != rank or any(size != 1 for index, size in enumerate(shape) if index != axis):
        return None
    if shape[axis] not in (1, channels):
        return None
    return np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (channels,))).astype(np.float32)


def _rewrite(graph: Graph, change: Callable[[Op], Op | None]) -> None:
    """Replace each operation for which `change` returns another; operations that nothing reads then disappear."""
    for index, op in enumerate(graph.ops):
        new = change(op)
        if new is not None and new is not op:
            graph.ops[index] = new
            graph.makers[new.out] = new


def _scalar(array: Array | None) -> float | None:
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _axes(graph: Graph, op: Op, rank: int) -> tuple[int, ...] | None:
    """The axes of a Reduce, Squeeze or Unsqueeze, which older operators have as an attribute."""
    axes = op.attributes.get("axes")
    if axes is None and (given := graph.constant(op, 1)) is not None:
        axes = given.reshape(-1).tolist()
    return None if axes is None else tuple(sorted(int(axis) % rank for axis in axes))


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


# Activations


def _acts(graph: Graph) -> None:
    def change(op: Op) -> Op | None:
        if op.kind in ACTS:
            if op.kind == "Swish" and op.attributes.get("alpha", 1.0) != 1:
                return None
            slope = {"alpha": float(op.attributes["alpha"])} if op.kind == "LeakyRelu" else {}
            return replace(op, kind="Act", inputs=op.inputs[:1], attributes={"kind": ACTS[op.kind], **slope})
        if op.kind in ("Mul", "Div"):
            return _gated_act(graph, op)
        return None

    _rewrite(graph, change)


def _gated_act(graph: Graph, op: Op) -> Op | None:
    """x * sigmoid(x), or x * relu6(x + 3) / 6 in one of its spellings."""
    if op.kind == "Div":
        inner = graph.makers.get(op.inputs[0])
        if _scalar(graph.constant(op, 1)) == 6 and inner is not None and inner.kind == "Mul":
            source = _clipped_side(graph, inner, 1.0)
            return _act(op, source, "hard_swish") if source else None
        return None
    source = _clipped_side(graph, op, 1 / 6)
    if source:
        return _act(op, source, "hard_swish")
    for value, gate in (op.inputs, op.inputs[::-1]):
        maker = graph.makers.get(gate)
        if maker is None or maker.inputs[:1] != (value,):
            continue
        if maker.kind == "Sigmoid" or (maker.kind == "Act" and maker.attributes["kind"] == "sigmoid"):
            return _act(op, value, "silu")
        if maker.kind == "HardSigmoid":
            slope, offset = maker.attributes.get("alpha", 0.2), maker.attributes.get("beta", 0.5)
            if abs(slope - 1 / 6) < 1e-6 and offset == 0.5:
                return _act(op, value, "hard_swish")
    return None


def _act(op: Op, source: str, kind: str) -> Op:
    return replace(op, kind="Act", inputs=(source,), attributes={"kind": kind})


def _clipped_side(graph: Graph, op: Op, scale: float) -> str | None:
    """x, where an operation is x * (relu6(x + 3) * scale); else `None`."""
    for value, gate in (op.inputs, op.inputs[::-1]):
        maker = graph.makers.get(gate)
        if maker is not None and scale != 1:
            if maker.kind != "Div" or _scalar(graph.constant(maker, 1)) != 6:
                continue
            maker = graph.makers.get(maker.inputs[0])
        if maker is None or maker.kind != "Clip" or _limits(graph, maker) != (0.0, 6.0):
            continue
        added = graph.makers.get(maker.inputs[0])
        if added is None or added.kind != "Add" or value not in added.inputs:
            continue
        if 3.0 in (_scalar(graph.constant(added, 0)), _scalar(graph.constant(added, 1))):
            return value
    return None


def _limits(graph: Graph, op: Op) -> tuple[float | None, float | None]:
    """Bounds of a Clip; `None` where there is none."""
    low, high = (_scalar(graph.constant(op, index)) for index in (1, 2))
    if len(op.inputs) == 1:
        low, high = op.attributes.get("min"), op.attributes.get("max")
    return low, high


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

    _rewrite(graph, change)
    graph.index()
    _rewrite(graph, biased)


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
        if channels % groups or math.prod(inside[2:]) != math.prod(shape[1:]) // groups:
            return None
        weight, bias = (np.repeat(term.reshape(-1), channels // groups) for term in (scale, shift))
        return _group_op(replace(op, inputs=before.inputs[:1]), norm, groups, weight, bias)

    _rewrite(graph, change)


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
        _rewrite(graph, change)


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


def _pools(graph: Graph) -> None:
    def change(op: Op) -> Op | None:
        kind = {"GlobalAveragePool": "avg", "GlobalMaxPool": "max", "ReduceMean": "avg", "ReduceMax": "max"}.get(
            op.kind
        )
        if kind is None:
            return None
        source = op.inputs[0]
        if op.kind.startswith("Reduce") and (
            len(graph.shapes[source]) != 4
            or _axes(graph, op, 4) != (2, 3)
            or graph.shapes[op.out] not in (graph.shapes[source][:2], (*graph.shapes[source][:2], 1, 1))
        ):
            return None
        return replace(op, kind="GlobalPool", inputs=(source,), attributes={"kind": kind})

    def generalised(op: Op) -> Op | None:
        """Clip, Pow, mean, Pow: the generalised mean."""
        mean = graph.makers.get(op.inputs[0]) if op.kind == "Pow" else None
        power = graph.makers.get(mean.inputs[0]) if mean is not None and mean.kind == "GlobalPool" else None
        clip = graph.makers.get(power.inputs[0]) if power is not None and power.kind == "Pow" else None
        if mean is None or power is None or clip is None or clip.kind != "Clip" or mean.attributes["kind"] != "avg":
            return None
        p, inverse, (low, high) = (
            _scalar(graph.constant(power, 1)),
            _scalar(graph.constant(op, 1)),
            _limits(graph, clip),
        )
        if not p or not inverse or abs(p * inverse - 1) > 1e-5 or not low or low < 0 or high is not None:
            return None
        return replace(op, kind="GlobalPool", inputs=clip.inputs[:1], attributes={"kind": "gem", "p": p, "eps": low})

    _rewrite(graph, change)
    graph.index()
    _rewrite(graph, generalised)
    graph.index()
    for op in graph.ops:  # exporters join the activation before it with its clipping; values of both are the same
        maker = graph.makers.get(op.inputs[0])
        if op.kind == "GlobalPool" and op.attributes["kind"] == "gem" and (maker is None or maker.kind != "Act"):
            relu = f"{op.out}/relu"
            graph.shapes[relu] = graph.shapes[op.inputs[0]]
            act = Op(kind="Act", inputs=op.inputs, out=relu, attributes={"kind": "relu"}, where=op.where)
            at = graph.ops.index(op)
            graph.ops[at : at + 1] = [act, replace(op, inputs=(relu,))]
            return


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
            one = op.kind != "Gather" or _scalar(graph.constant(op, 1)) is not None
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


# Branches


def _split_norm(graph: Graph) -> None:
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

    _rewrite(graph, change)


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
    found = _slices(graph, op)
    if found is None or set(found) != {1} or found[1][1] != 1:
        return None
    return found[1][0], found[1][0] + part[1]


def _slices(graph: Graph, op: Op) -> dict[int, tuple[int, int]] | None:
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


def _gates(graph: Graph) -> None:
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

    _rewrite(graph, change)


def _before_sigmoid(graph: Graph, gate: str) -> str | None:
    sigmoid = graph.makers.get(gate)
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
    if total is not None and total.kind == "ReduceSum" and _axes(graph, total, 4) == (3,):
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
        if op is None or op.kind != kind or op.inputs[0] != value or _axes(graph, op, 4) != (1,):
            return None
        if not op.attributes.get("keepdims", 1):
            return None
    return layers


def _subsample(graph: Graph) -> None:
    """Slices with one step over height and width, in one or two nodes."""

    def change(op: Op) -> Op | None:
        if op.kind != "Slice" or len(graph.shapes[op.out]) != 4:
            return None
        found = _slices(graph, op)
        if found is None:
            return None
        before, source = graph.makers.get(op.inputs[0]), op.inputs[0]
        if before is not None and before.kind == "Slice" and graph.only_reader(before.out) is op:
            inner = _slices(graph, before)
            if inner is None or inner.keys() & found.keys():
                return None
            found, source = found | inner, before.inputs[0]
        size = graph.shapes[source]
        if set(found) != {2, 3} or found[2] != found[3] or found[2][0] != 0:
            return None
        step = found[2][1]
        if step < 1 or graph.shapes[op.out][2:] != tuple(-(-cells // step) for cells in size[2:]):
            return None
        return replace(op, kind="Subsample", inputs=(source,), attributes={"stride": step})

    _rewrite(graph, change)


def _blurs(graph: Graph) -> None:
    def change(op: Op) -> Op | None:
        pad = graph.makers.get(op.inputs[0])
        if op.kind != "Conv" or pad is None or pad.kind != "Pad" or graph.only_reader(pad.out) is not op:
            return None
        if str(pad.attributes.get("mode", "constant")) != "reflect" or pad_sides(graph, pad) != (1, 1, 1, 1):
            return None
        kernel, channels = graph.constant(op, 1), graph.shapes[op.out][1]
        stride = pair(op, "strides", 1)
        plain = (
            kernel is not None
            and kernel.shape == (channels, 1, 3, 3)
            and bool(np.allclose(kernel, BINOMIAL, atol=1e-7))
            and op.attributes.get("group", 1) == channels
            and not (len(op.inputs) > 2 and op.inputs[2])
            and pair(op, "dilations", 1) == 1
            and explicit_pads(graph, op) == (0, 0, 0, 0)
        )
        return replace(op, kind="Blur", inputs=pad.inputs[:1], attributes={"stride": stride}) if plain else None

    _rewrite(graph, change)
