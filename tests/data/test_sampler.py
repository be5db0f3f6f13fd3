"""Orders of an epoch: what is in them, whoever takes which part, from any batch on."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnets.data.augment.config import Sampling
from resnets.data.sampler import Epochs, batch_bounds, draw, eval_bounds
from resnets.errors import ConfigError
from resnets.runtime.shard import Shard

Labels = npt.NDArray[np.int64]
CLASSES = st.lists(st.integers(0, 4), min_size=1, max_size=120).map(lambda found: np.array(found, np.int64))
SEEDS = st.integers(0, 2**64 - 1)


@given(labels=CLASSES, seed=SEEDS, epoch=st.integers(0, 2**32 - 1))
def test_a_plain_epoch_is_every_image_once(labels: Labels, seed: int, epoch: int) -> None:
    order = draw(labels, Sampling(), seed, epoch)
    assert sorted(order.places.tolist()) == list(range(len(labels)))
    assert not order.views.any()


@given(labels=CLASSES, seed=SEEDS, epoch=st.integers(0, 99))
def test_a_balanced_epoch_has_as_many_of_every_class(labels: Labels, seed: int, epoch: int) -> None:
    order = draw(labels, Sampling(balanced=True), seed, epoch)
    assert len(order.places) == len(labels)
    counts = np.bincount(labels[order.places])[np.unique(labels)]
    assert counts.max() - counts.min() <= 1
    times = Counter(order.places.tolist())
    for label in np.unique(labels):  # each image of a class once before any comes again
        own = [times[int(place)] for place in np.flatnonzero(labels == label)]
        assert max(own) - min(own) <= 1
    seen = set(zip(order.places.tolist(), order.views.tolist(), strict=True))
    assert len(seen) == len(labels)  # never the same image varied in the same way


@given(labels=CLASSES, seed=SEEDS, repeats=st.integers(1, 7), balanced=st.booleans())
def test_repeats_come_one_after_the_other_as_views_of_their_own(
    labels: Labels, seed: int, repeats: int, balanced: bool
) -> None:
    order = draw(labels, Sampling(repeats=repeats, balanced=balanced), seed, 3)
    assert len(order.places) == len(labels)
    for first in range(0, len(labels), repeats):
        group = order.part(first, first + repeats)
        assert len(set(group.places.tolist())) == 1
        assert group.views.tolist() == list(range(group.views[0], group.views[0] + len(group.views)))
    assert len(set(zip(order.places.tolist(), order.views.tolist(), strict=True))) == len(labels)
    if not balanced:
        assert len(set(order.places.tolist())) == -(-len(labels) // repeats)


def test_over_epochs_a_large_class_shows_all_of_itself() -> None:
    labels = np.array([0] * 60 + [1] * 4)
    seen: set[int] = set()
    for epoch in range(12):
        order = draw(labels, Sampling(balanced=True), 0, epoch)
        assert Counter(labels[order.places].tolist()) == {0: 32, 1: 32}
        assert Counter(order.places[labels[order.places] == 1].tolist()) == dict.fromkeys(range(60, 64), 8)
        seen |= {*order.places.tolist()}
    assert seen == set(range(64))


@given(labels=CLASSES, seed=st.integers(0, 2**32), balanced=st.booleans(), repeats=st.integers(1, 3))
def test_epochs_and_seeds_differ_and_repeat(labels: Labels, seed: int, balanced: bool, repeats: int) -> None:
    sampling = Sampling(balanced=balanced, repeats=repeats)
    orders = [draw(labels, sampling, *key) for key in ((seed, 0), (seed, 0), (seed, 1), (seed + 1, 0))]
    assert all(np.array_equal(a, b) for a, b in zip(orders[0], orders[1], strict=True))
    if len(labels) >= 60 and repeats == 1:  # two of 60! orders
        assert not np.array_equal(orders[0].places, orders[2].places)
        assert not np.array_equal(orders[0].places, orders[3].places)


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
    places = [Shard(rank=rank, size=shards) for rank in range(shards)]
    alone = Epochs(labels, batch_size, 7, sampling=sampling)
    together = [
        list(Epochs(labels, batch_size, 7, sampling=sampling, shard=shard).batches(2, start)) for shard in places
    ]
    whole = draw(labels, sampling, 7, 2)
    assert {len(parts) for parts in together} == {len(alone.bounds[start:])}  # all make the same steps
    for (first, last), *parts in zip(alone.bounds[start:], *together, strict=True):
        counted = [part.part(0, shard.takes(last - first)) for part, shard in zip(parts, places, strict=True)]
        assert np.array_equal(np.concatenate([part.places for part in counted]), whole.places[first:last])
        assert np.array_equal(np.concatenate([part.views for part in counted]), whole.views[first:last])
        sizes = [len(part.places) for part in counted if len(part.places)]
        assert max(sizes) - min(sizes) <= 1
        if count > 1 and batch_size > 1:
            assert min(len(part.places) for part in parts) >= 2


@given(count=st.integers(1, 300), batch_size=st.integers(1, 64), drop_last=st.booleans())
def test_bounds_follow_each_other(count: int, batch_size: int, drop_last: bool) -> None:
    bounds = batch_bounds(count, batch_size, drop_last=drop_last)
    assert bounds[0][0] == 0
    assert all(a[1] == b[0] for a, b in pairwise(bounds))
    assert bounds[-1][1] == count or (drop_last and 0 < count - bounds[-1][1] < batch_size)
    if batch_size > 1 and count > 1:
        assert min(last - first for first, last in bounds) >= 2


@given(count=st.integers(0, 200), batch_size=st.integers(1, 64), shards=st.integers(1, 5))
def test_measuring_by_several_is_measuring_by_one(count: int, batch_size: int, shards: int) -> None:
    whole = eval_bounds(count, batch_size)
    parts = [eval_bounds(count, batch_size, Shard(rank=rank, size=shards)) for rank in range(shards)]
    assert sorted(bound for part in parts for bound in part) == whole
    assert sum(last - first for first, last in whole) == count


def test_repeats_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"repeats must be .* at least 1; got 0"):
        Sampling(repeats=0)
