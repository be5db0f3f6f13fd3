"""A table of images: `path,label`, and columns `group` and `split` where there are any.

Paths are relative to the table's folder or absolute. Commas, semicolons or tabs divide the columns, by what the first
line has; other columns are not looked at. Rows are read one by one and held as numbers and one buffer of names.
"""

from __future__ import annotations

import csv
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from resnets.data.dataset import SPLITS, Dataset, ImageSet, Problem
from resnets.data.decode.image import Pixels, read_file
from resnets.data.names import Names, NumberTexts, class_order
from resnets.data.sources.folder import TABLES, folders, split_of
from resnets.errors import DataError, ImageError, nearest

__all__ = ["CsvSource", "open_csv", "tables_in"]

_DELIMITERS = (",", ";", "\t")


class CsvSource:
    """Rows of one or several tables, numbered through.

    Args:
        root: the folder that relative paths start from.
        names: of the images, as the tables have them.
        tables: their paths.
        starts: (T + 1,) the first row of each, and the end.
        lines: (N,) in which line of its table a row stands; None where that is its place + 2.
    """

    def __init__(
        self, root: str, names: Names, tables: list[str], starts: list[int], lines: npt.NDArray[np.uint32] | None
    ) -> None:
        self.root, self._names, self._tables, self._starts, self._lines = root, names, tables, starts, lines

    def name(self, row: int) -> str:
        """The path: below the root as it was given, or absolute."""
        return os.path.join(self.root, os.fsdecode(self._names[row]))

    def line(self, row: int) -> str:
        """`table.csv line 17`."""
        table = int(np.searchsorted(self._starts, row, side="right")) - 1
        number = row - self._starts[table] + 2 if self._lines is None else int(self._lines[row])
        return f"{self._tables[table]} line {number}"

    def read(self, row: int) -> bytes | Pixels:
        """The file's bytes; raises ImageError, which says the line."""
        try:
            return read_file(self.name(row))
        except ImageError as error:
            raise ImageError(error.where, f"{error.reason} (in {self.line(row)})") from error


def tables_in(root: Path) -> dict[str, Path]:
    """Tables by split: the file itself (`""`), or `train.csv` with `val.csv` and `test.csv` of a folder.

    A folder whose `train` folder holds class folders is no folder of tables.
    """
    if root.is_file():
        return {"": root} if root.suffix.lower() in TABLES else {}
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        split = split_of(path.stem) if path.suffix.lower() in TABLES and path.is_file() else None
        if split is not None and split in found:
            raise DataError(f"a split has one table; {root} has {found[split].name} and {path.name}; rename one")
        if split is not None:
            found[split] = path
    laid_out = any(split_of(name) and folders(root / name) for name in folders(root)) if found else False
    return found if "train" in found and not laid_out else {}


def open_csv(root: Path, tables: dict[str, Path]) -> Dataset:
    """The splits and classes of tables, as `tables_in` finds them.

    Raises:
        DataError: a table is damaged, lacks a column or a label, or gives an image two labels; it names the line.
    """
    folder = root.parent if root.is_file() else root
    found = _Table()
    names = Names(row for split, path in tables.items() for row in found.read(path, split))
    if not len(names):
        raise DataError(f"a data set needs images; {root} has no rows; add lines below its header")
    starts = [*found.starts, len(names)]
    expected = np.concatenate([np.arange(2, 2 + count) for count in np.diff(starts)])
    lines = np.array(found.lines, np.uint32)
    shown = [str(path) for path in tables.values()]
    source = CsvSource(str(folder), names, shown, starts, None if np.array_equal(lines, expected) else lines)
    _require_files(source, len(names))
    classes = class_order(found.label_names.texts)
    order = {name: i for i, name in enumerate(classes)}
    labels = np.array([order[name] for name in found.label_names.texts], np.int64)[np.array(found.labels, np.int64)]
    of_row = np.array(found.splits, np.int8)
    keep = np.ones(len(names), bool)
    group_names = [*found.group_names.texts, ""]  # -1: no group
    for row, earlier in _paths(names, folder).repeats():
        keep[row] = False
        _same(source, row, earlier, [classes[labels[i]] for i in (row, earlier)], "label")
        _same(source, row, earlier, [SPLITS[of_row[i]] for i in (row, earlier)], "split")
        _same(source, row, earlier, [group_names[found.groups[i]] for i in (row, earlier)], "group")
    groups = np.array(found.groups, np.int64) if found.grouped else None
    if groups is not None:  # an image without a group is one by itself
        groups = np.where(groups < 0, len(found.group_names) + np.arange(len(groups)), groups)
    problems = []
    if dropped := int((~keep).sum()):
        reason = f"{dropped} rows name an image again, each is taken once"
        problems.append(Problem(kind="ignored", where=str(root), reason=reason))
    splits = {}
    for number, split in enumerate(SPLITS):
        rows = np.flatnonzero((of_row == number) & keep)
        if len(rows):
            own = None if groups is None else groups[rows]
            splits[split] = ImageSet(source=source, rows=rows, labels=labels[rows], groups=own)
    name = root.stem if root.is_file() else root.resolve().name
    return Dataset(name=name, classes=tuple(classes), splits=splits, problems=tuple(problems))


