"""Parquet shards in the Hugging Face layout: a column of encoded images, one of labels, and optionally `group`.

A row group is read when one of its images is needed, and the latest are cached. Shuffled training on shards larger
than `CACHE_BYTES` reads a row group for almost every image, so row groups should be small (100 rows).
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from resnets.data.dataset import Dataset, Problem
from resnets.data.decode.image import Pixels
from resnets.data.files import is_clutter
from resnets.data.sources.build import RowTable, dataset_name, missing_shards, split_of_shard
from resnets.data.sources.parquet_schema import Columns, find_columns
from resnets.errors import DataError, ImageError, require_extra

__all__ = ["CACHE_BYTES", "ParquetSource", "find_parquet", "import_pyarrow", "open_parquet"]

CACHE_BYTES = 512 * 2**20
MAX_GROUP_BYTES = 2**30  # images of one row group, decompressed
MAX_LABELS_BYTES = 2**30  # labels and groups of a shard, decompressed
MAX_LABEL = 4096  # bytes, as of a path
BATCH = 256  # rows of labels and groups that are decoded at a time


def import_pyarrow(what: str) -> Any:
    """`pyarrow`, with `pyarrow.parquet`.

    Raises:
        MissingExtraError: it is not installed; `what` needs it.
    """
    with require_extra(what, "data"):
        import pyarrow.parquet
    return pyarrow


def find_parquet(root: Path) -> list[Path]:
    """The `.parquet` files of a file or folder, sorted by path, without clutter.

    Raises:
        DataError: one of them is a broken link; without it, images would be missing.
    """
    if root.is_file():
        return [root] if root.suffix.lower() == ".parquet" else []
    found = sorted(path.relative_to(root) for path in root.glob("**/*.parquet"))
    shards = [root / path for path in found if not any(is_clutter(part) for part in path.parts)]
    if broken := next((path for path in shards if path.is_symlink() and not path.exists()), None):
        raise DataError(f"every shard must exist; {broken} is a link to nothing, or to itself; correct or remove it")
    return [path for path in shards if path.is_file()]


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
            with _open_images(self.shards[shard], self.column) as file:
                size = _stored_bytes(file.metadata, [self.column], groups=[int(group)])
                if size > MAX_GROUP_BYTES:
                    raise ImageError(self.name(row), f"its row group holds {size / 2**30:.1f} GiB; write smaller ones")
                self._make_room(size)
                # Without pyarrow's threads: data loading has workers already.
                table = file.read_row_group(int(group), columns=[self.column], use_threads=False)
            column = table.column(0)
            column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # a copy
        except ImageError:
            raise
        except MemoryError as error:  # pyarrow's too
            raise ImageError(self.name(row), "its row group takes more memory than is free") from error
        except (OSError, ValueError) as error:
            raise ImageError(self.name(row), f"its row group cannot be read: {error}".splitlines()[0]) from error
        if column.type.num_fields:  # struct {bytes, path}
            column = column.field("bytes")
        self._make_room(column.nbytes)
        self._cache[place] = column
        self.cached_bytes += column.nbytes
        return column

    def _make_room(self, size: int) -> None:
        """Drop the oldest row groups, so that one of this size fits."""
        while self._cache and self.cached_bytes + size > CACHE_BYTES:
            self.cached_bytes -= self._cache.popitem(last=False)[1].nbytes


def open_parquet(root: Path, shards: list[Path]) -> Dataset:
    """Open Parquet shards; splits are taken from their names.

    Raises:
        DataError: a shard is damaged, has no image or label column, or other columns than the others.
    """
    parquet = import_pyarrow("Parquet data").parquet
    row_groups: list[list[int]] = []
    rows = RowTable()
    columns: Columns | None = None
    for shard in shards:
        try:
            with parquet.ParquetFile(shard) as file:
                found = find_columns(file.schema_arrow, shard)
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
            _add_rows(rows, shard, found, split_of_shard(shard, root))
        except DataError:
            raise
        except MemoryError as error:  # pyarrow's too
            raise DataError(f"a shard must fit into memory; {shard} does not; write smaller ones") from error
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"a shard must be a Parquet file; {shard}: {str(error).splitlines()[0]}; download it again"
            ) from error
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


def _open_images(shard: str, column: str) -> Any:
    """An opened shard, in which an image that stands in many rows is kept once, as in the file.

    Raises:
        ValueError: images that share beginnings (DELTA_BYTE_ARRAY), whose size only decoding would show.
    """
    parquet = import_pyarrow("Parquet data").parquet
    with parquet.ParquetFile(shard) as file:
        encodings = {encoding for chunk in _chunks(file.metadata, [column]) for encoding in chunk.encodings}
    if "DELTA_BYTE_ARRAY" in encodings:
        raise ValueError(f"{column} is encoded as DELTA_BYTE_ARRAY, which has no size; write it with another encoding")
    delta = any(encoding.startswith("DELTA") for encoding in encodings)  # pyarrow makes no dictionary of these
    return parquet.ParquetFile(shard, read_dictionary=None if delta else [column])


def _chunks(metadata: Any, columns: list[str], groups: Iterable[int] | None = None) -> Iterator[Any]:
    """Metadata of the stored chunks of some columns."""
    for group in range(metadata.num_row_groups) if groups is None else groups:
        stored = metadata.row_group(group)
        for index in range(stored.num_columns):
            chunk = stored.column(index)
            if chunk.path_in_schema in columns:
                yield chunk


def _stored_bytes(metadata: Any, columns: list[str], groups: Iterable[int] | None = None) -> int:
    return sum(chunk.total_uncompressed_size for chunk in _chunks(metadata, columns, groups))


def _add_rows(rows: RowTable, shard: Path, columns: Columns, split: str) -> None:
    """Add the labels and groups of a shard; raises DataError and pyarrow's errors."""
    wanted = [name for name in columns.names[1:] if name is not None]
    with import_pyarrow("Parquet data").parquet.ParquetFile(shard) as file:
        size = _stored_bytes(file.metadata, wanted)
        if size > MAX_LABELS_BYTES:
            raise DataError(f"labels are short; {shard} has {size / 2**30:.1f} GiB of them; write names or numbers")
        row = 0
        for batch in file.iter_batches(BATCH, columns=wanted, use_threads=False):
            for name in wanted:
                _require_short(batch.column(name), f"{shard}: {name}")
            labels, *others = (batch.column(name).to_pylist() for name in wanted)
            for label, group in zip(labels, others[0] if others else itertools.repeat(None), strict=False):
                rows.add(_clean_label(label, f"{shard}#{row}"), split, None if group == "" else group)
                row += 1


def _require_short(column: Any, where: str) -> None:
    """Raise DataError for texts that nobody would write as a label or group."""
    from pyarrow import compute, types

    kind = column.type
    if types.is_dictionary(kind):
        column, kind = column.dictionary, kind.value_type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind):
        return
    longest = compute.max(compute.binary_length(column)).as_py() or 0
    if longest > MAX_LABEL:
        raise DataError(f"a label or group has at most {MAX_LABEL:,} bytes; {where} has one of {longest:,}; shorten it")


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
