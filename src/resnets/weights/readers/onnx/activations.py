"""Activations, which exporters spread over several nodes."""

from __future__ import annotations

from dataclasses import replace

from resnets.weights.readers.onnx.graph import Graph, Op
from resnets.weights.readers.onnx.rewrite import limits_of, rewrite, scalar

__all__ = ["join_activations"]

ACTS = {"Relu": "relu", "LeakyRelu": "leaky_relu", "HardSwish": "hard_swish", "Swish": "silu", "Sigmoid": "sigmoid"}


def join_activations(graph: Graph) -> None:
    """Replace activations by the kind `Act`."""

    def change(op: Op) -> Op | None:
        if op.kind in ACTS:
            if op.kind == "Swish" and op.attributes.get("alpha", 1.0) != 1:
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
