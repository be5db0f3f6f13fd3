"""Deep images and bands from the preprocessing to a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resnets.arch.preprocessing import Preprocessing
from resnets.arch.variants import get_config
from resnets.data.augment.config import AugmentConfig
from resnets.data.check import check
from resnets.data.dataset import Dataset, ImageSet
from resnets.data.files import list_images
from resnets.data.loader import make_batches
from resnets.data.open import open_dataset
from resnets.data.sources.digits import ArraySource
from resnets.data.transform import decode_channels, fill_values, normalise, prepare, resize
from resnets.errors import ConfigError, DataError, ImageError
from resnets.evaluate.predict import predict_images
from resnets.nn.model import build_model
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.model_folder import read_bundle, save_bundle
from tests.data.decode.test_bands import deep, encode, npy, tiff

FIVE = Preprocessing(size=(8, 8), crop_pct=1, channels=5, dtype="uint16", mean=(0.5,) * 5, std=(0.25,) * 5)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "box", "lanczos"])
def test_bands_are_resized_one_by_one(interpolation: Any) -> None:
    preprocessing = replace(FIVE, interpolation=interpolation)
    pixels = deep(20, 16, 5)
    small = prepare(pixels, preprocessing)
    assert (small.shape, small.dtype.name) == ((8, 8, 5), "uint16")
    floats = prepare(pixels.astype(np.float32), replace(preprocessing, dtype="float32"))
    assert np.array_equal(small, np.clip(np.rint(floats), 0, 65535))
    for band in range(5):  # 16 bits of an image that 8 bits hold are its 8 bits, but for rounding
        eight = (pixels[..., [band]] >> 8).astype(np.uint8)
        grey = replace(preprocessing, channels="L", dtype="uint8", mean=(0.5,), std=(0.25,))
        fine = resize(eight.astype(np.uint16) * 257, (8, 8), preprocessing)
        assert np.abs(fine / 257 - resize(eight, (8, 8), grey)).max() < 1.01


def test_four_bytes_are_not_weighed_by_the_last() -> None:
    pixels = (deep(16, 16, 4) >> 8).astype(np.uint8)
    preprocessing = Preprocessing(size=(8, 8), crop_pct=1, channels=4, mean=(0,) * 4, std=(1,) * 4)
    small = prepare(pixels, preprocessing)
    for band in range(4):
        alone = Image.fromarray(pixels[..., band]).resize((8, 8), Image.Resampling.BILINEAR)
        assert np.array_equal(small[..., band], np.asarray(alone))


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_deep_images_normalise_by_the_formula(dtype: Any) -> None:
    preprocessing = replace(FIVE, dtype=dtype, value_range=(-1, 1), mean=(0.1, 0.2, 0.3, 0.4, 0.5))
    pixels = np.stack([deep(8, 8, 5, seed) for seed in range(2)])
    full = 65535
    if dtype == "float32":
        pixels, full = (pixels / 65535).astype(np.float32), 1
    value = torch.from_numpy(pixels / full * 2.0 - 1).double()
    expected = ((value - torch.tensor(preprocessing.mean)) / 0.25).permute(0, 3, 1, 2)
    x = normalise(torch.from_numpy(pixels), preprocessing)
    assert (x.dtype, x.is_contiguous(memory_format=torch.channels_last)) == (torch.float32, True)
    torch.testing.assert_close(x.double(), expected, rtol=1e-5, atol=1e-5)
    if dtype == "uint16":
        torch.testing.assert_close(
            normalise(torch.from_numpy(pixels.astype(np.int32)), preprocessing), x, rtol=0, atol=0
        )
    with pytest.raises(DataError, match=f"a batch must be {dtype} with 5 channels"):
        normalise(torch.zeros(2, 8, 8, 5, dtype=torch.uint8), preprocessing)


def test_a_image_of_another_depth_is_refused() -> None:
    with pytest.raises(DataError, match="an image must be uint16; got uint8"):
        prepare(np.zeros((8, 8, 5), np.uint8), FIVE)
    with pytest.raises(DataError, match=r"must be \(H, W, 5\); got \(8, 8, 3\)"):
        prepare(np.zeros((8, 8, 3), np.uint16), FIVE)


def test_colour_and_grayscale_of_deep_images() -> None:
    grey = replace(FIVE, channels="L", mean=(0.5,), std=(0.5,))
    colour = replace(FIVE, channels="BGR", mean=(0.5,) * 3, std=(0.5,) * 3)
    pixels = deep(8, 8)
    luma = prepare(pixels, grey)
    assert luma.dtype == np.uint16
    assert np.abs(luma[..., 0] - pixels @ (0.299, 0.587, 0.114)).max() < 1.5
    assert np.array_equal(prepare(pixels, colour), pixels[..., ::-1])
    assert np.array_equal(prepare(luma, colour), np.repeat(luma, 3, axis=2))


def test_borders_have_the_mean_in_the_preprocessing_depth() -> None:
    preprocessing = replace(FIVE, crop_mode="border")
    assert fill_values(preprocessing) == (32768,) * 5
    assert (prepare(np.zeros((4, 16, 5), np.uint16), preprocessing)[0] == 32768).all()
    assert fill_values(replace(preprocessing, dtype="float32")) == (0.5,) * 5


def test_what_a_preprocessing_asks_for() -> None:
    assert decode_channels(FIVE) == 5
    plain = Preprocessing()
    assert decode_channels(plain) == "RGB"
    assert plain.to_dict()["dtype"] == "uint8"
    assert Preprocessing.from_dict(plain.to_dict()) == plain
    assert Preprocessing.from_dict(FIVE.to_dict()) == FIVE
    assert FIVE.hash != replace(FIVE, dtype="uint8").hash
    for wrong in ({"dtype": "int8"}, {"channels": 0}, {"channels": True}, {"channels": "RGBA"}, {"channels": 4}):
        with pytest.raises(ConfigError):
            replace(FIVE, **wrong)


def test_sets_of_deep_arrays_and_what_their_headers_hint_at(tmp_path: Path) -> None:
    images = ImageSet(
        source=ArraySource("a", np.stack([deep(5, 6, 5)] * 3)), rows=np.arange(3), labels=np.array([0, 1, 0])
    )
    dataset = Dataset(name="x", classes=("a", "b"), splits={"train": images})
    assert (dataset.preprocessing_hint.channels, dataset.preprocessing_hint.dtype) == (5, "uint16")
    assert np.array_equal(images.image(0, 5, "uint16"), deep(5, 6, 5))
    assert check(dataset, workers=1) == []
    with pytest.raises(ImageError, match="a#1: 5 bands make no RGB image"):
        images.image(1, "RGB")
    assert [p.where for p in check(dataset, preprocessing=Preprocessing(), workers=1)] == ["a#0", "a#1", "a#2"]
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(3):
            (tmp_path / label / f"{i}.png").write_bytes(encode(deep(5, 6, 1, i)[..., 0], "PNG"))
    hint = open_dataset(tmp_path, val_fraction=0).preprocessing_hint
    assert (hint.channels, hint.dtype) == ("L", "uint16")
    (tmp_path / "a" / "0.png").write_bytes(encode((deep(5, 6) >> 8).astype(np.uint8), "PNG"))
    hint = open_dataset(tmp_path, val_fraction=0).preprocessing_hint
    assert (hint.channels, hint.dtype) == ("RGB", "uint8")


@pytest.mark.parametrize("config", [AugmentConfig(vflip=True), AugmentConfig(scale=(0.3, 1.0), ratio=(1.0, 1.0))])
def test_16_bit_images_are_flipped_as_floats_are(config: AugmentConfig) -> None:
    deeps = np.stack([deep(8, 8, 5, seed) for seed in range(6)])
    for limit in (0, 2**20):
        pair = []
        for pixels, dtype in ((deeps, "uint16"), (deeps.astype(np.float32), "float32")):
            images = ImageSet(source=ArraySource("a", pixels), rows=np.arange(6), labels=np.arange(6) % 2)
            preprocessing = Preprocessing.from_dict(FIVE.to_dict() | {"dtype": dtype, "interpolation": "nearest"})
            loader = make_batches(images, preprocessing, batch_size=6, augment=config, workers=0, limit_bytes=limit)
            (batch,) = loader.epoch(0)
            scale = 1 if dtype == "uint16" else 65535
            pair.append((batch.x * 0.25 + 0.5) / scale)
        torch.testing.assert_close(pair[0], pair[1], rtol=1e-4, atol=1e-4)


def test_a_network_of_five_bands_from_its_folder_to_its_predictions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_model(get_config("resnet8_cifar", num_classes=2, in_chans=5)).eval()
    preprocessing = replace(FIVE, mean=(0.1, 0.2, 0.3, 0.4, 0.5))
    save_bundle(Bundle(model=model, preprocessing=preprocessing, classes=("dry", "wet")), tmp_path / "model")
    bundle = read_bundle(tmp_path / "model")
    assert bundle.preprocessing == preprocessing
    assert "5 bands of uint16 at 8x8" in (tmp_path / "model" / "README.md").read_text()
    (tmp_path / "field.tif").write_bytes(tiff(deep(8, 8, 5)))
    (tmp_path / "field.npy").write_bytes(npy(deep(8, 8, 5)))
    found = list(predict_images(bundle, list_images(tmp_path)))
    pixels = torch.from_numpy(deep(8, 8, 5).astype(np.float32)) / 65535
    x = ((pixels - torch.tensor(preprocessing.mean)) / 0.25).permute(2, 0, 1)[None]
    with torch.inference_mode():
        expected = dict(zip(("dry", "wet"), model(x).softmax(1)[0].tolist(), strict=True))
    assert [Path(prediction.path).name for prediction in found] == ["field.npy", "field.tif"]
    for prediction in found:
        assert dict(prediction.top) == pytest.approx(expected, abs=1e-5)
