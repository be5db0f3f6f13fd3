"""Predictions and embeddings of images: decoded in parallel, run in batches, returned in order.

Legend: N images of a batch, C classes, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnets.data.decode.image import Pixels
from resnets.data.inputs import ImageInputs, NamedImage, iter_images, read_image
from resnets.data.transform import normalise
from resnets.data.workers import available_cores
from resnets.errors import ConfigError, ImageError
from resnets.evaluate.metrics import softmax
from resnets.nn.modes import evaluation_mode
from resnets.weights.folder.bundle import Bundle

__all__ = ["Prediction", "embed_images", "predict_images"]


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
    bundle.check_classes()
    for decoded, logits in _run_batches(bundle, images, batch_size=batch_size, device=device, amp=amp, on_bad=on_bad):
        probabilities = softmax(logits)  # (N, C)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : max(top_k, 1)]
        for path, row, best in zip(decoded, probabilities, order, strict=True):
            top = ((bundle.classes[index], float(row[index])) for index in best)
            yield Prediction(path, tuple(one for one in top if one[1] >= threshold))


def embed_images(
    bundle: Bundle, images: ImageInputs, *, batch_size: int = 32, device: torch.device | str = "cpu"
) -> NDArray[np.float32]:
    """The pooled features before the classifier, (N, D) float32; arguments as of `predict_images`.

    Raises:
        ConfigError: a batch size below 1.
        ImageError: an image cannot be decoded.
    """
    batches = _run_batches(bundle, images, batch_size=batch_size, device=device, pre_logits=True)
    return np.concatenate([np.empty((0, bundle.model.num_features), np.float32), *(output for _, output in batches)])


def _run_batches(
    bundle: Bundle,
    images: ImageInputs,
    *,
    batch_size: int,
    device: torch.device | str,
    amp: torch.dtype | None = None,
    on_bad: Callable[[ImageError], None] | None = None,
    pre_logits: bool = False,
) -> Iterator[tuple[list[Path | str], NDArray[np.float32]]]:
    """Names of the decodable images and outputs (N, C or D) of each batch; the next one is decoded meanwhile."""
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1; got {batch_size}; the default is 32")
    model, preprocessing = bundle.model.to(device), bundle.preprocessing

    def read(image: NamedImage) -> tuple[NamedImage, Pixels | ImageError]:
        try:
            return image, read_image(image, preprocessing)
        except ImageError as error:
            return image, error

    given = iter_images(images)
    with ThreadPoolExecutor(available_cores()) as pool, evaluation_mode(model):
        following = list(map(pool.submit, repeat(read), islice(given, batch_size)))
        while following:
            pending, following = following, list(map(pool.submit, repeat(read), islice(given, batch_size)))
            names, pixels = [], []
            for image, result in (future.result() for future in pending):
                if not isinstance(result, ImageError):
                    names.append(image.name)
                    pixels.append(result)
                elif on_bad is None:
                    raise result
                else:
                    on_bad(result)
            if pixels:
                kind = torch.device(device).type
                with torch.inference_mode(), torch.autocast(kind, amp, enabled=amp is not None):
                    x = normalise(torch.from_numpy(np.stack(pixels)), preprocessing, device=device)
                    output = model.forward_head(model.forward_features(x), pre_logits=pre_logits)
                yield names, output.float().cpu().numpy()
