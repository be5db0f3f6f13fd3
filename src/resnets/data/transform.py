"""The transform of a preprocessing: decoded pixels -> the network's input size -> normalised batch.

`prepare` resizes and crops one image with Pillow's antialiased filters, rounding where timm and torchvision do;
images of other depths or bands are filtered band by band in floating point. `normalise` is one multiply-add on a batch,
on any device.

Legend: N batch, C channels, H height, W width.
"""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from resnets.arch.preprocessing import FULL_SCALE, Preprocessing
from resnets.data.decode.bands import PixelChannels, Pixels, to_luma
from resnets.errors import DataError

__all__ = ["decode_channels", "fill_values", "normalise", "prepare", "resize", "to_channels"]

Box = tuple[float, float, float, float]

# Accepted batch types by depth; int32 as well as uint16, for which torch has few operations.
# Where resizing makes this many times the pixels of the crop, just the crop is computed. Not always, as positions of
# the box are rounded to float32, and some pixels then differ by 1 or 2 from torchvision's.
_THIN = 4
_BATCH_DTYPES = {"uint8": (torch.uint8,), "uint16": (torch.uint16, torch.int32), "float32": (torch.float32,)}


def decode_channels(preprocessing: Preprocessing) -> PixelChannels:
    """The `channels` argument for `decode`; `prepare` reorders RGB to BGR. Its `depth` is `preprocessing.dtype`."""
    if isinstance(preprocessing.channels, int):
        return preprocessing.channels
    return "L" if preprocessing.channels == "L" else "RGB"


def fill_values(preprocessing: Preprocessing) -> tuple[float, ...]:
    """The mean colour, which fills borders and cutouts: C stored values of the preprocessing's depth."""
    low, high = preprocessing.value_range
    full = FULL_SCALE[preprocessing.dtype]
    values = tuple((mean - low) / (high - low) * full for mean in preprocessing.mean)
    return values if preprocessing.dtype == "float32" else tuple(min(full, max(0, round(value))) for value in values)


def to_channels(image: Pixels, preprocessing: Preprocessing) -> Pixels:
    """(H, W, 1 or 3) grayscale or RGB pixels in the preprocessing's channel order; bands unchanged.

    Raises:
        DataError: the image has another depth, or another number of bands, than the preprocessing.
    """
    if image.dtype != preprocessing.dtype:
        raise DataError(f"an image must be {preprocessing.dtype}; got {image.dtype}; decode it with that depth")
    if isinstance(preprocessing.channels, int):
        if image.ndim != 3 or image.shape[2] != preprocessing.channels:
            raise DataError(
                f"an image must be (H, W, {preprocessing.channels}); got {image.shape}; decode that many channels"
            )
        return image
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise DataError(f"an image must be (H, W, 1) or (H, W, 3); got {image.shape}; decode it as L or RGB")
    if preprocessing.channels == "L":
        return image if image.shape[2] == 1 else to_luma(image)
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    return image if preprocessing.channels == "RGB" else image[:, :, ::-1]


