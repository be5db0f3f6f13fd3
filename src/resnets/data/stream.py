"""Larger pictures: read, decoded and cropped by worker processes, normalised a batch at a time on the device.

A JPEG of which a large crop is wanted small is decoded at 1/2, 1/4 or 1/8, as far as the crop still has more
pixels than the network sees. Draws are keyed by seed, epoch and sample, so any number of workers gives the same.

Legend: N batch, C channels, H height, W width.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment import AugmentConfig, Draws, PixelTable, augment, augment_draws, crop_box, crop_draws
from resnets.data.batches import Batch, batch_bounds
from resnets.data.cores import available_cores
from resnets.data.dataset import ImageSet
from resnets.data.decode import Pixels, decode, jpeg_size
from resnets.data.random import permutation
from resnets.data.transform import decode_channels, fill_bytes, normalise, prepare, resize, to_channels
from resnets.errors import ImageError

__all__ = ["EvalBatches", "TrainBatches", "default_workers", "random_resized_crop"]

Indices = npt.NDArray[np.int64]


class _Failure(NamedTuple):
    """An ImageError on its way from a worker: torch rebuilds exceptions from one string, and loses their type."""

    where: str
    reason: str


def default_workers() -> int:
    """A process for every core that this process may use, 8 at most."""
    return min(8, available_cores())


def random_resized_crop(
    images: ImageSet, i: int, contract: Preprocessing, config: AugmentConfig, draws: Draws
) -> Pixels:
    """Picture `i`, cropped at random and resized to the contract's size.

    Args:
        draws: (24,), a row of `crop_draws`.

    Returns:
        (H, W, C) uint8.

    Raises:
        ImageError: it cannot be read or decoded.
    """
    content, channels, factor = images.read(i), decode_channels(contract), 1
    full = jpeg_size(content) if isinstance(content, bytes) else None
    if full is not None and isinstance(content, bytes):
        top, left, height, width = crop_box(*full, config, draws)
        spare = min(height // contract.size[0], width // contract.size[1])
        reduce = next((factor for factor in (8, 4, 2) if factor <= spare), 1)
        image = decode(content, channels, where=images.name(i), reduce=reduce)
        factor = reduce if image.shape[0] < full[0] else 1
    else:
        image = images.image(i, channels)
        top, left, height, width = crop_box(image.shape[0], image.shape[1], config, draws)
    right, bottom = min(image.shape[1], (left + width) / factor), min(image.shape[0], (top + height) / factor)
    image = resize(image, contract.size, contract, (left / factor, top / factor, right, bottom))
    return to_channels(image, contract)


class _Reader(TorchDataset[Any]):
    """What runs in the workers: (epoch, places) -> a batch of bytes."""

    def __init__(self, images: ImageSet, contract: Preprocessing, config: AugmentConfig | None, seed: int) -> None:
        self.images, self.contract, self.config, self.seed = images, contract, config, seed

    def __getitem__(self, key: tuple[int, Indices]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | _Failure:
        epoch, places = key
        config, contract = self.config, self.contract
        pixels = np.empty((len(places), *contract.size, contract.num_channels), np.uint8)
        try:
            if config is not None and config.scale is not None:
                draws = crop_draws(self.seed, epoch, places)
                for row, place in enumerate(places):
                    pixels[row] = random_resized_crop(self.images, int(place), contract, config, draws[row])
            else:
                for row, place in enumerate(places):
                    image = self.images.image(int(place), decode_channels(contract))
                    pixels[row] = prepare(image, contract)
        except ImageError as error:
            return _Failure(error.where, error.reason)
        batch = torch.from_numpy(pixels)  # (N, H, W, C)
        if config is not None and (config.pad or config.flip or config.cutout):
            table = PixelTable.of(batch, fill_bytes(contract))
            batch = augment(table, torch.arange(len(places)), config, augment_draws(self.seed, epoch, places))
        return batch, torch.from_numpy(self.images.labels[places]), torch.from_numpy(places)


class _Order:
    """The sampler: a batch's key after another. Persistent workers read it anew each epoch."""

    def __init__(self) -> None:
        self.keys: list[tuple[int, Indices]] = []

    def __iter__(self) -> Iterator[tuple[int, Indices]]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


