"""Automatic augmentation policies: which operations an image gets, how strongly, and the operations themselves.

RandAugment (Cubuk et al. 2019) in timm's form, TrivialAugment Wide (Müller and Hutter 2021) and AutoAugment (Cubuk
et al. 2018) with torchvision's ranges. Operations work on 8-bit images with Pillow; `OPERATIONS` gives the unit of
each one's amount.

Legend: N batch, H height, W width, K draws.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageOps
from PIL.Image import Resampling

from resnets.data import random
from resnets.data.augment.auto_tables import AUTOAUGMENT, RAND_OPERATIONS, WIDE_OPERATIONS
from resnets.data.augment.config import AugmentConfig
from resnets.errors import ConfigError, UnknownNameError

__all__ = ["OPERATIONS", "Step", "apply_steps", "choose_steps", "parse_policy", "policy_draws"]

Draws = npt.NDArray[np.float64]
Colour = tuple[int, ...]
Operation = Callable[[Image.Image, float, Colour, Resampling], Image.Image]
_LEVELS = np.arange(256)
_COLUMNS = 4  # of the draws, for each operation
_OPERATION, _PROBABILITY, _STRENGTH, _SIGN = range(_COLUMNS)
_NORMAL = NormalDist()
_ENHANCE = ("brightness", "contrast", "color", "sharpness")
_NAMES: dict[str, dict[str, Any]] = {
    "none": {"policy": "none"},
    "randaugment": {"policy": "randaugment"},
    "trivialaugment": {"policy": "trivialaugment"},
    "trivialaugmentwide": {"policy": "trivialaugment"},
    "ta_wide": {"policy": "trivialaugment"},
    "autoaugment": {"policy": "autoaugment", "policy_set": "imagenet"},
    "imagenet": {"policy": "autoaugment", "policy_set": "imagenet"},
    "cifar10": {"policy": "autoaugment", "policy_set": "cifar10"},
}
_RAND_FIELDS: dict[str, tuple[str, Callable[[float], float]]] = {
    "m": ("policy_magnitude", float),
    "n": ("policy_ops", int),
    "p": ("policy_prob", float),
    "mstd": ("policy_std", lambda number: number if number <= 100 else math.inf),
    "inc": ("policy_increasing", bool),
}


class Step(NamedTuple):
    """A key of `OPERATIONS` and the amount to apply."""

    operation: str
    amount: float = 0.0


class _Range(NamedTuple):
    """Strongest amounts of a policy on torchvision's scales."""

    shear: float
    rotate: float  # degrees
    enhance: float  # distance of the factor from 1
    bits: int  # removed from 8


_TRIVIAL_RANGE, _AUTO_RANGE = _Range(0.99, 135.0, 0.99, 6), _Range(0.3, 30.0, 0.9, 4)


def policy_draws(config: AugmentConfig, seed: int, epoch: int, index: npt.ArrayLike, view: npt.ArrayLike = 0) -> Draws:
    """(N, K) uniform numbers in [0, 1), one row for each `choose_steps`."""
    count = _COLUMNS * (config.policy_ops if config.policy == "randaugment" else 2)
    return random.uniform(seed, epoch, index, random.Stream.POLICY, count, view)


def choose_steps(config: AugmentConfig, draws: Draws, size: tuple[int, int]) -> list[Step]:
    """The operations that one image gets, in order.

    Args:
        config: `policy` and the options that belong to it.
        draws: a row of `policy_draws`.
        size: (H, W) of the image.
    """
    rows = draws.reshape(-1, _COLUMNS).tolist()
    if config.policy == "randaugment":
        return [_rand(config, row, size) for row in rows if row[_PROBABILITY] < config.policy_prob]
    if config.policy == "trivialaugment":
        name = WIDE_OPERATIONS[int(rows[0][_OPERATION] * len(WIDE_OPERATIONS))]
        level = int(rows[0][_STRENGTH] * 31) / 30
        return [] if name == "identity" else [_wide(name, level, rows[0][_SIGN], _TRIVIAL_RANGE, (32.0, 32.0))]
    if config.policy == "autoaugment":
        policies = AUTOAUGMENT[config.policy_set]
        policy = policies[int(rows[0][_OPERATION] * len(policies))]
        translate = size[0] * 150 / 331, size[1] * 150 / 331
        return [
            _wide(name, strength / 9, row[_SIGN], _AUTO_RANGE, translate)
            for (name, probability, strength), row in zip(policy, rows, strict=True)
            if row[_PROBABILITY] < probability
        ]
    return []


