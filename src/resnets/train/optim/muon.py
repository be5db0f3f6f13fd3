"""Muon: momentum with orthogonalised updates (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

`torch.optim.Muon` takes matrices only; this one also updates convolution filters, which have four dimensions.

Legend: O output channels, I input channels, h and w of a kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from resnets.train.optim.lamb import ForeachOptimizer

__all__ = ["Muon", "orthogonalise"]

_A, _B, _C = 3.4445, -4.7750, 2.0315  # of the quintic polynomial, as published; singular values end in 0.7 to 1.2


class Muon(ForeachOptimizer):
    """Nesterov momentum; in groups with `orthogonal`, the update as a matrix (O, I·h·w) is orthogonalised.

    An orthogonalised update is scaled by `lr * sqrt(max(1, O / (I·h·w)))`. Other groups (norms, biases, the first
    convolution and the classifier) use plain Nesterov momentum. Weight decay is decoupled: `lr * weight_decay`.

    Args:
        orthogonal: whether to orthogonalise the updates of groups that do not set it.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.01,
        *,
        orthogonal: bool = True,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "orthogonal": orthogonal}
        super().__init__(params, defaults)

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, gradients)
        updates = list(torch._foreach_add(gradients, buffers, alpha=group["momentum"]))
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        if group["orthogonal"]:
            updates = _orthogonalise_updates(updates)
        torch._foreach_add_(parameters, updates, alpha=-group["lr"])


def _orthogonalise_updates(updates: list[Tensor]) -> list[Tensor]:
    """Orthogonalise updates as matrices (O, I·h·w), larger by `sqrt(O / (I·h·w))` where that is above 1."""
    result = list(updates)
    by_shape: dict[torch.Size, list[int]] = {}  # a network has few shapes: all tensors of one shape at once
    for index, update in enumerate(updates):
        by_shape.setdefault(update.shape, []).append(index)
    for shape, indices in by_shape.items():
        matrices = orthogonalise(torch.stack([updates[index].flatten(1) for index in indices]))
        scale = max(1.0, shape[0] / shape[1:].numel()) ** 0.5
        for index, matrix in zip(indices, matrices, strict=True):
            result[index] = torch.empty_like(updates[index]).copy_(matrix.view(shape)).mul_(scale)
    return result


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Bring the singular values of each matrix near 1, by Newton-Schulz iterations.

    Computed in bfloat16 on CUDA, where it is fast, else in the dtype of the matrices.

    Args:
        matrices: (N, rows, columns).
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(torch.bfloat16 if matrices.is_cuda else matrices.dtype)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(iterations):
        square = x @ x.mT
        x = _A * x + (_B * square + _C * square @ square) @ x
    result: Tensor = (x.mT if tall else x).to(matrices.dtype)
    return result
