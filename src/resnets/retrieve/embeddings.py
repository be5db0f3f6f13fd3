"""Embeddings with their identities and cameras, as the query set or the gallery of an evaluation.

Legend: N images, D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.errors import DataError, ShapeError

__all__ = ["Embeddings", "check_pair", "require_finite"]

CHECK_ROWS = 65536  # of an array that may be memory-mapped


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Embeddings of N images.

    Args:
        features: (N, D) of any floating-point type, in memory or memory-mapped.
        ids: (N,) identity of each image.
        cameras: (N,) camera of each image; `None` without cameras.
        what: name of the set in messages, such as `gallery`.

    Raises:
        ShapeError: arrays whose shapes do not fit each other.
        DataError: embeddings that are NaN or infinite.
    """

    features: npt.NDArray[Any]
    ids: npt.NDArray[np.int64]
    cameras: npt.NDArray[np.int64] | None = None
    what: str = "embeddings"

    def __post_init__(self) -> None:
        shape = self.features.shape
        if len(shape) != 2 or not shape[1]:
            raise ShapeError(f"embeddings are a matrix (images, size); the {self.what} has the shape {shape}")
        for name, values in (("identity", self.ids), ("camera", self.cameras)):
            if values is not None and values.shape != (shape[0],):
                raise ShapeError(
                    f"each image has one {name}; the {self.what} has {shape[0]:,} images and an array of shape "
                    f"{values.shape} for them"
                )
        require_finite(self.features, self.what)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size(self) -> int:
        """D."""
        return int(self.features.shape[1])

    def select(self, rows: npt.NDArray[Any]) -> Embeddings:
        """The images of some rows, by position or mask."""
        cameras = None if self.cameras is None else self.cameras[rows]
        return replace(self, features=self.features[rows], ids=self.ids[rows], cameras=cameras)


def require_finite(features: npt.NDArray[Any], what: str) -> None:
    """Raise DataError if embeddings (N, D) are NaN or infinite somewhere."""
    for start in range(0, len(features), CHECK_ROWS):
        finite = np.isfinite(features[start : start + CHECK_ROWS]).all(1)
        if not finite.all():
            raise DataError(
                f"embeddings must be finite; the {what} has NaN or infinity in row {start + int(finite.argmin())}; "
                "embed its image again"
            )


def check_pair(query: Embeddings, gallery: Embeddings) -> None:
    """Check that queries can be compared with a gallery.

    Raises:
        DataError: one of them is empty, or only one has cameras.
        ShapeError: embeddings of different sizes.
    """
    for one, what in ((query, "query set"), (gallery, "gallery")):
        if not len(one):
            raise DataError(f"a {what} needs at least one image; it is empty")
    if query.size != gallery.size:
        raise ShapeError(
            f"query and gallery need embeddings of one size; got {query.size} and {gallery.size}; use one model"
        )
    if (query.cameras is None) != (gallery.cameras is None):
        missing = "query set" if query.cameras is None else "gallery"
        raise DataError(f"query and gallery both need cameras, or neither; the {missing} has none")
