"""Global pools, subsampling and blurs, which exporters spread over several nodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from resnets.weights.readers.onnx.graph import Graph, Op
from resnets.weights.readers.onnx.pads import explicit_pads, pad_sides, pair
from resnets.weights.readers.onnx.rewrite import axes_of, limits_of, rewrite, scalar, slices_of

__all__ = ["join_blurs", "join_pools", "join_subsampling"]

BINOMIAL = np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25]).astype(np.float32)


def join_pools(graph: Graph) -> None:
    """Global pools: of one operation, the generalised mean, and average and maximum joined."""

    def change(op: Op) -> Op | None:
        kind = {"GlobalAveragePool": "avg", "GlobalMaxPool": "max", "ReduceMean": "avg", "ReduceMax": "max"}.get(
            op.kind
        )
        if kind is None:
            return None
        source = op.inputs[0]
        if op.kind.startswith("Reduce") and (
            len(graph.shapes[source]) != 4
            or axes_of(graph, op, 4) != (2, 3)
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
            scalar(graph.constant(power, 1)),
            scalar(graph.constant(op, 1)),
            limits_of(graph, clip),
        )
        if not p or not inverse or abs(p * inverse - 1) > 1e-5 or not low or low < 0 or high is not None:
            return None
        return replace(op, kind="GlobalPool", inputs=clip.inputs[:1], attributes={"kind": "gem", "p": p, "eps": low})

    def both(op: Op) -> Op | None:
        """Average and maximum, joined or their mean."""
        sources = graph.sources(op)
        if (
            op.kind == "Concat"
            and len(sources) == 2
            and op.attributes.get("axis") in (1, 1 - len(graph.shapes[op.out]))
        ):
            first = graph.makers.get(sources[0])
            in_order = first is not None and _whole_map(graph, first) == "avg"
            source, kind = _mean_and_max(graph, sources) if in_order else None, "catavgmax"
        elif op.kind in ("Mul", "Affine", "Div") and len(sources) == 1:
            total = graph.makers.get(sources[0])
            half = op.attributes["scale"] if op.kind == "Affine" else graph.constant(op, 1)
            wanted = 2.0 if op.kind == "Div" else 0.5
            plain = half is not None and bool((half == wanted).all()) and not np.any(op.attributes.get("shift", 0))
            added = total is not None and total.kind == "Add" and len(graph.sources(total)) == 2
            source = _mean_and_max(graph, graph.sources(total)) if added and plain and total is not None else None
            kind = "avgmax"
        else:
            return None
        return replace(op, kind="GlobalPool", inputs=(source,), attributes={"kind": kind}) if source else None

    rewrite(graph, change)
    graph.index()
    rewrite(graph, generalised)
    rewrite(graph, both)
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


def _mean_and_max(graph: Graph, values: list[str]) -> str | None:
    """The map whose global average and maximum two values are; `None` for other values."""
    makers = [graph.makers.get(value) for value in values]
    kinds = {kind: maker.inputs[0] for maker in makers if maker is not None and (kind := _whole_map(graph, maker))}
    source = kinds.get("avg")
    return source if source is not None and kinds.get("max") == source else None


def _whole_map(graph: Graph, op: Op) -> str | None:
    """`avg` or `max` for a pool of the whole map."""
    if op.kind == "GlobalPool":
        return str(op.attributes["kind"])
    if op.kind not in ("AveragePool", "MaxPool") or graph.shapes[op.out][2:] != (1, 1):
        return None
    whole = tuple(op.attributes["kernel_shape"]) == graph.shapes[op.inputs[0]][2:]
    plain = explicit_pads(graph, op) == (0, 0, 0, 0) and pair(op, "dilations", 1) == 1
    return {"AveragePool": "avg", "MaxPool": "max"}[op.kind] if whole and plain else None


def join_subsampling(graph: Graph) -> None:
    """Slices with one step over height and width, in one or two nodes."""

    def change(op: Op) -> Op | None:
        if op.kind != "Slice" or len(graph.shapes[op.out]) != 4:
            return None
        found = slices_of(graph, op)
        if found is None:
            return None
        before, source = graph.makers.get(op.inputs[0]), op.inputs[0]
        if before is not None and before.kind == "Slice" and graph.only_reader(before.out) is op:
            inner = slices_of(graph, before)
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

    rewrite(graph, change)


def join_blurs(graph: Graph) -> None:
    """Reflected edges and the 3x3 binomial filter of each channel."""

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

    rewrite(graph, change)
