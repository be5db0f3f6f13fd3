"""What a frozen prefix answers, computed once for every image and view, and batches made of it.

Legend: V views, M images in the split, N batch, C channels, H height, W width, D embedding.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from resnets.data.batches import Batch, Batches
from resnets.data.sampler import Order
from resnets.errors import ConfigError, TrainingError
from resnets.nn.split import Prefix
from resnets.train.loop.train_step import is_out_of_memory

__all__ = [
    "CacheLimits",
    "CachedFeatureBatches",
    "CacheSpaceError",
    "Orders",
    "FeatureCache",
    "fill_cache",
    "cache_in_order",
]

Indices = npt.NDArray[np.int64]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class CacheSpaceError(TrainingError):
    """A cache within its limits for which the machine has no memory, or the disk no room."""


@dataclass(frozen=True, kw_only=True)
class CacheLimits:
    """What a cache may take.

    Args:
        memory_bytes: in memory.
        file_bytes: in a file, where memory does not do.
        folder: where that file goes; `None`: no file.
    """

    memory_bytes: int = 2 * 2**30
    file_bytes: int = 32 * 2**30
    folder: Path | None = None

    def home(self, needed: int) -> Literal["memory", "file"] | None:
        """Where `needed` bytes go; `None`: nowhere, train the plain way."""
        if needed <= self.memory_bytes:
            return "memory"
        return "file" if self.folder is not None and needed <= self.file_bytes else None

    def beside(self, cache: FeatureCache) -> CacheLimits:
        """What is left for another cache."""
        if cache.home == "memory":
            return replace(self, memory_bytes=self.memory_bytes - cache.size)
        return replace(self, file_bytes=self.file_bytes - cache.size)


class FeatureCache:
    """A row for every view of every image, in memory or in a file that has no name and goes with the cache.

    Attributes:
        views: V; count: M.
        row: of one image, (C, H, W) or (D,).
        dtype: of the numbers kept; answered: of what the prefix answered, which mixed precision makes 16-bit.
        home: `memory` or `file`.
        size: bytes.
    """

    def __init__(
        self,
        views: int,
        count: int,
        row: tuple[int, ...],
        *,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = True,
        home: Literal["memory", "file"] = "memory",
        folder: Path | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Most callers want `create`.

        Args:
            channels_last: how maps lie in memory, and in the batches that are read.
            folder: for `home="file"`.
            device: where rows kept in memory lie.

        Raises:
            ConfigError: a number below 1, or a type other than float32, bfloat16 and float16.
            CacheSpaceError: no memory, or no permission or no room in `folder`.
        """
        if min(views, count) < 1:
            raise ConfigError(f"a cache has 1 view of 1 image or more; got {views} of {count}; 1 view is usual")
        if dtype not in DTYPES:
            raise ConfigError(f"a cache holds float32, bfloat16 or float16; got {dtype}; choose one of them")
        self.views, self.count, self.row, self.dtype, self.home = views, count, row, dtype, home
        self.answered = torch.float32
        self._last = channels_last and len(row) == 3
        stored = (*row[1:], row[0]) if self._last else row
        shape = (views * count, *stored)
        self.size = self.bytes_for(views, count, row, dtype)
        if home == "file":
            assert folder is not None
            self._rows = _mapped(folder, self.size).view(dtype).view(shape)
        else:
            self._rows = _reserved(self.size, device).view(dtype).view(shape)
        self._filled = np.zeros(views * count, np.bool_)

    @classmethod
    def create(
        cls,
        views: int,
        count: int,
        row: tuple[int, ...],
        *,
        limits: CacheLimits,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = True,
        device: torch.device | str = "cpu",
    ) -> FeatureCache | None:
        """A cache within `limits`; `None` where it does not fit and the caller has to train the plain way.

        Raises:
            CacheSpaceError: it would fit, but there is no memory or no room.
        """
        home = limits.home(cls.bytes_for(views, count, row, dtype))
        if home is None:
            return None
        return cls(
            views,
            count,
            row,
            dtype=dtype,
            channels_last=channels_last,
            home=home,
            folder=limits.folder,
            device=device,
        )

    @staticmethod
    def bytes_for(views: int, count: int, row: tuple[int, ...], dtype: torch.dtype = torch.float32) -> int:
        """What a cache takes."""
        return views * count * math.prod(row) * dtype.itemsize

    def write(self, view: int, places: Indices, features: Tensor) -> None:
        """Keep (N, *row) `features` of the images at `places` (N,).

        Raises:
            TrainingError: float16 cannot hold them.
        """
        assert features.shape == (len(places), *self.row)
        assert 0 <= view < self.views
        self.answered = features.dtype
        kept = features.detach().to(self._rows.device, self.dtype)
        if self.dtype == torch.float16 and not torch.isfinite(kept).all():
            largest = float(features.abs().max())
            raise TrainingError(
                f"a float16 cache holds numbers up to 65504; got {largest:g}; keep bfloat16 or float32 instead"
            )
        at = view * self.count + places
        self._rows[torch.from_numpy(at).to(self._rows.device)] = kept.permute(0, 2, 3, 1) if self._last else kept
        self._filled[at] = True

    def read(self, views: Indices, places: Indices) -> Tensor:
        """(N, *row) of the images at `places` (N,), each in its view (N,); of this cache's type and layout."""
        at = views * self.count + places
        assert self._filled[at].all()
        if self.home == "file":  # in the order of the file, as the disk likes it
            order = np.argsort(at, kind="stable")
            back = torch.from_numpy(np.argsort(order, kind="stable"))
            rows = self._rows.index_select(0, torch.from_numpy(at[order])).index_select(0, back)
        else:
            rows = self._rows.index_select(0, torch.from_numpy(at).to(self._rows.device))
        return rows.permute(0, 3, 1, 2) if self._last else rows

    def missing(self, view: int) -> int:
        """Images that a view does not have yet."""
        return self.count - int(self._filled[view * self.count : (view + 1) * self.count].sum())

    def close(self) -> None:
        """Give the memory, or the file's room, back; nothing can be read any more."""
        self._rows = self._rows.new_empty(0)
        self._filled[:] = False


