"""Geometric augmentation of a batch, on any device: padded crop, flips and cutout; and the box of a random crop.

Padded crop, flips and cutout are one computation: the source position of every output pixel, then one gather. Random
draws are keyed by sample, so an image is augmented alike in any batch.

Legend: N batch, M images in the table, H height, W width, C channels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from resnets.data import random
from resnets.data.augment.config import AugmentConfig

__all__ = ["HFLIP", "PixelTable", "augment_draws", "augment_geometric", "crop_box", "crop_draws"]

_ATTEMPTS = 10  # of torchvision's RandomResizedCrop
HFLIP, _VFLIP = 2, 3  # columns of the draws
Draws = npt.NDArray[np.float64]


class PixelTable:
    """Images as one list of pixels, preceded by a pixel of the mean colour and a black one.

    Args:
        shape: (M, H, W, C); the images are black until `images` is written to.
        fill: C values, the mean colour.
        dtype: of the values.
    """

    MEAN, BLACK, FIRST = 0, 1, 2  # rows of `pixels`

    def __init__(self, shape: Sequence[int], fill: Sequence[float], dtype: torch.dtype = torch.uint8) -> None:
        self.count, self.height, self.width, self.channels = shape
        size = self.FIRST + self.count * self.height * self.width
        self.pixels = torch.zeros(size, self.channels, dtype=dtype)  # (2 + M * H * W, C)
        self.pixels[self.MEAN] = torch.tensor(fill, dtype=dtype)

    @classmethod
    def of(cls, images: torch.Tensor, fill: Sequence[float]) -> PixelTable:
        """A table of a copy of `images`, (M, H, W, C)."""
        table = cls(images.shape, fill, images.dtype)
        table.images.copy_(images)
        return table

    @property
    def images(self) -> torch.Tensor:
        """(M, H, W, C), a view."""
        return self.pixels[self.FIRST :].view(self.count, self.height, self.width, self.channels)

    def to(self, device: torch.device | str) -> PixelTable:
        """The table on `device`; itself if it is there already."""
        moved = copy.copy(self)
        moved.pixels = self.pixels.to(device)
        return self if moved.pixels is self.pixels else moved


def augment_geometric(table: PixelTable, rows: torch.Tensor, config: AugmentConfig, draws: Draws) -> torch.Tensor:
    """Images `rows` of the table after padded crop, flips and cutout, in that order.

    Args:
        rows: (N,) int64, on the table's device.
        draws: (N, 8) uniform numbers in [0, 1), from `augment_draws`.

    Returns:
        (N, H, W, C) of the table's type, on its device.
    """
    device, height, width = rows.device, table.height, table.width
    if not (config.pad or config.cutout):  # flips alone move rows, which is cheaper than single pixels
        images = table.images.index_select(0, rows)
        values = images.view(torch.int16) if images.dtype == torch.uint16 else images  # torch cannot flip uint16
        for enabled, column, axis in ((config.hflip, HFLIP, 2), (config.vflip, _VFLIP, 1)):
            if enabled:
                flipped = torch.from_numpy(np.flatnonzero(draws[:, column] < 0.5)).to(device)
                values[flipped] = values[flipped].flip(axis)
        return images
    parameters = _parameters(config, draws, height, width).to(device)
    top, left, hflip, vflip, cut_y, cut_x = parameters[:, :, None]  # (N, 1) each
    row, col = torch.arange(height, device=device), torch.arange(width, device=device)
    y = (torch.where(vflip.bool(), height - 1 - row, row) if config.vflip else row) + top  # (N, H) source rows
    x = (torch.where(hflip.bool(), width - 1 - col, col) if config.hflip else col) + left  # (N, W)
    outside = 0
    if config.pad and config.pad_mode == "reflect":
        y, x = _reflect(y, height), _reflect(x, width)
    elif config.pad:
        outside = -(2 ** (29 if len(table.pixels) < 2**29 else 60))  # so low that a sum with it is never an index
    base = torch.where(_inside(y, height), table.FIRST + (rows[:, None] * height + y) * width, outside)
    x = torch.where(_inside(x, width), x, outside)
    if len(table.pixels) < 2**29:  # half the bytes to move
        base, x = base.int(), x.int()
    source = base[:, :, None] + x[:, None, :]  # (N, H, W)
    if outside:
        source.clamp_(min=table.BLACK if config.pad_mode == "zero" else table.MEAN)
    if config.cutout:
        hole = _in_square(height, cut_y, config.cutout)[:, :, None] & _in_square(width, cut_x, config.cutout)[:, None]
        source.masked_fill_(hole, table.MEAN)
    pixels = table.pixels.index_select(0, source.view(-1))
    return pixels.view(len(rows), height, width, table.channels)


def _parameters(config: AugmentConfig, draws: Draws, height: int, width: int) -> torch.Tensor:
    """(6, N) int64: shift down, shift right, hflip, vflip (0 or 1), row and column of the cutout's centre."""
    span = 2 * config.pad + 1
    down, right = np.floor(draws[:, :2].T * span) - config.pad
    flips = draws[:, HFLIP] < 0.5, draws[:, _VFLIP] < 0.5
    centre = np.floor(draws[:, 4] * height), np.floor(draws[:, 5] * width)
    return torch.from_numpy(np.stack((down, right, *flips, *centre)).astype(np.int64))


