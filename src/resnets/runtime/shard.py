"""How a batch is divided among processes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Shard"]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One of several processes that train or evaluate together.

    Args:
        rank: number of the process, from 0.
        world_size: number of processes.
    """

    rank: int = 0
    world_size: int = 1

    def local_count(self, count: int) -> int:
        """Number of images that count for this process in a training batch of `count`: 0, or at least two."""
        first, last = self._split(count)
        return last - first

    def local_range(self, first: int, last: int) -> tuple[int, int]:
        """This process's slice of the training batch `first:last`. Slices differ by at most one image in length.

        Batch normalisation cannot train on one image, so a small last batch is shared by the first processes only, two
        or three images each. The others still have to run the step: they get the first two images, which must be
        given a weight of zero (`local_count` is 0).
        """
        start, end = self._split(last - first)
        return (first + start, first + end) if end > start else (first, min(first + 2, last))

    def _split(self, count: int) -> tuple[int, int]:
        size = min(self.world_size, max(1, count // 2))
        return count * min(self.rank, size) // size, count * min(self.rank + 1, size) // size
