"""WebDataset shards: tar archives in which a sample is files with one name, `0001.jpg` with `0001.cls` or `0001.json`.

The headers of all shards are indexed once, so any image can be read at any time: shuffling is over all images, without
a shuffle buffer. Archives must therefore be uncompressed.
"""

from __future__ import annotations

import json
import mmap
import os
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from resnets.data.dataset import Dataset, Problem
from resnets.data.decode.image import Pixels
from resnets.data.files import EXTENSIONS, is_clutter, read_remedy, subfolders
from resnets.data.name_table import NameTable
from resnets.data.sources.build import RowTable, dataset_name, missing_shards, split_of, split_of_shard
from resnets.data.sources.tar_index import BLOCK, Member, TarError, read_members
from resnets.errors import DataError, ImageError

__all__ = ["TarSource", "expand_braces", "find_tars", "open_webdataset"]

_LABEL_KEYS = ("label", "cls", "class")
_CLASS_FILES = ("classes.txt", "labels.txt")
_MAX_SHARDS = 1_000_000
_MAX_TEXT = 2**20  # bytes of a label or its JSON
_COMPRESSED = re.compile(r"\.(tgz|tbz2?|txz|tar\.[a-z0-9]+)$", re.IGNORECASE)


class TarSource:
    """Samples of several shards, numbered consecutively; shards are opened for each read, so none is kept open.

    Args:
        shards: paths.
        starts: (S + 1,) the first sample of each shard, and the number of samples.
        blocks: (N,) uint32, start of each image in blocks of 512 bytes.
        sizes: (N,) uint32, bytes of each image.
        keys: the samples' names.
    """

    def __init__(self, shards: list[str], starts: list[int], blocks: Any, sizes: Any, keys: NameTable) -> None:
        self.shards, self._starts, self._keys = shards, np.array(starts, np.int64), keys
        self._blocks, self._sizes = np.array(blocks, np.uint32), np.array(sizes, np.uint32)

    def name(self, row: int) -> str:
        """`path/shard.tar#key`."""
        return f"{self._shard(row)}#{os.fsdecode(self._keys[row])}"

    def _shard(self, row: int) -> str:
        return self.shards[int(np.searchsorted(self._starts, row, side="right")) - 1]

    def read(self, row: int) -> bytes | Pixels:
        """The encoded image; raises ImageError."""
        size = int(self._sizes[row])
        try:
            with open(self._shard(row), "rb", buffering=0) as file:
                file.seek(int(self._blocks[row]) * BLOCK)
                content = file.read(size)
                while len(content) < size and (more := file.read(size - len(content))):  # a read may return less
                    content += more
        except OSError as error:
            raise ImageError(self.name(row), error.strerror or type(error).__name__) from error
        if len(content) < size:
            raise ImageError(self.name(row), "the shard was truncated after it was opened")
        return content


def find_tars(root: Path) -> list[Path]:
    """The `.tar` files of a file, of a folder without subfolders, or of a folder of split folders without subfolders.

    Raises:
        DataError: all archives are compressed.
    """
    if root.is_file():
        files = [root]
    else:
        inside = subfolders(root)
        folders = [root / name for name in inside] or [root]
        if not all(split_of(name) and not subfolders(root / name) for name in inside):
            return []
        files = [path for folder in folders for path in sorted(folder.iterdir())]
        files = [path for path in files if path.is_file() and not is_clutter(path.name)]
        if any(path.suffix.lower() in EXTENSIONS for path in files):
            return []
    found = [path for path in files if path.suffix.lower() == ".tar"]
    compressed = [path for path in files if _COMPRESSED.search(path.name)]
    if compressed and not found:
        raise _compressed_error(compressed[0])
    return found


def _compressed_error(path: Path) -> DataError:
    return DataError(f"shards must be uncompressed, to be read in any order; {path} is compressed; unpack it to .tar")


def expand_braces(pattern: Path) -> list[Path]:
    """The shards that a pattern such as `shards-{000..009}.tar` or `{train,val}.tar` names.

    Raises:
        DataError: one of them does not exist.
    """
    match = re.search(r"\{([^{}]*)\}", str(pattern))
    if match is None:
        if _COMPRESSED.search(pattern.name):
            raise _compressed_error(pattern)
        if not pattern.is_file():
            raise DataError(f"every shard of a pattern must exist; {pattern} does not; correct the pattern or fetch it")
        return [pattern]
    span = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
    if span:
        step = 1 if int(span[1]) <= int(span[2]) else -1
        numbers = range(int(span[1]), int(span[2]) + step, step)
        # Not len(numbers), which has a limit of its own.
        if (count := abs(int(span[2]) - int(span[1])) + 1) > _MAX_SHARDS:
            raise DataError(
                f"a pattern must name at most {_MAX_SHARDS:,} shards; {pattern} names {count:,}; correct it"
            )
        words = [str(number).zfill(len(span[1])) for number in numbers]
    else:
        words = match[1].split(",")
    text = str(pattern)
    return [path for word in words for path in expand_braces(Path(text[: match.start()] + word + text[match.end() :]))]