def augment_draws(seed: int, epoch: int, index: npt.ArrayLike, view: npt.ArrayLike = 0) -> Draws:
    """(N, 8) numbers for `augment_geometric`; each option has its own columns, so options are independent.

    `view` is which of several views of the same sample: one for all, or (N,).
    """
    return random.uniform(seed, epoch, index, random.Stream.AUGMENT, 8, view)


def crop_draws(seed: int, epoch: int, index: npt.ArrayLike, view: npt.ArrayLike = 0) -> Draws:
    """(N, 24) numbers, one row for each `crop_box`; `view` as for `augment_draws`."""
    return random.uniform(seed, epoch, index, random.Stream.RESIZED_CROP, 2 * _ATTEMPTS + 4, view)


def _inside(position: torch.Tensor, size: int) -> torch.Tensor:
    return (position >= 0) & (position < size)


def _reflect(position: torch.Tensor, size: int) -> torch.Tensor:
    """Positions reflected at the first and the last pixel, which are not repeated."""
    period = max(1, 2 * (size - 1))
    position = position.remainder(period)
    return torch.where(position >= size, period - position, position)


def _in_square(size: int, centre: torch.Tensor, side: int) -> torch.Tensor:
    """(N, size) whether a position is in the square around `centre` (N, 1), which may exceed the image (the paper)."""
    start = centre - side // 2
    position = torch.arange(size, device=centre.device)
    return (position >= start) & (position < start + side)


def crop_box(height: int, width: int, config: AugmentConfig, draws: Draws) -> tuple[int, int, int, int]:
    """The box of a random resized crop, by torchvision's rule: ten attempts, then the largest central crop.

    Args:
        height, width: of the upright image, in pixels.
        draws: (24,) uniform numbers in [0, 1).

    Returns:
        (top, left, height, width) in pixels.
    """
    assert config.scale is not None
    low, high = math.log(config.ratio[0]), math.log(config.ratio[1])
    for attempt in range(_ATTEMPTS):
        share, shape = draws[2 * attempt], draws[2 * attempt + 1]
        area = height * width * (config.scale[0] + share * (config.scale[1] - config.scale[0]))
        ratio = math.exp(low + shape * (high - low))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(draws[20] * (height - h + 1)), int(draws[21] * (width - w + 1)), h, w
    ratio = min(max(width / height, config.ratio[0]), config.ratio[1])
    w, h = min(width, max(1, round(height * ratio))), min(height, max(1, round(width / ratio)))
    return (height - h) // 2, (width - w) // 2, h, w
