"""The evaluation loop: `evaluate_model` on any batches, `evaluate_split` on a split of a data set.

Legend: N images, B images of a batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resnets.data.dataset import Dataset, ImageSet
from resnets.data.loader import make_batches
from resnets.errors import ConfigError, DataError, ResnetsError, ShapeError
from resnets.evaluate.evaluation import Evaluation
from resnets.nn.modes import evaluation_mode
from resnets.runtime.shard import Shard
from resnets.weights.folder.bundle import Bundle

__all__ = ["NotFiniteLogitsError", "Outputs", "choose_split", "evaluate_model", "evaluate_split"]


class NotFiniteLogitsError(ResnetsError):
    """A network computed logits that are NaN or infinite."""


class Outputs(NamedTuple):
    """Outputs of one process: labels (N,), logits (N, C) and image indices (N,)."""

    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    indices: NDArray[np.int64]


Gather = Callable[[Outputs], list[Outputs]]
"""Collects the outputs of all processes, in rank order."""


def evaluate_model(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor, Any]],
    classes: Sequence[str],
    *,
    amp: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    on_batch: Callable[[int], None] | None = None,
    gather: Gather = lambda outputs: [outputs],
) -> Evaluation:
    """Run a network over all batches, in evaluation mode and without gradients.

    Afterwards, also after an error, each module has its previous training mode: frozen batch norms stay in
    evaluation mode.

    Args:
        model: returns (B, C) logits; already on `device`.
        batches: (images (B, ...), labels (B,), indices (B,)); tensors on any device, indices also as an array.
        classes: C class names, in the order of the logits.
        amp: autocast to `torch.bfloat16` or `torch.float16`; `None` computes in the dtype of the weights.
        device: where to compute.
        on_batch: called after each batch with its number of images.
        gather: where several processes each run some of the batches, collects the outputs of all; images are then
            sorted by their indices.

    Raises:
        NotFiniteLogitsError: NaN or infinite logits.
        ShapeError: logits that are not (B, C).
        DataError: no images, or a label outside 0 to C-1.
    """
    device = torch.device(device)
    empty = np.empty(0, np.int64)
    labels, logits, indices = [empty], [np.empty((0, len(classes)), np.float32)], [empty]

    with (
        evaluation_mode(model),
        torch.inference_mode(),
        torch.autocast(device.type, dtype=amp, enabled=amp is not None),
    ):
        for x, y, index in batches:
            output = model(x.to(device, non_blocking=True))  # (B, C)
            if output.shape != (len(y), len(classes)):
                raise ShapeError(
                    f"the network must return (B, C) logits, here {(len(y), len(classes))}; "
                    f"got {tuple(output.shape)}; check num_classes against the {len(classes)} classes of the data"
                )
            labels.append(_to_int64(y))
            indices.append(_to_int64(index))
            logits.append(output.float().cpu().numpy())
            _check_finite(logits[-1], indices[-1])
            if on_batch is not None:
                on_batch(len(y))

    outputs = Outputs(np.concatenate(labels), np.concatenate(logits), np.concatenate(indices))
    gathered = gather(outputs)
    if len(gathered) > 1:
        merged = Outputs(*map(np.concatenate, zip(*gathered, strict=True)))
        order = np.argsort(merged.indices, kind="stable")
        outputs = Outputs(merged.labels[order], merged.logits[order], merged.indices[order])
    return Evaluation(**outputs._asdict(), classes=tuple(classes))


def choose_split(dataset: Dataset, split: str | None) -> tuple[str, ImageSet]:
    """Name and images of `split`; by default of `val`, else of `test`, else of the only one.

    Raises:
        DataError: no such split.
    """
    for name in (split,) if split else ("val", "test", *dataset.splits):
        if name in dataset.splits:
            return name, dataset.splits[name]
    raise DataError(
        f"evaluation needs a split of the data; got {split}; {dataset.name} has {', '.join(dataset.splits)}; "
        "pass --split"
    )


def evaluate_split(
    bundle: Bundle,
    images: ImageSet,
    *,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    amp: torch.dtype | None = None,
    workers: int | None = None,
    on_batch: Callable[[int], None] | None = None,
    shard: Shard | None = None,
    gather: Gather = lambda outputs: [outputs],
) -> Evaluation:
    """Evaluate a model with its own preprocessing on a split.

    Args:
        bundle: a classifier; it is moved to `device`.
        images: the split; labels are the model's class indices, see `class_match.relabel`.
        batch_size: images of a batch, at least 1.
        device: where to compute.
        amp: see `evaluate_model`.
        workers: decoding processes; `None` chooses.
        on_batch: called after each batch with its number of images.
        shard: the part of each batch that this process evaluates; `None` evaluates all.
        gather: see `evaluate_model`.

    Raises:
        ConfigError: a batch size below 1.
        ImageError: an image cannot be decoded.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1; got {batch_size}; the default is 128")
    batches = make_batches(
        images, bundle.preprocessing, batch_size=batch_size, device=device, workers=workers, shard=shard
    )
    model = bundle.model.to(device)
    return evaluate_model(
        model, batches.epoch(0), bundle.classes, amp=amp, device=device, on_batch=on_batch, gather=gather
    )


def _check_finite(logits: NDArray[np.float32], indices: NDArray[np.int64]) -> None:
    bad = ~np.isfinite(logits).all(axis=1)
    if bad.any():
        raise NotFiniteLogitsError(
            f"logits must be finite; got {'NaN' if np.isnan(logits).any() else 'infinite'} logits for "
            f"{int(bad.sum())} of {len(logits)} images in a batch, first for image {int(indices[bad][0])}; "
            "evaluate an earlier checkpoint or without float16, or check that image"
        )


def _to_int64(values: Any) -> NDArray[np.int64]:
    """A (B,) tensor, array or list as int64 in main memory; copied, because loaders reuse their buffers."""
    return torch.as_tensor(values).to("cpu", torch.int64).numpy().copy()
