"""Orders of an epoch: what is in them, whoever takes which part, from any batch on."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnets.data.augment.config import Sampling
from resnets.data.sampler import EvalSampler, TrainSampler, batch_bounds, draw_order
from resnets.errors import ConfigError
from resnets.runtime.shard import Shard

Labels = npt.NDArray[np.int64]
CLASSES = st.lists(st.integers(0, 4), min_size=1, max_size=120).map(lambda found: np.array(found, np.int64))
SEEDS = st.integers(0, 2**64 - 1)


@given(labels=CLASSES, seed=SEEDS, epoch=st.integers(0, 2**32 - 1))
def test_a_plain_epoch_is_every_image_once(labels: Labels, seed: int, epoch: int) -> None:
    order = draw_order(labels, Sampling(), seed, epoch)
    assert sorted(order.indices.tolist()) == list(range(len(labels)))
    assert not order.views.any()


@given(labels=CLASSES, seed=SEEDS, epoch=st.integers(0, 99))
def test_a_balanced_epoch_has_as_many_of_every_class(labels: Labels, seed: int, epoch: int) -> None:
    order = draw_order(labels, Sampling(balanced=True), seed, epoch)
    assert len(order.indices) == len(labels)
    counts = np.bincount(labels[order.indices])[np.unique(labels)]
    assert counts.max() - counts.min() <= 1
    times = Counter(order.indices.tolist())
    for label in np.unique(labels):  # each image of a class once before any comes again
        own = [times[int(place)] for place in np.flatnonzero(labels == label)]
        assert max(own) - min(own) <= 1
    seen = set(zip(order.indices.tolist(), order.views.tolist(), strict=True))
    assert len(seen) == len(labels)  # never the same image with the same augmentation


@given(labels=CLASSES, seed=SEEDS, repeats=st.integers(1, 7), balanced=st.booleans())
def test_repeats_come_one_after_the_other_as_views_of_their_own(
    labels: Labels, seed: int, repeats: int, balanced: bool
) -> None:
    order = draw_order(labels, Sampling(repeats=repeats, balanced=balanced), seed, 3)
    assert len(order.indices) == len(labels)
    for first in range(0, len(labels), repeats):
        group = order.slice(first, first + repeats)
        assert len(set(group.indices.tolist())) == 1
        assert group.views.tolist() == list(range(group.views[0], group.views[0] + len(group.views)))
    assert len(set(zip(order.indices.tolist(), order.views.tolist(), strict=True))) == len(labels)
    if not balanced:
        assert len(set(order.indices.tolist())) == -(-len(labels) // repeats)


def test_over_epochs_a_large_class_shows_all_of_itself() -> None:
    labels = np.array([0] * 60 + [1] * 4)
    seen: set[int] = set()
    for epoch in range(12):
        order = draw_order(labels, Sampling(balanced=True), 0, epoch)
        assert Counter(labels[order.indices].tolist()) == {0: 32, 1: 32}
        assert Counter(order.indices[labels[order.indices] == 1].tolist()) == dict.fromkeys(range(60, 64), 8)
        seen |= {*order.indices.tolist()}
    assert seen == set(range(64))


@given(labels=CLASSES, seed=st.integers(0, 2**32), balanced=st.booleans(), repeats=st.integers(1, 3))
def test_epochs_and_seeds_differ_and_repeat(labels: Labels, seed: int, balanced: bool, repeats: int) -> None:
    sampling = Sampling(balanced=balanced, repeats=repeats)
    orders = [draw_order(labels, sampling, *key) for key in ((seed, 0), (seed, 0), (seed, 1), (seed + 1, 0))]
    assert all(np.array_equal(a, b) for a, b in zip(orders[0], orders[1], strict=True))
    if len(labels) >= 60 and repeats == 1:  # two of 60! orders
        assert not np.array_equal(orders[0].indices, orders[2].indices)
        assert not np.array_equal(orders[0].indices, orders[3].indices)


@given(
    count=st.integers(1, 150),
    batch_size=st.integers(1, 40),
    shards=st.integers(1, 5),
    start=st.integers(0, 5),
    balanced=st.booleans(),
)
def test_shards_cover_every_batch_once_from_any_batch_on(
    count: int, batch_size: int, shards: int, start: int, balanced: bool
) -> None:
    if shards > 1 and batch_size < 2 * shards:
        with pytest.raises(ConfigError, match="every process needs two images"):
            batch_bounds(count, batch_size, shards=shards)
        return
    labels, sampling = np.arange(count) % 3, Sampling(balanced=balanced)
    places = [Shard(rank=rank, world_size=shards) for rank in range(shards)]
    alone = TrainSampler(labels, batch_size, 7, sampling=sampling)
    together = [
        list(TrainSampler(labels, batch_size, 7, sampling=sampling, shard=shard).batches(2, start)) for shard in places
    ]
    whole = draw_order(labels, sampling, 7, 2)
    assert {len(parts) for parts in together} == {len(alone.bounds[start:])}  # all make the same steps
    for (first, last), *parts in zip(alone.bounds[start:], *together, strict=True):
        counted = [part.slice(0, shard.local_count(last - first)) for part, shard in zip(parts, places, strict=True)]
        assert np.array_equal(np.concatenate([part.indices for part in counted]), whole.indices[first:last])
        assert np.array_equal(np.concatenate([part.views for part in counted]), whole.views[first:last])
        sizes = [len(part.indices) for part in counted if len(part.indices)]
        assert max(sizes) - min(sizes) <= 1
        if count > 1 and batch_size > 1:
            assert min(len(part.indices) for part in parts) >= 2


@given(count=st.integers(1, 300), batch_size=st.integers(1, 64), drop_last=st.booleans())
def test_bounds_are_contiguous(count: int, batch_size: int, drop_last: bool) -> None:
    bounds = batch_bounds(count, batch_size, drop_last=drop_last)
    assert bounds[0][0] == 0
    assert all(a[1] == b[0] for a, b in itertools.pairwise(bounds))
    assert bounds[-1][1] == count or (drop_last and 0 < count - bounds[-1][1] < batch_size)
    if batch_size > 1 and count > 1:
        assert min(last - first for first, last in bounds) >= 2


@given(count=st.integers(0, 200), batch_size=st.integers(1, 64), shards=st.integers(1, 5))
def test_evaluation_shards_cover_every_batch_once(count: int, batch_size: int, shards: int) -> None:
    whole = EvalSampler(count, batch_size).bounds
    parts = [EvalSampler(count, batch_size, Shard(rank=rank, world_size=shards)).bounds for rank in range(shards)]
    assert sorted(bound for part in parts for bound in part) == whole
    assert sum(last - first for first, last in whole) == count


def test_repeats_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"repeats must be .* at least 1; got 0"):
        Sampling(repeats=0)


def test_evaluation_is_in_order() -> None:
    orders = list(EvalSampler(5, 2, Shard(rank=0, world_size=2)).batches(3))
    assert [order.indices.tolist() for order in orders] == [[0, 1], [4]]
    assert [order.views.tolist() for order in orders] == [[0, 0], [0]]
    assert [order.indices.tolist() for order in EvalSampler(5, 2).batches(0, 2)] == [[4]]


@given(count=st.integers(1, 500), size=st.integers(1, 64))
def test_bounds_cover_everything_once_and_never_end_in_a_single_image(count: int, size: int) -> None:
    bounds = batch_bounds(count, size)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == count
    assert all(last == first for (_, last), (first, _) in itertools.pairwise(bounds))
    sizes = [last - first for first, last in bounds]
    assert max(sizes) <= size + 1
    if count > 1 and size > 1:
        assert min(sizes) > 1


def test_hand_worked_bounds() -> None:
    assert batch_bounds(9, 4) == [(0, 4), (4, 9)]
    assert batch_bounds(10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert batch_bounds(1, 4) == [(0, 1)]
    assert batch_bounds(10, 4, drop_last=True) == [(0, 4), (4, 8)]
    assert batch_bounds(9, 4, drop_last=True) == [(0, 4), (4, 8)]
    assert batch_bounds(8, 4, drop_last=True) == [(0, 4), (4, 8)]
    assert batch_bounds(3, 4, drop_last=True) == [(0, 3)]


def test_a_batch_size_of_nothing_is_an_error() -> None:
    with pytest.raises(ConfigError, match="batch_size must be"):
        batch_bounds(5, 0)
