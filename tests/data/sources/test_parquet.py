"""Parquet shards, written here as Hugging Face writes them, and the real ones."""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnets.data.open import open_dataset
from resnets.data.sources import parquet
from resnets.errors import DataError, ImageError, MissingExtraError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (6, 5), shade).save(buffer, "PNG")
    return buffer.getvalue()


def write(
    path: Path, labels: list[Any], *, names: list[str] | None = None, plain: bool = False, group: int = 2
) -> None:
    """A shard whose image in row i is grey of shade i."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [png(i) for i in range(len(labels))]
    column = images if plain else [{"bytes": image, "path": None} for image in images]
    table = pa.table({"image": column, "label": labels})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=group)


def test_shards_splits_and_names(tmp_path: Path) -> None:
    names = ["cat", "dog"]
    write(tmp_path / "data" / "train-00000-of-00002.parquet", [0, 1, 1], names=names)
    write(tmp_path / "data" / "train-00001-of-00002.parquet", [1, 0, 0, 1, 0], names=names)
    write(tmp_path / "data" / "validation-00000-of-00001.parquet", [0, 1], names=names)
    write(tmp_path / "data" / "test-00000-of-00001.parquet", [-1, 0, 1], names=names)
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert {split: images.labels.tolist() for split, images in dataset.splits.items()} == {
        "train": [0, 1, 1, 1, 0, 0, 1, 0],
        "val": [0, 1],
        "test": [0, 1],
    }
    train = dataset.splits["train"]
    assert train.name(6) == f"{tmp_path / 'data' / 'train-00001-of-00002.parquet'}#3"
    assert [int(train.image(i, "L")[0, 0, 0]) for i in (7, 0, 6, 3, 2)] == [4, 0, 3, 0, 2]
    assert dataset.splits["test"].name(0).endswith("#1")
    assert [p.kind for p in dataset.problems] == ["unlabelled"]
    assert (dataset.preprocessing_hint.channels, dataset.preprocessing_hint.size) == ("L", (5, 6))


@pytest.mark.parametrize("plain", [True, False])
def test_a_single_file_without_metadata(tmp_path: Path, plain: bool) -> None:
    write(tmp_path / "all.parquet", [7, 30, 7, 30], plain=plain)
    dataset = open_dataset(tmp_path / "all.parquet", val_fraction=0)
    assert dataset.name == "all"
    assert dataset.classes == ("7", "30")
    assert dataset.splits["train"].labels.tolist() == [0, 1, 0, 1]
    assert dataset.splits["train"].image(3, "L")[0, 0, 0] == 3


def test_labels_that_are_words_and_splits_that_are_folders(tmp_path: Path) -> None:
    write(tmp_path / "train" / "0000.parquet", ["b", "a", "a"])
    write(tmp_path / "test" / "0000.parquet", ["b", "a"])
    dataset = open_dataset(tmp_path, val_fraction=0)
    assert dataset.classes == ("a", "b")
    assert dataset.splits["train"].labels.tolist() == [1, 0, 0]
    assert dataset.splits["test"].labels.tolist() == [1, 0]


def test_missing_shards_are_noticed(tmp_path: Path) -> None:
    write(tmp_path / "train-00001-of-00003.parquet", [0, 1, 0, 1])
    (problem,) = open_dataset(tmp_path).problems
    assert problem.kind == "missing-shard"
    assert "2 of 3 shards are missing, the first is number 0" in problem.reason


def test_the_cache_forgets_and_pickles_without_its_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "train.parquet", [0, 1] * 20)
    monkeypatch.setattr(parquet, "CACHE_BYTES", 300)
    train = open_dataset(tmp_path, val_fraction=0).splits["train"]
    shades = [int(train.image(i, "L")[0, 0, 0]) for i in [*range(40), *reversed(range(40))]]
    assert shades == [*range(40), *reversed(range(40))]
    source: Any = train.source
    assert 0 < source.cached_bytes <= 300
    copy = pickle.loads(pickle.dumps(train))
    assert copy.source.cached_bytes == 0
    assert copy.image(9, "L")[0, 0, 0] == 9


def test_rows_without_bytes_are_image_errors(tmp_path: Path) -> None:
    table = pa.table({"image": [{"bytes": png(1), "path": None}, {"bytes": None, "path": "x.png"}], "label": [0, 1]})
    pq.write_table(table, tmp_path / "train.parquet")
    train = open_dataset(tmp_path, val_fraction=0).splits["train"]
    with pytest.raises(ImageError, match=r"train\.parquet#1: the row holds no image bytes"):
        train.image(1, "RGB")


def test_shards_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no, it is not")
    with pytest.raises(DataError, match=r"a shard must be a Parquet file; .*a\.parquet"):
        open_dataset(tmp_path)
    pq.write_table(pa.table({"image": [png(0)], "kind": [0]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"label column .* has image, kind"):
        open_dataset(tmp_path)
    pq.write_table(pa.table({"photo": [png(0)], "label": [0]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"image column .* has photo, label"):
        open_dataset(tmp_path)
    write(tmp_path / "a.parquet", [0, 5], names=["x", "y"])
    with pytest.raises(DataError, match=r"labels must be among the 2 classes of .*; got 5"):
        open_dataset(tmp_path)
    write(tmp_path / "a.parquet", [0, 0])
    with pytest.raises(DataError, match="2 classes or more"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["0.png", "1.png"], r"must be stored as bytes; .*a\.parquet has 'image' of type string; write"),
        ([{"path": "0.png"}, {"path": "1.png"}], r"has 'image' of type struct<path: string>"),
        ([{"bytes": "x", "path": "y"}] * 2, r"has 'image' of type struct<bytes: string, path: string>"),
        ([[png(0)], [png(1)]], r"has 'image' of type list<.*: binary>"),
    ],
)
def test_images_that_are_no_bytes(tmp_path: Path, column: list[Any], message: str) -> None:
    pq.write_table(pa.table({"image": column, "label": [0, 1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(tmp_path)
    assert "\n" not in str(caught.value)


def test_shards_that_keep_images_differently(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [0, 1])
    write(tmp_path / "b.parquet", [0, 1], plain=True)
    with pytest.raises(DataError, match=r"b\.parquet has \('image', .*, others \('image\.bytes', .*; write them alike"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("kind", ["large_binary", "binary_view", "dictionary"])
def test_other_ways_of_keeping_bytes(tmp_path: Path, kind: str) -> None:
    types = {"dictionary": lambda: pa.dictionary(pa.int32(), pa.binary())}
    column = pa.array([png(0), png(1)], pa.binary()).cast(types.get(kind, getattr(pa, kind))())
    pq.write_table(pa.table({"image": column, "label": [0, 1]}), tmp_path / "a.parquet")
    train = open_dataset(tmp_path, val_fraction=0).splits["train"]
    assert [train.image(i, "L")[0, 0, 0] for i in range(2)] == [0, 1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 1], [1]], r"must have one label, .* has 'label' of type list<.*: int64>; write one value per row"),
        ([{"a": 1}, {"a": 2}], r"has 'label' of type struct<a: int64>"),
        (["a", "b", ""], r"label must not be empty; that of .*a\.parquet#2 is; fill it in, or make it null"),
        (["a", " ", "b"], r"not be empty; that of .*a\.parquet#1 is"),
        ([b"a", b"\xff"], r"must be UTF-8 text; that of .*a\.parquet#1 is not"),
    ],
)
def test_labels_that_cannot_be_used(tmp_path: Path, labels: list[Any], message: str) -> None:
    write(tmp_path / "a.parquet", labels)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "classes", "indices"),
    [
        ([b"b", "é".encode(), b"b"], ("b", "é"), [0, 1, 0]),
        (["b", None, "a"], ("a", "b"), [1, 0]),
        ([0.5, float("nan"), None, float("nan"), 1.5], ("0.5", "1.5"), [0, 1]),
        (["10", "2", "10"], ("2", "10"), [1, 0, 1]),
    ],
)
def test_labels_of_other_types(tmp_path: Path, labels: list[Any], classes: tuple[str, ...], indices: list[int]) -> None:
    write(tmp_path / "a.parquet", labels)
    dataset = open_dataset(tmp_path, val_fraction=0)
    assert dataset.classes == classes
    assert dataset.splits["train"].labels.tolist() == indices
    reasons = [problem.reason for problem in dataset.problems]
    left_out = len(labels) - len(indices)
    assert reasons == ([f"{left_out} rows have no label, left out"] if left_out else [])


def test_a_number_and_its_text_are_one_class(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [1, 2])
    write(tmp_path / "b.parquet", ["1", "2"])
    dataset = open_dataset(tmp_path, val_fraction=0)
    assert dataset.classes == ("1", "2")
    assert dataset.splits["train"].labels.tolist() == [0, 1, 0, 1]


def test_a_column_of_groups(tmp_path: Path) -> None:
    for split, groups in (("train", ["a", "b", "a", None, "b", None]), ("test", ["b", "c", "c", "c", "c", "d"])):
        table = pa.table({"image": [png(i) for i in range(6)], "label": [0, 1] * 3, "group": groups})
        pq.write_table(table, tmp_path / f"{split}.parquet")
    dataset = open_dataset(tmp_path, val_fraction=0)
    train, test = dataset.splits["train"].groups, dataset.splits["test"].groups
    assert train is not None
    assert test is not None
    assert (train[0], train[1]) == (train[2], train[4])
    assert len(set(train)) == 4
    assert test[0] == train[1]
    (problem,) = dataset.problems
    assert (problem.kind, problem.where.split("/")[1]) == ("shared-groups", "test")
    assert problem.reason.startswith("1 of 3 groups (1 images)")
    (tmp_path / "test.parquet").unlink()
    table = pa.table({"image": [png(0), png(1)], "label": [0, 1], "group": ["", ""]})
    pq.write_table(table, tmp_path / "val.parquet")
    assert len(set(open_dataset(tmp_path).splits["val"].groups)) == 2  # type: ignore[arg-type]
    (tmp_path / "val.parquet").unlink()
    held = open_dataset(tmp_path, val_fraction=0.3)
    assert not set(held.splits["train"].groups) & set(held.splits["val"].groups)  # type: ignore[arg-type]


def test_a_missing_extra_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.parquet", [0, 1])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'resnets\[data\]'"):
        open_dataset(tmp_path)


def test_the_real_shards(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "cifar10_parquet")
    assert dataset.classes[:3] == ("airplane", "automobile", "bird")
    assert len(dataset.classes) == 10
    assert {split: len(images) for split, images in dataset.splits.items()} == {"train": 45_000, "val": 5_000}
    assert (np.bincount(dataset.splits["val"].labels) == 500).all()
    assert dataset.splits["train"].image(0, "RGB").shape == (32, 32, 3)
    assert dataset.problems == ()


def write_columns(path: Path, columns: dict[str, Any], metadata: str | None = None, **options: Any) -> Path:
    """A shard with these columns and Hugging Face metadata."""
    table = pa.table(columns)
    if metadata is not None:
        table = table.replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, path, **options)
    return path


def features(columns: Any) -> str:
    return json.dumps({"info": {"features": columns}})


@pytest.mark.parametrize(
    "metadata",
    [
        features([1]), features({"label": {"_type": "ClassLabel", "feature": "x"}}), "[" * 100_000,
        features({"photo": {"_type": "Image"}, "label": {"_type": "ClassLabel"}}), '{"info": 3}',
    ],
)  # fmt: skip
def test_damaged_metadata_are_ignored(metadata: str, tmp_path: Path) -> None:
    path = write_columns(tmp_path / "a.parquet", {"image": [png(0), png(1)], "label": ["a", "b"]}, metadata)
    assert open_dataset(path, val_fraction=0).classes == ("a", "b")


def test_a_class_that_is_named_twice_is_an_error_before_training(tmp_path: Path) -> None:
    names = features({"label": {"_type": "ClassLabel", "names": ["a", "a", "b"]}})
    path = write_columns(tmp_path / "a.parquet", {"image": [png(0), png(1)], "label": [0, 2]}, names)
    with pytest.raises(DataError, match="names 'a' twice"):
        open_dataset(path)


def test_columns_of_one_name_and_labels_of_other_types(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([png(0)]), pa.array([png(1)]), pa.array(["a"])], ["image", "image", "label"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="'image' twice"):
        open_dataset(tmp_path / "a.parquet")
    durations = pa.array([1, 2], pa.duration("s"))
    path = write_columns(tmp_path / "b.parquet", {"image": [png(0), png(1)], "label": durations})
    with pytest.raises(DataError, match="'label' of type duration"):
        open_dataset(path)


@pytest.mark.parametrize("column", ["label", "group"])
def test_long_labels_are_refused_before_they_fill_memory(column: str, tmp_path: Path) -> None:
    """40,000 rows of two texts of a megabyte, which a dictionary keeps once."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 20_000, pa.int32()), pa.array(["a" * 10**6, "b" * 10**6]))
    images = pa.DictionaryArray.from_arrays(pa.array([0] * 40_000, pa.int32()), pa.array([png(0) + bytes(60_000)]))
    columns = {"image": images, "label": pa.array(["x", "y"] * 20_000), column: texts}
    path = write_columns(tmp_path / "a.parquet", columns, compression="none")
    with pytest.raises(DataError, match=r"at most 4,096 bytes; .* has one of 1,000,000"):
        open_dataset(path)


