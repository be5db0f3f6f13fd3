"""Parquet shards in the Hugging Face layout: a column of encoded images, one of labels, and `group` if there is one.

Row groups are read when an image of theirs is asked for, and the latest are kept; training that shuffles over
shards larger than `CACHE_BYTES` reads whole row groups for single images, so keep row groups small (100 rows).
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from resnets.data.dataset import SPLITS, Dataset, ImageSet, Problem
from resnets.data.decode.image import Pixels
from resnets.data.names import class_order
from resnets.data.sources.folder import hidden, split_of
from resnets.errors import DataError, ImageError, MissingExtraError

__all__ = ["CACHE_BYTES", "ParquetSource", "open_parquet", "shards_in", "split_of_shard"]

CACHE_BYTES = 512 * 2**20
_IMAGE_COLUMNS = ("image", "img", "images", "image")
_GROUP_COLUMN = "group"
_LABEL_COLUMNS = ("label", "labels", "class", "fine_label", "target")


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("Parquet data", "data") from error
    return pyarrow.parquet


def shards_in(root: Path) -> list[Path]:
    """The `.parquet` files of a file or folder, sorted by path; clutter is passed over."""
    if root.is_file():
        return [root] if root.suffix.lower() == ".parquet" else []
    found = (path.relative_to(root) for path in root.glob("**/*.parquet"))
    return [root / path for path in sorted(found) if not any(hidden(part) for part in path.parts)]


class ParquetSource:
    """Rows of several shards, numbered through; safe in threads, and pickled without what it has read."""

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
        self._cached_bytes = 0

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
            with _pyarrow().ParquetFile(self.shards[shard]) as file:
                # One column of one group, without pyarrow's threads: data loading has its own.
                table = file.read_row_group(int(group), columns=[self.column], use_threads=False)
        except (OSError, ValueError) as error:
            raise ImageError(self.name(row), f"its row group cannot be read: {error}".splitlines()[0]) from error
        column = table.column(0).combine_chunks()
        if column.type.num_fields:  # struct {bytes, path}
            column = column.field("bytes")
        self._cache[place] = column
        self._cached_bytes += column.nbytes
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return column


def open_parquet(root: Path, shards: list[Path]) -> Dataset:
    """The splits and classes of Parquet shards; without a val split where no shard is named so.

    Raises:
        DataError: the shards are damaged, differ in columns, or have no image or label column.
    """
    parquet = _pyarrow()
    groups: list[list[int]] = []
    labels: list[Any] = []
    of_group: list[Any] = []
    columns: tuple[str, str, str | None] | None = None
    leaf = ""
    names: list[str] | None = None
    for shard in shards:
        try:
            with parquet.ParquetFile(shard) as file:
                found = _columns(file.schema_arrow, shard)
                if columns not in (None, found):
                    raise DataError(
                        f"shards must have the same columns; {shard} has {found}, others {columns}; split them"
                    )
                if leaf not in ("", _leaf(file.schema_arrow, found[0], shard)):
                    raise DataError(
                        f"shards must have the same columns; {found[0]!r} of {shard} is of type "
                        f"{file.schema_arrow.field(found[0]).type}, that of others not; write them alike"
                    )
                leaf = _leaf(file.schema_arrow, found[0], shard)
                for column in filter(None, found[1:]):
                    _require_flat(file.schema_arrow, column, shard)
                columns, names = found, names or _class_names(file.schema_arrow, found[1])
                meta = file.metadata
                groups.append([meta.row_group(group).num_rows for group in range(meta.num_row_groups)])
                labels += file.read(columns=[found[1]], use_threads=False).column(0).to_pylist()
                if found[2] is not None:
                    of_group += file.read(columns=[found[2]], use_threads=False).column(0).to_pylist()
        except (OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"a shard must be a Parquet file; {shard}: {str(error).splitlines()[0]}; fetch it again"
            ) from error
    if columns is None or not labels:
        raise DataError(f"a data set needs images; the shards of {root} have no rows; fetch them again")
    source = ParquetSource(shards, groups, leaf)
    classes, indices = _labels(_stated(labels, source), names, root)
    together = _groups(of_group) if columns[2] is not None else None
    of_row = np.repeat([split_of_shard(shard, root) for shard in shards], [sum(counts) for counts in groups])
    problems = _missing_shards(shards)
    if (indices < 0).any():
        count = int((indices < 0).sum())
        problems.append(Problem(kind="unlabelled", where=str(root), reason=f"{count} rows have no label, left out"))
    splits = {}
    for split in SPLITS:
        rows = np.flatnonzero((of_row == split) & (indices >= 0))
        if len(rows):
            own = None if together is None else together[rows]
            splits[split] = ImageSet(source=source, rows=rows, labels=indices[rows], groups=own)
    if not splits:
        raise DataError(f"a data set needs labels; no row of {root} has one; look at its {columns[1]} column")
    name = root.stem if root.is_file() else root.resolve().name
    return Dataset(name=name, classes=classes, splits=splits, problems=tuple(problems))


def _columns(schema: Any, shard: Path) -> tuple[str, str, str | None]:
    """Names of the image, of the label and of the group column, if there is one."""
    features = _features(schema)
    image = [n for n, f in features.items() if f.get("_type") == "Image"] + [
        n for n in _IMAGE_COLUMNS if n in schema.names
    ]
    label = [n for n, f in features.items() if f.get("_type") == "ClassLabel"]
    label = [n for n in _LABEL_COLUMNS if n in label] + label + [n for n in _LABEL_COLUMNS if n in schema.names]
    if not image or not label:
        what = "image column (image)" if not image else "label column (label)"
        raise DataError(f"a Parquet data set must have one {what}; {shard} has {', '.join(schema.names)}; rename one")
    return image[0], label[0], _GROUP_COLUMN if _GROUP_COLUMN in schema.names else None


def _leaf(schema: Any, image: str, shard: Path) -> str:
    """What to ask the reader for: only `image.bytes` of a struct, else the column itself."""
    from pyarrow import types

    kind = schema.field(image).type
    struct = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    held = kind.field("bytes").type if struct else kind
    held = held.value_type if types.is_dictionary(held) else held
    binary = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    if not any(check(held) for check in binary):
        raise DataError(
            f"images must be stored as bytes; {shard} has {image!r} of type {kind}; write what is in the files, or "
            "pass a table path,label"
        )
    return f"{image}.bytes" if struct else image


def _require_flat(schema: Any, column: str, shard: Path) -> None:
    """Labels and groups are single values."""
    if schema.field(column).type.num_fields:
        raise DataError(
            f"a row has one {column}, a whole number or a text; {shard} has {column!r} of type "
            f"{schema.field(column).type}; write one value a row"
        )


def _features(schema: Any) -> dict[str, Any]:
    """Hugging Face's description of the columns, from the schema's metadata; empty without one."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return {key: value for key, value in features.items() if isinstance(value, dict)}


