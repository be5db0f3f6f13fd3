"""Augmentation, held against plain slicing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resnets.data.augment.config import AugmentConfig
from resnets.data.augment.geometric import PixelTable, augment_draws, augment_geometric, crop_box, crop_draws
from resnets.errors import ConfigError

FILL = (1, 2, 3)
CONFIGS = [
    AugmentConfig(),
    AugmentConfig(hflip=False),
    AugmentConfig(pad=4),
    AugmentConfig(pad=3, pad_mode="reflect", cutout=5),
    AugmentConfig(pad=2, pad_mode="mean", hflip=False),
    AugmentConfig(cutout=4),
    AugmentConfig(vflip=True),
    AugmentConfig(vflip=True, hflip=False, pad=2, pad_mode="reflect"),
]


def table() -> PixelTable:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 9, 7, 3), dtype=np.uint8))
    return PixelTable.of(images, FILL)


def by_hand(image: np.ndarray[Any, Any], config: AugmentConfig, draw: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same with numpy's pad and slices, one image at a time."""
    height, width, _ = image.shape
    pad = config.pad
    if config.pad_mode == "reflect":
        padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    else:
        padded = np.empty((height + 2 * pad, width + 2 * pad, 3), np.uint8)
        padded[:] = FILL if config.pad_mode == "mean" else 0
        padded[pad : pad + height, pad : pad + width] = image
    top, left = int(draw[0] * (2 * pad + 1)), int(draw[1] * (2 * pad + 1))
    out = padded[top : top + height, left : left + width].copy()
    if config.hflip and draw[2] < 0.5:
        out = out[:, ::-1].copy()
    if config.vflip and draw[3] < 0.5:
        out = out[::-1].copy()
    if config.cutout:
        y, x = int(draw[4] * height) - config.cutout // 2, int(draw[5] * width) - config.cutout // 2
        out[max(0, y) : max(0, y + config.cutout), max(0, x) : max(0, x + config.cutout)] = FILL
    return out


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_batch_is_what_slicing_gives(config: AugmentConfig) -> None:
    images, index = table(), np.array([3, 19, 0, 3, 7, 11, 12])
    draws = augment_draws(5, 2, index)
    batch = augment_geometric(images, torch.from_numpy(index), config, draws).numpy()
    for row, i in enumerate(index):
        assert np.array_equal(batch[row], by_hand(images.images[i].numpy(), config, draws[row]))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 500),
    index=st.lists(st.integers(0, 19), min_size=1, max_size=12),
    config=st.sampled_from(CONFIGS),
)
def test_a_batch_equals_its_single_images(seed: int, epoch: int, index: list[int], config: AugmentConfig) -> None:
    images = table()
    batch = augment_geometric(images, torch.tensor(index), config, augment_draws(seed, epoch, index))
    for row, i in enumerate(index):
        alone = augment_geometric(images, torch.tensor([i]), config, augment_draws(seed, epoch, [i]))
        assert torch.equal(alone[0], batch[row])


def test_flips_come_half_of_the_time_and_every_shift_comes() -> None:
    draws = augment_draws(0, 0, np.arange(2000))
    assert (abs((draws[:, 2:4] < 0.5).mean(0) - 0.5) < 0.05).all()
    assert set(np.floor(draws[:, 0] * 9)) == set(range(9))


def test_views_of_a_sample_have_draws_of_their_own() -> None:
    for draws in (augment_draws, crop_draws):
        several = draws(3, 1, [5, 5, 6], np.array([0, 2, 2]))
        assert np.array_equal(several[0], draws(3, 1, [5])[0])
        assert np.array_equal(several[1], draws(3, 1, [5], view=2)[0])
        assert not (several[0] == several[1]).any()


def test_the_table_is_not_modified() -> None:
    images = table()
    before = images.pixels.clone()
    augment_geometric(images, torch.arange(5), AugmentConfig(pad=4, cutout=6), augment_draws(0, 0, np.arange(5)))
    augment_geometric(images, torch.arange(5), AugmentConfig(), augment_draws(0, 0, np.arange(5)))
    assert torch.equal(images.pixels, before)
    assert images.to("cpu") is images


@pytest.mark.parametrize(
    "options",
    [
        {"pad": -1},
        {"cutout": -2},
        {"pad_mode": "edge"},
        {"scale": (0.0, 1.0)},
        {"scale": (0.5, 0.2)},
        {"ratio": (2.0, 1.0)},
        {"policy": "randaugmnt"},
        {"policy_set": "svhn"},
        {"policy_filter": "box"},
        {"policy_ops": 0},
        {"policy_magnitude": 10.5},
        {"policy_std": -1},
        {"policy_prob": 1.1},
        {"color_jitter": (0.4, 0.4, 0.4)},
        {"color_jitter": (0.4, -0.4, 0.4, 0)},
        {"color_jitter": (0.4, 0.4, 0.4, 0.6)},
        {"grayscale": -0.1},
        {"random_erasing": 2},
        {"erasing_scale": (0.0, 0.5)},
        {"erasing_ratio": (0.0, 0.5)},
        {"erasing_fill": "pixel"},
        {"erasing_count": 0},
    ],
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(options))} ") as error:
        AugmentConfig(**options)
    assert "\n" not in str(error.value)
    if options == {"policy": "randaugmnt"}:
        assert "did you mean randaugment?" in str(error.value)


@settings(max_examples=200, deadline=None)
@given(height=st.integers(1, 600), width=st.integers(1, 600), index=st.integers(0, 10_000))
def test_crop_boxes_lie_in_the_image(height: int, width: int, index: int) -> None:
    config = AugmentConfig(scale=(0.08, 1.0))
    top, left, h, w = crop_box(height, width, config, crop_draws(0, 0, [index])[0])
    assert 0 <= top <= top + h <= height
    assert 0 <= left <= left + w <= width
    assert min(h, w) >= 1


def test_crop_boxes_have_the_areas_and_ratios_asked_for() -> None:
    config = AugmentConfig(scale=(0.25, 0.5))
    boxes = [crop_box(400, 500, config, draw) for draw in crop_draws(0, 0, np.arange(500))]
    share = np.array([h * w / 200_000 for _, _, h, w in boxes])
    ratio = np.array([w / h for _, _, h, w in boxes])
    assert 0.245 < share.min() < 0.27
    assert 0.48 < share.max() < 0.505
    assert 0.74 < ratio.min() < 0.77
    assert 1.3 < ratio.max() < 1.35


def test_a_image_too_long_for_the_ratio_gives_its_centre() -> None:
    draws = crop_draws(0, 0, [0])[0]
    assert crop_box(10, 1000, AugmentConfig(scale=(1.0, 1.0)), draws) == (0, 493, 10, 13)
    assert crop_box(1000, 10, AugmentConfig(scale=(1.0, 1.0)), draws) == (493, 0, 13, 10)
