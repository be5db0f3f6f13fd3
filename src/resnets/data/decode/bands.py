"""Images of any depth and number of bands: reading them as stored, and converting to the requested format.

8-bit RGB and grayscale are decoded in `image`; here is the rest: 16 bits, floating point, and bands that are data
rather than colours (multispectral images, for example).

Legend: H height, W width, B stored bands, C requested channels.
"""

from __future__ import annotations

import io
import re
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from resnets.arch.preprocessing import FULL_SCALE, Depth
from resnets.data.decode import tiff
from resnets.data.decode.budget import pillow_bytes, reserve
from resnets.data.decode.pillow import MAX_PIXELS, open_image, orient, orientation
from resnets.data.decode.png16 import is_png16, read_png16

__all__ = [
    "Bands", "ColourOrder", "Header", "PixelChannels", "Pixels", "array_header", "bands_of", "convert", "convert_array",
    "is_array", "load_deep_grayscale", "read_bands", "read_bands_header", "to_depth", "to_luma",
]  # fmt: skip

Pixels = npt.NDArray[np.uint8 | np.uint16 | np.float32]
ColourOrder = Literal["RGB", "L"]
PixelChannels = ColourOrder | int

_NPY = b"\x93NUMPY"
_PIXELS_AT_ONCE = 2**18  # converted at a time, as the arithmetic takes up to 100 bytes per pixel
_LUMA = np.array((19595, 38470, 7471), np.int64)  # ITU-R 601 in units of 2**-16, as Pillow has it


class Header(NamedTuple):
    """Properties of an image, from its header.

    Attributes:
        height, width: in pixels, after orientation.
        channels: `L` or `RGB` as a viewer shows it, else the number of bands.
        dtype: of the stored values; integers of more than 16 bits count as `uint16`.
    """

    height: int
    width: int
    channels: PixelChannels
    dtype: Depth


class Bands(NamedTuple):
    """An image as stored.

    Attributes:
        pixels: (H, W, B) uint8, uint16 or float32, after orientation.
        colours: number of first bands that are colours: 1 grayscale, 3 RGB, 0 none.
        alpha: whether the band after them is opacity; `premultiplied` if the colours are multiplied by it.
    """

    pixels: Pixels
    colours: int
    alpha: Literal["none", "straight", "premultiplied"] = "none"


def is_array(content: bytes) -> bool:
    """Whether this is an .npy file, by its signature."""
    return content.startswith(_NPY)


def read_bands(content: bytes, channels: PixelChannels, depth: Depth) -> Bands | None:
    """The bands of an image; None if decoding to 8-bit RGB or grayscale loses nothing.

    Args:
        channels, depth: requested: a number of bands, or more than 8 bits, or anything of an `is_array` file.

    Raises:
        ValueError: the file is damaged or not supported; also Pillow's errors.
    """
    if is_array(content):
        return _of_array(_read_npy(content))
    if is_png16(content):
        deep = read_png16(content)
        count = deep.shape[2]
        return Bands(deep, 1 if count < 3 else 3, "none" if count in (1, 3) else "straight")
    if tiff.is_tiff(content):
        layout = tiff.read_layout(content)
        if layout is not None and (isinstance(channels, int) or layout.dtype != "uint8"):
            reserve(tiff.decoded_bytes(layout))
            return Bands(tiff.read_tiff(content, layout), layout.colours, layout.alpha)
    if match := _DEEP_PPM.match(content):
        return _read_ppm(content, match)
    with open_image(content) as image:
        reserve(pillow_bytes(image))
        return bands_of(image, channels)


def bands_of(image: Image.Image, channels: PixelChannels) -> Bands | None:
    """The bands of an opened image, as `read_bands` returns them."""
    luma = load_deep_grayscale(image, "uint16")
    if luma is not None:
        return Bands(orient(luma, orientation(image)), 1)
    # libjpeg-turbo decodes these faster.
    eight = image.format == "JPEG" and (image.mode, channels) in (("L", 1), ("RGB", 3))
    if isinstance(channels, str) or eight:
        return None
    image.load()
    stored = np.array(_without_palette(image))
    return Bands(orient(stored.reshape(*stored.shape[:2], -1), orientation(image)), 0)


