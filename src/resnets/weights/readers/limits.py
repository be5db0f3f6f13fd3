"""How large the tensors of a file may be, judged before they are read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnets.errors import WeightsError

__all__ = ["as_tensor", "check_sizes"]

RATIO = 16  # weights hardly compress; more than this is a bomb
FLOOR = 2**24  # bytes that any file may stand for


def check_sizes(sizes: Iterable[tuple[str, tuple[int, ...], int]], path: Path, held: int) -> None:
    """Refuse tensors that are far larger than the file that they come from.

    Args:
        sizes: name, shape and bytes an element of each, as the file's headers claim them.
        held: bytes of the file or files.

    Raises:
        WeightsError: they are.
    """
    total = 0
    for name, shape, width in sizes:
        count = width
        for axis in shape:
            count *= int(axis)
        total += count
        if total > max(FLOOR, RATIO * held):
            raise WeightsError(
                f"tensors cannot be larger than their file; {path} claims {tuple(map(int, shape))} for {name}; "
                "it is damaged or hostile; do not use it"
            )


def as_tensor(name: str, array: Any, path: Path) -> Tensor:
    """An array of numbers as a tensor of its own, in native byte order.

    Raises:
        WeightsError: strings, objects or complex numbers.
    """
    array = np.asarray(array)
    if array.dtype.kind not in "biuf":
        raise WeightsError(f"weights are arrays of numbers; {path} has {name} as {array.dtype}; convert it first")
    try:
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    except TypeError:
        raise WeightsError(f"torch has no {array.dtype}; {path} has {name} so; convert it to float32") from None
