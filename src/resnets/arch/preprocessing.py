"""The preprocessing as data: what happens between a decoded image and the network.

One `Preprocessing` is run by training, validation, prediction, export and service alike (`data.transform`
runs it); its hash stands in every artefact and is checked on load. No torch here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from resnets.errors import ConfigError

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
]

CropMode = Literal["center", "squash", "border"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "lanczos"]
ChannelOrder = Literal["RGB", "BGR", "L"]
Channels = ChannelOrder | int
Depth = Literal["uint8", "uint16", "float32"]

# The stored value that stands for full brightness, by depth.
FULL_SCALE: dict[Depth, float] = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes the network's input.

    An image is decoded to `channels` of `dtype`, resized and cropped to `size`, scaled so that full brightness (255
    of uint8, 65535 of uint16, 1 of float32) becomes `value_range[1]` and 0 becomes `value_range[0]`, then normalised
    per channel: `(x - mean) / std`. With `float32` and (0, 1) the values are taken as they are.

    Args:
        size: (H, W) of the network's input, in pixels.
        crop_mode: timm's words. `center`: the shorter side (relative to `size`) is resized to `size / crop_pct`
            keeping the aspect ratio, then the centre is cut out; `squash`: resized to `size / crop_pct` without
            keeping it, then cut; `border`: resized to fit inside and padded with the mean colour.
        crop_pct: share of the resized image that the crop keeps, in (0, 1].
        interpolation: the resampling filter (antialiased, as Pillow's).
        channels: what a pixel holds, and in which order; or how many bands, taken as they are stored.
        value_range: what 0 and full brightness become before mean and std: (0, 1), (0, 255), (-1, 1).
        mean, std: one value a channel, in units of `value_range`.
        dtype: the depth that images are decoded to. Those of another depth are scaled: full brightness stays full.
    """

    size: tuple[int, int] = (224, 224)
    crop_mode: CropMode = "center"
    crop_pct: float = 0.875
    interpolation: Interpolation = "bilinear"
    channels: Channels = "RGB"
    value_range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    dtype: Depth = "uint8"

    def __post_init__(self) -> None:
        # Lists (from JSON) become tuples, so that equality and the hash do not depend on where it came from.
        for name, kind in (("size", int), ("value_range", float), ("mean", float), ("std", float)):
            object.__setattr__(self, name, tuple(kind(value) for value in getattr(self, name)))
        object.__setattr__(self, "crop_pct", float(self.crop_pct))
        if len(self.size) != 2 or min(self.size) < 1:
            raise ConfigError(f"size must be (height, width) of at least 1; got {self.size}")
        for name, allowed in (
            ("crop_mode", CropMode),
            ("interpolation", Interpolation),
            ("dtype", Depth),
        ):
            if getattr(self, name) not in get_args(allowed):
                raise ConfigError(f"{name} must be one of {', '.join(get_args(allowed))}; got {getattr(self, name)!r}")
        bands = type(self.channels) is int and self.channels >= 1
        if not bands and self.channels not in get_args(ChannelOrder):
            orders = ", ".join(get_args(ChannelOrder))
            raise ConfigError(f"channels must be one of {orders} or a number of bands; got {self.channels!r}")
        if not 0 < self.crop_pct <= 1:
            raise ConfigError(f"crop_pct must be in (0, 1]; got {self.crop_pct}")
        if self.value_range[0] >= self.value_range[1]:
            raise ConfigError(f"value_range must rise; got {self.value_range}")
        if not len(self.mean) == len(self.std) == self.num_channels:
            raise ConfigError(
                f"mean and std need {self.num_channels} values for {self.channels}; "
                f"got {len(self.mean)} and {len(self.std)}"
            )
        if min(self.std) <= 0:
            raise ConfigError(f"std must be positive; got {self.std}")

    @property
    def num_channels(self) -> int:
        """How many channels the network sees."""
        return self.channels if isinstance(self.channels, int) else len(self.channels)

    @property
    def resized(self) -> tuple[int, int]:
        """(H, W) that `size / crop_pct` comes to, in pixels, rounded down as timm and torchvision do."""
        return int(self.size[0] / self.crop_pct), int(self.size[1] / self.crop_pct)

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that stand for exactly the fields of `to_dict`."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them; those of `_LATER` only where they are not as always."""
        fields = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {key: value for key, value in fields.items() if key not in _LATER or value != _LATER[key]}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Preprocessing:
        """The preprocessing that `to_dict` wrote.

        Raises:
            ConfigError: an unknown or missing field, or a value that breaks a rule.
        """
        known = set(cls.__dataclass_fields__)
        missing = known - set(fields) - set(_LATER)
        if missing or set(fields) - known:
            raise ConfigError(
                f"a preprocessing has the fields {', '.join(sorted(known))}; "
                f"missing {sorted(missing)}, unknown {sorted(set(fields) - known)}"
            )
        return cls(**fields)


# Fields that preprocessing saved by version 0.1 lack, and what they mean there: their hashes must stay what they are.
_LATER = {"dtype": "uint8"}
