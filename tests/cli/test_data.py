"""`resnets data`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from resnets.data.open import open_dataset
from tests.conftest import Command, assert_one_line_error


@pytest.fixture
def own_images(images: Path, tmp_path: Path) -> Path:
    """A copy of the coloured images, which a test may change."""
    return Path(shutil.copytree(images, tmp_path / "colours"))


def damage(root: Path) -> Path:
    path = root / "train" / "green" / "003.png"
    path.write_bytes(path.read_bytes()[:60])
    return path


def test_pack(command: Command, images: Path, tmp_path: Path) -> None:
    result = command("data", "pack", images, tmp_path / "packed", "--size", "8", "--workers", "1")
    assert (result.code, result.err) == (0, "")
    assert "90 images" in result.out
    assert result.out.endswith(f": {tmp_path / 'packed'}\n")
    packed = open_dataset(tmp_path / "packed")
    assert {split: len(images) for split, images in packed.splits.items()} == {"train": 72, "val": 18}
    assert packed.splits["val"].image(0, "RGB").shape == (8, 8, 3)


def test_pack_json(command: Command, images: Path, tmp_path: Path) -> None:
    result = command("data", "pack", images, tmp_path / "packed", "--size", "6x9", "--json")
    packed = json.loads(result.out)
    assert packed.pop("seconds") >= 0
    assert packed == {"folder": str(tmp_path / "packed"), "images": 90, "bytes": 90 * 6 * 9 * 3, "left_out": []}


def test_pack_undecodable_images(command: Command, own_images: Path, tmp_path: Path) -> None:
    bad = damage(own_images)
    assert_one_line_error(command("data", "pack", own_images, tmp_path / "packed"), f"{bad}: ")
    assert not (tmp_path / "packed").exists()
    result = command("data", "pack", own_images, tmp_path / "packed", "--skip-bad")
    assert result.code == 0
    assert "89 images" in result.out
    assert f"left out: {bad}: " in result.out


def test_check_packed_folder(command: Command, images: Path, tmp_path: Path) -> None:
    assert command("data", "pack", images, tmp_path / "packed", "--workers", "1").code == 0
    result = command("data", "check", tmp_path / "packed")
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("size", ["0", "ten", "3x", "4x0", "-1", "1x2x3"])
def test_invalid_size(command: Command, images: Path, tmp_path: Path, size: str) -> None:
    result = command("data", "pack", images, tmp_path / "packed", "--size", size)
    assert_one_line_error(result, repr(size))


def test_pack_to_an_existing_folder(command: Command, images: Path) -> None:
    assert_one_line_error(command("data", "pack", images, images), f"{images} exists")


def test_check_without_problems(command: Command, images: Path) -> None:
    result = command("data", "check", images, "--workers", "1")
    assert (result.code, result.err) == (0, "")
    assert result.out == "colours: 3 classes, images: train 72, val 18; no problems\n"
    summary = json.loads(command("data", "check", images, "--json").out)
    assert summary == {
        "name": "colours", "valid": True, "num_classes": 3, "splits": {"train": 72, "val": 18}, "problems": []
    }  # fmt: skip


def test_check_with_problems(command: Command, own_images: Path) -> None:
    bad = damage(own_images)
    shutil.rmtree(own_images / "val" / "red")
    (own_images / "train" / "white").mkdir()
    (own_images / "train" / "red" / "notes.txt").touch()
    result = command("data", "check", own_images)
    assert (result.code, result.err) == (1, "")
    assert result.out.endswith("3 problems\n")
    summary = json.loads(command("data", "check", own_images, "--json").out)
    assert summary["valid"] is False
    kinds = {problem["kind"]: problem for problem in summary["problems"]}
    assert set(kinds) == {"undecodable", "missing-class", "empty-class", "ignored"}
    assert kinds["undecodable"]["where"] == str(bad)
    assert kinds["undecodable"]["fatal"] is True
    assert all(problem["where"] in result.out for problem in kinds.values())


def test_files_that_are_not_images_are_ignored(command: Command, own_images: Path) -> None:
    (own_images / "train" / "red" / "notes.txt").touch()
    result = command("data", "check", own_images)
    assert result.code == 0
    assert ".txt" in result.out


def test_help_and_errors(command: Command) -> None:
    assert "pack" in command("data", "--help").out
    assert "DEST" in command("data", "pack", "--help").out
    result = command("data", "pak")
    assert result.code == 2
    assert "pack" in result.err
    assert command("data").code == 2
    assert command("data", "check", "nowhere").code == 1
