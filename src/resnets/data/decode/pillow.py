"""Opening images with Pillow: allowed formats, orientation, and one error type for all of Pillow's.

Legend: H height, W width, C channels.
"""

from __future__ import annotations

import ctypes
import functools
import io
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError, _imaging

from resnets.errors import ImageError, MissingExtraError

__all__ = ["MAX_PIXELS", "OUT_OF_MEMORY", "open_image", "orient", "orientation", "pillow_errors"]

Number = TypeVar("Number", bound=np.generic)

MAX_PIXELS = 178_956_970  # Pillow's own limit for a decompression bomb: 512 MiB of RGB

# Pillow's other formats run programs (EPS) or are irrelevant to classification.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "MPO", "TGA", "ICO",
            "HEIF")  # fmt: skip
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_ORIENTATION = 0x0112
OUT_OF_MEMORY = "decoding it takes more memory than is free"

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints its warnings, which name no file


def orient(pixels: npt.NDArray[Number], orientation: int) -> npt.NDArray[Number]:
    """Apply EXIF's orientation, 1 to 8, to (H, W, C)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def orientation(image: Image.Image) -> int:
    """EXIF's (or XMP's) orientation, 1 to 8; 1 if absent or damaged."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata do not matter
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


@functools.cache
def _formats() -> tuple[str, ...]:
    with suppress(AttributeError, OSError):  # libtiff writes to stderr, a line for every unusual tag
        libtiff = ctypes.CDLL(_imaging.__file__)
        libtiff.TIFFSetWarningHandler(None)
        libtiff.TIFFSetErrorHandler(None)  # Pillow raises exceptions for real errors
    Image.init()
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener(thumbnails=False)
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def open_image(content: bytes) -> Image.Image:
    """Open an image without decoding it; raises Pillow's errors, and MissingExtraError for HEIC without its extra."""
    formats = _formats()
    if "HEIF" not in formats and content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS:
        raise MissingExtraError("a HEIC image", "heic")
    return Image.open(io.BytesIO(content), formats=formats)


@contextmanager
def pillow_errors(where: str) -> Iterator[None]:
    """Turn every error in the block into an ImageError, and hide Pillow's warnings."""
    with _quiet:
        try:
            yield
        except ImageError:
            raise
        except Exception as error:  # SyntaxError, struct.error, OSError, ValueError, DecompressionBombError, ...
            raise ImageError(where, _reason(error)) from error


def _reason(error: Exception) -> str:
    """The error in a few words, on one line."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image in a known format, or its header is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS} pixels (a decompression bomb?)"
    if str(error).startswith("decoder error"):
        return f"its data is damaged ({error})"
    if isinstance(error, MemoryError):
        return OUT_OF_MEMORY
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


class _Quiet:
    """Hides Pillow's warnings while any thread is inside (`warnings.catch_warnings` is not thread-safe)."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._catch = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._catch = warnings.catch_warnings()
                self._catch.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.|resnets\.data\.decode")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._catch.__exit__(None, None, None)


_quiet = _Quiet()
