"""Predictions and embeddings of image files: decoded in parallel, run in batches, returned in order.

Legend: N images of a batch, C classes, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnets.data.decode.budget import reserving
from resnets.data.decode.image import Pixels, decode
from resnets.data.transform import decode_channels, normalise, prepare
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
        path: the image file.
        top: (class name, probability in [0, 1]) pairs, most likely first.
    """

    path: Path
    top: tuple[tuple[str, float], ...]

    @property
    def label(self) -> str:
        """The most likely class."""
        return self.top[0][0]

    @property
    def confidence(self) -> float:
        """Probability of the most likely class."""
        return self.top[0][1]

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form."""
        top = [{"label": label, "probability": probability} for label, probability in self.top]
        return {"path": str(self.path), "label": self.label, "probability": self.confidence, "top": top}


def predict_images(
    bundle: Bundle,
    paths: Sequence[Path],
    *,
    top_k: int = 5,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    on_bad: Callable[[ImageError], None] | None = None,
) -> Iterator[Prediction]:
    """Predict the class of each image; yields in the order of `paths`, batch by batch.

    Args:
        bundle: a classifier; it is moved to `device`.
        paths: image files.
        top_k: number of classes of each prediction, from 1 to C.
        batch_size: images of a batch.
        device: where to compute.
        on_bad: called with the error of each image that cannot be decoded, which is then skipped; `None` raises.

    Raises:
        ConfigError: the model has no classes, or a batch size below 1.
        ImageError: an image cannot be decoded and `on_bad` is `None`.
    """
    if not bundle.classes:
        raise ConfigError(f"prediction needs a classifier; {bundle.name} outputs embeddings; use embed")
    for decoded, logits in _run_batches(bundle, paths, batch_size=batch_size, device=device, on_bad=on_bad):
        probabilities = softmax(logits)  # (N, C)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : max(top_k, 1)]
        for path, row, best in zip(decoded, probabilities, order, strict=True):
            yield Prediction(path, tuple((bundle.classes[index], float(row[index])) for index in best))


def embed_images(
    bundle: Bundle, paths: Sequence[Path], *, batch_size: int = 32, device: torch.device | str = "cpu"
) -> NDArray[np.float32]:
    """The pooled features before the classifier, (len(paths), D) float32; arguments as of `predict_images`.

    Raises:
        ConfigError: a batch size below 1.
        ImageError: an image cannot be decoded.
    """
    batches = _run_batches(bundle, paths, batch_size=batch_size, device=device, pre_logits=True)
    return np.concatenate([np.empty((0, bundle.model.num_features), np.float32), *(output for _, output in batches)])


def _run_batches(
    bundle: Bundle,
    paths: Sequence[Path],
    *,
    batch_size: int,
    device: torch.device | str,
    on_bad: Callable[[ImageError], None] | None = None,
    pre_logits: bool = False,
) -> Iterator[tuple[list[Path], NDArray[np.float32]]]:
    """Decodable paths and outputs (N, C or D) of each batch; the next batch is decoded while one is computed."""
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1; got {batch_size}; the default is 32")
    model, preprocessing = bundle.model.to(device), bundle.preprocessing
    channels = decode_channels(preprocessing)

    def read(path: Path) -> Pixels | ImageError:
        try:
            with reserving():
                return prepare(decode(path, channels, depth=preprocessing.dtype), preprocessing)
        except ImageError as error:
            return error

    batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    with ThreadPoolExecutor(available_cores()) as pool, evaluation_mode(model):
        following = pool.map(read, batches[0]) if batches else iter(())
        for number, batch in enumerate(batches, start=1):
            images = following
            if number < len(batches):
                following = pool.map(read, batches[number])
            decoded, pixels = [], []
            for path, image in zip(batch, images, strict=True):
                if not isinstance(image, ImageError):
                    decoded.append(path)
                    pixels.append(image)
                elif on_bad is None:
                    raise image
                else:
                    on_bad(image)
            if pixels:
                with torch.inference_mode():
                    x = normalise(torch.from_numpy(np.stack(pixels)), preprocessing, device=device)
                    output = model.forward_head(model.forward_features(x), pre_logits=pre_logits)
                yield decoded, output.float().cpu().numpy()
