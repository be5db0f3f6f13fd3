"""Where batches begin and end."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnets.data.sampler import batch_bounds
from resnets.errors import ConfigError


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
