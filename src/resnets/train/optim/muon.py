"""Muon: momentum whose step is orthogonal in every filter bank (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

torch has it for matrices alone; a network of convolutions needs it for filters of four axes.

Legend: O output channels, I input channels, h and w of a kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from resnets.train.optim.by_group import ForeachOptimizer

__all__ = ["Muon", "orthogonalise"]

_A, _B, _C = 3.4445, -4.7750, 2.0315  # the quintic's, as published: steep at 0, singular values end in about 0.7 to 1.2


class Muon(ForeachOptimizer):
    """Nesterov's momentum; in groups that say `orthogonal`, the step's matrix (O, I·h·w) is made orthogonal.

    There the weights move by `lr * sqrt(max(1, O / (I·h·w)))` times it. The other groups, norms, biases, the first
    convolution and the classifier, move by the momentum itself. Weights decay by `lr * weight_decay` of their size.

    Args:
        params: tensors or groups of them.
        lr: learning rate; momentum: of the gradients; weight_decay: of the weights.
        orthogonal: of groups that do not say it.
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

    def _update(self, group: dict[str, Any], tensors: list[Tensor], gradients: list[Tensor]) -> None:
        moves = self._moves(group, tensors, gradients)
        if group["weight_decay"]:
            torch._foreach_mul_(tensors, 1 - group["lr"] * group["weight_decay"])
        if group["orthogonal"]:
            moves = _turned(moves)
        torch._foreach_add_(tensors, moves, alpha=-group["lr"])

    def _moves(self, group: dict[str, Any], tensors: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """What momentum makes of gradients, which it remembers."""
        for tensor in tensors:
            if not self.state[tensor]:
                self.state[tensor]["momentum_buffer"] = torch.zeros_like(tensor)
        buffers = [self.state[tensor]["momentum_buffer"] for tensor in tensors]
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, gradients)
        return list(torch._foreach_add(gradients, buffers, alpha=group["momentum"]))


def _turned(moves: list[Tensor]) -> list[Tensor]:
    """Each orthogonal as a matrix (O, I·h·w), and longer where it has more rows than columns."""
    turned = list(moves)
    alike: dict[torch.Size, list[int]] = {}  # a network has few shapes: all tensors of one at once
    for place, move in enumerate(moves):
        alike.setdefault(move.shape, []).append(place)
    for shape, places in alike.items():
        steps = orthogonalise(torch.stack([moves[place].flatten(1) for place in places]))
        length = max(1.0, shape[0] / shape[1:].numel()) ** 0.5
        for place, step in zip(places, steps, strict=True):
            turned[place] = torch.empty_like(moves[place]).copy_(step.view(shape)).mul_(length)
    return turned


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Each of (N, O, M) with its singular values brought near 1, by Newton-Schulz iterations.

    Computed in bfloat16 on cards, which have it fast, else in the matrices' own type.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(torch.bfloat16 if matrices.is_cuda else matrices.dtype)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(iterations):
        square = x @ x.mT
        x = _A * x + (_B * square + _C * square @ square) @ x
    turned: Tensor = (x.mT if tall else x).to(matrices.dtype)
    return turned
