"""What a proof finds, and how one operation is compared with one node of a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from resnets.arch import nodes
from resnets.arch.nodes import Node
from resnets.weights.readers.onnx.file import UnknownGraphError
from resnets.weights.readers.onnx.graph import Array, Graph, Op
from resnets.weights.readers.onnx.pads import explicit_pads, pad_sides, planned_pads

__all__ = ["Comparison", "Match", "MismatchError", "axes_values"]

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


class Comparison:
    """Comparison of operations with nodes of a plan; the first difference is an error that names both."""

    def __init__(self, graph: Graph, config: Any, ends: Match) -> None:
        self.graph, self.config = graph, config
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


def axes_values(op: Op, name: str) -> tuple[int, ...]:
    """An attribute with a value for height and width, which defaults to 1."""
    return tuple(op.attributes.get(name) or (1, 1))


def _plain(value: Any) -> str:
    return (
        f"{list(value)}"
        if isinstance(value, tuple | list)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
