"""Dividing images: the laws of a partition, groups that stay undivided, and balance against scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnets.data.open import open_dataset
from resnets.data.splits import hold_out, kfold
from resnets.errors import DataError

Ints = np.ndarray[Any, np.dtype[np.int64]]


@st.composite
def grouped(draw: st.DrawFn, most: int = 120) -> tuple[Ints, Ints]:
    """Labels and groups of some images; groups are of any size and mix classes."""
    count = draw(st.integers(1, most))
    labels = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    groups = draw(st.lists(st.integers(-5, 25), min_size=count, max_size=count))
    return np.array(labels, np.int64), np.array(groups, np.int64)


def is_partition(train: Ints, val: Ints, count: int) -> bool:
    return np.array_equal(np.sort(np.concatenate([train, val])), np.arange(count))


@given(data=grouped(), fraction=st.floats(0.02, 0.9), seed=st.integers(0, 2**64 - 1))
def test_a_held_out_part_shares_no_group_and_leaves_no_class_untrained(
    data: tuple[Ints, Ints], fraction: float, seed: int
) -> None:
    labels, groups = data
    train, val = hold_out(labels, fraction, seed, groups)
    assert is_partition(train, val, len(labels))
    assert not set(groups[train]) & set(groups[val])
    assert set(labels[train]) == set(labels)
    again = hold_out(labels, fraction, seed, groups)[1]
    assert np.array_equal(again, val)


@given(data=grouped(), folds=st.integers(2, 5), seed=st.integers(0, 2**32), by_group=st.booleans())
def test_folds_are_disjoint_and_hold_everything_that_may_be_held(
    data: tuple[Ints, Ints], folds: int, seed: int, by_group: bool
) -> None:
    labels, groups = data
    groups = groups if by_group else np.arange(len(labels))
    parts = []
    for fold in range(folds):
        try:
            train, val = kfold(labels, folds, fold, seed, groups if by_group else None)
        except DataError:
            continue
        assert is_partition(train, val, len(labels))
        assert not set(groups[train]) & set(groups[val])
        parts.append(val)
    held = np.concatenate(parts) if parts else np.empty(0, np.int64)
    assert len(set(held)) == len(held)
    only = [label for label in set(labels) if len(set(groups[labels == label])) == 1]
    always = np.isin(groups, groups[np.isin(labels, only)])
    assert set(held) == set(np.flatnonzero(~always))


@given(labels=st.lists(st.integers(0, 3), min_size=20, max_size=100), folds=st.integers(2, 5), seed=st.integers(0, 99))
def test_folds_without_groups_have_each_class_evenly(labels: list[int], folds: int, seed: int) -> None:
    every = np.array(labels)
    vals = [kfold(every, folds, fold, seed)[1] for fold in range(folds)]
    for label in set(labels):
        counts = [int((every[val] == label).sum()) for val in vals]
        assert max(counts) - min(counts) <= 1
    sizes = [len(val) for val in vals]
    assert max(sizes) - min(sizes) <= 1


@given(labels=st.lists(st.integers(0, 3), min_size=4, max_size=60), fraction=st.floats(0.05, 0.5))
def test_groups_of_one_are_a_stratified_split(labels: list[int], fraction: float) -> None:
    every = np.array(labels)
    _, val = hold_out(every, fraction, 0, np.arange(len(every)))
    _, plain = hold_out(every, fraction, 0)
    for label in set(labels):
        wanted = (every == label).sum() * fraction
        assert abs((every[val] == label).sum() - wanted) <= 1.5, (label, wanted)
    assert np.array_equal(plain, hold_out(every, fraction, 0)[1])


def cases() -> list[tuple[str, Ints, Ints]]:
    """Persons of one class each; plots of land with all classes; a long tail; films of very different length."""
    rng = np.random.default_rng(7)
    persons = rng.integers(0, 60, 600)
    plots, lengths = rng.integers(0, 40, 800), np.repeat(np.arange(30), rng.geometric(0.05, 30))
    return [
        ("persons", persons % 4, persons),
        ("plots", rng.choice(5, 800, p=[0.4, 0.3, 0.15, 0.1, 0.05]), plots),
        ("tail", np.repeat(np.arange(6), [400, 200, 100, 50, 25, 12]), rng.integers(0, 80, 787)),
        ("films", rng.integers(0, 3, len(lengths)), lengths),
    ]


each_case = pytest.mark.parametrize(("name", "labels", "groups"), cases(), ids=[case[0] for case in cases()])


def imbalance(labels: Ints, vals: list[Ints]) -> float:
    """Mean over classes of the spread over folds of the class's share in the fold."""
    totals = np.bincount(labels)
    shares = np.array([np.bincount(labels[val], minlength=len(totals)) / totals for val in vals])
    return float(shares.std(axis=0).mean())


@each_case
def test_folds_are_as_even_as_scikit_learns(name: str, labels: Ints, groups: Ints) -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    ours = [kfold(labels, 5, fold, 0, groups)[1] for fold in range(5)]
    splitter = selection.StratifiedGroupKFold(5, shuffle=True, random_state=0)
    theirs = [val for _, val in splitter.split(labels, labels, groups)]
    assert imbalance(labels, ours) <= imbalance(labels, theirs) + 0.005, name


@each_case
def test_a_held_out_fifth_is_as_near_as_one_of_scikit_learns_folds(name: str, labels: Ints, groups: Ints) -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    totals = np.bincount(labels)

    def error(val: Ints) -> float:
        return float(np.abs(np.bincount(labels[val], minlength=len(totals)) / totals - 0.2).max())

    splitter = selection.StratifiedGroupKFold(5, shuffle=True, random_state=0)
    theirs = np.mean([error(val) for _, val in splitter.split(labels, labels, groups)])
    assert error(hold_out(labels, 0.2, 0, groups)[1]) <= theirs + 0.01, name


def test_another_seed_is_another_division() -> None:
    labels, groups = np.arange(200) % 2, np.arange(200) // 4
    assert not np.array_equal(hold_out(labels, 0.2, 0, groups)[1], hold_out(labels, 0.2, 1, groups)[1])
    assert not np.array_equal(kfold(labels, 5, 0, 0)[1], kfold(labels, 5, 0, 1)[1])


def test_one_group_cannot_be_divided() -> None:
    train, val = hold_out(np.array([0, 1, 0]), 0.5, 0, np.zeros(3, np.int64))
    assert (train.tolist(), val.tolist()) == ([0, 1, 2], [])
    with pytest.raises(DataError, match="fold 0 of 2 has none; use fewer folds"):
        kfold(np.array([0, 1, 0]), 2, 0, 0, np.zeros(3, np.int64))


def test_groups_larger_than_the_fraction_still_give_a_validation_part() -> None:
    labels, groups = np.tile([0, 1], 30), np.repeat(np.arange(3), 20)
    train, val = hold_out(labels, 0.05, 0, groups)
    assert (len(train), len(val)) == (40, 20)


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (5, 5), (5, -1)])
def test_folds_that_are_none(folds: int, fold: int) -> None:
    with pytest.raises(DataError, match="fold 0 to folds - 1; got fold"):
        kfold(np.arange(10) % 2, folds, fold, 0)


def test_a_fraction_that_is_none() -> None:
    with pytest.raises(DataError, match="val_fraction must be"):
        open_dataset("digits", val_fraction=1.0)
