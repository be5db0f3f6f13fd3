"""What a model says of images: decoded side by side, run in batches, answered in order.

Legend: N images in a batch, C classes, D embedding.
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
    """What an image shows.

    Args:
        path: the image.
        top: the likeliest classes with their probabilities in [0, 1], best first.
    """

    path: Path
    top: tuple[tuple[str, float], ...]

    @property
    def label(self) -> str:
        """The likeliest class."""
        return self.top[0][0]

    @property
    def confidence(self) -> float:
        """Its probability."""
        return self.top[0][1]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
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
    """A prediction for each image, in the order of `paths`, as the batches are done.

    Args:
        bundle: a classifier.
        paths: image files.
        top_k: how many classes to answer, at most all.
        batch_size: images a batch.
        device: where the network runs; it is moved there.
        on_bad: called with each image that does not decode, which is then left out; `None` stops at the first.

    Raises:
        ConfigError: the model answers no classes.
        ImageError: an image does not decode and `on_bad` is `None`.
    """
    if not bundle.classes:
        raise ConfigError(f"predicting needs a classifier; {bundle.name} answers embeddings; use embed")
    for chosen, logits in run_images(bundle, paths, batch_size=batch_size, device=device, on_bad=on_bad):
        probabilities = softmax(logits)  # (N, C)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : max(top_k, 1)]
        for path, row, best in zip(chosen, probabilities, order, strict=True):
            yield Prediction(path, tuple((bundle.classes[index], float(row[index])) for index in best))


def embed_images(
    bundle: Bundle, paths: Sequence[Path], *, batch_size: int = 32, device: torch.device | str = "cpu"
) -> NDArray[np.float32]:
    """The pooled features before the classifier, (len(paths), D) float32.

    Raises:
        ImageError: an image does not decode.
    """
    parts = [part for _, part in run_images(bundle, paths, batch_size=batch_size, device=device, pre_logits=True)]
    return np.concatenate(parts) if parts else np.empty((0, bundle.model.num_features), np.float32)


def run_images(
    bundle: Bundle,
    paths: Sequence[Path],
    *,
    batch_size: int,
    device: torch.device | str,
    on_bad: Callable[[ImageError], None] | None = None,
    pre_logits: bool = False,
) -> Iterator[tuple[list[Path], NDArray[np.float32]]]:
    """The network's answers (N, C or D) for the images of each batch; a batch is decoded while another runs."""
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1; got {batch_size}; 32 is usual")
    model = bundle.model.to(device)
    starts = range(0, len(paths), batch_size)
    with ThreadPoolExecutor(available_cores()) as pool, evaluation_mode(model):
        ahead = {start: pool.map(_reader(bundle), paths[start : start + batch_size]) for start in starts[:1]}
        for start in starts:
            if start + batch_size < len(paths):
                following = paths[start + batch_size : start + 2 * batch_size]
                ahead[start + batch_size] = pool.map(_reader(bundle), following)
            chosen, pixels = [], []
            for path, read in zip(paths[start : start + batch_size], ahead.pop(start), strict=True):
                if not isinstance(read, ImageError):
                    chosen.append(path)
                    pixels.append(read)
                elif on_bad is None:
                    raise read
                else:
                    on_bad(read)
            if pixels:
                with torch.inference_mode():
                    batch = normalise(torch.from_numpy(np.stack(pixels)), bundle.preprocessing, device=device)
                    answer = model.forward_head(model.forward_features(batch), pre_logits=pre_logits)
                yield chosen, answer.float().cpu().numpy()


def _reader(bundle: Bundle) -> Callable[[Path], Pixels | ImageError]:
    channels = decode_channels(bundle.preprocessing)

    def read(path: Path) -> Pixels | ImageError:
        try:
            return prepare(decode(path, channels, depth=bundle.preprocessing.dtype), bundle.preprocessing)
        except ImageError as error:
            return error

    return read
