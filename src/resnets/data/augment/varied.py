"""Varying a batch of preprocessing's pixels, the same from memory and from files."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment.config import AugmentConfig
from resnets.data.augment.photometric import vary
from resnets.data.sampler import Order
from resnets.data.transform import fill_values

__all__ = ["vary_batch"]


def vary_batch(
    pixels: npt.NDArray[Any],
    config: AugmentConfig,
    preprocessing: Preprocessing,
    *,
    seed: int,
    epoch: int,
    order: Order,
) -> npt.NDArray[Any]:
    """(N, H, W, C) pixels of the preprocessing's channels and depth, varied; see `vary`. BGR is turned round for it."""
    fill = fill_values(preprocessing)
    turned = preprocessing.channels == "BGR"
    if turned:
        pixels, fill = pixels[..., ::-1], fill[::-1]
    pixels = vary(pixels, config, seed=seed, epoch=epoch, indices=order.places, views=order.views, fill=fill)
    return np.ascontiguousarray(pixels[..., ::-1]) if turned else pixels
