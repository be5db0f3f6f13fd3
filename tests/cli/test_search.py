"""`resnets search`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Command, assert_one_line_error
from tests.images import write_images


@pytest.fixture
def index(tmp_path: Path, command: Command) -> Path:
    root = write_images(tmp_path / "images", {"train": 4})
    command("embed", root, "--save", tmp_path / "x.parquet")
    return tmp_path / "x.parquet"


def test_similar_images_are_listed_and_drawn(command: Command, index: Path, tmp_path: Path) -> None:
    query = sorted((tmp_path / "images").rglob("*.png"))[0]
    code, out, _ = command("search", index, query, "--top", 3, "--sheet", tmp_path / "s.png")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["image", "rank", "distance", "similar", "image"]
    assert lines[2].split()[:2] == [str(query), "1"]
    assert len([line for line in lines if "blue" in line]) == 3  # of the query's colour
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size == (4 * 136 + 16, 162)
    found = json.loads(command("search", index, query, "--json").out)
    assert [hit["path"] == str(query) for hit in found[0]["results"]] == [False] * 5
    assert json.loads(command("search", index, query, "--threshold", 0, "--json").out)[0]["results"] == []


def test_near_duplicates(command: Command, index: Path, tmp_path: Path) -> None:
    assert command("search", index, "--duplicates", 2).out.endswith("1 group of near duplicates in 12 images\n")
    assert len(json.loads(command("search", index, "--duplicates", 2, "--json").out)[0]) == 12
    assert command("search", index, "--duplicates", 0).out == "0 groups of near duplicates in 12 images\n"


def test_what_cannot_be_searched_is_one_line(command: Command, index: Path, trained: Path, tmp_path: Path) -> None:
    query = sorted((tmp_path / "images").rglob("*.png"))[0]
    assert_one_line_error(command("search", index), "pass images", 2)
    assert_one_line_error(command("search", index, query, "--duplicates", 1), "pass images", 2)
    assert_one_line_error(command("search", index, query, "--sheet", "x.gif"), "a sheet is a .png", 2)
    assert_one_line_error(command("search", index, query, "--model", trained), "with the model that computed them")
    assert_one_line_error(command("search", tmp_path / "no.parquet", query), "No such file")
    assert_one_line_error(command("search", index, tmp_path / "no.png"), "must exist")
