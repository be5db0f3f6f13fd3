"""From a file's bytes to pixels, of 8 bits or deeper, or to one clear error.

Decisions, so that training and prediction see what a person sees in a viewer:
- EXIF (and XMP) orientation is obeyed.
- Transparent pixels are laid over white; the one transparent value of a PNG of 16 bits is not looked at (but for
  colour that is asked for as 8 bits).
- Of animations and multi-page files the first frame is taken.
- 16-bit grey is divided by 257 and rounded (12-bit TIFF by 4095 / 255), never clipped. Floating-point pixels
  must lie in 0..1 and 32-bit integers in 0..65535, since nothing in a file says what another range would mean.
- 16 bits of colour are kept where they are asked for: of PNG, TIFF, PPM and .npy. Asked for as 8 bits, colour loses
  its lower byte (as Pillow does it). Of JPEG 2000 and AVIF colour 8 bits are all there is.
- Damage is an error: an image cut short is never filled up with grey.

Legend: H height, W width, C channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from resnets.arch.preprocessing import Depth
from resnets.data.decode.bands import (
    ColourOrder,
    PixelChannels,
    Pixels,
    convert,
    is_array,
    read_bands,
    read_layout,
    to_depth,
)
from resnets.data.decode.jpeg import decode_jpeg, read_jpeg
from resnets.data.decode.pillow import MAX_PIXELS, open_image, orient, orientation, pillow_errors
from resnets.errors import ImageError

__all__ = ["MAX_PIXELS", "Header", "Pixels", "PixelChannels", "decode", "read_file", "header", "to_luma"]

_TIFF_BITS = 258


class Header(NamedTuple):
    """What an image's header says.

    Attributes:
        height, width: in pixels, upright.
        channels: `L` or `RGB` as a viewer would show it, or the number of bands where it could not.
        dtype: of the stored values; deeper integers count as `uint16`.
    """

    height: int
    width: int
    channels: PixelChannels
    dtype: Depth


def decode(
    content: bytes | Path | str,
    channels: PixelChannels,
    *,
    where: str | None = None,
    reduce: int = 1,
    depth: Depth = "uint8",
) -> Pixels:
    """The image in `content` as pixels.

    Args:
        content: the file's bytes, or its path.
        channels: `RGB` (grey is replicated), `L` (colour becomes luma, ITU-R 601) or a number of bands, which are
            taken as they are stored: nothing is laid over white, and an image of another number is an error.
        where: what to call the image in errors; by default its path.
        reduce: 1, 2, 4 or 8; a JPEG may be decoded at this fraction of its size (it need not be: look at the
            shape), which is several times faster.
        depth: of the values; those stored with another depth are scaled, full brightness to full brightness (255,
            65535, 1.0). Floating-point values asked for as such are taken as they are, but must be finite.

    Returns:
        (H, W, C) of dtype `depth`, contiguous.

    Raises:
        ImageError: whatever is wrong with it.
    """
    if not isinstance(content, bytes):
        where = where or str(content)
        content = read_file(content)
    where = where or "image"
    if not content:
        raise ImageError(where, "the file is empty")
    if isinstance(channels, int) or depth != "uint8" or is_array(content):
        with pillow_errors(where):
            bands = read_bands(content, channels, depth)
            if bands is not None:
                return convert(bands, channels, depth)
    # Eight bits of grey or RGB; bands of such an image are read here only when they are what the file has.
    order: ColourOrder = channels if isinstance(channels, str) else "L" if channels == 1 else "RGB"
    return to_depth(_eight(content, order, where, reduce), depth)


def _eight(content: bytes, channels: ColourOrder, where: str, reduce: int) -> Pixels:
    jpeg = read_jpeg(content)
    pixels = decode_jpeg(content, jpeg, grey=channels == "L", where=where, reduce=reduce) if jpeg else None
    if jpeg is None or pixels is None:
        return _pillow(content, channels, where)
    if channels == "L" and pixels.shape[2] == 3:
        # Luma from RGB, as Pillow and torchvision take it; the file's own Y differs by up to 20 in saturated colours.
        pixels = to_luma(pixels)
    return orient(pixels, jpeg.orientation)


def header(content: bytes, *, where: str = "image") -> Header:
    """What an image is, read from its header alone.

    Raises:
        ImageError: the header cannot be read.
    """
    with pillow_errors(where):
        layout = read_layout(content)
        if layout is not None:
            return Header(*layout)
        with open_image(content) as image:
            width, height = image.size
            deep = image.mode == "I" or image.mode.startswith("I;16")
            channels: PixelChannels = "L" if deep or image.mode in ("1", "L", "LA", "La", "F") else "RGB"
            dtype: Depth = "uint16" if deep else "float32" if image.mode == "F" else "uint8"
            # The TIFF reader has turned the size already.
            lying = image.format != "TIFF" and orientation(image) >= 5
            return Header(*((width, height) if lying else (height, width)), channels, dtype)


def read_file(path: str | Path) -> bytes:
    """A file's bytes; raises ImageError."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ImageError(str(path), error.strerror or type(error).__name__) from error
    except ValueError as error:  # a NUL in the path
        raise ImageError(str(path), str(error)) from error


def to_luma(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W, 1) luma (ITU-R 601, as Pillow rounds it) of (H, W, 3) RGB."""
    luma: npt.NDArray[np.uint8] = np.array(Image.fromarray(pixels).convert("L"))  # (H, W)
    return luma.reshape(*luma.shape, 1)


def _pillow(content: bytes, channels: ColourOrder, where: str) -> Pixels:
    with pillow_errors(where), open_image(content) as image:
        bits = image.tag_v2.get(_TIFF_BITS, (16,))[0] if image.format == "TIFF" else 16  # type: ignore[attr-defined]
        image.load()
        pixels = _eight_bits(image, channels, bits)
        return orient(pixels, orientation(image))  # after load: the TIFF reader turns the image itself


def _eight_bits(image: Image.Image, channels: ColourOrder, bits: int) -> Pixels:
    """(H, W, C) uint8 of a loaded image in any of Pillow's modes."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = _scale_down(np.asarray(image), bits)[:, :, None]  # (H, W, 1)
        return grey if channels == "L" else np.repeat(grey, 3, axis=2)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        if image.mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image)
        image = paper
    image = image if image.mode == channels else image.convert(channels)
    pixels = np.array(image)  # a copy: a view of Pillow's memory is read-only
    return pixels.reshape(*pixels.shape[:2], -1)


def _scale_down(grey: npt.NDArray[np.generic], bits: int) -> Pixels:
    """8 bits of (H, W) floating-point or deep integer pixels."""
    if grey.dtype.kind == "f":
        values = grey.astype(np.float64)
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ValueError(f"floating-point pixels must lie in 0..1, got {values.min():g}..{values.max():g}")
        return np.rint(values * 255).astype(np.uint8)
    top = 2 ** min(bits, 16) - 1
    deep = grey.astype(np.int64)
    if deep.min() < 0 or deep.max() > top:
        raise ValueError(f"integer pixels must lie in 0..{top}, got {deep.min()}..{deep.max()}")
    scaled: Pixels = ((deep * 255 + top // 2) // top).astype(np.uint8)
    return scaled
