"""Tracing a network: the output shape of each module, by path."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.nn.model import Network, build_model


def traced(model: Network, shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """Output shape of each module for one image of `shape` (C, H, W), without the batch axis.

    A module that runs twice is an error: hooks and attribution need one place for one module.
    """
    outputs: dict[str, tuple[int, ...]] = {}

    def watch(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            assert path not in outputs, f"{path} runs twice"
            outputs[path] = tuple(output.shape[1:])

        return hook

    handles = [module.register_forward_hook(watch(path)) for path, module in model.named_modules()]
    with torch.no_grad():
        model(torch.empty((1, *shape), device=next(model.parameters()).device))
    for handle in handles:
        handle.remove()
    return outputs


def weightless(config: NetworkConfig) -> Network:
    """The network on the meta device, made in milliseconds: for structure, and for shapes where it is wide."""
    return build_model(config, init=False).eval()


def with_weights(config: NetworkConfig) -> Network:
    """The network on the CPU, where a narrow one runs faster than on the meta device."""
    return build_model(config).eval()


def shallow(config: NetworkConfig, blocks: int = 3) -> NetworkConfig:
    """At most so many blocks a stage: a first, a last, and one between that stands for all others."""
    return config.with_overrides(depths=tuple(min(depth, blocks) for depth in config.depths))


def thin(config: NetworkConfig) -> NetworkConfig:
    """The same layout with an eighth of the channels, of the groups and of the sizes of groups."""
    widths = tuple(max(width // 8, 8) for width in config.widths)
    if not isinstance(config, ResNetConfig):
        return config.with_overrides(widths=widths, hidden=16)
    groups = {"groups": 2, "group_width": 32} if config.groups > 1 else {}
    return config.with_overrides(widths=widths, stem_width=8, norm_groups=4 if config.stem != "tiered" else 1, **groups)
