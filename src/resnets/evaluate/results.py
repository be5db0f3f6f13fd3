"""`results.csv`: a row an epoch, always whole.

Every change rewrites the file under a temporary name and renames it, so a killed run leaves the rows of the
epochs that ended and never half of one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from resnets.atomic import write_atomic
from resnets.errors import TrainingError

__all__ = ["COLUMNS", "ResultsRow", "add_result", "keep_results", "read_results", "write_results"]

ResultsRow = dict[str, float | None]
"""One epoch. `epoch` is a whole number; accuracies are shares; `None` is an empty cell: not measured."""

COLUMNS = (
    "epoch",
    "lr",
    "train_loss",
    "train_top1",
    "val_loss",
    "val_top1",
    "val_top5",
    "images_per_second",
    "seconds",
    "memory_mib",
)
"""The usual columns, in the order of the file; a run may add its own after them."""


def read_results(path: Path) -> list[ResultsRow]:
    """The rows of a `results.csv`, oldest first; none if there is no such file.

    Raises:
        TrainingError: a file that is no `results.csv`, or a cell that is no number.
    """
    if not path.exists():
        return []
    lines = csv.reader(io.StringIO(path.read_text(encoding="utf-8")))
    header = next(lines, [])
    if "epoch" not in header or len(set(header)) != len(header):
        raise TrainingError(f"results need a column named epoch, once; {path} has {header}; move it away")
    rows: list[ResultsRow] = []
    for number, cells in enumerate(lines, start=2):
        try:
            row: ResultsRow = {name: float(cell) if cell else None for name, cell in zip(header, cells, strict=True)}
            row["epoch"] = int(cells[header.index("epoch")])
        except ValueError as error:
            raise TrainingError(
                f"results hold a number in every cell; {path} line {number}: {error}; repair or delete the line"
            ) from None
        rows.append(row)
    return rows


def write_results(path: Path, rows: Sequence[Mapping[str, float | None]]) -> None:
    """Replaces the whole file. Columns are `COLUMNS`, then any others in the order in which they first come.

    Numbers are written so that they read back exactly.

    Raises:
        TrainingError: epochs that are missing or do not rise.
    """
    epochs = [epoch for row in rows if (epoch := row.get("epoch")) is not None]
    if len(epochs) < len(rows) or any(a >= b for a, b in pairwise(epochs)):
        raise TrainingError(f"results need an epoch a row, rising; got {epochs}; add rows in the order of epochs")
    others = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*COLUMNS, *others])
    for row in rows:
        table.writerow([_cell(name, row.get(name)) for name in (*COLUMNS, *others)])
    write_atomic(path, text.getvalue())


def add_result(path: Path, row: Mapping[str, float | None]) -> list[ResultsRow]:
    """Adds an epoch, in place of that epoch and any later one that the file holds already.

    Returns:
        All rows that the file holds now.
    """
    if row.get("epoch") is None:
        raise TrainingError(f"a row of results needs its epoch; got {sorted(row)}; set epoch")
    rows = [*_before(read_results(path), float(row["epoch"] or 0)), dict(row)]
    write_results(path, rows)
    return rows


def keep_results(path: Path, last_epoch: int) -> list[ResultsRow]:
    """Drops the rows after `last_epoch`: what a run that resumes from there does first.

    Returns:
        The rows that are left.
    """
    rows = read_results(path)
    kept = _before(rows, last_epoch + 1)
    if len(kept) < len(rows):
        write_results(path, kept)
    return kept


def _before(rows: list[ResultsRow], epoch: float) -> list[ResultsRow]:
    return [row for row in rows if (row["epoch"] or 0) < epoch]


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    # Through Python's own types: numpy's repr is "np.float64(0.1)".
    return str(int(value)) if name == "epoch" else repr(float(value))
