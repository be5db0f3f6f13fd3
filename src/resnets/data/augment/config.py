"""Options of random augmentation, as data. `geometric`, `random_crop` and `photometric` carry them out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from resnets.errors import ConfigError, nearest

__all__ = ["AugmentConfig", "PadMode"]

PadMode = Literal["zero", "reflect", "mean"]

_CHOICES = {
    "pad_mode": ("zero", "reflect", "mean"),
    "policy": ("none", "randaugment", "trivialaugment", "autoaugment"),
    "policy_set": ("imagenet", "cifar10"),
    "policy_filter": ("nearest", "bilinear", "bicubic"),
    "erasing_fill": ("mean", "noise", "black"),
}


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random augmentation of training images: geometry, then the policy, then colours, then erasing.

    Args:
        pad: pixels added on every side before a random crop of the original size (4 for CIFAR); 0 for none.
        pad_mode: content of the added pixels: `zero` (black), `reflect`, or `mean` (the mean colour).
        hflip: flip horizontally with probability 1/2.
        vflip: flip vertically with probability 1/2.
        cutout: side in pixels of a square at a random position, filled with the mean colour; 0 for none.
        scale: (least, most) share of the image's area that a random resized crop takes, in (0, 1]; None for no
            such crop (the preprocessing's own resize and crop is used then). ImageNet's is (0.08, 1).
        ratio: (least, most) width / height of that crop.
        policy: random operations, see `augment.auto`: `randaugment` (timm's form), `trivialaugment` (TrivialAugment
            Wide), `autoaugment` or `none`; `parse_policy` reads timm's short form.
        policy_ops: operations that RandAugment picks for an image, with replacement.
        policy_magnitude: RandAugment's magnitude, 0 to 10.
        policy_std: standard deviation of normal noise on that magnitude; infinite: uniform from 0 to it.
        policy_prob: probability that RandAugment applies an operation it picked: timm's 0.5; the paper's is 1.
        policy_increasing: every RandAugment operation gets stronger as the magnitude grows (timm's `inc1`);
            otherwise some get weaker, as in the first TensorFlow code.
        policy_set: the data set whose AutoAugment policy is used, `imagenet` or `cifar10`.
        policy_filter: interpolation of shear, translation and rotation.
        color_jitter: strengths of brightness, contrast, saturation and hue, 0 for none. The first three are factors
            from [max(0, 1 - j), 1 + j]; hue is a rotation of [-j, j] turns, j at most 1/2. In random order.
        grayscale: probability of conversion to grayscale.
        random_erasing: probability of random erasing.
        erasing_scale: (least, most) share of the image's area erased.
        erasing_ratio: (least, most) height / width of an erased rectangle.
        erasing_fill: `mean` colour, `black`, or `noise`: every value normal around the mean colour, with a standard
            deviation of a quarter of the value range (timm's `pixel` mode, which works on normalised images).
        erasing_count: maximum number of rectangles per image, which share the area between them.
    """

    pad: int = 0
    pad_mode: PadMode = "zero"
    hflip: bool = True
    vflip: bool = False
    cutout: int = 0
    scale: tuple[float, float] | None = None
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    policy: Literal["none", "randaugment", "trivialaugment", "autoaugment"] = "none"
    policy_ops: int = 2
    policy_magnitude: float = 9.0
    policy_std: float = 0.5
    policy_prob: float = 0.5
    policy_increasing: bool = True
    policy_set: Literal["imagenet", "cifar10"] = "imagenet"
    policy_filter: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    grayscale: float = 0.0
    random_erasing: float = 0.0
    erasing_scale: tuple[float, float] = (0.02, 1 / 3)
    erasing_ratio: tuple[float, float] = (0.3, 10 / 3)
    erasing_fill: Literal["mean", "noise", "black"] = "mean"
    erasing_count: int = 1

    def __post_init__(self) -> None:
        for name in ("pad", "cutout"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be 0 or more pixels; got {getattr(self, name)}; use 0 for none")
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                near = nearest(str(value), choices)
                remedy = f"did you mean {near[0]}?" if near else "choose one of them"
                raise ConfigError(f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}; got {value!r}; {remedy}")
        for name, usual in (("scale", (0.08, 1)), ("erasing_scale", (0.02, 0.33))):
            pair = getattr(self, name)
            if pair is not None and not 0 < pair[0] <= pair[1] <= 1:
                raise ConfigError(f"{name} must be 0 < least <= most <= 1; got {pair}; ImageNet's is {usual}")
        for name, published in (("ratio", "(3/4, 4/3)"), ("erasing_ratio", "(0.3, 10/3)")):
            pair = getattr(self, name)
            if not 0 < pair[0] <= pair[1]:
                raise ConfigError(f"{name} must be 0 < least <= most; got {pair}; ImageNet's is {published}")
        for name in ("policy_prob", "grayscale", "random_erasing"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ConfigError(f"{name} is a probability in [0, 1]; got {value}; use 0 for never")
        self._check_strengths()

    def _check_strengths(self) -> None:
        for name in ("policy_ops", "erasing_count"):
            if not 1 <= (value := getattr(self, name)) <= 100:
                raise ConfigError(f"{name} must be 1 to 100; got {value}; 1 to 3 are usual")
        if not 0 <= self.policy_magnitude <= 10:
            raise ConfigError(f"policy_magnitude must be 0 to 10; got {self.policy_magnitude}; 6 to 9 are usual")
        if not self.policy_std >= 0:
            raise ConfigError(f"policy_std must be 0 or more; got {self.policy_std}; 0.5 is usual")
        if (
            len(self.color_jitter) != 4
            or not all(0 <= value < math.inf for value in self.color_jitter)
            or self.color_jitter[3] > 0.5
        ):
            raise ConfigError(
                f"color_jitter is brightness, contrast, saturation and hue, each 0 or more and hue at most 0.5; "
                f"got {self.color_jitter}; (0.4, 0.4, 0.4, 0) is usual"
            )

    @property
    def photometric(self) -> bool:
        """Whether any photometric option is on: policy, colour jitter, grayscale or random erasing."""
        return self.recolours or self.random_erasing > 0

    @property
    def recolours(self) -> bool:
        """Whether an option is on that needs 8-bit grayscale or colour images: policy, colour jitter or grayscale."""
        return self.policy != "none" or any(self.color_jitter) or self.grayscale > 0
