"""Cache of the features of a frozen prefix, computed once for every image and view, and batches of them.

Legend: V views, M images in the split, N batch, C channels, H height, W width, D embedding.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from resnets.data.loader import Batch, Batches
from resnets.data.sampler import EvalSampler, TrainSampler
from resnets.errors import TrainingError
from resnets.nn.split import Prefix
from resnets.runtime.failures import is_out_of_memory

__all__ = ["CacheLimits", "CacheSpaceError", "CachedFeatureBatches", "FeatureCache", "cache_in_order", "fill_cache"]

Indices = npt.NDArray[np.int64]


class CacheSpaceError(TrainingError):
    """A cache exceeds its limits, the memory of the device or the space on the disk."""


@dataclass(frozen=True, kw_only=True)
class CacheLimits:
    """Maximum size of a cache.

    Args:
        memory_bytes: in memory.
        file_bytes: in a file, if it exceeds `memory_bytes`.
        folder: for the file; `None` allows no file.
    """

    memory_bytes: int = 2 * 2**30
    file_bytes: int = 32 * 2**30
    folder: Path | None = None

    def location(self, nbytes: int) -> Literal["memory", "file"] | None:
        """Where `nbytes` fit; `None` if nowhere."""
        if nbytes <= self.memory_bytes:
            return "memory"
        return "file" if self.folder is not None and nbytes <= self.file_bytes else None

    def beside(self, cache: FeatureCache) -> CacheLimits:
        """The limits that remain for another cache."""
        if cache.location == "memory":
            return replace(self, memory_bytes=self.memory_bytes - cache.nbytes)
        return replace(self, file_bytes=self.file_bytes - cache.nbytes)


class FeatureCache:
    """Features of every view of every image, in memory or in an unnamed file, which disappears with the cache.

    Args:
        views: V.
        count: M.
        shape: of one image's features, (C, H, W) or (D,).
        limits: maximum size.
        dtype: of the stored features: float32, bfloat16 or float16.
        channels_last: memory format of feature maps, here and in the batches that are read.
        device: of features stored in memory.

    Attributes:
        location: `memory` or `file`.
        nbytes: size of the cache.
        output_dtype: of the features as they were written; 16-bit under mixed precision.

    Raises:
        CacheSpaceError: it exceeds the limits, the memory, or the space in the folder.
    """

    def __init__(
        self,
        views: int,
        count: int,
        shape: tuple[int, ...],
        *,
        limits: CacheLimits | None = None,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        self.views, self.count, self.shape, self.dtype = views, count, shape, dtype
        self.output_dtype = torch.float32
        self.nbytes = views * count * math.prod(shape) * dtype.itemsize
        limits = limits or CacheLimits()
        location = limits.location(self.nbytes)
        if location is None:
            raise CacheSpaceError(
                f"the features need {self.nbytes / 2**20:,.0f} MiB; cache_memory_gb and cache_disk_gb allow less; "
                "raise one of them, lower views or set cache_16bit"
            )
        self.location: Literal["memory", "file"] = location
        self._channels_last = channels_last and len(shape) == 3
        stored = (*shape[1:], shape[0]) if self._channels_last else shape
        if location == "file":
            assert limits.folder is not None
            memory = _map_file(limits.folder, self.nbytes)
        else:
            memory = _allocate(self.nbytes, device)
        self._rows = memory.view(dtype).view(views * count, *stored)
        self._filled = np.zeros(views * count, np.bool_)

    def write(self, view: int, indices: Indices, features: Tensor) -> None:
        """Store features (N, *shape) of the images `indices` (N,) in one view.

        Raises:
            TrainingError: values that float16 cannot represent.
        """
        assert features.shape == (len(indices), *self.shape)
        assert 0 <= view < self.views
        self.output_dtype = features.dtype
        stored = features.detach().to(self._rows.device, self.dtype)
        if self.dtype == torch.float16 and not torch.isfinite(stored).all():
            largest = float(features.abs().max())
            raise TrainingError(f"a float16 cache stores values up to 65504; got {largest:g}; use bfloat16 or float32")
        rows = view * self.count + indices
        self._rows[torch.from_numpy(rows).to(self._rows.device)] = (
            stored.permute(0, 2, 3, 1) if self._channels_last else stored
        )
        self._filled[rows] = True

    def read(self, views: Indices, indices: Indices) -> Tensor:
        """Read features (N, *shape) of images (N,), each in its view (N,), in the cache's dtype and memory format."""
        rows = views * self.count + indices
        assert self._filled[rows].all()
        if self.location == "file":  # in file order, for sequential reads
            order = np.argsort(rows, kind="stable")
            inverse = torch.from_numpy(np.argsort(order, kind="stable"))
            features = self._rows.index_select(0, torch.from_numpy(rows[order])).index_select(0, inverse)
        else:
            features = self._rows.index_select(0, torch.from_numpy(rows).to(self._rows.device))
        return features.permute(0, 3, 1, 2) if self._channels_last else features

    def missing(self, view: int) -> int:
        """Number of images without features in a view."""
        return self.count - int(self._filled[view * self.count : (view + 1) * self.count].sum())


