"""Opening a data set, whatever it is: folders of pictures, Parquet shards, or a built-in name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from resnets.data.dataset import Dataset, ImageSet, Problem, split_rows
from resnets.data.digits import open_digits
from resnets.data.folder import open_folder
from resnets.data.parquet import open_parquet, shards_in
from resnets.errors import DataError, nearest

__all__ = ["BUILT_IN", "open_dataset"]

BUILT_IN = ("digits",)


def open_dataset(data: str | Path, *, val_fraction: float = 0.1, seed: int = 0) -> Dataset:
    """The data set that `data` names.

    Accepted are `digits`; `root/{train,val,test}/CLASS/*` (also `valid`, `validation`); `root/CLASS/*`; a Parquet
    file or a folder of shards in the Hugging Face layout. Where there is a training split and none for
    validation, a seeded stratified part of the training split becomes it; a test split is never touched.

    Args:
        data: a built-in name (a folder called so is `./digits`) or a path.
        val_fraction: share of training pictures for validation, in [0, 1); 0 makes no such split.
        seed: of that split.

    Raises:
        DataError: no such data, not readable, laid out otherwise, or with one class only.
        MissingExtraError: the format needs an extra that is not installed.
    """
    if not 0 <= val_fraction < 1:
        raise DataError(f"val_fraction must be in [0, 1); got {val_fraction}; 0.1 is usual")
    dataset = open_digits() if str(data) in BUILT_IN and not isinstance(data, Path) else _open_path(Path(data))
    if len(dataset.classes) < 2:
        only = dataset.classes[0]
        raise DataError(f"a classifier needs 2 classes or more; {data} has only {only!r}; add another class")
    if val_fraction and "train" in dataset.splits and "val" not in dataset.splits:
        train, rest = dataset.splits["train"], dict(dataset.splits)
        kept, held = split_rows(train.labels, val_fraction, seed)
        rest["train"] = train.subset(kept)
        ordered = {"train": rest.pop("train"), **({"val": train.subset(held)} if len(held) else {}), **rest}
        dataset = replace(dataset, splits=ordered)
    return replace(dataset, problems=dataset.problems + tuple(_uneven(dataset)))


def _open_path(path: Path) -> Dataset:
    try:
        exists, is_file = path.exists(), path.is_file()
    except OSError as error:
        raise DataError(f"data must be readable; {path}: {error.strerror}; check its permissions") from error
    if not exists:
        raise DataError(
            f"data must be a folder, a .parquet file or {', '.join(BUILT_IN)}; {path} does not exist; {_hint(path)}"
        )
    try:
        shards = shards_in(path)
    except OSError as error:
        raise DataError(f"a data folder must be readable; {path}: {error.strerror}; check its permissions") from error
    if shards:
        return open_parquet(path, shards)
    if is_file:
        raise DataError(f"data must be a folder or a .parquet file; {path} is a file; pass the folder of class folders")
    return open_folder(path)


def _hint(path: Path) -> str:
    try:
        known = [other.name for other in path.parent.iterdir()]
    except OSError:
        return f"{path.parent} does not exist either" if not path.parent.exists() else "check the path"
    close = nearest(path.name, [*known, *(BUILT_IN if str(path) == path.name else ())])
    return f"did you mean {' or '.join(close)}?" if close else f"{path.parent} has nothing like it"


def _uneven(dataset: Dataset) -> list[Problem]:
    """Classes that a split lacks."""
    problems = []
    counts = {split: _counts(images, len(dataset.classes)) for split, images in dataset.splits.items()}
    total = sum(counts.values())
    for split, count in counts.items():
        for label in np.flatnonzero((count == 0) & (total > 0)):
            where, reason = f"{dataset.name}/{split}", f"class {dataset.classes[label]!r} has no picture in this split"
            if split == "train":  # it can only be got wrong
                problems.append(Problem(kind="untrained-class", where=where, reason=reason, fatal=True))
            else:
                problems.append(Problem(kind="missing-class", where=where, reason=reason))
    if not any(problem.kind == "empty-class" for problem in dataset.problems):
        for label in np.flatnonzero(total == 0):
            reason = f"class {dataset.classes[label]!r} has no picture in any split"
            problems.append(Problem(kind="empty-class", where=dataset.name, reason=reason))
    return problems


def _counts(images: ImageSet, classes: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.bincount(images.labels, minlength=classes).astype(np.int64)
