"""WebDataset shards: tar archives whose files belong together by name, `0001.jpg` with `0001.cls` or `0001.json`.

Shards are indexed once, by their headers, so that any image can be read at any time: orders are drawn over all
images, and nothing is shuffled in a buffer. The tar must be uncompressed for that.
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

from resnets.data.dataset import SPLITS, Dataset, ImageSet, Problem
from resnets.data.decode.image import Pixels
from resnets.data.names import Names, NumberTexts, class_order
from resnets.data.sources.folder import EXTENSIONS, folders, hidden, split_of
from resnets.data.sources.parquet import split_of_shard
from resnets.data.sources.tar_index import BLOCK, Member, TarError, members
from resnets.errors import DataError, ImageError

__all__ = ["TarSource", "expand", "is_compressed", "open_tars", "tars_in"]

_LABEL_KEYS = ("label", "cls", "class")
_CLASS_FILES = ("classes.txt", "labels.txt")
_COMPRESSED = re.compile(r"\.(tgz|tbz2?|txz|tar\.[a-z0-9]+)$", re.IGNORECASE)


class TarSource:
    """Samples of several shards, numbered through; files are opened for each read, so that nothing is held.

    Args:
        shards: paths.
        starts: (S + 1,) the first sample of each, and the end.
        blocks: (N,) uint32, where each image starts, in blocks of 512 bytes.
        sizes: (N,) uint32, of each image in bytes.
        keys: of the samples.
    """

    def __init__(self, shards: list[str], starts: list[int], blocks: Any, sizes: Any, keys: Names) -> None:
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
                while len(content) < size and (more := file.read(size - len(content))):  # one read may stop early
                    content += more
        except OSError as error:
            raise ImageError(self.name(row), error.strerror or type(error).__name__) from error
        if len(content) < size:
            raise ImageError(self.name(row), "the shard was cut short after it was opened")
        return content


def is_compressed(path: Path) -> bool:
    """Whether a name is that of a compressed tar."""
    return bool(_COMPRESSED.search(path.name))


def tars_in(root: Path) -> list[Path]:
    """The `.tar` files of a file, of a folder without folders, or of a folder of split folders that hold no others.

    Raises:
        DataError: there are compressed ones alone.
    """
    if root.is_file():
        return [root] if root.suffix.lower() == ".tar" else []
    inside = folders(root)
    places = [root / name for name in inside] if inside else [root]
    if inside and not all(split_of(name) and not folders(root / name) for name in inside):
        return []
    files = [path for place in places for path in sorted(place.iterdir()) if path.is_file() and not hidden(path.name)]
    if any(path.suffix.lower() in EXTENSIONS for path in files):
        return []
    found = [path for path in files if path.suffix.lower() == ".tar"]
    compressed = [path for path in files if is_compressed(path)]
    if compressed and not found:
        raise _compressed_error(compressed[0])
    return found


def _compressed_error(path: Path) -> DataError:
    return DataError(f"shards must be uncompressed, to be read in any order; {path} is compressed; unpack it to .tar")


def expand(pattern: Path) -> list[Path]:
    """The shards that `shards-{000..009}.tar` or `{train,val}.tar` names.

    Raises:
        DataError: one of them does not exist.
    """
    match = re.search(r"\{([^{}]*)\}", str(pattern))
    if match is None:
        if is_compressed(pattern):
            raise _compressed_error(pattern)
        if not pattern.is_file():
            raise DataError(f"every shard of a pattern must exist; {pattern} does not; correct the pattern or fetch it")
        return [pattern]
    span = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
    if span:
        step = 1 if int(span[1]) <= int(span[2]) else -1
        numbers = range(int(span[1]), int(span[2]) + step, step)
        words = [str(number).zfill(len(span[1])) for number in numbers]
    else:
        words = match[1].split(",")
    text = str(pattern)
    return [path for word in words for path in expand(Path(text[: match.start()] + word + text[match.end() :]))]


def open_tars(root: Path, shards: list[Path]) -> Dataset:
    """The splits and classes of shards; without a val split where no shard is named so.

    Classes are those of `classes.txt` or `labels.txt` beside the shards, a line each, which whole-number labels
    count from 0; without such a file they are the labels themselves.

    Raises:
        DataError: a shard is damaged, cut short or compressed, or a sample has no label that can be read.
    """
    index = _Index()
    keys = Names(key for shard in shards for key in index.read(shard))
    if not len(keys):
        raise DataError(f"a data set needs images with labels; the shards of {root} have none; see their files")
    source = TarSource([str(shard) for shard in shards], [*index.starts, len(keys)], index.blocks, index.sizes, keys)
    folder = root.parent if root.is_file() else root
    classes, of_label = _classes(index.label_names.texts, folder)
    labels = of_label[np.array(index.labels, np.int64)]
    groups = np.array(index.groups, np.int64) if len(index.group_names) else None
    if groups is not None:  # an image without a group is one by itself
        groups = np.where(groups < 0, len(index.group_names) + np.arange(len(groups)), groups)
    counts = np.diff([*index.starts, len(keys)])
    of_row = np.repeat([split_of_shard(shard, root) for shard in shards], counts)
    problems = _missing(shards)
    for count, kind, what in (
        (index.unlabelled, "unlabelled", "samples have no label (.cls, .json), left out"),
        (index.imageless, "ignored", "samples have a label and no image, ignored"),
    ):
        if count:
            problems.append(Problem(kind=kind, where=str(root), reason=f"{count} {what}"))  # type: ignore[arg-type]
    splits = {}
    for split in SPLITS:
        rows = np.flatnonzero(of_row == split)
        if len(rows):
            own = None if groups is None else groups[rows]
            splits[split] = ImageSet(source=source, rows=rows, labels=labels[rows], groups=own)
    name = root.stem if root.is_file() else root.resolve().name
    return Dataset(name=name, classes=tuple(classes), splits=splits, problems=tuple(problems))


class _Index:
    """What all shards hold, but for the keys, as numbers."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.blocks, self.sizes, self.labels, self.groups = array("I"), array("I"), array("i"), array("q")
        self.label_names, self.group_names = NumberTexts(), NumberTexts()
        self.unlabelled = self.imageless = 0

    def read(self, shard: Path) -> Iterator[bytes]:
        """The keys of a shard's labelled images, each when it has been taken note of."""
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
                                f"the files of a sample must stand together; those of {where} do not; "
                                "write the shard with its files sorted by name"
                            )
                        seen.add(key)
                        if self._take(where, files, content):
                            yield key
        except TarError as error:
            raise DataError(
                f"a shard must be a sound tar archive; {shard}: {error}; fetch or write it again"
            ) from error
        except OSError as error:
            raise DataError(f"a shard must be readable; {shard}: {error.strerror}; check its permissions") from error

    def _take(self, where: str, files: dict[str, Member], content: mmap.mmap) -> bool:
        images = [extension for extension in files if extension in EXTENSIONS]
        if len(images) > 1:
            raise DataError(
                f"a sample has one image; {where} has {images[0]} and {images[1]}; give each a name of its own"
            )
        label, group = _label(where, {ext: files[ext] for ext in (".cls", ".json") if ext in files}, content)
        if not images or label is None:
            self.unlabelled += bool(images)
            self.imageless += label is not None
            return False
        image = files[images[0]]
        if image.offset // BLOCK >= 2**32 or image.size >= 2**32:
            raise DataError(
                f"an image must lie within 2 TiB of its shard's start and below 4 GiB; {where} does not; "
                "write smaller shards"
            )
        self.blocks.append(image.offset // BLOCK)
        self.sizes.append(image.size)
        self.labels.append(self.label_names(label))
        self.groups.append(-1 if group is None else self.group_names(group))
        return True


def _samples(content: mmap.mmap) -> Iterator[tuple[bytes, dict[str, Member]]]:
    """(key, files by extension) of neighbouring files with one key: the path up to the first dot of the file's name."""
    current, files = None, dict[str, Member]()
    for member in members(content):
        path = member.name.removeprefix(b"./")
        folder, slash, base = path.rpartition(b"/")
        stem, dot, extension = base.partition(b".")
        if not stem or not dot or any(hidden(os.fsdecode(part)) for part in path.split(b"/")):
            continue
        key = folder + slash + stem
        if key != current:
            if current is not None:
                yield current, files
            current, files = key, {}
        files["." + os.fsdecode(extension).lower()] = member
    if current is not None:
        yield current, files


def _label(where: str, files: dict[str, Member], content: mmap.mmap) -> tuple[str | None, str | None]:
    """Label and group of a sample, as texts."""
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
            f"a label must be UTF-8 text, or valid JSON; that of {where} cannot be read; correct it"
        ) from error
    if label == "":
        raise DataError(f"a sample needs a label; that of {where} is empty; fill it in or remove the file")
    return label, group


