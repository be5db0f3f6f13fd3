"""Hostile inputs and faults: how each is made, the command that meets it, and what the command must do.

Every function makes its files in the current folder, which is empty; numbers are bytes unless they say otherwise.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import resnets
from resnets.arch.variants import get_config
from resnets.nn.model import build_model

__all__ = ["CASES", "Case"]

SMALL = "--model resnet8_cifar --epochs 2 --amp off --workers 0 --output runs --name r"


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Args:
        group: heading of its table.
        what: the input or fault.
        command: line of bash that meets it.
        code: exit code that is right.
        says: regular expression for the last line on stderr; empty for a command that must succeed.
        make: writes the files.
    """

    group: str
    what: str
    command: str
    code: int
    says: str
    make: Callable[[], None]


CASES: list[Case] = []
Maker = Callable[[Callable[[], None]], Callable[[], None]]


def case(group: str, what: str, command: str, says: str = "", code: int | None = None) -> Maker:
    """Register the function as the `make` of a case."""

    def register(make: Callable[[], None]) -> Callable[[], None]:
        CASES.append(Case(group, what, command, (1 if says else 0) if code is None else code, says, make))
        return make

    return register


def nothing() -> None:
    """No files."""


def photographs(folder: str = "images", classes: tuple[str, ...] = ("a", "b"), count: int = 12) -> None:
    """Small images of one colour per class."""
    for shade, name in enumerate(classes):
        os.makedirs(f"{folder}/{name}")
        for number in range(count):
            Image.new("RGB", (16, 16), (60 * shade, 9 * number, 90)).save(f"{folder}/{name}/{number}.png")


PREDICT = "resnets predict {} --model starter"


@case("Images", "a PNG of 1 x 20,000 pixels, 5 GB when scaled to 224 pixels", PREDICT.format("thin.png"))
def thin() -> None:
    Image.new("RGB", (1, 20_000), (200, 10, 10)).save("thin.png")


@case("Images", "a WebP of 12,000 x 12,000 pixels in 20 kB", PREDICT.format("bomb.webp"), "limit")
def webp_bomb() -> None:
    Image.new("RGB", (12_000, 12_000)).save("bomb.webp", quality=1)


@case("Images", "a palette PNG with transparency, 11,000 x 11,000", PREDICT.format("bomb.png"), "the limit is")
def palette_bomb() -> None:
    Image.new("P", (11_000, 11_000)).save("bomb.png", transparency=0)


@case("Images", "a JPEG that is cut in half", PREDICT.format("cut.jpg"), "cut.jpg")
def truncated() -> None:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(content, "JPEG")
    with open("cut.jpg", "wb") as file:
        file.write(content.getvalue()[: len(content.getvalue()) // 2])


@case("Images", "a named pipe called photo.jpg, which nobody writes to", PREDICT.format("photo.jpg"), "photo.jpg")
def pipe() -> None:
    os.mkfifo("photo.jpg")


@case("Images", "a text and an empty file with names of images", PREDICT.format("text.jpg empty.png"), "is empty")
def no_images() -> None:
    for name, content in (("text.jpg", "hello"), ("empty.png", "")):
        with open(name, "w") as file:
            file.write(content)


@case("Images", "a folder that holds a link to itself", PREDICT.format("images"))
def loop() -> None:
    photographs()
    os.symlink("../a", "images/a/again")


@case("Images", "a file of 20 GB with the name of an image", PREDICT.format("huge.png"), "more than 256 MiB")
def huge_file() -> None:
    with open("huge.png", "wb") as file:
        file.truncate(20 * 2**30)


@case("Images", "a TIFF of 16 x 16 pixels in a tile of 16,384 x 32,768", PREDICT.format("tile.tif"), "the limit is")
def large_tile() -> None:
    tags = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 277: 1, 322: 16_384, 323: 32_768, 324: 8, 325: 100}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    with open("tile.tif", "wb") as file:
        file.write(b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(200))


@case("Images", "a progressive JPEG of 4,000 x 4,000 pixels with 20,000 scans", PREDICT.format("scans.jpg"), "scans of")
def many_scans() -> None:
    file = io.BytesIO()
    Image.new("L", (4_000, 4_000), 128).save(file, "JPEG", progressive=True, quality=1)
    content = file.getvalue()
    scan = content[content.rindex(b"\xff\xda") : -2]
    with open("scans.jpg", "wb") as out:
        out.write(content[:-2] + 20_000 * scan + content[-2:])


@case("Data sets", "a WebDataset shard with a negative size", "resnets data check x.tar", "size|damaged|tar")
def negative_size() -> None:
    write_tar("-0000000001\0")


@case("Data sets", "a WebDataset shard whose size is no number", "resnets data check x.tar", "size|damaged|tar")
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


@case("Data sets", "a Parquet file of 2 kB that declares 50,000 images", "resnets data check x.parquet", "rows")
def rows() -> None:
    import pyarrow
    from pyarrow import parquet

    png = io.BytesIO()
    Image.new("L", (6, 5)).save(png, "PNG")
    parquet.write_table(pyarrow.table({"image": [png.getvalue()] * 50_000, "label": [0, 1] * 25_000}), "x.parquet")


@case("Data sets", "a Parquet file of 61 kB whose labels take 40 GB", "resnets data check x.parquet", "at most 4,096")
def label_bomb() -> None:
    import pyarrow as pa
    from pyarrow import parquet

    def repeated(indices: list[int], values: list[Any]) -> Any:
        return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(values))

    labels = repeated([0, 1] * 20_000, ["a" * 10**6, "b" * 10**6])
    table = pa.table({"image": repeated([0] * 40_000, [os.urandom(60_000)]), "label": labels})
    parquet.write_table(table, "x.parquet", compression="zstd")