def _allocate(nbytes: int, device: torch.device | str) -> Tensor:
    """(nbytes,) uint8 in memory."""
    try:
        return torch.empty(nbytes, dtype=torch.uint8, device=device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise CacheSpaceError(
            f"the features need {nbytes / 2**20:,.0f} MiB of memory; {device} has less; "
            "lower views, set cache_16bit or cache=off"
        ) from None


def _map_file(folder: Path, nbytes: int) -> Tensor:
    """(nbytes,) uint8 of a new unnamed file. Its space is reserved now: writing a map to a full disk crashes."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, nbytes)
            else:
                for start in range(0, nbytes, 2**24):
                    file.write(bytes(min(2**24, nbytes - start)))
                file.flush()
            return torch.from_numpy(np.memmap(file, np.uint8, "r+", shape=(nbytes,)))
    except OSError as error:
        raise CacheSpaceError(
            f"the features need {nbytes / 2**20:,.0f} MiB in {folder}; {error.strerror or error}; "
            "make room, lower views, set cache_16bit or cache=off"
        ) from None


def fill_cache(
    cache: FeatureCache,
    prefix: Prefix,
    batches: Batches,
    *,
    first_epoch: int = 0,
    amp: torch.dtype | None = None,
    layout: torch.memory_format = torch.channels_last,
    progress: Callable[[int], None] = lambda count: None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Compute all features: view v is of the images as augmented in epoch `first_epoch + v`.

    Equal batches give equal bytes, so that a resumed run refills its cache and continues unchanged.

    Args:
        batches: training batches with every image once an epoch: without drop_last, balancing and repeats.
        first_epoch: the first epoch that reads the cache.
        amp: autocast dtype; `None` disables autocast.
        layout: memory format of the images.
        progress: called with the number of images of each batch.
        stop: checked before each batch; returns whether to give up.

    Returns:
        Whether the cache is filled; False after `stop`.

    """
    for view in range(cache.views):
        for x, _, indices in batches.epoch(first_epoch + view):
            if stop():
                return False
            with prefix.inference(amp, x.device.type):
                features = prefix(x.contiguous(memory_format=layout))
                cache.write(view, indices.numpy(), features)
            progress(len(indices))
        assert not cache.missing(view)
    return True


def cache_in_order(prefix: Prefix, batches: Batches, limits: CacheLimits) -> CachedFeatureBatches:
    """Cache the features of a split that is evaluated: its batches in order, without augmentation and autocast.

    Args:
        batches: of the whole split; the result has batches of the same size, and the prefix's features to the bit.

    Raises:
        CacheSpaceError: they exceed the limits, the memory or the disk.
    """
    count = batches.bounds[-1][1]
    labels = np.zeros(count, np.int64)
    cache: FeatureCache | None = None
    for x, y, indices in batches.epoch(0):
        with prefix.inference(device=x.device.type):
            features = prefix(x)
            if cache is None:
                shape = tuple(features.shape[1:])
                channels_last = features.ndim == 4 and features.stride(3) == shape[0]  # 1x1 maps have both formats
                cache = FeatureCache(1, count, shape, limits=limits, channels_last=channels_last, device=x.device)
            cache.write(0, indices.numpy(), features)
        labels[indices.numpy()] = y.cpu().numpy()
    assert cache is not None
    assert not cache.missing(0)
    return CachedFeatureBatches(cache, labels, EvalSampler(count, batches.bounds[0][1]), device=x.device)


class CachedFeatureBatches:
    """Batches of cached features in place of images; like `Batches`.

    Epoch e reads view `(e - first_epoch) % V`; an image that occurs several times in an epoch (repeated augmentation,
    balanced sampling) reads the next views in turn. With as many views as epochs and without repeats, the batches are
    those of training without a cache.

    Args:
        cache: filled.
        labels: (M,) class indices.
        sampler: order of the images.
        first_epoch: as for `fill_cache`.
        device: of the batches.
        dtype: of the features; `None` uses the dtype in which the prefix computed them.
    """

    def __init__(
        self,
        cache: FeatureCache,
        labels: Indices,
        sampler: TrainSampler | EvalSampler,
        *,
        first_epoch: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        assert len(labels) == cache.count
        self._cache, self._sampler, self._first_epoch = cache, sampler, first_epoch
        self._device, self._dtype = torch.device(device), dtype or cache.output_dtype
        self._labels = torch.from_numpy(np.array(labels, np.int64)).to(self._device)
        self.bounds = sampler.bounds

    def __len__(self) -> int:
        return len(self.bounds)

    def epoch(self, epoch: int, *, start: int = 0, size: tuple[int, int] | None = None) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on; features are not cached for another image `size`."""
        assert size is None
        for indices, repeats in self._sampler.batches(epoch, start):
            views = (epoch - self._first_epoch + repeats) % self._cache.views
            x = self._cache.read(views, indices).to(self._device, self._dtype)
            index = torch.from_numpy(indices)
            yield Batch(x, self._labels[index.to(self._device)], index)
