"""Tables, shards and folders that are damaged or made to do harm."""

from __future__ import annotations

import io
import os
import tarfile
from typing import Any

from PIL import Image

from withstands_cases.case import SMALL, Group, nothing, photographs

DATA_SETS = Group("Data sets")


@DATA_SETS.case("a WebDataset shard with a negative size", "resnets data check x.tar", "size|damaged|tar")
def negative_size() -> None:
    write_tar("-0000000001\0")


@DATA_SETS.case("a WebDataset shard whose size is no number", "resnets data check x.tar", "size|damaged|tar")
def odd_size() -> None:
    write_tar("size        ")


def write_tar(size: str) -> None:
    """A shard whose first member states `size`."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as file:
        member = tarfile.TarInfo("0.png")
        member.size = 4
        file.addfile(member, io.BytesIO(b"\x89PNG"))
    changed = bytearray(content.getvalue())
    changed[124:136] = size.encode().ljust(12)[:12]
    changed[148:156] = b" " * 8
    changed[148:156] = f"{sum(changed[:512]):06o}\0 ".encode()
    with open("x.tar", "wb") as file_:
        file_.write(changed)


@DATA_SETS.case("a Parquet file of 2 kB that declares 50,000 images", "resnets data check x.parquet", "rows")
def rows() -> None:
    import pyarrow
    from pyarrow import parquet

    png = io.BytesIO()
    Image.new("L", (6, 5)).save(png, "PNG")
    parquet.write_table(pyarrow.table({"image": [png.getvalue()] * 50_000, "label": [0, 1] * 25_000}), "x.parquet")


@DATA_SETS.case("a Parquet file of 61 kB whose labels take 40 GB", "resnets data check x.parquet", "at most 4,096")
def label_bomb() -> None:
    import pyarrow as pa
    from pyarrow import parquet

    def repeated(indices: list[int], values: list[Any]) -> Any:
        return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(values))

    labels = repeated([0, 1] * 20_000, ["a" * 10**6, "b" * 10**6])
    table = pa.table({"image": repeated([0] * 40_000, [os.urandom(60_000)]), "label": labels})
    parquet.write_table(table, "x.parquet", compression="zstd")


@DATA_SETS.case("a table whose second line has 100 million commas", "resnets data check x.csv", "line 2 has")
def long_line() -> None:
    with open("x.csv", "w") as file:
        file.write("path,label\n" + "," * 10**8)


@DATA_SETS.case("a recipe that is a named pipe", "resnets train images --recipe x.yaml", "not a regular file")
def recipe_pipe() -> None:
    photographs()
    os.mkfifo("x.yaml")


@DATA_SETS.case("a class folder whose name is not UTF-8", "resnets data check images", "must be UTF-8 text")
def no_text() -> None:
    photographs()
    os.rename(b"images/a", b"images/\xff")


@DATA_SETS.case(
    "class names in Chinese, in an ASCII locale",
    f"LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 resnets train images {SMALL}",
)
def chinese() -> None:
    photographs(classes=("猫", "狗"))


@DATA_SETS.case("a class name that would clear the terminal", f"resnets train images {SMALL}")
def escapes() -> None:
    photographs(classes=("a", "\x1b[2Jb"))


@DATA_SETS.case("the folder of a run", f"resnets train digits {SMALL} --epochs 1; resnets train runs/r", "of a run")
def run_as_data() -> None:
    nothing()
