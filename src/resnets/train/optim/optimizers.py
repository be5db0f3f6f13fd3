"""The optimiser over a network's tensors."""

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
    model: nn.Module, config: OptimConfig, scales: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """The optimiser of all of a network's tensors; those without a gradient, frozen ones, it leaves alone.

    Norms and biases (everything of one axis) are not decayed, unless `config.decay_norms`. SGD and AdamW are fused:
    one kernel a step. Muon makes orthogonal what filters do, but for those that see the image.

    Args:
        scales: a share of the learning rate by the tensor's name; `None` for all alike.
    """
    groups: dict[tuple[float, float, bool], list[torch.Tensor]] = {}
    filters = [name for name, tensor in model.named_parameters() if tensor.ndim == 4]
    for name, tensor in model.named_parameters():
        decay = config.weight_decay if tensor.ndim > 1 or config.decay_norms else 0.0
        orthogonal = config.opt == "muon" and name in filters[1:]
        groups.setdefault((decay, scales[name] if scales else 1.0, orthogonal), []).append(tensor)
    listed: list[dict[str, Any]] = [
        {"params": tensors, "weight_decay": decay, "scale": scale, "orthogonal": orthogonal}
        for (decay, scale, orthogonal), tensors in groups.items()
    ]
    if config.opt == "sgd":
        nesterov = config.nesterov and config.momentum > 0
        return _FusedSGD(listed, lr=0.0, momentum=config.momentum, nesterov=nesterov, fused=True)
    if config.opt == "adamw":
        return torch.optim.AdamW(listed, lr=0.0, betas=config.betas, eps=config.eps, fused=True)
    if config.opt == "muon":
        return Muon(listed, lr=0.0, momentum=config.momentum)
    return Lamb(listed, lr=0.0, betas=config.betas, eps=config.eps)


class _FusedSGD(torch.optim.SGD):
    """torch's, where every momentum starts as zeros.

    torch takes a group only if all of its tensors have a momentum or none, and some may unfreeze later; and a first
    step that a loss scaler skips leaves the momentum as the memory was.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update; the first moves a tensor by its gradient alone, as torch's does."""
        for group in self.param_groups:
            for tensor in group["params"]:
                if tensor.grad is not None and group["momentum"]:
                    state = self.state[tensor]
                    if state.get("momentum_buffer") is None:
                        state["momentum_buffer"] = torch.zeros_like(tensor)
        return super().step(closure)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its share of `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]
