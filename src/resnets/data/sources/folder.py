"""A folder of class folders, with or without train, val and test above them.

Class names are sorted by code point: `10` stands before `2`. Pad numbers with zeros if their order matters.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from resnets.data.dataset import SPLITS, Dataset, ImageSet, Problem
from resnets.data.decode.image import Pixels, read_file
from resnets.data.names import Names
from resnets.errors import DataError

__all__ = ["EXTENSIONS", "TABLES", "FolderSource", "folders", "hidden", "open_folder", "split_of", "walk"]

EXTENSIONS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".avif", ".tif",
    ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".tga", ".ico",
    ".npy",
})  # fmt: skip
TABLES = (".csv", ".tsv")
_CLUTTER = frozenset(("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found"))
_SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
                "dev": "val", "test": "test", "testing": "test"}  # fmt: skip


class FolderSource:
    """Files below a root."""

    def __init__(self, root: Path, names: list[str]) -> None:
        self.root = str(root)
        self._names = Names(map(os.fsencode, names))

    def name(self, row: int) -> str:
        """The root as it was given, and the path below it."""
        return os.path.join(self.root, os.fsdecode(self._names[row]))

    def read(self, row: int) -> bytes | Pixels:
        """The file's bytes; raises ImageError."""
        return read_file(self.name(row))


def hidden(name: str) -> bool:
    """Whether a file or folder is clutter that a system or a viewer leaves behind."""
    return name.startswith(".") or name.lower() in _CLUTTER


def split_of(name: str) -> str | None:
    """The split that a folder or shard name means, or None."""
    return _SPLIT_NAMES.get(name.lower())


def walk(root: str | Path, skipped: list[str] | None = None) -> list[str]:
    """Image files below `root`, sorted by code point, as paths relative to it.

    Args:
        skipped: receives the files that have no image's extension.

    Raises:
        DataError: a folder may not be read.
    """
    found: list[str] = []
    _walk(str(root), "", found, [] if skipped is None else skipped, set())
    return sorted(found)


def _walk(folder: str, prefix: str, found: list[str], skipped: list[str], seen: set[tuple[int, int]]) -> None:
    try:
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            if (status.st_dev, status.st_ino) in seen:  # a link back to a folder above
                return
            seen.add((status.st_dev, status.st_ino))
            inside = [entry for entry in entries if not hidden(entry.name)]
    except OSError as error:
        raise DataError(f"a data folder must be readable; {folder}: {error.strerror}; check its permissions") from error
    for entry in inside:
        if entry.is_dir():
            _walk(entry.path, f"{prefix}{entry.name}/", found, skipped, seen)
        elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
            found.append(prefix + entry.name)
        else:
            skipped.append(prefix + entry.name)


def folders(root: str | Path) -> list[str]:
    """Names of the folders in `root` that are no clutter, sorted by code point; raises DataError."""
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not hidden(entry.name))
    except OSError as error:
        raise DataError(f"a data folder must be readable; {root}: {error.strerror}; check its permissions") from error


def open_folder(root: Path) -> Dataset:
    """The splits and classes of a folder; without a val split where the folder has none.

    Raises:
        DataError: it is not laid out as class folders, or holds no image.
    """
    inside = folders(root)
    by_split = _splits(root, inside)
    problems: list[Problem] = []
    skipped: list[str] = []
    if "." not in by_split.values():
        others = sorted(set(inside) - set(by_split.values()))
        problems += [_ignored(root / name, "a folder beside the splits, ignored") for name in others]
    classes = sorted({name for folder in by_split.values() for name in folders(root / folder)})
    if not classes or (len(inside) == 1 and inside == classes and folders(root / inside[0])):
        raise DataError(f"a data set needs a folder per class; {_what_there_is(root)}")
    if len(classes) == 1 and (tables := _tables(root)):
        raise DataError(f"a data set needs a folder per class; {root} has only {classes[0]}; {tables}")
    names: list[str] = []
    labels: list[int] = []
    sizes = {}
    for split, folder in by_split.items():
        start = len(names)
        for label, name in enumerate(classes):
            place = Path(folder) / name
            if not (root / place).is_dir():
                continue
            files = walk(root / place, skipped)
            if not files:
                problems.append(_empty(root / place))
            names += [f"{place.as_posix()}/{file}" for file in files]
            labels += [label] * len(files)
        sizes[split] = (start, len(names))
        problems += _loose(root / folder)
    if not names:
        raise DataError(f"a data set needs images; {root} has {len(classes)} class folders and none; add some")
    if skipped:
        kinds = Counter(os.path.splitext(name)[1].lower() or "no extension" for name in skipped).most_common(3)
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds)
        problems.append(_ignored(root, f"{len(skipped)} files have no image's extension ({listed}), ignored"))
    source, all_labels = FolderSource(root, names), np.array(labels, np.int64)
    splits = {}
    for split in SPLITS:
        rows = np.arange(*sizes.get(split, (0, 0)), dtype=np.int64)
        if len(rows):
            splits[split] = ImageSet(source=source, rows=rows, labels=all_labels[rows])
    return Dataset(name=root.resolve().name, classes=tuple(classes), splits=splits, problems=tuple(problems))


def _splits(root: Path, inside: list[str]) -> dict[str, str]:
    """Which folder each split is; `.` when the class folders stand directly in the root."""
    named: dict[str, str] = {}
    for name in inside:
        split = split_of(name)
        if split is not None and split in named:
            raise DataError(f"a split has one folder; {root} has {named[split]} and {name}; rename one")
        if split is not None:
            named[split] = name
    # A class may be called `test`: beside other folders, splits are believed when they hold folders themselves.
    believed = len(named) == len(inside) or any(folders(root / name) for name in named.values())
    return named if named and believed else {"train": "."}


def _what_there_is(root: Path) -> str:
    inside = folders(root)
    if len(inside) == 1 and folders(root / inside[0]):
        return f"{root} holds only {inside[0]}; try {root / inside[0]}"
    count, tables = len(walk(root)), _tables(root)
    if count or tables:
        return f"{root} holds {count} images and no class folders; {tables or 'make one folder a class'}"
    return f"{root} is empty; expected {root}/train/CLASS/image.jpg or {root}/CLASS/image.jpg"


def _tables(root: Path) -> str:
    """What to do where tables lie beside the images; nothing without one."""
    found = sorted(path for path in root.iterdir() if path.suffix.lower() in TABLES and not hidden(path.name))
    return f"pass the table that says the labels: {' or '.join(map(str, found[:3]))}" if found else ""


def _loose(folder: Path) -> list[Problem]:
    with os.scandir(folder) as entries:
        loose = [e for e in entries if e.is_file() and os.path.splitext(e.name)[1].lower() in EXTENSIONS]
    loose = [entry for entry in loose if not hidden(entry.name)]
    return [_ignored(folder, f"{len(loose)} images lie in no class folder, ignored")] if loose else []


def _ignored(where: Path, reason: str) -> Problem:
    return Problem(kind="ignored", where=str(where), reason=reason)


def _empty(where: Path) -> Problem:
    return Problem(kind="empty-class", where=str(where), reason="no image in this class folder")