def apply_steps(image: Image.Image, steps: list[Step], config: AugmentConfig, fill: Colour) -> Image.Image:
    """The image, of mode L or RGB, after all steps; `fill`, 1 or 3 bytes, is the colour outside the image."""
    for name, amount in steps:
        image = OPERATIONS[name](image, amount, fill, Resampling[config.policy_filter.upper()])
    return image


def _rand(config: AugmentConfig, row: list[float], size: tuple[int, int]) -> Step:
    """A RandAugment operation with its amount on timm's scale, where magnitude 10 is level 1."""
    name, magnitude = RAND_OPERATIONS[int(row[_OPERATION] * len(RAND_OPERATIONS))], config.policy_magnitude
    if math.isinf(config.policy_std):
        magnitude *= row[_STRENGTH]
    elif config.policy_std:
        magnitude += config.policy_std * _NORMAL.inv_cdf(row[_STRENGTH] + 2.0**-33)
    level, sign = min(max(magnitude, 0.0), 10.0) / 10, -1.0 if row[_SIGN] < 0.5 else 1.0
    if name in _ENHANCE:
        return Step(name, max(0.1, 1 + sign * 0.9 * level) if config.policy_increasing else 0.1 + 1.8 * level)
    if name == "posterize":
        bits = int(4 * level)
        return Step(name, 4 - bits if config.policy_increasing else bits)
    if name == "solarize":
        threshold = int(256 * level)
        return Step(name, 256 - threshold if config.policy_increasing else threshold)
    amounts = {
        "shear_x": sign * 0.3 * level,
        "shear_y": sign * 0.3 * level,
        "translate_x": sign * 0.45 * level * size[1],
        "translate_y": sign * 0.45 * level * size[0],
        "rotate": sign * 30 * level,
        "solarize_add": int(110 * level),
    }
    return Step(name, amounts.get(name, 0.0))


def _wide(name: str, level: float, side: float, limits: _Range, translate: tuple[float, float]) -> Step:
    """An operation with its amount on torchvision's scales; `translate` is the largest shift (down, right)."""
    sign = -1.0 if side < 0.5 else 1.0
    if name in _ENHANCE:
        return Step(name, 1 + sign * limits.enhance * level)
    amounts = {
        "shear_x": sign * limits.shear * level,
        "shear_y": sign * limits.shear * level,
        "translate_x": float(int(sign * translate[1] * level)),
        "translate_y": float(int(sign * translate[0] * level)),
        "rotate": sign * limits.rotate * level,
        "posterize": 8 - round(limits.bits * level),
        "solarize": 255 * (1 - level),
    }
    return Step(name, amounts.get(name, 0.0))


def parse_policy(text: str) -> dict[str, Any]:
    """Fields of `AugmentConfig` from a policy's short form.

    Args:
        text: `none`, `trivialaugment` (also `ta_wide`), `autoaugment` (also `imagenet`), `cifar10`, `randaugment`
            (the fields' defaults), or timm's form of RandAugment, such as `rand-m7-mstd0.5-inc1`: `m` magnitude
            (default: 10), `n` operations (2), `p` probability of each (0.5), `mstd` standard deviation of the
            magnitude (0; above 100 the magnitude is uniform), `inc1` for operations whose strength increases with
            the magnitude (0).

    Raises:
        UnknownNameError: an unknown policy.
        ConfigError: an unknown part of a `rand` policy.
    """
    name = text.strip().lower()
    if name in _NAMES:
        return dict(_NAMES[name])
    head, *parts = name.split("-")
    if head != "rand":
        raise UnknownNameError("policy", text, [*_NAMES, "rand-m9-mstd0.5-inc1"])
    fields: dict[str, Any] = {
        "policy": "randaugment",
        "policy_ops": 2,
        "policy_magnitude": 10.0,
        "policy_std": 0.0,
        "policy_prob": 0.5,
        "policy_increasing": False,
    }
    for part in parts:
        match = re.fullmatch(r"(mstd|inc|m|n|p)(\d+\.?\d*|\.\d+|inf)", part)
        if match is None or (match[1] in ("n", "inc") and not match[2].isdigit()):
            raise ConfigError(
                f"parts of a rand policy are m, n, p, mstd and inc with a number; got {part!r} in {text!r}; "
                "write it as rand-m9-n2-p0.5-mstd0.5-inc1"
            )
        name, convert = _RAND_FIELDS[match[1]]
        fields[name] = convert(float(match[2]))
    return fields


