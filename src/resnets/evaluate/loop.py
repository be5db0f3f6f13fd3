"""The evaluation loop: a network and batches in, an `Evaluation` out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resnets.errors import DataError, ResnetsError, ShapeError
from resnets.evaluate.evaluation import Evaluation, Mistake
from resnets.nn.modes import evaluation_mode

__all__ = ["Evaluation", "Mistake", "Part", "evaluate_model"]

Part = tuple[list[NDArray[np.int64]], list[NDArray[np.float32]], list[NDArray[np.int64]]]
"""Labels, logits and indices, an array a batch."""


def evaluate_model(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor, Any]],
    classes: Sequence[str],
    *,
    amp: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    on_batch: Callable[[int], None] | None = None,
    gather: Callable[[Part], list[Part]] = lambda part: [part],
) -> Evaluation:
    """Runs the network over all batches, in eval mode and without gradients.

    Each module's training mode is put back afterwards, also after an error: batch norms that were frozen
    stay frozen.

    Args:
        model: answers (B, C) logits; stands on `device` already.
        batches: (images (B, ...), labels (B,), indices (B,)); tensors on any device, indices also as an array.
        classes: C names, in the order of the logits.
        amp: run under autocast to this type, `torch.bfloat16` or `torch.float16`; `None` runs as the weights are.
        device: where to run.
        on_batch: called after each batch with the number of images in it.
        gather: of several processes that each run some of the batches, answers the parts of all; images are then
            put in the order of their indices.

    Raises:
        ResnetsError: logits that are NaN or infinite.
        ShapeError: logits that are not (B, C).
        DataError: no image, or a label that is no class.
    """
    device = torch.device(device)
    names = tuple(classes)
    labels: list[NDArray[np.int64]] = []
    logits: list[NDArray[np.float32]] = []
    indices: list[NDArray[np.int64]] = []

    with (
        evaluation_mode(model),
        torch.inference_mode(),
        torch.autocast(device.type, dtype=amp, enabled=amp is not None),
    ):
        for x, y, places in batches:
            output = model(x.to(device, non_blocking=True))  # (B, C)
            if output.shape != (len(y), len(names)):
                raise ShapeError(
                    f"the network must answer (N, C) logits, here {(len(y), len(names))}; "
                    f"got {tuple(output.shape)}; check num_classes against the {len(names)} classes of the data"
                )
            labels.append(_integers(y))
            indices.append(_integers(places))
            logits.append(_finite(output.float().cpu().numpy(), indices[-1]))
            if on_batch is not None:
                on_batch(len(y))

    parts = gather((labels, logits, indices))
    if not any(part[0] for part in parts):
        raise DataError("an evaluation needs at least one image; got none; check the split")
    all_labels, all_logits, all_indices = (
        np.concatenate([array for part in parts for array in part[which]]) for which in range(3)
    )
    order = np.argsort(all_indices, kind="stable") if len(parts) > 1 else slice(None)
    return Evaluation(labels=all_labels[order], logits=all_logits[order], indices=all_indices[order], classes=names)


def _finite(logits: NDArray[np.float32], indices: NDArray[np.int64]) -> NDArray[np.float32]:
    bad = ~np.isfinite(logits).all(axis=1)
    if bad.any():
        kind = "NaN" if np.isnan(logits).any() else "infinite"
        raise ResnetsError(
            f"logits must be finite; got {kind} ones for {int(bad.sum())} of {len(logits)} images in a batch, "
            f"first for image {int(indices[bad][0])}; "
            "evaluate an earlier checkpoint, or without float16, or look at that image"
        )
    return logits


def _integers(values: Any) -> NDArray[np.int64]:
    """A (B,) tensor, array or list as int64 in main memory; copied, as loaders reuse their buffers."""
    return torch.as_tensor(values).to("cpu", torch.int64).numpy().copy()
