"""Data loading: batches of a split as the network's input, from memory or streamed.

A sampler decides which images make a batch, a pixel store (`memory`, `stream`) decodes and augments them, and
`EpochLoader` normalises them on the device. `make_batches` chooses and connects the three.

Legend: N batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment.config import AugmentConfig, Sampling
from resnets.data.buffers import BufferPool
from resnets.data.dataset import ImageSet
from resnets.data.memory import MemoryStore
from resnets.data.sampler import EvalSampler, TrainSampler
from resnets.data.stream import StreamStore
from resnets.data.transform import normalise
from resnets.data.workers import WorkerKind
from resnets.runtime.shard import Shard

__all__ = ["MEMORY_LIMIT", "Batch", "Batches", "EpochLoader", "make_batches"]

MEMORY_LIMIT = 2**30  # bytes


class Batch(NamedTuple):
    """A batch as the network's input.

    Attributes:
        x: (N, C, H, W) float32, normalised, channels_last, on the device.
        y: (N,) int64 class indices, on the device.
        indices: (N,) int64 indices into the split, on the CPU.
    """

    x: Tensor
    y: Tensor
    indices: Tensor


class Batches(Protocol):
    """Batches of a split, epoch by epoch.

    Attributes:
        bounds: (start, stop) of each batch within the epoch.
    """

    bounds: list[tuple[int, int]]

    def __len__(self) -> int:
        """Number of batches per epoch."""
        ...

    def epoch(self, epoch: int, *, start: int = 0, size: tuple[int, int] | None = None) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on (to resume within an epoch).

        Args:
            size: (H, W) in pixels instead of the preprocessing's, for progressive resizing.
        """
        ...


class EpochLoader:
    """The data loader: `Batches` of any pixel store and sampler.

    Args:
        store: decodes and augments images. Random draws are keyed by seed, epoch and sample, so both stores give the
            same pixels, in batches of any size.
        sampler: which images make a batch.
        labels: (M,) class indices of the split.
        preprocessing: normalisation and default size.
        device: where batches are normalised.
    """

    def __init__(
        self,
        store: MemoryStore | StreamStore,
        sampler: TrainSampler | EvalSampler,
        labels: np.ndarray[tuple[int], np.dtype[np.int64]],
        preprocessing: Preprocessing,
        device: torch.device | str = "cpu",
    ) -> None:
        self.store, self.bounds = store, sampler.bounds
        self._sampler, self._labels, self._preprocessing = sampler, torch.tensor(labels), preprocessing
        self._device, self._buffers = torch.device(device), BufferPool()

    def __len__(self) -> int:
        return len(self.bounds)

    def epoch(self, epoch: int, *, start: int = 0, size: tuple[int, int] | None = None) -> Iterator[Batch]:
        """As `Batches.epoch`; finish or drop one epoch before the next. Raises ImageError."""
        orders = list(self._sampler.batches(epoch, start))
        remaining = iter(orders)  # not zip, which would keep each batch's pixels until the next is there
        for pixels in self.store.batches(epoch, orders, size or self._preprocessing.size):
            indices = torch.from_numpy(next(remaining).indices)
            y = self._labels[indices].to(self._device, non_blocking=True)
            batch = Batch(self._normalise(pixels, size), y, indices)
            del pixels
            yield batch
            del batch

    def _normalise(self, pixels: Tensor, size: tuple[int, int] | None) -> Tensor:
        """(N, C, H, W) of (N, H, W, C) stored values; resized last where the store has one size only."""
        out = self._buffers.empty(tuple(pixels.shape), np.float32) if self._device.type == "cpu" else None
        x = normalise(pixels, self._preprocessing, device=self._device, out=out)
        if size is None or x.shape[2:] == size:
            return x
        return F.interpolate(x, size, mode="bilinear", antialias=True)


def make_batches(
    images: ImageSet,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    augment: AugmentConfig | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    workers: int | None = None,
    workers_kind: WorkerKind = "processes",
    sampling: Sampling | None = None,
    shard: Shard | None = None,
    drop_last: bool = False,
    limit_bytes: int = MEMORY_LIMIT,
    progress: Callable[[int, int], None] | None = None,
    on_message: Callable[[str], None] = lambda text: None,
) -> EpochLoader:
    """A data loader for a split: from memory if it fits and needs no random resized crop, else streamed.

    Batches are the same to the bit for any number and kind of workers, and from memory or streamed.

    Args:
        images: the split.
        preprocessing: turns images into the network's input; with `augment.scale` its crop rule is not used.
        batch_size: images per batch, over all processes; the last training batch may be smaller, or one larger.
        augment: random augmentation, in shuffled order; None for all images in order, without augmentation.
        seed: of shuffling and augmentation, 0 to 2**64 - 1.
        device: where batches are normalised.
        workers: number of decoding workers; 0 decodes in this thread (default: one per core, 8 at most).
        workers_kind: processes or threads, for streaming; decoding into memory uses threads.
        sampling: how the images of a training epoch are drawn.
        shard: the share of each training batch, or the evaluation batches, for this process.
        drop_last: drop an incomplete last training batch.
        limit_bytes: maximum memory of the decoded split.
        progress: called with (done, total) while a split is decoded into memory.
        on_message: called when worker processes were killed and are started again, which changes no batch.

    Raises:
        ImageError: an image cannot be decoded; at once from memory, during iteration from a stream.
    """
    sampler: TrainSampler | EvalSampler
    if augment is None:
        sampler = EvalSampler(len(images), batch_size, shard)
    else:
        sampler = TrainSampler(images.labels, batch_size, seed, sampling=sampling, shard=shard, drop_last=drop_last)
    store: MemoryStore | StreamStore
    crops = augment is not None and augment.scale is not None
    height, width = preprocessing.size
    image_bytes = height * width * preprocessing.num_channels * np.dtype(preprocessing.dtype).itemsize
    if not crops and len(images) * image_bytes <= limit_bytes:
        store = MemoryStore(images, preprocessing, augment, seed, device, workers=workers, progress=progress)
    else:
        pin = torch.device(device).type == "cuda"
        store = StreamStore(
            images,
            preprocessing,
            augment,
            seed,
            workers=workers,
            kind=workers_kind,
            pin_memory=pin,
            on_message=on_message,
        )
    return EpochLoader(store, sampler, images.labels, preprocessing, device)
