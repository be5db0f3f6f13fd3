"""Small images: decoded once, kept as bytes in one tensor, varied a batch at a time where they lie.

Legend: N batch, M images in the set, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.nn import functional as F

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment.config import Sampling
from resnets.data.augment.geometric import AugmentConfig, PixelTable, augment, augment_draws
from resnets.data.augment.varied import vary_batch
from resnets.data.batches import Batch
from resnets.data.cores import available_cores
from resnets.data.dataset import ImageSet
from resnets.data.sampler import Epochs, Order, eval_bounds
from resnets.data.transform import decode_channels, fill_values, normalise, prepare
from resnets.errors import ConfigError
from resnets.runtime.shard import Shard

__all__ = ["EvalBatches", "MemorySet", "TrainBatches"]


class MemorySet:
    """A split, decoded and prepared.

    Args:
        images: the split.
        preprocessing: says the size (H, W) and the channels.
        workers: decoding threads; by default one for every core.
        progress: called with (done, total) now and then, from this thread.

    Raises:
        ImageError: an image does not decode.
    """

    def __init__(
        self,
        images: ImageSet,
        preprocessing: Preprocessing,
        *,
        workers: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.preprocessing = preprocessing
        self.labels = torch.from_numpy(images.labels.copy())  # (M,)
        shape, kind = (
            (len(images), *preprocessing.size, preprocessing.num_channels),
            getattr(torch, preprocessing.dtype),
        )
        self.table = PixelTable(shape, fill_values(preprocessing), kind)
        out, channels = self.table.images.numpy(), decode_channels(preprocessing)

        def work(first: int) -> int:
            last = min(first + 64, len(images))
            for i in range(first, last):
                out[i] = prepare(images.image(i, channels, preprocessing.dtype), preprocessing)
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
        preprocessing: the one the split was prepared with.
        augment: how images are varied; random resized crops need files, see `data.stream`.
        batch_size: images a batch over all processes; the last batch may be smaller, or a little larger.
        seed: 0 to 2**64 - 1.
        device: where batches are made; the images move there as a whole.
        sampling: how the images of an epoch are drawn.
        shard: which part of each batch is made.
        drop_last: leave out a last batch that is not full.
    """

    def __init__(
        self,
        images: MemorySet,
        preprocessing: Preprocessing,
        augment: AugmentConfig,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        *,
        sampling: Sampling | None = None,
        shard: Shard | None = None,
        drop_last: bool = False,
    ) -> None:
        if augment.scale is not None:
            raise ConfigError("random resized crops need the whole images; got images in memory; stream them")
        assert preprocessing == images.preprocessing
        # Images that are varied one by one are varied where the processor is.
        place = "cpu" if augment.varies else device
        self._table, self._labels = images.table.to(place), images.labels.to(device)
        self._preprocessing, self._augment, self._device = preprocessing, augment, torch.device(device)
        self._epochs = Epochs(
            images.labels.numpy(), batch_size, seed, sampling=sampling, shard=shard, drop_last=drop_last
        )
        self.bounds = self._epochs.bounds

    def __len__(self) -> int:
        return len(self.bounds)

    def epoch(self, epoch: int, *, start: int = 0, size: tuple[int, int] | None = None) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on; of another `size`, they are resized last."""
        seed = self._epochs.seed
        for places, views in self._epochs.batches(epoch, start):
            indices = torch.from_numpy(places)
            draws = augment_draws(seed, epoch, places, views)
            pixels = augment(self._table, indices.to(self._table.pixels.device), self._augment, draws)  # (N, H, W, C)
            if self._augment.varies:
                order = Order(places, views)
                varied = vary_batch(
                    pixels.numpy(), self._augment, self._preprocessing, seed=seed, epoch=epoch, order=order
                )
                pixels = torch.from_numpy(varied)
            x = resized(normalise(pixels, self._preprocessing, device=self._device), size)
            yield Batch(x, self._labels[indices.to(self._device)], indices)


def resized(x: Tensor, size: tuple[int, int] | None) -> Tensor:
    """(N, C, H, W) in another size, antialiased; itself where there is nothing to do."""
    if size is None or x.shape[2:] == size:
        return x
    return F.interpolate(x, size, mode="bilinear", antialias=True)


class EvalBatches:
    """All images in order, none varied; every epoch is the same.

    Args:
        shard: of several processes, each takes whole batches, in turn: what a batch is does not depend on them.
    """

    def __init__(
        self,
        images: MemorySet,
        preprocessing: Preprocessing,
        batch_size: int,
        device: torch.device | str = "cpu",
        *,
        shard: Shard | None = None,
    ) -> None:
        assert preprocessing == images.preprocessing
        self._images, self._preprocessing, self._device = images, preprocessing, torch.device(device)
        self.bounds = eval_bounds(len(images), batch_size, shard)

    def __len__(self) -> int:
        return len(self.bounds)

    def epoch(self, epoch: int = 0, *, start: int = 0, size: tuple[int, int] | None = None) -> Iterator[Batch]:
        """All batches, from batch `start` on."""
        for first, last in self.bounds[start:]:
            indices = torch.arange(first, last)
            pixels = self._images.table.images[first:last]  # (N, H, W, C)
            x = resized(normalise(pixels, self._preprocessing, device=self._device), size)
            yield Batch(x, self._images.labels[indices].to(self._device), indices)
