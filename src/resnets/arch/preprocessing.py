"""Preprocessing as data: what happens between a decoded image and the network.

Training, validation, prediction, export and service all run the same `Preprocessing` (through `data.transform`). Its
hash is written into every artefact and checked on load. No torch here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval
from typing_extensions import Doc

from resnets.errors import ConfigError
from resnets.options.validate import Options

__all__ = [
    "Preprocessing",
    "CropMode",
    "Interpolation",
    "Channels",
    "ChannelOrder",
    "Depth",
    "FULL_SCALE",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "NORMALISATIONS",
]

CropMode = Literal["center", "squash", "border"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "lanczos"]
ChannelOrder = Literal["RGB", "BGR", "L"]
Pixels = Annotated[int, Ge(1)]
Channels = ChannelOrder | Pixels
Depth = Literal["uint8", "uint16", "float32"]

MAX_SIDE = 8192  # pixels
MAX_VALUE = 1e6  # of value_range, mean and std
# The stored value of full brightness, by depth.
FULL_SCALE: dict[Depth, float] = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
NORMALISATIONS: dict[str, dict[str, Any]] = {
    "imagenet": {"channels": "RGB", "value_range": (0, 1), "mean": IMAGENET_MEAN, "std": IMAGENET_STD},
    "caffe": {"channels": "BGR", "value_range": (0, 255), "mean": (103.939, 116.779, 123.68), "std": (1, 1, 1)},
    "inception": {"channels": "RGB", "value_range": (-1, 1), "mean": (0, 0, 0), "std": (1, 1, 1)},
    "unit": {"channels": "RGB", "value_range": (0, 1), "mean": (0, 0, 0), "std": (1, 1, 1)},
    "raw": {"channels": "RGB", "value_range": (0, 255), "mean": (0, 0, 0), "std": (1, 1, 1)},
}
"""What codebases do with the values of images, by usual names: fields of `Preprocessing`."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing(Options):
    """How an image becomes the network's input.

    An image is decoded to `channels` of `dtype`, resized and cropped to `size`, scaled so that full brightness (255
    of uint8, 65535 of uint16, 1 of float32) becomes `value_range[1]` and 0 becomes `value_range[0]`, then normalised
    per channel: `(x - mean) / std`. With `float32` and (0, 1) the values are used unscaled.

    Raises:
        ConfigError: an invalid value, or fields that contradict each other.
    """

    size: Annotated[tuple[Pixels, Pixels], Doc("Input size of the network, (H, W) in pixels.")] = (224, 224)
    crop_mode: Annotated[
        CropMode,
        Doc(
            "Resize and crop rule, as in timm. `center`: resize the shorter side (relative to `size`) to `size / "
            "crop_pct` keeping the aspect ratio, then crop the centre; `squash`: resize to `size / crop_pct` ignoring "
            "the aspect ratio, then crop; `border`: resize to fit inside and pad with the mean colour."
        ),
    ] = "center"
    crop_pct: Annotated[float, Interval(ge=0.01, le=1), Doc("Fraction of the resized image that the crop keeps.")] = (
        0.875
    )
    interpolation: Annotated[Interpolation, Doc("Resampling filter, antialiased as in Pillow.")] = "bilinear"
    channels: Annotated[
        Channels, Doc("Colour channels and their order, or a number of bands, used in the order they are stored.")
    ] = "RGB"
    value_range: Annotated[
        tuple[float, float],
        Doc("Values of 0 and of full brightness before normalisation, such as (0, 1), (0, 255) or (-1, 1)."),
    ] = (0.0, 1.0)
    mean: Annotated[tuple[float, ...], Doc("Mean of each channel, in units of `value_range`.")] = IMAGENET_MEAN
    std: Annotated[
        tuple[Annotated[float, Gt(0)], ...], Doc("Standard deviation of each channel, in units of `value_range`.")
    ] = IMAGENET_STD
    dtype: Annotated[
        Depth, Doc("Depth that images are decoded to. Images of another depth are scaled by full brightness.")
    ] = "uint8"

    def check_rules(self) -> None:
        numbers = (*self.value_range, *self.mean, *self.std)
        if not all(abs(number) <= MAX_VALUE for number in numbers) or min(self.std, default=1) < 1 / MAX_VALUE:
            raise ConfigError(
                f"value_range, mean and std must be finite, and of a size that images have; got {self.value_range}, "
                f"{self.mean} and {self.std}"
            )
        if max(*self.size, *self.resized) > MAX_SIDE:
            raise ConfigError(
                f"an image must have at most {MAX_SIDE:,} pixels a side, before the crop too; got size {self.size} "
                f"with crop_pct {self.crop_pct:g}"
            )
        if self.value_range[0] >= self.value_range[1]:
            raise ConfigError(f"value_range must rise; got {self.value_range}")
        if not len(self.mean) == len(self.std) == self.num_channels:
            raise ConfigError(
                f"mean and std require {self.num_channels} values for channels={self.channels}; "
                f"got {len(self.mean)} and {len(self.std)}"
            )

    @property
    def num_channels(self) -> int:
        """Number of input channels of the network."""
        return self.channels if isinstance(self.channels, int) else len(self.channels)

    @property
    def resized(self) -> tuple[int, int]:
        """(H, W) of `size / crop_pct` in pixels, rounded down as in timm and torchvision."""
        return int(self.size[0] / self.crop_pct), int(self.size[1] / self.crop_pct)

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that identify the fields of `to_dict`."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """Inverse of `to_dict`.

        Raises:
            ConfigError: an unknown or missing field, or an invalid value.
        """
        known = {field.name for field in fields(cls)}
        if known != set(values):
            raise ConfigError(
                f"a preprocessing has the fields {', '.join(sorted(known))}; "
                f"missing {sorted(known - set(values))}, unknown {sorted(set(values) - known)}"
            )
        return cls(**values)
