"""scikit-learn's handwritten digits: 1,797 grayscale images of 8 x 8, a data set without a download."""

from __future__ import annotations

import numpy as np

from resnets.data.dataset import Dataset, ImageSet
from resnets.data.decode.image import Pixels
from resnets.errors import require_extra

__all__ = ["ArraySource", "open_digits"]


class ArraySource:
    """An array of images, (N, H, W, C) uint8, uint16 or float32."""

    def __init__(self, name: str, images: Pixels) -> None:
        assert images.ndim == 4
        assert images.dtype in (np.uint8, np.uint16, np.float32)
        self._name, self._images = name, images

    def name(self, row: int) -> str:
        """`name#row`."""
        return f"{self._name}#{row}"

    def read(self, row: int) -> bytes | Pixels:
        """(H, W, C) pixels."""
        image: Pixels = self._images[row]
        return image


def open_digits() -> Dataset:
    """All digits as one training split, classes `0` to `9`; values 0..16 are scaled to 0..255.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    with require_extra("the digits data set", "demo"):
        from sklearn.datasets import load_digits
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # (1797, 8, 8, 1)
    labels = digits.target.astype(np.int64)
    train = ImageSet(source=ArraySource("digits", images), rows=np.arange(len(labels)), labels=labels)
    return Dataset(name="digits", classes=tuple("0123456789"), splits={"train": train})
