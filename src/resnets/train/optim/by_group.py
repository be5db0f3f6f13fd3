"""What optimisers of ours share: a step over all groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["ForeachOptimizer"]


class ForeachOptimizer(torch.optim.Optimizer):
    """An optimiser that moves the tensors of a group together, those that have a gradient."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update from the gradients that are there."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            pairs = [(tensor, tensor.grad) for tensor in group["params"] if tensor.grad is not None]
            if pairs:
                self._update(group, [tensor for tensor, _ in pairs], [gradient for _, gradient in pairs])
        return loss

    def _update(self, group: dict[str, Any], tensors: list[Tensor], gradients: list[Tensor]) -> None:
        raise NotImplementedError
