"""Short descriptions of nodes, as the table of `describe` shows them."""

from __future__ import annotations

from resnets.arch import nodes

__all__ = ["NOTHING", "operations"]

NOTHING = "-"  # an identity
ACTIVATIONS = {"relu": "ReLU", "silu": "SiLU", "leaky_relu": "leaky ReLU", "hard_swish": "hard-swish", "gelu": "GELU"}
POOLS = {
    "avgmax": "avg and max",
    "sumavgmax": "summed avg and max",
    "clipavg": "clipped avg",
    "catavgmax": "concatenated avg and max",
}


def operations(node: nodes.Node) -> str:
    """Description of `node`: `3x3 64 /2 conv`, `Bottleneck: 1x1 64, 3x3 64, 1x1 256; shortcut 1x1 256`.

    The number after a kernel is its output channels, `/2` a stride. Norms and activations of a block are omitted, since
    its kind implies them; IBN is listed.
    """
    match node:
        case nodes.Conv():
            return f"{_conv(node)} {'standardised ' * node.standardised}conv{' with bias' * node.bias}"
        case nodes.Norm():
            groups = f" of {node.groups} groups" if node.kind == "group" else ""
            return f"{node.kind.replace('_', ' ')} norm{groups}"
        case nodes.SplitNorm():
            return "IBN: " + ", ".join(f"{part.kind.replace('_', ' ')} norm of {part.channels}" for part in node.parts)
        case nodes.Act():
            return ACTIVATIONS[node.kind]
        case nodes.Pool():
            return _every(node.stride) if node.kernel == 1 else _pool(node)
        case nodes.Blur():
            return f"3x3 blur{_stride(node.stride)}"
        case nodes.GlobalPool():
            return f"global {POOLS.get(node.kind, node.kind)} pool"
        case nodes.AdaptivePool():
            return f"avg pool to {node.size}x{node.size}"
        case nodes.Linear():
            return f"linear {node.out_features}"
        case nodes.Dropout():
            return f"dropout {node.rate:g}"
        case nodes.Flatten():
            return "flatten"
        case nodes.Identity():
            return NOTHING
        case nodes.PadChannels():
            every = f"{_every(node.stride)}, " if node.stride > 1 else ""
            return f"{every}{node.before}+{node.after} zero channels"
        case nodes.ChannelConv():
            return f"1-d conv over {node.kernel} channels"
        case nodes.Gate():
            return _gate(node)
        case nodes.NonLocal():
            return "non-local"
        case nodes.Residual():
            return _residual(node)
        case nodes.Chain():
            return _chain(node)
        case _:
            raise AssertionError(f"no description of {type(node).__name__}")


def _every(stride: int) -> str:
    return f"every {stride}{ {2: 'nd', 3: 'rd'}.get(stride, 'th') } cell"


def _stride(stride: int) -> str:
    return f" /{stride}" if stride > 1 else ""


def _conv(node: nodes.Conv) -> str:
    marks = [
        "SAME" if node.padding == "same" else "",
        f"dilation {node.dilation}" if node.dilation > 1 else "",
        f"groups {node.groups}" if node.groups > 1 else "",
    ]
    return " ".join([f"{node.kernel}x{node.kernel} {node.out_chans}{_stride(node.stride)}", *filter(None, marks)])


def _pool(node: nodes.Pool) -> str:
    marks = [
        "zero-padded" if node.zeros else "",
        "SAME" if node.padding == "same" else "",
        "unpadded" if node.padding == 0 and node.kernel > node.stride else "",
        "rounded up" if node.ceil else "",
    ]
    details = " and ".join(filter(None, marks))
    return f"{node.kernel}x{node.kernel} {node.kind} pool{_stride(node.stride)}" + (f" {details}" if details else "")


def _gate(node: nodes.Gate) -> str:
    if node.kind == "eca":
        reach = next(layer.kernel for _, layer in nodes.walk(node) if isinstance(layer, nodes.ChannelConv))
        return f"ECA over {reach} channels"
    if node.kind == "spatial":
        return "spatial gate: mean and max over channels, 7x7 conv, batch norm"
    if node.kind == "channel":
        return f"channel gate: mean and max, {_widths(node)}"
    return f"squeeze and excitation {_widths(node)}"


def _widths(gate: nodes.Node) -> str:
    """Channels of a gate's two layers, such as `256-16-256`."""
    for _, layer in nodes.walk(gate):
        if isinstance(layer, nodes.Conv):
            return f"{layer.in_chans}-{layer.out_chans}-{layer.in_chans}"
        if isinstance(layer, nodes.Linear):
            return f"{layer.in_features}-{layer.out_features}-{layer.in_features}"
    raise AssertionError(f"no layer in {gate}")


def _chain(node: nodes.Chain) -> str:
    if node.kind == "CBAM":
        return f"CBAM {_widths(node)}"
    if node.role == "stage" and node.name:
        return f"{len(node.nodes)} x {operations(node.nodes[0]).partition(':')[0]}"
    if node.role == "stage":  # a VGG's, whose layers are siblings in `features`
        convs = ", ".join(_conv(part) for part in node.nodes if isinstance(part, nodes.Conv))
        norms = "batch norm and " if any(isinstance(part, nodes.Norm) for part in node.nodes) else ""
        first, last = node.nodes[0].name, node.nodes[-1].name
        return f"layers {first}-{last}: {convs}, each with {norms}ReLU, then {operations(node.nodes[-1])}"
    if node.role == "block":
        return f"{node.kind}: {_body(node.nodes)}"
    return ", ".join(operations(part) for part in node.nodes if not isinstance(part, nodes.Identity))


def _residual(node: nodes.Residual) -> str:
    shortcut = ", ".join(
        _conv(part) if isinstance(part, nodes.Conv) else operations(part)
        for part in node.shortcut
        if not isinstance(part, nodes.Norm | nodes.Identity)
    )
    shown = (nodes.Norm, nodes.NonLocal)
    after = "".join(f"; then {operations(part)}" for part in node.post if isinstance(part, shown))
    return f"{node.kind}: {_body(node.body)}; shortcut {shortcut or 'identity'}{after}"


def _body(body: tuple[nodes.Node, ...]) -> str:
    """Convolutions, IBN, blurs and attention in order."""
    words = list[str]()
    for node in body:
        match node:
            case nodes.Conv():
                words.append(_conv(node))
            case nodes.SplitNorm():
                words.append("IBN")
            case nodes.Gate(kind="se"):
                words.append(f"SE {_widths(node)}")
            case nodes.Gate() | nodes.Blur() | nodes.Chain():
                words.append(operations(node))
    standardised = any(isinstance(node, nodes.Conv) and node.standardised for node in body)
    return ", ".join(words) + ", standardised" * standardised
