"""The images of any data source as a torch `Dataset`, for one's own training loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset as TorchDataset

from resnets.data.dataset import ImageSet
from resnets.data.open import open_dataset
from resnets.errors import DataError

__all__ = ["ImageDataset"]


class ImageDataset(TorchDataset[tuple[Any, int]]):
    """A split of a data set as a torch `Dataset` of (image, class index) pairs.

    Args:
        data: a folder of class folders, a CSV table, WebDataset or Parquet shards, a packed folder or `digits`, as for
            `resnets train`.
        split: `train`, `val` or `test`.
        transform: called with each image, such as `resnets.transforms(model)`. It receives the encoded file as bytes,
            or (H, W, C) pixels where the source stores pixels.
        val_fraction: share of the training images that becomes `val` where the source has no such split.
        seed: of that division.

    Attributes:
        classes: class names; `dataset.classes[label]` is the name of a label.
        targets: (N,) list of class indices, without reading images.

    Raises:
        DataError: the source cannot be read, or has no such split.
    """

    def __init__(
        self,
        data: str | Path,
        split: str = "train",
        transform: Callable[[Any], Any] | None = None,
        *,
        val_fraction: float = 0.0,
        seed: int = 0,
    ) -> None:
        dataset = open_dataset(data, val_fraction=val_fraction, seed=seed)
        if split not in dataset.splits:
            raise DataError(f"a split must exist; got {split}; {dataset.name} has {', '.join(dataset.splits)}")
        self.images: ImageSet = dataset.splits[split]
        self.classes, self.transform = list(dataset.classes), transform

    @property
    def targets(self) -> list[int]:
        labels: list[int] = self.images.labels.tolist()
        return labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Raises IndexError for an index outside the data set, and ImageError if the image cannot be read."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must be in -{len(self)}..{len(self) - 1}; got {index}")
        index %= len(self)
        image = self.images.read(index)
        return (image if self.transform is None else self.transform(image)), int(self.images.labels[index])
