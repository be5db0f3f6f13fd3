"""How many threads decode a split."""

from __future__ import annotations

import os

import numpy as np

from resnets.data.dataset import ImageSet
from resnets.errors import ImageError

__all__ = ["decode_threads"]

_WORTHWHILE = 8 * 1024  # bytes; below it threads wait for Python's lock longer than they decode


def decode_threads(images: ImageSet, workers: int | None = None) -> int:
    """Threads to decode `images` with: `workers`, by default one a core, but 1 where the files are tiny.

    Two threads take three times as long as one over 32 x 32 PNGs, and half as long over photographs.
    """
    if workers is not None:
        return max(1, workers)
    sizes = []
    for i in np.unique(np.linspace(0, len(images) - 1, 8).astype(int)) if len(images) else ():
        try:
            content = images.read(int(i))
        except ImageError:
            continue
        sizes.append(len(content) if isinstance(content, bytes) else 0)
    return (os.cpu_count() or 1) if sizes and np.median(sizes) >= _WORTHWHILE else 1
