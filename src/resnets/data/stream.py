"""Pixel store for larger data sets: workers read, decode, crop and augment images while the network trains.

Legend: N batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset as TorchDataset

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment.config import AugmentConfig
from resnets.data.augment.geometric import HFLIP, PixelTable, augment_draws, augment_geometric, crop_draws
from resnets.data.augment.photometric import augment_photometric
from resnets.data.augment.random_crop import random_resized_crop
from resnets.data.buffers import BufferPool
from resnets.data.dataset import ImageSet
from resnets.data.decode.budget import reserving
from resnets.data.decode.image import Pixels
from resnets.data.random import SampleKeys
from resnets.data.sampler import Order
from resnets.data.transform import decode_channels, fill_values, prepare
from resnets.data.workers import WorkerKind, start_workers
from resnets.errors import ImageError

__all__ = ["BatchReader", "Failure", "StreamStore"]

Request = tuple[int, Order, tuple[int, int]]  # epoch, samples, (H, W) of a batch


class StreamStore:
    """A split that is decoded anew in every epoch.

    Args:
        images: the split.
        preprocessing: size, filter, channels and depth; with `augment.scale` its crop rule is not used.
        augment: random augmentation; None for none.
        seed: of the augmentation, 0 to 2**64 - 1.
        workers: how many; 0 decodes in this thread (default: one per core, 8 at most).
        kind: processes or threads, see `data.workers`.
        pin_memory: return tensors in pinned memory, for asynchronous copies to a GPU.
        on_message: told when worker processes were killed and are started again.
    """

    def __init__(
        self,
        images: ImageSet,
        preprocessing: Preprocessing,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        *,
        workers: int | None = None,
        kind: WorkerKind = "processes",
        pin_memory: bool = False,
        on_message: Callable[[str], None] = lambda text: None,
    ) -> None:
        reader = BatchReader(images, preprocessing, augment, seed)
        self._workers = start_workers(reader, workers, kind, pin_memory=pin_memory, on_message=on_message)

    def batches(self, epoch: int, orders: Sequence[Order], size: tuple[int, int]) -> Iterator[torch.Tensor]:
        """(N, H, W, C) pixels of each batch; raises ImageError."""
        for item in self._workers.map([(epoch, order, size) for order in orders]):
            if isinstance(item, Failure):
                raise ImageError(item.where, item.reason)
            yield item
            del item  # else this frame would keep the batch's buffer from the pool


class Failure(NamedTuple):
    """An ImageError on its way from a worker: torch rebuilds exceptions from one string and loses their type."""

    where: str
    reason: str


class BatchReader(TorchDataset[Any]):
    """Runs in the workers: a request -> a batch of pixels."""

    def __init__(self, images: ImageSet, preprocessing: Preprocessing, config: AugmentConfig | None, seed: int) -> None:
        self.images, self.preprocessing, self.config, self.seed = images, preprocessing, config, seed
        self._buffers = BufferPool()

    def __getitem__(self, request: Request) -> torch.Tensor | Failure:
        try:
            return torch.from_numpy(self._pixels(request))
        except ImageError as error:
            return Failure(error.where, error.reason)

    def _pixels(self, request: Request) -> Pixels:
        """(N, H, W, C), augmented."""
        config, (epoch, (indices, views), size) = self.config, request
        keys = SampleKeys(self.seed, epoch, indices, views)
        preprocessing = (
            self.preprocessing if size == self.preprocessing.size else replace(self.preprocessing, size=size)
        )
        shape = (len(indices), *size, preprocessing.num_channels)
        pixels: Pixels = self._buffers.empty(shape, preprocessing.dtype)
        geometric = config is not None and bool(config.pad or config.cutout or config.vflip)
        if config is not None and config.scale is not None:
            crops = crop_draws(*keys)
            # A flip alone is done with the crop; with other geometric options, in their order below.
            flips = config.hflip & (augment_draws(*keys)[:, HFLIP] < 0.5) & (not geometric)
            for row, i in enumerate(indices.tolist()):
                random_resized_crop(
                    self.images, i, preprocessing, config, crops[row], pixels[row], hflip=bool(flips[row])
                )
        else:
            geometric = geometric or (config is not None and config.hflip)
            channels = decode_channels(preprocessing)
            for row, i in enumerate(indices.tolist()):
                with reserving():
                    pixels[row] = prepare(self.images.image(i, channels, preprocessing.dtype), preprocessing)
        if config is None:
            return pixels
        if geometric:
            table = PixelTable.of(torch.from_numpy(pixels), fill_values(preprocessing))
            pixels = augment_geometric(table, torch.arange(len(indices)), config, augment_draws(*keys)).numpy()
        return augment_photometric(pixels, config, preprocessing, keys) if config.photometric else pixels
