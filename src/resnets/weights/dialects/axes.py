"""Axis orders of torch and TensorFlow, and linear layers stored as convolutions: conversion in both directions.

| role | torch | TensorFlow |
|---|---|---|
| kernel of a convolution | out, in / groups, height, width | height, width, in / groups, out |
| kernel along the channels (ECA) | out, in, taps | taps, in, out |
| matrix of a linear layer | out, in | in, out |
| matrix behind a flattened map | out, (channel, row, column) | (row, column, channel), out |

A file may store a linear layer as a convolution over its whole input (slim's logits, timm's `head.fc` and
`pre_logits.fc1`). Linear layers are recognised by our keys; all other tensors keep their shape.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

__all__ = ["Layout", "Shape", "Shapes", "flattened_chans", "from_torch", "is_matrix", "to_torch", "torch_shape"]

Layout = Literal["torch", "tensorflow"]
Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

MATRIX = re.compile(r"(fc|embedding|classifier\.\d+|.*\.se\.fc\.\d+)\.weight")
BEHIND_A_MAP = ("fc.weight", "classifier.0.weight")
LAST_KERNEL = re.compile(r"(?:features\.(\d+)|layer(\d+)\.(\d+)\.conv(\d))\.weight")
ORDER = {3: (2, 1, 0), 4: (3, 2, 0, 1)}  # of TensorFlow's axes in torch
BACK = {3: (2, 1, 0), 4: (2, 3, 1, 0)}


def is_matrix(key: str) -> bool:
    """Whether our key is that of a linear layer's weight."""
    return MATRIX.fullmatch(key) is not None


def flattened_chans(shapes: Shapes, layout: Layout) -> int:
    """Channels of the feature map before the first linear layer, 0 without a convolution. `shapes`: by our keys."""
    kernels = {
        tuple(int(part) for part in match.groups() if part): shape
        for key, shape in shapes.items()
        if len(shape) == 4 and (match := LAST_KERNEL.fullmatch(key))
    }
    if not kernels:
        return 0
    return kernels[max(kernels)][0 if layout == "torch" else -1]


def torch_shape(key: str, shape: Shape, layout: Layout) -> Shape:
    """The shape that a tensor for `key` has in torch's axis order."""
    if layout == "tensorflow":
        shape = tuple(shape[axis] for axis in ORDER[len(shape)]) if len(shape) in ORDER else shape
        if len(shape) == 2:
            shape = shape[::-1]
    if len(shape) == 4 and is_matrix(key):
        return (shape[0], math.prod(shape[1:]))
    return shape


def to_torch(key: str, tensor: Tensor, layout: Layout, chans: int = 0) -> Tensor:
    """A file's tensor for our key in torch's axis order; a view where possible. `chans`: from `flattened_chans`."""
    if layout == "tensorflow":
        if tensor.ndim in ORDER:
            tensor = tensor.permute(*ORDER[tensor.ndim])
        elif tensor.ndim == 2:
            side = _side(key, tensor.shape[0], chans)
            tensor = tensor.reshape(side, side, chans, -1).permute(3, 2, 0, 1) if side > 1 else tensor.t()
    if tensor.ndim == 4 and is_matrix(key):
        return tensor.flatten(1)
    return tensor


def from_torch(key: str, tensor: Tensor, layout: Layout, chans: int = 0, kernel: int = 0) -> Tensor:
    """The inverse of `to_torch`. `kernel`: side of the convolution that stores a linear layer; 0 for a matrix."""
    if kernel and is_matrix(key):
        tensor = tensor.reshape(tensor.shape[0], -1, kernel, kernel)
    if layout == "torch":
        return tensor
    if tensor.ndim in BACK:
        return tensor.permute(*BACK[tensor.ndim]).contiguous()
    if tensor.ndim == 2:
        side = _side(key, tensor.shape[1], chans)
        if side > 1:
            tensor = tensor.reshape(-1, chans, side, side).permute(0, 2, 3, 1).flatten(1)
        return tensor.t().contiguous()
    return tensor


def _side(key: str, features: int, chans: int) -> int:
    """Side in cells of the flattened map that a matrix reads; 1 where it reads channels alone."""
    if key not in BEHIND_A_MAP or not chans or features % chans:
        return 1
    side = math.isqrt(features // chans)
    return side if side * side * chans == features else 1
