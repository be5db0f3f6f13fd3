"""JPEG by libjpeg-turbo, without Pillow's overhead: whole, smaller, or only its upper rows.

Legend: H height, W width, as stored (before EXIF's orientation), C channels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import simplejpeg

from resnets.data.decode.jpeg_frame import Frame, read_frame, upper_rows
from resnets.data.decode.pillow import MAX_PIXELS, open_image, orientation, pillow_errors
from resnets.errors import ImageError

__all__ = ["JpegHeader", "decode_jpeg", "read_jpeg"]

_SPACES = ("YCbCr", "Gray", "RGB")  # CMYK: Pillow knows Adobe's inversion
# What libjpeg says when image data is missing or wrong; Pillow would show grey there without a word.
_DAMAGE = ("premature end of data segment", "huffman", "instead of rst", "arithmetic", "bogus", "corrupt progressive")
_LEFT_OVER = "extraneous bytes before marker 0xd9"  # what it says of rows that we left out
_WHOLE_BELOW = 32  # pixels: how libjpeg rounds the sides of smaller images is not worth knowing


class JpegHeader(NamedTuple):
    """What is known of a JPEG before it is decoded.

    Args:
        height, width: as stored, in pixels.
        grey: whether it is stored grey.
        orientation: EXIF's (or XMP's), 1 to 8; 1 where nothing is said of it.
        frame: where things stand in the file; None where its markers are not in order.
    """

    height: int
    width: int
    grey: bool
    orientation: int
    frame: Frame | None

    @property
    def upright(self) -> tuple[int, int]:
        """(H, W) of what `decode` gives."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def read_jpeg(content: bytes) -> JpegHeader | None:
    """The header of a JPEG; None of what is no JPEG that `decode_jpeg` knows."""
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
    # Most files have no orientation, and Pillow's parser costs 0.1 ms.
    if content.find(b"Exif\0\0", 0, end) < 0 and content.find(b"tiff:Orientation", 0, end) < 0:
        return 1
    try:
        with pillow_errors(""), open_image(content) as image:
            return orientation(image)
    except ImageError:
        return 1


def decode_jpeg(
    content: bytes, header: JpegHeader, *, grey: bool, where: str, reduce: int = 1, rows: int | None = None
) -> npt.NDArray[np.uint8] | None:
    """The pixels of a JPEG as they are stored, not turned upright.

    Args:
        header: from `read_jpeg`.
        grey: leave an image that is stored grey so; else its grey is replicated. Colour stays colour.
        where: what to call the image in errors.
        reduce: 1, 2, 4 or 8; the image may be decoded at this fraction of its size (look at the shape).
        rows: how many rows from the top are wanted, counted at full size. Below them the answer may end, and what
            is damaged there is not seen, but for a file that is cut short. By default all.

    Returns:
        (H, W, 1 or 3) uint8; None where Pillow should have a look.

    Raises:
        ImageError: its data is damaged, or it is far too large.
    """
    height, width, frame = header.height, header.width, header.frame
    if height * width > MAX_PIXELS:
        raise ImageError(where, f"more than {MAX_PIXELS} pixels (a decompression bomb?)")
    wanted = "GRAY" if grey and header.grey else "RGB"
    fewer = rows is not None and rows < height and min(rows, width) >= _WHOLE_BELOW
    try:
        if rows is not None and fewer and frame is not None and frame.may_stop:
            return _upper(upper_rows(content, frame, rows), wanted, -(-rows // reduce), -(-width // reduce))
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            content, wanted, min_height=-(-height // reduce), min_width=-(-width // reduce)
        )
        return pixels
    except ValueError as error:
        if any(sign in str(error).lower() for sign in _DAMAGE):
            raise ImageError(where, str(error).strip().splitlines()[0][:120]) from error
        return None  # stray bytes between markers and the like: Pillow decodes them, and is strict about the end


def _upper(content: bytearray, wanted: str, height: int, width: int) -> npt.NDArray[np.uint8]:
    """(height, width, C) of a JPEG from `upper_rows`; raises ValueError when these rows are damaged."""
    pixels = np.empty((height, width, 1 if wanted == "GRAY" else 3), np.uint8)
    try:
        simplejpeg.decode_jpeg(content, wanted, min_height=height, min_width=width, buffer=pixels)
    except ValueError as error:  # libjpeg tells the first thing that it notices: these rows were sound
        if _LEFT_OVER not in str(error):
            raise
    return pixels
