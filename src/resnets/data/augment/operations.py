"""The operations that automatic policies choose from, on images of bytes, with Pillow.

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


def operate(name: str, image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    """The image after one operation.

    Args:
        name: a key of `OPERATIONS`.
        image: of mode L or RGB.
        amount: in the operation's own unit.
        fill: 1 or 3 bytes for what comes in from outside the image.
        resample: for shear, shift and rotation.
    """
    return OPERATIONS[name](image, amount, fill, resample)


def _affine(row: tuple[float, ...], image: Image.Image, fill: Colour, resample: Resampling) -> Image.Image:
    """`row` is (a, b, c, d, e, f): what is seen at (x, y) comes from (a x + b y + c, d x + e y + f)."""
    return image.transform(image.size, Image.Transform.AFFINE, row, resample, fillcolor=_colour(fill))


def _colour(fill: Colour) -> int | Colour:
    return fill[0] if len(fill) == 1 else fill


def _shear_x(image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _affine((1, amount, 0, 0, 1, 0), image, fill, resample)


def _shear_y(image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _affine((1, 0, 0, amount, 1, 0), image, fill, resample)


def _translate_x(image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _affine((1, 0, -amount, 0, 1, 0), image, fill, resample)


def _translate_y(image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _affine((1, 0, 0, 0, 1, -amount), image, fill, resample)


def _rotate(image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return image.rotate(amount, resample, fillcolor=_colour(fill))


def _brightness(image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(amount)


def _contrast(image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(amount)


def _colourfulness(image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return ImageEnhance.Color(image).enhance(amount)


def _sharpness(image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(amount)


def _hue(image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    if image.mode == "L":
        return image
    hue, saturation, value = image.convert("HSV").split()
    turned = hue.point(((_LEVELS + int(amount * 255)) % 256).tolist())
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def _posterize(image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _look_up(image, _LEVELS & ~(2 ** (8 - int(amount)) - 1))


def _solarize(image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _look_up(image, np.where(amount > _LEVELS, _LEVELS, 255 - _LEVELS))


def _solarize_add(image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _look_up(image, np.where(_LEVELS < 128, np.minimum(255, _LEVELS + int(amount)), _LEVELS))


def _invert(image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _look_up(image, 255 - _LEVELS)


def _identity(image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return image


def _autocontrast(image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _look_up(image, np.stack([_stretched(counts) for counts in _histogram(image)]))


def _equalize(image: Image.Image, amount: float, fill: Colour, resample: Resampling) -> Image.Image:
    return _look_up(image, np.stack([_equalized(counts) for counts in _histogram(image)]))


def _histogram(image: Image.Image) -> npt.NDArray[np.int64]:
    """(C, 256) pixels of each value in each channel."""
    return np.array(image.histogram(), np.int64).reshape(-1, 256)


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


def _look_up(image: Image.Image, values: npt.NDArray[np.int64]) -> Image.Image:
    """Every value replaced by the one in its place of `values`, (256,) or (C, 256)."""
    bands = len(image.getbands())
    return image.point(np.broadcast_to(values, (bands, 256)).ravel().tolist())


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
