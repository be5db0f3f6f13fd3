"""The operations that automatic policies choose from, on pictures of bytes, with Pillow.

What an operation's amount means is said beside its name in `OPERATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance
from PIL.Image import Resampling

__all__ = ["FILTERS", "OPERATIONS", "operate"]

FILTERS = {
    "nearest": Resampling.NEAREST,
    "bilinear": Resampling.BILINEAR,
    "bicubic": Resampling.BICUBIC,
}
Colour = tuple[int, ...]
Operation = Callable[[Image.Image, float, Colour, Resampling], Image.Image]
_LEVELS = np.arange(256)


def operate(name: str, picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    """The picture after one operation.

    Args:
        name: a key of `OPERATIONS`.
        picture: of mode L or RGB.
        amount: in the operation's own unit.
        fill: 1 or 3 bytes for what comes in from outside the picture.
        resample: for shear, shift and rotation.
    """
    return OPERATIONS[name](picture, amount, fill, resample)


def _affine(row: tuple[float, ...], picture: Image.Image, fill: Colour, resample: Resampling) -> Image.Image:
    """`row` is (a, b, c, d, e, f): what is seen at (x, y) comes from (a x + b y + c, d x + e y + f)."""
    return picture.transform(picture.size, Image.Transform.AFFINE, row, resample, fillcolor=_colour(fill))


def _colour(fill: Colour) -> int | Colour:
    return fill[0] if len(fill) == 1 else fill


def _shear_x(picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _affine((1, amount, 0, 0, 1, 0), picture, fill, resample)


def _shear_y(picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _affine((1, 0, 0, amount, 1, 0), picture, fill, resample)


def _translate_x(picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _affine((1, 0, -amount, 0, 1, 0), picture, fill, resample)


def _translate_y(picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _affine((1, 0, 0, 0, 1, -amount), picture, fill, resample)


def _rotate(picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return picture.rotate(amount, resample, fillcolor=_colour(fill))


def _brightness(picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(amount)


def _contrast(picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return ImageEnhance.Contrast(picture).enhance(amount)


def _colourfulness(picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return ImageEnhance.Color(picture).enhance(amount)


def _sharpness(picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return ImageEnhance.Sharpness(picture).enhance(amount)


def _hue(picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    if picture.mode == "L":
        return picture
    hue, saturation, value = picture.convert("HSV").split()
    turned = hue.point(((_LEVELS + int(amount * 255)) % 256).tolist())
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def _posterize(picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _look_up(picture, _LEVELS & ~(2 ** (8 - int(amount)) - 1))


def _solarize(picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _look_up(picture, np.where(amount > _LEVELS, _LEVELS, 255 - _LEVELS))


def _solarize_add(picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _look_up(picture, np.where(_LEVELS < 128, np.minimum(255, _LEVELS + int(amount)), _LEVELS))


def _invert(picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _look_up(picture, 255 - _LEVELS)


def _identity(picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return picture


def _autocontrast(picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _look_up(picture, np.stack([_stretched(counts) for counts in _histogram(picture)]))


def _equalize(picture: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _look_up(picture, np.stack([_equalized(counts) for counts in _histogram(picture)]))


def _histogram(picture: Image.Image) -> npt.NDArray[np.int64]:
    """(C, 256) pixels of each value in each channel."""
    return np.array(picture.histogram(), np.int64).reshape(-1, 256)


def _stretched(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(256,) new values: the least becomes 0, the greatest 255. Pillow's `autocontrast`, in its order of rounding."""
    present = counts.nonzero()[0]
    low, high = int(present[0]), int(present[-1])
    if high <= low:
        return _LEVELS
    scale = 255.0 / (high - low)
    return (_LEVELS * scale - low * scale).astype(np.int64).clip(0, 255)


def _equalized(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(256,) new values: all about equally frequent. Pillow's `equalize`, in integers as there."""
    present = counts.nonzero()[0]
    step = int(counts.sum() - counts[present[-1]]) // 255
    if step == 0:
        return _LEVELS
    below = np.cumsum(counts) - counts
    return ((step // 2 + below) // step).clip(0, 255)


def _look_up(picture: Image.Image, values: npt.NDArray[np.int64]) -> Image.Image:
    """Every value replaced by the one in its place of `values`, (256,) or (C, 256)."""
    bands = len(picture.getbands())
    return picture.point(np.broadcast_to(values, (bands, 256)).ravel().tolist())


OPERATIONS: dict[str, Operation] = {
    "identity": _identity,
    "shear_x": _shear_x,  # pixels to the left, a pixel down from the top
    "shear_y": _shear_y,  # pixels upwards, a pixel right from the left border
    "translate_x": _translate_x,  # pixels to the right
    "translate_y": _translate_y,  # pixels downwards
    "rotate": _rotate,  # degrees, against the clock, about the centre
    "brightness": _brightness,  # factor: 0 black, 1 as it is
    "contrast": _contrast,  # factor: 0 the mean grey, 1 as it is
    "color": _colourfulness,  # factor: 0 grey, 1 as it is
    "sharpness": _sharpness,  # factor: 0 smoothed, 1 as it is
    "hue": _hue,  # turns of the colour circle, in [-1/2, 1/2]
    "posterize": _posterize,  # bits kept, 0 to 8
    "solarize": _solarize,  # values from this one on are inverted; 256 inverts none
    "solarize_add": _solarize_add,  # added to values below 128
    "autocontrast": _autocontrast,  # no amount
    "equalize": _equalize,  # no amount
    "invert": _invert,  # no amount
}
