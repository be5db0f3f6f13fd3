"""Packed data sets: decoded, resized images in memory-mapped files.

A packed folder holds `packed.json` (manifest), `index.npy` (one record per image), `names.bin` (concatenated names) and
shards of concatenated (H, W, C) pixels. `resnets data pack` writes it.

Legend: M images in the folder, H height, W width, C channels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resnets.data.dataset import Dataset
from resnets.data.decode.image import Pixels
from resnets.data.sources.build import build_dataset
from resnets.errors import DataError, ImageError
from resnets.small_files import read_small_bytes, read_small_text, require_regular_file

__all__ = ["INDEX", "MANIFEST", "NAMES", "RECORD", "SCHEMA", "PackedSource", "is_packed", "open_packed", "shard_name"]

SCHEMA = 1
MANIFEST, INDEX, NAMES = "packed.json", "index.npy", "names.bin"
RECORD = np.dtype([
    ("shard", "<u4"), ("offset", "<u8"),  # bytes from the shard's beginning
    ("height", "<u4"), ("width", "<u4"), ("channels", "<u4"),
    ("split", "<u4"), ("label", "<i8"), ("group", "<i8"),  # split: index into SPLITS
    ("name_end", "<u8"),  # bytes from the beginning of names.bin
])  # fmt: skip

MAX_NAMES = 2**32  # bytes
_DTYPES = {"uint8": "|u1", "uint16": "<u2", "float32": "<f4"}


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.bin"


def is_packed(root: Path) -> bool:
    """Whether a folder is a packed data set."""
    return (root / MANIFEST).is_file()


class PackedSource:
    """Images of a packed folder. Pickled as its path alone; workers map the files again.

    Raises:
        DataError: the folder is incomplete, or of another schema.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.manifest = _read_manifest(root)
        try:
            require_regular_file(root / INDEX)
            self.index = np.lib.format.open_memmap(root / INDEX, mode="r")  # (M,) RECORD; np.load opens other files too
            self._names = read_small_bytes(root / NAMES, MAX_NAMES)
            self._dtype = np.dtype(_DTYPES[self.manifest["dtype"]])
            sizes = [int(size) for size in self.manifest["shards"]]
            shards = [root / shard_name(number) for number in range(len(sizes))]
            for shard in shards:
                require_regular_file(shard)
            found = [shard.stat().st_size for shard in shards]
        except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
            raise _incomplete(root, f"{type(error).__name__}: {error}") from error
        if self.index.dtype != RECORD or len(self.index) != self.manifest.get("images") or found != sizes:
            raise _incomplete(root, "its files differ in size from packed.json")
        self._shards = [np.memmap(shard, np.uint8, "r") for shard in shards]

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(Path(state["root"]))  # type: ignore[misc]

    def name(self, row: int) -> str:
        """`folder#name`, the name that the image had in its source."""
        start = int(self.index["name_end"][row - 1]) if row else 0
        return f"{self.root}#{os.fsdecode(self._names[start : int(self.index['name_end'][row])])}"

    def read(self, row: int) -> bytes | Pixels:
        """(H, W, C), a read-only view of the mapped file; raises ImageError."""
        record = self.index[row]
        shape = int(record["height"]), int(record["width"]), int(record["channels"])
        start, count = int(record["offset"]), shape[0] * shape[1] * shape[2] * self._dtype.itemsize
        shard = int(record["shard"])
        if not (shard < len(self._shards) and count and start + count <= len(self._shards[shard])):
            raise ImageError(self.name(row), "its pixels lie outside the files of the packed folder")
        return np.asarray(self._shards[shard][start : start + count]).view(self._dtype).reshape(shape)


def open_packed(root: Path) -> Dataset:
    """Open a packed folder, with the splits, classes and groups of the data set that was packed.

    Raises:
        DataError: the folder is incomplete, or of another schema.
    """
    source = PackedSource(root)
    try:
        name, classes = str(source.manifest["name"]), source.manifest["classes"]
    except KeyError as error:
        raise _incomplete(root, f"{MANIFEST} lacks {error}") from error
    if not isinstance(classes, list) or not all(isinstance(item, str) for item in classes):
        raise _incomplete(root, f"the classes in {MANIFEST} are no list of names")
    labels, splits, groups = (np.array(source.index[field], np.int64) for field in ("label", "split", "group"))
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(classes)):
        raise _incomplete(root, f"its index has labels that {MANIFEST} does not name")
    return build_dataset(source, name, classes, labels, splits, groups if source.manifest.get("groups") else None)


def _read_manifest(root: Path) -> Mapping[str, Any]:
    try:
        manifest = json.loads(read_small_text(root / MANIFEST))
    except (OSError, ValueError, RecursionError) as error:
        raise _incomplete(root, f"{MANIFEST}: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        schema = manifest.get("schema") if isinstance(manifest, dict) else None
        raise DataError(f"a packed folder must have schema {SCHEMA}; {root} has {schema}; pack it again")
    return manifest


def _incomplete(root: Path, reason: str) -> DataError:
    return DataError(f"a packed folder must be complete; {root}: {reason}; pack it again")
