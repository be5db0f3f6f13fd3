"""P x K sampling: whole groups of different identities, every image in every epoch, the same for any process count."""

from typing import Any

import numpy as np
import pytest

from resnets.data.augment.config import Sampling
from resnets.data.identity_sampler import identity_batches, identity_order
from resnets.data.sampler import TrainSampler
from resnets.errors import ConfigError
from resnets.runtime.shard import Shard


def labels_of(*counts: int) -> np.ndarray:
    return np.repeat(np.arange(len(counts)) * 3, counts)  # identities need not be consecutive


@pytest.mark.parametrize(
    ("counts", "batch_size", "instances"),
    [((4,) * 8, 16, 4), ((1, 2, 3, 9, 40, 5), 8, 2), ((1,) * 7, 12, 3), (tuple(range(1, 60)), 32, 4), ((300, 1), 6, 3)],
)
def test_every_batch_has_different_identities_and_every_image_comes(
    counts: tuple[int, ...], batch_size: int, instances: int
) -> None:
    labels = labels_of(*counts)
    for epoch in range(3):
        indices, views = identity_order(labels, batch_size, instances, 7, epoch)
        groups = labels[indices].reshape(-1, batch_size // instances, instances)
        assert len(groups) == identity_batches(labels, batch_size, instances)
        assert (groups == groups[..., :1]).all()
        assert all(len(set(batch)) == batch_size // instances for batch in groups[..., 0])
        assert set(indices) == set(range(len(labels)))
        assert len({*zip(indices, views, strict=True)}) == len(indices)  # no augmentation comes twice


def test_a_group_holds_different_images_where_the_identity_has_enough() -> None:
    labels = labels_of(5, 7, 4, 9)
    indices, _ = identity_order(labels, 8, 4, 0, 0)
    assert all(len(set(group)) == 4 for group in indices.reshape(-1, 4))


def test_epochs_are_hardly_longer_than_the_split() -> None:
    labels = np.sort(np.random.default_rng(0).integers(0, 751, 12936))  # the size of Market-1501
    assert len(identity_order(labels, 64, 4, 0, 0)[0]) < 1.1 * len(labels)


def test_epochs_and_seeds_differ_and_repeat() -> None:
    labels = labels_of(*[6] * 20)
    first = identity_order(labels, 16, 4, 0, 0)[0]
    assert np.array_equal(first, identity_order(labels, 16, 4, 0, 0)[0])
    assert not np.array_equal(first, identity_order(labels, 16, 4, 0, 1)[0])
    assert not np.array_equal(first, identity_order(labels, 16, 4, 1, 0)[0])


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_get_whole_groups(processes: int) -> None:
    labels, sampling = labels_of(*[5, 6, 7, 8] * 5), Sampling(num_instances=4)
    whole = list(TrainSampler(labels, 32, 3, sampling=sampling).batches(2))
    shards = [Shard(rank=rank, world_size=processes) for rank in range(processes)]
    parts = [list(TrainSampler(labels, 32, 3, sampling=sampling, shard=shard).batches(2)) for shard in shards]
    for number, batch in enumerate(whole):
        local = [part[number].indices for part in parts]
        assert np.array_equal(np.concatenate(local), batch.indices)
        assert all((labels[own].reshape(-1, 4) == labels[own].reshape(-1, 4)[:, :1]).all() for own in local)


def test_resumes_at_any_batch() -> None:
    labels, sampling = labels_of(*[5, 6, 7, 8] * 5), Sampling(num_instances=2)
    sampler = TrainSampler(labels, 16, 3, sampling=sampling)
    rest = [batch.indices for batch in sampler.batches(1, start=4)]
    assert all(map(np.array_equal, rest, [batch.indices for batch in sampler.batches(1)][4:]))


@pytest.mark.parametrize(
    ("batch_size", "instances", "processes", "facts"),
    [
        (30, 4, 1, ("batch_size=30", "multiple of 4")),
        (4, 4, 1, ("at least 8",)),
        (48, 4, 1, ("12", "10 training", "40")),
        (24, 4, 4, ("4 processes", "multiple of 16")),
    ],
)
def test_refuses_batches_that_cannot_be_made(
    batch_size: int, instances: int, processes: int, facts: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as error:
        identity_batches(labels_of(*[4] * 10), batch_size, instances, shards=processes)
    assert all(fact in str(error.value) for fact in facts)


@pytest.mark.parametrize("options", [{"num_instances": 1}, {"num_instances": 4, "repeats": 2}])
def test_refuses_contradicting_options(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="num_instances"):
        Sampling(**options)