def _class_names(schema: Any, label: str) -> list[str] | None:
    feature = _features(schema).get(label, {})
    names = feature.get("names") or (feature.get("feature") or {}).get("names")
    return [str(name) for name in names] if isinstance(names, list) else None


def _stated(values: list[Any], source: ParquetSource) -> list[Any]:
    """Labels as numbers or texts; None for a row without one: null, or what is no number."""
    found = []
    for row, value in enumerate(values):
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"a label must be UTF-8 text; that of {source.name(row)} is not; write it again"
                ) from error
        if isinstance(value, str) and not value.strip():
            raise DataError(f"a row needs a label; that of {source.name(row)} is empty; fill it in, or make it null")
        found.append(None if value != value else value)
    return found


def _labels(values: list[Any], names: list[str] | None, root: Path) -> tuple[tuple[str, ...], np.ndarray[Any, Any]]:
    """Class names and (N,) int64 indices; -1 stands for a row without a label."""
    present = {value for value in values if value is not None}
    if names is None:
        present -= {-1}
        names = class_order({str(value) for value in present})
        order = {name: i for i, name in enumerate(names)}
        index = {value: order[str(value)] for value in present}
    else:
        index = {i: i for i in range(len(names))} | {name: i for i, name in enumerate(names)}
        unknown = [value for value in present if value not in index and value != -1]
        if unknown:
            raise DataError(
                f"labels must be among the {len(names)} classes; {root} has {unknown[0]!r}; fix its metadata"
            )
    return tuple(names), np.array([index.get(value, -1) for value in values], np.int64)


def _groups(values: list[Any]) -> np.ndarray[Any, Any]:
    """(N,) int64 numbers of the values; a row without a group is one by itself."""
    numbers: dict[Any, int] = {}
    found = [-1 if value in (None, "") else numbers.setdefault(value, len(numbers)) for value in values]
    ids = np.array(found, np.int64)
    return np.where(ids < 0, len(numbers) + np.arange(len(ids)), ids)


def split_of_shard(shard: Path, root: Path) -> str:
    """The split a shard belongs to: by its name's first word, else by a folder above it, else train."""
    first = re.split(r"[-_.]", shard.stem)[0]
    above = [] if root.is_file() else list(reversed(shard.relative_to(root).parts[:-1]))
    return next((split for split in map(split_of, (first, *above)) if split), "train")


def _missing_shards(shards: list[Path]) -> list[Problem]:
    problems = []
    present: dict[tuple[Path, str, int], set[int]] = {}
    for shard in shards:
        if match := re.fullmatch(r"(.+)-(\d+)-of-(\d+)", shard.stem):
            present.setdefault((shard.parent, match[1], int(match[3])), set()).add(int(match[2]))
    for (folder, stem, total), numbers in present.items():
        if missing := sorted(set(range(total)) - numbers):
            reason = f"{len(missing)} of {total} shards are missing, the first is number {missing[0]}"
            problems.append(Problem(kind="missing-shard", where=str(folder / stem), reason=reason))
    return problems
