"""Where a network can be cut: its stem and stages in order, and its layers as layer-wise rates count them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from resnets.arch.nodes import Chain, Conv, Dropout, Flatten, Identity, Linear, Node, children, join

__all__ = ["BACKBONE", "CLASSIFIER", "layers", "owner", "parts", "places"]

BACKBONE = "backbone"
CLASSIFIER = "classifier"


def parts(plan: Chain) -> dict[str, tuple[str, ...]]:
    """The paths of the modules in each part of a network, in the order they run; together all of them.

    The parts are `stem`, `layer1`.. (a VGG's are `block1`..), then `backbone`, which is what stands between the last
    stage and the classifier (a last norm, the pool, a VGG's inner linear layers), and `classifier`, which is the
    layer that answers logits with the dropout right before it.
    """
    found: dict[str, tuple[str, ...]] = {}
    between: list[str] = []
    for node, path in _parts(plan):
        leaves = [where for where, _ in _leaves(node, path)]
        if isinstance(node, Chain) and node.role in ("stem", "stage"):
            found[node.name or node.kind or node.role] = tuple(leaves)
        else:
            between += leaves
    head = list(_leaves(plan.nodes[-1], plan.nodes[-1].name))
    last = max(index for index, (_, node) in enumerate(head) if isinstance(node, Linear | Identity))
    while last and isinstance(head[last - 1][1], Dropout):
        last -= 1
    paths = [path for path, _ in head]
    return found | {BACKBONE: (*between, *paths[:last]), CLASSIFIER: tuple(paths[last:])}


def places(plan: Chain) -> tuple[str, ...]:
    """Names of what a network can be frozen up to and including, from the input on; the last is `backbone`."""
    return tuple(name for name in parts(plan) if name != CLASSIFIER)


def layers(plan: Chain) -> tuple[tuple[str, ...], ...]:
    """The paths of each layer, from the input on, as layer-wise learning rates count them.

    The stem is one layer, each residual block one, each convolution of a VGG one with what follows it; a last norm
    belongs to the block before it; the whole head is the last layer. For residual networks these are timm's groups.
    """
    found: list[list[str]] = []
    for node, path in _parts(plan):
        leaves = list(_leaves(node, path))
        if not isinstance(node, Chain) or node.role not in ("stem", "stage"):
            found[-1] += [where for where, _ in leaves]
        elif node.role == "stem":
            found.append([where for where, _ in leaves])
        elif node.name:
            found += [[join(path, name)] for name, _ in children(node)]
        else:
            for where, leaf in leaves:
                if isinstance(leaf, Conv) or not found:
                    found.append([])
                found[-1].append(where)
    head = [path for path, _ in _leaves(plan.nodes[-1], plan.nodes[-1].name)]
    return tuple(map(tuple, [*found, head]))


def owner(name: str, groups: Mapping[str, tuple[str, ...]]) -> str:
    """The group among whose paths the parameter or module `name` lies."""
    for group, paths in groups.items():
        if any(name == path or name.startswith(f"{path}.") for path in paths):
            return group
    raise AssertionError(f"{name} lies in no part of the plan")


def _parts(plan: Chain) -> Iterator[tuple[Node, str]]:
    """Stem, stages and what follows them, each with its path; not the head."""
    for node in plan.nodes[:-1]:
        if isinstance(node, Chain) and node.role == "features":
            yield from ((child, join(node.name, name)) for name, child in children(node))
        else:
            yield node, node.name


def _leaves(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    """The modules of a part: chains without a name are opened, and a VGG's `classifier`, too.

    Others stay whole: a stage, a stem's `conv1` of three layers.
    """
    if isinstance(node, Chain) and node.name in ("", CLASSIFIER):
        for name, child in children(node):
            yield from _leaves(child, join(path, name))
    elif not isinstance(node, Flatten):
        yield path, node
