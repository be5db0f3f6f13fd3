"""A folder of class folders, with or without train, val and test folders above them.

Class names are sorted by code point: `10` comes before `2`. Pad numbers with zeros if their order matters.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from resnets.data.dataset import Dataset, Problem
from resnets.data.decode.image import Pixels, read_file
from resnets.data.files import EXTENSIONS, as_text, is_clutter, subfolders, walk_images
from resnets.data.name_table import NameTable
from resnets.data.sources.build import RowTable, split_of
from resnets.data.sources.csv import TABLES
from resnets.errors import DataError

__all__ = ["FolderSource", "open_folder"]


class FolderSource:
    """Files below a root folder."""

    def __init__(self, root: Path, names: list[str]) -> None:
        self.root = str(root)
        self._names = NameTable(map(os.fsencode, names))

    def name(self, row: int) -> str:
        """The root as it was given, and the path below it."""
        return os.path.join(self.root, os.fsdecode(self._names[row]))

    def read(self, row: int) -> bytes | Pixels:
        """The file's bytes; raises ImageError."""
        return read_file(self.name(row))


def open_folder(root: Path) -> Dataset:
    """Open a folder of class folders.

    Raises:
        DataError: it is laid out otherwise, or has no images.
    """
    if (root / "args.yaml").is_file() and (root / "resolved.yaml").is_file():
        raise DataError(f"data must be images; {root} is the folder of a run; pass the images that it was trained on")
    if (root / "config.json").is_file() and (root / "model.safetensors").is_file():
        raise DataError(f"data must be images; {root} is the folder of a model; pass a folder of class folders")
    inside = subfolders(root)
    if runs := [name for name in inside if (root / name / "args.yaml").is_file()]:
        raise DataError(
            f"data must be images; {root} holds folders of runs, such as {runs[0]}; pass a folder of images"
        )
    by_split = _split_folders(root, inside)
    problems: list[Problem] = []
    skipped: list[str] = []
    linked: list[str] = []
    if "." not in by_split.values():
        others = sorted(set(inside) - set(by_split.values()))
        problems += [_ignored(root / name, "a folder beside the splits, ignored") for name in others]
    classes = sorted({name for folder in by_split.values() for name in subfolders(root / folder)})
    if not classes or (len(inside) == 1 and inside == classes and subfolders(root / inside[0])):
        raise DataError(f"a data set must have a folder per class; {_describe_contents(root)}")
    if len(classes) == 1 and (tables := _suggest_tables(root)):
        raise DataError(f"a data set must have a folder per class; {root} has only {classes[0]}; {tables}")
    names: list[str] = []
    rows = RowTable()
    for split, folder in by_split.items():
        for class_name in classes:
            place = Path(folder) / class_name
            if not (root / place).is_dir():
                continue
            below: list[str] = []
            files = walk_images(root / place, skipped, below)
            linked += [f"{place.as_posix()}/{file}" for file in below]
            if nested := _nested_folders(files):
                reason = f"its images are in folders of their own, {nested}, and all of one class"
                problems.append(Problem(kind="nested", where=str(root / place), reason=reason))
            if not files:
                reason = "no image in this class folder"
                problems.append(Problem(kind="empty-class", where=str(root / place), reason=reason))
            names += [f"{place.as_posix()}/{file}" for file in files]
            rows.add(as_text(class_name), split, count=len(files))
        problems += _images_outside_classes(root / folder)
    if not names:
        raise DataError(f"a data set must have images; {root} has {len(classes)} empty class folders; add images")
    if skipped:
        kinds = Counter(os.path.splitext(name)[1].lower() or "no extension" for name in skipped).most_common(3)
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds)
        problems.append(_ignored(root, f"{len(skipped)} files have no image extension ({listed}), ignored"))
    problems += _linked_twice(root, names, linked)
    source = FolderSource(root, names)
    names_of_classes = [as_text(name) for name in classes]
    return rows.build(source, root.resolve().name, names_of_classes, where=str(root), problems=problems)


def _nested_folders(files: list[str]) -> str:
    """The folders inside a class, if all its images lie in several of them."""
    inside = sorted({name.partition("/")[0] for name in files if "/" in name})
    if len(inside) < 2 or any("/" not in name for name in files):
        return ""
    return " and ".join(inside) if len(inside) == 2 else f"{inside[0]}, {inside[1]}, ..."


def _split_folders(root: Path, inside: list[str]) -> dict[str, str]:
    """The folder of each split; `.` if the class folders are directly in the root."""
    named: dict[str, str] = {}
    for name in inside:
        split = split_of(name)
        if split is not None and split in named:
            raise DataError(f"a split must have one folder; {root} has {named[split]} and {name}; rename one")
        if split is not None:
            named[split] = name
    # A class may be called `test`: beside other folders, split folders must hold folders themselves.
    splits = len(named) == len(inside) or any(subfolders(root / name) for name in named.values())
    return named if named and splits else {"train": "."}


def _describe_contents(root: Path) -> str:
    inside = subfolders(root)
    if len(inside) == 1 and subfolders(root / inside[0]):
        return f"{root} holds only {inside[0]}; try {root / inside[0]}"
    count, tables = len(walk_images(root)), _suggest_tables(root)
    if count or tables:
        return f"{root} holds {count} images and no class folders; {tables or 'make one folder per class'}"
    return f"{root} is empty; expected {root}/train/CLASS/image.jpg or {root}/CLASS/image.jpg"


def _suggest_tables(root: Path) -> str:
    """The remedy if there are tables beside the images, else an empty text."""
    found = sorted(path for path in root.iterdir() if path.suffix.lower() in TABLES and not is_clutter(path.name))
    return f"pass the table with the labels: {' or '.join(map(str, found[:3]))}" if found else ""


def _images_outside_classes(folder: Path) -> list[Problem]:
    with os.scandir(folder) as entries:
        files = [entry.name for entry in entries if entry.is_file() and not is_clutter(entry.name)]
    count = sum(os.path.splitext(name)[1].lower() in EXTENSIONS for name in files)
    return [_ignored(folder, f"{count} images are in no class folder, ignored")] if count else []


def _linked_twice(root: Path, names: list[str], linked: list[str]) -> list[Problem]:
    """A note of files that stand in several places of the data set by symbolic links."""
    if not linked:
        return []
    by_link, home = set(linked), os.path.realpath(root)
    places: dict[str, list[str]] = {}
    for name in names:
        target = os.path.realpath(root / name) if name in by_link else os.path.join(home, name)
        places.setdefault(target, []).append(name)
    twice = [found for found in places.values() if len(found) > 1]
    if not twice:
        return []
    reason = f"{len(twice)} images are used more than once, by links: {' and '.join(twice[0][:2])}"
    return [Problem(kind="linked-twice", where=str(root), reason=reason)]


def _ignored(where: Path, reason: str) -> Problem:
    return Problem(kind="ignored", where=str(where), reason=reason)