@case("Data sets", "a table whose second line has 100 million commas", "resnets data check x.csv", "line 2 has")
def long_line() -> None:
    with open("x.csv", "w") as file:
        file.write("path,label\n" + "," * 10**8)


@case("Data sets", "a recipe that is a named pipe", "resnets train images --recipe x.yaml", "not a regular file")
def recipe_pipe() -> None:
    photographs()
    os.mkfifo("x.yaml")


@case("Data sets", "a class folder whose name is not UTF-8", "resnets data check images", "must be UTF-8 text")
def no_text() -> None:
    photographs()
    os.rename(b"images/a", b"images/\xff")


@case(
    "Data sets", "class names in Chinese, in an ASCII locale",
    f"LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 resnets train images {SMALL}",
)  # fmt: skip
def chinese() -> None:
    photographs(classes=("猫", "狗"))


@case("Data sets", "a class name that would clear the terminal", f"resnets train images {SMALL}")
def escapes() -> None:
    photographs(classes=("a", "\x1b[2Jb"))


@case("Data sets", "the folder of a run", f"resnets train digits {SMALL} --epochs 1; resnets train runs/r", "of a run")
def run_as_data() -> None:
    nothing()


CONVERT = "resnets convert {} --output out"


@case("Weights files", "a pickle that would run a command", CONVERT.format("w.pth"), "never allowed|posix|system")
def code() -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return os.system, ("touch attacked",)

    torch.save({"a": Attack()}, "w.pth")


@case("Weights files", "a state_dict that refers to itself", CONVERT.format("w.pth"), "refers to itself")
def cycle() -> None:
    state: dict[str, Any] = {"a": torch.zeros(1)}
    state["state_dict"] = state
    torch.save(state, "w.pth")


@case("Weights files", "a pickle that allocates 10 GB", CONVERT.format("w.pth"), "may allocate any size")
def allocation() -> None:
    class Large:
        def __reduce__(self) -> Any:
            return bytearray, (10**10,)

    with open("w.pth", "wb") as file:
        file.write(pickle.dumps({"a": Large()}, 2))


@case("Weights files", "an .npz whose header unpacks to 100 MB", CONVERT.format("w.npz"), "has a header of")
def npz_bomb() -> None:
    with zipfile.ZipFile("w.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", b"\x93NUMPY\x02\x00" + (10**8).to_bytes(4, "little") + b" " * 10**8)


