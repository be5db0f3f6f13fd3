"""Running the preprocessing contract: decoded pixels -> the network's input size -> normalised batch.

`prepare` works on one 8-bit picture with Pillow's antialiased filters and rounds where timm and torchvision
round; `normalise` is one multiply-add over a batch, on the batch's device.

Legend: N batch, C channels, H height, W width.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image

from resnets.arch.preprocessing import Preprocessing
from resnets.data.decode import PixelChannels, Pixels, to_luma
from resnets.errors import DataError

__all__ = ["decode_channels", "fill_bytes", "normalise", "prepare", "resize", "to_channels"]

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}
Box = tuple[float, float, float, float]


def decode_channels(contract: Preprocessing) -> PixelChannels:
    """What to ask `decode` for: `prepare` turns RGB into BGR itself."""
    return "L" if contract.channels == "L" else "RGB"


def fill_bytes(contract: Preprocessing) -> tuple[int, ...]:
    """The mean colour as C values of 0..255: what borders and cutouts are filled with."""
    low, high = contract.value_range
    return tuple(min(255, max(0, round((mean - low) / (high - low) * 255))) for mean in contract.mean)


def to_channels(image: Pixels, contract: Preprocessing) -> Pixels:
    """(H, W, 1 or 3) grey or RGB pixels in the contract's channels and their order."""
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise DataError(f"a picture must be (H, W, 1) or (H, W, 3); got {image.shape}; decode it as L or RGB")
    if contract.channels == "L":
        return image if image.shape[2] == 1 else to_luma(np.ascontiguousarray(image))
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    return image if contract.channels == "RGB" else image[:, :, ::-1]


def prepare(image: Pixels, contract: Preprocessing) -> Pixels:
    """One picture resized and cropped as the contract says.

    Args:
        image: (H, W, 1) grey or (H, W, 3) RGB, uint8, as `decode` gives it.
        contract: its `size`, `crop_mode`, `crop_pct`, `interpolation` and `channels` are carried out.

    Returns:
        (H, W, C) uint8 of `contract.size`; the very same array where nothing had to change.
    """
    image = to_channels(image, contract)
    if image.shape[:2] == contract.size == contract.resized:
        return image
    image = resize(image, _resized(image.shape[0], image.shape[1], contract), contract)
    fill = fill_bytes(contract) if contract.crop_mode == "border" else (0,) * contract.num_channels
    return _centre(image, contract.size, fill)


def resize(image: Pixels, size: tuple[int, int], contract: Preprocessing, box: Box | None = None) -> Pixels:
    """(h, w, C) resized to `size` = (H, W) with the contract's filter.

    Args:
        box: (left, top, right, bottom), in pixels and fractions of them; only this part is resized.
    """
    if box is None and image.shape[:2] == size:
        return image
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image))
    picture = picture.resize((size[1], size[0]), _FILTERS[contract.interpolation], box=box)
    return np.array(picture).reshape(*size, image.shape[2])


def _resized(height: int, width: int, contract: Preprocessing) -> tuple[int, int]:
    """(H, W) before the crop, in pixels."""
    target = contract.resized
    if contract.crop_mode == "squash":
        return target
    if contract.crop_mode == "center" and target[0] == target[1]:
        # torchvision's rule: the shorter side is exact, the longer one rounded down.
        if height <= width:
            return target[0], max(1, int(target[0] * width / height))
        return max(1, int(target[1] * height / width)), target[1]
    ratios = (height / target[0], width / target[1])  # timm's rule where H and W differ: the nearest integer
    ratio = max(ratios) if contract.crop_mode == "border" else min(ratios)
    return max(1, round(height / ratio)), max(1, round(width / ratio))


def _centre(image: Pixels, size: tuple[int, int], fill: tuple[int, ...]) -> Pixels:
    """The centre of (h, w, C) cut out, or laid on `fill`, so that it has `size`."""
    for axis in (0, 1):
        missing = size[axis] - image.shape[axis]
        if missing > 0:
            shape = list(image.shape)
            shape[axis] = size[axis]
            padded = np.empty(shape, np.uint8)
            padded[:] = fill
            start = missing // 2
            padded[(slice(None),) * axis + (slice(start, start + image.shape[axis]),)] = image
            image = padded
        elif missing < 0:
            start = round(-missing / 2)  # half to even, as torchvision's center_crop
            image = image[(slice(None),) * axis + (slice(start, start + size[axis]),)]
    return np.ascontiguousarray(image)


def normalise(
    batch: torch.Tensor,
    contract: Preprocessing,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """A batch of bytes as the network's input: scaled to `value_range`, then `(x - mean) / std`.

    Args:
        batch: (N, H, W, C) or (N, C, H, W) uint8, already of the contract's channels.
        device: where to compute, and where the result lies; by default where the batch is.
        dtype: of the result; the arithmetic is in float32.

    Returns:
        (N, C, H, W) in channels_last memory.
    """
    channels = contract.num_channels
    if batch.dtype != torch.uint8 or batch.ndim != 4 or channels not in (batch.shape[1], batch.shape[3]):
        raise DataError(
            f"a batch must be uint8 with {channels} channels, (N, H, W, C) or (N, C, H, W); "
            f"got {batch.dtype} {tuple(batch.shape)}; decode and prepare the pictures first"
        )
    if batch.shape[3] != channels:
        batch = batch.permute(0, 2, 3, 1)
    if device is not None:
        batch = batch.to(device, non_blocking=True)  # bytes travel, not floats
    n, height, width, _ = batch.shape
    scale, shift = _affine(contract)
    # Rows of W * C numbers, so that the inner loop is long and contiguous (C alone is too short to vectorise).
    rows = batch.contiguous().view(n, height, width * channels)
    rows = torch.mul(rows, torch.tensor(scale * width, device=rows.device))  # float32, without a pass to convert
    rows.add_(torch.tensor(shift * width, device=rows.device))
    return rows.to(dtype).view(n, height, width, channels).permute(0, 3, 1, 2)


def _affine(contract: Preprocessing) -> tuple[list[float], list[float]]:
    """Scale and shift by channel: byte * scale + shift is what the network sees."""
    low, high = contract.value_range
    assert math.isfinite(high - low)
    scale = [(high - low) / 255 / std for std in contract.std]
    shift = [(low - mean) / std for mean, std in zip(contract.mean, contract.std, strict=True)]
    return scale, shift