def test_many_labels_are_refused_by_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.parquet", [0, 1])
    monkeypatch.setattr(parquet, "MAX_LABELS_BYTES", 3)
    with pytest.raises(DataError, match="labels are short"):
        open_dataset(tmp_path)


def test_old_row_groups_are_dropped_before_the_next_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [png(shade) + bytes(1000) for shade in range(4)]
    write_columns(tmp_path / "a.parquet", {"image": pictures, "label": [0, 1, 0, 1]}, row_group_size=1)
    source: Any = open_dataset(tmp_path, val_fraction=0).splits["train"].source
    monkeypatch.setattr(parquet, "CACHE_BYTES", 2500)
    held: list[int] = []
    opened = parquet._open_images

    def watch(*args: Any) -> Any:
        held.append(source.cached_bytes)
        return opened(*args)

    monkeypatch.setattr(parquet, "_open_images", watch)
    for row in range(4):
        source.read(row)
        assert source.cached_bytes <= 2500
    assert len(held) == 4


def test_too_little_memory_is_an_error_of_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.parquet", [0, 1])
    source: Any = open_dataset(tmp_path, val_fraction=0).splits["train"].source
    monkeypatch.setattr(parquet, "_open_images", _fail)
    with pytest.raises(ImageError, match="more memory than is free"):
        source.read(0)