@case(
    "Weights files", "a .keras archive that unpacks a thousandfold", CONVERT.format("w.keras"), "larger than their file"
)
def keras_bomb() -> None:
    with zipfile.ZipFile("w.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(400_000_000))


@case("Weights files", "an HDF5 file with a link to another one", CONVERT.format("w.h5"), "in another")
def outside() -> None:
    import h5py

    with h5py.File("w.h5", "w") as file:
        file["layers"] = h5py.ExternalLink("/etc/secret.h5", "layers")


@case("Weights files", "two bytes that crash ONNX parsers", CONVERT.format("w.onnx"), "w.onnx")
def onnx() -> None:
    with open("w.onnx", "wb") as file:
        file.write(b"\x08\x08")


@case("Weights files", "a safetensors header of 2^60 bytes", CONVERT.format("w.safetensors"), "w.safetensors")
def header() -> None:
    with open("w.safetensors", "wb") as file:
        file.write((2**60).to_bytes(8, "little") + b"{}")


@case("Weights files", "a weight that is NaN", CONVERT.format("w.safetensors --variant resnet8_cifar"), "conv1.weight")
def nan() -> None:
    state = build_model(get_config("resnet8_cifar")).state_dict()
    state["conv1.weight"][0] = float("nan")
    save_file(state, "w.safetensors")


@case("Weights files", "a model folder for images of 1e30 pixels", CONVERT.format("m"), "size")
def large_size() -> None:
    resnets.load("starter").save("m")
    with open("m/config.json") as file:
        config = json.load(file)
    config["resnets"]["preprocessing"]["size"] = [1e30, 1e30]
    with open("m/config.json", "w") as file:
        json.dump(config, file)


TRAIN = f"resnets train images {SMALL}"


@case(
    "Faults", "SIGKILL in mid-run, then --resume",
    f"{TRAIN} --epochs 40 & sleep 7; kill -9 $!; wait; resnets train --resume runs/r",
)  # fmt: skip
def killed() -> None:
    photographs(count=60)


@case(
    "Faults", "a damaged results.csv, then --resume",
    f"{TRAIN} --epochs 400 & sleep 7; kill $!; wait; head -c 99 /dev/urandom > runs/r/results.csv;"
    " resnets train --resume runs/r",
    "results.csv",
)  # fmt: skip
def damaged_results() -> None:
    photographs(count=60)


@case(
    "Faults", "--resume of a finished run whose checkpoints were deleted",
    f"{TRAIN} --epochs 2; rm runs/r/checkpoints/step*; resnets train --resume runs/r",
    "resumed from a checkpoint",
)  # fmt: skip
def no_checkpoints() -> None:
    photographs()


@case(
    "Faults", "a damaged best model, then --resume",
    f"{TRAIN} --epochs 400 & sleep 7; kill $!; wait; echo '{{' > runs/r/best/config.json;"
    " resnets train --resume runs/r",
    "with its best model",
)  # fmt: skip
def damaged_best() -> None:
    photographs()


@case("Faults", "a full disk under the log", f"{TRAIN} --epochs 2 2>/dev/full")
def full_log() -> None:
    photographs()


@case("Faults", "a full disk under stdout", "resnets models >/dev/full", "standard output")
def full_stdout() -> None:
    nothing()


@case(
    "Faults", "the run folder is deleted in mid-run",
    f"{TRAIN} --epochs 4000 & sleep 7; rm -rf runs; wait $!",
    "runs/r",
)  # fmt: skip
def deleted_run() -> None:
    photographs(count=60)


@case(
    "Faults", "an image vanishes in mid-run",
    f"resnets train images {SMALL} --img-size 96 --epochs 400 & sleep 9; rm images/a/*; wait $!",
    "images/a|No such file|cannot be",
)  # fmt: skip
def vanished() -> None:
    photographs(count=60)


@case(
    "Faults", "a data worker is killed in mid-run",
    "resnets train images --model resnet8_cifar --img-size 128 --epochs 8 --workers 2 --set scale=0.2,1 --amp off & "
    "sleep 8; kill -9 $(pgrep -P $! | tail -1); wait $!",
)  # fmt: skip
def killed_worker() -> None:
    photographs(count=60)


@case("Faults", "20 open files at most", "ulimit -n 20; resnets predict images --model starter")
def few_files() -> None:
    photographs()


@case("Faults", "stdout is closed", "resnets models >&-")
def closed_stdout() -> None:
    nothing()


@case("Faults", "the reader of stdout goes away", "resnets models | head -1")
def broken_pipe() -> None:
    nothing()


@case("Faults", "a disk without room for the model", f"ulimit -f 40; {TRAIN}", "runs/r|space|large|File")
def full_disk() -> None:
    photographs()
