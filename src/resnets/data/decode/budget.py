"""A limit on the memory that decoding takes: for one image, and for all threads of the process together.

A file of 30 bytes may declare 170 million pixels, and most formats need several copies of them. So the memory that an
image will take is estimated from its header before anything is decoded; an image above the limit is refused, and
images that exceed it together are decoded one after another.

`reserving` brackets the decoding (and resizing) of one image; `reserve` is called within by whatever reads a header.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

__all__ = ["MAX_BYTES", "pillow_bytes", "release", "reserve", "reserving"]

MAX_BYTES = 2**31  # for one image, and for all that are being decoded at the same time in a process

# Peak bytes per pixel of decoding to 8-bit RGB, measured on 3000 x 2000 pixels: Pillow's memory (4 bytes for colour),
# the decoder's own, and the copies of `numpy.array`.
_PLAIN, _ALPHA = 13, 22
_BY_MODE = {"I": 23, "F": 27, "CMYK": 16}
_BY_FORMAT = {"WEBP": 22, "JPEG2000": 20, "AVIF": 17, "HEIF": 26}
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")

_changed = threading.Condition()
_total = 0  # bytes reserved by all threads


class _Thread(threading.local):
    depth = 0
    held = 0


_thread = _Thread()


@contextmanager
def reserving() -> Iterator[None]:
    """Release at the end of the block what this thread reserved within; blocks may be nested."""
    _thread.depth += 1
    try:
        yield
    finally:
        _thread.depth -= 1
        if not _thread.depth and _thread.held:
            release()


def reserve(wanted: int) -> None:
    """Reserve bytes for the image at hand; waits while other threads hold too much.

    A thread that has reserved some already does not wait, so two threads cannot wait for each other.

    Raises:
        ValueError: the image alone exceeds `MAX_BYTES`.
    """
    global _total
    if _thread.held + wanted > MAX_BYTES:
        needed, limit = (_thread.held + wanted) / 2**30, MAX_BYTES / 2**30
        raise ValueError(f"decoding takes about {needed:.1f} GiB; the limit is {limit:.0f} GiB (a decompression bomb?)")
    if not _thread.depth:
        return
    with _changed:
        if not _thread.held:
            _changed.wait_for(lambda: _total + wanted <= MAX_BYTES)
        _total += wanted
        _thread.held += wanted


def release() -> None:
    """Release what this thread reserved for an attempt that failed, before it tries another way."""
    global _total
    with _changed:
        _total -= _thread.held
        _thread.held = 0
        _changed.notify_all()


def pillow_bytes(image: Image.Image) -> int:
    """Peak bytes of decoding an opened image with Pillow to 8-bit pixels; raises struct.error if it is damaged."""
    pixels = image.width * image.height
    if image.format == "ICO":  # the header gives at most 256 x 256, but the image within may be larger
        icon = image.ico  # type: ignore[attr-defined]
        entry = icon.entry[icon.getentryindex(image.size)]
        icon.buf.seek(entry.offset)
        content = icon.buf.read(24)
        png = content.startswith(b"\x89PNG")
        width, height = struct.unpack_from(">II" if png else "<ii", content, 16 if png else 4)
        pixels = max(pixels, abs(width * height))
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF" and _TILE_WIDTH in tags and _TILE_HEIGHT in tags:  # a tile may be larger than the image
        pixels = max(pixels, int(tags[_TILE_WIDTH]) * int(tags[_TILE_HEIGHT]))
    alpha = image.mode in _ALPHA_MODES or "transparency" in image.info
    own = _ALPHA if alpha else _BY_MODE.get(image.mode.split(";")[0], _PLAIN)
    return pixels * max(own, _BY_FORMAT.get(image.format or "", 0) + (8 if image.mode == "RGBA" else 0))
