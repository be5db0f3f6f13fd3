"""LAMB, an optimizer for large batches (You et al. 2020, "Large batch optimization for deep learning")."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["ForeachOptimizer", "Lamb"]


class ForeachOptimizer(torch.optim.Optimizer):
    """Base of optimizers that update all parameters of a group at once, with torch's `_foreach` functions."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the parameters that have a gradient."""
        for group in self.param_groups:
            pairs = [(parameter, parameter.grad) for parameter in group["params"] if parameter.grad is not None]
            if pairs:
                self._update(group, [parameter for parameter, _ in pairs], [gradient for _, gradient in pairs])

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """Update `parameters` of a group."""
        raise NotImplementedError


class Lamb(ForeachOptimizer):
    """Adam whose update of each tensor is scaled to the tensor's norm times the learning rate (the trust ratio).

    As in ResNet strikes back: moments are bias-corrected, weight decay is part of the update before its norm is taken,
    and tensors without weight decay (norms and biases) have no trust ratio. Gradients are not clipped here.

    Arguments are those of `torch.optim.AdamW`.
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

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        beta1, beta2 = group["betas"]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
            self.state[parameter]["step"] += 1
        states = [self.state[parameter] for parameter in parameters]
        exp_avgs, exp_avg_sqs = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
        torch._foreach_lerp_(exp_avgs, gradients, 1 - beta1)
        torch._foreach_mul_(exp_avg_sqs, beta2)
        torch._foreach_addcmul_(exp_avg_sqs, gradients, gradients, 1 - beta2)
        counts = [float(state["step"]) for state in states]  # they differ after unfreezing
        denominators = torch._foreach_sqrt(exp_avg_sqs)
        torch._foreach_div_(denominators, [(1 - beta2**count) ** 0.5 for count in counts])
        torch._foreach_add_(denominators, group["eps"])
        updates = torch._foreach_div(exp_avgs, denominators)
        torch._foreach_div_(updates, [1 - beta1**count for count in counts])
        if group["weight_decay"]:
            torch._foreach_add_(updates, parameters, alpha=group["weight_decay"])
            update_norms, weight_norms = torch._foreach_norm(updates), torch._foreach_norm(parameters)
            trust_ratios = [
                torch.where((weight > 0) & (update > 0), weight / update, 1.0)
                for weight, update in zip(weight_norms, update_norms, strict=True)
            ]
            torch._foreach_mul_(updates, trust_ratios)
        torch._foreach_add_(parameters, updates, alpha=-group["lr"])
