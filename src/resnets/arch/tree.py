"""Reading a plan as a network runs it: what comes after what, and where its maps stand."""

from __future__ import annotations

from collections.abc import Iterator

from resnets.arch.nodes import Chain, Flatten, Node, children, join, walk

__all__ = ["steps", "taps"]


def steps(plan: Chain) -> tuple[str, ...]:
    """The paths that run one after the other before the head: stem operations, stages, layers of `features`."""
    return tuple(path for part in plan.nodes[:-1] for path in _steps(part, part.name))


def _steps(node: Node, path: str) -> Iterator[str]:
    if isinstance(node, Chain) and (not node.name or node.role == "features"):
        for name, child in children(node):
            yield from _steps(child, join(path, name))
    elif not isinstance(node, Flatten):
        yield path


def taps(plan: Chain) -> dict[str, str]:
    """The maps that people ask for, finest first: their names, and the paths of the operations that answer them.

    A stem's stands before its pool, as does a VGG block's; a stage's at its end.
    """
    found = {}
    for path, node in walk(plan):
        if isinstance(node, Chain) and node.role == "stage" and node.name:
            found[node.name] = path
        elif isinstance(node, Chain) and node.role in ("stem", "stage"):
            found[node.kind or node.role] = join(path, node.nodes[-2].name)
    return found
