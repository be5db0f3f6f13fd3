"""The training data of re-identification: identities to train on, and other identities to validate on.

Validation takes whole identities, since training aims at embeddings of identities that it never saw, and each of
their images is a query that is compared with all others. The query and gallery sets are for the final evaluation and
are not touched.

Legend: N images.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from resnets.data.dataset import Dataset, ImageSet, Problem
from resnets.data.random import Stream, permutation
from resnets.data.reid.dataset import JUNK, ReidDataset, ReidSet
from resnets.data.reid.open import open_reid
from resnets.data.sources.folder import FolderSource
from resnets.errors import DataError

__all__ = ["open_reid_training", "training_splits"]

Ints = npt.NDArray[np.int64]
MIN_IDENTITIES = 2


def open_reid_training(
    data: str | Path, *, val_fraction: float = 0.1, seed: int = 0, folds: int | None = None, fold: int = 0
) -> Dataset:
    """Open re-identification data to train on, in any layout of `open_reid`.

    Data without a query set is used whole; otherwise its set `train` is.

    Args:
        data: the folder or table.
        val_fraction: share of the identities that validate, in [0, 1).
        seed: of their choice.
        folds: instead, divide the identities into this many parts.
        fold: the part that validates, 0 to `folds` - 1.

    Returns:
        A data set whose classes are identities, those of `train` first. Its `val` images have identities of their own,
        and their cameras where there are any.

    Raises:
        DataError: no training images, or too few identities.
    """
    if not 0 <= val_fraction < 1:
        raise DataError(f"val_fraction must be in [0, 1); got {val_fraction}; 0.1 is usual")
    found = open_reid(Path(data))
    images = found.sets.get("train")
    if images is None and found.leave_one_out:
        images = found.sets["gallery"]
    if images is None:
        raise DataError(
            f"training needs a train set; {found.name} ({found.layout}) has {', '.join(found.sets)}; add one, or "
            "evaluate with `resnets reid`"
        )
    return training_splits(found, images, val_fraction=val_fraction, seed=seed, folds=folds, fold=fold)


def training_splits(
    data: ReidDataset, images: ReidSet, *, val_fraction: float, seed: int, folds: int | None = None, fold: int = 0
) -> Dataset:
    """Divide the identities of some images; arguments, result and errors as of `open_reid_training`."""
    kept = np.flatnonzero(images.ids != JUNK)
    ids, cameras = images.ids[kept], None if images.cameras is None else images.cameras[kept]
    names = np.unique(ids)
    held_out = _held_out(names, _can_be_found(names, ids, cameras), val_fraction, seed, folds, fold)
    trained = names[~np.isin(names, held_out)]
    if len(trained) < MIN_IDENTITIES:
        raise DataError(
            f"training needs {MIN_IDENTITIES} identities or more; {data.name} has {len(trained)} beside "
            f"{len(held_out)} for validation; add images of others"
        )
    ordered = np.concatenate([trained, held_out])
    label_of = {int(name): label for label, name in enumerate(ordered)}
    labels = np.array([label_of[int(one)] for one in ids], np.int64)
    root, paths = _relative([images.paths[row] for row in kept])
    whole = ImageSet(source=FolderSource(root, paths), rows=np.arange(len(kept)), labels=labels, cameras=cameras)
    parts = {"train": labels < len(trained), "val": labels >= len(trained)}
    problems = [Problem(kind="ignored", where=data.name, reason=note) for note in data.notes]
    if junk := len(images.ids) - len(kept):
        problems.append(Problem(kind="ignored", where=data.name, reason=f"{junk:,} junk images are left out"))
    if (folds or val_fraction) and len(held_out) == 0:
        reason = "no validation: too few identities have images to be found again (of another camera, with cameras)"
        problems.append(Problem(kind="ignored", where=data.name, reason=reason))
    return Dataset(
        name=data.name,
        classes=tuple(data.id_names.get(int(name), str(name)) for name in ordered),
        splits={name: whole.subset(np.flatnonzero(part)) for name, part in parts.items() if part.any()},
        problems=tuple(problems),
    )


def _can_be_found(names: Ints, ids: Ints, cameras: Ints | None) -> npt.NDArray[np.bool_]:
    """Whether an identity has two images, of different cameras if there are any."""
    seen = ids if cameras is None else np.unique(np.stack([ids, cameras], 1), axis=0)[:, 0]
    return np.bincount(np.searchsorted(names, seen), minlength=len(names)) > 1


def _held_out(
    names: Ints, usable: npt.NDArray[np.bool_], fraction: float, seed: int, folds: int | None, fold: int
) -> Ints:
    """Identities that validate, at least two; none if the training would keep fewer than two."""
    shuffled = names[permutation(len(names), seed, 0, Stream.SPLIT)]
    candidates = shuffled[np.isin(shuffled, names[usable])]
    if folds is not None:
        if folds < 2 or not 0 <= fold < folds or len(candidates) < 2 * folds:
            raise DataError(
                f"folds of identities hold 2 or more each; got fold {fold} of {folds} for {len(candidates)} identities "
                "that can be found again; use fewer folds"
            )
        return np.sort(candidates[fold::folds])
    count = max(MIN_IDENTITIES, round(fraction * len(names))) if fraction else 0
    if count > len(candidates) or len(names) - count < MIN_IDENTITIES:
        count = 0
    return np.sort(candidates[:count])


def _relative(paths: list[str]) -> tuple[Path, list[str]]:
    """A folder that holds all files, and their paths below it."""
    root = os.path.commonpath([os.path.dirname(path) or "." for path in paths])
    return Path(root), [os.path.relpath(path, root) for path in paths]
