"""The optimiser and its learning rate, step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

__all__ = ["Schedule", "build_optimizer"]


def build_optimizer(model: nn.Module, *, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """SGD with Nesterov momentum; norms and biases (everything of one axis) are not decayed.

    Fused: one kernel a step. The learning rate is set by `Schedule` before each step.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]], lr=0.0, momentum=momentum, nesterov=momentum > 0, fused=True
    )


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A linear warm-up, then half a cosine down to zero (Loshchilov and Hutter 2017), or a constant.

    Args:
        kind: `cosine` or `constant`.
        peak: learning rate at the end of the warm-up.
        warmup_steps, total_steps: optimiser steps.
    """

    kind: str
    peak: float
    warmup_steps: int
    total_steps: int

    def __call__(self, step: int) -> float:
        """The learning rate of optimiser step `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / (self.warmup_steps + 1)
        if self.kind == "constant":
            return self.peak
        done = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        return self.peak * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
