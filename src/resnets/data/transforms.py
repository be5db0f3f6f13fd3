"""Transforms for one's own data loader: an image in any form -> the network's input, as training and evaluation do it.

Legend: C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment.config import AugmentConfig
from resnets.data.dataset import ImageSet
from resnets.data.decode.image import Pixels, read_file
from resnets.data.inputs import decode_input, read_image
from resnets.data.sampler import Order
from resnets.data.stream import BatchReader, Failure
from resnets.data.transform import normalise
from resnets.errors import ImageError

__all__ = ["EvalTransform", "TrainTransform"]


@dataclass(frozen=True)
class EvalTransform:
    """The transform of validation and prediction: decode, resize, crop, normalise.

    Args:
        preprocessing: of the model.

    Calling it with an image (a path, bytes, an open file, a Pillow image, an array or a tensor, as for
    `Bundle.predict`) returns a (C, H, W) float32 tensor; `ImageError` if it cannot be decoded. It can be pickled, so
    it works in the processes of a `DataLoader`, and as the `transform` of torchvision's data sets.
    """

    preprocessing: Preprocessing

    def __call__(self, image: Any) -> torch.Tensor:
        pixels = read_image(image, self.preprocessing)
        return normalise(torch.from_numpy(pixels[None]), self.preprocessing)[0].contiguous()


@dataclass(frozen=True)
class TrainTransform:
    """The transform of training: decode, random crop and augmentation, normalise.

    Args:
        preprocessing: of the model.
        augment: as `resnets train` uses it. Mixup and CutMix mix the images of a batch and are not part of it.

    Called as `EvalTransform` is. The random numbers come from torch's global generator, so that `torch.manual_seed`
    makes them repeatable and each process of a `DataLoader` draws its own.
    """

    preprocessing: Preprocessing
    augment: AugmentConfig

    def __call__(self, image: Any) -> torch.Tensor:
        source = _OneImage(image, self.preprocessing)
        index = np.zeros(1, np.int64)
        seed = int(torch.randint(2**63 - 1, ()).item())
        reader = BatchReader(ImageSet(source=source, rows=index, labels=index), self.preprocessing, self.augment, seed)
        batch = reader[0, Order(index, index), self.preprocessing.size]
        if isinstance(batch, Failure):
            raise ImageError(batch.where, batch.reason)
        return normalise(batch, self.preprocessing)[0].contiguous()


class _OneImage:
    """A source of one image; paths stay encoded, so that of a JPEG only what a crop needs is decoded."""

    def __init__(self, image: Any, preprocessing: Preprocessing) -> None:
        self.image, self.preprocessing = image, preprocessing

    def name(self, row: int) -> str:
        return str(self.image) if isinstance(self.image, str) or hasattr(self.image, "__fspath__") else "image"

    def read(self, row: int) -> bytes | Pixels:
        if isinstance(self.image, bytes):
            return self.image
        if isinstance(self.image, str) or hasattr(self.image, "__fspath__"):
            return read_file(self.image)
        return decode_input(self.image, "image", self.preprocessing)
