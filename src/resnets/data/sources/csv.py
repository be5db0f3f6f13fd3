"""A table of images with columns `path` and `label`, and optionally `group` and `split`.

Paths are absolute or relative to the table's folder. Columns are separated by commas, semicolons or tabs, detected
from the header line; other columns are ignored. Rows are read one by one and kept in compact form.
"""

from __future__ import annotations

import csv
import itertools
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import numpy.typing as npt

from resnets.data.dataset import Dataset, Problem
from resnets.data.decode.image import Pixels, read_file
from resnets.data.files import read_remedy, subfolders
from resnets.data.name_table import NameTable
from resnets.data.sources.build import RowTable, dataset_name, split_of
from resnets.errors import DataError, ImageError, nearest

__all__ = ["TABLES", "CsvSource", "find_tables", "open_csv"]

TABLES = (".csv", ".tsv")
_DELIMITERS = (",", ";", "\t")
MAX_LINE, MAX_ROW = 2**16, 2**20  # characters
PATHS = {"path", "file", "filename", "image", "filepath"}  # names of the column of paths


class CsvSource:
    """Rows of one or several tables, numbered consecutively.

    Args:
        root: the folder that relative paths start from.
        names: paths of the images, as in the tables.
        tables: paths of the tables.
        starts: (T + 1,) the first row of each table, and the number of rows.
        lines: (N,) line of each row in its table; None if rows follow the header line without gaps.
    """

    def __init__(
        self, root: str, names: NameTable, tables: list[str], starts: list[int], lines: npt.NDArray[np.uint32] | None
    ) -> None:
        self.root, self._names, self._tables, self._starts, self._lines = root, names, tables, starts, lines

    def name(self, row: int) -> str:
        """The path: below the root as it was given, or absolute."""
        return os.path.join(self.root, os.fsdecode(self._names[row]))

    def line(self, row: int) -> str:
        """Where a row is: `table.csv line 17`."""
        table = int(np.searchsorted(self._starts, row, side="right")) - 1
        number = row - self._starts[table] + 2 if self._lines is None else int(self._lines[row])
        return f"{self._tables[table]} line {number}"

    def read(self, row: int) -> bytes | Pixels:
        """The file's bytes; raises ImageError, which names the line."""
        try:
            return read_file(self.name(row))
        except ImageError as error:
            raise ImageError(error.where, f"{error.reason} (in {self.line(row)})") from error


def find_tables(root: Path) -> dict[str, Path]:
    """Tables by split: the file itself (`""`), or `train.csv` with `val.csv` and `test.csv` of a folder.

    A folder whose split folders hold class folders has no tables.
    """
    if root.is_file():
        return {"": root} if root.suffix.lower() in TABLES else {}
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        split = split_of(path.stem) if path.suffix.lower() in TABLES and path.is_file() else None
        if split is not None and split in found:
            raise DataError(f"a split must have one table; {root} has {found[split].name} and {path.name}; rename one")
        if split is not None:
            found[split] = path
    class_folders = any(split_of(name) and subfolders(root / name) for name in subfolders(root)) if found else False
    return found if "train" in found and not class_folders else {}


def open_csv(root: Path, tables: dict[str, Path]) -> Dataset:
    """Open tables, as `find_tables` returns them.

    Raises:
        DataError: a table is damaged, lacks a column or a label, or gives an image two labels.
    """
    folder = root.parent if root.is_file() else root
    reader = _TableReader()
    names = NameTable(name for split, path in tables.items() for name in reader.read(path, split))
    if not len(names):
        raise DataError(f"a data set must have images; {root} has no rows; add lines below its header")
    starts = [*reader.starts, len(names)]
    expected = np.concatenate([np.arange(2, 2 + count) for count in np.diff(starts)])
    lines = np.array(reader.lines, np.uint32)
    shown = [str(path) for path in tables.values()]
    source = CsvSource(str(folder), names, shown, starts, None if np.array_equal(lines, expected) else lines)
    _require_files(source, len(names))
    problems, repeated = [], 0
    for row, earlier in _full_paths(names, folder).repeats():
        _require_same(source, reader.rows, row, earlier)
        reader.rows.exclude(row)
        repeated += 1
    if repeated:
        reason = f"{repeated} rows name an image again; each image is used once"
        problems.append(Problem(kind="ignored", where=str(root), reason=reason))
    return reader.rows.build(source, dataset_name(root), where=str(root), grouped=reader.grouped, problems=problems)


class _Columns(NamedTuple):
    """Delimiter, number and indices of the columns."""

    delimiter: str
    width: int
    path: int
    label: int
    group: int | None
    split: int | None


