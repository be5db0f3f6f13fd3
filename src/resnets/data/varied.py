"""Varying a batch of a contract's pixels, the same from memory and from files."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment_config import AugmentConfig
from resnets.data.sampling import Order
from resnets.data.transform import fill_values
from resnets.data.vary import vary

__all__ = ["vary_batch"]


def vary_batch(
    pixels: npt.NDArray[Any], config: AugmentConfig, contract: Preprocessing, *, seed: int, epoch: int, order: Order
) -> npt.NDArray[Any]:
    """(N, H, W, C) pixels of the contract's channels and depth, varied; see `vary`. BGR is turned round for it."""
    fill = fill_values(contract)
    turned = contract.channels == "BGR"
    if turned:
        pixels, fill = pixels[..., ::-1], fill[::-1]
    pixels = vary(pixels, config, seed=seed, epoch=epoch, indices=order.places, views=order.views, fill=fill)
    return np.ascontiguousarray(pixels[..., ::-1]) if turned else pixels
