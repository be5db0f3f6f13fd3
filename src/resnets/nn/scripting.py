"""Networks for `torch.jit.script`: a traced graph without Python objects, with the same modules and names."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from resnets.errors import ConfigError
from resnets.nn.checks import check_input, check_windows
from resnets.nn.layers import DropPath, pad_by_rule

__all__ = ["scriptable"]


def scriptable(model: nn.Module) -> fx.GraphModule:
    """The graph of a network, which TorchScript can compile; it takes inputs of any size, and checks none.

    Dropout of the head and stochastic depth stay as they are in the network's mode; batch norms follow `train`.

    Raises:
        ConfigError: either is in training mode, and would stay on in evaluation mode.
    """
    drops = any(isinstance(module, DropPath) and module.training for module in model.modules())
    if drops or (model.training and getattr(model.config, "drop_rate", False)):
        raise ConfigError("TorchScript keeps dropout and stochastic depth as they are; got training mode; call eval()")
    traced = fx.symbolic_trace(model)
    for node in list(traced.graph.nodes):
        node.type = None  # annotations are texts, which TorchScript does not find
        if node.target in (check_input, check_windows):
            traced.graph.erase_node(node)
        elif node.target is pad_by_rule:
            _unwrap_padding(traced.graph, node)
        elif node.target == "new_tensor":
            with traced.graph.inserting_before(node):
                node.replace_all_uses_with(traced.graph.call_function(tensor_like, node.args))
            traced.graph.erase_node(node)
    traced.recompile()
    return traced


def _unwrap_padding(graph: fx.Graph, node: fx.Node) -> None:
    """Replace `pad_by_rule`, whose arguments have several types, by an operation that TorchScript knows."""
    x, rule, reach, stride, value = (*node.args, 0.0)[:5]
    with graph.inserting_before(node):
        if rule == "same":
            other = graph.call_function(pad_same, (x, reach, stride, value))
        else:
            before, after = rule if isinstance(rule, tuple) else (rule, rule)
            other = graph.call_function(F.pad, (x, [before, after, before, after]), {"value": value})
    node.replace_all_uses_with(other)
    graph.erase_node(node)


def tensor_like(x: Tensor, values: list[float]) -> Tensor:
    """`Tensor.new_tensor`, which TorchScript lacks."""
    return torch.tensor(values, dtype=x.dtype, device=x.device)


def pad_same(x: Tensor, reach: int, stride: int, value: float) -> Tensor:
    """`pad_by_rule` for TensorFlow's SAME, in TorchScript's types."""
    height, width = x.shape[2], x.shape[3]
    down = max((-(-height // stride) - 1) * stride + reach - height, 0)
    across = max((-(-width // stride) - 1) * stride + reach - width, 0)
    sides = [across // 2, across - across // 2, down // 2, down - down // 2]
    return F.pad(x, sides, value=value)
