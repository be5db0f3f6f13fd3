"""Manifest of a run's images: a resumed run uses exactly the images that it started with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np

from resnets.atomic import write_atomic
from resnets.data.check import check, raise_on_fatal, skip_undecodable
from resnets.data.dataset import Dataset, Problem
from resnets.data.open import open_dataset
from resnets.data.reid.training import open_reid_training
from resnets.errors import TrainingError
from resnets.runtime.console import Console
from resnets.runtime.processes import Processes
from resnets.small_files import read_small_text
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.config.train_config import TrainConfig
from resnets.train.run_folder.checkpoint import checkpoints
from resnets.train.run_folder.paths import RunFolder

__all__ = ["check_data", "data_difference", "open_data", "read_left_out", "write_manifest"]

MAX_BYTES = 2**28  # the numbers of images that are left out, of 20 million


def open_data(config: TrainConfig) -> Dataset:
    """Open the data of a run, with its splits."""
    open_task = open_reid_training if config.task == "reid" else open_dataset
    return open_task(
        config.data, val_fraction=config.val_fraction, seed=config.seed, folds=config.folds, fold=config.fold
    )


def check_data(dataset: Dataset, config: ResolvedConfig, console: Console, processes: Processes) -> list[Problem]:
    """Decode every training and validation image once; each process decodes its share.

    Returns:
        Images that cannot be decoded, to be left out (all of them, in every process).

    Raises:
        DataError: the data cannot be used, or has images that cannot be decoded, without `skip_bad`.
    """
    seen = 0
    splits = {name: images for name, images in dataset.splits.items() if name != "test"}
    share = {
        name: images.subset(np.arange(processes.rank, len(images), processes.world_size, dtype=np.int64))
        for name, images in splits.items()
    }
    console.start("checking images", sum(map(len, splits.values())))

    def progress(done: int, total: int) -> None:
        nonlocal seen
        console.advance((done - seen) * processes.world_size)  # the other processes are about as far
        seen = done

    try:
        own = replace(dataset, splits=share)
        found = check(own, preprocessing=config.preprocessing, workers=config.workers or None, progress=progress)
        everywhere = sorted(
            (problem for part in processes.all_gather(found) for problem in part), key=lambda problem: problem.where
        )
    finally:
        console.stop()
    bad = [problem for problem in everywhere if problem.fatal]
    thin = [problem for problem in everywhere if not problem.fatal]
    for problem in [*dataset.problems, *thin[:3]]:
        if not problem.fatal:
            console.info(f"note: {problem}")
    if len(thin) > 3:
        console.info(f"note: {len(thin) - 3} more images are as thin; `resnets data check` lists them")
    raise_on_fatal([*dataset.problems, *([] if config.skip_bad else bad)])
    if bad:
        raise_on_fatal(dataset.without_undecodable(bad).problems)
    for problem in bad:
        console.info(f"left out: {problem}")
    return bad


def write_manifest(run: RunFolder, dataset: Dataset, bad: Sequence[Problem]) -> None:
    """Write which images a run has, and which of them it leaves out, the `bad` ones."""
    bad_names = {problem.where for problem in bad}
    left_out = {
        name: [i for i in range(len(images)) if images.name(i) in bad_names] if bad_names else []
        for name, images in dataset.splits.items()
    }
    write_atomic(run.manifest, json.dumps(_listing(dataset) | {"left_out": left_out}, indent=1) + "\n")
    if bad:
        skip_undecodable(dataset, bad, run.quarantine)


def read_left_out(run: RunFolder, dataset: Dataset) -> list[Problem] | None:
    """Images that a run leaves out, from its manifest; `None` if it has no manifest yet.

    Raises:
        TrainingError: the images have changed since the run started, or the manifest was deleted.
    """
    if not run.manifest.is_file() and not checkpoints(run.checkpoints):  # else it was deleted
        return None
    if (difference := data_difference(run, dataset)) is not None:
        raise TrainingError(f"a run must be resumed with its own images; {difference}; restore them or start a new run")
    return [
        Problem(kind="undecodable", where=dataset.splits[name].name(i), reason="left out", fatal=True)
        for name, indices in _read_manifest(run)["left_out"].items()
        for i in indices
    ]


def data_difference(run: RunFolder, dataset: Dataset) -> str | None:
    """How a data set differs from the manifest of a run; `None` if it does not, or there is no manifest."""
    if not run.manifest.is_file():
        return None
    then, now = _read_manifest(run), _listing(dataset)
    if then["listing"] == now["listing"]:
        return None
    if then["classes"] != now["classes"]:
        return f"{dataset.name} has the classes {_join(now['classes'])}, and had {_join(then['classes'])}"
    if then["images"] != now["images"]:
        return f"{dataset.name} has {_counts(now['images'])} images, and had {_counts(then['images'])}"
    return f"{dataset.name} has as many images, but other names, labels or groups"


def _listing(dataset: Dataset) -> dict[str, Any]:
    """Hash, classes and counts of the images. Names are relative, so that their folder may be moved."""
    start, digest = len(dataset.folder), sha256("\0".join(dataset.classes).encode(errors="surrogateescape"))
    for split, images in dataset.splits.items():
        names = (images.name(i)[start:] for i in range(len(images)))
        digest.update("\0".join([split, *names]).encode(errors="surrogateescape"))
        digest.update(images.labels.tobytes())
        digest.update(b"" if images.groups is None else images.groups.tobytes())
        digest.update(b"" if images.cameras is None else images.cameras.tobytes())
    return {
        "listing": digest.hexdigest(),
        "classes": list(dataset.classes),
        "images": {split: len(images) for split, images in dataset.splits.items()},
    }


def _read_manifest(run: RunFolder) -> dict[str, Any]:
    try:
        manifest = json.loads(read_small_text(run.manifest, MAX_BYTES))
        for name, indices in manifest["left_out"].items():
            if not all(type(index) is int and 0 <= index < manifest["images"][name] for index in indices):
                raise ValueError(f"left_out of {name} must be indices of its images")
        return {key: manifest[key] for key in ("listing", "classes", "images", "left_out")}
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TrainingError(f"a run needs its manifest of images; {run.manifest}: {reason}; restore it") from None


def _counts(images: dict[str, int]) -> str:
    return " and ".join(f"{count:,} {split}" for split, count in images.items())


def _join(classes: list[str]) -> str:
    return ", ".join(classes[:5]) + (f" and {len(classes) - 5} more" if len(classes) > 5 else "")
