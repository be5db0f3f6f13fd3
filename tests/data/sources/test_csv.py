"""Tables of images: columns, delimiters, splits, and lines that are named when they are wrong."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnets.data.check import check, skip_undecodable
from resnets.data.dataset import ImageSet
from resnets.data.name_table import NameTable
from resnets.data.open import open_dataset
from resnets.data.sources.build import sort_classes
from resnets.data.sources.csv import CsvSource, open_csv
from resnets.errors import DataError, ImageError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table's path; 0.png to 10.png are beside it, grey of shade 0 to 10."""
    for shade in range(11):
        Image.new("L", (6, 5), shade).save(tmp_path / f"{shade}.png")
    return tmp_path / "data.csv"


def shades(images: ImageSet) -> list[int]:
    return [int(images.image(i, "L")[0, 0, 0]) for i in range(len(images))]


def test_paths_and_labels(table: Path) -> None:
    table.write_text(f"path,label\n3.png,dog\n{table.parent}/1.png,cat\n./2.png,dog\n4.png,cat\n")
    dataset = open_dataset(table, val_fraction=0)
    train = dataset.splits["train"]
    assert (dataset.name, dataset.classes, list(dataset.splits)) == ("data", ("cat", "dog"), ["train"])
    assert train.labels.tolist() == [1, 0, 1, 0]
    assert shades(train) == [3, 1, 2, 4]
    assert train.name(0) == str(table.parent / "3.png")
    assert train.name(1) == f"{table.parent}/1.png"
    assert train.groups is None
    assert dataset.preprocessing_hint.size == (5, 6)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_delimiters_quotes_and_byte_order_marks(table: Path, delimiter: str, bom: str) -> None:
    (table.parent / "a,b;c.png").write_bytes((table.parent / "7.png").read_bytes())
    rows = [["Label", " path ", "note"], ['"big, ""red"" one"', '"a,b;c.png"', "x"], ["École", "1.png", '"two\nlines"']]
    rows += [[], ["École", "2.png", ""]]
    table.write_text(bom + "\r\n".join(delimiter.join(row) for row in rows), "utf-8", newline="")
    dataset = open_dataset(table, val_fraction=0)
    assert dataset.classes == ('big, "red" one', "École")
    train = dataset.splits["train"]
    assert shades(train) == [7, 1, 2]
    assert isinstance(train.source, CsvSource)
    assert [train.source.line(i) for i in range(3)] == [f"{table} line {n}" for n in (2, 4, 6)]


def test_a_split_column_and_groups(table: Path) -> None:
    table.write_text(
        "path,label,group,split\n0.png,a,p1,train\n1.png,b,p2,training\n2.png,a,p1,valid\n3.png,b,,val\n4.png,a,,TEST\n"
    )
    dataset = open_dataset(table)
    assert {split: shades(images) for split, images in dataset.splits.items()} == {
        "train": [0, 1],
        "val": [2, 3],
        "test": [4],
    }
    groups = {split: images.groups for split, images in dataset.splits.items() if images.groups is not None}
    assert groups["train"][0] == groups["val"][0]
    assert len({*groups["train"], *groups["val"], *groups["test"]}) == 4  # without a group: one by itself
    found = {problem.kind: problem for problem in dataset.problems}
    assert set(found) == {"shared-groups", "missing-class"}
    assert "1 of 2 groups (1 images) are also in train" in found["shared-groups"].reason
    assert found["shared-groups"].where == "data/val"
    assert not found["shared-groups"].fatal


def test_a_folder_of_tables(table: Path) -> None:
    root = table.parent
    (root / "train.csv").write_text("path,label\n0.png,a\n1.png,b\n2.png,a\n")
    (root / "val.csv").write_text("path;label\n3.png;b\n4.png;c\n")
    dataset = open_dataset(root)
    assert dataset.classes == ("a", "b", "c")
    assert {split: shades(images) for split, images in dataset.splits.items()} == {"train": [0, 1, 2], "val": [3, 4]}
    val = dataset.splits["val"].source
    assert isinstance(val, CsvSource)
    assert val.line(4) == f"{root / 'val.csv'} line 3"
    assert {(p.kind, p.where.split("/")[1]) for p in dataset.problems} == {
        ("missing-class", "val"),
        ("untrained-class", "train"),
    }
    (root / "val.csv").write_text("path,label,split\n3.png,b,val\n")
    with pytest.raises(DataError, match="has both; remove the column"):
        open_dataset(root)


