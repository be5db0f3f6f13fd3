"""Shards whose headers lie: sizes that are negative, no numbers or enormous, and rows that the file cannot hold."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from resnets.data.open import open_dataset
from resnets.data.sources.build import missing_shards
from resnets.data.sources.tar_index import BLOCK, TarError, read_members
from resnets.data.sources.webdataset import expand_braces
from resnets.errors import DataError, ImageError


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(file, "PNG")
    return file.getvalue()


def header(size: bytes, kind: bytes = b"0") -> bytes:
    block = bytearray(BLOCK)
    block[:5], block[124:136], block[156:157] = b"a.png", size.ljust(12, b"\0"), kind
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


@pytest.mark.parametrize("size", [b"-1", b"-1000", b"12x", b"9", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"+7"])
def test_a_damaged_size_in_a_tar_header_is_an_error(size: bytes) -> None:
    with pytest.raises(TarError, match=r"damaged|truncated"):
        list(read_members(header(b"5") + b"hello".ljust(BLOCK, b"\0") + header(size) + bytes(2 * BLOCK)))


@pytest.mark.parametrize("record", [b"11 size=-5\n", b"11 size=xy\n", b"99999999999999999999999 size=1\n", b"-1 a=b\n"])
def test_a_damaged_extended_header_is_an_error(record: bytes) -> None:
    extended = header(f"{len(record):o}".encode(), b"x") + record.ljust(BLOCK, b"\0")
    with pytest.raises(TarError, match="damaged"):
        list(read_members(extended + header(b"0") + bytes(2 * BLOCK)))


def test_a_pattern_of_shards_is_bounded() -> None:
    with pytest.raises(DataError, match=r"at most 1,000,000 shards; .* names 100,000,000,000"):
        expand_braces(Path("x-{0..99999999999}.tar"))


def test_a_pattern_beyond_every_integer_is_bounded() -> None:
    with pytest.raises(DataError, match="at most 1,000,000 shards"):
        expand_braces(Path(f"x-{{0..{10**30}}}.tar"))


def test_a_series_of_shards_is_counted_and_not_listed() -> None:
    (problem,) = missing_shards([Path("x-00000-of-9999999999999.parquet")], r"(.+)-(\d+)-of-(\d+)")
    assert "9999999999998 of 9999999999999 shards are missing, the first is number 1" in problem.reason


def test_a_label_file_is_bounded(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train-000.tar", "w") as shard:
        for name, content in (("a.png", png()), ("a.cls", b"1" * (2**20 + 1))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    with pytest.raises(DataError, match=r"at most 1,048,576 bytes; .*a\.cls has 1,048,577"):
        open_dataset(tmp_path / "train-000.tar")


def test_more_rows_than_a_parquet_file_can_hold_are_refused(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = 50_000
    table = pyarrow.table({"image": [png()] * rows, "label": [0, 1] * (rows // 2)})
    parquet.write_table(table, tmp_path / "train.parquet")
    assert (tmp_path / "train.parquet").stat().st_size < rows
    with pytest.raises(DataError, match=r"an image in each row; .* bytes for 50,000 rows"):
        open_dataset(tmp_path / "train.parquet")


def test_a_repeated_image_is_kept_once_and_a_row_group_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    image = png() + bytes(200_000)  # repeated 500 times: 100 MB if every row had its own
    table = pyarrow.table({"image": [image] * 500, "label": [0, 1] * 250})
    parquet.write_table(table, tmp_path / "train.parquet", compression="none")
    images = open_dataset(tmp_path / "train.parquet", val_fraction=0).splits["train"]
    assert images.read(7) == image
    assert images.source.cached_bytes < 2**20  # type: ignore[attr-defined]
    monkeypatch.setattr("resnets.data.sources.parquet.MAX_GROUP_BYTES", 100_000)
    images = open_dataset(tmp_path / "train.parquet", val_fraction=0).splits["train"]
    with pytest.raises(ImageError, match="its row group holds"):
        images.read(7)
