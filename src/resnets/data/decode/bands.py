"""Pixels of any depth and number of bands: reading them as stored, and bringing them to what is asked for.

Eight-bit images in RGB or grey take the short way in `decode`; here is the rest: 16 bits and floating point, and
bands that are data and no colours.

Legend: H height, W width, B stored bands, C channels asked for.
"""

from __future__ import annotations

import io
import re
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from resnets.arch.preprocessing import Depth
from resnets.data.decode import tiff
from resnets.data.decode.pillow import MAX_PIXELS, open_image, orient, orientation
from resnets.data.decode.png16 import is_png16, read_png16

__all__ = [
    "Bands",
    "ColourOrder",
    "PixelChannels",
    "Pixels",
    "convert",
    "convert_array",
    "is_array",
    "read_bands",
    "read_layout",
    "to_depth",
]

Pixels = npt.NDArray[np.uint8 | np.uint16 | np.float32]
ColourOrder = Literal["RGB", "L"]
PixelChannels = ColourOrder | int

_NPY = b"\x93NUMPY"
_JPEG = b"\xff\xd8\xff"
_LUMA = np.array((19595, 38470, 7471), np.int64)  # ITU-R 601 in units of 2**-16, as Pillow has it


class Bands(NamedTuple):
    """An image as it is stored.

    Attributes:
        pixels: (H, W, B) uint8, uint16 or float32, upright.
        colours: how many of the first bands are what one sees: 1 grey, 3 RGB, 0 none.
        alpha: whether the band after them is opacity; `premultiplied` where the colours hold it already.
    """

    pixels: Pixels
    colours: int
    alpha: Literal["none", "straight", "premultiplied"] = "none"


def is_array(content: bytes) -> bool:
    """Whether it is an .npy file, by its first bytes."""
    return content.startswith(_NPY)


def read_bands(content: bytes, channels: PixelChannels, depth: Depth) -> Bands | None:
    """The bands of an image; None of one that is read as well as 8 bits of RGB or grey.

    Args:
        channels, depth: what is asked for: bands, or more than 8 bits, or of any image that `is_array`.

    Raises:
        ValueError: it is damaged, or of a kind that is not supported; and what Pillow raises.
    """
    if is_array(content):
        return _of_array(_read_npy(content))
    if is_png16(content):
        deep = read_png16(content)
        count = deep.shape[2]
        return Bands(deep, 1 if count < 3 else 3, "none" if count in (1, 3) else "straight")
    if tiff.is_tiff(content):
        layout = tiff.read_tags(content)
        if layout is not None and (isinstance(channels, int) or layout.dtype != "uint8"):
            return Bands(tiff.read_tiff(content, layout), layout.colours, layout.alpha)
    if match := _DEEP_PPM.match(content):
        return _read_ppm(content, match)
    with open_image(content) as image:
        mode = image.mode
        if mode in ("I", "F") or mode.startswith("I;16"):
            bits = image.tag_v2.get(258, (16,))[0] if image.format == "TIFF" else 16  # type: ignore[attr-defined]
            image.load()
            return Bands(orient(_deep_grey(np.asarray(image), bits)[..., None], orientation(image)), 1)
        if isinstance(channels, str) or (content.startswith(_JPEG) and (mode, channels) in (("L", 1), ("RGB", 3))):
            return None
        image.load()
        stored = np.array(_without_palette(image))
        return Bands(orient(stored.reshape(*stored.shape[:2], -1), orientation(image)), 0)


def read_layout(content: bytes) -> tuple[int, int, PixelChannels, Depth] | None:
    """(H, W, channels, dtype) of an image whose header Pillow cannot read, or reads as 8 bits; else None."""
    if is_array(content):
        shape, dtype, _, _ = _npy_header(content)
        count = shape[2] if len(shape) == 3 else 1
        depth: Depth = "float32" if dtype.kind == "f" else "uint8" if dtype.itemsize == 1 else "uint16"
        return shape[0], shape[1], {1: "L", 3: "RGB"}.get(count, count), depth  # type: ignore[return-value]
    if is_png16(content):
        with open_image(content) as image:
            width, height = image.size
            lying = orientation(image) >= 5
        grey = content[25] in (0, 4)
        return (*((width, height) if lying else (height, width)), "L" if grey else "RGB", "uint16")
    if tiff.is_tiff(content) and (layout := tiff.read_tags(content)) is not None:
        channels: PixelChannels = {1: "L", 3: "RGB"}.get(layout.colours, layout.bands)  # type: ignore[assignment]
        height, width = layout.height, layout.width
        return (*((width, height) if layout.orientation >= 5 else (height, width)), channels, layout.dtype)
    return None


def convert(bands: Bands, channels: PixelChannels, depth: Depth) -> Pixels:
    """(H, W, C) of what is asked for.

    Raises:
        ValueError: the image has other bands, or values that the depth has no room for.
    """
    pixels, count = to_depth(bands.pixels, depth), bands.pixels.shape[2]
    if isinstance(channels, int):
        if count != channels:
            raise ValueError(f"it has {count} bands and {channels} are asked for")
        return np.ascontiguousarray(pixels)
    if not bands.colours:
        raise ValueError(f"{count} bands make no {channels} image; ask for {count} channels")
    colour = pixels[:, :, : bands.colours]
    if bands.alpha != "none":
        colour = _over_white(colour, pixels[:, :, bands.colours, None], bands.alpha == "premultiplied")
    if bands.colours == 3 and channels == "L":
        colour = _luma(colour)
    elif bands.colours == 1 and channels == "RGB":
        colour = np.repeat(colour, 3, axis=2)
    return np.ascontiguousarray(colour)


