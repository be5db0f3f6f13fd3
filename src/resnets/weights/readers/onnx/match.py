"""Proof that a graph is the network of a config: every operation and attribute is compared with the plan.

The same walk takes the tensors, by our keys, and records which value of the graph each module outputs.
"""

from __future__ import annotations

from typing import Any

from resnets.arch.nodes import Node
from resnets.weights.readers.onnx.file import UnknownGraphError
from resnets.weights.readers.onnx.graph import Graph, Op
from resnets.weights.readers.onnx.leaves import SequenceComparison
from resnets.weights.readers.onnx.proof import Match
from resnets.weights.readers.onnx.structure import Structure, structure_of_plan

__all__ = ["match", "strip_ends"]


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


class _Matcher(SequenceComparison):
    def __init__(self, graph: Graph, found: Structure, config: Any, tree: Node, ends: Match) -> None:
        super().__init__(graph, config, ends)
        self.found, self.plan = found, structure_of_plan(tree)

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
