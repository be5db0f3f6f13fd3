"""Automatic policies: each operation against numpy, the choice against the published lists, and the short form."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from resnets.data.augment.auto import OPERATIONS, Step, apply_steps, choose_steps, parse_policy, policy_draws
from resnets.data.augment.auto_tables import AUTOAUGMENT, RAND_OPERATIONS, WIDE_OPERATIONS
from resnets.data.augment.config import AugmentConfig
from resnets.errors import ConfigError, UnknownNameError

Pixels = np.ndarray[Any, Any]
FILL = (10, 200, 90)


def noise(mode: str, seed: int = 0) -> Image.Image:
    shape = (13, 17, 3) if mode == "RGB" else (13, 17)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def gentle(mode: str) -> Image.Image:
    """Large enough, and of few values, for histograms to matter."""
    shape = (40, 40, 3) if mode == "RGB" else (40, 40)
    values = np.random.default_rng(1).normal(110, 25, shape).clip(30, 190)
    return Image.fromarray(values.astype(np.uint8))


def do(name: str, image: Image.Image, amount: float = 0.0, resample: str = "nearest") -> Pixels:
    fill = FILL if image.mode == "RGB" else FILL[:1]
    return np.asarray(OPERATIONS[name](image, amount, fill, Image.Resampling[resample.upper()])).astype(int)


def blend(away: Pixels, pixels: Pixels, factor: float) -> Pixels:
    """From `away` through the image and beyond, as bytes: fractions are cut off."""
    mixed = np.float32(away) + np.float32(factor) * (np.float32(pixels) - np.float32(away))
    clipped: Pixels = np.clip(mixed, 0, 255).astype(np.uint8).astype(int)
    return clipped


def luma(pixels: Pixels) -> Pixels:
    """ITU-R 601 in 16-bit fixed point."""
    if pixels.ndim == 2:
        return pixels
    weighted: Pixels = (pixels @ np.array([19595, 38470, 7471]) + 0x8000) >> 16
    return weighted


def grey(pixels: Pixels) -> Pixels:
    return luma(pixels) if pixels.ndim == 2 else np.repeat(luma(pixels)[:, :, None], 3, axis=2)


def smoothed(pixels: Pixels) -> Pixels:
    """A 3 x 3 filter, centre 5 and around it 1, of 13; the border stays."""
    out, kernel = pixels.astype(float), np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    height, width = pixels.shape[:2]
    middle = sum(kernel[y, x] * pixels[y : y + height - 2, x : x + width - 2] for y in range(3) for x in range(3))
    out[1:-1, 1:-1] = np.floor(np.asarray(middle) + 0.5)
    return out.astype(int)


MODES = pytest.mark.parametrize("mode", ["L", "RGB"])


@MODES
@pytest.mark.parametrize("factor", [0.0, 0.1, 0.55, 1.0, 1.37, 1.9])
def test_enhancing_blends(mode: str, factor: float) -> None:
    image = noise(mode)
    pixels = np.asarray(image).astype(int)
    mean = np.full_like(pixels, int(luma(pixels).mean() + 0.5))
    aways = {"brightness": 0 * pixels, "contrast": mean, "color": grey(pixels), "sharpness": smoothed(pixels)}
    for name, away in aways.items():
        assert abs(do(name, image, factor) - blend(away, pixels, factor)).max() <= (name == "sharpness"), name


@MODES
def test_values_are_looked_up(mode: str) -> None:
    image = noise(mode)
    pixels = np.asarray(image).astype(int)
    assert np.array_equal(do("identity", image), pixels)
    assert np.array_equal(do("invert", image), 255 - pixels)
    for bits in range(9):
        step = 2 ** (8 - bits)
        assert np.array_equal(do("posterize", image, bits), pixels // step * step)
    for threshold in (0, 17, 128.5, 255, 256):
        expected = np.where(pixels < threshold, pixels, 255 - pixels)
        assert np.array_equal(do("solarize", image, threshold), expected)
    for added in (0, 55, 110, 128):
        expected = np.where(pixels < 128, np.minimum(pixels + added, 255), pixels)
        assert np.array_equal(do("solarize_add", image, added), expected)


@MODES
def test_histograms_are_stretched_and_levelled(mode: str) -> None:
    pixels = np.asarray(gentle(mode)).astype(int)
    channels = pixels.reshape(40 * 40, -1)
    stretched, levelled = do("autocontrast", gentle(mode)), do("equalize", gentle(mode))
    low, high = channels.min(0), channels.max(0)
    exact = (channels - low) * 255 / (high - low)
    assert abs(stretched.reshape(40 * 40, -1) - np.floor(exact + 1e-9)).max() <= 1  # floats on either side of a whole
    for channel, result in zip(channels.T, levelled.reshape(40 * 40, -1).T, strict=True):
        step = (channel < channel.max()).sum() // 255
        below = (channel[:, None] > channel[None]).sum(1)
        assert np.array_equal(result, np.minimum(255, (below + step // 2) // step))


@MODES
@pytest.mark.parametrize("kind", ["gentle", "noise", "flat", "two"])
def test_histograms_are_used_as_pillow_uses_them(mode: str, kind: str) -> None:
    bands = len(mode)
    values = np.full((30, 30, bands), 77, np.uint8)
    values[:15] = 77 if kind == "flat" else 201
    flat = Image.fromarray(values.squeeze() if mode == "L" else values)
    image = {"gentle": gentle(mode), "noise": noise(mode)}.get(kind, flat)
    assert np.array_equal(do("autocontrast", image), np.asarray(ImageOps.autocontrast(image)))
    assert np.array_equal(do("equalize", image), np.asarray(ImageOps.equalize(image)))


def fetched(pixels: Pixels, y: Pixels, x: Pixels, fill: Pixels) -> Pixels:
    """The pixels at rows `y` and columns `x`, each (H, W); the fill where there is none."""
    height, width = pixels.shape[:2]
    there = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    out: Pixels = pixels[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    out[~there] = fill
    return out


@MODES
def test_shifts_move_whole_pixels(mode: str) -> None:
    image, fill = noise(mode), np.array(FILL if mode == "RGB" else FILL[0])
    pixels = np.asarray(image).astype(int)
    y, x = np.mgrid[:13, :17]
    for amount in (-20, -4, 0, 3, 13):
        for resample in ("nearest", "bilinear", "bicubic"):
            assert np.array_equal(do("translate_x", image, amount, resample), fetched(pixels, y, x - amount, fill))
            assert np.array_equal(do("translate_y", image, amount, resample), fetched(pixels, y - amount, x, fill))


@MODES
def test_shears_and_turns_take_the_nearest_pixel(mode: str) -> None:
    image, fill = noise(mode), np.array(FILL if mode == "RGB" else FILL[0])
    pixels = np.asarray(image).astype(int)
    y, x = np.mgrid[:13, :17] + 0.5  # of the pixels' centres
    for amount in (-0.97, -0.3, 0.0, 0.13, 0.61):
        down, right = np.floor(y + amount * x).astype(int), np.floor(x + amount * y).astype(int)
        assert np.array_equal(do("shear_x", image, amount), fetched(pixels, y.astype(int), right, fill))
        assert np.array_equal(do("shear_y", image, amount), fetched(pixels, down, x.astype(int), fill))
    for degrees in (-133.0, -30.0, 7.3, 90.0, 180.0):
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        right, down = cos * (x - 8.5) - sin * (y - 6.5) + 8.5, sin * (x - 8.5) + cos * (y - 6.5) + 6.5
        clear = (abs(right - right.round()) > 1e-3) & (abs(down - down.round()) > 1e-3)  # of a pixel's border
        expected = fetched(pixels, np.floor(down).astype(int), np.floor(right).astype(int), fill)
        assert clear.mean() > 0.5
        assert np.array_equal(do("rotate", image, degrees)[clear], expected[clear])


def test_bilinear_mixes_neighbours() -> None:
    image = noise("L")
    pixels = np.asarray(image).astype(float)
    halfway = do("translate_x", image, 0.5, "bilinear")
    assert abs(halfway[:, 1:] - (pixels[:, 1:] + pixels[:, :-1]) / 2).max() <= 0.5


def test_hue_turns_the_colour_circle() -> None:
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    assert np.array_equal(do("hue", red), np.asarray(red))
    third = do("hue", red, 1 / 3)[0, 0]  # one turn is 255 steps of 256
    assert third[1] == 255
    assert third[0] <= 6
    assert third[2] == 0
    assert np.array_equal(do("hue", noise("L"), 0.3), np.asarray(noise("L")))


@MODES
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_keep_size_and_mode_and_do_not_modify_the_image(mode: str, name: str) -> None:
    image = noise(mode)
    result = OPERATIONS[name](image, 1.0, FILL[: len(mode)] if mode == "RGB" else FILL[:1], Image.Resampling.BICUBIC)
    assert (result.size, result.mode) == (image.size, mode)
    assert np.array_equal(np.asarray(image), np.asarray(noise(mode)))


def row(*operations: tuple[float, float, float, float]) -> Pixels:
    return np.array(operations).ravel()


def at(names: tuple[str, ...], name: str) -> float:
    """A uniform number that picks `name`."""
    return (names.index(name) + 0.5) / len(names)


# timm 1.0.31, magnitude 9 without noise, on an image of height 40 and width 60; the sign is minus below a half.
RAND_9 = {
    "autocontrast": (0, 0),
    "equalize": (0, 0),
    "invert": (0, 0),
    "rotate": (27, 27),
    "posterize": (1, 3),
    "solarize": (26, 230),
    "solarize_add": (99, 99),
    "color": (1.81, 1.72),
    "contrast": (1.81, 1.72),
    "brightness": (1.81, 1.72),
    "sharpness": (1.81, 1.72),
    "shear_x": (0.27, 0.27),
    "shear_y": (0.27, 0.27),
    "translate_x": (24.3, 24.3),
    "translate_y": (16.2, 16.2),
}


def test_randaugment_has_the_published_magnitudes() -> None:
    assert tuple(RAND_9) == RAND_OPERATIONS
    for column, increasing in enumerate((True, False)):
        config = AugmentConfig(policy="randaugment", policy_ops=1, policy_std=0, policy_increasing=increasing)
        for name, amounts in RAND_9.items():
            draws = row((at(RAND_OPERATIONS, name), 0.49, 0.9, 0.7))
            (step,) = choose_steps(config, draws, (40, 60))
            assert step.operation == name
            assert step.amount == pytest.approx(amounts[column])


def test_the_sign_and_the_noise_of_randaugment() -> None:
    config = AugmentConfig(policy="randaugment", policy_ops=1, policy_magnitude=5)
    which = at(RAND_OPERATIONS, "rotate")
    one_sigma = 0.8413447460685429
    amounts = [
        choose_steps(config, row((which, 0, u, way)), (9, 9))[0].amount for u, way in ((0.5, 0.2), (one_sigma, 0.6))
    ]
    assert amounts == pytest.approx([-15, 30 * 0.55])
    extremes = [choose_steps(config, row((which, 0, u, 0.6)), (9, 9))[0].amount for u in (0.0, 1 - 2.0**-32)]
    assert 0 < extremes[0] < 30 * 0.25
    assert 30 * 0.75 < extremes[1] <= 30
    any_magnitude = AugmentConfig(policy="randaugment", policy_ops=1, policy_magnitude=8, policy_std=math.inf)
    (step,) = choose_steps(any_magnitude, row((which, 0, 0.25, 0.6)), (9, 9))
    assert step.operation == "rotate"
    assert step.amount == pytest.approx(6)
    darker = choose_steps(
        AugmentConfig(policy="randaugment", policy_magnitude=10, policy_std=0),
        row((at(RAND_OPERATIONS, "brightness"), 0, 0.5, 0.1), (0, 0.5, 0, 0)),
        (9, 9),
    )
    assert [step.operation for step in darker] == ["brightness"]
    assert darker[0].amount == pytest.approx(0.1)


def test_randaugment_picks_all_alike_and_skips_half() -> None:
    config = AugmentConfig(policy="randaugment", policy_ops=3)
    picked = [choose_steps(config, draws, (8, 8)) for draws in policy_draws(config, 0, 0, np.arange(5000))]
    assert abs(np.mean([len(steps) for steps in picked]) - 1.5) < 0.04
    counts = Counter(step.operation for steps in picked for step in steps)
    assert set(counts) == set(RAND_OPERATIONS)
    assert max(abs(count - 500) for count in counts.values()) < 100
    turns = [step.amount > 0 for steps in picked for step in steps if step.operation == "rotate"]
    assert abs(np.mean(turns) - 0.5) < 0.1
    always = AugmentConfig(policy="randaugment", policy_prob=1.0)
    assert all(len(choose_steps(always, draws, (8, 8))) == 2 for draws in policy_draws(always, 0, 0, np.arange(50)))


def test_trivialaugment_has_the_published_magnitudes() -> None:
    config = AugmentConfig(policy="trivialaugment")
    far, rest = 1 - 1e-9, (0.0, 0.0, 0.0, 0.0)
    strongest = {
        name: choose_steps(config, row((at(WIDE_OPERATIONS, name), 0.99, far, 0.7), rest), (500, 500))
        for name in WIDE_OPERATIONS
    }
    assert strongest.pop("identity") == []
    assert {name: steps[0].amount for name, steps in strongest.items()} == pytest.approx(
        {
            **dict.fromkeys(("shear_x", "shear_y"), 0.99),
            **dict.fromkeys(("translate_x", "translate_y"), 32),
            **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), 1.99),
            **dict.fromkeys(("solarize", "autocontrast", "equalize"), 0),
            "rotate": 135,
            "posterize": 2,
        }
    )
    bins = [
        choose_steps(config, row((at(WIDE_OPERATIONS, "posterize"), 0, (b + 0.5) / 31, 0), rest), (8, 8))
        for b in range(31)
    ]
    assert Counter(int(steps[0].amount) for steps in bins) == {8: 3, 7: 5, 6: 5, 5: 5, 4: 5, 3: 5, 2: 3}


def test_trivialaugment_picks_all_alike() -> None:
    config = AugmentConfig(policy="trivialaugment")
    picked = [choose_steps(config, draws, (8, 8)) for draws in policy_draws(config, 3, 0, np.arange(5000))]
    counts = Counter(steps[0].operation if steps else "identity" for steps in picked)
    assert set(counts) == set(WIDE_OPERATIONS)
    assert max(abs(count - 5000 / 14) for count in counts.values()) < 80
    turns = [steps[0].amount > 0 for steps in picked if steps and steps[0].operation == "shear_x"]
    assert abs(np.mean(turns) - 0.5) < 0.1


def test_autoaugment_follows_its_table() -> None:
    assert {name: len(pairs) for name, pairs in AUTOAUGMENT.items()} == {"imagenet": 25, "cifar10": 25}
    for pairs in AUTOAUGMENT.values():
        for name, probability, strength in (choice for pair in pairs for choice in pair):
            assert name in WIDE_OPERATIONS or name == "invert"
            assert 0 <= probability <= 1
            assert strength in range(10)
    config = AugmentConfig(policy="autoaugment", policy_set="cifar10")
    second = (1.5 / 25, 0.69, 0.0, 0.9), (0.9, 0.29, 0.0, 0.1)  # rotate 0.7 2, then translate_x 0.3 9
    steps = choose_steps(config, row(*second), (331, 662))
    assert [step.operation for step in steps] == ["rotate", "translate_x"]
    assert [step.amount for step in steps] == pytest.approx([30 * 2 / 9, -300])
    assert choose_steps(config, row((1.5 / 25, 0.7, 0, 0), (0, 0.3, 0, 0)), (331, 331)) == []


def test_autoaugment_takes_each_pair_as_often_as_it_says() -> None:
    config = AugmentConfig(policy="autoaugment", policy_set="imagenet")
    picked = [choose_steps(config, draws, (8, 8)) for draws in policy_draws(config, 1, 0, np.arange(8000))]
    counts = Counter(step.operation for steps in picked for step in steps)
    expected: Counter[str] = Counter()
    for pair in AUTOAUGMENT["imagenet"]:
        for name, probability, _ in pair:
            expected[name] += probability * 8000 / 25  # type: ignore[assignment]
    for name, count in expected.items():
        assert abs(counts[name] - count) < 5 * math.sqrt(count) + 1, name


def test_steps_are_done_in_order() -> None:
    config = AugmentConfig(policy_filter="nearest")
    steps = [Step("translate_x", 3), Step("invert")]
    result = np.asarray(apply_steps(noise("RGB"), steps, config, FILL)).astype(int)
    assert np.array_equal(result, 255 - do("translate_x", noise("RGB"), 3))


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("none", {}),
        ("ta_wide", {"policy": "trivialaugment"}),
        ("TrivialAugmentWide", {"policy": "trivialaugment"}),
        ("autoaugment", {"policy": "autoaugment"}),
        ("cifar10", {"policy": "autoaugment", "policy_set": "cifar10"}),
        ("randaugment", {"policy": "randaugment"}),
        ("rand-m7-mstd0.5-inc1", {"policy": "randaugment", "policy_magnitude": 7.0}),
        (
            "rand-m6-n3-p1-mstd101",
            {
                "policy": "randaugment",
                "policy_magnitude": 6.0,
                "policy_ops": 3,
                "policy_prob": 1.0,
                "policy_std": math.inf,
                "policy_increasing": False,
            },
        ),
        ("rand", {"policy": "randaugment", "policy_magnitude": 10.0, "policy_std": 0.0, "policy_increasing": False}),
    ],
)
def test_short_forms(text: str, fields: dict[str, Any]) -> None:
    assert AugmentConfig(**parse_policy(text)) == AugmentConfig(**fields)


@pytest.mark.parametrize("text", ["rand-m7-x2", "rand-m", "rand-n1.5", "rand-m7-mstd", "rand-m9-inc", "rand-"])
def test_parts_of_a_short_form_are_checked(text: str) -> None:
    with pytest.raises(ConfigError, match="parts of a rand policy") as error:
        parse_policy(text)
    assert "\n" not in str(error.value)


def test_an_unknown_policy_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="trivialaugment"):
        parse_policy("trivialaugmnt")
    with pytest.raises(ConfigError, match=r"policy_magnitude must be .*10; got 11"):
        AugmentConfig(**parse_policy("rand-m11"))
