"""From a file's bytes to 8-bit pixels, or to one clear error.

Decisions, so that training and prediction see what a person sees in a viewer:
- EXIF (and XMP) orientation is obeyed.
- Transparent pixels are laid over white; a 16-bit grey picture's transparent value is not looked at.
- Of animations and multi-page files the first frame is taken.
- 16-bit grey is divided by 257 and rounded (12-bit TIFF by 4095 / 255), never clipped. Floating-point pixels
  must lie in 0..1 and 32-bit integers in 0..65535, since nothing in a file says what another range would mean.
- Damage is an error: a picture cut short is never filled up with grey.

Legend: H height, W width, C channels.
"""

from __future__ import annotations

import ctypes
import functools
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError, _imaging

from resnets.errors import ImageError

__all__ = ["MAX_PIXELS", "Pixels", "PixelChannels", "decode", "header", "jpeg_size", "to_luma"]

Pixels = npt.NDArray[np.uint8]
PixelChannels = Literal["RGB", "L"]

MAX_PIXELS = 178_956_970  # Pillow's own limit for a decompression bomb: 512 MiB of RGB

# Pillow's other formats run programs (EPS), or hold no pictures that people classify.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "MPO", "TGA", "ICO")
_ORIENTATION = 0x0112
_TIFF_BITS = 258
# What libjpeg says when picture data is missing or wrong; Pillow would show grey there without a word.
_DAMAGE = ("premature end of data segment", "huffman", "instead of rst", "arithmetic", "bogus", "corrupt progressive")


def decode(
    content: bytes | Path | str, channels: PixelChannels, *, where: str | None = None, reduce: int = 1
) -> Pixels:
    """The picture in `content` as 8-bit pixels.

    Args:
        content: the file's bytes, or its path.
        channels: `RGB` (grey is replicated) or `L` (colour becomes luma, ITU-R 601).
        where: what to call the picture in errors; by default its path.
        reduce: 1, 2, 4 or 8; a JPEG may be decoded at this fraction of its size (it need not be: look at the
            shape), which is several times faster.

    Returns:
        (H, W, C) uint8, contiguous.

    Raises:
        ImageError: whatever is wrong with it.
    """
    if not isinstance(content, bytes):
        where = where or str(content)
        content = _read(Path(content))
    where = where or "picture"
    if not content:
        raise ImageError(where, "the file is empty")
    pixels = _simplejpeg(content, channels, where, reduce) if content[:3] == b"\xff\xd8\xff" else None
    if pixels is None:
        return _pillow(content, channels, where)
    return _orient(pixels, _jpeg_orientation(content))


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """(H, W) that `decode` will give of a JPEG, upright; None of what is no JPEG that can be decoded reduced."""
    if content[:3] != b"\xff\xd8\xff":
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    if space not in ("YCbCr", "Gray", "RGB"):
        return None
    return (width, height) if _jpeg_orientation(content) >= 5 else (height, width)


def header(content: bytes, *, where: str = "picture") -> tuple[int, int, bool]:
    """(H, W, whether grey) of a picture, upright, read from its header alone.

    Raises:
        ImageError: the header cannot be read.
    """
    with _pillow_errors(where), _open(content) as image:
        width, height = image.size
        grey = image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")
        # The TIFF reader has turned the size already.
        lying = image.format != "TIFF" and _orientation(image) >= 5
        return (width, height, grey) if lying else (height, width, grey)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(str(path), error.strerror or type(error).__name__) from error


def _simplejpeg(content: bytes, channels: PixelChannels, where: str, reduce: int) -> Pixels | None:
    """The pixels by libjpeg-turbo without Pillow's overhead; None where Pillow should have a look."""
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
        if space not in ("YCbCr", "Gray", "RGB"):  # CMYK: Pillow knows Adobe's inversion
            return None
        if height * width > MAX_PIXELS:
            raise ImageError(where, f"more than {MAX_PIXELS} pixels (a decompression bomb?)")
        least = (-(-height // reduce), -(-width // reduce))
        wanted = "GRAY" if channels == "L" and space == "Gray" else "RGB"
        pixels: Pixels = simplejpeg.decode_jpeg(content, wanted, min_height=least[0], min_width=least[1])
    except ValueError as error:
        if any(sign in str(error).lower() for sign in _DAMAGE):
            raise ImageError(where, _reason(error)) from error
        return None  # stray bytes between markers and the like: Pillow decodes them, and is strict about the end
    # Luma from RGB, as Pillow and torchvision take it; the file's own Y differs by up to 20 in saturated colours.
    return pixels if wanted == "GRAY" or channels == "RGB" else to_luma(pixels)


def to_luma(pixels: Pixels) -> Pixels:
    """(H, W, 1) luma (ITU-R 601, as Pillow rounds it) of (H, W, 3) RGB."""
    luma: Pixels = np.array(Image.fromarray(pixels).convert("L"))  # (H, W)
    return luma.reshape(*luma.shape, 1)


def _pillow(content: bytes, channels: PixelChannels, where: str) -> Pixels:
    with _pillow_errors(where), _open(content) as image:
        bits = image.tag_v2.get(_TIFF_BITS, (16,))[0] if image.format == "TIFF" else 16  # type: ignore[attr-defined]
        image.load()
        pixels = _eight_bits(image, channels, bits)
        return _orient(pixels, _orientation(image))  # after load: the TIFF reader turns the picture itself


def _eight_bits(image: Image.Image, channels: PixelChannels, bits: int) -> Pixels:
    """(H, W, C) uint8 of a loaded picture in any of Pillow's modes."""
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


def _orient(pixels: Pixels, orientation: int) -> Pixels:
    """(H, W, C) turned upright by EXIF's orientation, 1 to 8."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _jpeg_orientation(content: bytes) -> int:
    # Metadata stands before the picture; most files have no orientation, and Pillow's parser costs 0.1 ms.
    if content.find(b"Exif\0\0", 0, 2**17) < 0 and content.find(b"tiff:Orientation", 0, 2**18) < 0:
        return 1
    try:
        with _pillow_errors(""), _open(content) as image:
            return _orientation(image)
    except ImageError:
        return 1


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata does not make the picture wrong
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


@functools.cache
def _formats() -> tuple[str, ...]:
    with suppress(AttributeError, OSError):  # libtiff writes to stderr itself, a line for every tag that it doubts
        libtiff = ctypes.CDLL(_imaging.__file__)
        libtiff.TIFFSetWarningHandler(None)
        libtiff.TIFFSetErrorHandler(None)  # what matters of it comes as an exception of Pillow's
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _open(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=_formats())


@contextmanager
def _pillow_errors(where: str) -> Iterator[None]:
    """Every way in which Pillow fails becomes an ImageError, and its warnings are not shown."""
    with _quiet:
        try:
            yield
        except ImageError:
            raise
        except Exception as error:  # SyntaxError, struct.error, OSError, ValueError, DecompressionBombError, ...
            raise ImageError(where, _reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture in a known format, or its header is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS} pixels (a decompression bomb?)"
    if str(error).startswith("decoder error"):
        return f"its data is damaged ({error})"
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


class _Quiet:
    """Silences Pillow's warnings while any thread is inside (`warnings.catch_warnings` alone is for one thread)."""

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
