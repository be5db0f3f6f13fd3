"""Sixteen bits, floating point and any number of bands, from the file to the network's input."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resnets.data.decode.bands import ColourOrder
from resnets.data.decode.image import decode, read_header
from resnets.errors import ImageError

Array = np.ndarray[Any, Any]
ALPHA = 2


def deep(height: int = 7, width: int = 9, bands: int = 3, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 65536, (height, width, bands)).astype(np.uint16)


def encode(image: Any, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form, **options)
    return buffer.getvalue()


def npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


# PNG, written by the book (RFC 2083, chapters 3 and 6).


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def filtered(rows: Array, kinds: list[int], step: int) -> bytes:
    """Rows of bytes, each under its filter; `step` bytes are a pixel."""
    out, above = b"", np.zeros(rows.shape[1], int)
    for y, row in enumerate(rows.astype(int)):
        left = np.concatenate([np.zeros(step, int), row[:-step]])
        corner = np.concatenate([np.zeros(step, int), above[:-step]])
        guess = left + above - corner
        distances = np.abs(np.stack([guess - left, guess - above, guess - corner]))
        paeth = np.choose(distances.argmin(axis=0), [left, above, corner])
        kind = kinds[y % len(kinds)]
        coded = (row - [0 * row, left, above, (left + above) // 2, paeth][kind]) % 256
        out += bytes([kind, *coded.tolist()])
        above = row
    return out


def png16(pixels: Array, kinds: list[int] | None = None, interlaced: bool = False, extra: bytes = b"") -> bytes:
    height, width, bands = pixels.shape
    colour, step = {1: 0, 2: 4, 3: 2, 4: 6}[bands], 2 * bands
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    raw = b""
    for y, x, down, across in passes if interlaced else [(0, 0, 1, 1)]:
        part = pixels[y::down, x::across]
        if part.size:
            rows = np.frombuffer(part.astype(">u2").tobytes(), np.uint8).reshape(len(part), -1)
            raw += filtered(rows, kinds or [0], step)
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, int(interlaced))
    data = zlib.compress(raw)
    parts = chunk(b"IDAT", data[:20]) + chunk(b"IDAT", data[20:])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + parts + chunk(b"IEND", b"")


@given(
    bands=st.integers(1, 4),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kinds=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    interlaced=st.booleans(),
)
def test_png_keeps_all_16_bits_under_every_filter(
    bands: int, size: tuple[int, int], kinds: list[int], interlaced: bool
) -> None:
    pixels = deep(*size, bands)
    content = png16(pixels, kinds, interlaced)
    assert np.array_equal(decode(content, bands, depth="uint16"), pixels)
    if bands in (1, 3):
        order: ColourOrder = "L" if bands == 1 else "RGB"
        assert np.array_equal(decode(content, order, depth="uint16"), pixels)
        assert read_header(content) == (*size, order, "uint16")
    floats = decode(content, bands, depth="float32")
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, pixels / 65535, rtol=1e-6)


def test_grayscale_png_agrees_with_pillow() -> None:
    pixels = deep(20, 30, 1)
    content = encode(pixels[..., 0], "PNG")
    assert np.array_equal(decode(content, "L", depth="uint16"), pixels)
    assert np.array_equal(decode(content, "RGB", depth="uint16"), np.repeat(pixels, 3, axis=2))


def test_orientation_of_deep_images() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = deep(4, 6)
    upright = np.rot90(pixels, -1)
    content = png16(pixels, extra=chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    assert np.array_equal(decode(content, "RGB", depth="uint16"), upright)
    assert read_header(content)[:2] == (6, 4)
    turned = tiff(pixels, tags={274: (3, [6])})
    assert np.array_equal(decode(turned, 3, depth="uint16"), upright)
    assert read_header(turned)[:2] == (6, 4)
    grey = encode(pixels[..., 0], "PNG", exif=exif)
    assert np.array_equal(decode(grey, "L", depth="uint16"), upright[..., :1])


def test_a_damaged_deep_png_is_an_error() -> None:
    content = png16(deep())
    for length in range(26, len(content), 7):
        with pytest.raises(ImageError):
            decode(content[:length], "RGB", depth="uint16")
    for place in range(26, len(content) - 12, 5):
        broken = bytearray(content)
        broken[place] ^= 0x55
        with pytest.raises(ImageError):
            decode(bytes(broken), "RGB", depth="uint16")


# TIFF, written by the book (TIFF 6.0, and Adobe's note 3 for predictor 3).


def tiff(
    pixels: Array,
    *,
    order: str = "<",
    tile: int = 0,
    rows: int = 3,
    planar: bool = False,
    predictor: int = 1,
    deflate: bool = False,
    big: bool = False,
    photometric: int | None = None,
    tags: dict[int, tuple[int, list[int]]] | None = None,
) -> bytes:
    height, width, bands = pixels.shape
    kind = pixels.dtype.newbyteorder(order)
    parts = []
    for plane in [pixels[..., [b]] for b in range(bands)] if planar else [pixels]:
        blocks = [plane[y : y + rows] for y in range(0, height, rows)]
        if tile:
            padded = np.pad(plane, [(0, -height % tile), (0, -width % tile), (0, 0)], mode="edge")
            steps = [range(0, side, tile) for side in padded.shape[:2]]
            blocks = [padded[y : y + tile, x : x + tile] for y in steps[0] for x in steps[1]]
        for block in blocks:
            if predictor == 2:
                whole = block.view(f"u{block.itemsize}")
                block = np.concatenate([whole[:, :1], np.diff(whole, axis=1)], axis=1)
            raw = block.astype(block.dtype.newbyteorder(order)).tobytes()
            if predictor == 3:
                lines = block.astype(block.dtype.newbyteorder(">")).reshape(len(block), -1)
                planes = lines.view(np.uint8).reshape(*lines.shape, -1).swapaxes(1, 2).reshape(len(block), -1)
                step = block.shape[2]
                raw = np.concatenate([planes[:, :step], planes[:, step:] - planes[:, :-step]], axis=1).tobytes()
            parts.append(zlib.compress(raw) if deflate else raw)
    sample = {"u": 1, "f": 3}[kind.kind]
    fields: dict[int, tuple[int, list[int]]] = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [8 * kind.itemsize] * bands), 259: (3, [8 if deflate else 1]),
        262: (3, [photometric if photometric is not None else 2 if bands in (3, 4) else 1]), 277: (3, [bands]),
        284: (3, [2 if planar else 1]), 317: (3, [predictor]), 339: (3, [sample] * bands), **(tags or {}),
    }  # fmt: skip
    start = 16 if big else 8
    offsets = [start + sum(map(len, parts[:i])) for i in range(len(parts))]
    sizes = (4, [len(part) for part in parts])
    fields |= {322: (3, [tile]), 323: (3, [tile])} if tile else {278: (4, [rows])}
    fields |= {324: (4, offsets), 325: sizes} if tile else {273: (4, offsets), 279: sizes}
    body, room, count = b"".join(parts), 8 if big else 4, "Q" if big else "H"
    at = start + len(body) + (start + len(body)) % 2
    entry = struct.calcsize(order + "HH" + ("QQ" if big else "II"))
    tail_at = at + struct.calcsize(order + count) + entry * len(fields) + room
    directory, tail = struct.pack(order + count, len(fields)), b""
    for tag, (code, values) in sorted(fields.items()):
        data = struct.pack(order + {3: "H", 4: "I"}[code] * len(values), *values)
        if len(data) > room:
            data, tail = struct.pack(order + ("Q" if big else "I"), tail_at + len(tail)), tail + data
        directory += struct.pack(order + ("HHQ" if big else "HHI"), tag, code, len(values)) + data.ljust(room, b"\0")
    mark = b"II" if order == "<" else b"MM"
    first = struct.pack(order + "HHHQ", 43, 8, 0, at) if big else struct.pack(order + "HI", 42, at)
    return mark + first + body.ljust(at - start, b"\0") + directory + b"\0" * room + tail


@given(
    bands=st.integers(1, 6),
    kind=st.sampled_from(["u1", "u2", "f2", "f4", "f8"]),
    order=st.sampled_from("<>"),
    tile=st.sampled_from([0, 16]),
    rows=st.sampled_from([1, 3, 100]),
    planar=st.booleans(),
    predictor=st.sampled_from([1, 2, 3]),
    deflate=st.booleans(),
    big=st.booleans(),
)
def test_tiff_of_any_bands_and_layout(bands: int, kind: str, order: str, predictor: int, **layout: Any) -> None:
    whole = np.random.default_rng(1).integers(0, 256, (19, 21, bands))
    pixels = (whole.astype(np.uint16) * 257).astype(kind) if kind == "u2" else whole.astype(kind)
    predictor = 1 if predictor == 3 and kind[0] == "u" else predictor
    layout["big"] &= order == "<"
    content = tiff(pixels, order=order, predictor=predictor, **layout)
    wanted: Any = {"u1": "uint8", "u2": "uint16"}.get(kind, "float32")
    assert np.array_equal(decode(content, bands, depth=wanted), pixels.astype(wanted))
    assert read_header(content)[3] == wanted
    assert read_header(content)[2] == ("L" if bands <= 2 else "RGB" if bands <= 4 else bands)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "zstd"])
@pytest.mark.parametrize("predictor", [1, 2])
def test_grayscale_tiff_agrees_with_pillow(compression: str, predictor: int) -> None:
    pixels = np.sort(deep(40, 50, 1), axis=1)
    info = {317: predictor} if compression in ("tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "zstd") else {}
    content = encode(pixels[..., 0], "TIFF", compression=compression, tiffinfo=info)
    assert np.array_equal(decode(content, "L", depth="uint16"), pixels)
    assert np.array_equal(decode(content, 1, depth="uint16"), pixels)


def test_colour_tiff_agrees_with_pillow_in_8_bits() -> None:
    colour = (deep(40, 50) >> 8).astype(np.uint8)
    for compression in ("tiff_lzw", "packbits"):
        content = encode(colour, "TIFF", compression=compression)
        assert np.array_equal(decode(content, 3), colour)
        assert np.array_equal(decode(content, "RGB"), colour)
        assert np.array_equal(decode(content, "RGB", depth="uint16"), colour.astype(np.uint16) * 257)


def test_damaged_tiffs_are_errors() -> None:
    content = tiff(deep(20, 20, 5), deflate=True)
    for length in range(9, len(content), 61):
        with pytest.raises(ImageError):
            decode(content[:length], 5, depth="uint16")
    with pytest.raises(ImageError, match="its compression must be none, LZW, deflate"):
        decode(tiff(deep(20, 20, 5), tags={259: (3, [7])}), 5, depth="uint16")
    with pytest.raises(ImageError, match="more than 178956970 pixels"):
        decode(tiff(deep(4, 4, 5), tags={256: (4, [2**20]), 257: (4, [2**20])}), 5, depth="uint16")


def test_transparency_of_deep_images_is_laid_over_white() -> None:
    pixels = np.zeros((1, 3, 4), np.uint16)
    pixels[0, :, 3] = (0, 32768, 65535)
    for content in (png16(pixels), tiff(pixels, tags={338: (3, [ALPHA])})):
        assert decode(content, "L", depth="uint16")[0, :, 0].tolist() == [65535, 32767, 0]
        assert np.array_equal(decode(content, 4, depth="uint16"), pixels)
    premultiplied = tiff(pixels, tags={338: (3, [1])})
    assert decode(premultiplied, "RGB", depth="uint16")[0, :, 0].tolist() == [65535, 32767, 0]
    unknown = tiff(pixels, tags={338: (3, [0])})
    assert (decode(unknown, "RGB", depth="uint16") == 0).all()
    grey = np.array([[[1000, 0], [1000, 65535]]], np.uint16)
    assert decode(png16(grey), "L", depth="uint16")[0, :, 0].tolist() == [65535, 1000]


def test_8_bit_bands_are_taken_as_they_are() -> None:
    pixels = (deep(5, 6, 4) >> 8).astype(np.uint8)
    assert np.array_equal(decode(encode(pixels, "PNG"), 4), pixels)
    assert np.array_equal(decode(encode(pixels[..., :2], "PNG"), 2), pixels[..., :2])
    palette = Image.fromarray(pixels[..., 0]).convert("P")
    assert decode(encode(palette, "PNG"), 3).shape == (5, 6, 3)
    colour, grey = encode(pixels[..., :3], "JPEG"), encode(pixels[..., 0], "JPEG")
    assert np.array_equal(decode(colour, 3), decode(colour, "RGB"))
    assert np.array_equal(decode(grey, 1), decode(grey, "L"))
    for content, asked in ((colour, 4), (grey, 3), (encode(pixels, "PNG"), 3)):
        with pytest.raises(ImageError, match=f"bands and {asked} are requested"):
            decode(content, asked)


def test_8_bit_images_are_scaled_exactly() -> None:
    content = encode((deep(5, 6) >> 8).astype(np.uint8), "PNG")
    eight = decode(content, "RGB")
    assert np.array_equal(decode(content, "RGB", depth="uint16"), eight.astype(np.uint16) * 257)
    assert np.array_equal(decode(content, "RGB", depth="float32"), eight.astype(np.float32) / 255)


def test_12_bits_are_spread_over_16() -> None:
    pgm = b"P5 3 1 65535\n" + np.array([0, 1, 65535], ">u2").tobytes()
    assert decode(pgm, "L", depth="uint16")[0, :, 0].tolist() == [0, 1, 65535]
    ppm = b"P6 # a note\n1 1\n4095\n" + np.array([0, 2048, 4095], ">u2").tobytes()
    assert decode(ppm, "RGB", depth="uint16")[0, 0].tolist() == [0, 32776, 65535]
    with pytest.raises(ImageError, match="truncated"):
        decode(ppm[:-1], "RGB", depth="uint16")


def test_arrays() -> None:
    pixels = deep(5, 6, 3)
    for array in (pixels, np.asfortranarray(pixels), pixels.astype(">u2")):
        assert np.array_equal(decode(npy(array), "RGB", depth="uint16"), pixels)
    assert np.array_equal(decode(npy(pixels[..., 0]), "L", depth="uint16"), pixels[..., :1])
    assert read_header(npy(pixels[..., 0])) == (5, 6, "L", "uint16")
    assert np.array_equal(decode(npy(pixels), "RGB"), np.rint(pixels / 257).astype(np.uint8))
    heat = np.linspace(-40, 900, 30).reshape(5, 6)
    assert np.array_equal(decode(npy(heat), "L", depth="float32")[..., 0], heat.astype(np.float32))
    assert read_header(npy(np.zeros((5, 6, 7), np.float16))) == (5, 6, 7, "float32")
    with pytest.raises(ImageError, match=r"must lie in 0\.\.1, got -40\.\.900"):
        decode(npy(heat), "L")
    with pytest.raises(ImageError, match="must be finite"):
        decode(npy(heat * np.nan), "L", depth="float32")
    with pytest.raises(ImageError, match="5 bands make no RGB image; request 5 channels"):
        decode(npy(deep(3, 3, 5)), "RGB")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (npy(np.zeros((3, 3), np.int32)), "must be uint8, uint16 or floating point, got int32"),
        (npy(np.zeros((3, 3, 3, 3), np.uint8)), r"must be \(H, W\) or \(H, W, C\), got \(3, 3, 3, 3\)"),
        (npy(np.zeros((0, 3), np.uint8)), "must be"),
        (npy(np.zeros((30, 30), np.uint8))[:-1], "truncated"),
        (npy(np.array([[{}]], object)), "must be uint8"),
        (b"\x93NUMPY\x01\x00", "."),
    ],
)
def test_arrays_that_are_no_images(content: bytes, reason: str) -> None:
    for depth in ("uint8", "float32"):
        with pytest.raises(ImageError, match=reason):
            decode(content, "L", depth=depth)


# From pixels to the network's input.
