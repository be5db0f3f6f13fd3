"""Images named on a command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnets.data.files import list_images, walk_images
from resnets.errors import DataError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "sub/c.webp", "sub/.hidden.png", ".dir/d.png", "note.txt", "odd.dat"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "photos"


def test_folders_are_searched_in_order(photos: Path) -> None:
    assert list_images(photos) == [photos / "a.PNG", photos / "b.jpg", photos / "sub" / "c.webp"]


def test_files_are_taken_as_given_and_once(photos: Path) -> None:
    given: list[str | Path] = [photos / "odd.dat", str(photos / "b.jpg"), photos]
    assert list_images(given) == [
        photos / "odd.dat",
        photos / "b.jpg",
        photos / "a.PNG",
        photos / "sub" / "c.webp",
    ]


def test_nothing_found(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"did you mean b\.jpg\?"):
        list_images(photos / "bb.jpg")
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match=r"at least one image; got .*bare"):
        list_images([tmp_path / "bare"])
    with pytest.raises(DataError, match="got nothing"):
        list_images([])
    with pytest.raises(DataError, match="no does not exist either"):
        list_images(tmp_path / "no" / "where.png")


def test_links_are_followed_once_and_listed(tmp_path: Path) -> None:
    (tmp_path / "cats" / "more").mkdir(parents=True)
    for name in ("1.png", "more/2.png"):
        (tmp_path / "cats" / name).write_bytes(b"x")
    (tmp_path / "cats" / "3.png").symlink_to("1.png")
    (tmp_path / "cats" / "loop.png").symlink_to("loop.png")
    (tmp_path / "cats" / "more" / "above").symlink_to("..")
    (tmp_path / "cats" / "other").symlink_to(tmp_path / "dogs")
    (tmp_path / "dogs").mkdir()
    (tmp_path / "dogs" / "4.png").write_bytes(b"x")
    linked: list[str] = []
    assert walk_images(tmp_path / "cats", linked=linked) == ["1.png", "3.png", "loop.png", "more/2.png", "other/4.png"]
    assert sorted(linked) == ["3.png", "loop.png", "other/4.png"]
