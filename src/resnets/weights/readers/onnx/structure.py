"""Structure of a graph: operations in sequence, and blocks that split into two paths and add them.

A graph is a `Structure` if it has no other forks than blocks; the plan of a network is brought into the same form, so
that `match.py` compares the two list by list.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from resnets.arch.nodes import Chain, Node, Residual, children, join
from resnets.weights.readers.onnx.file import UnknownGraphError
from resnets.weights.readers.onnx.graph import Graph, Op

__all__ = ["Block", "PlanBlock", "PlanStructure", "Structure", "structure", "structure_of_plan"]

POOLED = ("max", "avg")


@dataclass(frozen=True, kw_only=True)
class Block:
    """Two paths from one value to a sum. The body is the one with more convolutions.

    Args:
        body, shortcut: operations of each path; an identity has none.
        total: the sum.
    """

    body: list[Op]
    shortcut: list[Op]
    total: Op

    @property
    def convs(self) -> list[Op]:
        return [op for op in self.body if op.kind == "Conv"]


@dataclass(kw_only=True)
class Structure:
    """Segments of operations before, between and after the blocks: one more than there are blocks."""

    segments: list[list[Op]] = field(default_factory=lambda: [[]])
    blocks: list[Block] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class PlanBlock:
    """A residual block of a plan: its leaves with their paths."""

    path: str
    body: list[tuple[str, Node]]
    shortcut: list[tuple[str, Node]]


@dataclass(kw_only=True)
class PlanStructure:
    """Leaves of a plan, as `Structure` has operations."""

    segments: list[list[tuple[str, Node]]] = field(default_factory=lambda: [[]])
    blocks: list[PlanBlock] = field(default_factory=list)


def structure(graph: Graph) -> Structure:
    """Read the structure of a simplified graph, from its input to its output."""
    found = Structure()
    value = graph.input
    while value != graph.output:
        readers = graph.readers.get(value, [])
        if len(readers) == 1 and len(graph.sources(readers[0])) == 1:
            found.segments[-1].append(readers[0])
            value = readers[0].out
        elif len(readers) == 2:
            block = _block(graph, readers)
            found.blocks.append(block)
            found.segments.append([])
            value = block.total.out
        else:
            where = readers[0].where if readers else f"the value {value!r}"
            raise UnknownGraphError(f"{where} {_why(graph, readers)}")
    if graph.readers.get(value):
        raise UnknownGraphError(f"{graph.readers[value][0].where} reads the output")
    return found


def _why(graph: Graph, readers: list[Op]) -> str:
    if not readers:
        return "leads nowhere"
    if len(readers) > 2:
        return f"is one of {len(readers)} nodes that read one value; two paths to a sum are read"
    return "joins two values outside a block of two paths"


def _block(graph: Graph, readers: list[Op]) -> Block:
    paths, totals = [], []
    for start in readers:
        path, op = list[Op](), start
        while len(graph.sources(op)) == 1:
            path.append(op)
            following = graph.readers.get(op.out, [])
            if len(following) != 1:
                where = following[0].where if following else op.where
                raise UnknownGraphError(f"{where} splits or ends one path of a block")
            op = following[0]
        paths.append(path)
        totals.append(op)
    if totals[0] is not totals[1] or totals[0].kind != "Add":
        joins = next((op for op in totals if op.kind != "Add"), totals[1])
        raise UnknownGraphError(f"{joins.where} ends a path of a block whose paths must end in one sum")
    paths.sort(key=lambda path: sum(op.kind == "Conv" for op in path))
    return Block(body=paths[1], shortcut=paths[0], total=totals[0])


def structure_of_plan(plan: Node) -> PlanStructure:
    """The structure of a plan: chains are opened, gates and split norms are leaves."""
    found = PlanStructure()

    def visit(node: Node, path: str) -> None:
        if isinstance(node, Chain):
            for name, child in children(node):
                visit(child, join(path, name))
        elif isinstance(node, Residual):
            found.segments[-1] += _leaves(node.pre, path)
            shortcut = _leaves(node.shortcut, join(path, "downsample"))
            found.blocks.append(PlanBlock(path=path, body=_leaves(node.body, path), shortcut=shortcut))
            found.segments.append(_leaves(node.post, path))
        else:
            found.segments[-1].append((path, node))

    visit(plan, "")
    return found


def _leaves(parts: tuple[Node, ...], path: str) -> list[tuple[str, Node]]:
    found: list[tuple[str, Node]] = []
    for part in parts:
        at = join(path, part.name)
        found += _leaves(part.nodes, at) if isinstance(part, Chain) else [(at, part)]
    return found