def convert_array(pixels: Pixels, channels: PixelChannels, depth: Depth = "uint8") -> Pixels:
    """(H, W, B) pixels of a source that holds arrays, as `decode` would give them; raises ValueError."""
    return convert(_of_array(pixels), channels, depth)


def to_depth(pixels: npt.NDArray[Any], depth: Depth) -> Pixels:
    """Pixels scaled to a depth, full brightness to full brightness.

    Raises:
        ValueError: floating-point values outside 0..1 that must become integers, or NaN.
    """
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            raise ValueError("floating-point pixels must be finite, got NaN or infinity")
        if depth == "float32":
            return pixels.astype(np.float32, copy=False)
        if pixels.min() < 0 or pixels.max() > 1:
            raise ValueError(f"floating-point pixels must lie in 0..1, got {pixels.min():g}..{pixels.max():g}")
        top = 255 if depth == "uint8" else 65535
        return np.rint(pixels.astype(np.float64) * top).astype(depth)
    if pixels.dtype == depth:
        return pixels
    if depth == "float32":
        return (pixels / np.float32(255 if pixels.dtype == np.uint8 else 65535)).astype(np.float32)
    if depth == "uint16":
        return pixels.astype(np.uint16) * np.uint16(257)
    return ((pixels.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8)


def _over_white(colour: Pixels, alpha: Pixels, premultiplied: bool) -> Pixels:
    full = 1.0 if colour.dtype == np.float32 else 255.0 if colour.dtype == np.uint8 else 65535.0
    share = alpha.astype(np.float64) / full
    laid = colour * (1.0 if premultiplied else share) + (1 - share) * full
    laid = np.clip(laid, 0, full) if colour.dtype == np.float32 else np.rint(np.clip(laid, 0, full))
    return laid.astype(colour.dtype)


def _luma(colour: Pixels) -> Pixels:
    if colour.dtype == np.float32:
        return (colour @ (_LUMA / 65536))[..., None].astype(np.float32)
    return ((colour.astype(np.int64) @ _LUMA + 0x8000) >> 16)[..., None].astype(colour.dtype)


def _deep_grey(grey: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    """uint16 or float32 of Pillow's integer and floating-point modes; 12 bits are spread over 16."""
    if grey.dtype.kind == "f":
        return grey.astype(np.float32)
    top = 2 ** min(bits, 16) - 1
    deep = grey.astype(np.int64)
    if deep.min() < 0 or deep.max() > top:
        raise ValueError(f"integer pixels must lie in 0..{top}, got {deep.min()}..{deep.max()}")
    spread: npt.NDArray[np.uint16] = ((deep * 65535 + top // 2) // top).astype(np.uint16)
    return spread


def _without_palette(image: Image.Image) -> Image.Image:
    """A palette's numbers are no values: its colours are; half-tones become bytes."""
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    plain = {"1": "L", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB"}.get(image.mode)
    return image.convert(plain) if plain else image


def _of_array(pixels: Pixels) -> Bands:
    return Bands(pixels, pixels.shape[2] if pixels.shape[2] in (1, 3) else 0)


def _npy_header(content: bytes) -> tuple[tuple[int, ...], np.dtype[Any], bool, int]:
    """(shape, dtype, Fortran order, where the values start) of an .npy file."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.kind not in "uf" or (dtype.kind == "u" and dtype.itemsize > 2):
        raise ValueError(f"an array must be uint8, uint16 or floating point, got {dtype}")
    if len(shape) not in (2, 3) or prod(shape) == 0:
        raise ValueError(f"an array must be (H, W) or (H, W, C), got {shape}")
    return shape, dtype, fortran, file.tell()


def _read_npy(content: bytes) -> Pixels:
    shape, dtype, fortran, start = _npy_header(content)
    if len(content) - start < prod(shape) * dtype.itemsize:
        raise ValueError("the file is cut short")
    if shape[0] * shape[1] > MAX_PIXELS:
        raise ValueError(f"more than {MAX_PIXELS} pixels (a decompression bomb?)")
    values = np.frombuffer(content, dtype, prod(shape), start).reshape(shape, order="F" if fortran else "C")
    native = np.float32 if dtype.kind == "f" else dtype.newbyteorder("=")
    return np.array(values.reshape(*shape[:2], -1), native, order="C")


_DEEP_PPM = re.compile(rb"P6\s+(?:#[^\n]*\n\s*)*(\d+)\s+(?:#[^\n]*\n\s*)*(\d+)\s+(?:#[^\n]*\n\s*)*(\d{4,5})\s")


def _read_ppm(content: bytes, match: re.Match[bytes]) -> Bands:
    width, height, top = (int(number) for number in match.groups())
    if len(content) - match.end() < width * height * 6 or not 0 < width * height <= MAX_PIXELS or top > 65535:
        raise ValueError("the file is cut short, or its header is damaged")
    stored = np.frombuffer(content, ">u2", width * height * 3, match.end()).astype(np.int64)
    if stored.max() > top:
        raise ValueError(f"integer pixels must lie in 0..{top}, got {stored.max()}")
    return Bands(((stored * 65535 + top // 2) // top).astype(np.uint16).reshape(height, width, 3), 3)
