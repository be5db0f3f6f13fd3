"""What training does to the pixels of an image once it is in place: policy, colour jitter, greyscale, erasing.

Draws are keyed by seed, epoch, sample and view, each option in a stream or places of its own, so an image comes out
the same alone or in a batch, and turning one option on does not change what another does.

Legend: N batch, H height, W width, C channels.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.Image import Resampling

from resnets.data import random
from resnets.data.augment.auto import Step, apply_policy, choose, policy_draws
from resnets.data.augment.config import AugmentConfig
from resnets.data.augment.erasing import erase
from resnets.data.augment.operations import operate
from resnets.errors import ConfigError

__all__ = ["jitter_draws", "jitter_steps", "vary"]

_ORDERS = tuple(permutations(range(4)))
_FACTORS, _ORDER, _GREY = slice(0, 4), 4, 5  # places in a row of draws
_KINDS = ("brightness", "contrast", "color", "hue")


def vary(
    images: npt.NDArray[Any],
    config: AugmentConfig,
    *,
    seed: int,
    epoch: int,
    indices: npt.ArrayLike,
    views: npt.ArrayLike = 0,
    fill: tuple[float, ...],
) -> npt.NDArray[Any]:
    """The images after the policy, colour jitter, greyscale and random erasing, in that order.

    Args:
        images: (N, H, W, C) uint8, grey or RGB; for random erasing alone also other types and channels, see
            `data.erase`. Left as they are.
        indices: (N,) of the samples in the data set.
        views: which of several views of a sample; one for all, or (N,).
        fill: C values of the mean colour, in the images' own units.

    Returns:
        (N, H, W, C): a copy, or `images` itself if there is nothing to do.

    Raises:
        ConfigError: images of a type or with channels that the options do not take.
    """
    if config.recolours:
        images = _recolour(images, config, seed, epoch, indices, views, fill)
    if config.random_erasing > 0:
        images = erase(images, config, seed=seed, epoch=epoch, indices=indices, views=views, fill=fill)
    return images


def jitter_draws(seed: int, epoch: int, index: npt.ArrayLike, view: npt.ArrayLike = 0) -> npt.NDArray[np.float64]:
    """(N, 8) uniform numbers in [0, 1), a row of which `jitter_steps` takes."""
    return random.uniform(seed, epoch, index, random.Stream.JITTER, 8, view)


def jitter_steps(config: AugmentConfig, draws: npt.NDArray[np.float64]) -> list[Step]:
    """Colour jitter and greyscale of one image, in order, by torchvision's rules; `draws` is a row."""
    steps = []
    for kind in _ORDERS[int(draws[_ORDER] * len(_ORDERS))]:
        reach = config.color_jitter[kind]
        if reach > 0:
            centre = 0.0 if _KINDS[kind] == "hue" else 1.0
            low = -reach if _KINDS[kind] == "hue" else max(0.0, 1 - reach)
            amount = low + float(draws[_FACTORS][kind]) * (centre + reach - low)
            steps.append(Step(_KINDS[kind], amount))
    if draws[_GREY] < config.grayscale:
        steps.append(Step("color", 0.0))
    return steps


def _recolour(
    images: npt.NDArray[Any],
    config: AugmentConfig,
    seed: int,
    epoch: int,
    indices: npt.ArrayLike,
    views: npt.ArrayLike,
    fill: tuple[float, ...],
) -> npt.NDArray[np.uint8]:
    if images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
        raise ConfigError(
            f"policy, color_jitter and grayscale take images of bytes with 1 or 3 channels; got {images.dtype} with "
            f"{images.shape[-1]}; use flips, crops and erasing"
        )
    images, size, whole = images.copy(), (images.shape[1], images.shape[2]), tuple(round(value) for value in fill)
    policy = policy_draws(config, seed, epoch, indices, views)
    jitter = jitter_draws(seed, epoch, indices, views)
    for row in range(len(images)):
        first, then = choose(config, policy[row], size), jitter_steps(config, jitter[row])
        if first or then:
            image = Image.fromarray(images[row, :, :, 0] if images.shape[3] == 1 else images[row])
            image = apply_policy(image, first, config, whole)
            for name, amount in then:
                image = operate(name, image, amount, whole, Resampling.NEAREST)
            images[row] = np.asarray(image).reshape(images.shape[1:])
    return images