def _text(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise DataError(f"label and group are a whole number or a text; {where} has {value!r}; correct it")
    return str(value).strip()


def _classes(texts: list[str], folder: Path) -> tuple[list[str], np.ndarray[Any, np.dtype[np.int64]]]:
    """Class names, and the class of each text."""
    path = next((folder / name for name in _CLASS_FILES if (folder / name).is_file()), None)
    if path is None:
        names = class_order(texts)
        order = {name: i for i, name in enumerate(names)}
        return names, np.array([order[text] for text in texts], np.int64)
    try:
        names = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"a list of classes must be UTF-8 text; {path} cannot be read; save it again") from error
    if len(set(names)) < len(names):
        raise DataError(f"classes must have different names; {path} has one twice; rename it")
    if all(text.isdecimal() and int(text) < len(names) for text in texts):
        return names, np.array([int(text) for text in texts], np.int64)
    order = {name: i for i, name in enumerate(names)}
    if unknown := [text for text in texts if text not in order]:
        raise DataError(
            f"labels must be among the {len(names)} classes of {path}; got {unknown[0]!r}; add or correct it"
        )
    return names, np.array([order[text] for text in texts], np.int64)


def _missing(shards: list[Path]) -> list[Problem]:
    """Gaps in the numbers of shards."""
    numbers: dict[tuple[Path, str], set[int]] = {}
    for shard in shards:
        if match := re.fullmatch(r"(.*?)(\d+)", shard.stem):
            numbers.setdefault((shard.parent, match[1]), set()).add(int(match[2]))
    problems = []
    for (folder, stem), found in numbers.items():
        if gaps := sorted(set(range(min(found), max(found))) - found):
            reason = f"{len(gaps)} of {max(found) - min(found) + 1} shards are missing, the first is number {gaps[0]}"
            problems.append(Problem(kind="missing-shard", where=str(folder / stem), reason=reason))
    return problems
