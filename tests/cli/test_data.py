"""`resnets data`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from resnets.data.open import open_dataset
from tests.conftest import Command


@pytest.fixture
def own_images(images: Path, tmp_path: Path) -> Path:
    """A copy of the coloured images, to be damaged."""
    return Path(shutil.copytree(images, tmp_path / "colours"))


def damage(root: Path) -> Path:
    path = root / "train" / "green" / "003.png"
    path.write_bytes(path.read_bytes()[:60])
    return path


def test_packing_says_what_it_took(command: Command, images: Path, tmp_path: Path) -> None:
    answer = command("data", "pack", images, tmp_path / "packed", "--size", "8", "--workers", "1")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("90 images, 0.0 MiB, in ")
    assert answer.out.endswith(f" images/s): {tmp_path / 'packed'}\n")
    packed = open_dataset(tmp_path / "packed")
    assert {split: len(images) for split, images in packed.splits.items()} == {"train": 72, "val": 18}
    assert packed.splits["val"].image(0, "RGB").shape == (8, 8, 3)


def test_packing_answers_json(command: Command, images: Path, tmp_path: Path) -> None:
    answer = command("data", "pack", images, tmp_path / "packed", "--size", "6x9", "--json")
    result = json.loads(answer.out)
    assert result.pop("seconds") >= 0
    assert result == {"folder": str(tmp_path / "packed"), "images": 90, "bytes": 90 * 6 * 9 * 3, "left_out": []}


def test_damaged_images(command: Command, own_images: Path, tmp_path: Path) -> None:
    bad = damage(own_images)
    answer = command("data", "pack", own_images, tmp_path / "packed")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"error: cannot decode image; {bad}: ")
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "packed").exists()
    answer = command("data", "pack", own_images, tmp_path / "packed", "--skip-bad")
    assert answer.code == 0
    assert answer.out.startswith("89 images")
    assert f"left out: {bad}: " in answer.out


def test_a_packed_folder_is_sound_data(command: Command, images: Path, tmp_path: Path) -> None:
    assert command("data", "pack", images, tmp_path / "packed", "--workers", "1").code == 0
    answer = command("data", "check", tmp_path / "packed")
    assert (answer.code, answer.err) == (0, "")


@pytest.mark.parametrize("size", ["0", "ten", "3x", "4x0", "-1", "1x2x3"])
def test_sizes_that_make_no_sense(command: Command, images: Path, tmp_path: Path, size: str) -> None:
    answer = command("data", "pack", images, tmp_path / "packed", "--size", size)
    assert answer.code == 1
    assert f"got {size!r}" in answer.err
    assert "256x128" in answer.err


def test_a_folder_in_the_way(command: Command, images: Path) -> None:
    answer = command("data", "pack", images, images)
    assert answer.code == 1
    assert answer.err == f"error: a packed folder must be new; {images} exists; remove it or choose another name\n"


def test_sound_data(command: Command, images: Path) -> None:
    answer = command("data", "check", images, "--workers", "1")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == "colours: 3 classes, train 72, val 18 images: sound\n"
    summary = json.loads(command("data", "check", images, "--json").out)
    assert summary == {
        "name": "colours", "sound": True, "classes": 3, "splits": {"train": 72, "val": 18}, "problems": []
    }  # fmt: skip


def test_unsound_data(command: Command, own_images: Path) -> None:
    bad = damage(own_images)
    shutil.rmtree(own_images / "val" / "red")
    (own_images / "train" / "white").mkdir()
    (own_images / "train" / "red" / "notes.txt").touch()
    answer = command("data", "check", own_images)
    assert (answer.code, answer.err) == (1, "")
    assert answer.out.endswith("3 problems\n")
    summary = json.loads(command("data", "check", own_images, "--json").out)
    assert summary["sound"] is False
    kinds = {problem["kind"]: problem for problem in summary["problems"]}
    assert set(kinds) == {"undecodable", "missing-class", "empty-class", "ignored"}
    assert kinds["undecodable"]["where"] == str(bad)
    assert kinds["undecodable"]["fatal"] is True
    assert all(problem["where"] in answer.out for problem in kinds.values())


def test_files_that_are_no_images_do_no_harm(command: Command, own_images: Path) -> None:
    (own_images / "train" / "red" / "notes.txt").touch()
    answer = command("data", "check", own_images)
    assert answer.code == 0
    assert "no image's extension" in answer.out


def test_help_and_mistakes(command: Command) -> None:
    assert "pack" in command("data", "--help").out
    assert "DEST" in command("data", "pack", "--help").out
    answer = command("data", "pak")
    assert answer.code == 2
    assert "pack" in answer.err
    assert command("data").code == 2
    assert command("data", "check", "nowhere").code == 1
