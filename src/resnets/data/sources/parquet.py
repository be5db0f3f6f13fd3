"""Parquet shards in the Hugging Face layout: a column of encoded images, one of labels, and optionally `group`.

A row group is read when one of its images is needed, and the latest are cached. Shuffled training on shards larger
than `CACHE_BYTES` reads a row group for almost every image, so row groups should be small (100 rows).
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnets.data.dataset import Dataset, Problem
from resnets.data.decode.image import Pixels
from resnets.data.files import is_clutter
from resnets.data.sources.build import RowTable, dataset_name, missing_shards, split_of_shard
from resnets.errors import DataError, ImageError, require_extra

__all__ = ["CACHE_BYTES", "ParquetSource", "find_parquet", "open_parquet"]

CACHE_BYTES = 512 * 2**20
MAX_GROUP_BYTES = 2 * 2**30  # images of one row group, decompressed
_IMAGE_COLUMNS = ("image", "img", "images")
_GROUP_COLUMN = "group"
_LABEL_COLUMNS = ("label", "labels", "class", "fine_label", "target")


def _pyarrow() -> Any:
    with require_extra("Parquet data", "data"):
        import pyarrow.parquet
    return pyarrow.parquet


def find_parquet(root: Path) -> list[Path]:
    """The `.parquet` files of a file or folder, sorted by path, without clutter."""
    if root.is_file():
        return [root] if root.suffix.lower() == ".parquet" else []
    found = (path.relative_to(root) for path in root.glob("**/*.parquet"))
    return [root / path for path in sorted(found) if not any(is_clutter(part) for part in path.parts)]


class ParquetSource:
    """Rows of several shards, numbered consecutively; thread-safe, and pickled without its cache.

    Args:
        shards: paths.
        groups: rows of each row group of each shard.
        column: of the image bytes.
    """

    def __init__(self, shards: list[Path], groups: list[list[int]], column: str) -> None:
        self.shards, self.column = [str(shard) for shard in shards], column
        sizes = [(shard, group, rows) for shard, counts in enumerate(groups) for group, rows in enumerate(counts)]
        self._groups = np.array([(shard, group) for shard, group, _ in sizes], np.int64).reshape(-1, 2)
        self._starts = np.cumsum([0, *(rows for *_, rows in sizes)], dtype=np.int64)  # (row groups + 1,)
        self._shard_starts = np.cumsum([0, *map(sum, groups)], dtype=np.int64)
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, Any] = OrderedDict()
        self.cached_bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_cache")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def name(self, row: int) -> str:
        """`path/shard.parquet#row`, the row counted from 0 in its shard."""
        shard = int(np.searchsorted(self._shard_starts, row, side="right")) - 1
        return f"{self.shards[shard]}#{row - self._shard_starts[shard]}"

    def read(self, row: int) -> bytes | Pixels:
        """The encoded image of a row; raises ImageError."""
        place = int(np.searchsorted(self._starts, row, side="right")) - 1
        with self._lock:
            column = self._cache.get(place)
            if column is None:
                column = self._load(place, row)
            else:
                self._cache.move_to_end(place)
        value = column[row - int(self._starts[place])].as_py()
        if not value:
            raise ImageError(self.name(row), "the row holds no image bytes")
        return bytes(value)

    def _load(self, place: int, row: int) -> Any:
        shard, group = self._groups[place]
        try:
            # As a dictionary, an image that stands in many rows is kept once, as in the file.
            with _pyarrow().ParquetFile(self.shards[shard], read_dictionary=[self.column]) as file:
                stored = file.metadata.row_group(int(group))
                size = sum(
                    stored.column(i).total_uncompressed_size
                    for i in range(stored.num_columns)
                    if stored.column(i).path_in_schema == self.column
                )
                if size > MAX_GROUP_BYTES:
                    raise ImageError(self.name(row), f"its row group holds {size / 2**30:.1f} GiB; write smaller ones")
                # Without pyarrow's threads: data loading has workers already.
                table = file.read_row_group(int(group), columns=[self.column], use_threads=False)
        except ImageError:
            raise
        except (OSError, ValueError) as error:
            raise ImageError(self.name(row), f"its row group cannot be read: {error}".splitlines()[0]) from error
        column = table.column(0).combine_chunks()
        if column.type.num_fields:  # struct {bytes, path}
            column = column.field("bytes")
        self._cache[place] = column
        self.cached_bytes += column.nbytes
        while self.cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            self.cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return column


def open_parquet(root: Path, shards: list[Path]) -> Dataset:
    """Open Parquet shards; splits are taken from their names.

    Raises:
        DataError: a shard is damaged, has no image or label column, or other columns than the others.
    """
    parquet = _pyarrow()
    row_groups: list[list[int]] = []
    rows = RowTable()
    columns: _Columns | None = None
    for shard in shards:
        try:
            with parquet.ParquetFile(shard) as file:
                found = _find_columns(file.schema_arrow, shard)
                columns = columns or found
                if columns.used != found.used:
                    raise DataError(
                        f"shards must have the same columns; {shard} has {found.used}, others {columns.used}; write "
                        "them alike"
                    )
                columns.class_names = columns.class_names or found.class_names
                meta = file.metadata
                if meta.num_rows > (size := os.path.getsize(shard)):
                    raise DataError(
                        f"a shard must hold an image in each row; {shard} has {size:,} bytes for {meta.num_rows:,} "
                        "rows; download it again"
                    )
                row_groups.append([meta.row_group(group).num_rows for group in range(meta.num_row_groups)])
                wanted = [name for name in found.names[1:] if name is not None]
                table = file.read(columns=wanted, use_threads=False)
                labels, *others = (table.column(name).to_pylist() for name in wanted)
        except DataError:
            raise
        except (OSError, ValueError) as error:
            raise DataError(
                f"a shard must be a Parquet file; {shard}: {str(error).splitlines()[0]}; download it again"
            ) from error
        split = split_of_shard(shard, root)
        for row, (label, group) in enumerate(zip(labels, others[0] if others else [None] * len(labels), strict=True)):
            rows.add(_clean_label(label, f"{shard}#{row}"), split, None if group == "" else group)
    if columns is None or not len(rows):
        raise DataError(f"a data set must have images; the shards of {root} have no rows; download them again")
    unlabelled = rows.unlabelled
    if unlabelled == len(rows):
        raise DataError(f"a data set must have labels; no row of {root} has one; check its {columns.names[1]} column")
    problems = missing_shards(shards, r"(.+)-(\d+)-of-(\d+)")
    if unlabelled:
        reason = f"{unlabelled} rows have no label, left out"
        problems.append(Problem(kind="unlabelled", where=str(root), reason=reason))
    source = ParquetSource(shards, row_groups, columns.image_bytes)
    grouped, where = columns.names[2] is not None, f"{root}'s metadata"
    return rows.build(source, dataset_name(root), columns.class_names, where=where, grouped=grouped, problems=problems)


@dataclass
class _Columns:
    """Columns of a shard.

    Args:
        names: of the image, label and group column; None without groups.
        image_bytes: what to read for images: `image.bytes` of a struct, else the column itself.
        class_names: from Hugging Face's metadata.
    """

    names: tuple[str, str, str | None]
    image_bytes: str
    class_names: list[str] | None

    @property
    def used(self) -> tuple[str | None, ...]:
        """The columns that are read."""
        return self.image_bytes, *self.names[1:]


def _find_columns(schema: Any, shard: Path) -> _Columns:
    features = _huggingface_features(schema)
    image = [n for n, f in features.items() if f.get("_type") == "Image"] + [
        n for n in _IMAGE_COLUMNS if n in schema.names
    ]
    label = [n for n, f in features.items() if f.get("_type") == "ClassLabel"]
    label = [n for n in _LABEL_COLUMNS if n in label] + label + [n for n in _LABEL_COLUMNS if n in schema.names]
    if not image or not label:
        what = "image column (image)" if not image else "label column (label)"
        raise DataError(f"a Parquet data set must have one {what}; {shard} has {', '.join(schema.names)}; rename one")
    group = _GROUP_COLUMN if _GROUP_COLUMN in schema.names else None
    for column in filter(None, (label[0], group)):
        if schema.field(column).type.num_fields:
            raise DataError(
                f"a row must have one {column}, a whole number or a text; {shard} has {column!r} of type "
                f"{schema.field(column).type}; write one value per row"
            )
    feature = features.get(label[0], {})
    names = feature.get("names") or (feature.get("feature") or {}).get("names")
    class_names = [str(name) for name in names] if isinstance(names, list) else None
    return _Columns((image[0], label[0], group), _image_bytes_column(schema, image[0], shard), class_names)


def _image_bytes_column(schema: Any, image: str, shard: Path) -> str:
    from pyarrow import types

    kind = schema.field(image).type
    struct = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    held = kind.field("bytes").type if struct else kind
    held = held.value_type if types.is_dictionary(held) else held
    binary = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    if not any(check(held) for check in binary):
        raise DataError(
            f"images must be stored as bytes; {shard} has {image!r} of type {kind}; write the files' content, or "
            "pass a table path,label"
        )
    return f"{image}.bytes" if struct else image


def _huggingface_features(schema: Any) -> dict[str, Any]:
    """Hugging Face's description of each column, from the schema's metadata; empty without one."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return {key: value for key, value in features.items() if isinstance(value, dict)}


def _clean_label(value: Any, where: str) -> Any:
    """A label as number or text; None for a row without one: null, NaN or -1."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"a label must be UTF-8 text; that of {where} is not; write it again") from error
    if isinstance(value, str) and not value.strip():
        raise DataError(f"a label must not be empty; that of {where} is; fill it in, or make it null")
    return None if value != value or value == -1 else value
