"""Opening a data set, whatever it is: folders, tables, WebDataset or Parquet shards, or a built-in name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from resnets.data.dataset import Dataset, ImageSet, Problem
from resnets.data.sources.csv import open_csv, tables_in
from resnets.data.sources.digits import open_digits
from resnets.data.sources.folder import open_folder
from resnets.data.sources.packed import is_packed, open_packed
from resnets.data.sources.parquet import open_parquet, shards_in
from resnets.data.sources.webdataset import expand, is_compressed, open_tars, tars_in
from resnets.data.splits import hold_out, kfold
from resnets.errors import DataError, nearest

__all__ = ["BUILT_IN", "open_dataset"]

BUILT_IN = ("digits",)


def open_dataset(
    data: str | Path, *, val_fraction: float = 0.1, seed: int = 0, folds: int | None = None, fold: int = 0
) -> Dataset:
    """The data set that `data` names.

    Accepted are `digits`; `root/{train,val,test}/CLASS/*` (also `valid`, `validation`); `root/CLASS/*`; a table
    `path,label[,group][,split]`, or a folder with `train.csv`; WebDataset shards (a `.tar`, a folder of them, or a
    pattern `shards-{000..009}.tar`); a Parquet file or a folder of shards in the Hugging Face layout. Where there is
    a training split and none for validation, a seeded stratified part of the training split becomes it, and takes
    whole groups where the data has groups; a test split is never touched.

    Args:
        data: a built-in name (a folder called so is `./digits`), a path or a pattern.
        val_fraction: share of training images for validation, in [0, 1); 0 makes no such split.
        seed: of that split.
        folds: instead, training images (and validation images, if the data has such a split) are divided into so
            many parts, alike in their classes and, of data with groups, along them.
        fold: 0 to `folds` - 1, which part validates; the others train.

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
    if folds is not None:
        images = _together(dataset)
        dataset = _divided(dataset, images, kfold(images.labels, folds, fold, seed, images.groups))
    elif val_fraction and "train" in dataset.splits and "val" not in dataset.splits:
        images = dataset.splits["train"]
        dataset = _divided(dataset, images, hold_out(images.labels, val_fraction, seed, images.groups))
    return replace(dataset, problems=dataset.problems + tuple(_uneven(dataset)) + tuple(_shared_groups(dataset)))


def _together(dataset: Dataset) -> ImageSet:
    """Training and validation images as one set."""
    parts = [dataset.splits[split] for split in ("train", "val") if split in dataset.splits]
    if not parts:
        raise DataError(f"folds are made of training images; {dataset.name} has none; name a split train")
    assert all(part.source is parts[0].source for part in parts)
    groups = [part.groups for part in parts if part.groups is not None]
    return ImageSet(
        source=parts[0].source,
        rows=np.concatenate([part.rows for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        groups=np.concatenate(groups) if len(groups) == len(parts) else None,
    )


def _divided(dataset: Dataset, images: ImageSet, places: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]) -> Dataset:
    splits = {split: images.subset(at) for split, at in zip(("train", "val"), places, strict=True) if len(at)}
    return replace(dataset, splits=splits | {k: v for k, v in dataset.splits.items() if k not in ("train", "val")})


def _shared_groups(dataset: Dataset) -> list[Problem]:
    """Groups that stand in training and in another split: accuracy there is too good to be true."""
    train, problems = dataset.splits.get("train"), []
    for split, images in dataset.splits.items():
        if split == "train" or train is None or train.groups is None or images.groups is None:
            continue
        shared = np.isin(images.groups, train.groups)
        if shared.any():
            count, total = len(np.unique(images.groups[shared])), len(np.unique(images.groups))
            reason = f"{count} of {total} groups ({int(shared.sum())} images) are in training too, which flatters it"
            problems.append(Problem(kind="shared-groups", where=f"{dataset.name}/{split}", reason=reason))
    return problems


def _open_path(path: Path) -> Dataset:
    if "{" in str(path) and path.suffix == ".tar" and not os.path.exists(path):
        return open_tars(next(parent for parent in path.parents if "{" not in str(parent)), expand(path))
    try:
        exists, is_file = path.exists(), path.is_file()
    except OSError as error:
        raise DataError(f"data must be readable; {path}: {error.strerror}; check its permissions") from error
    if not exists:
        raise DataError(
            f"data must be a folder, a .csv, .tar or .parquet file, or {', '.join(BUILT_IN)}; {path} does not exist; "
            f"{_hint(path)}"
        )
    if is_file and is_compressed(path):
        raise DataError(f"shards must be uncompressed, to be read in any order; {path} is not; unpack it to .tar")
    try:
        if is_packed(path):
            return open_packed(path)
        shards = shards_in(path)
        tables = {} if shards else tables_in(path)
        tars = [] if shards or tables else tars_in(path)
    except OSError as error:
        raise DataError(f"a data folder must be readable; {path}: {error.strerror}; check its permissions") from error
    if shards:
        return open_parquet(path, shards)
    if tables:
        return open_csv(path, tables)
    if tars:
        return open_tars(path, tars)
    if is_file:
        raise DataError(
            f"data must be a folder, or a .csv, .tar or .parquet file; {path} is a file; "
            "pass the folder of class folders"
        )
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
            where, reason = f"{dataset.name}/{split}", f"class {dataset.classes[label]!r} has no image in this split"
            if split == "train":  # it can only be got wrong
                problems.append(Problem(kind="untrained-class", where=where, reason=reason, fatal=True))
            else:
                problems.append(Problem(kind="missing-class", where=where, reason=reason))
    if not any(problem.kind == "empty-class" for problem in dataset.problems):
        for label in np.flatnonzero(total == 0):
            reason = f"class {dataset.classes[label]!r} has no image in any split"
            problems.append(Problem(kind="empty-class", where=dataset.name, reason=reason))
    return problems


def _counts(images: ImageSet, classes: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.bincount(images.labels, minlength=classes).astype(np.int64)
