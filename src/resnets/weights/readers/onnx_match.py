"""Proof that a graph is the network of a config: every operation and attribute is compared with the plan.

The same walk takes the tensors, by our keys, and records which value of the graph each module outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resnets.arch import nodes
from resnets.arch.nodes import Node
from resnets.weights.readers.onnx_file import UnknownGraphError
from resnets.weights.readers.onnx_graph import Array, Graph, Op
from resnets.weights.readers.onnx_pads import explicit_pads, pad_sides, planned_pads
from resnets.weights.readers.onnx_structure import Structure, structure_of_plan

__all__ = ["Match", "MismatchError", "match", "strip_ends"]

BATCH_NORM = {"weight": 1, "bias": 2, "running_mean": 3, "running_var": 4}  # indices of the inputs
Leaf = tuple[str, Node]
WORDS = {
    nodes.Conv: "a convolution",
    nodes.Norm: "a norm",
    nodes.SplitNorm: "two norms side by side",
    nodes.Act: "an activation",
    nodes.Pool: "a pool",
    nodes.Blur: "a blur",
    nodes.Gate: "attention",
    nodes.GlobalPool: "a global pool",
    nodes.AdaptivePool: "a pool to a fixed size",
    nodes.Linear: "a linear layer",
    nodes.PadChannels: "zero channels",
    nodes.Flatten: "a flattening",
}


class MismatchError(UnknownGraphError):
    """A graph that differs from a plan; `depth` is the number of operations that agreed before."""

    depth = 0


@dataclass(kw_only=True)
class Match:
    """What a proof found.

    Args:
        tensors: by our keys.
        values: module path to the value that it outputs, in the order that they are computed.
        folded: norms that were folded into convolutions.
        output: the value that is our network's output.
        dropped: nodes behind it that were left out.
        scale, shift: of each input channel, where the graph starts with such an operation.
        channels_last: whether the graph's input is (N, H, W, C).
        epsilons: norms of another epsilon than the network's, whose variances were adapted.
    """

    tensors: dict[str, Array] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    folded: int = 0
    output: str = ""
    dropped: list[str] = field(default_factory=list)
    scale: Array | None = None
    shift: Array | None = None
    channels_last: bool = False
    epsilons: int = 0


def strip_ends(graph: Graph, found: Structure, match: Match) -> None:
    """Take normalisation off the start of a structure and a softmax off its end."""
    first, last = found.segments[0], found.segments[-1]
    while first and first[0].kind in ("Affine", "Transpose"):
        op = first.pop(0)
        if op.kind == "Affine":
            if match.scale is not None:
                raise UnknownGraphError(f"{op.where} normalises an input that is normalised already")
            match.scale, match.shift = op.attributes["scale"], op.attributes["shift"]
        elif match.channels_last or tuple(op.attributes.get("perm", ())) != (0, 3, 1, 2):
            raise UnknownGraphError(f"{op.where} reorders the axes of the image")
        else:
            match.channels_last = True
    match.output = graph.output
    if last and last[-1].kind in ("Softmax", "LogSoftmax"):
        op = last[-1]
        default = -1 if op.attributes.get("axis") is None else op.attributes["axis"]
        shape = graph.shapes[op.inputs[0]]
        if len(shape) > 2 and any(size > 1 for size in shape[2:]):
            raise UnknownGraphError(f"{op.where} is a softmax over a map; one of logits is read")
        if int(default) % len(shape) != 1:
            raise UnknownGraphError(f"{op.where} is a softmax over axis {default}; logits are along axis 1")
        match.dropped.append(op.where)
        match.output = op.inputs[0]
        last.pop()


def match(graph: Graph, found: Structure, config: Any, tree: Node, ends: Match) -> Match:
    """Compare a graph with the plan `tree` of `config`.

    Args:
        graph, found: a simplified graph, and its structure without its ends.
        ends: what `strip_ends` found.

    Raises:
        MismatchError: the first node that differs, and our module in its place.
    """
    return _Matcher(graph, found, config, tree, ends).match()


class _Matcher:
    def __init__(self, graph: Graph, found: Structure, config: Any, tree: Node, ends: Match) -> None:
        self.graph, self.found, self.config = graph, found, config
        self.plan = structure_of_plan(tree)
        self.result = Match(
            output=ends.output,
            dropped=list(ends.dropped),
            scale=ends.scale,
            shift=ends.shift,
            channels_last=ends.channels_last,
        )
        self.done = 0

    def error(self, text: str) -> MismatchError:
        error = MismatchError(text)
        error.depth = self.done
        return error

    def match(self) -> Match:
        ours, theirs = self.plan.blocks, self.found.blocks
        if len(ours) != len(theirs):
            raise self.error(f"the graph has {len(theirs)} blocks where our network has {len(ours)}")
        for index, (leaves, ops) in enumerate(zip(self.plan.segments, self.found.segments, strict=True)):
            after = ours[index - 1].path if index else ""
            self.sequence(ops, leaves, f"after {after}" if after else "in the stem")
            if index == len(ours):
                break
            block, theirs_block = ours[index], theirs[index]
            self.sequence(theirs_block.body, block.body, f"in {block.path}")
            self.sequence(theirs_block.shortcut, block.shortcut, f"in the shortcut of {block.path}")
            self.sum(theirs_block.total, block.path)
        return self.result

    def sum(self, op: Op, path: str) -> None:
        shapes = {self.graph.shapes[name] for name in op.inputs}
        if len(shapes) > 1 or len(op.inputs) != 2:
            raise self.error(f"{op.where} adds values of different shapes in {path}")
        if getattr(self.config, "pre_activation", False):  # in any other, the block outputs an activation of the sum
            self.result.values[path] = op.out
        self.done += 1

    # Sequences

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

    def take(self, ops: list[Op], at: int, path: str, node: Node, *kinds: str) -> Op:
        what = WORDS.get(type(node), type(node).__name__)
        if at >= len(ops):
            last = ops[-1].where if ops else "the graph"
            raise self.error(f"{last} is not followed by {what}, as {path} of our network is")
        if ops[at].kind not in kinds:
            raise self.error(f"{ops[at].where} stands where our network has {what}, {path}")
        return ops[at]

    def expect(self, op: Op, path: str, what: str, got: Any, ours: Any) -> None:
        if got != ours:
            raise self.error(f"{op.where} has {what} {_plain(got)} where {path} of our network has {_plain(ours)}")

    def step(self, path: str, op: Op) -> None:
        self.result.values[path] = op.out
        self.done += 1

    # Convolutions and norms

    def conv(self, ops: list[Op], at: int, path: str, node: nodes.Conv, following: Leaf | None) -> tuple[int, int]:
        """Match a convolution, and a norm after it that may be folded; positions after it, and leaves taken beyond."""
        pad = ops[at] if at < len(ops) and ops[at].kind == "Pad" else None
        at += pad is not None
        op = self.take(ops, at, path, node, "Conv")
        kernel = self.graph.constant(op, 1)
        if kernel is None or kernel.ndim != 4:
            raise self.error(f"{op.where} has no constant kernel of four axes, for {path}")
        reach = (node.kernel - 1) * node.dilation + 1
        shape = (node.out_chans, node.in_chans // node.groups, node.kernel, node.kernel)
        self.expect(op, path, "a kernel of", kernel.shape, shape)
        self.expect(op, path, "strides", _both(op, "strides"), (node.stride,) * 2)
        self.expect(op, path, "dilations", _both(op, "dilations"), (node.dilation,) * 2)
        self.expect(op, path, "group", int(op.attributes.get("group", 1)), node.groups)
        self.expect(op, path, "kernel_shape", tuple(op.attributes.get("kernel_shape") or shape[2:]), shape[2:])
        self.pads(op, pad, path, node.padding, reach, node.stride, (0.0,))
        self.result.tensors[f"{path}.weight"] = kernel
        bias = self.bias(op, node.out_chans)
        at += 1
        self.done += 1
        norm = following[1] if following is not None else None
        batch_norm = isinstance(norm, nodes.Norm) and norm.kind in ("batch", "frozen_batch")
        if batch_norm and (at >= len(ops) or ops[at].kind not in ("BatchNormalization", "Affine")):
            assert following is not None
            assert isinstance(norm, nodes.Norm)
            self.folded(following[0], norm, op, bias)
            if node.bias:
                self.result.tensors[f"{path}.bias"] = np.zeros(node.out_chans, np.float32)
            return at, 1
        if node.bias:
            zeros = np.zeros(node.out_chans, np.float32)
            self.result.tensors[f"{path}.bias"] = zeros if bias is None else bias
        elif bias is not None and bias.any():
            raise self.error(f"{op.where} has a bias where {path} of our network has none")
        self.result.values[path] = op.out
        return at, 0

    def bias(self, op: Op, channels: int) -> Array | None:
        bias = self.graph.constant(op, 2)
        if bias is None and len(op.inputs) > 2 and op.inputs[2]:
            raise self.error(f"{op.where} has a bias that depends on the image")
        if bias is not None and bias.shape != (channels,):
            raise self.error(f"{op.where} has a bias of {bias.shape} for {channels} channels")
        return bias

    def folded(self, path: str, norm: nodes.Norm, op: Op, bias: Array | None) -> None:
        """An identity norm that adds the bias of the convolution that the norm was folded into.

        (x - 0) / sqrt((1 - eps) + eps) * 1 + bias is x + bias to float rounding.
        """
        one = np.ones(norm.channels, np.float32)
        self.affine_norm(path, norm, one, 0 * one if bias is None else bias)
        self.result.folded += 1
        self.result.values[path] = op.out

    def affine_norm(self, path: str, norm: nodes.Norm, scale: Array, shift: Array) -> None:
        one = np.ones(norm.channels, np.float32)
        self.result.tensors |= {f"{path}.weight": scale, f"{path}.bias": shift}
        self.result.tensors |= {f"{path}.running_mean": 0 * one, f"{path}.running_var": one - np.float32(norm.eps)}

    def norm(self, op: Op, path: str, node: nodes.Norm) -> None:
        if node.kind in ("group", "instance"):
            self.statistics_norm(op, path, node)
            return
        if op.kind == "Affine":
            self.affine_norm(path, node, op.attributes["scale"], op.attributes["shift"])
            return
        if op.kind != "BatchNormalization":
            raise self.error(f"{op.where} stands where our network has a batch norm, {path}")
        if int(op.attributes.get("training_mode", 0)) or int(op.attributes.get("spatial", 1)) != 1:
            raise self.error(f"{op.where} computes its statistics from the images; export it in evaluation mode")
        arrays = {}
        for name, index in BATCH_NORM.items():
            array = self.graph.constant(op, index)
            if array is None or array.shape != (node.channels,):
                raise self.error(f"{op.where} has no constant {name} of {node.channels} channels, for {path}")
            arrays[name] = array
        epsilon = float(f"{float(np.float32(op.attributes.get('epsilon', 1e-5))):.6g}")
        if epsilon != node.eps:  # another epsilon is a variance that differs by a constant
            arrays["running_var"] = (arrays["running_var"].astype(np.float64) + (epsilon - node.eps)).astype(np.float32)
            if (arrays["running_var"] < 0).any():
                raise self.error(f"{op.where} has epsilon {epsilon:g} where our network has {node.eps:g}, at {path}")
            self.result.epsilons += 1
        self.result.tensors |= {f"{path}.{name}": array for name, array in arrays.items()}

    def statistics_norm(self, op: Op, path: str, node: nodes.Norm) -> None:
        wanted = "GroupNorm" if node.kind == "group" else "InstanceNormalization"
        if op.kind != wanted:
            raise self.error(
                f"{op.where} stands where our network has {'a' if node.kind == 'group' else 'an'} "
                f"{node.kind} norm, {path}"
            )
        if node.kind == "group":
            self.expect(op, path, "groups", op.attributes["groups"], node.groups)
            weight, bias = op.attributes["weight"], op.attributes["bias"]
        else:
            weight, bias = self.graph.constant(op, 1), self.graph.constant(op, 2)
        epsilon = float(f"{float(np.float32(op.attributes.get('epsilon', 1e-5))):.6g}")
        self.expect(op, path, "epsilon", epsilon, node.eps)
        if weight is None or bias is None or weight.shape != (node.channels,) or bias.shape != (node.channels,):
            raise self.error(f"{op.where} has no constant terms of {node.channels} channels, for {path}")
        self.result.tensors |= {f"{path}.weight": weight, f"{path}.bias": bias}

    # Other leaves

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
                self.linear(op, path, node)
            case nodes.PadChannels():
                return self.pad_channels(ops, at, path, node)
            case _:
                raise self.error(f"{path} of our network cannot be compared with a graph")
        self.step(path, op)
        return at + 1

    def act(self, op: Op, path: str, node: nodes.Act) -> None:
        self.expect(op, path, "the activation", op.attributes["kind"], node.kind)
        if node.kind == "leaky_relu":
            slope = getattr(node, "slope", 0.01)
            self.expect(op, path, "alpha", float(f"{op.attributes['alpha']:.6g}"), slope)

    def pads(
        self,
        op: Op,
        pad: Op | None,
        path: str,
        padding: nodes.Padding,
        reach: int,
        stride: int,
        fills: tuple[float, ...],
    ) -> None:
        """Compare padding, of the operation and of a Pad before it, whose values must be among `fills`."""
        if pad is not None:
            self.expect(pad, path, "mode", str(pad.attributes.get("mode", "constant")), "constant")
            fill = self.fill(pad)
            if fill not in fills and any(pad_sides(self.graph, pad)):
                raise self.error(f"{pad.where} pads with {fill:g} where {path} of our network pads with {fills[0]:g}")
        source = self.graph.shapes[pad.inputs[0] if pad is not None else op.inputs[0]]
        ours = planned_pads(padding, source, reach, stride)
        self.expect(op, path, "pads (top, left, bottom, right)", explicit_pads(self.graph, op, pad), ours)

    def fill(self, pad: Op) -> float:
        value = self.graph.constant(pad, 2)
        if value is None and len(pad.inputs) > 2 and pad.inputs[2]:
            raise self.error(f"{pad.where} pads with a value that depends on the image")
        return (
            float(value.reshape(-1)[0]) if value is not None and value.size else float(pad.attributes.get("value", 0))
        )

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
        self.expect(op, path, "strides", _both(op, "strides"), (node.stride,) * 2)
        self.expect(op, path, "dilations", _both(op, "dilations"), (1, 1))
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
        self.expect(op, path, "dilations", _both(op, "dilations"), (1, 1))
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
        self.expect(op, path, "strides", _both(op, "strides"), windows)
        self.expect(op, path, "pads", explicit_pads(self.graph, op), (0, 0, 0, 0))
        self.expect(op, path, "an output of", self.graph.shapes[op.out][2:], (node.size,) * 2)
        self.step(path, op)
        return at + 1

    def linear(self, op: Op, path: str, node: nodes.Linear, *, cells: bool = False) -> None:
        """Match a linear layer, which may be a 1x1 convolution; `cells`: of several cells."""
        if op.kind == "Conv":
            shape, kernel = self.graph.shapes[op.inputs[0]], self.graph.constant(op, 1)
            if kernel is None or kernel.shape[2:] != (1, 1) or (not cells and any(size > 1 for size in shape[2:])):
                raise self.error(f"{op.where} stands where our network has a linear layer, {path}")
            self.expect(op, path, "strides", _both(op, "strides"), (1, 1))
            self.expect(op, path, "group", int(op.attributes.get("group", 1)), 1)
            self.expect(op, path, "pads", explicit_pads(self.graph, op), (0, 0, 0, 0))
            weight, bias = kernel[:, :, 0, 0], self.bias(op, kernel.shape[0])
        else:
            weight, bias = op.attributes["weight"], op.attributes["bias"]
        self.expect(op, path, "a matrix of", tuple(weight.shape), (node.out_features, node.in_features))
        self.result.tensors[f"{path}.weight"] = weight
        if node.bias:
            self.result.tensors[f"{path}.bias"] = np.zeros(weight.shape[0], np.float32) if bias is None else bias
        elif bias is not None and bias.any():
            raise self.error(f"{op.where} has a bias where {path} of our network has none")

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
            own_leaves = [(p, n) for p, n in nodes.walk(node, path) if isinstance(n, nodes.Conv | nodes.Norm)]
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


def _both(op: Op, name: str) -> tuple[int, ...]:
    return tuple(op.attributes.get(name) or (1, 1))


def _plain(value: Any) -> str:
    return (
        f"{list(value)}"
        if isinstance(value, tuple | list)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
