"""Which images an epoch shows, in which order, and which of them a process takes.

Everything follows from (seed, epoch), so that a run may stop at any batch and go on there, on as many processes.

Legend: N images in the split, M places in an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from resnets.data.augment.config import Sampling
from resnets.data.random import Stream, permutation
from resnets.errors import ConfigError
from resnets.runtime.shard import Shard

__all__ = ["Epochs", "Order", "batch_bounds", "draw", "eval_bounds"]

Indices = npt.NDArray[np.int64]


class Order(NamedTuple):
    """An epoch: (M,) places in the split, and which view of the same image each is, 0 for the first."""

    places: Indices
    views: Indices

    def part(self, first: int, last: int) -> Order:
        """The places from `first` to before `last`."""
        return Order(self.places[first:last], self.views[first:last])


def draw(labels: Indices, sampling: Sampling, seed: int, epoch: int) -> Order:
    """The order of an epoch.

    Args:
        labels: (N,) class indices.
    """
    if sampling.balanced:
        order = _balanced(labels, seed, epoch)
    else:
        order = Order(permutation(len(labels), seed, epoch), np.zeros(len(labels), np.int64))
    if sampling.repeats > 1:
        shown = -(-len(labels) // sampling.repeats)
        copies = np.tile(np.arange(sampling.repeats), shown)
        places, views = (np.repeat(part[:shown], sampling.repeats) for part in order)
        order = Order(places, views * sampling.repeats + copies).part(0, len(labels))
    return order


def _balanced(labels: Indices, seed: int, epoch: int) -> Order:
    """As many of every class, to one; within a class each image once before any comes again."""
    present, counts = np.unique(labels, return_counts=True)
    total = len(labels)
    shares = np.full(len(present), total // len(present))
    # Whose turn it is to come once more, where the classes do not divide the epoch.
    shares[permutation(len(present), seed, epoch, Stream.SAMPLER)[: total % len(present)]] += 1
    shuffled = permutation(total, seed, epoch)
    places, views = [], []
    for label, count, share in zip(present, counts, shares, strict=True):
        own = shuffled[labels[shuffled] == label]
        rounds = -(-int(share) // int(count))
        places.append(np.tile(own, rounds)[:share])
        views.append(np.repeat(np.arange(rounds), count)[:share])
    mixed = permutation(total, seed, epoch, Stream.SAMPLER)
    return Order(np.concatenate(places)[mixed], np.concatenate(views)[mixed])


def batch_bounds(count: int, batch_size: int, *, drop_last: bool = False, shards: int = 1) -> list[tuple[int, int]]:
    """(first, past the last) of every training batch, over all processes; the same however many share it.

    A single image that is left over joins the batch before it, as batch normalisation cannot train on one.

    Args:
        count: images.
        batch_size: 1 or more, for each of several processes at least two.
        drop_last: leave out a batch that is not full, unless it is the only one.
        shards: processes that share each batch.
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


def eval_bounds(count: int, batch_size: int, shard: Shard | None = None) -> list[tuple[int, int]]:
    """(first, past the last) of the batches of one pass in order; a process of several takes whole ones in turn."""
    bounds = [(first, min(first + batch_size, count)) for first in range(0, count, batch_size)]
    return bounds if shard is None else bounds[shard.rank :: shard.size]


class Epochs:
    """The training batches of every epoch, as places and views.

    Args:
        labels: (N,) class indices of the split.
        batch_size: images a batch, over all processes.
        seed: 0 to 2**64 - 1.
        sampling: how the images of an epoch are drawn.
        shard: which part of each batch is wanted.
        drop_last: leave out a last batch that is not full.

    Attributes:
        bounds: (first, past the last) of every batch, over all processes.
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
        self.seed, self._labels = seed, labels
        self._sampling, self._shard = sampling or Sampling(), shard or Shard()
        self.bounds = batch_bounds(len(labels), batch_size, drop_last=drop_last, shards=self._shard.size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Order]:
        """This process's part of each batch of an epoch, from batch `start` on."""
        order = draw(self._labels, self._sampling, self.seed, epoch)
        for first, last in self.bounds[start:]:
            yield order.part(*self._shard.part(first, last))