def _reserved(size: int, device: torch.device | str) -> Tensor:
    """(size,) bytes of memory."""
    try:
        return torch.empty(size, dtype=torch.uint8, device=device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise CacheSpaceError(
            f"the frozen part's cache needs {size / 2**20:,.0f} MiB of memory; {device} has less; "
            "keep fewer views or 16 bits, or train without the cache"
        ) from None


def _mapped(folder: Path, size: int) -> Tensor:
    """(size,) bytes of a new file without a name; its room is taken at once, since a map has no way to say "full"."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                for first in range(0, size, 2**24):
                    file.write(bytes(min(2**24, size - first)))
                file.flush()
            return torch.from_numpy(np.memmap(file, np.uint8, "r+", shape=(size,)))
    except OSError as error:
        raise CacheSpaceError(
            f"the frozen part's cache needs {size / 2**20:,.0f} MiB in {folder}; {error.strerror or error}; "
            "make room, keep fewer views or 16 bits, or train without the cache"
        ) from None


def fill_cache(
    cache: FeatureCache,
    prefix: Prefix,
    batches: Batches,
    *,
    first: int = 0,
    amp: torch.dtype | None = None,
    layout: torch.memory_format = torch.channels_last,
    progress: Callable[[int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Compute every row: view v holds the images as epoch `first + v` varies them.

    The same batches give the same bytes, so a run that starts again fills it again and goes on as it was.

    Args:
        batches: the training batches, every image once an epoch: nothing dropped, balanced or repeated.
        first: the first epoch that will read the cache.
        amp: autocast to this type; `None` computes as the weights are.
        layout: of the images in memory; the weights' own.
        progress: called with the images done since it was called last.
        stop: asked before each batch whether to leave.

    Returns:
        Whether it is filled; False if `stop` said so before.

    Raises:
        TrainingError: the batches of an epoch do not hold every image.
    """
    for view in range(cache.views):
        for x, _, indices in batches.epoch(first + view):
            if stop():
                return False
            with prefix.inference(amp, x.device.type):
                features = prefix(x.contiguous(memory_format=layout))
                cache.write(view, indices.numpy(), features)
            if progress is not None:
                progress(len(indices))
        if missing := cache.missing(view):
            raise TrainingError(
                f"the frozen part's cache needs every image once; {missing} of {cache.count} did not come; "
                "fill it from batches without drop_last, balancing and repeats"
            )
    return True


def cache_in_order(prefix: Prefix, batches: Batches, limits: CacheLimits) -> CachedFeatureBatches | None:
    """What a prefix answers to batches in order, none varied, computed as the weights are.

    Args:
        batches: of a whole split; what comes out has their bounds, and is what the prefix answers to the bit.

    Returns:
        Batches of those answers; `None` where they do not fit into `limits`.

    Raises:
        CacheSpaceError: they would fit, but there is no memory or no room.
    """
    count = batches.bounds[-1][1]
    labels, cache = np.zeros(count, np.int64), None
    for x, y, indices in batches.epoch(0):
        with prefix.inference(device=x.device.type):
            features = prefix(x)
            if cache is None:
                last = features.ndim == 4 and features.stride(3) == features.shape[1]  # even of a single cell
                row = tuple(features.shape[1:])
                cache = FeatureCache.create(1, count, row, limits=limits, channels_last=last, device=x.device)
                if cache is None:
                    return None
            cache.write(0, indices.numpy(), features)
        labels[indices.numpy()] = y.cpu().numpy()
    assert cache is not None
    assert not cache.missing(0)
    return CachedFeatureBatches(cache, labels, _InOrder(batches.bounds), device=x.device)


class Orders(Protocol):
    """The order of every epoch, as `data.sampling.Epochs` has it."""

    bounds: list[tuple[int, int]]

    def batches(self, epoch: int, start: int = 0) -> Iterator[Order]:
        """Places and views of each batch of an epoch, from batch `start` on."""
        ...


class _InOrder:
    """Every image once, in order: the `Orders` of a split that is measured."""

    def __init__(self, bounds: list[tuple[int, int]]) -> None:
        self.bounds = bounds

    def batches(self, epoch: int, start: int = 0) -> Iterator[Order]:
        for first, last in self.bounds[start:]:
            yield Order(np.arange(first, last), np.zeros(last - first, np.int64))


class CachedFeatureBatches:
    """Batches whose `x` is what the frozen part answered. The `Batches` of the epochs that run on a cache.

    Epoch e reads view `(e - first) % V`; an image that comes several times in an epoch (repeated augmentation,
    balanced classes) reads the views after it, in turn. With as many views as epochs and plain sampling, these are
    the batches of the plain way.

    Args:
        cache: filled.
        labels: (M,) class indices.
        orders: which images come when.
        first: as for `fill_cache`.
        device: where batches go.
        dtype: of `x`; `None`: what the frozen part answered, whatever it was kept in.
    """

    def __init__(
        self,
        cache: FeatureCache,
        labels: Indices,
        orders: Orders,
        *,
        first: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        assert len(labels) == cache.count
        self._cache, self._orders, self._first = cache, orders, first
        self._device, self._dtype = torch.device(device), dtype or cache.answered
        self._labels = torch.from_numpy(np.array(labels, np.int64)).to(self._device)
        self.bounds = orders.bounds

    def __len__(self) -> int:
        return len(self.bounds)

    def epoch(self, epoch: int, *, start: int = 0, size: tuple[int, int] | None = None) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on.

        Raises:
            ConfigError: a `size`, which kept answers no longer have.
        """
        if size is not None:
            raise ConfigError(
                f"cached images have one size; got {size} for an epoch; train the frozen part without the cache"
            )
        for places, views in self._orders.batches(epoch, start):
            shown = (epoch - self._first + views) % self._cache.views
            x = self._cache.read(shown, places).to(self._device, self._dtype)
            indices = torch.from_numpy(places)
            yield Batch(x, self._labels[indices.to(self._device)], indices)
