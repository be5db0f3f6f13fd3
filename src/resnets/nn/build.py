"""Torch modules for the nodes of a plan, and their initial weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from torch import nn

from resnets.arch import nodes
from resnets.nn import attention, layers
from resnets.nn.blocks import BLOCKS

__all__ = ["build", "build_named", "init_weights"]


ACTIVATIONS: dict[nodes.Activation, type[nn.Module]] = {
    "relu": nn.ReLU, "silu": nn.SiLU, "leaky_relu": nn.LeakyReLU, "hard_swish": nn.Hardswish, "gelu": nn.GELU,
}  # fmt: skip


def build(node: nodes.Node) -> nn.Module:
    """Build the module of a node. `init_weights` sets its initial weights."""
    match node:
        case nodes.Conv():
            return _conv(node)
        case nodes.Norm():
            return _norm(node)
        case nodes.SplitNorm():
            return layers.IBN(sum(part.channels for part in node.parts), _norm(node.parts[1]), node.parts[0].eps)
        case nodes.Act():
            return ACTIVATIONS[node.kind]()
        case nodes.Pool():
            return _pool(node)
        case nodes.Blur():
            return layers.BlurPool2d(node.stride)
        case nodes.GlobalPool(kind="avg"):
            return nn.AdaptiveAvgPool2d(1)
        case nodes.GlobalPool(kind="max"):
            return nn.AdaptiveMaxPool2d(1)
        case nodes.GlobalPool(kind="gem"):
            return layers.GeM()
        case nodes.GlobalPool(kind="clipavg"):
            return layers.ClipAvgPool2d()
        case nodes.GlobalPool():
            return layers.AvgMaxPool2d(node.kind)
        case nodes.AdaptivePool():
            return nn.AdaptiveAvgPool2d(node.size)
        case nodes.Dropout():
            return nn.Dropout(node.rate)
        case nodes.Linear():
            if node.cosine is not None:
                return layers.CosineLinear(node.in_features, node.out_features, node.cosine)
            return nn.Linear(node.in_features, node.out_features, bias=node.bias)
        case nodes.PadChannels():
            return layers.PadChannels(node.stride, node.before, node.after)
        case nodes.Gate():
            return _gate(node)
        case nodes.NonLocal():
            return attention.NonLocal(build_named(node.nodes))
        case nodes.Identity():
            return nn.Identity()
        case nodes.Residual():
            downsample = nn.Sequential(build_named(node.shortcut)) if node.shortcut else None
            pre, body, post = (build_named(part) for part in (node.pre, node.body, node.post))
            return BLOCKS[node.kind](pre, body, downsample, post, node.drop_path)
        case nodes.Chain(kind="CBAM"):
            channel, spatial = node.nodes
            assert isinstance(channel, nodes.Gate)
            return attention.CBAM(*_widths(channel), norm=_gate_norm(spatial))
        case nodes.Chain():
            return nn.Sequential(build_named(node.nodes))
        case _:
            raise AssertionError(f"no module for {type(node).__name__}")


def build_named(parts: Iterable[nodes.Node]) -> OrderedDict[str, nn.Module]:
    """Build a module for each node, by name; the nodes of a chain without a name are included in its place."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for part in parts:
        if isinstance(part, nodes.Chain) and not part.name:
            modules |= build_named(part.nodes)
        elif not isinstance(part, nodes.Flatten):
            modules[part.name] = build(part)
    return modules


def _conv(node: nodes.Conv) -> nn.Conv2d:
    options: dict[str, Any] = {name: getattr(node, name) for name in ("stride", "dilation", "groups", "bias")}
    if isinstance(node.padding, int) and not node.standardised:
        return nn.Conv2d(node.in_chans, node.out_chans, node.kernel, padding=node.padding, **options)
    if not node.standardised:
        return layers.Conv2dPadded(node.in_chans, node.out_chans, node.kernel, rule=node.padding, **options)
    options["eps"] = node.standardised_eps
    return layers.StdConv2d(node.in_chans, node.out_chans, node.kernel, rule=node.padding, **options)


def _gate(node: nodes.Gate) -> nn.Module:
    """The module of a gate; it has the layers that the node lists, under the same names."""
    first = node.nodes[0]
    match node.kind:
        case "eca":
            assert isinstance(first, nodes.ChannelConv)
            return attention.ECA(first.kernel)
        case "se":
            return (attention.SELayer if isinstance(first, nodes.Chain) else attention.SEModule)(*_widths(node))
        case "channel":
            return attention.ChannelGate(*_widths(node))
        case "spatial":
            return attention.SpatialGate(_gate_norm(node))


def _gate_norm(gate: nodes.Node) -> nn.Module:
    return next(_norm(node) for _, node in nodes.walk(gate) if isinstance(node, nodes.Norm))


def _widths(node: nodes.Gate) -> tuple[int, int]:
    """Channels and squeezed channels of a gate, from its first layer."""
    for _, layer in nodes.walk(node):
        if isinstance(layer, nodes.Conv):
            return layer.in_chans, layer.out_chans
        if isinstance(layer, nodes.Linear):
            return layer.in_features, layer.out_features
    raise AssertionError(f"no layer in {node}")


def _norm(node: nodes.Norm) -> nn.Module:
    match node.kind:
        case "batch":
            norm = (nn.BatchNorm1d if node.flat else nn.BatchNorm2d)(node.channels, node.eps, node.momentum)
            norm.bias.requires_grad_(not node.fixed_bias)
            return norm
        case "frozen_batch":
            return layers.FrozenBatchNorm2d(node.channels, node.eps)
        case "group":
            return nn.GroupNorm(node.groups, node.channels, node.eps)
        case "instance":
            return nn.InstanceNorm2d(node.channels, node.eps, affine=True)


def _pool(node: nodes.Pool) -> nn.Module:
    if not isinstance(node.padding, int) or node.zeros:
        return layers.Pool2dPadded(node.kind, node.kernel, node.stride, node.padding, node.ceil, node.zeros)
    if node.kind == "avg":
        return nn.AvgPool2d(node.kernel, node.stride, node.padding, node.ceil, count_include_pad=False)
    return nn.MaxPool2d(node.kernel, node.stride, node.padding, ceil_mode=node.ceil)


def init_weights(model: nn.Module, plan: nodes.Node) -> None:
    """Set initial weights from torch's global generator.

    Convolutions as in torchvision, by He et al. 2015 (fan out); linear layers by torch's rule, or normal
    with the standard deviation that their node states; norms at one and zero.
    Nodes marked `zero_init` start at zero, so that a residual block starts as the identity.

    Args:
        model: a module with allocated tensors.
        plan: the node it was built from.
    """
    for path, node in nodes.walk(plan):
        match node:
            case nodes.Conv():
                conv = model.get_submodule(path)
                assert isinstance(conv, nn.Conv2d)
                if node.zero_init:
                    nn.init.zeros_(conv.weight)
                else:
                    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
            case nodes.Linear() | nodes.ChannelConv() | nodes.GlobalPool(kind="gem"):
                model.get_submodule(path).reset_parameters()  # type: ignore[operator]
                if isinstance(node, nodes.Linear) and node.init_std is not None:
                    nn.init.normal_(model.get_submodule(path).weight, std=node.init_std)  # type: ignore[arg-type]
            case nodes.Norm():
                norm = model.get_submodule(path)
                norm.reset_parameters()  # type: ignore[operator]
                if node.zero_init:
                    nn.init.zeros_(norm.weight)  # type: ignore[arg-type]
