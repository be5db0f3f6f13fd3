"""A pool of batch buffers: reused memory is faster to write to than memory fresh from the operating system.

Ownership needs no release call. A buffer returns to the pool when the last array, view or tensor on it is gone, by a
weak reference's callback. Unlike a look at reference counts, this is sound on free-threaded Python.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_FREE", "BufferPool"]

Array = npt.NDArray[Any]
MAX_FREE = 8  # buffers: the batches that a few workers prepare ahead, and one of another size


class BufferPool:
    """Arrays whose memory is reused once nothing refers to it. Threads may share one; a pickle of it is empty."""

    def __init__(self) -> None:
        # Deque operations are atomic. A lock is not an option: callbacks may run inside any Python code, `empty` too.
        self._free: deque[Array] = deque(maxlen=MAX_FREE)

    def __reduce__(self) -> tuple[type[BufferPool], tuple[()]]:
        return BufferPool, ()

    def __len__(self) -> int:
        return len(self._free)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """A writable, contiguous array with arbitrary content."""
        kind = np.dtype(dtype)
        memory = self._take(math.prod(shape) * kind.itemsize)
        # A view's base is the first array over a memoryview, so this one lives as long as any view or tensor of it.
        owner = np.frombuffer(memory.data, kind)
        weakref.finalize(owner, self._free.append, memory).atexit = False
        return owner.reshape(shape)

    def _take(self, size: int) -> Array:
        for _ in range(len(self._free)):
            try:
                memory = self._free.pop()  # the latest, which may still be in the CPU's cache
            except IndexError:  # another thread took it
                break
            if memory.nbytes == size:
                return memory
            self._free.appendleft(memory)
        return np.empty(size, np.uint8)
