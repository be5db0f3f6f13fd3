"""WebDataset shards: written with the standard library, indexed by resnets, and damaged in many ways."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resnets.data.check import check, skip_undecodable
from resnets.data.dataset import ImageSet
from resnets.data.open import open_dataset
from resnets.data.sources import webdataset
from resnets.data.sources.tar_index import TarError, read_members
from resnets.errors import DataError, ImageError

Files = dict[str, bytes]


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (6, 5), shade).save(buffer, "PNG")
    return buffer.getvalue()


def tar(files: Files, form: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def sample(number: int, label: Any) -> Files:
    return {f"{number:04d}.png": png(number), f"{number:04d}.cls": str(label).encode()}


def samples(numbers: range, classes: int = 2) -> Files:
    return {name: content for n in numbers for name, content in sample(n, n % classes).items()}


def shades(images: ImageSet) -> list[int]:
    return [int(images.image(i, "L")[0, 0, 0]) for i in range(len(images))]


FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
NAMES = st.text(st.sampled_from("abc/é.0 "), min_size=1, max_size=230).filter(
    lambda name: all(part.strip() for part in name.split("/")) and not name.endswith("/")
)


@given(files=st.dictionaries(NAMES, st.binary(max_size=1500), max_size=6), form=st.sampled_from(FORMATS[1:]))
def test_the_walk_finds_what_the_standard_library_wrote(files: Files, form: int) -> None:
    content = tar(files, form)
    found = {m.name.decode(): content[m.offset : m.offset + m.size] for m in read_members(content)}
    assert found == files


def test_the_prefix_of_a_posix_name() -> None:
    name = "/".join(["folder"] * 20) + "/image.png"
    assert [m.name.decode() for m in read_members(tar({name: b"x"}))] == [name]


def test_links_and_folders_are_passed_over() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for kind, name in ((tarfile.DIRTYPE, "a"), (tarfile.SYMTYPE, "a/x.png"), (tarfile.REGTYPE, "a/y.png")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "y.png"
            archive.addfile(info)
    assert [m.name for m in read_members(buffer.getvalue())] == [b"a/y.png"]


def test_sizes_beyond_octal_digits() -> None:
    header = bytearray(tar({"a.bin": b"x" * 700}))
    header[124:136] = (0x80 << 88 | 700).to_bytes(12, "big")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header[:512]):06o}\0 ".encode()
    assert next(read_members(bytes(header)))[1:] == (512, 700)


def test_an_archive_truncated_anywhere_is_an_error() -> None:
    content = tar(samples(range(3)), tarfile.PAX_FORMAT)
    end = max(m.offset + -(-m.size // 512) * 512 for m in read_members(content))
    for length in [*range(0, end, 97), end]:
        with pytest.raises(TarError):
            list(read_members(content[:length]))
    assert len(list(read_members(content[: end + 512]))) == 6
    damaged = bytearray(content)
    damaged[3] ^= 1
    with pytest.raises(TarError, match="no tar archive"):
        list(read_members(bytes(damaged)))


@pytest.mark.parametrize("form", FORMATS)
def test_shards_splits_and_names(tmp_path: Path, form: int) -> None:
    (tmp_path / "train-000000.tar").write_bytes(tar(samples(range(5)), form))
    (tmp_path / "train-000001.tar").write_bytes(tar(samples(range(5, 8)), form))
    (tmp_path / "val-000000.tar").write_bytes(tar(samples(range(8, 10)), form))
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("0", "1")
    assert {split: shades(images) for split, images in dataset.splits.items()} == {
        "train": list(range(8)),
        "val": [8, 9],
    }
    train = dataset.splits["train"]
    assert train.labels.tolist() == [0, 1] * 4
    assert train.name(6) == f"{tmp_path / 'train-000001.tar'}#0006"
    assert train.subset([6, 0]).image(0, "L")[0, 0, 0] == 6
    assert dataset.problems == ()


def test_split_folders(tmp_path: Path) -> None:
    for split, numbers in (("train", range(4)), ("test", range(4, 6))):
        (tmp_path / split).mkdir()
        (tmp_path / split / "0.tar").write_bytes(tar(samples(numbers)))
    dataset = open_dataset(tmp_path, val_fraction=0)
    assert {split: len(images) for split, images in dataset.splits.items()} == {"train": 4, "test": 2}


def test_a_pattern(tmp_path: Path) -> None:
    for number in range(8, 12):
        (tmp_path / f"s-{number:03d}.tar").write_bytes(tar(samples(range(number, number + 2))))
    dataset = open_dataset(str(tmp_path / "s-{009..011}.tar"), val_fraction=0)
    assert shades(dataset.splits["train"]) == [9, 10, 10, 11, 11, 12]
    assert dataset.name == tmp_path.name
    assert len(open_dataset(tmp_path / "s-{008,011}.tar", val_fraction=0)) == 4
    with pytest.raises(DataError, match=r"s-012\.tar does not; correct the pattern"):
        open_dataset(tmp_path / "s-{008..012}.tar")
    (tmp_path / "s-009.tar").unlink()
    (problem,) = open_dataset(tmp_path, val_fraction=0).problems
    assert (problem.kind, problem.reason) == ("missing-shard", "1 of 4 shards are missing, the first is number 9")


def test_labels_in_json_groups_and_other_files(tmp_path: Path) -> None:
    files: Files = {"readme": b"x", "._junk.png": b"x"}
    for number, (label, group) in enumerate([("cat", "p"), ("dog", 7), ("cat", None), ("dog", 7)]):
        key = f"./in.side/{number}"
        files |= {
            f"{key}.json": json.dumps({"class": label, "group": group}).encode(),
            f"{key}.mask.png": b"no",
            f"{key}.PNG": png(number),
        }
    (tmp_path / "all.tar").write_bytes(tar(files))
    dataset = open_dataset(tmp_path / "all.tar", val_fraction=0)
    train = dataset.splits["train"]
    assert (dataset.name, dataset.classes) == ("all", ("cat", "dog"))
    assert train.labels.tolist() == [0, 1, 0, 1]
    assert shades(train) == [0, 1, 2, 3]
    assert train.name(1).endswith("all.tar#in.side/1")
    assert train.groups is not None
    assert train.groups[1] == train.groups[3]
    assert len(set(train.groups)) == 3
    held = open_dataset(tmp_path / "all.tar", val_fraction=0.4)
    assert not set(held.splits["train"].groups) & set(held.splits["val"].groups)  # type: ignore[arg-type]


def test_names_of_classes(tmp_path: Path) -> None:
    (tmp_path / "train-0.tar").write_bytes(tar(samples(range(4))))
    (tmp_path / "classes.txt").write_text("ant\nbee\n\n")
    dataset = open_dataset(tmp_path, val_fraction=0)
    assert dataset.classes == ("ant", "bee")
    assert dataset.splits["train"].labels.tolist() == [0, 1, 0, 1]
    (tmp_path / "train-0.tar").write_bytes(tar(sample(0, "bee") | sample(1, "ant")))
    assert open_dataset(tmp_path, val_fraction=0).splits["train"].labels.tolist() == [1, 0]
    (tmp_path / "train-0.tar").write_bytes(tar(sample(0, "bee") | sample(1, 2)))
    with pytest.raises(DataError, match=r"among the 2 classes of .*classes\.txt; got '2'"):
        open_dataset(tmp_path)


def test_samples_that_lack_something(tmp_path: Path) -> None:
    files = {**samples(range(4)), "4.png": png(4), "5.cls": b"1", "6.txt": b"x"}
    (tmp_path / "a.tar").write_bytes(tar(files))
    dataset = open_dataset(tmp_path, val_fraction=0)
    assert len(dataset) == 4
    assert [(p.kind, p.reason.split(",")[0]) for p in dataset.problems] == [
        ("unlabelled", "1 samples have no label (.cls"),
        ("ignored", "1 samples have a label and no image"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"hello" * 300, "it is no tar archive"),
        (tar(samples(range(2)))[:1000], "it is truncated"),
        (gzip.compress(tar(samples(range(2)))), "is compressed; unpack it to .tar"),
        (
            tar({"a.png": png(0), "a.jpg": png(0), "a.cls": b"1"}),
            r"must have one image; .*x\.tar#a has \.png and \.jpg; give each its own name",
        ),
        (
            tar({"a.png": png(0), "b.png": png(0), "a.cls": b"1"}),
            r"must be neighbours; those of .*x\.tar#a are not; write the shard",
        ),
        (tar({"a.png": png(0), "a.json": b"[1"}), r"^a label must be .*x\.tar#a cannot be read; correct it"),
        (tar({"a.png": png(0), "a.json": b"[1]"}), r"must be an object; that of .*x\.tar#a is not"),
        (tar({"a.png": png(0), "a.json": b'{"label": [1]}'}), r"a whole number or a text; .*x\.tar#a has \[1\]"),
        (tar({"a.png": png(0), "a.cls": b" "}), r"must not be empty; that of .*x\.tar#a is; fill it in"),
        (tar({"a.png": png(0), "a.cls": b"\xff"}), r"x\.tar#a cannot be read"),
        (tar({"a.png": png(0)}), "have none; check their files"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # a compressed file holds the time
)
def test_shards_that_cannot_be_used(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar.zst"])
def test_compressed_shards(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(tar(samples(range(2)))))
    for data in (tmp_path / name, tmp_path):
        with pytest.raises(DataError, match=r"shards must be uncompressed.*unpack it to \.tar"):
            open_dataset(data)


def test_an_archive_beside_class_folders_is_not_the_data(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(png(1))
    (tmp_path / "download.tar").write_bytes(tar(samples(range(4))))
    assert open_dataset(tmp_path, val_fraction=0).classes == ("a", "b")


def test_broken_images_are_quarantined_by_shard_and_key(tmp_path: Path) -> None:
    files = samples(range(6))
    files["0003.png"] = files["0003.png"][:50]
    path = tmp_path / "train-0.tar"
    path.write_bytes(tar(files))
    dataset = open_dataset(tmp_path, val_fraction=0)
    problems = check(dataset, workers=1)
    assert [problem.where for problem in problems] == [f"{path}#0003"]
    sound = skip_undecodable(dataset, problems, tmp_path / "quarantine.txt")
    assert shades(sound.splits["train"]) == [0, 1, 2, 4, 5]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ImageError, match=r"train-0\.tar#0005: the shard was truncated after"):
        dataset.splits["train"].read(5)
    path.unlink()
    with pytest.raises(ImageError, match=r"#0000: No such file"):
        dataset.splits["train"].read(0)


def test_a_read_that_stops_early_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(size if size is None or size < 0 else min(size, 20))

    (tmp_path / "train-0.tar").write_bytes(tar(samples(range(4))))
    train = open_dataset(tmp_path, val_fraction=0).splits["train"]
    monkeypatch.setattr(webdataset, "open", lambda path, *_, **__: Slow(path), raising=False)
    assert [train.read(i) for i in range(4)] == [png(i) for i in range(4)]
    (tmp_path / "train-0.tar").write_bytes((tmp_path / "train-0.tar").read_bytes()[:540])
    with pytest.raises(ImageError, match="the shard was truncated after"):
        train.read(0)


def test_a_large_index_is_numbers_and_one_buffer(tmp_path: Path) -> None:
    """One shard under twenty names."""
    (tmp_path / "train-0.tar").write_bytes(tar({n: c[:1] for n, c in samples(range(250)).items()} | {"z.png": b"x"}))
    for number in range(1, 20):
        (tmp_path / f"train-{number}.tar").symlink_to(tmp_path / "train-0.tar")
    images = open_dataset(tmp_path, val_fraction=0).splits["train"]
    count = 250 * 20
    assert len(images) == count
    content = pickle.dumps(images)
    assert len(content) < count * (30 + len("0000")) + 4000
    copy = pickle.loads(content)
    assert copy.name(count - 1) == f"{tmp_path / 'train-9.tar'}#0249"
    assert np.array_equal(copy.labels, images.labels)
    assert copy.read(count - 1) == images.read(count - 1)


def test_a_pattern_over_folders(tmp_path: Path) -> None:
    for split, numbers in (("train", range(4)), ("val", range(4, 6))):
        (tmp_path / split).mkdir()
        (tmp_path / split / "x-0.tar").write_bytes(tar(samples(numbers)))
    dataset = open_dataset(tmp_path / "{train,val}" / "x-{0..0}.tar")
    assert {split: shades(images) for split, images in dataset.splits.items()} == {"train": [0, 1, 2, 3], "val": [4, 5]}
