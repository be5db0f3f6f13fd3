"""Random erasing (Zhong et al. 2017): rectangles of an image are filled.

Legend: N batch, H height, W width, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.data import random
from resnets.data.augment.config import AugmentConfig
from resnets.errors import ConfigError

__all__ = ["erasing_boxes", "erasing_draws", "random_erasing"]

Draws = npt.NDArray[np.float64]
Box = tuple[int, int, int, int]
_ATTEMPTS = 10  # to find a rectangle that fits
_HEAD, _BOX = 4, 2 * _ATTEMPTS + 4  # columns of the draws: for the image, then for each rectangle
_MAXIMA = {"uint8": 255, "uint16": 65535}  # of floats: 1
_QUANTILES = np.array([NormalDist().inv_cdf((byte + 0.5) / 256) for byte in range(256)])  # of a random byte


def random_erasing(
    images: npt.NDArray[Any], config: AugmentConfig, keys: random.SampleKeys, fill: Sequence[float]
) -> npt.NDArray[Any]:
    """Images with rectangles filled, each image with probability `config.random_erasing`.

    Args:
        images: (N, H, W, C) uint8, uint16 or floats; left as they are.
        keys: of the N samples.
        fill: C values of the mean colour, in the images' units.

    Returns:
        (N, H, W, C), a copy.

    Raises:
        ConfigError: images of another type.
    """
    if images.dtype.name not in _MAXIMA and images.dtype.kind != "f":
        raise ConfigError(f"random erasing needs uint8, uint16 or float images; got {images.dtype}; convert them")
    images, size = images.copy(), (images.shape[1], images.shape[2])
    seed, epoch, indices, views = keys
    view = np.broadcast_to(np.asarray(views), len(images))
    draws = erasing_draws(config, *keys)
    colour = np.zeros(len(fill)) if config.erasing_fill == "black" else np.array(fill)
    for row, index in enumerate(np.asarray(indices)):
        boxes = erasing_boxes(config, draws[row], size)
        noise = None
        if config.erasing_fill == "noise" and boxes:
            count = sum(height * width for _, _, height, width in boxes) * len(colour)
            noise = random.random_bytes(seed, epoch, index, random.Stream.ERASE_NOISE, count, view[row])[0]
        for top, left, height, width in boxes:
            hole = images[row, top : top + height, left : left + width]  # (h, w, C)
            if noise is None:
                hole[:] = colour
            else:
                hole[:] = _noise(noise[: hole.size].reshape(hole.shape), colour, images.dtype)
                noise = noise[hole.size :]
    return images


def erasing_draws(config: AugmentConfig, seed: int, epoch: int, index: npt.ArrayLike, view: npt.ArrayLike = 0) -> Draws:
    """(N, K) uniform numbers in [0, 1), one row for each `erasing_boxes`."""
    return random.uniform(seed, epoch, index, random.Stream.ERASE, _HEAD + _BOX * config.erasing_count, view)


def erasing_boxes(config: AugmentConfig, draws: Draws, size: tuple[int, int]) -> list[Box]:
    """The rectangles of one image, by timm's rule: smaller than the image both ways, ten attempts each.

    Args:
        config: `random_erasing` and the options that belong to it.
        draws: a row of `erasing_draws`.
        size: (H, W) of the image.

    Returns:
        (top, left, height, width) of each, in pixels; none if the image is left as it is.
    """
    if draws[0] >= config.random_erasing:
        return []
    count = 1 + int(draws[1] * config.erasing_count)
    low, high = math.log(config.erasing_ratio[0]), math.log(config.erasing_ratio[1])
    smallest, largest = (share * size[0] * size[1] / count for share in config.erasing_scale)
    boxes = []
    for number in range(count):
        numbers = draws[_HEAD + _BOX * number :][:_BOX]
        for attempt in range(_ATTEMPTS):
            area = smallest + numbers[2 * attempt] * (largest - smallest)
            ratio = math.exp(low + numbers[2 * attempt + 1] * (high - low))
            height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if height < size[0] and width < size[1]:
                top, left = numbers[2 * _ATTEMPTS : 2 * _ATTEMPTS + 2]
                boxes.append((int(top * (size[0] - height + 1)), int(left * (size[1] - width + 1)), height, width))
                break
    return boxes


def _noise(uniform_bytes: npt.NDArray[np.uint8], colour: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """(h, w, C) normal values around `colour`, (C,), with a standard deviation of a quarter of the value range."""
    full = _MAXIMA.get(dtype.name, 1)
    sigma = (full + 1) / 4 if dtype.name in _MAXIMA else 1 / 4
    values: npt.NDArray[np.float64] = sigma * _QUANTILES[uniform_bytes] + colour
    return values.round().clip(0, full) if dtype.name in _MAXIMA else values
