"""Decoding: from a file's bytes to pixels of 8 bits or deeper, or to one error that names the file.

Rules, so that training and prediction see what an image viewer shows:
- EXIF (and XMP) orientation is applied.
- Transparent pixels are composited over white; the single transparent value of a 16-bit PNG is ignored, except for
  colour at 8 bits.
- Of animations and multi-page files the first frame is used.
- 16-bit grayscale is divided by 257 and rounded (12-bit TIFF by 4095 / 255), never clipped. Floating-point pixels
  must lie in 0..1 and 32-bit integers in 0..65535, as no file defines another range.
- 16-bit colour is kept, if requested, from PNG, TIFF, PPM and .npy. Requested as 8 bits, it loses its lower byte (as in
  Pillow). JPEG 2000 and AVIF colour always has 8 bits.
- Damage is an error: a truncated image is never filled up with grey.

Legend: H height, W width, C channels.
"""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from resnets.arch.preprocessing import Depth
from resnets.data.decode import bands
from resnets.data.decode.bands import ColourOrder, Header, PixelChannels, Pixels, to_depth, to_luma
from resnets.data.decode.budget import pillow_bytes, reserve, reserving
from resnets.data.decode.jpeg import decode_jpeg, read_jpeg_header
from resnets.data.decode.jpeg_markers import require_few_scans
from resnets.data.decode.pillow import OUT_OF_MEMORY, open_image, orient, orientation, pillow_errors
from resnets.data.decode.png16 import is_png16
from resnets.errors import ImageError

__all__ = ["MAX_FILE_BYTES", "Header", "PixelChannels", "Pixels", "convert_pil", "decode", "read_file", "read_header"]

MAX_FILE_BYTES = 2**28  # of an image's file, which is read as a whole
TOO_LARGE = f"more than {MAX_FILE_BYTES // 2**20} MiB"

_loading = threading.Lock()


def decode(
    content: bytes | Path | str,
    channels: PixelChannels,
    *,
    where: str | None = None,
    reduce: int = 1,
    depth: Depth = "uint8",
) -> Pixels:
    """Decode an image.

    Args:
        content: the file's bytes, or its path.
        channels: `RGB` (grayscale is replicated), `L` (colour becomes luma, ITU-R 601) or a number of bands, which are
            returned as stored: without compositing, and an error for images with another number.
        where: name of the image in errors (default: its path).
        reduce: 1, 2, 4 or 8; a JPEG may be decoded at 1 / `reduce` of its size, which is several times faster (see the
            result's shape).
        depth: of the result; other stored depths are scaled, full brightness to full brightness (255, 65535, 1.0).
            From floating-point to floating-point, values are unchanged, but must be finite.

    Returns:
        (H, W, C) of dtype `depth`, contiguous.

    Raises:
        ImageError: the image cannot be read or decoded.
    """
    if not isinstance(content, bytes):
        where = where or str(content)
        content = read_file(content)
    where = where or "image"
    if not content:
        raise ImageError(where, "the file is empty")
    try:
        with reserving():
            return _decode(content, channels, where, reduce, depth)
    except MemoryError as error:
        raise ImageError(where, OUT_OF_MEMORY) from error


def _decode(content: bytes, channels: PixelChannels, where: str, reduce: int, depth: Depth) -> Pixels:
    if isinstance(channels, int) or depth != "uint8" or bands.is_array(content):
        with pillow_errors(where):
            stored = bands.read_bands(content, channels, depth)
            if stored is not None:
                return bands.convert(stored, channels, depth)
    # 8-bit grayscale or RGB, also as bands if the file has just these.
    order: ColourOrder = channels if isinstance(channels, str) else "L" if channels == 1 else "RGB"
    pixels = _decode_8bit(content, order, where, reduce)
    if depth == "uint8":
        return pixels
    with pillow_errors(where):
        reserve(4 * pixels.size)
        return to_depth(pixels, depth)


