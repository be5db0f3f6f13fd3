"""The counter-based generator: published values, and independence of its keys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnets.data.random import (
    Stream,
    permutation,
    philox4x32,
    random_bytes,
    uniform,
)
from resnets.errors import ConfigError

SEEDS = st.integers(0, 2**64 - 1)


# Random123's kat_vectors, lines "philox4x32 10".
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF, 0xFFFFFFFF),
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_published_values(counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]) -> None:
    assert philox4x32(np.array(counter, np.uint32), key).tolist() == list(expected)


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, epoch=st.integers(0, 2**32 - 1), count=st.integers(1, 9))
def test_uniform_lies_in_its_range(seed: int, epoch: int, count: int) -> None:
    values = uniform(seed, epoch, [0, 5, 2**32 - 1], Stream.AUGMENT, count)
    assert values.shape == (3, count)
    assert values.dtype == np.float64
    assert (values >= 0).all()
    assert (values < 1).all()


def test_a_sample_draws_the_same_in_any_company() -> None:
    together = uniform(7, 3, np.arange(100), Stream.AUGMENT, 6)
    assert np.array_equal(uniform(7, 3, [42], Stream.AUGMENT, 6)[0], together[42])
    assert np.array_equal(uniform(7, 3, [42], Stream.AUGMENT, 2)[0], together[42, :2])


def test_every_part_of_the_key_matters() -> None:
    base = uniform(1, 1, [1], Stream.AUGMENT, 4, view=1)
    others = [
        uniform(2, 1, [1], Stream.AUGMENT, 4, view=1),
        uniform(1 + 2**32, 1, [1], Stream.AUGMENT, 4, view=1),
        uniform(1, 2, [1], Stream.AUGMENT, 4, view=1),
        uniform(1, 1, [2], Stream.AUGMENT, 4, view=1),
        uniform(1, 1, [1], Stream.MIXUP, 4, view=1),
        uniform(1, 1, [1], Stream.AUGMENT, 4, view=2),
    ]
    assert all((base != other).all() for other in others)


def test_views_may_differ_by_sample() -> None:
    views = np.array([0, 3, 1, 65535])
    together = uniform(7, 3, [4, 4, 5, 6], Stream.AUGMENT, 5, view=views)
    alone = [
        uniform(7, 3, [i], Stream.AUGMENT, 5, view=int(view))[0] for i, view in zip([4, 4, 5, 6], views, strict=True)
    ]
    assert np.array_equal(together, alone)
    assert np.array_equal(
        uniform(7, 3, [4, 5], Stream.AUGMENT, 5, view=2), uniform(7, 3, [4, 5], Stream.AUGMENT, 5, view=[2, 2])
    )


def test_random_bytes_are_the_words_in_little_endian() -> None:
    found = random_bytes(7, 3, [4, 9], Stream.ERASE_NOISE, 6, view=[0, 2])
    assert found.shape == (2, 6)
    assert found.dtype == np.uint8
    words = (uniform(7, 3, [4, 9], Stream.ERASE_NOISE, 2, view=[0, 2]) * 2**32).astype(int)
    assert [list(row) for row in found] == [
        [*int(a).to_bytes(4, "little"), *int(b).to_bytes(4, "little")[:2]] for a, b in words
    ]
    counts = np.bincount(random_bytes(0, 0, np.arange(100), Stream.ERASE_NOISE, 999).ravel(), minlength=256)
    assert abs(counts - 99_900 / 256).max() < 100


def test_uniform_is_uniform() -> None:
    values = uniform(0, 0, np.arange(20_000), Stream.AUGMENT, 4)
    assert abs(values.mean() - 0.5) < 0.005
    shares = np.histogram(values, bins=10, range=(0, 1))[0] / values.size
    assert abs(shares - 0.1).max() < 0.005
    assert abs(np.corrcoef(values, rowvar=False) - np.eye(4)).max() < 0.03


@settings(max_examples=50, deadline=None)
@given(n=st.integers(0, 300), seed=SEEDS, epoch=st.integers(0, 1000))
def test_permutation_is_a_permutation(n: int, seed: int, epoch: int) -> None:
    assert np.array_equal(np.sort(permutation(n, seed, epoch)), np.arange(n))


def test_permutation_changes_with_seed_and_epoch() -> None:
    orders = [permutation(50, 0, 0), permutation(50, 0, 1), permutation(50, 1, 0), np.arange(50)]
    assert len({tuple(order) for order in orders}) == 4
    assert np.array_equal(permutation(50, 0, 1), orders[1])


def test_batch_wide_draws_are_keyed_by_the_step() -> None:
    draws = [uniform(0, step, 0, Stream.MIXUP, 3)[0] for step in (5, 5, 6)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    orders = [permutation(9, 0, step, Stream.MIXUP, view=1) for step in (5, 6)]
    assert sorted(orders[0]) == list(range(9))
    assert not np.array_equal(orders[0], orders[1])


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_an_error(seed: int) -> None:
    with pytest.raises(ConfigError, match="seed must be"):
        uniform(seed, 0, [0], Stream.AUGMENT, 1)
