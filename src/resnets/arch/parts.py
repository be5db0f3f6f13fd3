"""Parts of a plan: execution order, feature maps, freezable parts, and layer groups for layer-wise learning rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from resnets.arch.nodes import Chain, Conv, Dropout, Flatten, Identity, Linear, Node, children, join, walk

__all__ = [
    "BACKBONE",
    "CLASSIFIER",
    "NECK",
    "feature_paths",
    "forward_steps",
    "freeze_points",
    "group_of",
    "layer_groups",
    "parts",
]

BACKBONE = "backbone"
CLASSIFIER = "classifier"
NECK = ("embedding", "neck", "neck_act")  # modules between pool and classifier, where a network has them


def forward_steps(plan: Chain) -> tuple[str, ...]:
    """Paths of the modules that run in sequence before the head: stem operations, stages, layers of `features`."""
    return tuple(path for part in plan.nodes[:-1] for path, _ in _leaves(part, part.name))


def feature_paths(plan: Chain) -> dict[str, str]:
    """Feature maps from fine to coarse: name -> path of the module that outputs it.

    The stem's map and a VGG block's are taken before their pool, a stage's at its end.
    """
    found = {}
    for path, node in walk(plan):
        if isinstance(node, Chain) and node.role == "stage" and node.name:
            found[node.name] = path
        elif isinstance(node, Chain) and node.role in ("stem", "stage"):
            found[node.kind or node.role] = join(path, node.nodes[-2].name)
    return found


def parts(plan: Chain) -> dict[str, tuple[str, ...]]:
    """Paths of the modules in each part of a network, in execution order; together they cover all modules.

    The parts are `stem`, `layer1`.. (`block1`.. in a VGG), then `backbone`, the modules between the last stage and
    the classifier (a last norm, the pool, a VGG's hidden linear layers), and `classifier`, the layer that outputs
    logits with the dropout, or the embedding layer and neck, directly before it.
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
    while last and (isinstance(head[last - 1][1], Dropout) or head[last - 1][0] in NECK):
        last -= 1
    paths = [path for path, _ in head]
    return found | {BACKBONE: (*between, *paths[:last]), CLASSIFIER: tuple(paths[last:])}


def freeze_points(plan: Chain) -> tuple[str, ...]:
    """Names of the parts up to which a network can be frozen, from the input on; the last is `backbone`."""
    return tuple(name for name in parts(plan) if name != CLASSIFIER)


def layer_groups(plan: Chain) -> tuple[tuple[str, ...], ...]:
    """Paths of the modules in each layer group, from the input on, for layer-wise learning rates.

    The stem is one group, as is each residual block and each convolution of a VGG with the layers that follow it. A
    last norm belongs to the block before it; the head is the last group. Residual networks have timm's groups.
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


def group_of(name: str, groups: Mapping[str, tuple[str, ...]]) -> str:
    """The group that holds the parameter or module `name`."""
    for group, paths in groups.items():
        if any(name == path or name.startswith(f"{path}.") for path in paths):
            return group
    raise AssertionError(f"{name} is in no part of the plan")


def _parts(plan: Chain) -> Iterator[tuple[Node, str]]:
    """All nodes except the head, each with its path; `features` is opened."""
    for node in plan.nodes[:-1]:
        if isinstance(node, Chain) and node.role == "features":
            yield from ((child, join(node.name, name)) for name, child in children(node))
        else:
            yield node, node.name


def _leaves(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    """The modules of a part: inside chains without a name and a VGG's `features` and `classifier`, not in a stage."""
    if isinstance(node, Chain) and node.name in ("", "features", CLASSIFIER):
        for name, child in children(node):
            yield from _leaves(child, join(path, name))
    elif not isinstance(node, Flatten):
        yield path, node
