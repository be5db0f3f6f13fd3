"""Choosing how a split is fed: from memory, or streamed from its files."""

from __future__ import annotations

from collections.abc import Callable

import torch

from resnets.arch.preprocessing import Preprocessing
from resnets.data import memory, stream
from resnets.data.augment.config import Sampling
from resnets.data.augment.geometric import AugmentConfig
from resnets.data.batches import Batches
from resnets.data.dataset import Dataset, ImageSet
from resnets.data.transform import pixel_dtype
from resnets.data.workers import Kind
from resnets.runtime.shard import Shard

__all__ = ["MEMORY_LIMIT", "fits_in_memory", "make_batches"]

MEMORY_LIMIT = 2**30


def fits_in_memory(
    images: Dataset | ImageSet, preprocessing: Preprocessing, *, limit_bytes: int = MEMORY_LIMIT
) -> bool:
    """Whether all images, prepared and uncompressed, take `limit_bytes` or less."""
    height, width = preprocessing.size
    return (
        len(images) * height * width * preprocessing.num_channels * pixel_dtype(preprocessing).itemsize <= limit_bytes
    )


def make_batches(
    images: ImageSet,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    augment: AugmentConfig | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    workers: int | None = None,
    kind: Kind = "processes",
    sampling: Sampling | None = None,
    shard: Shard | None = None,
    drop_last: bool = False,
    limit_bytes: int = MEMORY_LIMIT,
    progress: Callable[[int, int], None] | None = None,
) -> Batches:
    """Batches of a split: from memory where it fits and no random resized crop is asked for, else streamed.

    Args:
        images: the split.
        preprocessing: how images become the network's input.
        batch_size: images a batch.
        augment: how images are varied, which also means shuffled; None for all in order, none varied.
        seed: of shuffling and variation.
        device: where batches are made.
        workers: how many decode.
        kind: whether a stream's workers are processes or threads; what goes to memory is decoded by threads.
        sampling: how the images of a training epoch are drawn.
        shard: what this process takes of each training batch, or which of the batches that are not varied.
        drop_last: leave out a last training batch that is not full.
        limit_bytes: what the split may take in memory.
        progress: called with (done, total) while a split is decoded into memory.

    Raises:
        ImageError: an image does not decode; at once from memory, while iterating from a stream.
    """
    cropped = augment is not None and augment.scale is not None
    if not cropped and fits_in_memory(images, preprocessing, limit_bytes=limit_bytes):
        kept = memory.MemorySet(images, preprocessing, workers=workers, progress=progress)
        if augment is None:
            return memory.EvalBatches(kept, preprocessing, batch_size, device, shard=shard)
        return memory.TrainBatches(
            kept, preprocessing, augment, batch_size, seed, device, sampling=sampling, shard=shard, drop_last=drop_last
        )
    if augment is None:
        return stream.EvalBatches(images, preprocessing, batch_size, device, workers=workers, kind=kind, shard=shard)
    return stream.TrainBatches(
        images,
        preprocessing,
        augment,
        batch_size,
        seed,
        device,
        workers=workers,
        kind=kind,
        sampling=sampling,
        shard=shard,
        drop_last=drop_last,
    )