class _Columns(NamedTuple):
    """At which place of a row each column stands."""

    delimiter: str
    width: int
    path: int
    label: int
    group: int | None
    split: int | None


class _Table:
    """What the rows of all tables say, but for the paths, as numbers."""

    def __init__(self) -> None:
        self.labels, self.groups, self.splits, self.lines = array("i"), array("q"), array("b"), array("I")
        self.label_names, self.group_names, self.grouped, self.starts = NumberTexts(), NumberTexts(), False, list[int]()

    def read(self, path: Path, split: str) -> Iterator[bytes]:
        """The paths of a table, each when the rest of its row has been taken note of."""
        self.starts.append(len(self.lines))
        columns = _columns(path)
        if columns.split is not None and split:
            raise DataError(
                f"a table's name or a split column says the split; {path} has both; remove the column or rename it"
            )
        self.grouped |= columns.group is not None
        fixed = SPLITS.index(split or "train")
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=columns.delimiter, strict=True)
            try:
                next(rows)
                for row in rows:
                    if not row:
                        continue
                    where = f"{path} line {rows.line_num}"
                    if len(row) != columns.width:
                        raise DataError(
                            f"a row has as many fields as the header, {columns.width}; {where} has {len(row)}; "
                            "quote a field that holds the delimiter"
                        )
                    name, label = row[columns.path].strip(), row[columns.label].strip()
                    if not name or not label:
                        raise DataError(
                            f"a row needs a path and a label; {where} has no {'label' if name else 'path'}; "
                            "fill it in or remove the line"
                        )
                    group = row[columns.group].strip() if columns.group is not None else ""
                    self.groups.append(self.group_names(group) if group else -1)
                    self.splits.append(fixed if columns.split is None else _split(row[columns.split].strip(), where))
                    self.labels.append(self.label_names(label))
                    self.lines.append(rows.line_num)
                    yield os.fsencode(name[2:].lstrip("/") if name.startswith("./") else name)
            except csv.Error as error:
                raise DataError(
                    f"a table must be CSV; {path} line {rows.line_num}: {error}; repair the line"
                ) from error
            except UnicodeDecodeError as error:
                raise DataError(f"a table must be UTF-8; {path} is not; save it as UTF-8") from error
            except OSError as error:
                raise DataError(f"a table must be readable; {path}: {error.strerror}; check the disk") from error


def _split(text: str, where: str) -> int:
    split = split_of(text)
    if split is None:
        raise DataError(f"a split is train, val or test; {where} has {text!r}; correct it")
    return SPLITS.index(split)


def _columns(path: Path) -> _Columns:
    """The columns by the first line, whatever divides them."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline(65536)
    except UnicodeDecodeError as error:
        raise DataError(f"a table must be UTF-8; {path} is not; save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"a table must be readable; {path}: {error.strerror}; check its permissions") from error
    headers = {}
    for delimiter in _DELIMITERS:
        fields = next(csv.reader([first], delimiter=delimiter), [])
        headers[delimiter] = [field.strip().lower() for field in fields]
    delimiter = max(_DELIMITERS, key=lambda d: ("path" in headers[d], len(headers[d])))
    header = headers[delimiter]
    for needed in ("path", "label"):
        if header.count(needed) != 1:
            close = nearest(needed, header)
            remedy = f"rename {close[0]!r}" if close and needed not in header else "see the header line"
            listed = ", ".join(header)[:100] or "nothing"
            raise DataError(f"a table needs one column {needed!r}; {path} line 1 has {listed}; {remedy}")
    group, split = (header.index(name) if name in header else None for name in ("group", "split"))
    return _Columns(delimiter, len(header), header.index("path"), header.index("label"), group, split)


def _paths(names: Names, root: Path) -> Names:
    """Names as full paths, so that `a.png`, `sub/../a.png` and `/data/a.png` are one."""
    start = os.fsencode(os.path.abspath(root))
    return Names(os.path.normpath(os.path.join(start, names[row])) for row in range(len(names)))


def _require_files(source: CsvSource, count: int) -> None:
    """Of up to 64 images, evenly spaced, one at least must be there: else it is the folder that is wrong."""
    rows = np.unique(np.linspace(0, count - 1, 64).astype(int)).tolist()
    if not any(os.path.exists(source.name(row)) for row in rows):
        raise DataError(
            f"a table's images must exist; {source.line(rows[0])} has {source.name(rows[0])}, which does not, nor do "
            f"others; paths are relative to {source.root}"
        )


def _same(source: CsvSource, row: int, earlier: int, values: list[str], what: str) -> None:
    if values[0] != values[1]:
        raise DataError(
            f"an image has one {what}; {source.line(row)} gives {source.name(row)} {what} {values[0]!r}, "
            f"{source.line(earlier)} gives {values[1]!r}; remove one"
        )
