"""Memory of batches, used again: to write into fresh memory takes longer than to work out what is written."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Buffers"]

KEPT = 8  # arrays: what a few workers have ready and one smaller batch
_UNUSED = 3  # references: the list's, the loop's and the question's own


class Buffers:
    """Hands out arrays, and again those that nobody holds any more: no array, tensor or view of them is left.

    Threads may share one.
    """

    def __init__(self) -> None:
        self._arrays: list[npt.NDArray[Any]] = []

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array of any content."""
        for array in self._arrays:
            if array.shape == shape and array.dtype == dtype and sys.getrefcount(array) <= _UNUSED:
                return array
        array = np.empty(shape, dtype)
        self._arrays = [*self._arrays[1 - KEPT :], array]
        return array
