"""Random resized crops: no more is decoded than they need, and nothing of it can be seen."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment import random_crop as crop
from resnets.data.augment.config import AugmentConfig
from resnets.data.augment.geometric import crop_box, crop_draws
from resnets.data.augment.random_crop import random_resized_crop
from resnets.data.dataset import ImageSet
from resnets.data.decode.image import Pixels
from resnets.data.decode.jpeg import decode_jpeg
from resnets.data.sources.folder import FolderSource
from resnets.errors import ImageError

CROP = AugmentConfig(scale=(0.08, 1.0))
DRAWS = crop_draws(0, 0, np.arange(40))


class OneSource:
    """One image, as bytes or pixels."""

    def __init__(self, content: bytes | Pixels) -> None:
        self.content = content

    def name(self, row: int) -> str:
        return "one"

    def read(self, row: int) -> bytes | Pixels:
        return self.content


def one(content: bytes | Pixels) -> ImageSet:
    return ImageSet(source=OneSource(content), rows=np.zeros(1, np.int64), labels=np.zeros(1, np.int64))


def smooth(height: int, width: int) -> Pixels:
    """A gradient that tells where in it a pixel was, whatever the resolution."""
    y, x = np.mgrid[:height, :width]
    return np.stack((x, y, (x + y) // 2), axis=-1).astype(np.uint8)


def noise(height: int, width: int, channels: int = 3) -> Pixels:
    """Blurred noise: an image with something to see everywhere."""
    small = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, channels), dtype=np.uint8)
    image = Image.fromarray(small[:, :, 0] if channels == 1 else small).resize((width, height))
    return np.asarray(image).reshape(height, width, channels)


def jpeg(pixels: Pixels, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def plain(content: bytes, draws: np.ndarray, size: tuple[int, int], mode: str = "RGB") -> np.ndarray:
    """The complete image decoded, turned, cropped and resized by Pillow."""
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert(mode)
    top, left, height, width = crop_box(upright.height, upright.width, CROP, draws)
    part = upright.crop((left, top, left + width, top + height))
    resized = np.asarray(part.resize(size[::-1], Image.Resampling.BILINEAR))
    return resized.reshape(*size, -1).astype(int)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_crops_of_jpegs_are_those_of_the_whole_image(subsampling: int, progressive: bool, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = jpeg(noise(96, 72), quality=90, subsampling=subsampling, progressive=progressive, exif=exif)
    preprocessing, images = Preprocessing(size=(40, 48)), one(content)  # so large that nothing is decoded smaller
    for draws in DRAWS:
        out = random_resized_crop(images, 0, preprocessing, CROP, draws)
        assert out.shape == (40, 48, 3)
        difference = np.abs(out - plain(content, draws, preprocessing.size))
        assert difference.max() <= 2  # rounded after each direction, in another order where the image lies
        assert difference.mean() < 0.3


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_reduced_decoding_shows_the_same_place(orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def spy(*args: Any, **options: Any) -> Any:
        asked.append((options["reduce"], options["rows"]))
        return decode_jpeg(*args, **options)

    monkeypatch.setattr(crop, "decode_jpeg", spy)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = jpeg(smooth(160, 200), quality=98, subsampling=0, exif=exif)
    preprocessing, images = Preprocessing(size=(16, 16)), one(content)
    upright = (200, 160) if orientation == 6 else (160, 200)
    for index, draws in enumerate(DRAWS):
        out = random_resized_crop(images, 0, preprocessing, CROP, draws)
        top, _, height, width = crop_box(*upright, CROP, draws)
        reduce, rows = asked[-1]
        assert min(height, width) // reduce >= 16 or reduce == 1, index
        if orientation == 1:
            assert top + height < rows <= top + height + 4 * reduce
        # An image of gradients looks alike at any resolution: only a shift would show.
        assert np.abs(out - plain(content, draws, preprocessing.size)).max() <= 4, index
    assert {reduce for reduce, _ in asked} == {2, 4, 8}


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "box", "lanczos"])
@pytest.mark.parametrize("height", [20, 60])  # enlarged and made smaller
def test_filters_are_pillows(interpolation: str, height: int) -> None:
    pixels = noise(height, 80)
    preprocessing = Preprocessing(size=(32, 24), interpolation=interpolation)  # type: ignore[arg-type]
    filters = {kind.name.lower(): kind for kind in Image.Resampling}
    for draws in DRAWS[:10]:
        out = random_resized_crop(one(pixels), 0, preprocessing, CROP, draws)
        top, left, rows, columns = crop_box(height, 80, CROP, draws)
        part = Image.fromarray(pixels).crop((left, top, left + columns, top + rows))
        expected = np.asarray(part.resize((24, 32), filters[interpolation])).astype(int)
        assert np.abs(out - expected).max() <= 2


@pytest.mark.parametrize("channels", ["RGB", "BGR", "L"])
@pytest.mark.parametrize("stored", [1, 3])
@pytest.mark.parametrize("packed", [False, True])
def test_channels_are_the_preprocessing(channels: str, stored: int, packed: bool) -> None:
    pixels = noise(64, 64, stored)
    content = jpeg(pixels, quality=95, subsampling=0)
    count = len(channels)
    preprocessing = Preprocessing(size=(40, 40), channels=channels, mean=(0.5,) * count, std=(0.5,) * count)  # type: ignore[arg-type]
    whole = np.asarray(Image.open(io.BytesIO(content))).reshape(64, 64, stored)
    out = random_resized_crop(one(whole if packed else content), 0, preprocessing, CROP, DRAWS[0])
    expected = plain(content, DRAWS[0], (40, 40), "L" if channels == "L" else "RGB")
    assert out.shape == (40, 40, count)
    assert np.abs(out - (expected[:, :, ::-1] if channels == "BGR" else expected)).max() <= 2


def test_deep_images_keep_their_depth() -> None:
    deep = noise(40, 40).astype(np.uint16) * 257
    preprocessing = Preprocessing(size=(16, 16), dtype="uint16")
    out = random_resized_crop(one(deep), 0, preprocessing, CROP, DRAWS[0])
    top, left, height, width = crop_box(40, 40, CROP, DRAWS[0])
    eight = Image.fromarray((deep // 257).astype(np.uint8)).crop((left, top, left + width, top + height))
    assert out.dtype == np.uint16
    expected = np.asarray(eight.resize((16, 16), Image.Resampling.BILINEAR)).astype(int) * 257
    assert np.abs(out - expected).max() <= 257


@pytest.mark.parametrize("orientation", [1, 6])
def test_pixels_go_where_they_are_wanted_and_may_be_mirrored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    images, preprocessing = one(jpeg(noise(96, 72), exif=exif)), Preprocessing(size=(40, 48))
    batch = np.full((3, 40, 48, 3), 7, np.uint8)
    result = random_resized_crop(images, 0, preprocessing, CROP, DRAWS[0], batch[1])
    alone = random_resized_crop(images, 0, preprocessing, CROP, DRAWS[0])
    assert np.shares_memory(result, batch)
    assert np.array_equal(batch[1], alone)
    assert (batch[[0, 2]] == 7).all()
    mirrored = random_resized_crop(images, 0, preprocessing, CROP, DRAWS[0], hflip=True)
    assert np.array_equal(mirrored, alone[:, ::-1])


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3), (33, 31)])
def test_tiny_images(size: tuple[int, int]) -> None:
    content = jpeg(smooth(*size), quality=95, subsampling=0)
    for target in ((1, 1), (5, 4)):
        for draws in DRAWS[:5]:
            out = random_resized_crop(one(content), 0, Preprocessing(size=target), CROP, draws)
            assert out.shape == (*target, 3)


def test_damage_is_an_error_wherever_a_file_is_cut() -> None:
    content = jpeg(noise(96, 72))
    preprocessing = Preprocessing(size=(40, 48))
    for share in (0.3, 0.6, 0.95):
        images = one(content[: int(len(content) * share)])
        for draws in DRAWS[:8]:
            with pytest.raises(ImageError, match="one"):
                random_resized_crop(images, 0, preprocessing, CROP, draws)


def test_photographs(shared_data: Path) -> None:
    """Against full decoding on real images; those that are decoded smaller differ more, as their detail does."""
    names = sorted(path.name for path in (shared_data / "photos").iterdir())[:16]
    count = np.arange(len(names))
    images = ImageSet(source=FolderSource(shared_data / "photos", names), rows=count, labels=count)
    preprocessing = Preprocessing(size=(64, 64))
    differences: dict[bool, list[float]] = {True: [], False: []}
    for i, draws in enumerate(crop_draws(1, 0, count)):
        content = images.read(i)
        assert isinstance(content, bytes)
        with Image.open(io.BytesIO(content)) as image:
            box = crop_box(image.height, image.width, CROP, draws)
        out = random_resized_crop(images, i, preprocessing, CROP, draws)
        difference = np.abs(out - plain(content, draws, preprocessing.size)).mean()
        differences[min(box[2:]) >= 128].append(float(difference))
    assert max(differences[False], default=0) < 0.1
    assert np.mean(differences[True]) < 3
