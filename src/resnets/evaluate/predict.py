"""Predictions and embeddings of images: decoded in parallel, run in batches, returned in order.

Legend: N images of a batch, C classes, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnets.data.inputs import ImageInputs
from resnets.errors import ConfigError, ImageError
from resnets.evaluate.batches import run_batches
from resnets.evaluate.metrics import softmax
from resnets.weights.folder.bundle import Bundle

__all__ = ["Prediction", "embed_batches", "embed_images", "predict_images"]


@dataclass(frozen=True)
class Prediction:
    """The most likely classes of an image.

    Args:
        path: the image file, or the name of an image in memory, such as `images[3]`.
        top: (class name, probability in [0, 1]) pairs, most likely first; with a threshold perhaps none.
    """

    path: Path | str
    top: tuple[tuple[str, float], ...]

    @property
    def label(self) -> str | None:
        """The most likely class; None if none reaches the threshold."""
        return self.top[0][0] if self.top else None

    @property
    def confidence(self) -> float | None:
        """Probability of the most likely class; None if none reaches the threshold."""
        return self.top[0][1] if self.top else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form."""
        top = [{"label": label, "probability": probability} for label, probability in self.top]
        return {"path": str(self.path), "label": self.label, "probability": self.confidence, "top": top}


def predict_images(
    bundle: Bundle,
    images: ImageInputs,
    *,
    top_k: int = 5,
    threshold: float = 0.0,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    amp: torch.dtype | None = None,
    on_bad: Callable[[ImageError], None] | None = None,
) -> Iterator[Prediction]:
    """Predict the class of each image; yields in their order, batch by batch.

    Args:
        bundle: a classifier; it is moved to `device`.
        images: as for `data.inputs.iter_images`.
        top_k: number of classes of each prediction, from 1 to C.
        threshold: minimum probability of a class, 0 to 1; a prediction may then have no classes.
        batch_size: images of a batch.
        device: where to compute.
        amp: autocast to `torch.bfloat16` or `torch.float16`; `None` computes in float32.
        on_bad: called with the error of each image that cannot be decoded, which is then skipped; `None` raises.

    Raises:
        ConfigError: the model has no classes, or other classes than logits, or a batch size below 1.
        ImageError: an image cannot be decoded and `on_bad` is `None`.
    """
    if not bundle.classes:
        raise ConfigError(f"prediction needs a classifier; {bundle.name} outputs embeddings; use embed")
    if top_k < 1:
        raise ConfigError(f"top_k must be at least 1; got {top_k}")
    bundle.check_classes()
    batches = run_batches(bundle, images, bundle.model, batch_size=batch_size, device=device, amp=amp, on_bad=on_bad)
    for decoded, logits in batches:
        probabilities = softmax(logits)  # (N, C)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        for path, row, best in zip(decoded, probabilities, order, strict=True):
            top = ((bundle.classes[index], float(row[index])) for index in best)
            yield Prediction(path, tuple(one for one in top if one[1] >= threshold))


def embed_images(
    bundle: Bundle, images: ImageInputs, *, batch_size: int = 32, device: torch.device | str = "cpu"
) -> NDArray[np.float32]:
    """The embeddings of all images, (N, D) float32; arguments as of `embed_batches`."""
    batches = embed_batches(bundle, images, batch_size=batch_size, device=device)
    return np.concatenate([np.empty((0, bundle.model.num_features), np.float32), *(output for _, output in batches)])


def embed_batches(
    bundle: Bundle,
    images: ImageInputs,
    *,
    flip: bool = False,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    amp: torch.dtype | None = None,
    on_bad: Callable[[ImageError], None] | None = None,
) -> Iterator[tuple[list[Path | str], NDArray[np.float32]]]:
    """Names and embeddings (N, D) of each batch, the pooled features before the classifier.

    Args:
        bundle, images, batch_size, device, amp, on_bad: as of `predict_images`.
        flip: average the embeddings of each image and of its mirror image.

    Raises:
        ConfigError: a batch size below 1.
        ImageError: an image cannot be decoded and `on_bad` is `None`.
    """
    model = bundle.model

    def embed(x: Tensor) -> Tensor:
        output: Tensor = model.forward_head(model.forward_features(x), pre_logits=True)
        return output

    def embed_both(x: Tensor) -> Tensor:
        return (embed(x) + embed(x.flip(3))) / 2

    compute = embed_both if flip else embed
    yield from run_batches(bundle, images, compute, batch_size=batch_size, device=device, amp=amp, on_bad=on_bad)