class _TableReader:
    """Reads tables one after another; collects everything but the paths."""

    def __init__(self) -> None:
        self.rows, self.lines, self.starts, self.grouped = RowTable(), array("I"), list[int](), False

    def read(self, path: Path, split: str) -> Iterator[bytes]:
        """The image paths of a table."""
        self.starts.append(len(self.lines))
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                columns = _parse_header(file.readline(MAX_LINE), path)
                if columns.split is not None and split:
                    raise DataError(
                        f"a split must be given by the table's name or a split column; {path} has both; remove the "
                        "column or rename the table"
                    )
                self.grouped |= columns.group is not None
                file.seek(0)
                yield from self._read_rows(file, columns, path, split)
        except UnicodeDecodeError as error:
            raise DataError(f"a table must be UTF-8; {path} is not; save it as UTF-8") from error
        except OSError as error:
            raise DataError(f"a table must be readable; {path}: {error.strerror}; {read_remedy(error)}") from error

    def _read_rows(self, file: TextIO, columns: _Columns, path: Path, split: str) -> Iterator[bytes]:
        lines = _BoundedLines(file, path)
        rows = csv.reader(lines, delimiter=columns.delimiter, strict=True)
        try:
            next(rows)
            for row in rows:
                lines.row_length = 0
                if not row:
                    continue
                where = f"{path} line {rows.line_num}"
                if len(row) != columns.width:
                    raise DataError(
                        f"a row must have as many fields as the header, {columns.width}; {where} has {len(row)}; "
                        "quote a field that holds the delimiter"
                    )
                name, label = row[columns.path].strip(), row[columns.label].strip()
                if not name or not label:
                    raise DataError(
                        f"a row must have a path and a label; {where} has no {'label' if name else 'path'}; "
                        "fill it in or remove the line"
                    )
                group = row[columns.group].strip() if columns.group is not None else ""
                row_split = split or ("train" if columns.split is None else _split(row[columns.split].strip(), where))
                self.rows.add(label, row_split, group or None)
                self.lines.append(rows.line_num)
                yield os.fsencode(name[2:].lstrip("/") if name.startswith("./") else name)
        except csv.Error as error:
            raise DataError(f"a table must be CSV; {path} line {rows.line_num}: {error}; repair the line") from error


class _BoundedLines:
    """The lines of a table; raises DataError for a line, or a row of many lines, that would fill memory.

    Attributes:
        row_length: characters since the last row, as quoted fields go on over lines; the reader of rows sets it to 0.
    """

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file, self._path, self.row_length = file, path, 0

    def __iter__(self) -> Iterator[str]:
        for number in itertools.count(1):
            line = self._file.readline(MAX_LINE)
            if not line:
                return
            where = f"{self._path} line {number}"
            if len(line) == MAX_LINE and not line.endswith("\n"):
                raise DataError(f"a line of a table is short; {where} has {MAX_LINE:,} characters; repair it")
            self.row_length += len(line)
            if self.row_length > MAX_ROW:
                raise DataError(f"a row has at most {MAX_ROW:,} characters; that of {where} has more; check its quotes")
            yield line


def _split(text: str, where: str) -> str:
    split = split_of(text)
    if split is None:
        raise DataError(f"a split must be train, val or test; {where} has {text!r}; correct it")
    return split


def _parse_header(line: str, path: Path) -> _Columns:
    """The columns that the header line names, with the delimiter that finds `path`."""
    headers = {}
    for delimiter in _DELIMITERS:
        fields = next(csv.reader([line], delimiter=delimiter), [])
        headers[delimiter] = [field.strip().lower() for field in fields]
    delimiter = max(_DELIMITERS, key=lambda d: (not PATHS.isdisjoint(headers[d]), len(headers[d])))
    header = headers[delimiter]
    listed = ", ".join(header)[:100] or "nothing"
    if "path" not in header and sum(map(PATHS.__contains__, header)) == 1:
        header = ["path" if name in PATHS else name for name in header]
    for needed in ("path", "label"):
        if header.count(needed) != 1:
            close = nearest(needed, header)
            remedy = f"rename {close[0]!r}" if close and needed not in header else "see the header line"
            raise DataError(f"a table must have one column {needed!r}; {path} line 1 has {listed}; {remedy}")
    group, split = (header.index(name) if name in header else None for name in ("group", "split"))
    return _Columns(delimiter, len(header), header.index("path"), header.index("label"), group, split)


def _full_paths(names: NameTable, root: Path) -> NameTable:
    """Names as full paths, so that `a.png`, `sub/../a.png` and `/data/a.png` are equal."""
    start = os.fsencode(os.path.abspath(root))
    return NameTable(os.path.normpath(os.path.join(start, names[row])) for row in range(len(names)))


def _require_files(source: CsvSource, count: int) -> None:
    """Require that one of up to 64 images, evenly spaced, exists: otherwise the folder is wrong."""
    rows = np.unique(np.linspace(0, count - 1, 64).astype(int)).tolist()
    if not any(os.path.exists(source.name(row)) for row in rows):
        raise DataError(
            f"a table's images must exist; {source.line(rows[0])} has {source.name(rows[0])}, which does not, nor do "
            f"others; write paths relative to {source.root}"
        )


def _require_same(source: CsvSource, rows: RowTable, row: int, earlier: int) -> None:
    """An image that is named twice must have the same label, split and group."""
    if found := rows.difference(row, earlier):
        what, value, first = found
        raise DataError(
            f"an image must have one {what}; {source.line(row)} gives {source.name(row)} {what} {value or ''!r}, "
            f"{source.line(earlier)} gives {first or ''!r}; remove one"
        )