def _same(item: Any) -> Any:
    return item


@contextmanager
def _no_advice() -> Iterator[None]:
    """Without torch's warning of more workers than cores, and Python 3.12's of forking with threads (unused here)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        yield


class _Stream:
    """A loader whose workers live as long as it does."""

    def __init__(self, reader: _Reader, workers: int | None, device: torch.device | str) -> None:
        workers = default_workers() if workers is None else workers
        self._device, self._contract, self._order = torch.device(device), reader.contract, _Order()
        # A forked worker starts at once; after CUDA has started, a fork cannot use it, so it is spawned there.
        context = "fork" if sys.platform == "linux" and not torch.cuda.is_initialized() else "spawn"  # type: ignore[no-untyped-call]
        with _no_advice():
            self._loader: DataLoader[Any] = DataLoader(
                reader,
                sampler=self._order,
                batch_size=None,  # the reader makes whole batches
                collate_fn=_same,
                num_workers=workers,
                persistent_workers=workers > 0,
                pin_memory=self._device.type == "cuda",
                multiprocessing_context=context if workers else None,
                generator=torch.Generator(),  # else every epoch would draw from torch's global generator
            )

    def run(self, keys: list[tuple[int, Indices]]) -> Iterator[Batch]:
        self._order.keys = keys
        with _no_advice():
            batches = iter(self._loader)
        for item in batches:
            if isinstance(item, _Failure):
                raise ImageError(item.where, item.reason)
            pixels, labels, indices = item
            x = normalise(pixels, self._contract, device=self._device)
            yield Batch(x, labels.to(self._device, non_blocking=True), indices)


class TrainBatches:
    """Shuffled and varied batches from files; the same for the same seed and epoch with any number of workers.

    Args:
        images: the split.
        contract: size, filter, channels, normalisation; with `augment.scale` its crop rule is not used.
        augment: how pictures are varied.
        batch_size: pictures a batch; the last batch may be smaller, or larger by one.
        seed: 0 to 2**64 - 1.
        device: where batches are normalised.
        workers: processes; 0 reads in this process; by default `default_workers()`.
        drop_last: leave out a last batch that is not full.
    """

    def __init__(
        self,
        images: ImageSet,
        contract: Preprocessing,
        augment: AugmentConfig,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        *,
        workers: int | None = None,
        drop_last: bool = False,
    ) -> None:
        self._count, self._seed = len(images), seed
        self._bounds = batch_bounds(len(images), batch_size, drop_last=drop_last)
        self._stream = _Stream(_Reader(images, contract, augment, seed), workers, device)

    def __len__(self) -> int:
        return len(self._bounds)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on; finish or drop one epoch before the next.

        Raises:
            ImageError: a picture does not decode.
        """
        order = permutation(self._count, self._seed, epoch)
        return self._stream.run([(epoch, order[first:last]) for first, last in self._bounds[start:]])


class EvalBatches:
    """All pictures in order, prepared by the contract; every epoch is the same."""

    def __init__(
        self,
        images: ImageSet,
        contract: Preprocessing,
        batch_size: int,
        device: torch.device | str = "cpu",
        *,
        workers: int | None = None,
    ) -> None:
        self._count, self._batch_size = len(images), batch_size
        self._stream = _Stream(_Reader(images, contract, None, 0), workers, device)

    def __len__(self) -> int:
        return -(-self._count // self._batch_size)

    def epoch(self, epoch: int = 0, *, start: int = 0) -> Iterator[Batch]:
        """All batches, from batch `start` on; raises ImageError."""
        order = np.arange(self._count)
        starts = range(start * self._batch_size, self._count, self._batch_size)
        return self._stream.run([(0, order[first : first + self._batch_size]) for first in starts])
