"""Building a `Dataset` from rows: the one place that makes classes, splits and groups, for every source.

A source reads its format and adds rows, without class indices and split arrays.

Legend: N rows.
"""

from __future__ import annotations

import itertools
import re
from array import array
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.data.dataset import SPLITS, Dataset, ImageSet, Problem, Source
from resnets.data.files import as_text
from resnets.errors import DataError

__all__ = ["RowTable", "build_dataset", "dataset_name", "missing_shards", "sort_classes", "split_of",
           "split_of_shard"]  # fmt: skip

Ints = npt.NDArray[np.int64]
UNLABELLED = -1
_SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
                "dev": "val", "test": "test", "testing": "test"}  # fmt: skip


class RowTable:
    """Labels, splits and groups of a source's rows, collected one by one and kept as numbers."""

    def __init__(self) -> None:
        self._labels, self._splits, self._groups = array("q"), array("b"), array("q")
        self._label_numbers, self._group_numbers = dict[Any, int](), dict[Any, int]()

    def __len__(self) -> int:
        return len(self._labels)

    def add(self, label: Hashable | None, split: str, group: Hashable | None = None, *, count: int = 1) -> None:
        """Add `count` rows; without a label they are left out, without a group each forms its own group."""
        label_number = UNLABELLED if label is None else self._label_numbers.setdefault(label, len(self._label_numbers))
        group_number = -1 if group is None else self._group_numbers.setdefault(group, len(self._group_numbers))
        self._labels.extend([label_number] * count)
        self._splits.extend([SPLITS.index(split)] * count)
        self._groups.extend([group_number] * count)

    def exclude(self, row: int) -> None:
        """Leave a row out."""
        self._labels[row] = UNLABELLED

    def difference(self, row: int, other: int) -> tuple[str, Any, Any] | None:
        """The first of label, split and group in which two rows differ, and both values as they were added."""
        columns = (
            ("label", self._labels, self._label_numbers),
            ("split", self._splits, SPLITS),
            ("group", self._groups, self._group_numbers),
        )
        for what, numbers, values in columns:
            if numbers[row] != numbers[other]:
                named = [*values, None]  # no group is -1
                return what, named[numbers[row]], named[numbers[other]]
        return None

    @property
    def labels(self) -> list[Any]:
        """The distinct labels, in order of first appearance."""
        return list(self._label_numbers)

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
        labels: Sequence[Any] | None = None,
        where: str,
        grouped: bool | None = None,
        problems: Iterable[Problem] = (),
    ) -> Dataset:
        """The data set of all rows, which are those of the source.

        Args:
            class_names: of all classes, in order, which labels name or, as whole numbers, count from 0; None if the
                classes are the labels themselves, sorted.
            labels: replace `self.labels`, one by one.
            where: the file or folder that class names come from, for errors.
            grouped: whether rows have groups (default: whether any has).

        Raises:
            DataError: a label is not among the class names.
        """
        names, indices = _index_labels(self.labels if labels is None else labels, class_names, where)
        of_rows = np.array([*indices, UNLABELLED], np.int64)[np.array(self._labels, np.int64)]  # -1 is the last
        has_groups = bool(self._group_numbers) if grouped is None else grouped
        groups = np.array(self._groups, np.int64) if has_groups else None
        return build_dataset(source, name, names, of_rows, np.array(self._splits, np.int64), groups, problems)


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
        groups: (N,) numbers; a row below 0 forms its own group.

    Raises:
        DataError: a class name that is not UTF-8 or stands twice, or an unknown split.
    """
    classes = tuple(map(_class_name, classes))
    if len(set(classes)) < len(classes):
        twice = next(one for one, count in Counter(classes).items() if count > 1)
        raise DataError(f"a class must be named once; {name} names {twice!r} twice; rename or merge them")
    if len(splits) and not (splits.min() >= 0 and splits.max() < len(SPLITS)):
        raise DataError(f"a split is one of {', '.join(SPLITS)}; {name} has number {splits.max()}; write it again")
    if groups is not None:
        groups = np.where(groups < 0, groups.max(initial=-1) + 1 + np.arange(len(groups)), groups)
    found = {}
    for number, split in enumerate(SPLITS):
        rows = np.flatnonzero((splits == number) & (labels >= 0))
        if len(rows):
            own = None if groups is None else groups[rows]
            found[split] = ImageSet(source=source, rows=rows, labels=labels[rows], groups=own)
    name = as_text(name).encode(errors="replace").decode()
    return Dataset(name=name, classes=classes, splits=found, problems=tuple(problems))


def _class_name(name: str) -> str:
    """The name, if model folders and reports can hold it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"a class name must be UTF-8 text; got {name!r}; rename the class") from None
    return name


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
    if all(re.fullmatch(r"-?[0-9]{1,1000}", name) for name in given):  # Python converts up to 4,300 digits
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
        start, stop = (0, int(total[0])) if total else (min(numbers), max(numbers) + 1)
        # Counted, not listed: a name may state any number of shards.
        if missing := stop - start - sum(start <= number < stop for number in numbers):
            first = next(number for number in itertools.count(start) if number not in numbers)
            reason = f"{missing} of {stop - start} shards are missing, the first is number {first}"
            problems.append(Problem(kind="missing-shard", where=where, reason=reason))
    return problems
