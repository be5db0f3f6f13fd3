"""Memory of decoding and resizing hostile images, measured in a process of its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnets.arch.preprocessing import Preprocessing
from resnets.data.decode import budget, jpeg_markers
from resnets.data.decode.image import convert_pil, decode, read_file
from resnets.data.decode.tiff import _with_directory
from resnets.data.transform import prepare, resize
from resnets.errors import ImageError

MIB = 2**20

# Prints the peak resident memory that preparing the image in argv[1] adds, in bytes, and its error, if any.
MEASURE = """
import resource, sys
import numpy as np
from PIL import Image
from resnets.arch.preprocessing import Preprocessing
from resnets.data.decode import budget
from resnets.data.decode.budget import reserving
from resnets.data.decode.image import decode
from resnets.data.transform import prepare
from resnets.errors import ImageError

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

preprocessing = Preprocessing(size=(224, 224), dtype=sys.argv[2])
prepare(np.zeros((300, 300, 3), sys.argv[2]), preprocessing)
budget.MAX_BYTES = int(sys.argv[3])
before, error = peak(), ""
try:
    with reserving():
        prepare(decode(sys.argv[1], "RGB", depth=sys.argv[2]), preprocessing)
except ImageError as problem:
    error = str(problem)
print(peak() - before)
print(error)
"""


def measure(path: Path, depth: str = "uint8", limit: int = budget.MAX_BYTES) -> tuple[int, str]:
    """(bytes added, error)."""
    command = [sys.executable, "-c", MEASURE, str(path), depth, str(limit)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    size, error = result.stdout.split("\n")[:2]
    return int(size), error


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss differs")
@pytest.mark.parametrize("size", [(1, 20000), (20000, 1)])
def test_thin_images_take_little_memory(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size, (200, 10, 10)).save(tmp_path / "thin.png")
    added, error = measure(tmp_path / "thin.png")
    assert error == ""
    assert added < 64 * MIB


@pytest.mark.parametrize("filter_", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("shape", [(400, 40), (40, 400), (1, 90), (333, 7)])
def test_the_centre_of_a_thin_image_is_that_of_the_whole(shape: tuple[int, int], filter_: str) -> None:
    rows, columns = np.indices(shape)[..., None] * 0.03 + np.array([0, 0.5, 1])
    pixels = (127 + 60 * np.sin(rows) + 60 * np.sin(columns)).astype(np.uint8)  # neighbours differ by 2 at most
    preprocessing = Preprocessing(size=(48, 32), crop_pct=0.875, interpolation=filter_)  # type: ignore[arg-type]
    found = prepare(pixels, preprocessing)
    ratio = min(shape[0] / preprocessing.resized[0], shape[1] / preprocessing.resized[1])
    whole = resize(pixels, (round(shape[0] / ratio), round(shape[1] / ratio)), preprocessing)
    top, left = (round((whole.shape[axis] - preprocessing.size[axis]) / 2) for axis in (0, 1))
    expected = whole[top : top + 48, left : left + 32]
    difference = np.abs(found.astype(int) - expected)
    assert found.shape == (48, 32, 3)
    assert difference.max() <= 3  # as positions are rounded to float32, "nearest" takes some neighbouring pixels


BOMBS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "webp": ("WEBP", "RGBA", {"lossless": True}),
    "palette": ("PNG", "P", {"transparency": 0}),
    "alpha": ("PNG", "LA", {}),
    "float": ("TIFF", "F", {"compression": "tiff_lzw"}),
}


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss differs")
@pytest.mark.parametrize("kind", BOMBS)
def test_small_files_of_many_pixels_are_refused_before_decoding(kind: str, tmp_path: Path) -> None:
    form, mode, options = BOMBS[kind]
    Image.new(mode, (3000, 3000)).save(tmp_path / "bomb", form, **options)  # 190 MiB or more to decode
    added, error = measure(tmp_path / "bomb", limit=128 * MIB)
    assert "GiB; the limit is" in error
    assert added < 64 * MIB


def test_an_icon_is_judged_by_the_image_within(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MAX_BYTES", 16 * MIB)
    png = io.BytesIO()
    Image.new("RGBA", (1100, 1100)).save(png, "PNG")
    header = b"\0\0\1\0\1\0" + bytes([16, 16, 0, 0, 1, 0, 32, 0]) + len(png.getvalue()).to_bytes(4, "little")
    with pytest.raises(ImageError, match="GiB; the limit is"):
        decode(header + (22).to_bytes(4, "little") + png.getvalue(), "RGB")


@pytest.mark.parametrize("form", ["WEBP", "PNG", "GIF", "JPEG2000", "AVIF", "TIFF", "BMP", "JPEG", "HEIF"])
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss differs")
def test_the_estimate_covers_what_decoding_takes(form: str, tmp_path: Path) -> None:
    mode = "RGBA" if form in ("WEBP", "PNG", "AVIF", "HEIF") else "RGB"
    if form == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    Image.new(mode, (3000, 2000)).save(tmp_path / "image", form)
    with Image.open(tmp_path / "image") as image:
        estimate = budget.pillow_bytes(image)
    added, error = measure(tmp_path / "image")
    assert error == ""
    assert added < 1.1 * estimate + 2**24


def test_images_that_exceed_the_limit_together_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MAX_BYTES", 100)
    running, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal running, most
        with budget.reserving():
            budget.reserve(60)
            budget.reserve(30)  # more for the same image: no wait
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.01)
            with lock:
                running -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (most, running, budget._total) == (1, 0, 0)
    with budget.reserving():
        budget.reserve(60)
        with pytest.raises(ValueError, match="the limit"):
            budget.reserve(41)
    assert budget._total == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        read_file(tmp_path / "x.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        read_file("/dev/zero")


def test_a_file_of_any_size_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(2**40)  # a sparse file
    with pytest.raises(ImageError, match="more than 256 MiB"):
        read_file(tmp_path / "x.png")


def test_too_little_memory_is_an_error_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("resnets.data.decode.image.to_depth", fail)
    image, file = Image.new("L", (4, 4)), io.BytesIO()
    image.save(file, "PNG")
    for call in (decode, convert_pil):
        content: Any = file.getvalue() if call is decode else image
        with pytest.raises(ImageError, match="takes more memory than is free"):
            call(content, "L", depth="float32")


def test_a_file_of_the_kernel_that_has_nothing_to_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Empty(io.RawIOBase):
        def fileno(self) -> int:
            return os.open(tmp_path / "x", os.O_RDONLY | os.O_CREAT)

        def read(self, size: int = -1) -> Any:
            return None  # as from a device opened without waiting

    monkeypatch.setattr("builtins.open", lambda *args, **options: Empty())
    with pytest.raises(ImageError, match="nothing to read"):
        read_file(tmp_path / "x")


@pytest.mark.parametrize("planar", [1, 2])
def test_tiles_larger_than_the_image_count(planar: int) -> None:
    """16 x 16 pixels in a tile of 16384 x 32768."""
    tags: dict[int, list[int]] = {
        256: [16], 257: [16], 258: [8, 8, 8], 259: [1], 262: [2], 277: [3], 284: [planar],
        322: [16384], 323: [32768], 324: [8] * (3 if planar == 2 else 1), 325: [100] * (3 if planar == 2 else 1),
    }  # fmt: skip
    content = _with_directory(b"II*\0" + bytes(2**10), tags)
    for channels in ("RGB", 3):
        with pytest.raises(ImageError, match="GiB; the limit is 2 GiB"):
            decode(content, channels)


def test_jpegs_with_very_many_scans_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A progressive file whose last scan is repeated."""
    for mode in ("L", "CMYK"):  # read by libjpeg and by Pillow
        file = io.BytesIO()
        Image.new(mode, (64, 64), 128 if mode == "L" else (1, 2, 3, 4)).save(file, "JPEG", progressive=True)
        content = file.getvalue()
        assert decode(content, "RGB").shape == (64, 64, 3)
        start = content.rindex(b"\xff\xda")
        scan = content[start:-2]
        repeated = content[:-2] + 40 * scan + content[-2:]
        with monkeypatch.context() as patch:
            patch.setattr(jpeg_markers, "MAX_SCANNED_PIXELS", 2**20)
            with pytest.raises(ImageError, match="scans of 65,536 pixels"):
                decode(repeated, "RGB")
            decode(content, "RGB")
        # Bytes behind the end of the image, as those of a film, are no scans.
        with monkeypatch.context() as patch:
            patch.setattr(jpeg_markers, "MAX_SCANNED_PIXELS", 2**20)
            decode(content + 100 * scan, "RGB")


def test_a_failed_attempt_releases_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """libjpeg refuses the file and Pillow decodes it: their needs are not added up."""
    file = io.BytesIO()
    Image.new("L", (200, 200), 128).save(file, "JPEG", progressive=True)
    monkeypatch.setattr(budget, "MAX_BYTES", 200 * 200 * 20)
    monkeypatch.setattr("resnets.data.decode.jpeg.simplejpeg.decode_jpeg", _warn)
    assert decode(file.getvalue(), "L").shape == (200, 200, 1)


def _warn(*args: object, **options: object) -> None:
    raise ValueError("Corrupt JPEG data: 2 extraneous bytes before marker 0xc2")


def test_an_opened_icon_is_measured_as_its_file_is() -> None:
    file = io.BytesIO()
    Image.new("RGBA", (64, 64), (255, 0, 0, 255)).save(file, "ICO")
    with Image.open(file) as image:
        pixels = convert_pil(image, "RGB")
    assert (pixels == decode(file.getvalue(), "RGB")).all()
