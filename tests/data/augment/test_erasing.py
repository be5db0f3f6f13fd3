"""Random erasing, held against its rule worked by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnets.data.augment.config import AugmentConfig
from resnets.data.augment.erasing import erasing_boxes, erasing_draws, random_erasing
from resnets.data.random import SampleKeys
from resnets.errors import ConfigError

Pixels = np.ndarray[Any, Any]


def make_images(dtype: str = "uint8", channels: int = 3) -> Pixels:
    """(6, 20, 15, C) without the values that they are filled with below."""
    values = np.random.default_rng(0).integers(100, 200, (6, 20, 15, channels))
    return (values / 255).astype(dtype) if dtype.startswith("float") else values.astype(dtype)


def run(images: Pixels, config: AugmentConfig, fill: tuple[float, ...] = (1, 2, 3), **key: Any) -> Pixels:
    keys: dict[str, Any] = {"seed": 0, "epoch": 0, "indices": np.arange(len(images))}
    return random_erasing(images, config, SampleKeys(**keys | key), fill)


@pytest.mark.parametrize(("dtype", "fill"), [("uint8", (1, 2, 3)), ("uint16", (1, 2, 3)), ("float32", (0.1, 0.2, 0.3))])
@pytest.mark.parametrize("how", ["mean", "black"])
def test_boxes_are_painted_and_the_rest_stays(dtype: str, fill: tuple[float, ...], how: Any) -> None:
    images, config = make_images(dtype), AugmentConfig(random_erasing=0.7, erasing_fill=how, erasing_count=2)
    result = run(images, config, fill)
    expected = images.copy()
    for row, draws in enumerate(erasing_draws(config, 0, 0, np.arange(6))):
        for top, left, height, width in erasing_boxes(config, draws, (20, 15)):
            expected[row, top : top + height, left : left + width] = fill if how == "mean" else 0
    assert result.dtype == images.dtype
    assert np.array_equal(result, expected)
    assert not np.array_equal(result, images)
    assert np.array_equal(images, make_images(dtype))


def test_the_rule_by_hand() -> None:
    config = AugmentConfig(random_erasing=0.5, erasing_scale=(0.1, 0.3), erasing_ratio=(0.25, 4.0), erasing_count=2)
    draws = np.full(erasing_draws(config, 0, 0, 0).shape[1], 0.5)
    assert erasing_boxes(config, draws, (20, 20)) == []  # 0.5 is not below 0.5
    draws[0], draws[1] = 0.49, 0.2  # one box; of 0.2 x 400 = 80 pixels, ratio 1
    assert erasing_boxes(config, draws, (20, 20)) == [(6, 6, 9, 9)]
    draws[1], draws[4], draws[28] = 0.6, 0.0, 1 - 1e-9  # two, of 0.1 and 0.3 x 200 pixels
    assert erasing_boxes(config, draws, (20, 20)) == [(8, 8, 4, 4), (6, 6, 8, 8)]
    draws[1], draws[5] = 0.2, 0.0  # 40 pixels at ratio 1/4: 3 high and 13 wide
    draws[24], draws[25] = 0.0, 1 - 1e-9
    assert erasing_boxes(config, draws, (20, 20)) == [(0, 7, 3, 13)]
    assert erasing_boxes(config, draws, (40, 10)) == [(0, 1, 9, 9)]  # the first attempt is too wide; the second fits
    assert erasing_boxes(config, draws, (1, 400)) == []  # none of ten fits


@settings(max_examples=100, deadline=None)
@given(height=st.integers(1, 80), width=st.integers(1, 80), index=st.integers(0, 10_000), count=st.integers(1, 4))
def test_boxes_lie_in_the_image(height: int, width: int, index: int, count: int) -> None:
    config = AugmentConfig(random_erasing=1.0, erasing_count=count)
    boxes = erasing_boxes(config, erasing_draws(config, 0, 0, index)[0], (height, width))
    assert len(boxes) <= count
    for top, left, h, w in boxes:
        assert 0 <= top <= top + h <= height
        assert 0 <= left <= left + w <= width


def test_areas_ratios_and_how_often() -> None:
    config = AugmentConfig(random_erasing=0.3, erasing_scale=(0.1, 0.2), erasing_ratio=(0.5, 2.0))
    found = [erasing_boxes(config, draws, (300, 400)) for draws in erasing_draws(config, 0, 0, np.arange(3000))]
    assert np.mean([len(boxes) for boxes in found]) == pytest.approx(0.3, abs=0.03)
    boxes = np.array([boxes[0] for boxes in found if boxes])
    share, ratio = boxes[:, 2] * boxes[:, 3] / 120_000, boxes[:, 2] / boxes[:, 3]
    assert 0.099 < share.min() < 0.103
    assert 0.197 < share.max() < 0.201
    assert share.mean() == pytest.approx(0.15, abs=0.004)
    assert 0.49 < ratio.min() < 0.52
    assert 1.94 < ratio.max() < 2.02
    assert abs(np.log(ratio).mean()) < 0.05


@pytest.mark.parametrize(("dtype", "full"), [("uint8", 255), ("uint16", 65535), ("float32", 1.0)])
def test_noise_is_normal_around_the_mean(dtype: str, full: float) -> None:
    images = np.zeros((4, 60, 60, 2), dtype)
    config = AugmentConfig(random_erasing=1.0, erasing_scale=(0.3, 0.3), erasing_fill="noise")
    result = run(images, config, (round(0.5 * full), round(0.5 * full)) if full > 1 else (0.5, 0.5))
    boxes = [erasing_boxes(config, draws, (60, 60))[0] for draws in erasing_draws(config, 0, 0, np.arange(4))]
    holes = [result[i, top : top + h, left : left + w] for i, (top, left, h, w) in enumerate(boxes)]
    values = np.concatenate([hole.reshape(-1, 2) for hole in holes]) / full
    assert values.mean(0) == pytest.approx(0.5, abs=0.02)
    inside = [(abs(values - 0.5) < 0.25 * z).mean() for z in (0.5, 1.0, 1.5)]
    assert inside == pytest.approx([math.erf(z / math.sqrt(2)) for z in (0.5, 1.0, 1.5)], abs=0.02)
    assert abs(np.asarray(np.corrcoef(values, rowvar=False))[0, 1]) < 0.05
    assert result.dtype == dtype


def test_boxes_of_one_image_have_noise_of_their_own() -> None:
    config = AugmentConfig(random_erasing=1.0, erasing_scale=(0.05, 0.05), erasing_fill="noise", erasing_count=2)
    key = next(i for i, d in enumerate(erasing_draws(config, 0, 0, np.arange(99))) if d[1] > 0.5)
    result = run(np.zeros((1, 64, 64, 1), "float32"), config, (0.0,), indices=[key])[0]
    first, second = erasing_boxes(config, erasing_draws(config, 0, 0, key)[0], (64, 64))
    starts = [result[top, left : left + 5] for top, left, _, _ in (first, second)]
    assert not (starts[0] == starts[1]).any()


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_number_of_channels(channels: int) -> None:
    result = run(make_images(channels=channels), AugmentConfig(random_erasing=1.0), tuple(range(channels)))
    assert ((result == np.arange(channels)).all(-1).sum((1, 2)) > 0).all()


def test_views_have_noise_of_their_own() -> None:
    config = AugmentConfig(random_erasing=1.0, erasing_scale=(0.1, 0.1), erasing_fill="noise")
    result = run(np.zeros((2, 64, 64, 1), "float32"), config, (0.0,), indices=[3, 3], views=[0, 1])
    corners = [erasing_boxes(config, draws, (64, 64))[0] for draws in erasing_draws(config, 0, 0, [3, 3], [0, 1])]
    starts = [result[i, top, left : left + 5] for i, (top, left, _, _) in enumerate(corners)]
    assert not (starts[0] == starts[1]).any()


@pytest.mark.parametrize("how", ["mean", "noise"])
def test_a_view_of_its_own(how: Any) -> None:
    images, config = np.repeat(make_images()[:1], 4, axis=0), AugmentConfig(random_erasing=1.0, erasing_fill=how)
    result = run(images, config, indices=[5, 5, 5, 6], views=[0, 1, 0, 0])
    assert np.array_equal(result[0], result[2])
    assert not np.array_equal(result[0], result[1])
    assert not np.array_equal(result[0], result[3])


def test_other_types_are_an_error() -> None:
    with pytest.raises(ConfigError, match="erasing needs uint8, uint16 or float"):
        run(make_images("int64"), AugmentConfig(random_erasing=1.0))
