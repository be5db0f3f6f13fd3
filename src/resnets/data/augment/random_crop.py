"""Random resized crops: the decode path of training on photographs.

A JPEG is decoded no further than the crop needs: no rows below it, and a crop that is to be shrunk at 1/2, 1/4 or
1/8 of its size, as long as it still has more pixels than the network's input.

Legend: H height, W width, C channels.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment.config import AugmentConfig
from resnets.data.augment.geometric import Draws, crop_box
from resnets.data.dataset import ImageSet
from resnets.data.decode.budget import reserving
from resnets.data.decode.image import Pixels
from resnets.data.decode.jpeg import JpegHeader, decode_jpeg, read_jpeg_header
from resnets.data.decode.pillow import orient
from resnets.data.transform import Box, decode_channels, resize, to_channels

__all__ = ["random_resized_crop"]

# torch's antialiased filters on bytes equal Pillow's (to within 1 of 255) and are 3 to 4 times as fast.
_FILTERS = {
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa.out,
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa.out,
}
_MARGIN = 4  # rows of the reduced image below a crop, from which its last row's colours are interpolated


def random_resized_crop(
    images: ImageSet,
    i: int,
    preprocessing: Preprocessing,
    config: AugmentConfig,
    draws: Draws,
    out: Pixels | None = None,
    *,
    hflip: bool = False,
) -> Pixels:
    """Image `i`, cropped at random and resized to the preprocessing's size.

    Args:
        draws: (24,), a row of `crop_draws`.
        out: (H, W, C), contiguous, such as a row of a batch: receives the pixels and is returned.
        hflip: flip the result horizontally.

    Returns:
        (H, W, C) of the preprocessing's depth.

    Raises:
        ImageError: the image cannot be read or decoded.
    """
    if out is None:
        out = np.empty((*preprocessing.size, preprocessing.num_channels), preprocessing.dtype)
    content = images.read(i)
    with reserving():
        if not (isinstance(content, bytes) and _crop_jpeg(content, images.name(i), preprocessing, config, draws, out)):
            image = images.decode(i, content, decode_channels(preprocessing), preprocessing.dtype)
            top, left, height, width = crop_box(image.shape[0], image.shape[1], config, draws)
            _fill(out, image[top : top + height, left : left + width], preprocessing, None)
    if hflip:
        pixels = torch.from_numpy(out.view(np.int16) if out.dtype == np.uint16 else out)  # torch cannot flip uint16
        pixels.copy_(pixels.flip(1))  # ten times as fast as numpy's
    return out


def _crop_jpeg(
    content: bytes, name: str, preprocessing: Preprocessing, config: AugmentConfig, draws: Draws, out: Pixels
) -> bool:
    """Fill `out`, decoding only what the crop needs; False if the image must be decoded in full."""
    header = read_jpeg_header(content)
    if header is None or preprocessing.dtype != "uint8" or isinstance(preprocessing.channels, int):
        return False
    box = crop_box(*header.upright, config, draws)
    spare = min(box[2] // preprocessing.size[0], box[3] // preprocessing.size[1])
    reduce = next((factor for factor in (8, 4, 2) if factor <= spare), 1)
    top, left, height, width = _as_stored(box, header)
    rows, grayscale = top + height + _MARGIN * reduce, preprocessing.channels == "L"
    pixels = decode_jpeg(content, header, grayscale=grayscale, where=name, reduce=reduce, rows=rows)
    if pixels is None:
        return False
    factor = reduce if pixels.shape[1] < header.width else 1
    y, bottom = top / factor, min(pixels.shape[0], (top + height) / factor)
    x, right = left / factor, min(pixels.shape[1], (left + width) / factor)
    row, column = math.floor(y), math.floor(x)
    part = pixels[row : math.ceil(bottom), column : math.ceil(right)]
    inside = (x - column, y - row, right - column, bottom - row)
    if header.orientation == 1:
        _fill(out, part, preprocessing, inside)
        return True
    stored = np.empty_like(out if header.orientation < 5 else out.swapaxes(0, 1), order="C")
    _fill(stored, part, preprocessing, inside)
    out[:] = orient(stored, header.orientation)
    return True


def _as_stored(box: tuple[int, int, int, int], header: JpegHeader) -> tuple[int, int, int, int]:
    """(top, left, height, width) in the stored image of a box in the upright one."""
    top, left, height, width = box
    orientation, upright = header.orientation, header.upright
    if orientation in (3, 4, 7, 8):
        top = upright[0] - top - height
    if orientation in (2, 3, 6, 7):
        left = upright[1] - left - width
    return (left, top, width, height) if orientation >= 5 else (top, left, height, width)


def _fill(out: Pixels, part: Pixels, preprocessing: Preprocessing, box: Box | None) -> None:
    """Resize `part` (h, w, channels as decoded), or a `box` of it, into `out` (H, W, C), converting the channels."""
    part = to_channels(part, preprocessing)
    kernel = _FILTERS.get(preprocessing.interpolation)
    full = box is None or box == (0, 0, part.shape[1], part.shape[0])
    if kernel is None or not full or part.dtype != np.uint8 or part.shape[2] not in (1, 3):
        out[:] = resize(part, (out.shape[0], out.shape[1]), preprocessing, box)
        return
    source = torch.from_numpy(part.copy()).permute(2, 0, 1)[None]  # (1, C, h, w) in channels_last memory
    kernel(source, list(out.shape[:2]), False, out=torch.from_numpy(out).permute(2, 0, 1)[None])
