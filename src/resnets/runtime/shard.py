"""Which part of each batch a process takes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Shard"]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One of several processes that train or measure together.

    Args:
        rank: which of them, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def takes(self, count: int) -> int:
        """How many images of a training batch of `count` are this process's own; 0, or at least two."""
        first, last = self._own(count)
        return last - first

    def part(self, first: int, last: int) -> tuple[int, int]:
        """This process's part of the training batch from `first` to before `last`: parts differ by one at most.

        Batch normalisation cannot train on one image. Of a small rest, the first processes take two or three each;
        the others, which have to make the step too, are given the first two, which then must not count.
        """
        start, end = self._own(last - first)
        return (first + start, first + end) if end > start else (first, min(first + 2, last))

    def _own(self, count: int) -> tuple[int, int]:
        size = min(self.size, max(1, count // 2))
        return count * min(self.rank, size) // size, count * min(self.rank + 1, size) // size
