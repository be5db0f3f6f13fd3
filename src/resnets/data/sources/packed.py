"""Reading a packed data set: decoded, resized images, mapped into memory and never copied.

A packed folder holds `packed.json` (what it is), `index.npy` (a record an image), `names.bin` (their names, one after
another) and shards of pixels, (H, W, C) each, one after another. `resnets data pack` writes it.

Legend: M images in the folder, H height, W width, C channels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resnets.data.dataset import SPLITS, Dataset, ImageSet
from resnets.data.decode.image import Pixels
from resnets.errors import DataError, ImageError

__all__ = ["INDEX", "MANIFEST", "NAMES", "RECORD", "SCHEMA", "PackedSource", "is_packed", "open_packed", "shard_name"]

SCHEMA = 1
MANIFEST, INDEX, NAMES = "packed.json", "index.npy", "names.bin"
RECORD = np.dtype([
    ("shard", "<u4"), ("offset", "<u8"),  # bytes from the shard's beginning
    ("height", "<u4"), ("width", "<u4"), ("channels", "<u4"),
    ("split", "<u4"), ("label", "<i8"), ("group", "<i8"),  # the split as a place in SPLITS
    ("name_end", "<u8"),  # bytes from the beginning of the names
])  # fmt: skip

_DTYPES = {"uint8": "|u1", "uint16": "<u2", "float32": "<f4"}


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.bin"


def is_packed(root: Path) -> bool:
    """Whether a folder is a packed data set."""
    return (root / MANIFEST).is_file()


class PackedSource:
    """Images of a packed folder. Pickled as its path alone: a worker maps the files anew.

    Raises:
        DataError: the folder is not whole, or of another schema.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.manifest = _read_manifest(root)
        try:
            self.index = np.load(root / INDEX, mmap_mode="r", allow_pickle=False)  # (M,) RECORD
            self._names = (root / NAMES).read_bytes()
            self._dtype = np.dtype(_DTYPES[self.manifest["dtype"]])
            sizes = [int(size) for size in self.manifest["shards"]]
            found = [(root / shard_name(number)).stat().st_size for number in range(len(sizes))]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise _broken(root, f"{type(error).__name__}: {error}") from error
        if self.index.dtype != RECORD or len(self.index) != self.manifest.get("images") or found != sizes:
            raise _broken(root, "its files have not the sizes that packed.json tells")
        self._shards = [np.memmap(root / shard_name(number), np.uint8, "r") for number in range(len(sizes))]

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(Path(state["root"]))  # type: ignore[misc]

    def name(self, row: int) -> str:
        """`folder#name`, the name that the image had in its source."""
        start = int(self.index["name_end"][row - 1]) if row else 0
        return f"{self.root}#{os.fsdecode(self._names[start : int(self.index['name_end'][row])])}"

    def read(self, row: int) -> bytes | Pixels:
        """(H, W, C), a view of the mapped file that cannot be written to; raises ImageError."""
        record = self.index[row]
        shape = int(record["height"]), int(record["width"]), int(record["channels"])
        start, count = int(record["offset"]), shape[0] * shape[1] * shape[2] * self._dtype.itemsize
        shard = int(record["shard"])
        if not (shard < len(self._shards) and count and start + count <= len(self._shards[shard])):
            raise ImageError(self.name(row), "its place in the packed folder does not exist")
        return np.asarray(self._shards[shard][start : start + count]).view(self._dtype).reshape(shape)


def open_packed(root: Path) -> Dataset:
    """The splits and classes of a packed folder, as they were in its source.

    Raises:
        DataError: the folder is not whole, or of another schema.
    """
    source = PackedSource(root)
    try:
        name, classes = str(source.manifest["name"]), tuple(str(item) for item in source.manifest["classes"])
    except (KeyError, TypeError) as error:
        raise _broken(root, f"packed.json lacks {error}") from error
    labels, of_split = np.array(source.index["label"], np.int64), np.array(source.index["split"])
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(classes)):
        raise _broken(root, "its index names classes that packed.json does not")
    splits = {}
    for number, split in enumerate(SPLITS):
        rows = np.flatnonzero(of_split == number).astype(np.int64)
        if len(rows):
            groups = np.array(source.index["group"][rows], np.int64) if source.manifest.get("groups") else None
            splits[split] = ImageSet(source=source, rows=rows, labels=labels[rows], groups=groups)
    return Dataset(name=name, classes=classes, splits=splits)


def _read_manifest(root: Path) -> Mapping[str, Any]:
    try:
        manifest = json.loads((root / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(root, f"{MANIFEST}: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        schema = manifest.get("schema") if isinstance(manifest, dict) else None
        raise DataError(f"a packed folder must have schema {SCHEMA}; {root} has {schema}; pack it again")
    return manifest


def _broken(root: Path, reason: str) -> DataError:
    return DataError(f"a packed folder must be whole; {root}: {reason}; pack it again")
