"""LAMB, for large batches (You et al. 2020, "Large batch optimization for deep learning")."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from resnets.train.optim.by_group import ForeachOptimizer

__all__ = ["Lamb"]


class Lamb(ForeachOptimizer):
    """Adam whose step in each tensor is as long as the tensor's own norm times the learning rate.

    As ResNet strikes back uses it: bias-corrected moments, decay added to the step before its length is taken, no
    trust ratio for tensors that are not decayed (norms and biases). Gradients are clipped by whoever steps, if at all.

    Args:
        params: tensors or groups of them.
        lr: learning rate; betas: decay of both moments; eps: added to the root; weight_decay: of the weights.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _update(self, group: dict[str, Any], tensors: list[Tensor], gradients: list[Tensor]) -> None:
        beta1, beta2 = group["betas"]
        for tensor in tensors:
            if not self.state[tensor]:
                self.state[tensor] = {
                    "step": torch.zeros((), dtype=torch.float32),
                    "exp_avg": torch.zeros_like(tensor),
                    "exp_avg_sq": torch.zeros_like(tensor),
                }
            self.state[tensor]["step"] += 1
        states = [self.state[tensor] for tensor in tensors]
        first, second = [one["exp_avg"] for one in states], [one["exp_avg_sq"] for one in states]
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        # Tensors that unfrozen later have made fewer steps.
        counts = [float(one["step"]) for one in states]
        roots = torch._foreach_sqrt(second)
        torch._foreach_div_(roots, [(1 - beta2**count) ** 0.5 for count in counts])
        torch._foreach_add_(roots, group["eps"])
        moves = torch._foreach_div(first, roots)
        torch._foreach_div_(moves, [1 - beta1**count for count in counts])
        if group["weight_decay"]:
            torch._foreach_add_(moves, tensors, alpha=group["weight_decay"])
            lengths, norms = torch._foreach_norm(moves), torch._foreach_norm(tensors)
            ratios = [
                torch.where((norm > 0) & (length > 0), norm / length, 1.0)
                for norm, length in zip(norms, lengths, strict=True)
            ]
            torch._foreach_mul_(moves, ratios)
        torch._foreach_add_(tensors, moves, alpha=-group["lr"])
