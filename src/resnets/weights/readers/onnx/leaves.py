"""Comparison of a sequence of operations with the leaves of a plan: layers, activations, pools and attention."""

from __future__ import annotations

import numpy as np

from resnets.arch import nodes
from resnets.arch.nodes import Node
from resnets.weights.readers.onnx.graph import Op
from resnets.weights.readers.onnx.layers import LayerComparison, Leaf
from resnets.weights.readers.onnx.pads import explicit_pads, pad_sides
from resnets.weights.readers.onnx.proof import axes_values

__all__ = ["SequenceComparison"]


class SequenceComparison(LayerComparison):
    """Compares a path of the graph with the leaves that it should have."""

    def sequence(self, ops: list[Op], leaves: list[Leaf], where: str) -> None:
        at, index = 0, 0
        while index < len(leaves):
            path, node = leaves[index]
            index += 1
            if isinstance(node, nodes.Identity | nodes.Dropout):
                continue
            if isinstance(node, nodes.Flatten):
                at += at < len(ops) and ops[at].kind == "Flatten"
                continue
            if isinstance(node, nodes.Pool) and (node.kernel, node.stride, node.kind) == (1, 1, "avg"):
                unpooled = at >= len(ops) or ops[at].kind != "AveragePool"
                if unpooled:  # windows of one cell, which need no pool
                    continue
            following = leaves[index] if index < len(leaves) else None
            if isinstance(node, nodes.Conv):
                at, taken = self.conv(ops, at, path, node, following)
                index += taken
                continue
            if isinstance(node, nodes.AdaptivePool):
                at = self.adapted_pool(ops, at, path, node)
                continue
            at = self.leaf(ops, at, path, node, where)
        if at < len(ops):
            before = next((path for path, node in reversed(leaves) if not isinstance(node, nodes.Identity)), "the sum")
            raise self.error(f"{ops[at].where} follows {before} {where}, where our network has nothing")

    def leaf(self, ops: list[Op], at: int, path: str, node: Node, where: str) -> int:
        """Match one leaf from position `at`; the position after it."""
        match node:
            case nodes.Norm():
                kinds = ("BatchNormalization", "Affine", "GroupNorm", "InstanceNormalization")
                op = self.take(ops, at, path, node, *kinds)
                self.norm(op, path, node)
            case nodes.SplitNorm():
                op = self.take(ops, at, path, node, "SplitNorm")
                for part, own in zip(op.attributes["parts"], node.parts, strict=True):
                    self.expect(part, f"{path}.{own.name}", "channels", self.graph.shapes[part.out][1], own.channels)
                    self.norm(part, f"{path}.{own.name}", own)
            case nodes.Act():
                op = self.take(ops, at, path, node, "Act")
                self.act(op, path, node)
            case nodes.Pool():
                return self.pool(ops, at, path, node)
            case nodes.Blur():
                return self.blur(ops, at, path, node)
            case nodes.Gate():
                op = self.take(ops, at, path, node, "Gate")
                self.gate(op, path, node)
            case nodes.GlobalPool():
                op = self.take(ops, at, path, node, "GlobalPool", "AveragePool", "MaxPool")
                self.global_pool(op, path, node)
            case nodes.Linear():
                op = self.take(ops, at, path, node, "Linear", "Conv")
                self.linear(op, path, node, cells=self.config.global_pool == "none")
            case nodes.PadChannels():
                return self.pad_channels(ops, at, path, node)
            case _:
                raise self.error(f"{path} of our network cannot be compared with a graph")
        self.step(path, op)
        return at + 1

    def act(self, op: Op, path: str, node: nodes.Act) -> None:
        self.expect(op, path, "the activation", op.attributes["kind"], node.kind)
        if str(node.kind) == "leaky_relu":
            slope = getattr(node, "slope", 0.01)
            self.expect(op, path, "alpha", float(f"{op.attributes['alpha']:.6g}"), slope)

    def pool(self, ops: list[Op], at: int, path: str, node: nodes.Pool) -> int:
        if node.kernel == 1:  # subsampling
            op = self.take(ops, at, path, node, "MaxPool", "AveragePool", "Subsample")
            if op.kind == "Subsample":
                self.expect(op, path, "a step of", op.attributes["stride"], node.stride)
                self.step(path, op)
                return at + 1
        pad = ops[at] if at < len(ops) and ops[at].kind == "Pad" else None
        at += pad is not None
        kinds = (
            ("MaxPool", "AveragePool") if node.kernel == 1 else ("MaxPool" if node.kind == "max" else "AveragePool",)
        )
        op = self.take(ops, at, path, node, *kinds)
        self.expect(op, path, "kernel_shape", tuple(op.attributes["kernel_shape"]), (node.kernel,) * 2)
        self.expect(op, path, "strides", axes_values(op, "strides"), (node.stride,) * 2)
        self.expect(op, path, "dilations", axes_values(op, "dilations"), (1, 1))
        self.expect(op, path, "ceil_mode", int(op.attributes.get("ceil_mode", 0)), int(node.ceil))
        low = float("-inf")
        fills = (0.0,) if node.zeros or node.kind == "avg" else (low, float(np.finfo(np.float32).min))
        self.pads(op, pad, path, node.padding, node.kernel, node.stride, fills)
        own = explicit_pads(self.graph, op)
        if node.zeros and any(own):
            raise self.error(f"{op.where} pads with minus infinity where {path} of our network pads with zeros")
        if node.kind == "avg" and (any(own) or (pad is not None and any(pad_sides(self.graph, pad)))):
            counted = bool(op.attributes.get("count_include_pad", 0)) or not any(own)
            self.expect(op, path, "count_include_pad", counted, not isinstance(node.padding, int))
        self.step(path, op)
        return at + 1

    def blur(self, ops: list[Op], at: int, path: str, node: nodes.Blur) -> int:
        op = self.take(ops, at, path, node, "Blur")
        self.expect(op, path, "a stride of", op.attributes["stride"], node.stride)
        self.step(path, op)
        return at + 1

    def global_pool(self, op: Op, path: str, node: nodes.GlobalPool) -> None:
        if op.kind == "GlobalPool":
            self.expect(op, path, "global pooling", op.attributes["kind"], node.kind)
            if node.kind == "gem":
                self.expect(op, path, "a smallest value of", float(f"{op.attributes['eps']:.6g}"), 1e-6)
                self.result.tensors[f"{path}.p"] = np.array([op.attributes["p"]], np.float32)
            return
        self.expect(op, path, "global pooling", {"AveragePool": "avg", "MaxPool": "max"}[op.kind], node.kind)
        size = self.graph.shapes[op.inputs[0]][2:]
        self.expect(op, path, "kernel_shape", tuple(op.attributes["kernel_shape"]), size)
        self.expect(op, path, "dilations", axes_values(op, "dilations"), (1, 1))
        self.expect(op, path, "pads", explicit_pads(self.graph, op), (0, 0, 0, 0))
        self.expect(op, path, "an output of", self.graph.shapes[op.out][2:], (1, 1))

    def adapted_pool(self, ops: list[Op], at: int, path: str, node: nodes.AdaptivePool) -> int:
        """Match a pool to a fixed size, which exporters leave out, or write with the window of their image size."""
        op = self.take(ops, at, path, node, "AveragePool", "Flatten", "Linear")
        size = self.graph.shapes[op.inputs[0]][2:]
        if op.kind != "AveragePool":
            self.expect(op, path, "a map of", size, (node.size,) * 2)
            return at
        windows = tuple(cells // node.size for cells in size)
        self.expect(op, path, "kernel_shape", tuple(op.attributes["kernel_shape"]), windows)
        self.expect(op, path, "strides", axes_values(op, "strides"), windows)
        self.expect(op, path, "pads", explicit_pads(self.graph, op), (0, 0, 0, 0))
        self.expect(op, path, "an output of", self.graph.shapes[op.out][2:], (node.size,) * 2)
        self.step(path, op)
        return at + 1

    def pad_channels(self, ops: list[Op], at: int, path: str, node: nodes.PadChannels) -> int:
        if node.stride > 1:
            op = self.take(ops, at, path, node, "Subsample", "MaxPool", "AveragePool")
            if op.kind == "Subsample":
                self.expect(op, path, "a step of", op.attributes["stride"], node.stride)
                at += 1
            else:
                subsample = nodes.Pool(name="", kind="max", kernel=1, stride=node.stride)
                at = self.pool(ops, at, path, subsample)
        if node.before or node.after:
            op = self.take(ops, at, path, node, "Pad")
            given = self.graph.constant(op, 1)
            values = given.reshape(-1).tolist() if given is not None else list(op.attributes.get("pads") or ())
            if len(op.inputs) > 3 and op.inputs[3]:
                raise self.error(f"{op.where} pads some axes alone, for {path}")
            self.expect(op, path, "mode", str(op.attributes.get("mode", "constant")), "constant")
            self.expect(op, path, "a fill of", self.fill(op), 0.0)
            self.expect(op, path, "pads", [int(v) for v in values], [0, node.before, 0, 0, 0, node.after, 0, 0])
            at += 1
        self.result.values[path] = op.out
        self.done += 1
        return at

    def gate(self, op: Op, path: str, node: nodes.Gate) -> None:
        self.expect(op, path, "attention of", op.attributes["kind"], node.kind)
        layers = list(op.attributes["layers"])
        if node.kind == "eca":
            self.channel_conv(layers[0], path, node)
            return
        if node.kind == "spatial":
            own_leaves: list[Leaf] = [
                (p, n) for p, n in nodes.walk(node, path) if isinstance(n, nodes.Conv | nodes.Norm)
            ]
            self.sequence(layers, own_leaves, f"in {path}")
            return
        own = [(p, n) for p, n in nodes.walk(node, path) if isinstance(n, nodes.Conv | nodes.Linear | nodes.Act)]
        if len(own) != len(layers):
            raise self.error(
                f"{op.where} is attention of {len(layers)} operations; {path} of our network has {len(own)}"
            )
        for layer, (at, part) in zip(layers, own, strict=True):
            if isinstance(part, nodes.Act):
                self.act(self.take([layer], 0, at, part, "Act"), at, part)
                continue
            self.take([layer], 0, at, part, "Conv", "Linear")
            linear = part
            if isinstance(part, nodes.Conv):
                linear = nodes.Linear(name="", in_features=part.in_chans, out_features=part.out_chans, bias=part.bias)
            assert isinstance(linear, nodes.Linear)
            self.linear(layer, at, linear, cells=node.kind == "channel")
            if isinstance(part, nodes.Conv):
                self.result.tensors[f"{at}.weight"] = self.result.tensors[f"{at}.weight"][:, :, None, None]

    def channel_conv(self, op: Op, path: str, node: nodes.Gate) -> None:
        (part,) = node.nodes
        assert isinstance(part, nodes.ChannelConv)
        kernel = self.graph.constant(op, 1)
        at = f"{path}.{part.name}"
        self.expect(op, at, "a kernel of", None if kernel is None else kernel.shape, (1, 1, part.kernel))
        for name, ours in (("strides", (1,)), ("dilations", (1,))):
            self.expect(op, at, name, tuple(op.attributes.get(name) or (1,)), ours)
        half = part.kernel // 2
        pads, rule = tuple(op.attributes.get("pads") or (0, 0)), str(op.attributes.get("auto_pad", "NOTSET"))
        self.expect(op, at, "pads", (half, half) if rule.startswith("SAME") else pads, (half, half))
        bias = self.bias(op, 1)
        if bias is not None and bias.any():
            raise self.error(f"{op.where} has a bias where {at} of our network has none")
        assert kernel is not None
        self.result.tensors[f"{at}.weight"] = kernel
