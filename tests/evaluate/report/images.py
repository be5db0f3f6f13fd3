"""Pixels of plots, for tests."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH = 1800  # pixels of every plot


def pixels(png: bytes) -> NDArray[np.int64]:
    """(H, W, 3) values of a PNG file."""
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"), np.int64)


def count_colour(image: NDArray[np.int64], colour: str, tolerance: int = 12) -> int:
    """Number of pixels that are (nearly) of the colour `#rrggbb`."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(image - rgb).max(axis=2) <= tolerance).sum())
