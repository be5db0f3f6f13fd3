"""Options of training data: augmentation, mixing of batches, and sampling. No torch or numpy here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from typing_extensions import Doc

from resnets.errors import ConfigError
from resnets.options.declarations import DefaultText
from resnets.options.validate import Options

__all__ = ["AugmentConfig", "MixConfig", "PadMode", "Sampling"]

PadMode = Literal["zero", "reflect", "mean"]
Pixels = Annotated[int, Ge(0)]
Probability = Annotated[float, Interval(ge=0, le=1)]
AreaShare = Annotated[float, Interval(gt=0, le=1)]
Positive = Annotated[float, Gt(0)]
FewTimes = Annotated[int, Interval(ge=1, le=100)]
Strength = Annotated[float, Interval(ge=0, lt=math.inf)]


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Options):
    """Augmentation of training images, in this order: geometry, policy, colour, erasing."""

    pad: Annotated[
        Pixels,
        Doc("Pixels added on every side before a crop of the original size. 4 for CIFAR."),
        DefaultText("1/8 of the size up to 64 pixels, else 0"),
    ] = 0
    pad_mode: Annotated[
        PadMode,
        Doc("Value of the padding. `zero` (black), `reflect` or `mean` (the mean colour)."),
        DefaultText("reflect"),
    ] = "zero"
    hflip: Annotated[
        bool, Doc("Mirror left and right with probability 1/2."), DefaultText("true; false for digits")
    ] = True
    vflip: Annotated[bool, Doc("Mirror top and bottom with probability 1/2.")] = False
    cutout: Annotated[
        Pixels, Doc("Side of a square at a random position that is filled with the mean colour, in pixels.")
    ] = 0
    scale: Annotated[
        tuple[AreaShare, AreaShare] | None,
        Doc(
            "Random resized crop: range of its area as a fraction of the image's. (0.08, 1) for ImageNet; `none` uses "
            "the resize and crop of the preprocessing."
        ),
        DefaultText("none up to 64 pixels, else (0.25, 1)"),
    ] = None
    ratio: Annotated[tuple[Positive, Positive], Doc("Range of that crop's width / height.")] = (3 / 4, 4 / 3)
    policy: Annotated[
        Literal["none", "randaugment", "trivialaugment", "autoaugment"],
        Doc(
            "Augmentation policy. `randaugment` (timm's form), `trivialaugment` (TrivialAugment Wide), `autoaugment` "
            "or `none`; timm's short form, such as rand-m9-mstd0.5-inc1, is accepted too."
        ),
    ] = "none"
    policy_ops: Annotated[FewTimes, Doc("Operations that RandAugment draws for an image, with replacement.")] = 2
    policy_magnitude: Annotated[float, Interval(ge=0, le=10), Doc("Magnitude of RandAugment.")] = 9.0
    policy_std: Annotated[
        float, Ge(0), Doc("Standard deviation of the magnitude's normal noise. Infinite: uniform from 0 to it.")
    ] = 0.5
    policy_prob: Annotated[
        Probability, Doc("Probability that RandAugment applies a drawn operation. 0.5 in timm, 1 in the paper.")
    ] = 0.5
    policy_increasing: Annotated[
        bool,
        Doc(
            "RandAugment's operations become stronger with the magnitude (timm's `inc1`). Otherwise some become "
            "weaker, as in the original TensorFlow code."
        ),
    ] = True
    policy_set: Annotated[Literal["imagenet", "cifar10"], Doc("Dataset whose AutoAugment policy is used.")] = "imagenet"
    policy_filter: Annotated[
        Literal["nearest", "bilinear", "bicubic"], Doc("Interpolation of sheared, shifted and rotated images.")
    ] = "bilinear"
    color_jitter: Annotated[
        tuple[Strength, Strength, Strength, Annotated[float, Interval(ge=0, le=0.5)]],
        Doc(
            "Colour jitter of brightness, contrast, saturation and hue. The first three draw a factor from [1 - j, 1 "
            "+ j], hue a rotation of [-j, j] turns; applied in random order."
        ),
    ] = (0.0, 0.0, 0.0, 0.0)
    grayscale: Annotated[Probability, Doc("Probability of converting an image to grayscale.")] = 0.0
    random_erasing: Annotated[Probability, Doc("Probability of random erasing.")] = 0.0
    erasing_scale: Annotated[
        tuple[AreaShare, AreaShare], Doc("Range of the erased area as a fraction of the image's.")
    ] = (0.02, 1 / 3)
    erasing_ratio: Annotated[tuple[Positive, Positive], Doc("Range of the erased area's height / width.")] = (
        0.3,
        10 / 3,
    )
    erasing_fill: Annotated[
        Literal["mean", "noise", "black"],
        Doc(
            "Fill of the erased area. `mean` colour, `black`, or `noise`: normal around the mean colour with a "
            "standard deviation of a quarter of the value range (timm's `pixel` mode)."
        ),
    ] = "mean"
    erasing_count: Annotated[FewTimes, Doc("Maximum number of erased areas in an image, which share the area.")] = 1

    def check_rules(self) -> None:
        for name in ("scale", "ratio", "erasing_scale", "erasing_ratio"):
            pair = getattr(self, name)
            if pair is not None and pair[0] > pair[1]:
                raise ConfigError(f"{name} must be (min, max); got {pair}; swap them")

    @property
    def photometric(self) -> bool:
        """Whether any photometric option is on: policy, colour jitter, grayscale or random erasing."""
        return self.recolours or self.random_erasing > 0

    @property
    def recolours(self) -> bool:
        """Whether an option is on that needs 8-bit grayscale or colour images: policy, colour jitter or grayscale."""
        return self.policy != "none" or any(self.color_jitter) or self.grayscale > 0


@dataclass(frozen=True, kw_only=True)
class MixConfig(Options):
    """Mixup and CutMix of training batches."""

    mixup: Annotated[
        float, Interval(ge=0, le=1000), Doc("Alpha of mixup, whose lambda is Beta(alpha, alpha). 0 disables it.")
    ] = 0.0
    cutmix: Annotated[float, Interval(ge=0, le=1000), Doc("Alpha of CutMix. 0 disables it; 1 is usual.")] = 0.0
    prob: Annotated[Probability, Doc("Probability of mixing a batch.")] = 1.0
    switch_prob: Annotated[Probability, Doc("Probability of CutMix where both are enabled.")] = 0.5
    off_epoch: Annotated[
        int | None, Ge(0), Doc("First epoch without mixing, counted from 0."), DefaultText("never")
    ] = None

    def active(self, epoch: int) -> bool:
        """Whether batches of this epoch, counted from 0, are mixed."""
        on = self.prob > 0 and (self.mixup > 0 or self.cutmix > 0)
        return on and (self.off_epoch is None or epoch < self.off_epoch)


@dataclass(frozen=True, kw_only=True)
class Sampling(Options):
    """Sampling of an epoch's images; every epoch is as long as the split, or with `num_instances` a little longer."""

    balanced: Annotated[
        bool,
        Doc(
            "Draw every class equally often. Images of a small class repeat, each time augmented anew; of a large "
            "class each epoch draws another subset."
        ),
    ] = False
    repeats: Annotated[
        int,
        Ge(1),
        Doc(
            "Repeat each drawn image N times, each time augmented anew (repeated augmentation, Hoffer et al. 2019). "
            "An epoch then covers a fraction of the split; 3 is usual."
        ),
    ] = 1
    num_instances: Annotated[
        int | None,
        Ge(0),
        Doc(
            "Images of each identity in a batch, K of P x K sampling. P is the batch size divided by it. Every image "
            "comes at least once in an epoch, and no identity twice in a batch; 0 draws images one by one."
        ),
        DefaultText("4 with task=reid, else 0"),
    ] = None

    def check_rules(self) -> None:
        if self.num_instances == 1:
            raise ConfigError("num_instances must be 2 or more, or 0 for none; got 1; 4 is usual")
        if self.num_instances and (self.balanced or self.repeats > 1):
            raise ConfigError(
                f"num_instances determines all batches; got balanced={self.balanced} and repeats={self.repeats} with "
                f"num_instances={self.num_instances}; leave them out"
            )
