"""Activations, which exporters spread over several nodes."""

from __future__ import annotations

from dataclasses import replace

from resnets.weights.readers.onnx.graph import Graph, Op
from resnets.weights.readers.onnx.rewrite import limits_of, rewrite, scalar

__all__ = ["join_activations"]

ACTS = {
    "Relu": "relu",
    "LeakyRelu": "leaky_relu",
    "HardSwish": "hard_swish",
    "Swish": "silu",
    "Sigmoid": "sigmoid",
    "Gelu": "gelu",
}


def join_activations(graph: Graph) -> None:
    """Replace activations by the kind `Act`."""

    def change(op: Op) -> Op | None:
        if op.kind in ACTS:
            if op.kind == "Swish" and op.attributes.get("alpha", 1.0) != 1:
                return None
            if op.kind == "Gelu" and op.attributes.get("approximate", "none") != "none":
                return None
            slope = {"alpha": float(op.attributes["alpha"])} if op.kind == "LeakyRelu" else {}
            return replace(op, kind="Act", inputs=op.inputs[:1], attributes={"kind": ACTS[op.kind], **slope})
        if op.kind in ("Mul", "Div"):
            return _gated_act(graph, op)
        return None

    rewrite(graph, change)


def _gated_act(graph: Graph, op: Op) -> Op | None:
    """x * sigmoid(x), or x * relu6(x + 3) / 6 in one of its spellings."""
    if op.kind == "Div":
        inner = graph.makers.get(op.inputs[0])
        if scalar(graph.constant(op, 1)) == 6 and inner is not None and inner.kind == "Mul":
            source = _clipped_side(graph, inner, 1.0)
            return _act(op, source, "hard_swish") if source else None
        return None
    source = _clipped_side(graph, op, 1 / 6)
    if source:
        return _act(op, source, "hard_swish")
    source = _erf_source(graph, op)
    if source:
        return _act(op, source, "gelu")
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


def _erf_source(graph: Graph, op: Op) -> str | None:
    """x, where an operation is x * (erf(x / sqrt(2)) + 1) * 0.5, multiplied in any order; else `None`."""
    factors, values = 1.0, list[str]()
    waiting = list(op.inputs)
    while waiting and len(values) < 4:
        name = waiting.pop()
        maker, constant = graph.makers.get(name), scalar(graph.constants.get(name))
        if constant is not None:
            factors *= constant
        elif maker is not None and maker.kind == "Mul" and len(graph.readers.get(name, ())) == 1:
            waiting += maker.inputs
        else:
            values.append(name)
    if len(values) != 2 or abs(factors - 0.5) > 1e-6:
        return None
    for value, gate in (values, values[::-1]):
        one = graph.makers.get(gate)
        if one is None or one.kind != "Add" or 1.0 not in [scalar(graph.constant(one, index)) for index in (0, 1)]:
            continue
        erf = graph.makers.get(graph.sources(one)[0])
        scaled = graph.makers.get(erf.inputs[0]) if erf is not None and erf.kind == "Erf" else None
        if scaled is None or scaled.kind not in ("Div", "Mul") or graph.sources(scaled) != [value]:
            continue
        by = [c for index in (0, 1) if (c := scalar(graph.constant(scaled, index))) is not None]
        if len(by) == 1 and abs(by[0] - (2**0.5 if scaled.kind == "Div" else 0.5**0.5)) < 1e-6:
            return value
    return None


def _act(op: Op, source: str, kind: str) -> Op:
    return replace(op, kind="Act", inputs=(source,), attributes={"kind": kind})


def _clipped_side(graph: Graph, op: Op, scale: float) -> str | None:
    """x, where an operation is x * (relu6(x + 3) * scale); else `None`."""
    for value, gate in (op.inputs, op.inputs[::-1]):
        maker = graph.makers.get(gate)
        if maker is not None and scale != 1:
            if maker.kind != "Div" or scalar(graph.constant(maker, 1)) != 6:
                continue
            maker = graph.makers.get(maker.inputs[0])
        if maker is None or maker.kind != "Clip" or limits_of(graph, maker) != (0.0, 6.0):
            continue
        added = graph.makers.get(maker.inputs[0])
        if added is None or added.kind != "Add" or value not in added.inputs:
            continue
        if 3.0 in (scalar(graph.constant(added, 0)), scalar(graph.constant(added, 1))):
            return value
    return None
