"""Names of images in compact form: one buffer and an array of end positions.

A million Python strings would take far more memory and time to pickle.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["NameTable"]


class NameTable:
    """An immutable sequence of byte strings in one buffer; `names` are read once, in order."""

    def __init__(self, names: Iterable[bytes]) -> None:
        buffer, ends = bytearray(), array("Q")
        for name in names:
            buffer += name
            ends.append(len(buffer))
        self._buffer = bytes(buffer)
        small = len(buffer) < 2**32
        self._ends: npt.NDArray[np.uint32 | np.uint64] = np.array(ends, np.uint32 if small else np.uint64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> bytes:
        start = int(self._ends[row - 1]) if row else 0
        return self._buffer[start : int(self._ends[row])]

    def repeats(self) -> Iterator[tuple[int, int]]:
        """(row, first row) of every name that occurred before, in order."""
        hashes = np.fromiter((hash(self[row]) for row in range(len(self))), np.int64, len(self))
        order = np.argsort(hashes, kind="stable")
        # Rows whose hash occurs more than once; different names may share a hash.
        same = hashes[order[1:]] == hashes[order[:-1]]
        suspects = np.sort(order[np.append(same, False) | np.append(False, same)])
        first: dict[bytes, int] = {}
        for row in suspects.tolist():
            earlier = first.setdefault(self[row], row)
            if earlier != row:
                yield row, earlier
