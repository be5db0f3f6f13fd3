"""TIFF with any number of bands, of 8 or 16 bits or floating point: Pillow reads up to four, and 16-bit grayscale only.

Pillow's decompressors are still used: a strip or tile is described to them as one band of bytes, which works for every
compression; byte order, predictors and layout are undone here.

Why not `tifffile` with `imagecodecs`: it is 1.7 times as fast, but silently fills the missing part of some truncated
files with zeros (30 of 2,500 cuts), and deep images would need an extra of 80 MB.

Legend: H height, W width, B bands.
"""

from __future__ import annotations

import io
import struct
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from resnets.arch.preprocessing import Depth
from resnets.data.decode.pillow import MAX_PIXELS, orient

__all__ = ["TiffLayout", "decoded_bytes", "is_tiff", "read_layout", "read_tiff"]

_STARTS = (b"II*\0", b"MM\0*", b"II+\0")  # not big-endian BigTIFF, which Pillow does not support
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_FILL_ORDER, _STRIPS, _ORIENTATION, _BANDS, _ROWS, _STRIP_SIZES = 266, 273, 274, 277, 278, 279
_PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_SIZES = 284, 317, 322, 323, 324, 325
_EXTRA, _FORMAT = 338, 339
_NAMES = {1: "none", 5: "LZW", 8: "deflate", 32946: "deflate", 32773: "PackBits", 34925: "LZMA", 50000: "Zstandard"}
_KINDS: dict[tuple[int, int], tuple[str, Depth]] = {
    (8, 1): ("u1", "uint8"),
    (16, 1): ("u2", "uint16"),
    (16, 3): ("f2", "float32"),
    (32, 3): ("f4", "float32"),
    (64, 3): ("f8", "float32"),
}  # (bits, sample format): stored type and type of the result


class TiffLayout(NamedTuple):
    """The first directory of a TIFF.

    Attributes:
        height, width: in pixels, as stored, before `orientation`.
        bands: B.
        colours, alpha: as in `bands.Bands`.
        dtype: of the result of `read_tiff`.
        orientation: 1 to 8.
        tags: all tags.
    """

    height: int
    width: int
    bands: int
    colours: int
    alpha: Literal["none", "straight", "premultiplied"]
    dtype: Depth
    orientation: int
    tags: dict[int, Any]


def is_tiff(content: bytes) -> bool:
    """Whether this is a TIFF or BigTIFF file, by its signature."""
    return content[:4] in _STARTS


def read_layout(content: bytes) -> TiffLayout | None:
    """The layout of a grayscale, RGB or multi-band TIFF; None for others (palette, fax, CMYK, 12 and 32-bit integers).

    Raises:
        ValueError: the directory is damaged.
    """
    try:
        directory = ImageFileDirectory_v2(content[: 16 if content[2:3] == b"+" else 8])
        file = io.BytesIO(content)
        file.seek(directory.next)
        directory.load(file)
        tags = dict(directory)
        height, width, bands = int(tags[_HEIGHT]), int(tags[_WIDTH]), int(tags.get(_BANDS, 1))
        bits, formats = set(tags.get(_BITS, (1,))), set(tags.get(_FORMAT, (1,)))
        photometric, extra = tags.get(_PHOTOMETRIC), tags.get(_EXTRA, ())
    except (KeyError, TypeError, ValueError, SyntaxError, OSError, struct.error) as error:
        raise ValueError("its TIFF directory is damaged") from error
    kind = (*bits, *formats)
    if len(bits) > 1 or len(formats) > 1 or kind not in _KINDS or photometric not in (1, 2):
        return None
    if min(height, width, bands) < 1 or height * width * bands > 4 * MAX_PIXELS:
        raise ValueError(f"its TIFF directory is damaged, or it has more than {MAX_PIXELS} pixels")
    orientation = tags.get(_ORIENTATION, 1)
    colours = 3 if photometric == 2 and bands >= 3 else 1 if bands <= 2 else 0
    alpha: Literal["none", "straight", "premultiplied"] = "none"
    if extra and colours and bands > colours and extra[0] in (1, 2):
        alpha = "premultiplied" if extra[0] == 1 else "straight"
    return TiffLayout(
        height, width, bands, colours, alpha, _KINDS[kind][1], orientation if orientation in range(1, 9) else 1, tags
    )