def _affine(image: Image.Image, row: tuple[float, ...], fill: Colour, resample: Resampling) -> Image.Image:
    """`row` is (a, b, c, d, e, f): output pixel (x, y) is input pixel (a x + b y + c, d x + e y + f)."""
    return image.transform(image.size, Image.Transform.AFFINE, row, resample, fillcolor=_fill_colour(fill))


def _fill_colour(fill: Colour) -> int | Colour:
    return fill[0] if len(fill) == 1 else fill


def _hue(image: Image.Image, turns: float) -> Image.Image:
    if image.mode == "L":
        return image
    hue, saturation, value = image.convert("HSV").split()
    rotated = hue.point(((_LEVELS + int(turns * 255)) % 256).tolist())
    return Image.merge("HSV", (rotated, saturation, value)).convert("RGB")


def _look_up(image: Image.Image, values: npt.NDArray[np.int64]) -> Image.Image:
    """Every value v replaced by `values[v]`."""
    return image.point(values.tolist() * len(image.getbands()))


# name: (image, amount, fill, resample) -> image
OPERATIONS: dict[str, Operation] = {
    "identity": lambda image, _, __, ___: image,
    # pixels to the left per row from the top
    "shear_x": lambda image, amount, *options: _affine(image, (1, amount, 0, 0, 1, 0), *options),
    # pixels upwards per column from the left
    "shear_y": lambda image, amount, *options: _affine(image, (1, 0, 0, amount, 1, 0), *options),
    # pixels to the right
    "translate_x": lambda image, amount, *options: _affine(image, (1, 0, -amount, 0, 1, 0), *options),
    # pixels downwards
    "translate_y": lambda image, amount, *options: _affine(image, (1, 0, 0, 0, 1, -amount), *options),
    # degrees, counter-clockwise, about the centre
    "rotate": lambda image, amount, fill, resample: image.rotate(amount, resample, fillcolor=_fill_colour(fill)),
    # factors: 0 black, the mean grey, grayscale, or smoothed; 1 unchanged
    "brightness": lambda image, amount, *_: ImageEnhance.Brightness(image).enhance(amount),
    "contrast": lambda image, amount, *_: ImageEnhance.Contrast(image).enhance(amount),
    "color": lambda image, amount, *_: ImageEnhance.Color(image).enhance(amount),
    "sharpness": lambda image, amount, *_: ImageEnhance.Sharpness(image).enhance(amount),
    # rotation of the colour circle in turns, in [-1/2, 1/2]
    "hue": lambda image, amount, *_: _hue(image, amount),
    # bits kept, 0 to 8
    "posterize": lambda image, amount, *_: _look_up(image, _LEVELS & ~(2 ** (8 - int(amount)) - 1)),
    # values from this one up are inverted; 256 inverts none
    "solarize": lambda image, amount, *_: _look_up(image, np.where(amount > _LEVELS, _LEVELS, 255 - _LEVELS)),
    # added to values below 128
    "solarize_add": lambda image, amount, *_: _look_up(
        image, np.where(_LEVELS < 128, np.minimum(255, _LEVELS + int(amount)), _LEVELS)
    ),
    # without amount
    "autocontrast": lambda image, *_: ImageOps.autocontrast(image),
    "equalize": lambda image, *_: ImageOps.equalize(image),
    "invert": lambda image, *_: ImageOps.invert(image),
}
