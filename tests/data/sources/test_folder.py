"""Folders of class folders, and everything that lies about in them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnets.api import train
from resnets.data.open import open_dataset
from resnets.errors import DataError

MakeFolder = Callable[[dict[str, int]], Path]


def kinds(dataset: object) -> list[str]:
    return [problem.kind for problem in dataset.problems]  # type: ignore[attr-defined]


def test_splits_and_classes(make_folder: MakeFolder) -> None:
    root = make_folder({"train/dog": 3, "train/cat": 2, "val/cat": 1, "val/dog": 2, "test/dog": 1, "test/cat": 1})
    dataset = open_dataset(root)
    assert dataset.name == "pets"
    assert dataset.classes == ("cat", "dog")
    assert {split: images.labels.tolist() for split, images in dataset.splits.items()} == {
        "train": [0, 0, 1, 1, 1],
        "val": [0, 1, 1],
        "test": [0, 1],
    }
    assert dataset.splits["train"].name(2) == str(root / "train" / "dog" / "0.png")
    assert dataset.splits["train"].read(2) == (root / "train" / "dog" / "0.png").read_bytes()
    assert dataset.splits["val"].image(0, "RGB").shape == (12, 10, 3)
    assert dataset.problems == ()
    assert dataset.preprocessing_hint.size == (12, 10)
    assert dataset.preprocessing_hint.channels == "RGB"


@pytest.mark.parametrize("name", ["valid", "validation", "Val", "dev"])
def test_other_names_of_val(make_folder: MakeFolder, name: str) -> None:
    dataset = open_dataset(make_folder({"train/a": 2, "train/b": 2, f"{name}/a": 1, f"{name}/b": 1}))
    assert {split: len(images) for split, images in dataset.splits.items()} == {"train": 4, "val": 2}


def test_two_folders_for_one_split_are_an_error(make_folder: MakeFolder) -> None:
    with pytest.raises(DataError, match="a split must have one folder"):
        open_dataset(make_folder({"train/a": 1, "train/b": 1, "val/a": 1, "valid/a": 1}))


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_val_is_split_off_train(make_folder: MakeFolder, prefix: str) -> None:
    root = make_folder({f"{prefix}a": 20, f"{prefix}b": 10, f"{prefix}c": 1})
    dataset = open_dataset(root, val_fraction=0.2, seed=3)
    train, val = dataset.splits["train"], dataset.splits["val"]
    assert np.bincount(val.labels, minlength=3).tolist() == [4, 2, 0]
    names = [images.name(i) for images in (train, val) for i in range(len(images))]
    assert len(set(names)) == 31
    assert kinds(dataset) == ["missing-class"]  # c has one image, which trains
    again = open_dataset(root, val_fraction=0.2, seed=3).splits["val"]
    assert [again.name(i) for i in range(6)] == [val.name(i) for i in range(6)]
    assert list(open_dataset(root, val_fraction=0).splits) == ["train"]


def test_folds_of_folders(make_folder: MakeFolder) -> None:
    root = make_folder({"train/a": 8, "train/b": 7, "val/a": 2, "val/b": 3, "test/a": 1, "test/b": 1})
    held: list[str] = []
    for fold in range(5):
        splits = open_dataset(root, folds=5, fold=fold).splits
        assert {split: len(images) for split, images in splits.items()} == {"train": 16, "val": 4, "test": 2}
        assert np.bincount(splits["val"].labels).tolist() == [2, 2]
        held += [splits["val"].name(i) for i in range(4)]
    assert len(set(held)) == 20


def test_the_test_split_is_kept_where_val_is_missing(make_folder: MakeFolder) -> None:
    dataset = open_dataset(make_folder({"train/a": 10, "train/b": 10, "test/a": 3, "test/b": 3}))
    assert {split: len(images) for split, images in dataset.splits.items()} == {"train": 18, "val": 2, "test": 6}
    assert list(dataset.splits) == ["train", "val", "test"]


def test_a_folder_missing_from_a_split_shifts_nothing(make_folder: MakeFolder) -> None:
    dataset = open_dataset(make_folder({"train/a": 2, "train/c": 2, "val/b": 1, "val/c": 1}))
    assert dataset.classes == ("a", "b", "c")
    assert dataset.splits["train"].labels.tolist() == [0, 0, 2, 2]
    assert dataset.splits["val"].labels.tolist() == [1, 2]
    found = {(p.kind, p.where, p.fatal): p.reason for p in dataset.problems}
    assert set(found) == {("untrained-class", "pets/train", True), ("missing-class", "pets/val", False)}
    assert "'b'" in found["untrained-class", "pets/train", True]


def test_an_empty_class_folder_is_named(make_folder: MakeFolder) -> None:
    root = make_folder({"train/a": 3, "train/b": 3, "train/c": 0})
    dataset = open_dataset(root)
    assert dataset.classes == ("a", "b", "c")
    assert [(p.kind, p.where, p.fatal) for p in dataset.problems] == [("empty-class", str(root / "train" / "c"), False)]


def test_clutter_is_neither_class_nor_image(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 3, "b": 3, ".git": 1, "__MACOSX": 1, "@eaDir": 1, "a/.cache": 1})
    for name in ("a/.DS_Store", "a/Thumbs.db", "a/desktop.ini", "b/._0.png", "Thumbs.db"):
        (root / name).write_bytes(b"x")
    dataset = open_dataset(root)
    assert dataset.classes == ("a", "b")
    assert len(dataset) == 6
    assert dataset.problems == ()


def test_files_of_other_kinds_are_ignored_and_counted(make_folder: MakeFolder) -> None:
    root = make_folder({"train/a": 3, "train/b": 3, "masks": 0})
    for name in ("a/note.txt", "a/list.txt", "b/raw.npz"):
        (root / "train" / name).write_text("x")
    (root / "train" / "loose.PNG").write_bytes((root / "train" / "a" / "0.png").read_bytes())
    dataset = open_dataset(root)
    assert len(dataset) == 6
    reasons = [p.reason for p in dataset.problems if p.kind == "ignored"]
    assert any("3 files have no image extension (2 .txt, 1 .npz)" in reason for reason in reasons)
    assert any("1 images are in no class folder" in reason for reason in reasons)
    assert any(p.where == str(root / "masks") for p in dataset.problems)
    assert not any(p.fatal for p in dataset.problems)


def test_folders_within_a_class_and_links_in_circles(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 1, "a/more/deep": 2, "b": 2})
    (root / "a" / "more" / "back").symlink_to(root / "a", target_is_directory=True)
    dataset = open_dataset(root, val_fraction=0)
    assert dataset.splits["train"].labels.tolist() == [0, 0, 0, 1, 1]


def test_class_names_are_sorted_by_code_point(make_folder: MakeFolder) -> None:
    assert open_dataset(make_folder({"2": 1, "10": 1, "Zoo": 1, "ant": 1, "École": 1})).classes == (
        "10",
        "2",
        "Zoo",
        "ant",
        "École",
    )


def test_a_class_may_be_called_test(make_folder: MakeFolder) -> None:
    assert open_dataset(make_folder({"control": 2, "test": 2})).classes == ("control", "test")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "is empty; expected"),
        ({"train": 0}, "must have a folder per class"),
        ({"a": 3}, "2 classes or more; .* has only 'a'"),
        ({"train/a": 0, "train/b": 0}, "has 2 empty class folders"),
        ({"inner/train/a": 1, "inner/train/b": 1}, "try .*inner"),
    ],
)
def test_layouts_that_cannot_be_used(make_folder: MakeFolder, counts: dict[str, int], message: str) -> None:
    root = make_folder({**counts, ".hidden": 0})
    with pytest.raises(DataError, match=message):
        open_dataset(root)


def test_images_without_class_folders(make_folder: MakeFolder) -> None:
    root = make_folder({"flat": 3}) / "flat"
    with pytest.raises(DataError, match="holds 3 images and no class folders"):
        open_dataset(root)


@pytest.mark.parametrize("folders", [{"images": 3}, {"train": 3, "test": 2}, {}])
def test_a_table_beside_images_is_offered(make_folder: MakeFolder, folders: dict[str, int]) -> None:
    root = make_folder({**folders, ".hidden": 1})
    (root / ".hidden" / "0.png").rename(root / "loose.png")
    if not folders:
        (root / "loose.png").unlink()
    for name in ("labels.csv", "more.TSV", "._labels.csv"):
        (root / name).write_text("path,label\n")
    with pytest.raises(DataError, match=f"pass the table .*: {root}/labels.csv or {root}/more.TSV$") as caught:
        open_dataset(root)
    assert "\n" not in str(caught.value)


def test_paths_that_are_not_there(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 1, "b": 1})
    with pytest.raises(DataError, match=r"does not exist; did you mean pets\?"):
        open_dataset(root.with_name("petz"))
    with pytest.raises(DataError, match="does not exist either"):
        open_dataset(root / "no" / "where")
    with pytest.raises(DataError, match="is a file; pass the folder"):
        open_dataset(root / "a" / "0.png")
    with pytest.raises(DataError, match="val_fraction"):
        open_dataset(root, val_fraction=1)


def test_a_folder_that_may_not_be_read(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scandir = make_folder({"a": 1, "b": 1}), os.scandir

    def guarded(path: str) -> object:  # permissions themselves mean nothing to root
        if str(path) == str(root / "b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(DataError, match=f"{root / 'b'}: Permission denied; check its permissions"):
        open_dataset(root)


def test_names_are_pickled_as_one_buffer(make_folder: MakeFolder) -> None:
    images = open_dataset(make_folder({"a": 100, "b": 100}), val_fraction=0).splits["train"]
    content = pickle.dumps(images)
    assert len(content) < 200 * (len("a/10.png") + 3 * 8) + 2000
    copy = pickle.loads(content)
    assert [copy.name(i) for i in range(200)] == [images.name(i) for i in range(200)]


def test_real_folders(shared_data: Path) -> None:
    ants = open_dataset(shared_data / "hymenoptera256")
    assert ants.classes == ("ants", "bees")
    assert len(ants) == 397
    assert not ants.preprocessing_hint.uniform
    cifar = open_dataset(shared_data / "cifar10_png")
    assert {split: len(images) for split, images in cifar.splits.items()} == {"train": 2700, "val": 300, "test": 1000}
    assert (np.bincount(cifar.splits["val"].labels) == 30).all()
    assert cifar.preprocessing_hint.size == (32, 32)


def test_an_image_that_links_put_into_two_places_is_noted(make_folder: Callable[[dict[str, int]], Path]) -> None:
    root = make_folder({"train/cat": 2, "train/dog": 2, "val/cat": 1, "val/dog": 1})
    (root / "train" / "dog" / "same.png").symlink_to(root / "val" / "cat" / "0.png")
    (root / "train" / "dog" / "self.png").symlink_to("self.png")
    problems = [problem for problem in open_dataset(root).problems if problem.kind == "linked-twice"]
    assert len(problems) == 1
    assert "train/dog/same.png" in problems[0].reason
    assert "val/cat/0.png" in problems[0].reason


def test_folders_of_runs_and_models_are_no_data(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 2, "b": 2})
    for files, what in ((("args.yaml", "resolved.yaml"), "a run"), (("config.json", "model.safetensors"), "a model")):
        for file in files:
            (root / file).write_text("")
        with pytest.raises(DataError, match=f"^data must be images; .* is the folder of {what}; pass "):
            open_dataset(root)
        (root / files[0]).unlink()
        assert open_dataset(root).classes == ("a", "b")


def test_a_folder_of_runs_is_no_data(make_folder: MakeFolder) -> None:
    root = make_folder({"first/plots": 2, "second/plots": 2})
    (root / "second" / "args.yaml").write_text("")
    with pytest.raises(DataError, match="holds folders of runs, such as second; pass a folder of images"):
        open_dataset(root)


def test_folders_inside_classes_that_may_be_the_classes_are_noted(make_folder: MakeFolder) -> None:
    root = make_folder({"a/x": 1, "a/y": 1, "b/x": 2, "c": 1, "d/x": 2})
    problems = open_dataset(root, val_fraction=0).problems
    assert [(problem.kind, Path(problem.where).name) for problem in problems] == [("nested", "a")]
    assert "folders of their own, x and y, and all of one class" in problems[0].reason


def test_a_share_for_validation_that_is_not_used_is_noted(make_folder: MakeFolder) -> None:
    root = make_folder({"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1})
    assert kinds(open_dataset(root)) == kinds(open_dataset(root, val_fraction=0)) == []
    (problem,) = open_dataset(root, val_fraction=0.3).problems
    assert problem.reason == "val_fraction=0.3 changes nothing: there is a split for validation"


def test_a_class_that_looks_like_several_labels_is_noted(make_folder: MakeFolder) -> None:
    (problem,) = open_dataset(make_folder({"a": 2, "a|b": 2}), val_fraction=0).problems
    assert (problem.kind, problem.reason) == (
        "several-labels",
        "every image has one label, so these are classes of their own: a|b",
    )


def test_class_names_are_text(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 2, "b": 2})
    os.rename(root / "a", os.fsencode(root) + b"/\xff")
    with pytest.raises(DataError, match=r"a class name must be UTF-8 text; got '\\udcff'; rename the class"):
        open_dataset(root)


def test_class_names_are_those_of_other_locales(make_folder: MakeFolder) -> None:
    """In an ASCII locale, Python reads the bytes of names as surrogates."""
    root = make_folder({"日本": 2, "ä": 2})
    code = f"from resnets.data.open import open_dataset; print(ascii(open_dataset({str(root)!r}).classes))"
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == ascii(("ä", "日本")), done.stderr


def test_a_data_set_whose_name_is_no_text_is_trained_on(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"a": 12, "b": 12})
    other = os.path.join(os.fsencode(tmp_path), b"da\xffta")
    os.rename(root, other)
    os.rename(other + b"/a/0.png", other + b"/a/\xfe.png")
    assert open_dataset(os.fsdecode(other)).name == "da?ta"
    options: dict[str, Any] = {"depths": (1, 1, 1), "widths": (8, 8, 8), "stem_width": 8, "epochs": 1}
    run = train(os.fsdecode(other), output=str(tmp_path / "runs"), name="run", quiet=True, **options)
    assert run.evaluation is not None