def decoded_bytes(layout: TiffLayout) -> int:
    """Peak bytes of `read_tiff`: each stored byte stands in Pillow's memory, its string, the array and its copies.

    Tiles count as a whole, also where they reach beyond the image.
    """
    bits, tags = int(layout.tags[_BITS][0]), layout.tags
    pixels = layout.height * layout.width
    if _TILES in tags:
        across, down = int(tags.get(_TILE_WIDTH, 0)), int(tags.get(_TILE_HEIGHT, 0))
        if min(across, down) < 1:
            raise ValueError("its TIFF directory is damaged: tiles without a size")
        pixels = -(-layout.height // down) * down * -(-layout.width // across) * across
    return pixels * layout.bands * (6 * bits // 8 + 4)


def read_tiff(content: bytes, layout: TiffLayout) -> npt.NDArray[Any]:
    """Decode a TIFF, after orientation.

    Returns:
        (H, W, B) of `layout.dtype`.

    Raises:
        ValueError: the file is damaged or its compression is not supported; also Pillow's errors.
    """
    tags = layout.tags
    if tags.get(_COMPRESSION, 1) not in _NAMES or tags.get(_FILL_ORDER, 1) != 1:
        names = ", ".join(dict.fromkeys(_NAMES.values()))
        raise ValueError(f"its compression must be {names}; got number {tags.get(_COMPRESSION)}")
    planes = layout.bands if tags.get(_PLANAR, 1) == 2 else 1
    decoded = [_read_plane(content, layout, plane, planes) for plane in range(planes)]
    pixels = np.concatenate(decoded, axis=2) if planes > 1 else decoded[0]
    return orient(pixels.astype(layout.dtype), layout.orientation)


def _read_plane(content: bytes, layout: TiffLayout, plane: int, planes: int) -> npt.NDArray[Any]:
    """(H, W, B / planes) of one plane, of its stored type."""
    tags, big = layout.tags, content[:2] == b"MM"
    stored = np.dtype((">" if big else "<") + _KINDS[tags[_BITS][0], tags.get(_FORMAT, (1,))[0]][0])
    bands, tiled = layout.bands // planes, _TILES in tags
    across = tags[_TILE_WIDTH] if tiled else layout.width  # pixels per row of a strip or tile
    columns = -(-layout.width // across)
    row_bytes = across * bands * stored.itemsize
    shape = (layout.height, columns * row_bytes)
    raw = _decompress(content, tags, plane, planes, shape, row_bytes)  # (H, columns * row_bytes)
    raw = raw.reshape(layout.height, columns, row_bytes)
    predictor = tags.get(_PREDICTOR, 1)
    if predictor == 3 and stored.kind == "f":
        values = _undo_predictor3(raw, across, bands, stored)
    else:
        values = np.ascontiguousarray(raw).view(stored).reshape(layout.height, columns, across, bands)
        if predictor == 2:
            integer = np.dtype(f"u{stored.itemsize}")
            sums = np.cumsum(values.view(stored.str.replace("f", "u")), axis=2, dtype=integer)
            values = sums.view(stored.newbyteorder("="))
        elif predictor != 1:
            raise ValueError(f"its predictor must be 1, 2 or 3; got {predictor}")
    values = values.reshape(layout.height, columns * across, bands)
    return np.ascontiguousarray(values[:, : layout.width])  # not a view, which would keep the memory of wider tiles


def _undo_predictor3(raw: npt.NDArray[np.uint8], across: int, bands: int, stored: np.dtype[Any]) -> npt.NDArray[Any]:
    """Undo predictor 3: byte differences, the most significant bytes of a row first (Adobe's TIFF note 3)."""
    height, columns, row_bytes = raw.shape
    sums = np.cumsum(raw.reshape(height, columns, row_bytes // bands, bands), axis=2, dtype=np.uint8)
    by_byte = sums.reshape(height, columns, stored.itemsize, across * bands)
    together = np.ascontiguousarray(by_byte.swapaxes(2, 3))  # (H, columns, across x B, bytes of a value)
    return together.view(stored.newbyteorder(">")).reshape(height, columns, across, bands)


def _decompress(
    content: bytes, tags: dict[int, Any], plane: int, planes: int, shape: tuple[int, int], row_bytes: int
) -> npt.NDArray[np.uint8]:
    """(H, bytes per row) of a plane, decoded as a grayscale image with an added directory."""
    where, sizes = (_TILES, _TILE_SIZES) if _TILES in tags else (_STRIPS, _STRIP_SIZES)
    each = len(tags[where]) // planes
    directory = {
        _HEIGHT: [shape[0]],
        _WIDTH: [shape[1]],
        _BITS: [8],
        _COMPRESSION: [tags.get(_COMPRESSION, 1)],
        _PHOTOMETRIC: [1],
        where: tags[where][plane * each : (plane + 1) * each],
        sizes: tags[sizes][plane * each : (plane + 1) * each],
    }
    if _TILES in tags:
        directory |= {_TILE_WIDTH: [row_bytes], _TILE_HEIGHT: [tags[_TILE_HEIGHT]]}
    else:
        directory[_ROWS] = [min(tags.get(_ROWS, shape[0]), shape[0])]
    with Image.open(io.BytesIO(_with_directory(content, directory)), formats=("TIFF",)) as image:
        return np.array(image)


def _with_directory(content: bytes, tags: dict[int, Any]) -> bytes:
    """The file with another first directory, appended; all values are integers."""
    order = ">" if content[:2] == b"MM" else "<"
    word, count, kind = ("Q", "Q", 16) if content[2:3] == b"+" else ("I", "H", 4)
    room = struct.calcsize(word)
    at = len(content) + len(content) % 2
    end = at + struct.calcsize(order + count) + len(tags) * (4 + 2 * room) + room
    directory, beyond = struct.pack(order + count, len(tags)), b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{word}", *values)
        if len(packed) > room:
            packed, beyond = struct.pack(order + word, end + len(beyond)), beyond + packed
        directory += struct.pack(order + "HH" + word, tag, kind, len(values)) + packed
    head = content[: 8 if room == 8 else 4] + struct.pack(order + word, at)
    return head + content[len(head) :] + b"\0" * (at - len(content)) + directory + b"\0" * room + beyond
