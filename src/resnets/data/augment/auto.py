"""Automatic augmentation policies: which operations an image gets, and how strongly.

RandAugment (Cubuk et al. 2019) in timm's form, TrivialAugment Wide (Müller and Hutter 2021) and AutoAugment (Cubuk
et al. 2018) with torchvision's ranges. The operations themselves are in `data.policy_ops`.

Legend: N batch, H height, W width.
"""

from __future__ import annotations

import math
import re
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from resnets.data import random
from resnets.data.augment.auto_tables import AUTOAUGMENT, RAND_OPERATIONS, WIDE_OPERATIONS
from resnets.data.augment.config import AugmentConfig
from resnets.data.augment.operations import FILTERS, operate
from resnets.errors import ConfigError, UnknownNameError

__all__ = ["Step", "apply_policy", "choose", "parse_policy", "policy_draws"]

Draws = npt.NDArray[np.float64]
_PLACES = 4  # in a row of draws, for each operation: which, whether, how strongly, which way
_WHICH, _WHETHER, _STRENGTH, _WAY = range(_PLACES)
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


class Step(NamedTuple):
    """An operation of `policy_ops.OPERATIONS` and its amount."""

    operation: str
    amount: float = 0.0


class _Reach(NamedTuple):
    """What a wide policy's operations do at their strongest."""

    shear: float
    rotate: float  # degrees
    enhance: float  # away from the factor 1
    bits: int  # taken from 8


_TRIVIAL, _AUTO = _Reach(0.99, 135.0, 0.99, 6), _Reach(0.3, 30.0, 0.9, 4)


def policy_draws(config: AugmentConfig, seed: int, epoch: int, index: npt.ArrayLike, view: npt.ArrayLike = 0) -> Draws:
    """(N, K) uniform numbers in [0, 1), a row of which `choose` takes."""
    count = _PLACES * (config.policy_ops if config.policy == "randaugment" else 2)
    return random.uniform(seed, epoch, index, random.Stream.POLICY, count, view)


def choose(config: AugmentConfig, draws: Draws, size: tuple[int, int]) -> list[Step]:
    """What is done to one image, in order; those that leave it as it is are left out.

    Args:
        config: its `policy` and what belongs to it.
        draws: a row of `policy_draws`.
        size: (H, W) of the image.
    """
    rows = draws.reshape(-1, _PLACES).tolist()
    if config.policy == "randaugment":
        return [_rand(config, row, size) for row in rows if row[_WHETHER] < config.policy_prob]
    if config.policy == "trivialaugment":
        name = WIDE_OPERATIONS[int(rows[0][_WHICH] * len(WIDE_OPERATIONS))]
        level = int(rows[0][_STRENGTH] * 31) / 30
        return [] if name == "identity" else [_wide(name, level, rows[0][_WAY], _TRIVIAL, (32.0, 32.0))]
    if config.policy == "autoaugment":
        pairs = AUTOAUGMENT[config.policy_set]
        reach = size[0] * 150 / 331, size[1] * 150 / 331
        return [
            _wide(name, strength / 9, row[_WAY], _AUTO, reach)
            for (name, probability, strength), row in zip(pairs[int(rows[0][_WHICH] * len(pairs))], rows, strict=True)
            if row[_WHETHER] < probability
        ]
    return []


def apply_policy(image: Image.Image, steps: list[Step], config: AugmentConfig, fill: tuple[int, ...]) -> Image.Image:
    """The image, of mode L or RGB, after all steps; `fill`, 1 or 3 bytes, is what comes in from outside."""
    for name, amount in steps:
        image = operate(name, image, amount, fill, FILTERS[config.policy_filter])
    return image


def _rand(config: AugmentConfig, row: list[float], size: tuple[int, int]) -> Step:
    """An operation with its amount on timm's scale, where magnitude 10 is level 1."""
    name, magnitude = RAND_OPERATIONS[int(row[_WHICH] * len(RAND_OPERATIONS))], config.policy_magnitude
    if math.isinf(config.policy_std):
        magnitude *= row[_STRENGTH]
    elif config.policy_std:
        magnitude += config.policy_std * _NORMAL.inv_cdf(row[_STRENGTH] + 2.0**-33)
    level, sign = min(max(magnitude, 0.0), 10.0) / 10, -1.0 if row[_WAY] < 0.5 else 1.0
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


def _wide(name: str, level: float, way: float, reach: _Reach, translate: tuple[float, float]) -> Step:
    """An operation with its amount on torchvision's scales; `translate` is the farthest (down, right), in pixels."""
    sign = -1.0 if way < 0.5 else 1.0
    if name in _ENHANCE:
        return Step(name, 1 + sign * reach.enhance * level)
    amounts = {
        "shear_x": sign * reach.shear * level,
        "shear_y": sign * reach.shear * level,
        "translate_x": float(int(sign * translate[1] * level)),
        "translate_y": float(int(sign * translate[0] * level)),
        "rotate": sign * reach.rotate * level,
        "posterize": 8 - round(reach.bits * level),
        "solarize": 255 * (1 - level),
    }
    return Step(name, amounts.get(name, 0.0))


def parse_policy(text: str) -> dict[str, Any]:
    """Fields of `AugmentConfig` from a policy's short form.

    Args:
        text: `none`, `trivialaugment` (also `ta_wide`), `autoaugment` (also `imagenet`), `cifar10`, `randaugment`
            (the fields' defaults), or timm's form of RandAugment, such as `rand-m7-mstd0.5-inc1`: `m` magnitude
            (10 if not given), `n` operations (2), `p` probability of each (0.5), `mstd` noise (0; above 100 the
            magnitude is uniform), `inc1` operations that do more as the magnitude grows (0).

    Raises:
        UnknownNameError: another name.
        ConfigError: a part that is not known.
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
        key, number = match[1], float(match[2])
        if key == "m":
            fields["policy_magnitude"] = number
        elif key == "n":
            fields["policy_ops"] = int(number)
        elif key == "p":
            fields["policy_prob"] = number
        elif key == "mstd":
            fields["policy_std"] = number if number <= 100 else math.inf
        else:
            fields["policy_increasing"] = number > 0
    return fields
