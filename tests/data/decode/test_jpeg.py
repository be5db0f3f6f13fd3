"""JPEG by libjpeg-turbo: markers, the upper rows, and what damage does."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnets.data.decode.jpeg import decode_jpeg, read_jpeg_header
from resnets.data.decode.jpeg_markers import read_frame
from resnets.errors import ImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)


def jpeg(mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def rows_of(content: bytes, rows: int | None, reduce: int = 1) -> np.ndarray:
    header = read_jpeg_header(content)
    assert header is not None
    pixels = decode_jpeg(content, header, grayscale=True, where="it", reduce=reduce, rows=rows)
    assert pixels is not None
    return pixels


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("reduce", [1, 2, 4, 8])
@pytest.mark.parametrize("rows", [32, 47, 48, 64, 89, 90])
def test_upper_rows_are_those_of_the_whole(subsampling: int, reduce: int, rows: int) -> None:
    content = jpeg(subsampling=subsampling)
    whole, part = rows_of(content, None, reduce), rows_of(content, rows, reduce)
    assert len(part) == -(-rows // reduce)
    # The last rows' colours are interpolated from rows that are not there.
    kept = len(part) if subsampling < 2 or rows == 90 else len(part) - 1
    assert np.array_equal(part[:kept], whole[:kept])


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"restart_marker_blocks": 3}, {"restart_marker_rows": 1}], ids=str
)
def test_other_kinds_are_decoded_whole(options: dict[str, Any]) -> None:
    content = jpeg(**options)
    frame = read_frame(content)
    assert frame is not None
    assert not frame.may_stop
    assert rows_of(content, 40).shape == (90, 70, 3)


def test_grayscale_stays_grayscale() -> None:
    assert rows_of(jpeg("L"), 40).shape == (40, 70, 1)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_frame(mode: str) -> None:
    content = jpeg(mode, comment=b"x" * 300)
    frame = read_frame(content)
    assert frame is not None
    assert frame.may_stop
    assert content[frame.height_at : frame.height_at + 2] == (90).to_bytes(2, "big")
    assert content[frame.scan_at : frame.scan_at + 2] == b"\xff\xda"


def test_padding_between_markers_is_passed_over() -> None:
    content = jpeg()
    frame, padded = read_frame(content), read_frame(content[:2] + b"\xff\xff" + content[2:])
    assert frame is not None
    assert padded is not None
    assert padded.scan_at == frame.scan_at + 2


def test_a_file_without_its_end_may_not_stop_early() -> None:
    content = jpeg()
    for cut in (content[:-2], content[:-200]):
        frame = read_frame(cut)
        assert frame is not None
        assert not frame.may_stop


@pytest.mark.parametrize("length", range(0, 640, 7))
def test_truncated_headers_have_no_frame(length: int) -> None:
    content = jpeg()
    scan = read_frame(content)
    assert scan is not None
    frame = read_frame(content[: min(length, scan.scan_at)])
    assert frame is None


def test_damage_in_the_rows_that_are_wanted_is_an_error() -> None:
    content = bytearray(jpeg())
    frame = read_frame(bytes(content))
    assert frame is not None
    start = frame.scan_at + 400
    content[start : start + 60] = b"\xff\xd9" + b"\0" * 58  # an end marker in the middle of the data
    with pytest.raises(ImageError, match="premature end"):
        rows_of(bytes(content), 80)


def test_other_files_are_no_jpeg() -> None:
    assert read_jpeg_header(b"\x89PNG") is None
    assert read_jpeg_header(b"\xff\xd8\xff") is None
    assert read_frame(b"") is None
    assert read_jpeg_header(jpeg("CMYK")) is None
