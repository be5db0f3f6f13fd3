"""Measuring a model on a split of a data set: the classes matched by name, the preprocessing the model's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from resnets.data.dataset import Dataset, ImageSet
from resnets.data.loader import make_batches
from resnets.errors import ConfigError, DataError
from resnets.evaluate.evaluation import Evaluation
from resnets.evaluate.loop import Part, evaluate_model
from resnets.runtime.shard import Shard
from resnets.weights.folder.bundle import Bundle

__all__ = ["choose_split", "evaluate_split"]


def choose_split(dataset: Dataset, split: str | None) -> tuple[str, ImageSet]:
    """The split to measure on: the one asked for, else `val`, else `test`.

    Raises:
        DataError: there is no such split, or only `train` and nobody asked for it.
    """
    for name in (split,) if split else ("val", "test"):
        if name in dataset.splits:
            return name, dataset.splits[name]
    raise DataError(
        f"measuring needs a split that the data has; got {split or 'no val or test'}; {dataset.name} has "
        f"{', '.join(dataset.splits)}; pass --split"
    )


def evaluate_split(
    bundle: Bundle,
    dataset: Dataset,
    images: ImageSet,
    *,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    workers: int | None = None,
    on_batch: Callable[[int], None] | None = None,
    shard: Shard | None = None,
    gather: Callable[[Part], list[Part]] = lambda part: [part],
) -> Evaluation:
    """Run `bundle` over `images`, whose labels are `dataset`'s.

    Args:
        shard: of several processes that measure together, which this one is; gather: see `evaluate_model`.

    Raises:
        ConfigError: the model answers no classes, or a batch of none is asked for.
        DataError: the data has a class that the model does not know.
        ImageError: an image does not decode.
    """
    if not bundle.classes:
        raise ConfigError(f"measuring needs a classifier; {bundle.name} answers embeddings; use embed")
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1; got {batch_size}; 128 is usual")
    labels = _matched(bundle, dataset)[images.labels]
    batches = make_batches(
        replace(images, labels=labels),
        bundle.preprocessing,
        batch_size=batch_size,
        device=device,
        workers=workers,
        shard=shard,
    )
    model = bundle.model.to(device)
    return evaluate_model(model, batches.epoch(0), bundle.classes, device=device, on_batch=on_batch, gather=gather)


def _matched(bundle: Bundle, dataset: Dataset) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """For each class of the data, the model's index of it."""
    if "import" in bundle.provenance and len(dataset.classes) == len(bundle.classes):
        return np.arange(len(dataset.classes))  # from a bare weights file, which holds no names: trust the order
    known = {name: index for index, name in enumerate(bundle.classes)}
    unknown = [name for name in dataset.classes if name not in known]
    if unknown:
        raise DataError(
            f"the data's classes must be the model's; {', '.join(map(repr, unknown[:5]))} "
            f"not among the {len(known)} of {bundle.name}; use other data or train on it"
        )
    return np.array([known[name] for name in dataset.classes], np.int64)