def open_webdataset(root: Path, shards: list[Path]) -> Dataset:
    """Open shards; splits are taken from their names.

    Class names are the lines of `classes.txt` or `labels.txt` beside the shards, which labels name or, as whole
    numbers, count from 0. Without such a file they are the labels themselves.

    Raises:
        DataError: a shard is damaged, truncated or compressed, or a sample has no label that can be read.
    """
    index = _ShardIndex()
    keys = NameTable(key for shard in shards for key in index.read(shard, split_of_shard(shard, root)))
    if not len(keys):
        raise DataError(f"a data set must have images with labels; the shards of {root} have none; check their files")
    source = TarSource([str(shard) for shard in shards], [*index.starts, len(keys)], index.blocks, index.sizes, keys)
    problems = missing_shards(shards, r"(.*?)(\d+)")
    if index.unlabelled:
        reason = f"{index.unlabelled} samples have no label (.cls, .json), left out"
        problems.append(Problem(kind="unlabelled", where=str(root), reason=reason))
    if index.without_image:
        reason = f"{index.without_image} samples have a label and no image, ignored"
        problems.append(Problem(kind="ignored", where=str(root), reason=reason))
    path, class_names = _read_class_names(root.parent if root.is_file() else root)
    labels = index.rows.labels
    if class_names is not None and all(text.isdecimal() and int(text) < len(class_names) for text in labels):
        labels = list(map(int, labels))
    return index.rows.build(source, dataset_name(root), class_names, labels=labels, where=str(path), problems=problems)


class _ShardIndex:
    """Reads shards one after another; collects everything but the keys."""

    def __init__(self) -> None:
        self.rows, self.starts, self.blocks, self.sizes = RowTable(), list[int](), array("I"), array("I")
        self.unlabelled = self.without_image = 0

    def read(self, shard: Path, split: str) -> Iterator[bytes]:
        """The keys of a shard's labelled images."""
        self.starts.append(len(self.blocks))
        try:
            with open(shard, "rb") as file:
                if file.read(2) == b"\x1f\x8b":
                    raise _compressed_error(shard)
                if not os.fstat(file.fileno()).st_size:
                    raise TarError("it is empty")
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    seen: set[bytes] = set()
                    for key, files in _samples(content):
                        where = f"{shard}#{os.fsdecode(key)}"
                        if key in seen:
                            raise DataError(
                                f"the files of a sample must be neighbours; those of {where} are not; "
                                "write the shard with its files sorted by name"
                            )
                        seen.add(key)
                        if self._add(where, split, files, content):
                            yield key
        except TarError as error:
            raise DataError(
                f"a shard must be an undamaged tar archive; {shard}: {error}; download or write it again"
            ) from error
        except OSError as error:
            raise DataError(f"a shard must be readable; {shard}: {error.strerror}; {read_remedy(error)}") from error

    def _add(self, where: str, split: str, files: dict[str, Member], content: mmap.mmap) -> bool:
        """Add a sample; False if it lacks an image or a label."""
        images = [extension for extension in files if extension in EXTENSIONS]
        if len(images) > 1:
            raise DataError(
                f"a sample must have one image; {where} has {images[0]} and {images[1]}; give each its own name"
            )
        label, group = _read_label(where, {ext: files[ext] for ext in (".cls", ".json") if ext in files}, content)
        if not images or label is None:
            self.unlabelled += bool(images)
            self.without_image += label is not None
            return False
        image = files[images[0]]
        if image.offset // BLOCK >= 2**32 or image.size >= 2**32:
            raise DataError(
                f"an image must start within 2 TiB of its shard and be smaller than 4 GiB; {where} does not; "
                "write smaller shards"
            )
        self.blocks.append(image.offset // BLOCK)
        self.sizes.append(image.size)
        self.rows.add(label, split, group)
        return True


def _samples(content: mmap.mmap) -> Iterator[tuple[bytes, dict[str, Member]]]:
    """(key, files by extension) of neighbouring files; the key is the path up to the first dot of the file name."""
    current, files = None, dict[str, Member]()
    for member in read_members(content):
        path = member.name.removeprefix(b"./")
        folder, slash, base = path.rpartition(b"/")
        stem, dot, extension = base.partition(b".")
        if not stem or not dot or any(is_clutter(os.fsdecode(part)) for part in path.split(b"/")):
            continue
        key = folder + slash + stem
        if key != current:
            if current is not None:
                yield current, files
            current, files = key, {}
        files["." + os.fsdecode(extension).lower()] = member
    if current is not None:
        yield current, files


def _read_label(where: str, files: dict[str, Member], content: mmap.mmap) -> tuple[str | None, str | None]:
    """Label and group of a sample."""
    long = next((extension for extension, member in files.items() if member.size > _MAX_TEXT), None)
    if long is not None:
        raise DataError(
            f"a label file must have at most {_MAX_TEXT:,} bytes; {where}{long} has {files[long].size:,}; "
            "check the shard"
        )
    texts = {extension: content[m.offset : m.offset + m.size] for extension, m in files.items()}
    label = group = None
    try:
        if ".json" in texts:
            fields = json.loads(texts[".json"])
            if not isinstance(fields, dict):
                raise DataError(f"a sample's .json must be an object; that of {where} is not; correct it")
            label = next((_text(fields[name], where) for name in _LABEL_KEYS if fields.get(name) is not None), None)
            group = None if fields.get("group") in (None, "") else _text(fields["group"], where)
        if ".cls" in texts:
            label = texts[".cls"].decode().strip()
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"a label must be UTF-8 text or valid JSON; that of {where} cannot be read; correct it"
        ) from error
    if label == "":
        raise DataError(f"a label must not be empty; that of {where} is; fill it in or remove the file")
    return label, group


def _text(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise DataError(f"label and group must be a whole number or a text; {where} has {value!r}; correct it")
    return str(value).strip()


def _read_class_names(folder: Path) -> tuple[Path | None, list[str] | None]:
    """The file of class names in a folder and its lines; None without one."""
    path = next((folder / name for name in _CLASS_FILES if (folder / name).is_file()), None)
    if path is None:
        return None, None
    try:
        names = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"a list of classes must be UTF-8 text; {path} cannot be read; save it again") from error
    if len(set(names)) < len(names):
        raise DataError(f"class names must be unique; {path} has one twice; rename it")
    return path, names
