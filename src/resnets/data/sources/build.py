"""Building a `Dataset` from rows: the one place that makes classes, splits and groups, for every source.

A source reads its format and adds rows; it knows nothing of class indices or split arrays.

Legend: N rows.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.data.dataset import SPLITS, Dataset, ImageSet, Problem, Source
from resnets.errors import DataError

__all__ = ["RowTable", "build_dataset", "dataset_name", "missing_shards", "sort_classes", "split_of",
           "split_of_shard"]  # fmt: skip

Ints = npt.NDArray[np.int64]
UNLABELLED = -1
_SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
                "dev": "val", "test": "test", "testing": "test"}  # fmt: skip


class _Vocabulary:
    """Consecutive integers for values, in order of first appearance."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self.values: list[Any] = []

    def number(self, value: Hashable) -> int:
        """The value's number; a new value gets the next one."""
        number = self._numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number


class RowTable:
    """Labels, splits and groups of a source's rows, collected one by one and kept as numbers."""

    def __init__(self) -> None:
        self._labels, self._splits, self._groups = array("q"), array("b"), array("q")
        self._label_values, self._group_values = _Vocabulary(), _Vocabulary()

    def __len__(self) -> int:
        return len(self._labels)

    def add(self, label: Hashable | None, split: str, group: Hashable | None = None, *, count: int = 1) -> None:
        """Add `count` rows; without a label they are left out, without a group each is a group of its own."""
        number = UNLABELLED if label is None else self._label_values.number(label)
        self._labels.extend([number] * count)
        self._splits.extend([SPLITS.index(split)] * count)
        self._groups.extend([-1 if group is None else self._group_values.number(group)] * count)

    def exclude(self, row: int) -> None:
        """Leave a row out."""
        self._labels[row] = UNLABELLED

    def fields(self, row: int) -> dict[str, Any]:
        """Label, split and group (or None) of a row, as they were added."""
        group = self._groups[row]
        return {
            "label": self._label_values.values[self._labels[row]],
            "split": SPLITS[self._splits[row]],
            "group": None if group < 0 else self._group_values.values[group],
        }

    @property
    def labels(self) -> list[Any]:
        """The distinct labels, in order of first appearance; may be replaced one by one."""
        return self._label_values.values

    @property
    def unlabelled(self) -> int:
        """Number of rows that are left out."""
        return self._labels.count(UNLABELLED)

    def build(
        self,
        source: Source,
        name: str,
        class_names: Sequence[str] | None = None,
        *,
        where: str,
        grouped: bool | None = None,
        problems: Iterable[Problem] = (),
    ) -> Dataset:
        """The data set of all rows, which are those of the source.

        Args:
            class_names: of all classes, in order, which labels name or, as whole numbers, count from 0; None if the
                classes are the labels themselves, sorted.
            where: the file or folder that class names come from, for errors.
            grouped: whether rows have groups (default: whether any has).

        Raises:
            DataError: a label is not among the class names.
        """
        names, indices = _index_labels(self.labels, class_names, where)
        labels = np.array([*indices, UNLABELLED], np.int64)[np.array(self._labels, np.int64)]  # -1 is the last
        groups = (
            np.array(self._groups, np.int64)
            if grouped or (grouped is None and len(self._group_values.values))
            else None
        )
        splits = np.array(self._splits, np.int64)
        return build_dataset(source, name, names, labels, splits, groups, problems)


def build_dataset(
    source: Source,
    name: str,
    classes: Iterable[str],
    labels: Ints,
    splits: Ints,
    groups: Ints | None = None,
    problems: Iterable[Problem] = (),
) -> Dataset:
    """The data set of a source's rows.

    Args:
        labels: (N,) class indices; rows below 0 are left out.
        splits: (N,) indices into `SPLITS`.
        groups: (N,) numbers; a row below 0 is a group of its own.
    """
    if groups is not None:
        groups = np.where(groups < 0, groups.max(initial=-1) + 1 + np.arange(len(groups)), groups)
    found = {}
    for number, split in enumerate(SPLITS):
        rows = np.flatnonzero((splits == number) & (labels >= 0))
        if len(rows):
            own = None if groups is None else groups[rows]
            found[split] = ImageSet(source=source, rows=rows, labels=labels[rows], groups=own)
    return Dataset(name=name, classes=tuple(classes), splits=found, problems=tuple(problems))


def _index_labels(labels: Sequence[Any], class_names: Sequence[str] | None, where: str) -> tuple[list[str], list[int]]:
    """Class names in order, and the class index of each label."""
    if class_names is None:
        names = sort_classes({str(label) for label in labels})
        order = {name: i for i, name in enumerate(names)}
        return names, [order[str(label)] for label in labels]
    index: dict[Any, int] = {i: i for i in range(len(class_names))} | {name: i for i, name in enumerate(class_names)}
    if unknown := [label for label in labels if label not in index]:
        raise DataError(
            f"labels must be among the {len(class_names)} classes of {where}; got {unknown[0]!r}; add or correct it"
        )
    return list(class_names), [index[label] for label in labels]


def sort_classes(names: Iterable[str]) -> list[str]:
    """Class names sorted: by value if all are whole numbers (`2` before `10`), else by code point."""
    given = list(names)
    if all(re.fullmatch(r"-?[0-9]+", name) for name in given):
        return sorted(given, key=lambda name: (int(name), name))
    return sorted(given)


def dataset_name(root: Path) -> str:
    """A data set's name, from its file or folder."""
    return root.stem if root.is_file() else root.resolve().name


def split_of(name: str) -> str | None:
    """The split that a folder or file name means, or None."""
    return _SPLIT_NAMES.get(name.lower())


def split_of_shard(shard: Path, root: Path) -> str:
    """The split of a shard: by the first word of its name, else by a folder above it, else train."""
    first = re.split(r"[-_.]", shard.stem)[0]
    above = [] if root.is_file() else list(reversed(shard.relative_to(root).parts[:-1]))
    return next((split for split in map(split_of, (first, *above)) if split), "train")


def missing_shards(shards: Iterable[Path], pattern: str) -> list[Problem]:
    """A problem for every series of shards with gaps in its numbers.

    Args:
        pattern: of a shard's stem; its groups are the series, the number and, if known, how many there are.
    """
    present: dict[tuple[str, ...], set[int]] = {}
    for shard in shards:
        if match := re.fullmatch(pattern, shard.stem):
            series, number, *total = match.groups()
            present.setdefault((str(shard.parent / series), *total), set()).add(int(number))
    problems = []
    for (where, *total), numbers in present.items():
        expected = range(int(total[0])) if total else range(min(numbers), max(numbers) + 1)
        if missing := sorted(set(expected) - numbers):
            reason = f"{len(missing)} of {len(expected)} shards are missing, the first is number {missing[0]}"
            problems.append(Problem(kind="missing-shard", where=where, reason=reason))
    return problems
