"""Images as callers hand them over: paths, encoded bytes, open files, Pillow images, arrays and tensors.

Arrays are (H, W) or (H, W, C), tensors (H, W) or (C, H, W), as Pillow and torchvision have them. Their values are
uint8, uint16, or floating point in 0..1: images, not the normalised input of a network.

Legend: N images, C channels, H height, W width.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from resnets.arch.preprocessing import Preprocessing
from resnets.data.decode.bands import convert_array
from resnets.data.decode.budget import reserving
from resnets.data.decode.image import Pixels, convert_pil, decode
from resnets.data.fetch import fetch_url, is_url
from resnets.data.files import list_images
from resnets.data.transform import decode_channels, prepare
from resnets.errors import DataError, ImageError

__all__ = ["ImageInput", "ImageInputs", "NamedImage", "iter_images", "read_image"]

ImageInput: TypeAlias = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | npt.NDArray[Any] | torch.Tensor
ImageInputs: TypeAlias = "ImageInput | NamedImage | Iterable[ImageInput | NamedImage]"


class NamedImage(NamedTuple):
    """An image, and its name in results and errors: a path, or `images[3]` for the fourth of those in memory."""

    name: Path | str
    content: Any


def iter_images(images: ImageInputs) -> Iterator[NamedImage]:
    """The images that `images` stands for, one by one, as they are needed.

    Args:
        images: an image; a folder, of which all images below are used, sorted; an array (N, H, W, C) or a tensor
            (N, C, H, W); or several of these. Files are not read yet.

    Raises:
        DataError: a path does not exist, or something is no image.
    """
    if _is_single(images):
        yield from _expand(images, "image", "images")
        return
    if not isinstance(images, Iterable):
        raise _no_image(images)
    for position, image in enumerate(images):
        yield from _expand(image, f"images[{position}]", f"images[{position}]")


def _is_single(images: Any) -> bool:
    if isinstance(images, NamedImage):
        return True
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, np.ndarray, torch.Tensor)
    return isinstance(images, kinds) or hasattr(images, "read")


def _expand(image: Any, name: str, several: str) -> Iterator[NamedImage]:
    if isinstance(image, NamedImage):
        yield image
    elif isinstance(image, str) and is_url(image):
        yield NamedImage(image, image)
    elif isinstance(image, str | os.PathLike):
        yield from (NamedImage(path, path) for path in list_images(os.fspath(image)))
    elif isinstance(image, np.ndarray | torch.Tensor) and image.ndim == 4:
        yield from (NamedImage(f"{several}[{i}]", one) for i, one in enumerate(image))
    elif _is_single(image):
        yield NamedImage(getattr(image, "filename", None) or name, image)
    else:
        raise _no_image(image)


def _no_image(image: Any) -> DataError:
    kinds = "a path, bytes, an open file, a Pillow image, an array or a tensor"
    return DataError(f"an image must be {kinds}; got {type(image).__name__}; convert it")


def read_image(image: NamedImage | ImageInput, preprocessing: Preprocessing) -> Pixels:
    """Decode an image, convert it to the channels and depth of the preprocessing, resize and crop it.

    Returns:
        (H, W, C) of `preprocessing.size` and `preprocessing.dtype`.

    Raises:
        ImageError: it cannot be read, decoded or converted; of the wrong shape or type, or outside the value range.
    """
    name, content = image if isinstance(image, NamedImage) else NamedImage("image", image)
    with reserving():
        return prepare(decode_input(content, str(name), preprocessing), preprocessing)


def decode_input(content: Any, name: str, preprocessing: Preprocessing) -> Pixels:
    """(H, W, C) of the preprocessing's channels and depth, of the image's own size; raises ImageError."""
    channels, depth = decode_channels(preprocessing), preprocessing.dtype
    if isinstance(content, Image.Image):
        return convert_pil(content, channels, where=name, depth=depth)
    if isinstance(content, np.ndarray | torch.Tensor):
        try:
            return convert_array(_as_array(content), channels, depth)
        except ValueError as error:
            hint = " (a normalised tensor? call bundle.model with it)" if "must lie in 0..1" in str(error) else ""
            raise ImageError(name, f"{error}{hint}") from error
    if isinstance(content, str) and is_url(content):
        content = fetch_url(content)
    elif hasattr(content, "read"):
        content = content.read()
        if isinstance(content, np.ndarray):  # of a data set that stores pixels
            return decode_input(content, name, preprocessing)
    if isinstance(content, bytearray | memoryview):
        content = bytes(content)
    elif not isinstance(content, bytes | str | Path):
        content = os.fspath(content)
    return decode(content, channels, where=name, depth=depth)


def _as_array(image: npt.NDArray[Any] | torch.Tensor) -> Pixels:
    """(H, W, C) uint8, uint16 or float32; raises ValueError."""
    if isinstance(image, torch.Tensor):
        values = image.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
        if values.ndim == 3 and values.shape[0] > 4 >= values.shape[2]:
            raise ValueError(f"a tensor must be (C, H, W); got {tuple(image.shape)}; permute it, or pass an array")
        pixels = values.permute(1, 2, 0).numpy() if values.ndim == 3 else values.numpy()
    else:
        pixels = image
        if pixels.ndim == 3 and pixels.shape[2] > 4 >= pixels.shape[0]:
            raise ValueError(f"an array must be (H, W, C); got {pixels.shape}; transpose it, or pass a tensor")
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise ValueError(f"an image must have 2 or 3 dimensions, none of them 0; got {tuple(image.shape)}")
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind == "f":
        return pixels.astype(np.float32)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"pixels must be uint8, uint16 or floating point in 0..1; got {image.dtype}; convert them")
    return np.ascontiguousarray(pixels)
