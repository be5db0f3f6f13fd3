"""What training and evaluation loops are given, whether pictures lie in memory or stream from files.

Legend: N batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch

from resnets.errors import ConfigError

__all__ = ["Batch", "Batches", "batch_bounds"]


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
    """Batches of a split, epoch by epoch."""

    def __len__(self) -> int:
        """Batches an epoch."""
        ...

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on (to resume within an epoch)."""
        ...


def batch_bounds(count: int, batch_size: int, *, drop_last: bool = False) -> list[tuple[int, int]]:
    """(first, past the last) of every training batch.

    Batch normalisation cannot train on one picture, so a single picture left over joins the batch before it.

    Args:
        count: pictures.
        batch_size: 1 or more.
        drop_last: leave out a batch that is not full, unless it is the only one.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be 1 or more; got {batch_size}; 128 is usual")
    bounds = [(first, min(first + batch_size, count)) for first in range(0, count, batch_size)]
    if len(bounds) > 1 and count % batch_size and drop_last:
        bounds.pop()
    elif len(bounds) > 1 and batch_size > 1 and count % batch_size == 1:
        bounds[-2:] = [(bounds[-2][0], count)]
    return bounds