def test_a_table_beside_class_folders_is_not_the_data(table: Path) -> None:
    for name in ("train/a", "train/b"):
        (table.parent / name).mkdir(parents=True)
        Image.new("L", (6, 5)).save(table.parent / name / "x.png")
    (table.parent / "train.csv").write_text("id,species\n1,a\n")
    assert open_dataset(table.parent, val_fraction=0).splits["train"].source.name(0).endswith("train/a/x.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1 has nothing"),
        (
            "photo,label\n0.png,a\n",
            r"must have one column 'path'; .*data\.csv line 1 has photo, label; rename 'photo'|see the",
        ),
        ("path,class\n0.png,a\n", r"must have one column 'label'; .*data\.csv line 1 has path, class"),
        ("path,label,label\n0.png,a,b\n", "must have one column 'label'"),
        ("path,label\n", "has no rows"),
        ("path,label\n0.png,a\n1.png,\n", r"data\.csv line 3 has no label; fill it in"),
        ("path,label\n ,a\n", r"data\.csv line 2 has no path"),
        ("path,label\n0.png,a\n1.png,b,c\n", r"as the header, 2; .*line 3 has 3; quote"),
        ("path,label\n0.png,a\n1.png\n", "line 3 has 1"),
        ('path,label\n0.png,a\n1.png,"b\n', r"a table must be CSV; .*line 3: unexpected end of data"),
        ("path,label,split\n0.png,a,train\n1.png,b,holdout\n", r"line 3 has 'holdout'; correct it"),
        (
            "path,label\n0.png,a\n1.png,b\n0.png,b\n",
            r"line 4 gives .*0\.png label 'b', .* line 2 gives 'a'; remove one",
        ),
        ("path,label,split\n0.png,a,train\n0.png,a,val\n", r"must have one split; .* line 3 gives .*'val'"),
        (
            "path,label,group\n1.png,b,z\n0.png,a,x\n0.png,a,y\n",
            r"must have one group; .* line 4 gives .*0\.png group 'y', .* line 3 gives 'x'; remove one",
        ),
        ("path,label,group\n0.png,a,x\n0.png,a,\n", r"line 3 gives .* group '', .* line 2 gives 'x'"),
        ("path,label\n0.png,a\n1.png,b\nsub/../0.png,b\n", r"line 4 gives .* label 'b', .* line 2 gives 'a'"),
        (
            "path,label\nno.png,a\nnor.png,b\n",
            r"data\.csv line 2 has .*no\.png, which does not, nor do others; write paths",
        ),
        ("path,label\n0.png,a\n1.png,a\n", "2 classes or more"),
    ],
)
def test_tables_that_cannot_be_used(table: Path, content: str, message: str) -> None:
    table.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(table)
    assert "\n" not in str(caught.value)


def test_other_encodings_are_an_error(table: Path) -> None:
    for encoding in ("latin-1", "utf-16"):
        table.write_text("path,label\n0.png,schön\n1.png,b\n", encoding)
        with pytest.raises(DataError, match=r"must be UTF-8|must have one column"):
            open_dataset(table)


def test_a_image_that_is_named_again_is_taken_once(table: Path) -> None:
    table.write_text("path,label\n0.png,a\n1.png,b\n0.png,a\n2.png,b\n0.png,a\n")
    dataset = open_dataset(table, val_fraction=0)
    assert shades(dataset.splits["train"]) == [0, 1, 2]
    assert [(p.kind, p.reason[:6]) for p in dataset.problems] == [("ignored", "2 rows")]


def test_a_image_that_is_named_again_without_a_group_is_taken_once(table: Path) -> None:
    table.write_text("path,label,group\n0.png,a,\n1.png,b,\n0.png,a,\n")
    train = open_dataset(table, val_fraction=0).splits["train"]
    assert shades(train) == [0, 1]
    assert train.groups is not None
    assert len(set(train.groups)) == 2


