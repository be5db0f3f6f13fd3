"""Running the preprocessing: sizes and rounding as timm's and torchvision's, arithmetic as on paper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resnets.arch.preprocessing import Preprocessing
from resnets.data.transform import fill_values, normalise, prepare
from resnets.errors import DataError

PLAIN = Preprocessing(size=(8, 8), crop_pct=1)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_center_is_torchvisions_resize_and_crop() -> None:
    preprocessing = Preprocessing(size=(224, 224), crop_pct=0.875, interpolation="bilinear")
    image = noise(375, 500)
    # Resize(256), CenterCrop(224): 256 x int(256 * 500 / 375) = 341, then from row 16 and column 58 (58.5 to even)
    resized = Image.fromarray(image).resize((341, 256), Image.Resampling.BILINEAR)
    assert np.array_equal(prepare(image, preprocessing), np.asarray(resized)[16:240, 58:282])


def test_center_of_an_upright_image() -> None:
    preprocessing = Preprocessing(size=(10, 10), crop_pct=1)
    resized = Image.fromarray(noise(50, 20)).resize((10, 25), Image.Resampling.BILINEAR)
    assert np.array_equal(prepare(noise(50, 20), preprocessing), np.asarray(resized)[8:18])  # 7.5 to even is 8


def test_center_for_a_size_that_is_not_square_is_timms_keep_ratio() -> None:
    preprocessing = Preprocessing(size=(256, 128), crop_pct=1, interpolation="bicubic")
    image = noise(100, 60)  # ratios 100 / 256 and 60 / 128: the lesser, 0.390625, makes 256 x 153.6
    resized = Image.fromarray(image).resize((154, 256), Image.Resampling.BICUBIC)
    assert np.array_equal(prepare(image, preprocessing), np.asarray(resized)[:, 13:141])


def test_squash() -> None:
    preprocessing = Preprocessing(size=(16, 8), crop_mode="squash", crop_pct=1, interpolation="box")
    resized = Image.fromarray(noise(40, 40)).resize((8, 16), Image.Resampling.BOX)
    assert np.array_equal(prepare(noise(40, 40), preprocessing), np.asarray(resized))


def test_border_pads_with_the_mean_colour() -> None:
    preprocessing = Preprocessing(size=(8, 8), crop_mode="border", crop_pct=1)
    out = prepare(noise(4, 16), preprocessing)  # fits as 2 x 8
    assert (out[:3] == (124, 116, 104)).all()
    assert (out[5:] == (124, 116, 104)).all()
    resized = Image.fromarray(noise(4, 16)).resize((8, 2), Image.Resampling.BILINEAR)
    assert np.array_equal(out[3:5], np.asarray(resized))
    assert (
        prepare(noise(4, 16), replace(preprocessing, channels="BGR", mean=preprocessing.mean[::-1]))[0]
        == (104, 116, 124)
    ).all()


def test_fill_follows_the_value_range() -> None:
    assert fill_values(replace(PLAIN, value_range=(-1, 1), mean=(0, -1, 1))) == (128, 0, 255)
    assert fill_values(replace(PLAIN, value_range=(0, 255), mean=(3, 4, 300))) == (3, 4, 255)


def test_nothing_to_do_gives_the_same_array() -> None:
    image = noise(8, 8)
    assert prepare(image, PLAIN) is image


def test_channels() -> None:
    colour, grey = noise(8, 8), noise(8, 8, 1)
    assert np.array_equal(prepare(colour, replace(PLAIN, channels="BGR")), colour[:, :, ::-1])
    assert np.array_equal(prepare(grey, PLAIN), np.repeat(grey, 3, axis=2))
    luma = prepare(colour, replace(PLAIN, channels="L", mean=(0.5,), std=(0.5,)))
    assert luma.shape == (8, 8, 1)
    assert np.abs(luma[:, :, 0] - colour @ (0.299, 0.587, 0.114)).max() < 1
    with pytest.raises(DataError, match="an image must be"):
        prepare(noise(8, 8, 2), PLAIN)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    mode=st.sampled_from(["center", "squash", "border"]),
    share=st.sampled_from([0.5, 0.875, 0.9, 1.0]),
    square=st.booleans(),
)
def test_whatever_comes_the_size_is_the_preprocessing(
    height: int, width: int, size: tuple[int, int], mode: Any, share: float, square: bool
) -> None:
    size = (size[0], size[0]) if square else size
    preprocessing = Preprocessing(size=size, crop_mode=mode, crop_pct=share)
    out = prepare(np.full((height, width, 3), 9, np.uint8), preprocessing)
    assert out.shape == (*size, 3)
    if mode != "border":
        assert (out == 9).all()


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)])
def test_normalise_is_the_formula(value_range: tuple[float, float]) -> None:
    preprocessing = replace(PLAIN, value_range=value_range)
    batch = torch.from_numpy(np.stack([noise(8, 8), 255 - noise(8, 8)]))
    x = normalise(batch, preprocessing)
    low, high = value_range
    value = batch.double().permute(0, 3, 1, 2) / 255 * (high - low) + low
    expected = (value - torch.tensor(preprocessing.mean).view(1, 3, 1, 1)) / torch.tensor(preprocessing.std).view(
        1, 3, 1, 1
    )
    assert x.shape == (2, 3, 8, 8)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x.double(), expected, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(normalise(batch.permute(0, 3, 1, 2).contiguous(), preprocessing), x, rtol=0, atol=0)
    half = normalise(batch, preprocessing, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, x.bfloat16(), rtol=0, atol=0)


def test_normalise_does_not_modify_its_input_and_checks_it() -> None:
    batch = torch.from_numpy(noise(8, 8)[None])
    kept = batch.clone()
    normalise(batch, PLAIN)
    assert torch.equal(batch, kept)
    with pytest.raises(DataError, match="a batch must be uint8 with 3 channels"):
        normalise(batch.float(), PLAIN)
    with pytest.raises(DataError, match="a batch must be uint8 with 3 channels"):
        normalise(batch[..., :1], PLAIN)
