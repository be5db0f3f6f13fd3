"""Samplers: which images an epoch shows, in which order, and which of each batch a process gets.

Everything is a function of (seed, epoch), so a run can resume at any batch, on any number of processes.

Legend: N images in the split, M samples in an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from resnets.data.augment.config import Sampling
from resnets.data.identity_sampler import identity_batches, identity_order
from resnets.data.random import Stream, permutation
from resnets.errors import ConfigError
from resnets.runtime.shard import Shard

__all__ = ["EvalSampler", "Order", "TrainSampler", "batch_bounds", "draw_order"]

Indices = npt.NDArray[np.int64]


class Order(NamedTuple):
    """Samples in order, of an epoch or of a batch.

    Attributes:
        indices: (M,) int64 indices into the split.
        views: (M,) int64, how often the same image came before in this epoch, a key of its augmentation.
    """

    indices: Indices
    views: Indices

    def slice(self, start: int, stop: int) -> Order:
        """The samples from `start` up to, but not including, `stop`."""
        return Order(self.indices[start:stop], self.views[start:stop])


class TrainSampler:
    """Shuffled batches; with several processes, each gets its share of every batch.

    Args:
        labels: (N,) class indices of the split.
        batch_size: images per batch, over all processes.
        seed: 0 to 2**64 - 1.
        sampling: how the images of an epoch are drawn.
        shard: of each batch, for this process.
        drop_last: drop an incomplete last batch.

    Attributes:
        bounds: (start, stop) of each batch, over all processes.
    """

    def __init__(
        self,
        labels: Indices,
        batch_size: int,
        seed: int,
        *,
        sampling: Sampling | None = None,
        shard: Shard | None = None,
        drop_last: bool = False,
    ) -> None:
        self._labels, self._seed, self._batch_size = labels, seed, batch_size
        self._sampling, self._shard = sampling or Sampling(), shard or Shard()
        shards, instances = self._shard.world_size, self._sampling.num_instances
        if instances:
            count = identity_batches(labels, batch_size, instances, shards=shards)
            self.bounds = [(first * batch_size, (first + 1) * batch_size) for first in range(count)]
        else:
            self.bounds = batch_bounds(len(labels), batch_size, drop_last=drop_last, shards=shards)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Order]:
        """This process's share of each batch of an epoch, from batch `start` on."""
        if instances := self._sampling.num_instances:
            order = Order(*identity_order(self._labels, self._batch_size, instances, self._seed, epoch))
        else:
            order = draw_order(self._labels, self._sampling, self._seed, epoch)
        for first, last in self.bounds[start:]:
            yield order.slice(*self._shard.local_range(first, last))


class EvalSampler:
    """All images in order, the same in every epoch; with several processes, each gets complete batches in turn.

    Args:
        count: images in the split.
        batch_size: images per batch.
        shard: which of the batches this process gets.

    Attributes:
        bounds: (start, stop) of each batch of this process.
    """

    def __init__(self, count: int, batch_size: int, shard: Shard | None = None) -> None:
        shard = shard or Shard()
        bounds = [(first, min(first + batch_size, count)) for first in range(0, count, batch_size)]
        self.bounds = bounds[shard.rank :: shard.world_size]

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Order]:
        """Each batch from batch `start` on."""
        for first, last in self.bounds[start:]:
            yield Order(np.arange(first, last), np.zeros(last - first, np.int64))


def draw_order(labels: Indices, sampling: Sampling, seed: int, epoch: int) -> Order:
    """The samples of a training epoch, in order; `labels` are (N,) class indices."""
    if sampling.balanced:
        order = _balanced_order(labels, seed, epoch)
    else:
        order = Order(permutation(len(labels), seed, epoch), np.zeros(len(labels), np.int64))
    if sampling.repeats > 1:
        shown = -(-len(labels) // sampling.repeats)
        copies = np.tile(np.arange(sampling.repeats), shown)
        indices, views = (np.repeat(part[:shown], sampling.repeats) for part in order)
        order = Order(indices, views * sampling.repeats + copies).slice(0, len(labels))
    return order


def _balanced_order(labels: Indices, seed: int, epoch: int) -> Order:
    """Equal counts of every class, to within one; every image of a class comes once before any repeats."""
    present, counts = np.unique(labels, return_counts=True)
    total = len(labels)
    shares = np.full(len(present), total // len(present))
    # Where the classes do not divide the epoch evenly, the remainder goes to other classes in every epoch.
    shares[permutation(len(present), seed, epoch, Stream.SAMPLER)[: total % len(present)]] += 1
    shuffled = permutation(total, seed, epoch)
    indices, views = [], []
    for label, count, share in zip(present, counts, shares, strict=True):
        of_class = shuffled[labels[shuffled] == label]
        rounds = -(-int(share) // int(count))
        indices.append(np.tile(of_class, rounds)[:share])
        views.append(np.repeat(np.arange(rounds), count)[:share])
    mixed = permutation(total, seed, epoch, Stream.SAMPLER)
    return Order(np.concatenate(indices)[mixed], np.concatenate(views)[mixed])


def batch_bounds(count: int, batch_size: int, *, drop_last: bool = False, shards: int = 1) -> list[tuple[int, int]]:
    """(start, stop) of every training batch, over all processes; the same for any number of processes.

    A single image left over joins the batch before it, because batch normalisation cannot train on one image.

    Args:
        count: images in an epoch.
        batch_size: 1 or more; with several processes, at least two for each.
        drop_last: drop an incomplete last batch, unless it is the only one.
        shards: processes that share each batch.

    Raises:
        ConfigError: the batch size is too small.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be 1 or more; got {batch_size}; 128 is usual")
    if shards > 1 and batch_size < 2 * shards:
        raise ConfigError(
            f"every process needs two images of each batch; got batches of {batch_size} for {shards} processes; "
            "use larger batches or fewer processes"
        )
    bounds = [(first, min(first + batch_size, count)) for first in range(0, count, batch_size)]
    rest = count % batch_size
    if len(bounds) > 1 and rest and drop_last:
        bounds.pop()
    elif len(bounds) > 1 and rest == 1:
        bounds[-2:] = [(bounds[-2][0], count)]
    return bounds
