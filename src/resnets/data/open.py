"""Opening a data set in any format: folders, tables, WebDataset or Parquet shards, packed, or built in."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from resnets.data.dataset import Dataset, ImageSet, Problem
from resnets.data.files import read_remedy, suggest_path, walk_images
from resnets.data.sources.csv import find_tables, open_csv
from resnets.data.sources.digits import open_digits
from resnets.data.sources.folder import open_folder
from resnets.data.sources.packed import is_packed, open_packed
from resnets.data.sources.parquet import find_parquet, open_parquet
from resnets.data.sources.webdataset import expand_braces, find_tars, open_webdataset
from resnets.data.splits import hold_out, kfold
from resnets.errors import DataError

__all__ = ["BUILT_IN", "open_dataset"]

BUILT_IN = ("digits",)
VAL_FRACTION = 0.1


def open_dataset(
    data: str | Path, *, val_fraction: float = VAL_FRACTION, seed: int = 0, folds: int | None = None, fold: int = 0
) -> Dataset:
    """Open a data set.

    Formats: `digits`; `root/{train,val,test}/CLASS/*` (also `valid`, `validation`); `root/CLASS/*`; a table
    `path,label[,group][,split]` (also `file`, `filename`, `image` or `filepath`), or a folder with `train.csv`;
    WebDataset shards (a `.tar`, a folder of them, or a pattern `shards-{000..009}.tar`); a Parquet file or a folder of
    shards in the Hugging Face layout; a folder written by `resnets data pack`. If there is no validation split, a
    seeded stratified share of the training split becomes it, without dividing groups; a test split is never touched.

    Args:
        data: a built-in name (for a folder of that name write `./digits`), a path or a pattern.
        val_fraction: share of training images for validation, in [0, 1); 0 makes no such split.
        seed: of that split.
        folds: instead, divide training and validation images into this many stratified folds, without dividing groups.
        fold: the fold that validates, 0 to `folds` - 1; the others train.

    Raises:
        DataError: the data does not exist, cannot be read, has an unknown layout, or one class only.
        MissingExtraError: the format needs an extra that is not installed.
    """
    if not 0 <= val_fraction < 1:
        raise DataError(f"val_fraction must be in [0, 1); got {val_fraction}; 0.1 is usual")
    dataset = open_digits() if str(data) in BUILT_IN and not isinstance(data, Path) else _open_path(Path(data))
    if len(dataset.classes) < 2:
        only = dataset.classes[0]
        raise DataError(f"a classifier must have 2 classes or more; {data} has only {only!r}; add another class")
    if folds is not None:
        images = _join_train_val(dataset)
        dataset = _replace_train_val(dataset, images, kfold(images.labels, folds, fold, seed, images.groups))
    elif val_fraction and "train" in dataset.splits and "val" not in dataset.splits:
        images = dataset.splits["train"]
        dataset = _replace_train_val(dataset, images, hold_out(images.labels, val_fraction, seed, images.groups))
    elif val_fraction not in (0, VAL_FRACTION) and "val" in dataset.splits:
        reason = f"val_fraction={val_fraction:g} changes nothing: there is a split for validation"
        dataset = replace(
            dataset, problems=(*dataset.problems, Problem(kind="ignored", where=str(data), reason=reason))
        )
    found = (*_missing_classes(dataset), *_shared_groups(dataset), *_joined_labels(dataset))
    return replace(dataset, problems=(*dataset.problems, *found))


def _joined_labels(dataset: Dataset) -> list[Problem]:
    """Classes that look like several labels of an image."""
    joined = [name for name in dataset.classes if "|" in name]
    if not joined:
        return []
    listed = ", ".join(joined[:3]) + (", ..." if len(joined) > 3 else "")
    reason = f"every image has one label, so these are classes of their own: {listed}"
    return [Problem(kind="several-labels", where=dataset.name, reason=reason)]


def _join_train_val(dataset: Dataset) -> ImageSet:
    splits = [dataset.splits[split] for split in ("train", "val") if split in dataset.splits]
    if not splits:
        raise DataError(f"folds must have training images; {dataset.name} has none; name a split train")
    assert all(images.source is splits[0].source for images in splits)
    groups = [images.groups for images in splits if images.groups is not None]
    return ImageSet(
        source=splits[0].source,
        rows=np.concatenate([images.rows for images in splits]),
        labels=np.concatenate([images.labels for images in splits]),
        groups=np.concatenate(groups) if len(groups) == len(splits) else None,
    )


def _replace_train_val(
    dataset: Dataset, images: ImageSet, indices: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
) -> Dataset:
    splits = {split: images.subset(part) for split, part in zip(("train", "val"), indices, strict=True) if len(part)}
    return replace(dataset, splits=splits | {k: v for k, v in dataset.splits.items() if k not in ("train", "val")})


def _shared_groups(dataset: Dataset) -> list[Problem]:
    """Groups in training and in another split, which makes accuracy there too optimistic."""
    train, problems = dataset.splits.get("train"), []
    for split, images in dataset.splits.items():
        if split == "train" or train is None or train.groups is None or images.groups is None:
            continue
        shared = np.isin(images.groups, train.groups)
        if shared.any():
            count, total = len(np.unique(images.groups[shared])), len(np.unique(images.groups))
            reason = f"{count} of {total} groups ({int(shared.sum())} images) are also in train; accuracy is inflated"
            problems.append(Problem(kind="shared-groups", where=f"{dataset.name}/{split}", reason=reason))
    return problems


def _open_path(path: Path) -> Dataset:
    if "{" in str(path) and path.suffix == ".tar" and not os.path.exists(path):
        return open_webdataset(next(parent for parent in path.parents if "{" not in str(parent)), expand_braces(path))
    try:
        exists, is_file = path.exists(), path.is_file()
    except OSError as error:
        raise DataError(f"data must be readable; {path}: {error.strerror}; {read_remedy(error)}") from error
    if not exists:
        raise DataError(
            f"data must be a folder, a .csv, .tar or .parquet file, or {', '.join(BUILT_IN)}; {path} does not exist; "
            f"{suggest_path(path, BUILT_IN if str(path) == path.name else ())}"
        )
    if not is_file and not path.is_dir():
        raise DataError(
            f"data must be a folder or a regular file; {path} is neither, as a pipe or device; check the path"
        )
    try:
        if is_packed(path):
            return open_packed(path)
        shards = find_parquet(path)
        if shards and path.is_dir() and walk_images(path):  # saved predictions or embeddings among images
            shards = []
        tables = {} if shards else find_tables(path)
        tars = [] if shards or tables else find_tars(path)
    except OSError as error:
        raise DataError(f"a data folder must be readable; {path}: {error.strerror}; {read_remedy(error)}") from error
    if shards:
        return open_parquet(path, shards)
    if tables:
        return open_csv(path, tables)
    if tars:
        return open_webdataset(path, tars)
    if is_file:
        raise DataError(
            f"data must be a folder, or a .csv, .tar or .parquet file; {path} is a file; "
            "pass the folder of class folders"
        )
    return open_folder(path)


def _missing_classes(dataset: Dataset) -> list[Problem]:
    """Classes without images in a split or in all."""
    problems, classes = [], len(dataset.classes)
    counts = {split: np.bincount(images.labels, minlength=classes) for split, images in dataset.splits.items()}
    total = sum(counts.values())
    for split, count in counts.items():
        for label in np.flatnonzero((count == 0) & (total > 0)):
            where, reason = f"{dataset.name}/{split}", f"class {dataset.classes[label]!r} has no image in this split"
            fatal = split == "train"
            kind: Literal["untrained-class", "missing-class"] = "untrained-class" if fatal else "missing-class"
            problems.append(Problem(kind=kind, where=where, reason=reason, fatal=fatal))
    if not any(problem.kind == "empty-class" for problem in dataset.problems):
        for label in np.flatnonzero(total == 0):
            reason = f"class {dataset.classes[label]!r} has no image in any split"
            problems.append(Problem(kind="empty-class", where=dataset.name, reason=reason))
    return problems