def prepare(image: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Resize and crop one image.

    Args:
        image: (H, W, 1) grayscale, (H, W, 3) RGB or (H, W, C) bands of `preprocessing.dtype`, as `decode` returns it.
        preprocessing: uses `size`, `crop_mode`, `crop_pct`, `interpolation` and `channels`.

    Returns:
        (H, W, C) of `preprocessing.size` and `preprocessing.dtype`; `image` itself if nothing had to change.
    """
    image = to_channels(image, preprocessing)
    if image.shape[:2] == preprocessing.size == preprocessing.resized:
        return image
    before = _size_before_crop(image.shape[0], image.shape[1], preprocessing)
    if preprocessing.crop_mode == "center" and prod(before) > _THIN * prod(preprocessing.size):
        return _resize_centre(image, before, preprocessing)
    image = resize(image, before, preprocessing)
    fill = fill_values(preprocessing) if preprocessing.crop_mode == "border" else (0,) * preprocessing.num_channels
    return _centre_crop(image, preprocessing.size, fill)


def _resize_centre(image: Pixels, before: tuple[int, int], preprocessing: Preprocessing) -> Pixels:
    """The centre crop of the image resized to `before`, without the rest of it, which may be gigabytes."""
    kept, spans = [], []  # by axis: pixels of the crop, and its (start, end) in pixels of `image`
    for axis, size in enumerate(preprocessing.size):
        kept.append(min(size, before[axis]))
        start, scale = round((before[axis] - kept[axis]) / 2), image.shape[axis] / before[axis]
        spans.append((start * scale, (start + kept[axis]) * scale))
    (top, bottom), (left, right) = spans
    image = resize(image, (kept[0], kept[1]), preprocessing, (left, top, right, bottom))
    return _centre_crop(image, preprocessing.size, (0,) * preprocessing.num_channels)


def resize(image: Pixels, size: tuple[int, int], preprocessing: Preprocessing, box: Box | None = None) -> Pixels:
    """Resize (h, w, C) to `size` = (H, W) with the preprocessing's filter.

    Args:
        box: (left, top, right, bottom) of the part to resize, in fractional pixels.
    """
    if box is None and image.shape[:2] == size:
        return image
    kind = Image.Resampling[preprocessing.interpolation.upper()]
    if image.dtype != np.uint8 or image.shape[2] not in (1, 3):
        return _resize_bands(image, size, kind, box)
    pil_image = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image))
    return np.array(pil_image.resize((size[1], size[0]), kind, box=box)).reshape(*size, image.shape[2])


def _resize_bands(image: Pixels, size: tuple[int, int], kind: Image.Resampling, box: Box | None) -> Pixels:
    """Resize band by band, as Pillow would treat a fourth one as opacity; integers are rounded and clipped."""
    out = np.empty((*size, image.shape[2]), image.dtype)
    for band in range(image.shape[2]):
        plane = np.ascontiguousarray(image[:, :, band])
        pil_image = Image.fromarray(plane if plane.dtype == np.uint8 else plane.astype(np.float32))
        resized = np.asarray(pil_image.resize((size[1], size[0]), kind, box=box))
        out[:, :, band] = np.clip(np.rint(resized), 0, 65535) if image.dtype == np.uint16 else resized
    return out


def _size_before_crop(height: int, width: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """(H, W) before the centre crop, in pixels."""
    target = preprocessing.resized
    if preprocessing.crop_mode == "squash":
        return target
    if preprocessing.crop_mode == "center" and target[0] == target[1]:
        # torchvision's rule: the shorter side is exact, the longer one rounded down.
        if height <= width:
            return target[0], max(1, int(target[0] * width / height))
        return max(1, int(target[1] * height / width)), target[1]
    ratios = (height / target[0], width / target[1])  # timm's rule where H and W differ: the nearest integer
    ratio = max(ratios) if preprocessing.crop_mode == "border" else min(ratios)
    return max(1, round(height / ratio)), max(1, round(width / ratio))


def _centre_crop(image: Pixels, size: tuple[int, int], fill: tuple[float, ...]) -> Pixels:
    """Centre crop of (h, w, C) to `size`, padded with `fill` where it is smaller."""
    for axis in (0, 1):
        missing = size[axis] - image.shape[axis]
        if missing > 0:
            shape = list(image.shape)
            shape[axis] = size[axis]
            padded = np.empty(shape, image.dtype)
            padded[:] = fill
            start = missing // 2
            padded[(slice(None),) * axis + (slice(start, start + image.shape[axis]),)] = image
            image = padded
        elif missing < 0:
            start = round(-missing / 2)  # half to even, as torchvision's center_crop
            image = image[(slice(None),) * axis + (slice(start, start + size[axis]),)]
    return np.ascontiguousarray(image)


_CACHE_VALUES = 2**18  # 1 MiB of float32


def normalise(
    batch: torch.Tensor,
    preprocessing: Preprocessing,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    out: npt.NDArray[np.float32] | None = None,
) -> torch.Tensor:
    """Normalise a batch of stored values: scale to `value_range`, then `(x - mean) / std`.

    Args:
        batch: (N, H, W, C) or (N, C, H, W), of the preprocessing's channels and depth; uint16 may come as int32.
        device: of the computation and the result (default: the batch's).
        dtype: of the result; the arithmetic is in float32.
        out: (N, H, W, C), contiguous: memory for the float32 result, on the CPU only.

    Returns:
        (N, C, H, W) in channels_last memory.
    """
    channels = preprocessing.num_channels
    if (
        batch.dtype not in _BATCH_DTYPES[preprocessing.dtype]
        or batch.ndim != 4
        or channels not in (batch.shape[1], batch.shape[3])
    ):
        raise DataError(
            f"a batch must be {preprocessing.dtype} with {channels} channels, (N, H, W, C) or (N, C, H, W); "
            f"got {batch.dtype} {tuple(batch.shape)}; decode and prepare the images first"
        )
    if batch.shape[3] != channels:
        batch = batch.permute(0, 2, 3, 1)
    if device is not None:
        batch = batch.to(device, non_blocking=True)  # before the conversion to float: fewer bytes to copy
    n, height, width, _ = batch.shape
    scale, shift = _affine(preprocessing)
    # Rows of W * C values make a long, contiguous inner loop; C alone is too short to vectorise.
    rows = batch.contiguous().view(n, height, width * channels)
    if rows.dtype not in (torch.uint8, torch.float32):
        rows = rows.to(torch.float32)
    scales, shifts = (torch.tensor(values * width, device=rows.device) for values in (scale, shift))
    floats = (
        torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
        if out is None
        else torch.from_numpy(out).view(rows.shape)
    )
    # On the CPU, in pieces that fit its cache, so that each operation finds there what the previous one wrote.
    # Converting first is twice as fast as multiplying bytes by floats, with the same result to the bit.
    images = max(1, _CACHE_VALUES // (height * width * channels)) if rows.device.type == "cpu" else max(1, n)
    for piece, part in zip(torch.split(floats, images), torch.split(rows, images), strict=True):
        piece.copy_(part).mul_(scales).add_(shifts)
    return floats.to(dtype).view(n, height, width, channels).permute(0, 3, 1, 2)


def _affine(preprocessing: Preprocessing) -> tuple[list[float], list[float]]:
    """Scale and shift per channel: the network's input is stored value * scale + shift."""
    low, high = preprocessing.value_range
    scale = [(high - low) / FULL_SCALE[preprocessing.dtype] / std for std in preprocessing.std]
    shift = [(low - mean) / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)]
    return scale, shift
