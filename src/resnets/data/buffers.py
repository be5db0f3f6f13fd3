"""Memory of batches, used again: to write into fresh memory takes longer than to work out what is written."""

from __future__ import annotations

import sys
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Buffers"]

Array = npt.NDArray[Any]
KEPT = 8  # arrays: what a few workers have ready and one smaller batch


def _unheld(arrays: list[Array], shape: tuple[int, ...], dtype: npt.DTypeLike, references: int) -> Array | None:
    """The first of `arrays` with no more than so many references; the list's own, and some of this loop, count."""
    for array in arrays:
        if array.shape == shape and array.dtype == dtype and sys.getrefcount(array) <= references:
            return array
    return None


# How many this loop has differs between versions of Python.
_OWN = next(count for count in range(1, 9) if _unheld([np.empty(0)], (0,), np.float64, count) is not None)


class Buffers:
    """Hands out arrays, and again those that nobody holds any more: no array, tensor or view of them is left.

    Threads may share one. A pickle of it is an empty one.
    """

    def __init__(self) -> None:
        self._arrays: list[Array] = []
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[Buffers], tuple[()]]:
        return Buffers, ()

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """An array of any content."""
        with self._lock:
            array = _unheld(self._arrays, shape, dtype, _OWN)
            if array is None:
                array = np.empty(shape, dtype)
                self._arrays = [*self._arrays[1 - KEPT :], array]
            return array
