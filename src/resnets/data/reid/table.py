"""Tables of re-identification: CSV with the columns `path` and `id`, and optionally `camera` and `set`.

Paths are relative to the table. Sets are `train`, `query` and `gallery`; without that column, every image is compared
with all others.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from resnets.data.reid.dataset import REID_SETS, ReidDataset, ReidRow, build_reid
from resnets.errors import DataError
from resnets.small_files import read_small_text

__all__ = ["ID_COLUMNS", "open_table"]

PATH_COLUMNS = ("path", "file", "filename", "image", "filepath")
ID_COLUMNS = ("id", "pid", "identity", "label")
CAMERA_COLUMNS = ("camera", "cam", "camid", "camera_id")
SET_COLUMNS = ("set", "split")
SETS = {"train": "train", "query": "query", "probe": "query", "gallery": "gallery", "test": "gallery"}
MAX_BYTES = 2**30


def open_table(path: Path) -> ReidDataset:
    """The data set of a table.

    Raises:
        DataError: it cannot be read, lacks a column, or a row has other fields than the header.
    """
    return build_reid(path.stem, "table", _rows(path))


def _rows(path: Path) -> Iterator[ReidRow]:
    try:
        lines = read_small_text(path, MAX_BYTES).splitlines()
    except OSError as error:
        raise DataError(f"a table must be readable; {path}: {error.strerror}; check the path") from None
    except UnicodeDecodeError:
        raise DataError(f"a table must be UTF-8; {path} is not; save it as UTF-8") from None
    delimiter = max(",;\t", key=(lines or [""])[0].count)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        path_at, id_at = (_column(header, names, path) for names in (PATH_COLUMNS, ID_COLUMNS))
        camera_at, set_at = (
            _column(header, names, path) if set(names) & set(header) else None
            for names in (CAMERA_COLUMNS, SET_COLUMNS)
        )
        for row in reader:
            if not row:
                continue
            where = f"{path} line {reader.line_num}"
            if len(row) != len(header):
                raise DataError(
                    f"a row has as many fields as the header, {len(header)}; {where} has {len(row)}; repair it"
                )
            name, identity = row[path_at].strip(), row[id_at].strip()
            if not name or not identity:
                raise DataError(f"a row has a path and an identity; {where} lacks one; fill it in or remove the line")
            camera = (row[camera_at].strip() or None) if camera_at is not None else None
            part = SETS.get(row[set_at].strip().lower()) if set_at is not None else "gallery"
            if part is None:
                raise DataError(f"a set is {', '.join(REID_SETS)}; {where} has {row[set_at or 0]!r}; correct it")
            yield ReidRow(str(path.parent / name), part, identity, camera)
    except csv.Error as error:
        raise DataError(f"a table must be CSV; {path} line {reader.line_num}: {error}; repair the line") from None


def _column(header: list[str], names: tuple[str, ...], path: Path) -> int:
    found = [number for number, name in enumerate(header) if name in names]
    if len(found) != 1:
        listed = ", ".join(header)[:100] or "nothing"
        raise DataError(
            f"a table of re-identification has one column {names[0]} ({' or '.join(names)}); {path} has {listed}; "
            "rename one"
        )
    return found[0]