def _fail(*args: object) -> None:
    raise MemoryError("malloc of size 99 failed")


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"])
def test_encodings_of_images(encoding: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"use_dictionary": False, "column_encoding": {"image": encoding}}
    columns = {"image": [png(0), png(1)], "label": ["a", "b"]}
    path = write_columns(tmp_path / "a.parquet", columns, **options)
    images = open_dataset(path, val_fraction=0).splits["train"]
    if encoding == "DELTA_BYTE_ARRAY":
        with pytest.raises(ImageError, match="encoded as DELTA_BYTE_ARRAY, which has no size"):
            images.image(0, "RGB")
    else:
        assert images.image(1, "RGB").shape[2] == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_pipes_and_folders_named_like_shards(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet" / "part-0.parquet", [0, 1])  # as Spark writes them
    os.mkfifo(tmp_path / "x.parquet")
    assert len(open_dataset(tmp_path, val_fraction=0)) == 2


def test_two_columns_of_one_path_are_refused(tmp_path: Path) -> None:
    image = pa.array([{"bytes": png(0), "path": "x"}] * 2)
    pq.write_table(pa.table({"image": image, "image.bytes": [b"x"] * 2, "label": [0, 1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"has image\.bytes twice"):
        open_dataset(tmp_path)


def test_a_shard_that_is_a_broken_link_is_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [0, 1])
    (tmp_path / "b.parquet").symlink_to(tmp_path / "gone.parquet")
    with pytest.raises(DataError, match=r"b\.parquet is a link to nothing"):
        open_dataset(tmp_path)
