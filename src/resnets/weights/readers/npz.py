"""Reader of NumPy's `.npz`: a zip of arrays, read without pickle."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from torch import Tensor

from resnets.errors import WeightsError
from resnets.weights.readers.limits import as_tensor, check_sizes, one_line

__all__ = ["read_npz"]

MAX_HEADER = 10_000  # bytes, as numpy's own limit, which it applies when it has read them


def read_npz(path: Path) -> dict[str, Tensor]:
    """Read the arrays of an archive by name. Headers come first: no array is allocated that the file cannot hold."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            headers = {entry.filename.removesuffix(".npy"): _header(archive, entry, path) for entry in entries}
            if len(headers) != len(entries):
                raise WeightsError(f"each name has one array; {path} has some twice; save it again")
            sizes = [(name, shape, dtype.itemsize) for name, (shape, dtype) in headers.items()]
            check_sizes(sizes, path, path.stat().st_size)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: as_tensor(name, arrays[name], path) for name in arrays.files}
    except WeightsError:
        raise
    except Exception as error:  # damaged archives and headers raise any type
        raise WeightsError(
            f"{path} is damaged or no .npz of arrays; {one_line(error)}; copy or download it again"
        ) from None


def _header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type in an entry's header."""
    with archive.open(entry) as file:
        version = npy.read_magic(file)
        first = version == (1, 0)
        size = file.read(2 if first else 4)
        length = int.from_bytes(size, "little")
        if length > MAX_HEADER:
            raise ValueError(f"{entry.filename} has a header of {length:,} bytes")
        read = npy.read_array_header_1_0 if first else npy.read_array_header_2_0
        shape, _, dtype = read(io.BytesIO(size + file.read(length)))
        start = npy.MAGIC_LEN + len(size) + length
    if dtype.hasobject:
        raise WeightsError(
            f"reading {path} would run code ({entry.filename} is a pickle), which is never allowed; "
            "save arrays of numbers alone"
        )
    if start + int(np.prod(shape, dtype=object)) * dtype.itemsize != entry.file_size:
        raise ValueError(f"{entry.filename} is not of the size in its header, {shape}")
    return shape, dtype
