"""Splits, hints, and leaving images out."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnets.data.dataset import Dataset, ImageSet, Problem
from resnets.data.sources.digits import ArraySource
from resnets.data.splits import hold_out
from resnets.errors import DataError


def arrays(images: np.ndarray, name: str = "tiny") -> ImageSet:
    count = len(images)
    return ImageSet(source=ArraySource(name, images), rows=np.arange(count), labels=np.arange(count) % 2)


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 5), max_size=120),
    fraction=st.floats(0.01, 0.9),
    seed=st.integers(0, 2**64 - 1),
)
def test_a_split_is_stratified_and_disjoint(labels: list[int], fraction: float, seed: int) -> None:
    every = np.array(labels, np.int64)
    train, val = hold_out(every, fraction, seed)
    assert np.array_equal(np.sort(np.concatenate([train, val])), np.arange(len(every)))
    for label in set(labels):
        total, held = int((every == label).sum()), int((every[val] == label).sum())
        assert held == (0 if total == 1 else min(total - 1, max(1, round(total * fraction))))


def test_a_split_depends_on_the_seed_only() -> None:
    labels = np.repeat(np.arange(3), 40)
    assert np.array_equal(hold_out(labels, 0.2, 1)[1], hold_out(labels, 0.2, 1)[1])
    assert not np.array_equal(hold_out(labels, 0.2, 1)[1], hold_out(labels, 0.2, 2)[1])


def test_images_of_arrays_in_both_channel_counts() -> None:
    grey = arrays(np.full((3, 4, 5, 1), 7, np.uint8))
    assert grey.image(0, "L").shape == (4, 5, 1)
    assert grey.image(0, "RGB").shape == (4, 5, 3)
    colour = arrays(np.tile(np.array([255, 0, 0], np.uint8), (2, 4, 5, 1)))
    assert (colour.image(1, "L") == 76).all()
    assert colour.image(1, "RGB").shape == (4, 5, 3)


def test_a_subset_keeps_names_and_labels_together() -> None:
    images = arrays(np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1))
    part = images.subset([5, 2])
    assert [part.name(i) for i in range(2)] == ["tiny#5", "tiny#2"]
    assert part.labels.tolist() == [1, 0]
    assert part.subset([1]).image(0, "L").item() == 2


def test_the_hint_has_sizes_and_channels() -> None:
    grey = Dataset(name="x", classes=("a", "b"), splits={"train": arrays(np.zeros((5, 4, 6, 1), np.uint8))})
    hint = grey.preprocessing_hint
    assert (hint.channels, hint.size, hint.uniform) == ("L", (4, 6), True)
    colour = Dataset(name="x", classes=("a", "b"), splits={"val": arrays(np.zeros((5, 4, 6, 3), np.uint8))})
    assert colour.preprocessing_hint.channels == "RGB"


def test_without_leaves_out_only_what_does_not_decode() -> None:
    splits = {
        "train": arrays(np.zeros((4, 2, 2, 1), np.uint8), "a"),
        "val": arrays(np.zeros((2, 2, 2, 1), np.uint8), "b"),
    }
    dataset = Dataset(name="x", classes=("a", "b"), splits=splits)
    bad = Problem(kind="undecodable", where="a#1", reason="broken", fatal=True)
    other = Problem(kind="missing-class", where="a#2", reason="no")
    left = dataset.without_undecodable([bad, other])
    assert [left.splits["train"].name(i) for i in range(3)] == ["a#0", "a#2", "a#3"]
    assert left.splits["train"].labels.tolist() == [0, 0, 1]
    assert len(left) == 5
    assert len(dataset) == 6
    gone = [Problem(kind="undecodable", where=f"b#{i}", reason="broken") for i in range(2)]
    with pytest.raises(DataError, match="none of val in x can be decoded"):
        dataset.without_undecodable(gone)


def test_a_set_can_be_pickled(tmp_path: Path) -> None:
    images = arrays(np.zeros((4, 2, 2, 1), np.uint8)).subset([3])
    copy = pickle.loads(pickle.dumps(images))
    assert copy.name(0) == "tiny#3"
    assert copy.labels.tolist() == [1]
