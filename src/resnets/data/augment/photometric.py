"""Photometric augmentation: automatic policy, colour jitter, grayscale and random erasing, in that order.

Random draws are keyed by seed, epoch, sample and view, each option in its own stream or columns. So an image is
augmented alike in any batch, and one option does not change what another does.

Legend: N batch, H height, W width, C channels.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from resnets.arch.preprocessing import Preprocessing
from resnets.data import random
from resnets.data.augment.auto import Step, apply_steps, choose_steps, policy_draws
from resnets.data.augment.config import AugmentConfig
from resnets.data.augment.erasing import random_erasing
from resnets.data.transform import fill_values
from resnets.errors import ConfigError

__all__ = ["augment_photometric", "jitter_draws", "jitter_steps"]

_ORDERS = tuple(permutations(range(4)))
_FACTORS, _ORDER, _GRAYSCALE = slice(0, 4), 4, 5  # columns of the draws
_KINDS = ("brightness", "contrast", "color", "hue")


def augment_photometric(
    images: npt.NDArray[Any],
    config: AugmentConfig,
    preprocessing: Preprocessing,
    keys: random.SampleKeys,
) -> npt.NDArray[Any]:
    """Images after the policy, colour jitter, grayscale and random erasing.

    Args:
        images: (N, H, W, C) of the preprocessing's channels and depth; left as they are.
        config: random erasing supports any channels and depth; the other options uint8, grayscale or colour.
        preprocessing: gives the fill (its mean colour) and the order of the channels.
        keys: of the N samples.

    Returns:
        (N, H, W, C): a copy, or `images` itself if no option is on.

    Raises:
        ConfigError: the options do not support the images' type or channels.
    """
    fill, bgr = fill_values(preprocessing), preprocessing.channels == "BGR"
    if bgr:
        images, fill = images[..., ::-1], fill[::-1]
    if config.recolours:
        images = _recolour(images, config, keys, fill)
    if config.random_erasing > 0:
        images = random_erasing(images, config, keys, fill)
    return np.ascontiguousarray(images[..., ::-1]) if bgr else images


def jitter_draws(seed: int, epoch: int, index: npt.ArrayLike, view: npt.ArrayLike = 0) -> npt.NDArray[np.float64]:
    """(N, 8) uniform numbers in [0, 1), one row for each `jitter_steps`."""
    return random.uniform(seed, epoch, index, random.Stream.JITTER, 8, view)


def jitter_steps(config: AugmentConfig, draws: npt.NDArray[np.float64]) -> list[Step]:
    """Colour jitter and grayscale of one image, in order, by torchvision's rules; `draws` is a row."""
    steps = []
    for kind in _ORDERS[int(draws[_ORDER] * len(_ORDERS))]:
        strength = config.color_jitter[kind]
        if strength > 0:
            centre = 0.0 if _KINDS[kind] == "hue" else 1.0
            low = -strength if _KINDS[kind] == "hue" else max(0.0, 1 - strength)
            amount = low + float(draws[_FACTORS][kind]) * (centre + strength - low)
            steps.append(Step(_KINDS[kind], amount))
    if draws[_GRAYSCALE] < config.grayscale:
        steps.append(Step("color", 0.0))
    return steps


def _recolour(
    images: npt.NDArray[Any], config: AugmentConfig, keys: random.SampleKeys, fill: tuple[float, ...]
) -> npt.NDArray[np.uint8]:
    if images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
        raise ConfigError(
            f"policy, color_jitter and grayscale need uint8 images with 1 or 3 channels; got {images.dtype} with "
            f"{images.shape[-1]}; use flips, crops and erasing"
        )
    images, size, fill_bytes = images.copy(), (images.shape[1], images.shape[2]), tuple(round(value) for value in fill)
    policy, jitter = policy_draws(config, *keys), jitter_draws(*keys)
    for row in range(len(images)):
        if steps := choose_steps(config, policy[row], size) + jitter_steps(config, jitter[row]):
            image = Image.fromarray(images[row, :, :, 0] if images.shape[3] == 1 else images[row])
            images[row] = np.asarray(apply_steps(image, steps, config, fill_bytes)).reshape(images.shape[1:])
    return images
