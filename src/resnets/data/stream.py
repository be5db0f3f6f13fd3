"""Larger images: read, decoded and cropped by worker processes, normalised a batch at a time on the device.

Draws are keyed by seed, epoch and sample, so any number of workers gives the same.

Legend: N batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment.config import Sampling
from resnets.data.augment.geometric import FLIP, AugmentConfig, PixelTable, augment, augment_draws, crop_draws
from resnets.data.augment.random_crop import random_resized_crop
from resnets.data.augment.varied import vary_batch
from resnets.data.batches import Batch
from resnets.data.buffers import Buffers
from resnets.data.dataset import ImageSet
from resnets.data.decode.image import Pixels
from resnets.data.sampler import Epochs, Order, eval_bounds
from resnets.data.transform import decode_channels, fill_values, normalise, pixel_dtype, prepare
from resnets.data.workers import Kind, hire
from resnets.errors import ImageError
from resnets.runtime.shard import Shard

__all__ = ["EvalBatches", "TrainBatches"]


class _Failure(NamedTuple):
    """An ImageError on its way from a worker: torch rebuilds exceptions from one string, and loses their type."""

    where: str
    reason: str


class _Key(NamedTuple):
    """What a worker is told of a batch."""

    epoch: int
    order: Order
    size: tuple[int, int]


class _Reader(TorchDataset[Any]):
    """What runs in the workers: a key -> a batch of pixels."""

    def __init__(self, images: ImageSet, preprocessing: Preprocessing, config: AugmentConfig | None, seed: int) -> None:
        self.images, self.preprocessing, self.config, self.seed = images, preprocessing, config, seed
        self._buffers = Buffers()

    def __getitem__(self, key: _Key) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | _Failure:
        places = key.order.places
        preprocessing = (
            self.preprocessing if key.size == self.preprocessing.size else replace(self.preprocessing, size=key.size)
        )
        try:
            pixels = self._pixels(key, preprocessing)
        except ImageError as error:
            return _Failure(error.where, error.reason)
        return torch.from_numpy(pixels), torch.from_numpy(self.images.labels[places]), torch.from_numpy(places)

    def _pixels(self, key: _Key, preprocessing: Preprocessing) -> Pixels:
        """(N, H, W, C), varied."""
        config, seed, epoch, (places, views) = self.config, self.seed, key.epoch, key.order
        shape = (len(places), *preprocessing.size, preprocessing.num_channels)
        pixels: Pixels = self._buffers.empty(shape, pixel_dtype(preprocessing))
        moves = config is not None and (config.pad or config.cutout or config.vflip)
        if config is not None and config.scale is not None:
            crops = crop_draws(seed, epoch, places, views)
            mirrored = config.hflip & (augment_draws(seed, epoch, places, views)[:, FLIP] < 0.5)
            for row, place in enumerate(places):
                mirror = bool(mirrored[row]) and not moves
                random_resized_crop(
                    self.images, int(place), preprocessing, config, crops[row], pixels[row], mirror=mirror
                )
        else:
            moves = moves or (config is not None and config.hflip)
            for row, place in enumerate(places):
                pixels[row] = prepare(
                    self.images.image(int(place), decode_channels(preprocessing), preprocessing.dtype), preprocessing
                )
        if config is None:
            return pixels
        if moves:
            table = PixelTable.of(torch.from_numpy(pixels), fill_values(preprocessing))
            draws = augment_draws(seed, epoch, places, views)
            pixels = augment(table, torch.arange(len(places)), config, draws).numpy()
        if config.varies:
            pixels = vary_batch(pixels, config, preprocessing, seed=seed, epoch=epoch, order=key.order)
        return pixels


class _Stream:
    """Batches as the workers make them, normalised here."""

    def __init__(self, reader: _Reader, workers: int | None, device: torch.device | str, kind: Kind) -> None:
        self._device, self._preprocessing = torch.device(device), reader.preprocessing
        self._crew = hire(reader, workers, kind, pin=self._device.type == "cuda")
        self._buffers = Buffers()

    def run(self, keys: list[_Key]) -> Iterator[Batch]:
        for item in self._crew.work(keys):
            if isinstance(item, _Failure):
                raise ImageError(item.where, item.reason)
            pixels, labels, indices = item
            # No name here holds the batch while it is used: its memory is free for another as soon as it is let go.
            yield Batch(self._normalise(pixels), labels.to(self._device, non_blocking=True), indices)

    def _normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        out = self._buffers.empty(pixels.shape, np.float32) if self._device.type == "cpu" else None
        return normalise(pixels, self._preprocessing, device=self._device, out=out)


class TrainBatches:
    """Shuffled and varied batches from files; the same for the same seed and epoch with any number of workers.

    Args:
        images: the split.
        preprocessing: size, filter, channels, normalisation; with `augment.scale` its crop rule is not used.
        augment: how images are varied.
        batch_size: images a batch over all processes; the last batch may be smaller, or a little larger.
        seed: 0 to 2**64 - 1.
        device: where batches are normalised.
        workers: how many; 0 reads in this thread; by default `default_workers()`.
        kind: processes or threads, see `data.workers`.
        sampling: how the images of an epoch are drawn.
        shard: which part of each batch is made.
        drop_last: leave out a last batch that is not full.
    """

    def __init__(
        self,
        images: ImageSet,
        preprocessing: Preprocessing,
        augment: AugmentConfig,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        *,
        workers: int | None = None,
        kind: Kind = "processes",
        sampling: Sampling | None = None,
        shard: Shard | None = None,
        drop_last: bool = False,
    ) -> None:
        self._epochs = Epochs(images.labels, batch_size, seed, sampling=sampling, shard=shard, drop_last=drop_last)
        self.bounds, self._size = self._epochs.bounds, preprocessing.size
        self._stream = _Stream(_Reader(images, preprocessing, augment, seed), workers, device, kind)

    def __len__(self) -> int:
        return len(self.bounds)

    def epoch(self, epoch: int, *, start: int = 0, size: tuple[int, int] | None = None) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on; finish or drop one epoch before the next.

        Raises:
            ImageError: an image does not decode.
        """
        return self._stream.run(
            [_Key(epoch, order, size or self._size) for order in self._epochs.batches(epoch, start)]
        )


class EvalBatches:
    """All images in order, prepared by the preprocessing; every epoch is the same.

    Args:
        shard: of several processes, each takes whole batches, in turn: what a batch is does not depend on them.
    """

    def __init__(
        self,
        images: ImageSet,
        preprocessing: Preprocessing,
        batch_size: int,
        device: torch.device | str = "cpu",
        *,
        workers: int | None = None,
        kind: Kind = "processes",
        shard: Shard | None = None,
    ) -> None:
        self.bounds, self._size = eval_bounds(len(images), batch_size, shard), preprocessing.size
        self._stream = _Stream(_Reader(images, preprocessing, None, 0), workers, device, kind)

    def __len__(self) -> int:
        return len(self.bounds)

    def epoch(self, epoch: int = 0, *, start: int = 0, size: tuple[int, int] | None = None) -> Iterator[Batch]:
        """All batches, from batch `start` on; raises ImageError."""
        orders = (Order(np.arange(*bound), np.zeros(bound[1] - bound[0], np.int64)) for bound in self.bounds[start:])
        return self._stream.run([_Key(0, order, size or self._size) for order in orders])
