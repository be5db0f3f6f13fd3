"""From a plan's nodes to torch modules, and their first weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from torch import nn

from resnets.arch import nodes
from resnets.nn import layers
from resnets.nn.blocks import BLOCKS

__all__ = ["build", "init_weights", "named"]


def build(node: nodes.Node) -> nn.Module:
    """The module that `node` stands for. Its weights are whatever torch puts there: see `init_weights`."""
    match node:
        case nodes.Conv():
            options = {"stride": node.stride, "dilation": node.dilation, "groups": node.groups, "bias": node.bias}
            if isinstance(node.padding, int):
                return nn.Conv2d(node.in_chans, node.out_chans, node.kernel, padding=node.padding, **options)  # type: ignore[arg-type]
            return layers.Conv2dPadded(node.in_chans, node.out_chans, node.kernel, rule=node.padding, **options)
        case nodes.Norm():
            return _norm(node)
        case nodes.Act():
            return nn.ReLU(inplace=True)
        case nodes.Pool():
            return _pool(node)
        case nodes.GlobalPool():
            return nn.AdaptiveAvgPool2d(1) if node.kind == "avg" else nn.AdaptiveMaxPool2d(1)
        case nodes.Linear():
            return nn.Linear(node.in_features, node.out_features)
        case nodes.PadChannels():
            return layers.PadChannels(node.stride, node.before, node.after)
        case nodes.Identity():
            return nn.Identity()
        case nodes.Residual():
            downsample = nn.Sequential(named(node.shortcut)) if node.shortcut else None
            return BLOCKS[node.kind](named(node.pre), named(node.body), downsample, named(node.post), node.drop_path)
        case nodes.Chain():
            return nn.Sequential(named(node.nodes))
        case _:
            raise AssertionError(f"no module for {type(node).__name__}")


def named(parts: Iterable[nodes.Node]) -> OrderedDict[str, nn.Module]:
    """A module for each node, under its name; chains without a name hand up their own."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for part in parts:
        if isinstance(part, nodes.Chain) and not part.name:
            modules |= named(part.nodes)
        elif not isinstance(part, nodes.Flatten):
            modules[part.name] = build(part)
    return modules


def _norm(node: nodes.Norm) -> nn.Module:
    match node.kind:
        case "batch":
            return nn.BatchNorm2d(node.channels, node.eps, node.momentum)
        case "frozen_batch":
            return layers.FrozenBatchNorm2d(node.channels, node.eps)
        case "group":
            return nn.GroupNorm(node.groups, node.channels, node.eps)


def _pool(node: nodes.Pool) -> nn.Module:
    if node.kind == "avg":
        if not isinstance(node.padding, int):
            raise AssertionError("no average pool with one-sided padding")
        return nn.AvgPool2d(node.kernel, node.stride, node.padding, node.ceil)
    if isinstance(node.padding, int):
        return nn.MaxPool2d(node.kernel, node.stride, node.padding, ceil_mode=node.ceil)
    return layers.MaxPool2dPadded(node.kernel, node.stride, node.padding, node.ceil)


def init_weights(model: nn.Module, plan: nodes.Node) -> None:
    """First weights from torch's global generator: He et al. 2015 (fan out) for convolutions, as torchvision.

    Linear layers keep torch's rule; norms start at one and zero; nodes marked `zero_init` start at zero, so that a
    residual block begins as the identity.
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
            case nodes.Linear():
                linear = model.get_submodule(path)
                assert isinstance(linear, nn.Linear)
                linear.reset_parameters()
            case nodes.Norm():
                norm = model.get_submodule(path)
                assert isinstance(norm, nn.BatchNorm2d | nn.GroupNorm | layers.FrozenBatchNorm2d)
                norm.reset_parameters()
                if node.zero_init:
                    nn.init.zeros_(norm.weight)
