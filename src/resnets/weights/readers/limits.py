"""Checks and conversions that all readers share: sizes before anything is read, arrays to tensors, error texts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnets.errors import WeightsError

__all__ = ["as_tensor", "check_sizes", "one_line"]

RATIO = 16  # weights hardly compress; a higher ratio is a decompression bomb
FLOOR = 2**24  # bytes that any file may expand to


def check_sizes(sizes: Iterable[tuple[str, tuple[int, ...], int]], path: Path, held: int) -> None:
    """Reject tensors that are far larger than the file that they come from.

    Args:
        sizes: name, shape and bytes per element of each, as the file's headers state them.
        path: the file, for the message.
        held: bytes of the file or files."""
    total = 0
    for name, shape, width in sizes:
        total += math.prod(map(int, shape), start=width)
        if total > max(FLOOR, RATIO * held):
            raise WeightsError(
                f"tensors cannot be larger than their file; {path} claims {tuple(map(int, shape))} for {name}; "
                "it is damaged or hostile; do not use it"
            )


def as_tensor(name: str, array: Any, where: Path | str) -> Tensor:
    """A copy of an array as a tensor, in native byte order."""
    array = np.asarray(array)
    if array.dtype.kind not in "biuf":
        raise WeightsError(f"weights are arrays of numbers; {name} in {where} is {array.dtype}; convert it first")
    try:
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    except TypeError:
        raise WeightsError(f"torch has no {array.dtype}; {where} has {name} so; convert it to float32") from None


def one_line(error: Exception) -> str:
    """Type and first words of another library's error, for a message of one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