def read_bands_header(content: bytes) -> Header | None:
    """The header of an .npy file or of a TIFF with a `TiffLayout`; else None."""
    if is_array(content):
        return array_header(*_npy_header(content)[:2])
    if tiff.is_tiff(content) and (layout := tiff.read_layout(content)) is not None:
        height, width = layout.height, layout.width
        size = (width, height) if layout.orientation >= 5 else (height, width)
        return Header(*size, _channels(layout.colours) if layout.colours else layout.bands, layout.dtype)
    return None


def array_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Header:
    """The header of an (H, W) or (H, W, C) array."""
    depth: Depth = "float32" if dtype.kind == "f" else "uint8" if dtype.itemsize == 1 else "uint16"
    return Header(shape[0], shape[1], _channels(shape[2] if len(shape) == 3 else 1), depth)


def _channels(count: int) -> PixelChannels:
    return "L" if count == 1 else "RGB" if count == 3 else count


def convert(bands: Bands, channels: PixelChannels, depth: Depth) -> Pixels:
    """Convert to (H, W, C) of the requested channels and depth.

    Raises:
        ValueError: the image has another number of bands, or values outside the depth's range.
    """
    height, width, _ = bands.pixels.shape
    rows = max(1, _PIXELS_AT_ONCE // width)
    first = _convert(bands._replace(pixels=bands.pixels[:rows]), channels, depth)
    if rows >= height:
        return first
    reserve(first.nbytes // rows * height)
    out = np.empty((height, *first.shape[1:]), first.dtype)
    out[:rows] = first
    for start in range(rows, height, rows):
        part = bands._replace(pixels=bands.pixels[start : start + rows])
        out[start : start + rows] = _convert(part, channels, depth)
    return out


def _convert(bands: Bands, channels: PixelChannels, depth: Depth) -> Pixels:
    pixels, count = to_depth(bands.pixels, depth), bands.pixels.shape[2]
    if isinstance(channels, int):
        if count != channels:
            raise ValueError(f"it has {count} bands and {channels} are requested")
        return np.ascontiguousarray(pixels)
    if not bands.colours:
        raise ValueError(f"{count} bands make no {channels} image; request {count} channels")
    colour = pixels[:, :, : bands.colours]
    if bands.alpha != "none":
        colour = _over_white(colour, pixels[:, :, bands.colours, None], bands.alpha == "premultiplied")
    if bands.colours == 3 and channels == "L":
        colour = to_luma(colour)
    elif bands.colours == 1 and channels == "RGB":
        colour = np.repeat(colour, 3, axis=2)
    return np.ascontiguousarray(colour)


def convert_array(pixels: Pixels, channels: PixelChannels, depth: Depth = "uint8") -> Pixels:
    """Convert (H, W, B) pixels of a source that stores arrays, as `decode` does; raises ValueError."""
    return convert(_of_array(pixels), channels, depth)


def to_depth(pixels: npt.NDArray[Any], depth: Depth) -> Pixels:
    """Scale pixels to a depth, full brightness to full brightness.

    Raises:
        ValueError: NaN or infinity, or floating-point values outside 0..1 for an integer depth.
    """
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            raise ValueError("floating-point pixels must be finite, got NaN or infinity")
        if depth == "float32":
            return pixels.astype(np.float32, copy=False)
        if pixels.min() < 0 or pixels.max() > 1:
            raise ValueError(f"floating-point pixels must lie in 0..1, got {pixels.min():g}..{pixels.max():g}")
        return np.rint(pixels.astype(np.float64) * FULL_SCALE[depth]).astype(depth)
    if pixels.dtype == depth:
        return pixels
    if depth == "float32":
        return (pixels / np.float32(255 if pixels.dtype == np.uint8 else 65535)).astype(np.float32, copy=False)
    if depth == "uint16":
        return pixels.astype(np.uint16) * np.uint16(257)
    return ((pixels.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8)


def _over_white(colour: Pixels, alpha: Pixels, premultiplied: bool) -> Pixels:
    full = 1.0 if colour.dtype == np.float32 else 255.0 if colour.dtype == np.uint8 else 65535.0
    share = alpha.astype(np.float64) / full
    blended = colour * (1.0 if premultiplied else share) + (1 - share) * full
    blended = np.clip(blended, 0, full) if colour.dtype == np.float32 else np.rint(np.clip(blended, 0, full))
    return blended.astype(colour.dtype)


def to_luma(colour: Pixels) -> Pixels:
    """(H, W, 1) luma (ITU-R 601, as Pillow rounds it) of (H, W, 3) RGB."""
    if colour.dtype == np.uint8:
        return np.array(Image.fromarray(np.ascontiguousarray(colour)).convert("L"))[..., None]
    if colour.dtype == np.float32:
        return (colour @ (_LUMA / 65536))[..., None].astype(np.float32)
    return ((colour.astype(np.int64) @ _LUMA + 0x8000) >> 16)[..., None].astype(colour.dtype)


def load_deep_grayscale(image: Image.Image, depth: Depth) -> Pixels | None:
    """(H, W, 1) of an opened image: integers of 12 bits or more scaled to `depth`, or float32; None for other images.

    Raises:
        ValueError: integers of more than 16 bits outside the range of 16.
    """
    mode = image.mode
    if mode not in ("I", "F") and not mode.startswith("I;16"):
        return None
    bits = image.tag_v2.get(258, (16,))[0] if image.format == "TIFF" else 16  # type: ignore[attr-defined]
    image.load()
    luma = np.asarray(image)[..., None]
    return luma.astype(np.float32) if mode == "F" else _scale_integers(luma, 2 ** min(bits, 16) - 1, depth)


def _scale_integers(values: npt.NDArray[Any], top: int, depth: Depth) -> Pixels:
    wide = values.astype(np.int64)
    if wide.min() < 0 or wide.max() > top:
        raise ValueError(f"integer pixels must lie in 0..{top}, got {wide.min()}..{wide.max()}")
    return ((wide * int(FULL_SCALE[depth]) + top // 2) // top).astype(depth)


def _without_palette(image: Image.Image) -> Image.Image:
    """Colours instead of palette indices, and bytes instead of bits."""
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    plain = {"1": "L", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB"}.get(image.mode)
    return image.convert(plain) if plain else image


def _of_array(pixels: Pixels) -> Bands:
    return Bands(pixels, pixels.shape[2] if pixels.shape[2] in (1, 3) else 0)


def _npy_header(content: bytes) -> tuple[tuple[int, ...], np.dtype[Any], bool, int]:
    """(shape, dtype, Fortran order, offset of the values) of an .npy file."""
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
        raise ValueError("the file is truncated")
    if shape[0] * shape[1] > MAX_PIXELS:
        raise ValueError(f"more than {MAX_PIXELS} pixels (a decompression bomb?)")
    values = np.frombuffer(content, dtype, prod(shape), start).reshape(shape, order="F" if fortran else "C")
    reserve(8 * values.size)
    native = np.float32 if dtype.kind == "f" else dtype.newbyteorder("=")
    return np.array(values.reshape(*shape[:2], -1), native, order="C")


_DEEP_PPM = re.compile(rb"P6\s+(?:#[^\n]*\n\s*)*(\d+)\s+(?:#[^\n]*\n\s*)*(\d+)\s+(?:#[^\n]*\n\s*)*(\d{4,5})\s")


def _read_ppm(content: bytes, match: re.Match[bytes]) -> Bands:
    width, height, top = (int(number) for number in match.groups())
    if len(content) - match.end() < width * height * 6 or not 0 < width * height <= MAX_PIXELS or top > 65535:
        raise ValueError("the file is truncated, or its header is damaged")
    reserve(24 * 3 * width * height)
    stored = np.frombuffer(content, ">u2", width * height * 3, match.end()).reshape(height, width, 3)
    return Bands(_scale_integers(stored, top, "uint16"), 3)
