"""What training and evaluation loops are given, whether images lie in memory or stream from files.

Legend: N batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch

__all__ = ["Batch", "Batches"]


class Batch(NamedTuple):
    """A batch as the network takes it.

    Attributes:
        x: (N, C, H, W) normalised, channels_last, on the device.
        y: (N,) int64 class indices, on the device.
        indices: (N,) int64 places in the split, on the CPU.
    """

    x: torch.Tensor
    y: torch.Tensor
    indices: torch.Tensor


class Batches(Protocol):
    """Batches of a split, epoch by epoch.

    Attributes:
        bounds: (first, past the last) place in the epoch of each batch, over all processes that share it.
    """

    bounds: list[tuple[int, int]]

    def __len__(self) -> int:
        """Batches an epoch."""
        ...

    def epoch(self, epoch: int, *, start: int = 0, size: tuple[int, int] | None = None) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on (to resume within an epoch).

        Args:
            size: (H, W) in pixels in place of the preprocessing's, for training that begins with small images.
        """
        ...
