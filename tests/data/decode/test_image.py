"""Decoding: every broken image is one clear error, every odd one shows what a person sees."""

from __future__ import annotations

import io
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from resnets.data.decode import pillow
from resnets.data.decode.image import decode, read_header
from resnets.data.decode.jpeg import read_jpeg_header
from resnets.data.files import walk_images
from resnets.errors import ImageError

BAD = [
    "bmp__b__badwidth.bmp",
    "bmp__b__shortfile.bmp",
    "broken.png",
    "broken_data_stream.png",
    "crash-2020-10-test.tif",
    "decompression_bomb.gif",
    "negative_size.ppm",
    "seek_too_large.tif",
    "truncated_end_chunk.png",
    "truncated_image.png",
    "truncated_jpeg.jpg",
    "unknown_compression_method.png",
    "zero_width.gif",
]


def encode(pixels: Any, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, form, **options)
    return buffer.getvalue()


def smooth(height: int = 48, width: int = 64) -> np.ndarray[Any, Any]:
    """(H, W, 3) gradients, which JPEG keeps well."""
    y, x = np.mgrid[:height, :width]
    return np.stack((x * 255 // width, y * 255 // height, (x + y) * 255 // (height + width)), axis=-1).astype(np.uint8)


@pytest.mark.parametrize("name", BAD)
def test_broken_images_are_errors_that_name_the_file(shared_data: Path, name: str) -> None:
    path = shared_data / "pillow_bad" / name
    for channels in ("RGB", "L"):
        with pytest.raises(ImageError) as caught:
            decode(path, channels)
        assert caught.value.where == str(path)
        assert caught.value.reason
        assert "\n" not in caught.value.reason


def test_the_list_of_broken_images_is_complete(shared_data: Path) -> None:
    assert sorted(path.name for path in (shared_data / "pillow_bad").iterdir()) == sorted(BAD)


def test_odd_images_decode(shared_data: Path) -> None:
    paths = sorted((shared_data / "pillow_odd").iterdir())
    assert len(paths) > 20
    for path in paths:
        colour, grey = decode(path, "RGB"), decode(path, "L")
        assert colour.dtype == grey.dtype == np.uint8
        assert colour.shape == (*grey.shape[:2], 3)
        assert grey.shape[2] == 1
        assert colour.shape[:2] == read_header(path.read_bytes())[:2]


def test_orientation_of_real_files(shared_data: Path) -> None:
    odd = shared_data / "pillow_odd"
    upright = decode(odd / "hopper.jpg", "RGB").astype(int)
    for number in range(2, 9):
        turned = decode(odd / f"hopper_orientation_{number}.jpg", "RGB").astype(int)
        assert np.abs(turned - upright).mean() < 8, number


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("number", range(1, 9))
def test_orientation_is_obeyed_in_every_format(form: str, number: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = number
    options = {"quality": 95} if form != "WEBP" else {"lossless": True}
    content = encode(smooth(), form, exif=exif, **options)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    pixels = decode(content, "RGB")
    assert np.array_equal(pixels, np.asarray(expected))
    assert pixels.shape[:2] == ((64, 48) if number >= 5 else (48, 64))
    assert read_header(content)[:2] == pixels.shape[:2]
    jpeg = read_jpeg_header(content)
    assert (jpeg.upright if jpeg else None) == (pixels.shape[:2] if form == "JPEG" else None)


def test_damaged_exif_does_not_matter() -> None:
    clean = encode(smooth(), "JPEG")
    segment = b"Exif\0\0" + b"II*\0\xff\xff\xff\x7f" + b"\x99" * 40
    content = clean[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + clean[2:]
    assert np.array_equal(decode(content, "RGB"), decode(clean, "RGB"))


def test_a_truncated_jpeg_is_an_error_and_never_filled_up() -> None:
    content = encode(smooth(), "JPEG", quality=90)
    whole = decode(content, "RGB")
    for end in [b"", b"\xff\xd9"]:  # truncated, and truncated but properly ended
        for length in range(1, len(content) - 2):
            try:
                pixels = decode(content[:length] + end, "RGB")
            except ImageError:
                continue
            assert np.array_equal(pixels, whole), length  # the last bits may be padding


def test_a_truncated_progressive_jpeg_is_an_error() -> None:
    content = encode(smooth(), "JPEG", quality=90, progressive=True)
    for length in range(200, len(content) - 2, 50):
        with pytest.raises(ImageError):
            decode(content[:length], "RGB")


def test_pillow_and_simplejpeg_agree() -> None:
    for options in ({}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}):
        content = encode(smooth(), "JPEG", **options)
        image = Image.open(io.BytesIO(content))
        assert np.array_equal(decode(content, "RGB"), np.asarray(image.convert("RGB")))
        assert np.array_equal(decode(content, "L")[:, :, 0], np.asarray(image.convert("L")))


def test_cmyk_is_not_inverted() -> None:
    content = encode(Image.new("RGB", (16, 16), (250, 10, 10)).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decode(content, "RGB").astype(int) - (250, 10, 10)).max() < 8


def test_stray_bytes_in_a_jpeg_are_forgiven() -> None:
    content = encode(smooth(), "JPEG")
    stray = content[:-2] + b"\x00\x01\x02" + content[-2:]
    assert np.array_equal(decode(stray, "RGB"), decode(content, "RGB"))


@pytest.mark.parametrize(("reduce", "size"), [(1, (50, 67)), (2, (25, 34)), (4, (13, 17)), (8, (7, 9))])
def test_reduced_decoding(reduce: int, size: tuple[int, int]) -> None:
    content = encode(smooth(50, 67), "JPEG", quality=95)
    pixels = decode(content, "RGB", reduce=reduce)
    assert pixels.shape[:2] == size
    height, width = 50 // reduce, 67 // reduce  # whole blocks
    blocks = smooth(50, 67)[: height * reduce, : width * reduce].reshape(height, reduce, width, reduce, 3)
    assert np.abs(pixels[:height, :width] - blocks.mean(axis=(1, 3))).max() < 8


def test_16_bits_are_scaled_and_not_clipped() -> None:
    deep = np.array([[0, 128, 129, 257], [32768, 65278, 65407, 65535]], np.uint16)
    expected = np.rint(deep / 257).astype(np.uint8)
    for form in ("PNG", "TIFF"):
        content = encode(deep, form)
        assert np.array_equal(decode(content, "L")[:, :, 0], expected)
        assert np.array_equal(decode(content, "RGB"), np.repeat(expected[:, :, None], 3, axis=2))
        assert read_header(content) == (2, 4, "L", "uint16")
    pgm = b"P5 4 2 65535\n" + deep.astype(">u2").tobytes()
    assert np.array_equal(decode(pgm, "L")[:, :, 0], expected)


def test_floating_point_pixels() -> None:
    content = encode(np.array([[0.0, 0.5, 1.0]], np.float32), "TIFF")
    assert decode(content, "L")[:, :, 0].tolist() == [[0, 128, 255]]
    for values, rule in (
        ([[0.0, 300.0]], r"must lie in 0\.\.1, got 0\.\.300"),
        ([[-0.1, 0.5]], r"must lie in 0\.\.1, got -0\.1"),
        ([[0.0, float("nan")]], "must be finite"),
    ):
        with pytest.raises(ImageError, match=rule):
            decode(encode(np.array(values, np.float32), "TIFF"), "L")


def test_integers_beyond_16_bits_are_an_error() -> None:
    with pytest.raises(ImageError, match=r"must lie in 0\.\.65535"):
        decode(encode(np.array([[0, 70_000]], np.int32), "TIFF"), "L")


def test_transparency_is_laid_over_white() -> None:
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = (0, 128, 255)  # transparent, half, opaque black
    assert decode(encode(pixels, "PNG"), "L")[0, :, 0].tolist() == [255, 127, 0]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    content = encode(palette, "PNG", transparency=0)
    assert decode(content, "RGB")[0].tolist() == [[255, 255, 255], [40, 50, 60]]
    grey = Image.fromarray(np.array([[7, 9]], np.uint8))
    assert decode(encode(grey, "PNG", transparency=7), "L")[0, :, 0].tolist() == [255, 9]


def test_the_first_frame_is_taken() -> None:
    frames = [Image.new("L", (4, 4), shade) for shade in (40, 200)]
    for form in ("GIF", "TIFF", "PNG", "WEBP"):
        options = {"lossless": True} if form == "WEBP" else {}
        content = encode(frames[0], form, save_all=True, append_images=frames[1:], **options)
        assert np.abs(decode(content, "L").astype(int) - 40).max() <= 1, form


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello", "not an image"),
        (b"\xff\xd8\xff", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
    ],
)
def test_other_files_are_no_image(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        decode(content, "RGB", where="x.png")
    assert caught.value.where == "x.png"


def test_a_jpeg_bomb_is_refused_before_it_is_decoded() -> None:
    content = bytearray(encode(smooth(), "JPEG"))
    at = content.index(b"\xff\xc0") + 5  # height and width in the frame header
    content[at : at + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(ImageError, match="bomb"):
        decode(bytes(content), "RGB")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file") as caught:
        decode(tmp_path / "gone.jpg", "RGB")
    assert caught.value.where == str(tmp_path / "gone.jpg")


def test_warnings_are_quiet_in_threads_and_restored_after(shared_data: Path) -> None:
    before = list(warnings.filters)
    paths = [path for path in sorted((shared_data / "pillow_odd").iterdir()) if path.suffix != ".tif"] * 2
    with ThreadPoolExecutor(4) as pool:
        shapes = list(pool.map(lambda path: decode(path, "RGB").shape, paths))
    assert len(shapes) == len(paths)
    assert list(warnings.filters) == before


def heic(pixels: np.ndarray[Any, Any], **options: Any) -> bytes:
    pytest.importorskip("pillow_heif").register_heif_opener()
    return encode(pixels, "HEIF", quality=95, **options)


def test_photographs_of_phones_are_decoded_and_turned() -> None:
    pixels, exif = smooth(), Image.Exif()
    assert np.abs(decode(heic(pixels), "RGB").astype(int) - pixels).mean() < 4
    exif[0x0112] = 6  # the camera was held upright
    turned = decode(heic(pixels, exif=exif.tobytes()), "RGB")
    assert np.abs(turned.astype(int) - np.rot90(pixels, -1)).mean() < 4
    assert read_header(heic(pixels, exif=exif.tobytes()))[:2] == (64, 48)
    content = heic(pixels)
    for damaged in (content[:100], content[: len(content) // 2]):
        with pytest.raises(ImageError):
            decode(damaged, "RGB")


def test_photographs_of_phones_name_the_extra_that_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo.heic").write_bytes(heic(smooth()))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setattr(pillow, "_formats", pillow._formats.__wrapped__)
    with pytest.raises(ImageError, match=r"a HEIC image needs an extra; .* pip install 'resnets\[heic\]'"):
        decode(tmp_path / "photo.heic", "RGB")
    assert walk_images(tmp_path) == ["photo.heic"]  # counted, not passed over
