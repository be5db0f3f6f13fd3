"""Names of images, packed, and the order of classes.

A million Python strings are dear to hold and to pickle: names are one buffer and an array of where each ends.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["Names", "NumberTexts", "class_order"]


class Names:
    """Byte strings in one buffer; `names[row]` is one of them.

    Args:
        names: read once, in order.
    """

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
        """(row, earlier row) of every name that stood before, with its first row; sorted."""
        hashes = np.fromiter((hash(self[row]) for row in range(len(self))), np.int64, len(self))
        order = np.argsort(hashes, kind="stable")
        # Rows of a hash that comes more than once; different names may share one.
        same = hashes[order[1:]] == hashes[order[:-1]]
        suspects = np.sort(order[np.append(same, False) | np.append(False, same)])
        first: dict[bytes, int] = {}
        for row in suspects.tolist():
            earlier = first.setdefault(self[row], row)
            if earlier != row:
                yield row, earlier


class NumberTexts:
    """Numbers texts as they come: the first is 0, the next new one 1."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._of)

    def __call__(self, text: str) -> int:
        return self._of.setdefault(text, len(self._of))

    @property
    def texts(self) -> list[str]:
        """In the order of their numbers."""
        return list(self._of)


def class_order(names: Iterable[str]) -> list[str]:
    """Class names sorted: by value where all are whole numbers (`2` before `10`), else by code point."""
    given = list(names)
    if all(re.fullmatch(r"-?[0-9]+", name) for name in given):
        return sorted(given, key=lambda name: (int(name), name))
    return sorted(given)