def test_spellings_of_one_path_are_one_image(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (table.parent / "sub").mkdir()
    spellings = ["0.png", f"{table.parent}/0.png", "sub/../0.png", "./0.png", ".//0.png"]
    table.write_text("path,label\n" + "".join(f"{path},a\n" for path in spellings) + "1.png,b\n")
    monkeypatch.chdir(table.parent)
    for data in (table, Path(table.name)):
        dataset = open_dataset(data, val_fraction=0)
        assert shades(dataset.splits["train"]) == [0, 1]
        assert [(p.kind, p.reason[:6]) for p in dataset.problems] == [("ignored", "4 rows")]
    table.write_text(f"path,label,split\n0.png,a,train\n1.png,b,train\n{table.parent}/0.png,a,val\n")
    with pytest.raises(DataError, match=r"an image must have one split; .* line 4 gives"):
        open_dataset(table)


def test_a_path_with_a_nul_is_a_broken_image(table: Path) -> None:
    table.write_text("path,label\n0.png,a\n1.png,b\n2\0.png,b\n")
    dataset = open_dataset(table, val_fraction=0)
    (problem,) = check(dataset, workers=1)
    assert (problem.kind, problem.where) == ("undecodable", f"{table.parent}/2\0.png")
    assert problem.reason.endswith(f"null byte (in {table} line 4)")


def test_missing_and_broken_images_are_named_with_their_line_and_can_be_left_out(table: Path, tmp_path: Path) -> None:
    table.write_text("path,label\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(8)))
    (table.parent / "3.png").unlink()
    (table.parent / "4.png").write_bytes(b"no image")
    dataset = open_dataset(table, val_fraction=0)
    with pytest.raises(ImageError, match=r"3\.png: No such file or directory \(in .*data\.csv line 5\)"):
        dataset.splits["train"].image(3, "RGB")
    problems = check(dataset, workers=1)
    assert [problem.where for problem in problems] == [str(table.parent / f"{i}.png") for i in (3, 4)]
    sound = skip_undecodable(dataset, problems, tmp_path / "quarantine.txt")
    assert shades(sound.splits["train"]) == [0, 1, 2, 5, 6, 7]


def test_groups_are_never_divided_and_folds_pool_train_and_val(table: Path) -> None:
    rows = [f"{i}.png,{'ab'[i % 2]},{'xyz'[i % 3]}" for i in range(10)]
    table.write_text("path,label,group\n" + "\n".join(rows))
    dataset = open_dataset(table, val_fraction=0.3)
    train, val = dataset.splits["train"], dataset.splits["val"]
    assert not set(train.groups) & set(val.groups)  # type: ignore[arg-type]
    assert len(train) + len(val) == 10
    held = [shades(open_dataset(table, folds=3, fold=fold).splits["val"]) for fold in range(3)]
    assert sorted(np.concatenate(held)) == list(range(10))
    with pytest.raises(DataError, match="fold 0 to folds - 1; got fold"):
        open_dataset(table, folds=3, fold=3)

    (table.parent / "train.csv").write_text("path,label\n" + "".join(f"{i}.png,{i % 2}\n" for i in range(6)))
    (table.parent / "val.csv").write_text("path,label\n" + "".join(f"{i}.png,{i % 2}\n" for i in range(6, 10)))
    (table.parent / "test.csv").write_text("path,label\n10.png,0\n")
    pooled = [open_dataset(table.parent, folds=2, fold=fold) for fold in range(2)]
    assert sorted(np.concatenate([shades(dataset.splits["val"]) for dataset in pooled])) == list(range(10))
    assert [list(dataset.splits) for dataset in pooled] == [["train", "val", "test"]] * 2


def test_classes_that_are_numbers_are_sorted_as_such() -> None:
    assert sort_classes(["10", "2", "-1"]) == ["-1", "2", "10"]
    assert sort_classes(["10", "2", "x"]) == ["10", "2", "x"]


def test_names_repeat() -> None:
    names = NameTable([b"a", b"", b"b", b"a", b"", b"a", b"ab"])
    assert [names[row] for row in range(len(names))] == [b"a", b"", b"b", b"a", b"", b"a", b"ab"]
    assert list(names.repeats()) == [(3, 0), (4, 1), (5, 0)]


def test_a_large_table_is_numbers_and_one_buffer(table: Path) -> None:
    count, name = 200_000, "images/000000.png"
    (table.parent / "images").mkdir()
    (table.parent / "images" / "000000.png").write_bytes((table.parent / "0.png").read_bytes())
    with open(table, "w") as file:
        file.write("path,label\n")
        file.writelines(f"images/{i:06d}.png,{i % 100}\n" for i in range(count))
    images = open_dataset(table, val_fraction=0).splits["train"]
    assert len(images) == count
    content = pickle.dumps(images)
    assert len(content) < count * (30 + len(name))
    copy = pickle.loads(content)
    assert copy.name(199_999) == str(table.parent / "images" / "199999.png")
    assert np.array_equal(copy.labels, images.labels)


@pytest.mark.parametrize("column", ["path", "file", "filename", "image", "filepath", "Image"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_usual_names_of_the_column_of_paths(table: Path, column: str, delimiter: str) -> None:
    table.write_text("\n".join(delimiter.join(row) for row in (("label", column), ("a", "3.png"), ("b", "4.png"))))
    assert shades(open_dataset(table, val_fraction=0).splits["train"]) == [3, 4]


def test_two_columns_of_paths_are_an_error(table: Path) -> None:
    table.write_text("file,image,label\n3.png,4.png,a\n")
    with pytest.raises(DataError, match=r"one column 'path'; .* has file, image, label"):
        open_dataset(table)


def test_a_line_that_would_fill_memory_is_refused(table: Path) -> None:
    for field in ("," * 10**6, "a" * 10**6):
        table.write_text(f"path,label\n{field}\n")
        with pytest.raises(DataError, match=r"line 2 has 65,536 characters"):
            open_dataset(table)


def test_labels_of_thousands_of_digits_are_texts() -> None:
    long = "1" * 5000
    assert sort_classes([long, "2"]) == [long, "2"]


def test_a_row_of_many_lines_is_bounded(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(open_csv.__globals__, "MAX_ROW", 100)
    table.write_text("path,label\n" + "0.png,a\n1.png,b\n" * 20)
    open_dataset(table, val_fraction=0)
    table.write_text("path,label\n0.png,a\n" + '"a\nb",' * 100)
    with pytest.raises(DataError, match=r"at most 100 characters; .*check its quotes"):
        open_dataset(table)
