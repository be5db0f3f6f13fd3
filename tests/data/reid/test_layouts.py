"""Layouts of the public data sets, tables and folders: sets, identities and cameras; what does not fit is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnets.data.reid.dataset import ReidDataset
from resnets.data.reid.open import open_reid
from resnets.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def content(data: ReidDataset) -> dict[str, list[tuple[str, int, int | None]]]:
    """Set -> (file name, identity, camera) of each image."""
    return {
        name: [
            (Path(path).name, int(one.ids[i]), None if one.cameras is None else int(one.cameras[i]))
            for i, path in enumerate(one.paths)
        ]
        for name, one in data.sets.items()
    }


def test_market_and_duke(tmp_path: Path) -> None:
    touch(
        tmp_path, "bounding_box_train/0002_c1s1_000451_03.jpg", "query/0007_c3s1_000001_00.jpg", "query/Thumbs.db",
        "bounding_box_test/-1_c2s1_000001_00.jpg", "bounding_box_test/0000_c4s1_000001_00.jpg",
        "bounding_box_test/0007_c6_f0046182.jpg", "gt_bbox/0007_c1s1_000451_03.jpg",
    )  # fmt: skip
    data = open_reid(tmp_path)
    assert "Market-1501" in data.layout
    assert content(data) == {
        "train": [("0002_c1s1_000451_03.jpg", 2, 1)],
        "query": [("0007_c3s1_000001_00.jpg", 7, 3)],
        "gallery": [
            ("-1_c2s1_000001_00.jpg", -1, 2), ("0000_c4s1_000001_00.jpg", 0, 4), ("0007_c6_f0046182.jpg", 7, 6),
        ],
    }  # fmt: skip
    touch(tmp_path, "query/IMG_1234.jpg")
    with pytest.raises(DataError, match=r"identity and camera, as 0002_c1; .*IMG_1234\.jpg"):
        open_reid(tmp_path)


def test_veri(tmp_path: Path) -> None:
    touch(tmp_path, "image_train/0001_c001_00016450_0.jpg", "image_query/0002_c002_1_0.jpg")
    touch(tmp_path, "image_test/0002_c020_1_0.jpg")
    data = open_reid(tmp_path)
    assert data.layout == "VeRi-776"
    assert content(data)["gallery"] == [("0002_c020_1_0.jpg", 2, 20)]


def test_msmt(tmp_path: Path) -> None:
    for name, lines in {
        "train": "0000/0000_000_01_0303morning_0008_0.jpg 0\n", "val": "0001/0001_000_02_x.jpg 1\n",
        "query": "0000/0000_000_05_x.jpg 0\n\n", "gallery": "0000/0000_001_14_x.jpg 0\n",
    }.items():  # fmt: skip
        (tmp_path / f"list_{name}.txt").write_text(lines)
    data = open_reid(tmp_path)
    assert content(data)["train"] == [("0000_000_01_0303morning_0008_0.jpg", 0, 1), ("0001_000_02_x.jpg", 1, 2)]
    assert content(data)["gallery"] == [("0000_001_14_x.jpg", 0, 14)]
    assert data.sets["query"].paths == (str(tmp_path / "test" / "0000" / "0000_000_05_x.jpg"),)
    (tmp_path / "list_query.txt").write_text("only\n")
    with pytest.raises(DataError, match=r"list_query\.txt line 1 has 1 words"):
        open_reid(tmp_path)


def test_vehicleid(tmp_path: Path) -> None:
    touch(tmp_path, "image/0000001.jpg")
    lists = tmp_path / "train_test_split"
    lists.mkdir()
    (lists / "train_list.txt").write_text("0000001 7\n")
    (lists / "test_list_800.txt").write_text("0000002 8\n0000003 8\n")
    (lists / "test_list_1600.txt").write_text("0000004 9\n")
    data = open_reid(tmp_path)
    assert content(data) == {
        "train": [("0000001.jpg", 7, None)], "gallery": [("0000002.jpg", 8, None), ("0000003.jpg", 8, None)],
    }  # fmt: skip
    assert data.leave_one_out
    assert content(open_reid(tmp_path, vehicleid_size=1600))["gallery"] == [("0000004.jpg", 9, None)]
    with pytest.raises(DataError, match=r"test_list_2400\.txt"):
        open_reid(tmp_path, vehicleid_size=2400)


def test_a_folder_for_each_identity(tmp_path: Path) -> None:
    touch(tmp_path / "a", "anna/1.jpg", "bo/1.jpg", "bo/2.png", "notes.txt")
    data = open_reid(tmp_path / "a")
    assert content(data) == {"gallery": [("1.jpg", 0, None), ("1.jpg", 1, None), ("2.png", 1, None)]}
    assert data.id_names == {0: "anna", 1: "bo"}
    assert "no cameras" in data.notes[0]
    touch(tmp_path / "b", "query/anna/1.jpg", "gallery/anna/2.jpg", "gallery/bo/3.jpg", "train/carl/4.jpg")
    assert content(open_reid(tmp_path / "b")) == {
        "train": [("4.jpg", 2, None)],
        "query": [("1.jpg", 0, None)],
        "gallery": [("2.jpg", 0, None), ("3.jpg", 1, None)],
    }  # fmt: skip
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="a folder for each identity"):
        open_reid(tmp_path / "c")


def test_splits_of_class_folders_are_no_identities(tmp_path: Path) -> None:
    touch(tmp_path, "train/anna/1.jpg", "test/bo/2.jpg", "val/carl/3.jpg")
    data = open_reid(tmp_path)
    assert {part: [Path(path).name for path in images.paths] for part, images in data.sets.items()} == {
        "train": ["1.jpg"],
        "gallery": ["2.jpg"],
    }
    assert any("val" in note for note in data.notes)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables(delimiter: str, tmp_path: Path) -> None:
    lines = ["file,pid,cam,set", "a/1.jpg,x,3,query", "a/2.jpg,x,1,gallery", '"a/3.jpg",y,1,test', "a/4.jpg,z,2,train"]
    (tmp_path / "t.csv").write_text("\n".join(lines).replace(",", delimiter) + "\n")
    data = open_reid(tmp_path / "t.csv")
    assert content(data) == {
        "train": [("4.jpg", 2, 2)], "query": [("1.jpg", 0, 3)], "gallery": [("2.jpg", 0, 1), ("3.jpg", 1, 1)],
    }  # fmt: skip
    assert data.sets["query"].paths == (str(tmp_path / "a" / "1.jpg"),)


def test_numbers_of_a_table_are_kept_and_minus_one_is_junk(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,id\n1.jpg,-1\n2.jpg,0012\n3.jpg,12\n")
    assert open_reid(tmp_path / "t.csv").sets["gallery"].ids.tolist() == [0, 1, 2]  # 0012 and 12 are two names
    (tmp_path / "t.csv").write_text("path,id\n1.jpg,-1\n2.jpg,12\n")
    data = open_reid(tmp_path / "t.csv")
    assert data.sets["gallery"].ids.tolist() == [-1, 12]
    assert data.id_names == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "one column path"),
        ("path,name\n1.jpg,a\n", "one column id"),
        ("path,id,pid\n1.jpg,a,b\n", "one column id"),
        ("path,id\n1.jpg\n", "line 2 has 1"),
        ("path,id\n1.jpg,\n", "line 2 lacks one"),
        ("path,id,set\n1.jpg,a,best\n", "line 2 has 'best'"),
        ("path,id,camera\n1.jpg,a,1\n2.jpg,a,\n", "1 of 2 of t have one"),
        ("path,id\n", "has none"),
        ("path,id,set\n1.jpg,a,query\n", "queries need a gallery"),
    ],
)
def test_tables_that_cannot_be_used(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        open_reid(tmp_path / "t.csv")
    assert "\n" not in str(caught.value)


def test_missing_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_reid(tmp_path / "nothing.csv")
