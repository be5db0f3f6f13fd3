"""Decoding everything in advance, and skipping what cannot be decoded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from resnets.data.check import check, raise_on_fatal, skip_undecodable
from resnets.data.dataset import Problem
from resnets.data.open import open_dataset
from resnets.errors import DataError

MakeFolder = Callable[[dict[str, int]], Path]


def test_good_data_has_no_problems(make_folder: MakeFolder) -> None:
    dataset = open_dataset(make_folder({"train/cat": 40, "train/dog": 30, "val/cat": 2, "val/dog": 2}))
    seen: list[tuple[int, int]] = []
    assert check(dataset, workers=2, progress=lambda done, total: seen.append((done, total))) == []
    assert seen[-1] == (74, 74)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    raise_on_fatal(dataset.problems)


def test_undecodable_images_are_named_and_skipped(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"train/cat": 4, "train/dog": 4, "val/cat": 2, "val/dog": 2})
    cut = root / "train" / "cat" / "1.png"
    cut.write_bytes(cut.read_bytes()[:100])
    empty = root / "val" / "dog" / "0.png"
    empty.write_bytes(b"")
    dataset = open_dataset(root)
    problems = check(dataset)
    assert [(p.kind, p.where, p.fatal) for p in problems] == [
        ("undecodable", str(cut), True),
        ("undecodable", str(empty), True),
    ]
    with pytest.raises(DataError, match=f"{cut}: .*; pass --skip-bad$"):
        raise_on_fatal(problems)

    sound = skip_undecodable(dataset, problems, tmp_path / "quarantine.txt")
    lines = (tmp_path / "quarantine.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(cut), str(empty)]
    assert lines[1].endswith("\tthe file is empty")
    assert [path.name for path in tmp_path.glob("*.partial")] == []
    assert len(sound) == 10
    assert check(sound) == []


def test_thin_images_are_reported_and_kept(make_folder: MakeFolder) -> None:
    root = make_folder({"train/cat": 2, "train/dog": 2})
    Image.new("RGB", (64, 3)).save(root / "train" / "cat" / "0.png")
    Image.new("RGB", (60, 3)).save(root / "train" / "cat" / "1.png")
    dataset = open_dataset(root, val_fraction=0)
    problems = check(dataset)
    assert [(p.kind, p.where, p.fatal) for p in problems] == [("thin", str(root / "train" / "cat" / "0.png"), False)]
    assert "3 x 64 pixels" in problems[0].reason
    assert dataset.without_undecodable(problems) is dataset


def test_a_class_that_loses_its_last_training_image_stops_training(make_folder: MakeFolder) -> None:
    root = make_folder({"train/cat": 2, "train/dog": 2, "train/owl": 2, "val/cat": 1, "val/dog": 2, "val/owl": 1})
    for name in ("train/owl/0.png", "train/owl/1.png", "train/dog/0.png", "val/dog/1.png"):
        (root / name).write_bytes(b"no image")
    dataset = open_dataset(root)
    sound = dataset.without_undecodable(check(dataset))
    assert [(p.kind, p.where, p.fatal) for p in sound.problems] == [("untrained-class", "pets/train", True)]
    assert sound.without_undecodable(check(sound)).problems == sound.problems
    with pytest.raises(DataError, match=r"pets/train: class 'owl' has no image that can be decoded; repair the data$"):
        raise_on_fatal(sound.problems)
    raise_on_fatal(dataset.problems)


def test_a_fatal_problem_of_another_kind_asks_for_repair() -> None:
    problems = [Problem(kind="untrained-class", where=f"x/{i}", reason="none", fatal=True) for i in range(5)]
    with pytest.raises(DataError, match=r"x/0: none; x/1: none; x/2: none and 2 more; repair the data"):
        raise_on_fatal(problems)
    raise_on_fatal([Problem(kind="ignored", where="x", reason="fine")])
