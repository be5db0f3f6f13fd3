"""Gradient checkpointing: the activations of a block are computed again in the backward pass instead of being kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

__all__ = ["checkpointed"]


def checkpointed(block: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`forward(x)`, whose gradients are equal to the bit, with less memory and one more forward pass.

    Batch norms update their running statistics in the first pass only, and random layers draw the same numbers in both.

    Args:
        block: whose batch norms take part.
        forward: of the block.
    """
    output: Tensor = checkpoint(
        forward, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _KeptStatistics(block))
    )
    return output


class _KeptStatistics(AbstractContextManager[None]):
    """Within it, batch norms update copies of their running statistics. Entered again for each backward pass."""

    def __init__(self, block: nn.Module) -> None:
        self.norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
        self.buffers: list[dict[str, Tensor | None]] = []

    def __enter__(self) -> None:
        self.buffers = [dict(norm._buffers) for norm in self.norms]
        for norm, own in zip(self.norms, self.buffers, strict=True):
            norm._buffers.update({name: None if one is None else one.clone() for name, one in own.items()})

    def __exit__(self, *error: object) -> None:
        for norm, own in zip(self.norms, self.buffers, strict=True):
            norm._buffers.update(own)
