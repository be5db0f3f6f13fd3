"""Watches a module run: the shape that each part puts out, by path."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from resnets.arch.config import ResNetConfig
from resnets.nn.model import ResNet, build_model


def traced(model: ResNet, shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """What each module put out for one picture of `shape` (C, H, W), without the batch axis.

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


def weightless(config: ResNetConfig) -> ResNet:
    """The network on the meta device, made in milliseconds: for structure, and for shapes where it is wide."""
    return build_model(config, init=False).eval()


def narrow(config: ResNetConfig) -> ResNet:
    """The network with real weights: a narrow net of a thousand layers runs faster so than on the meta device."""
    return build_model(config).eval()
