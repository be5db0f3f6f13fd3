"""JPEG decoding with libjpeg-turbo, faster than Pillow: all of an image, at reduced size, or only its upper rows.

Baseline JPEG is coded one row of blocks after another. With a smaller height in its header, a file is an image of its
upper rows, and the decoder stops there: the rest costs nothing.

Legend: H height, W width, in pixels as stored (before EXIF orientation), C channels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import simplejpeg

from resnets.data.decode.budget import release, reserve
from resnets.data.decode.jpeg_markers import Frame, read_frame, require_few_scans
from resnets.data.decode.pillow import MAX_PIXELS, open_image, orientation, pillow_errors
from resnets.errors import ImageError

__all__ = ["JpegHeader", "decode_jpeg", "read_jpeg_header"]

_SPACES = ("YCbCr", "Gray", "RGB")  # not CMYK, whose inversion by Adobe only Pillow undoes
# Messages of libjpeg for missing or damaged image data, where Pillow would silently show grey.
_DAMAGE = ("premature end of data segment", "huffman", "instead of rst", "arithmetic", "bogus", "corrupt progressive")
_LEFT_OVER = "extraneous bytes before marker 0xd9"  # its message for the rows that are skipped on purpose
_BYTES, _COEFFICIENTS = 9, 6  # per pixel: the result and its copies; what progressive files keep until the end
_FULL_BELOW = 32  # pixels: smaller images are decoded in full, as libjpeg rounds their reduced sizes differently


class JpegHeader(NamedTuple):
    """Header of a JPEG.

    Attributes:
        height, width: as stored.
        grayscale: whether it is stored without colour.
        orientation: EXIF's (or XMP's), 1 to 8; 1 if absent.
        frame: structure of the file; None if its markers are damaged.
    """

    height: int
    width: int
    grayscale: bool
    orientation: int
    frame: Frame | None

    @property
    def upright(self) -> tuple[int, int]:
        """(H, W) after orientation, as `decode` returns it."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def read_jpeg_header(content: bytes) -> JpegHeader | None:
    """The header of a JPEG; None if `decode_jpeg` does not support the file."""
    if content[:3] != b"\xff\xd8\xff":
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    if space not in _SPACES:
        return None
    frame = read_frame(content)
    return JpegHeader(height, width, space == "Gray", _orientation(content, frame), frame)


def _orientation(content: bytes, frame: Frame | None) -> int:
    end = frame.scan_at if frame is not None else 2**18
    # Most files have no orientation, and Pillow's parser takes 0.1 ms.
    if content.find(b"Exif\0\0", 0, end) < 0 and content.find(b"tiff:Orientation", 0, end) < 0:
        return 1
    try:
        with pillow_errors(""), open_image(content) as image:
            return orientation(image)
    except ImageError:
        return 1


def decode_jpeg(
    content: bytes, header: JpegHeader, *, grayscale: bool, where: str, reduce: int = 1, rows: int | None = None
) -> npt.NDArray[np.uint8] | None:
    """Decode a JPEG, without applying its orientation.

    Args:
        header: from `read_jpeg_header`.
        grayscale: return one channel for grayscale images (default: three); colour images keep their colour.
        where: name of the image in errors.
        reduce: 1, 2, 4 or 8; the image may be decoded at 1 / `reduce` of its size (see the result's shape).
        rows: number of rows needed from the top, at full size (default: all). The result may end below them, and
            damage there is not detected, except in truncated files.

    Returns:
        (H, W, 1 or 3) uint8; None if the file should be decoded with Pillow.

    Raises:
        ImageError: the file is damaged, or the image exceeds `MAX_PIXELS`.
    """
    height, width, frame = header.height, header.width, header.frame
    if height * width > MAX_PIXELS:
        raise ImageError(where, f"more than {MAX_PIXELS} pixels (a decompression bomb?)")
    whole = 0 if frame is not None and frame.may_stop else _COEFFICIENTS * height * width
    with pillow_errors(where):
        if whole:
            require_few_scans(content)
        reserve(whole + _BYTES * min(rows or height, height) * width // reduce**2)
    wanted = "GRAY" if grayscale and header.grayscale else "RGB"
    fewer = rows is not None and rows < height and min(rows, width) >= _FULL_BELOW
    try:
        if rows is not None and fewer and frame is not None and frame.may_stop:
            shorter = bytearray(content)
            shorter[frame.height_at : frame.height_at + 2] = rows.to_bytes(2, "big")
            return _decode_upper(shorter, wanted, -(-rows // reduce), -(-width // reduce))
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            content, wanted, min_height=-(-height // reduce), min_width=-(-width // reduce)
        )
        return pixels
    except ValueError as error:
        if any(sign in str(error).lower() for sign in _DAMAGE):
            raise ImageError(where, str(error).strip().splitlines()[0][:120]) from error
        release()
        return None  # e.g. stray bytes between markers: Pillow decodes them, and checks that the data is complete


def _decode_upper(content: bytearray, wanted: str, height: int, width: int) -> npt.NDArray[np.uint8]:
    """(height, width, C) of a JPEG followed by the code of further rows; raises ValueError if it is damaged."""
    pixels = np.empty((height, width, 1 if wanted == "GRAY" else 3), np.uint8)
    try:
        simplejpeg.decode_jpeg(content, wanted, min_height=height, min_width=width, buffer=pixels)
    except ValueError as error:  # libjpeg reports the first problem: with this one, the rows are intact
        if _LEFT_OVER not in str(error):
            raise
    return pixels
