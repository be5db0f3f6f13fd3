"""What is done to the pixels of an image: the order, the keys, and that options leave each other alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resnets.arch.preprocessing import ChannelOrder, Preprocessing
from resnets.data.augment.auto import OPERATIONS, apply_steps, choose_steps, parse_policy, policy_draws
from resnets.data.augment.config import AugmentConfig
from resnets.data.augment.erasing import random_erasing
from resnets.data.augment.photometric import augment_photometric, jitter_draws, jitter_steps
from resnets.data.random import SampleKeys
from resnets.errors import ConfigError

Pixels = np.ndarray[Any, Any]
FILL = (120, 110, 100)
JITTER = (0.4, 0.3, 0.5, 0.1)
ALL = AugmentConfig(
    color_jitter=JITTER,
    grayscale=0.3,
    random_erasing=0.5,
    erasing_fill="noise",
    erasing_count=2,
    **parse_policy("rand-m9-p1-mstd0.5-inc1"),
)
CONFIGS = [
    ALL,
    AugmentConfig(**parse_policy("ta_wide")),
    AugmentConfig(**parse_policy("imagenet")),
    AugmentConfig(color_jitter=JITTER),
    AugmentConfig(grayscale=0.5, random_erasing=0.5),
]


def make_images(count: int = 12, channels: int = 3) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (count, 11, 13, channels), dtype=np.uint8)


def filled_with(fill: tuple[int, ...], channels: ChannelOrder | None = None) -> Preprocessing:
    """A preprocessing whose mean colour is `fill`."""
    order = channels or ("RGB" if len(fill) == 3 else "L" if len(fill) == 1 else len(fill))
    mean = tuple(value / 255 for value in fill)
    return Preprocessing(channels=order, mean=mean, std=(1.0,) * len(fill))


def run(images: Pixels, config: AugmentConfig, indices: Any, views: Any = 0, seed: int = 0, epoch: int = 0) -> Pixels:
    preprocessing = filled_with(FILL[: images.shape[3]])
    return augment_photometric(images, config, preprocessing, SampleKeys(seed, epoch, np.array(indices), views))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 500),
    samples=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 3)), min_size=1, max_size=8),
    cut=st.integers(0, 8),
    order=st.randoms(use_true_random=False),
    config=st.sampled_from(CONFIGS),
    channels=st.sampled_from([1, 3]),
)
def test_images_are_augmented_alike_in_any_batch_and_order(
    seed: int, epoch: int, samples: list[tuple[int, int]], cut: int, order: Any, config: AugmentConfig, channels: int
) -> None:
    table = make_images(channels=channels)

    def made(chosen: list[tuple[int, int]]) -> Pixels:
        indices, views = np.array(chosen, np.int64).reshape(-1, 2).T
        return run(table[indices], config, indices, views, seed, epoch)

    together = made(samples)
    for row, sample in enumerate(samples):
        assert np.array_equal(made([sample])[0], together[row])
    assert np.array_equal(np.concatenate((made(samples[:cut]), made(samples[cut:]))), together)
    shuffled = list(range(len(samples)))
    order.shuffle(shuffled)
    assert np.array_equal(made([samples[i] for i in shuffled]), together[shuffled])


@pytest.mark.parametrize("channels", [1, 3])
def test_the_order_is_policy_jitter_grayscale_erasing(channels: int) -> None:
    images, fill = make_images(channels=channels), FILL[:channels]
    index = np.arange(12)
    policy, jitter = policy_draws(ALL, 4, 2, index), jitter_draws(4, 2, index)
    expected = np.empty_like(images)
    for row in range(12):
        pil = Image.fromarray(images[row] if channels == 3 else images[row, :, :, 0])
        pil = apply_steps(pil, choose_steps(ALL, policy[row], (11, 13)), ALL, fill)
        for name, amount in jitter_steps(ALL, jitter[row]):
            pil = OPERATIONS[name](pil, amount, fill, Image.Resampling.NEAREST)
        expected[row] = np.asarray(pil).reshape(11, 13, channels)
    expected = random_erasing(expected, ALL, SampleKeys(4, 2, index), fill)
    before = images.copy()
    assert np.array_equal(run(images, ALL, index, seed=4, epoch=2), expected)
    assert np.array_equal(images, before)


def test_options_do_not_disturb_each_other() -> None:
    images, index = make_images(), np.arange(12)
    jittered = AugmentConfig(color_jitter=JITTER)
    also_erased = replace(jittered, random_erasing=0.5)
    whole = run(images, jittered, index)
    assert np.array_equal(
        run(images, also_erased, index), random_erasing(whole, also_erased, SampleKeys(0, 0, index), FILL)
    )
    draws = jitter_draws(0, 0, index)
    for row in draws:
        kinds = dict(jitter_steps(jittered, row))
        assert dict(jitter_steps(replace(jittered, color_jitter=(0.4, 0, 0, 0)), row)) == {
            "brightness": kinds["brightness"]
        }
        assert jitter_steps(replace(jittered, grayscale=1.0), row)[:4] == jitter_steps(jittered, row)
    rand = AugmentConfig(policy="randaugment", policy_ops=2)
    longer = policy_draws(replace(rand, policy_ops=3), 0, 0, index)
    assert np.array_equal(longer[:, :8], policy_draws(rand, 0, 0, index))


@pytest.mark.parametrize("config", [*CONFIGS, AugmentConfig(grayscale=0.5), AugmentConfig(random_erasing=0.5)])
def test_every_part_of_the_key_matters(config: AugmentConfig) -> None:
    images, index = np.repeat(make_images(1), 20, axis=0), np.arange(20)
    base = run(images, config, index)
    assert np.array_equal(run(images, config, index), base)
    for other in (
        run(images, config, index + 20),
        run(images, config, index, views=1),
        run(images, config, index, seed=1),
        run(images, config, index, epoch=1),
    ):
        assert not np.array_equal(other, base)


def test_jitter_stays_in_its_ranges_and_comes_in_every_order() -> None:
    config = AugmentConfig(color_jitter=(0.4, 1.5, 0.2, 0.1))
    made = [jitter_steps(config, draws) for draws in jitter_draws(0, 0, np.arange(3000))]
    assert len({tuple(name for name, _ in steps) for steps in made}) == 24
    ranges = {"brightness": (0.6, 1.4), "contrast": (0.0, 2.5), "color": (0.8, 1.2), "hue": (-0.1, 0.1)}
    for name, (low, high) in ranges.items():
        amounts = np.array([dict(steps)[name] for steps in made])
        assert low <= amounts.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < amounts.max() <= high
        assert amounts.mean() == pytest.approx((low + high) / 2, abs=0.03 * (high - low))


def test_grayscale_has_its_probability_and_no_colour() -> None:
    result = run(np.repeat(make_images(1), 500, axis=0), AugmentConfig(grayscale=0.2), np.arange(500))
    colourless = (result == result[..., :1]).all((1, 2, 3))
    assert colourless.mean() == pytest.approx(0.2, abs=0.05)
    assert np.array_equal(result[~colourless][0], make_images(1)[0])


def test_grayscale_is_independent_of_the_order_of_the_jitter() -> None:
    config = AugmentConfig(color_jitter=JITTER, grayscale=0.5)
    made = [jitter_steps(config, draws) for draws in jitter_draws(0, 0, np.arange(2000))]
    for first in ("brightness", "contrast", "color", "hue"):
        greys = [len(steps) == 5 for steps in made if steps[0][0] == first]
        assert np.mean(greys) == pytest.approx(0.5, abs=0.1)


def test_with_nothing_to_do_the_images_come_back() -> None:
    images = make_images(channels=7)
    config = AugmentConfig(pad=2, cutout=3, scale=(0.1, 1.0), vflip=True)
    assert not config.photometric
    assert augment_photometric(images, config, filled_with((0,) * 7), SampleKeys(0, 0, np.arange(12))) is images
    assert all(
        config.photometric for config in (*CONFIGS, AugmentConfig(random_erasing=0.1), AugmentConfig(grayscale=0.1))
    )
    assert run(make_images(0), ALL, np.empty(0, np.int64)).shape == (0, 11, 13, 3)


@pytest.mark.parametrize(
    "config", [AugmentConfig(policy="trivialaugment"), AugmentConfig(color_jitter=JITTER), AugmentConfig(grayscale=0.1)]
)
@pytest.mark.parametrize("images", [np.zeros((1, 4, 4, 2), np.uint8), np.zeros((1, 4, 4, 3), np.uint16)])
def test_colour_options_need_8_bit_grayscale_or_rgb(config: AugmentConfig, images: Pixels) -> None:
    with pytest.raises(ConfigError, match="uint8 images with 1 or 3 channels") as error:
        run(images, config, [0])
    assert "\n" not in str(error.value)


def test_bgr_images_get_the_same_colours() -> None:
    images, index = make_images(), np.arange(12)
    reversed_fill = filled_with(FILL[::-1], "BGR")
    bgr = augment_photometric(images[..., ::-1], ALL, reversed_fill, SampleKeys(0, 0, index))
    assert np.array_equal(bgr[..., ::-1], run(images, ALL, index))
    assert bgr.flags.c_contiguous
