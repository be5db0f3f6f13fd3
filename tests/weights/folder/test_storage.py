"""What else lies in a model folder stays there, and nothing that is left of an old one ends a run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from resnets.errors import WeightsError
from resnets.weights.folder import storage as folders
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.model_folder import read_bundle, save_bundle

OWN = ["README.md", "config.json", "model.safetensors"]


def mark(bundle: Bundle, value: float) -> None:
    bundle.model.get_submodule("fc").bias.data.fill_(value)  # type: ignore[operator]


def marked(folder: Path) -> float:
    return float(read_bundle(folder).model.state_dict()["fc.bias"][0])


def fill(folder: Path) -> None:
    """What others put into a model folder."""
    (folder / ".DS_Store").write_bytes(b"Bud1")
    (folder / "model.onnx").write_bytes(b"exported")
    (folder / "plots").mkdir()
    (folder / "plots" / "mine.txt").write_text("notes")
    (folder / "link").symlink_to("../elsewhere")


def filled(folder: Path) -> bool:
    return (
        sorted(os.listdir(folder)) == sorted([*OWN, ".DS_Store", "link", "model.onnx", "plots"])
        and (folder / "model.onnx").read_bytes() == b"exported"
        and (folder / "plots" / "mine.txt").read_text() == "notes"
        and os.readlink(folder / "link") == "../elsewhere"
    )


def test_other_files_stay_in_a_model_folder(bundle: Bundle, tmp_path: Path) -> None:
    place = save_bundle(bundle, tmp_path / "m")
    fill(place)
    for value in (5, 6):
        mark(bundle, value)
        save_bundle(bundle, place)
        assert marked(place) == value
        assert filled(place)
        assert os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize("content", [None, "{}", "[]", "half of", '{"model_type": "bert"}'])
def test_only_our_model_folders_are_replaced_around_other_files(
    bundle: Bundle, tmp_path: Path, content: str | None
) -> None:
    place = save_bundle(bundle, tmp_path / "m")
    (place / "tokenizer.json").write_text("{}")
    if content is None:
        (place / "config.json").unlink()
    else:
        (place / "config.json").write_text(content)
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    with pytest.raises(WeightsError, match="holds other files"):
        save_bundle(bundle, place)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


@pytest.mark.parametrize("dies_at", ["the first rename", "the second rename", "carrying over", "deleting"])
def test_a_killed_save_loses_no_other_file(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    class KilledError(BaseException):
        pass

    place = save_bundle(bundle, tmp_path / "m")
    fill(place)
    mark(bundle, 5)
    rename, renames = Path.replace, 0

    def die(*_: object, **__: object) -> None:
        raise KilledError

    def replace(self: Path, to: Path) -> Path:
        nonlocal renames
        renames += 1
        if renames == {"the first rename": 1, "the second rename": 2, "carrying over": 4}.get(dies_at):
            die()
        if renames > 2 and dies_at == "the second rename":
            die()  # nor does a dead program put the old folder back
        return rename(self, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        patch.setattr(shutil, "rmtree", die if dies_at == "deleting" else lambda *_, **__: None)
        with pytest.raises(KilledError):
            save_bundle(bundle, place)
    assert folders.is_model_folder(place)
    assert place.exists() == (dies_at != "the second rename")
    for left in tmp_path.glob(".m.*.tmp"):
        os.utime(left, (0, 0))  # long ago
    mark(bundle, 6)
    save_bundle(bundle, place)
    assert marked(place) == 6
    assert filled(place)
    assert os.listdir(tmp_path) == ["m"]


def test_files_that_cannot_be_moved_are_kept_beside_the_folder(bundle: Bundle, tmp_path: Path) -> None:
    """A save was killed before it carried a file over, and there is a newer one by now."""
    place = save_bundle(bundle, tmp_path / "m")
    shutil.copytree(place, tmp_path / ".m.old")
    (tmp_path / ".m.old" / "notes").write_text("older")
    (place / "notes").write_text("newer")
    for value in (5, 6):
        mark(bundle, value)
        save_bundle(bundle, place)
        assert marked(place) == value
    assert (place / "notes").read_text() == "newer"
    (kept,) = tmp_path.glob(".m.????????.kept")
    assert (kept / "notes").read_text() == "older"
    assert sorted(os.listdir(tmp_path)) == sorted(["m", kept.name])


def test_a_leftover_that_cannot_be_removed_is_no_error(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On NFS a deleted file that somebody reads takes another name, and its folder stays."""
    place = save_bundle(bundle, tmp_path / "m")
    remove = shutil.rmtree

    def rmtree(path: Path, ignore_errors: bool = False, **_: Any) -> None:
        if not (path / "model.safetensors").exists() and not any(path.glob(".nfs*")):
            remove(path, ignore_errors=ignore_errors)
            return
        for entry in path.iterdir():
            if entry.name == "model.safetensors":
                entry.rename(path / ".nfs0001")
            elif not entry.name.startswith(".nfs"):
                entry.unlink()
        if not ignore_errors:
            raise OSError("Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", rmtree)
        for value in (5, 6, 7):
            mark(bundle, value)
            save_bundle(bundle, place)
            assert marked(place) == value
            assert sorted(os.listdir(place)) == OWN
    assert os.listdir(tmp_path / ".m.old") == [".nfs0001"]
    shutil.rmtree(tmp_path / ".m.old")  # set aside already are those of the saves before
    aside = list(tmp_path.glob(".m.????????.tmp"))
    assert len(aside) == 2
    for left in aside:
        os.utime(left, (0, 0))  # long ago, and nobody reads them any more
    save_bundle(bundle, place)
    assert os.listdir(tmp_path) == ["m"]
