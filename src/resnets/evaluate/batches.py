"""Running a network over images: decoded in threads, a batch ahead, in order.

Legend: N images of a batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, repeat
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnets.data.decode.image import Pixels
from resnets.data.inputs import ImageInputs, NamedImage, iter_images, read_image
from resnets.data.transform import normalise
from resnets.data.workers import available_cores
from resnets.errors import ConfigError, ImageError
from resnets.nn.modes import evaluation_mode
from resnets.weights.folder.bundle import Bundle

__all__ = ["run_batches"]


def run_batches(
    bundle: Bundle,
    images: ImageInputs,
    compute: Callable[[Tensor], Tensor],
    *,
    batch_size: int,
    device: torch.device | str,
    amp: torch.dtype | None = None,
    on_bad: Callable[[ImageError], None] | None = None,
) -> Iterator[tuple[list[Path | str], NDArray[np.float32]]]:
    """Names of the decodable images and outputs of each batch; the next one is decoded meanwhile.

    Args:
        bundle: its network is moved to `device`, and is in evaluation mode meanwhile.
        images: as for `data.inputs.iter_images`.
        compute: from normalised images (N, C, H, W) on the device to outputs, by rows.
        batch_size, device, amp, on_bad: as for `predict_images`.

    Raises:
        ConfigError: a batch size below 1.
        ImageError: an image cannot be decoded and `on_bad` is `None`.
    """
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
                    output = compute(x)
                yield names, output.float().cpu().numpy()
