"""Identities to train on, and others to validate on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from resnets.data.reid.dataset import ReidDataset, ReidSet
from resnets.data.reid.training import training_splits
from resnets.errors import DataError


def data(ids: Sequence[int], cameras: Sequence[int] | None = None) -> tuple[ReidDataset, ReidSet]:
    images = ReidSet(
        paths=tuple(f"images/{number}.png" for number in range(len(ids))),
        ids=np.array(ids, np.int64),
        cameras=None if cameras is None else np.array(cameras, np.int64),
    )
    return ReidDataset(name="some", layout="table", sets={"train": images}, id_names={}), images


def test_identities_are_never_divided_and_those_of_training_come_first() -> None:
    dataset, images = data([5] * 4 + [9] * 3 + [2] * 2 + [7] * 5 + [3] * 2)
    found = training_splits(dataset, images, val_fraction=0.4, seed=0)
    train, val = found.splits["train"], found.splits["val"]
    assert len(found.classes) == 5
    assert sorted(set(train.labels)) == [0, 1, 2]
    assert sorted(set(val.labels)) == [3, 4]
    for split in (train, val):
        for i in range(len(split)):
            number = int(split.name(i).rpartition("/")[2].removesuffix(".png"))
            assert found.classes[split.labels[i]] == str(images.ids[number])
    assert len(train) + len(val) == 16


def test_the_choice_depends_on_the_seed_alone() -> None:
    dataset, images = data(np.repeat(np.arange(30), 3).tolist())
    chosen = [set(training_splits(dataset, images, val_fraction=0.2, seed=seed).classes[24:]) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(chosen[0]) == 6


def test_folds_hold_out_each_identity_once() -> None:
    dataset, images = data(np.repeat(np.arange(10), 3).tolist())
    held_out: list[str] = []
    for fold in range(3):
        found = training_splits(dataset, images, val_fraction=0.1, seed=0, folds=3, fold=fold)
        held_out += found.classes[int(found.splits["train"].labels.max()) + 1 :]
    assert sorted(map(int, held_out)) == list(range(10))
    with pytest.raises(DataError, match="fewer folds"):
        training_splits(dataset, images, val_fraction=0.1, seed=0, folds=6, fold=0)


def test_only_identities_of_several_cameras_validate() -> None:
    cameras = [1, 1, 1, 2, 1, 1, 1, 2, 1, 1]  # identities 1 and 3 were seen by two
    dataset, images = data([0, 0, 1, 1, 2, 2, 3, 3, 4, 4], cameras)
    found = training_splits(dataset, images, val_fraction=0.4, seed=0)
    assert set(found.classes[3:]) == {"1", "3"}
    assert found.splits["val"].cameras is not None
    assert found.splits["val"].cameras.tolist() == [1, 2, 1, 2]


def test_without_identities_that_can_be_found_nothing_validates() -> None:
    dataset, images = data([0, 0, 1, 1, 2, 2], [1, 1, 2, 2, 3, 3])
    found = training_splits(dataset, images, val_fraction=0.4, seed=0)
    assert set(found.splits) == {"train"}
    assert any("no validation" in problem.reason for problem in found.problems)


def test_junk_is_left_out_and_noted() -> None:
    dataset, images = data([-1, 0, 0, 1, 1, -1])
    found = training_splits(dataset, images, val_fraction=0, seed=0)
    assert found.classes == ("0", "1")
    assert len(found.splits["train"]) == 4
    assert any("2 junk images" in problem.reason for problem in found.problems)
