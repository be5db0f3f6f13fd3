"""Build the optimizer of a network: parameter groups by weight decay and learning-rate scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from resnets.train.config.options import OptimConfig
from resnets.train.optim.lamb import Lamb
from resnets.train.optim.muon import Muon

__all__ = ["build_optimizer", "set_lr"]


def build_optimizer(
    model: nn.Module, config: OptimConfig, lr_scales: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """Optimizer of all parameters of a network; it skips those without a gradient (frozen ones).

    Norms and biases (parameters of one dimension) have no weight decay unless `config.decay_norms`. SGD and AdamW are
    fused. Muon orthogonalises the updates of convolutions except the first.

    Args:
        lr_scales: factor of the learning rate by parameter name; `None` for 1.
    """
    groups: dict[tuple[float, float, bool], list[torch.Tensor]] = {}
    convolutions = [name for name, parameter in model.named_parameters() if parameter.ndim == 4]
    for name, parameter in model.named_parameters():
        weight_decay = config.weight_decay if parameter.ndim > 1 or config.decay_norms else 0.0
        orthogonal = config.opt == "muon" and name in convolutions[1:]
        groups.setdefault((weight_decay, lr_scales[name] if lr_scales else 1.0, orthogonal), []).append(parameter)
    param_groups: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": weight_decay, "lr_scale": lr_scale, "orthogonal": orthogonal}
        for (weight_decay, lr_scale, orthogonal), parameters in groups.items()
    ]
    if config.opt == "sgd":
        nesterov = config.nesterov and config.momentum > 0
        return _FusedSGD(param_groups, lr=0.0, momentum=config.momentum, nesterov=nesterov, fused=True)
    if config.opt == "adamw":
        return torch.optim.AdamW(param_groups, lr=0.0, betas=config.betas, eps=config.eps, fused=True)
    if config.opt == "muon":
        return Muon(param_groups, lr=0.0, momentum=config.momentum)
    return Lamb(param_groups, lr=0.0, betas=config.betas, eps=config.eps)


class _FusedSGD(torch.optim.SGD):
    """Torch's fused SGD with momentum buffers that start as zeros.

    `torch.optim.SGD` requires that either all parameters of a group have a buffer or none, but some may unfreeze later.
    Its first step leaves buffers uninitialised if the gradient scaler skips it.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the parameters that have a gradient; the first update is by the gradient alone, as in torch."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and group["momentum"]:
                    state = self.state[parameter]
                    if state.get("momentum_buffer") is None:
                        state["momentum_buffer"] = torch.zeros_like(parameter)
        return super().step(closure)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group to its `lr_scale` times `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
