"""Small pictures: decoded once, kept as bytes in one tensor, varied a batch at a time where they lie.

Legend: N batch, M pictures in the set, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment import AugmentConfig, PixelTable, augment, augment_draws
from resnets.data.batches import Batch, batch_bounds
from resnets.data.cores import available_cores
from resnets.data.dataset import ImageSet
from resnets.data.random import permutation
from resnets.data.transform import decode_channels, fill_bytes, normalise, prepare
from resnets.errors import ConfigError

__all__ = ["EvalBatches", "MemorySet", "TrainBatches"]


class MemorySet:
    """A split, decoded and prepared.

    Args:
        images: the split.
        contract: says the size (H, W) and the channels.
        workers: decoding threads; by default one for every core.
        progress: called with (done, total) now and then, from this thread.

    Raises:
        ImageError: a picture does not decode.
    """

    def __init__(
        self,
        images: ImageSet,
        contract: Preprocessing,
        *,
        workers: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.contract = contract
        self.labels = torch.from_numpy(images.labels.copy())  # (M,)
        self.table = PixelTable((len(images), *contract.size, contract.num_channels), fill_bytes(contract))
        out, channels = self.table.images.numpy(), decode_channels(contract)

        def work(first: int) -> int:
            last = min(first + 64, len(images))
            for i in range(first, last):
                out[i] = prepare(images.image(i, channels), contract)
            return last

        with ThreadPoolExecutor(workers or available_cores()) as pool:
            for done in pool.map(work, range(0, len(images), 64)):
                if progress is not None:
                    progress(done, len(images))

    def __len__(self) -> int:
        return len(self.labels)


class TrainBatches:
    """Shuffled and varied batches; the same for the same seed and epoch, whatever came before.

    Args:
        images: the split in memory.
        contract: the one the split was prepared with.
        augment: how pictures are varied; random resized crops need files, see `data.stream`.
        batch_size: pictures a batch; the last batch may be smaller, or larger by one.
        seed: 0 to 2**64 - 1.
        device: where batches are made; the pictures move there as a whole.
        drop_last: leave out a last batch that is not full.
    """

    def __init__(
        self,
        images: MemorySet,
        contract: Preprocessing,
        augment: AugmentConfig,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        *,
        drop_last: bool = False,
    ) -> None:
        if augment.scale is not None:
            raise ConfigError("random resized crops need the whole pictures; got pictures in memory; stream them")
        assert contract == images.contract
        self._table, self._labels = images.table.to(device), images.labels.to(device)
        self._contract, self._augment, self._seed, self._device = contract, augment, seed, torch.device(device)
        self._bounds = batch_bounds(len(images), batch_size, drop_last=drop_last)

    def __len__(self) -> int:
        return len(self._bounds)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on."""
        order = permutation(len(self._labels), self._seed, epoch)
        for first, last in self._bounds[start:]:
            indices = order[first:last]
            rows = torch.from_numpy(indices).to(self._device)
            draws = augment_draws(self._seed, epoch, indices)
            pixels = augment(self._table, rows, self._augment, draws)  # (N, H, W, C)
            yield Batch(normalise(pixels, self._contract), self._labels[rows], torch.from_numpy(indices))


class EvalBatches:
    """All pictures in order, none varied; every epoch is the same."""

    def __init__(
        self, images: MemorySet, contract: Preprocessing, batch_size: int, device: torch.device | str = "cpu"
    ) -> None:
        assert contract == images.contract
        self._images, self._contract, self._batch_size = images, contract, batch_size
        self._device = torch.device(device)

    def __len__(self) -> int:
        return -(-len(self._images) // self._batch_size)

    def epoch(self, epoch: int = 0, *, start: int = 0) -> Iterator[Batch]:
        """All batches, from batch `start` on."""
        for first in range(start * self._batch_size, len(self._images), self._batch_size):
            indices = torch.arange(first, min(first + self._batch_size, len(self._images)))
            pixels = self._images.table.images[first : first + self._batch_size]  # (N, H, W, C)
            x = normalise(pixels, self._contract, device=self._device)
            yield Batch(x, self._images.labels[indices].to(self._device), indices)