def _decode_8bit(content: bytes, channels: ColourOrder, where: str, reduce: int) -> Pixels:
    jpeg = read_jpeg_header(content)
    pixels = decode_jpeg(content, jpeg, grayscale=channels == "L", where=where, reduce=reduce) if jpeg else None
    if jpeg is None or pixels is None:
        return _decode_pillow(content, channels, where)
    # Luma from RGB, as in Pillow and torchvision; the file's own Y differs by up to 20 in saturated colours.
    return orient(to_luma(pixels) if channels == "L" and pixels.shape[2] == 3 else pixels, jpeg.orientation)


def convert_pil(image: Image.Image, channels: PixelChannels, *, where: str = "image", depth: Depth = "uint8") -> Pixels:
    """An opened Pillow image as `decode` returns that of its file; arguments, result and errors as there."""
    with pillow_errors(where), reserving():
        with _loading:  # one image object may be in use by several threads
            needed = pillow_bytes(image)
        reserve(needed)
        with _loading:
            image.load()
        stored = bands.bands_of(image, channels)
        if stored is not None:
            return bands.convert(stored, channels, depth)
        order: ColourOrder = channels if isinstance(channels, str) else "L" if channels == 1 else "RGB"
        pixels = orient(_to_8bit(image, order), orientation(image))
        return to_depth(pixels, depth)


def read_header(content: bytes, *, where: str = "image") -> Header:
    """Properties of an image, without decoding it.

    Raises:
        ImageError: the header cannot be read.
    """
    with pillow_errors(where):
        header = bands.read_bands_header(content)
        if header is not None:
            return header
        with open_image(content) as image:
            width, height = image.size
            deep = image.mode == "I" or image.mode.startswith("I;16")
            channels: PixelChannels = "L" if deep or image.mode in ("1", "L", "LA", "La", "F") else "RGB"
            dtype: Depth = "uint16" if deep or is_png16(content) else "float32" if image.mode == "F" else "uint8"
            # Pillow's TIFF reader has applied the orientation already.
            transposed = image.format != "TIFF" and orientation(image) >= 5
            return Header(*((width, height) if transposed else (height, width)), channels, dtype)


def read_file(path: str | Path) -> bytes:
    """The bytes of a regular file; raises ImageError."""
    try:
        # Opened without waiting: a named pipe would block until somebody writes to it.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(str(path), "not a regular file")
            if status.st_size > MAX_FILE_BYTES:
                raise ImageError(str(path), TOO_LARGE)
            content: bytes | None = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ImageError(str(path), error.strerror or type(error).__name__) from error
    except ValueError as error:  # a NUL in the path
        raise ImageError(str(path), str(error)) from error
    if content is None:  # a file of the kernel that has nothing to read now
        raise ImageError(str(path), "there is nothing to read")
    if len(content) > MAX_FILE_BYTES:  # it grew, or is a file of the kernel
        raise ImageError(str(path), TOO_LARGE)
    return content


def _decode_pillow(content: bytes, channels: ColourOrder, where: str) -> Pixels:
    with pillow_errors(where), open_image(content) as image:
        require_few_scans(content)
        reserve(pillow_bytes(image))
        luma = bands.load_deep_grayscale(image, "uint8")
        if luma is None:
            pixels = _to_8bit(image, channels)
        else:
            pixels = np.repeat(to_depth(luma, "uint8"), 1 if channels == "L" else 3, axis=2)
        return orient(pixels, orientation(image))  # after load, in which the TIFF reader applies it itself


def _to_8bit(image: Image.Image, channels: ColourOrder) -> Pixels:
    """(H, W, C) uint8 of an opened image in any of Pillow's 8-bit modes."""
    image.load()
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        if image.mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, "white")
        background.alpha_composite(image)
        image = background
    image = image if image.mode == channels else image.convert(channels)
    pixels = np.array(image)  # a copy: a view of Pillow's memory is read-only
    return pixels.reshape(*pixels.shape[:2], -1)
