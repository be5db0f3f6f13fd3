"""`results.csv`: one row per epoch.

Every change rewrites the file under a temporary name and renames it: a killed run leaves only complete rows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from resnets.atomic import write_atomic
from resnets.errors import TrainingError
from resnets.small_files import read_small_text

__all__ = ["COLUMNS", "REID_COLUMNS", "ResultsRow", "add_result", "read_results", "truncate_results", "write_results"]


class ResultsRow(TypedDict):
    """Metrics of one epoch, counted from 1. `None`, an empty cell: not measured. Accuracies lie in [0, 1].

    Runs of re-identification have `val_map`, `val_rank1` and `val_minp` in place of the other metrics of validation.
    """

    epoch: int
    lr: float | None
    train_loss: float | None
    train_top1: float | None
    val_loss: NotRequired[float | None]
    val_top1: NotRequired[float | None]
    val_top5: NotRequired[float | None]
    val_map: NotRequired[float | None]
    val_rank1: NotRequired[float | None]
    val_minp: NotRequired[float | None]
    images_per_second: float | None
    seconds: float | None
    memory_mib: float | None


_OF_CLASSES = ("val_loss", "val_top1", "val_top5")
_OF_IDENTITIES = ("val_map", "val_rank1", "val_minp")
COLUMNS = tuple(name for name in ResultsRow.__annotations__ if name not in _OF_IDENTITIES)
"""The columns of the file, in order."""
REID_COLUMNS = tuple(name for name in ResultsRow.__annotations__ if name not in _OF_CLASSES)
"""The columns of the file of a run of re-identification."""


def read_results(path: Path) -> list[ResultsRow]:
    """The rows of a `results.csv`, oldest first; empty if the file does not exist.

    Raises:
        TrainingError: other columns than `COLUMNS` or `REID_COLUMNS`, or a cell that is not a number.
    """
    if not path.exists():
        return []
    try:
        lines = csv.reader(io.StringIO(read_small_text(path)))
    except OSError as error:
        raise TrainingError(f"results.csv must be a readable file; {path}: {error.strerror}; restore it") from None
    except UnicodeDecodeError as error:
        raise TrainingError(f"results.csv must be UTF-8 text; {path}: {error.reason}; restore it") from None
    header = tuple(next(lines, ()))
    if header not in (COLUMNS, REID_COLUMNS):
        raise TrainingError(
            f"results.csv must have the columns {', '.join(COLUMNS)}; {path} has {header}; move it away"
        )
    rows: list[ResultsRow] = []
    for line, cells in enumerate(lines, start=2):
        try:
            values = {name: float(cell) if cell else None for name, cell in zip(header, cells, strict=True)}
            rows.append(cast(ResultsRow, values | {"epoch": int(cells[0])}))
        except ValueError as error:
            raise TrainingError(
                f"results.csv must hold a number in every cell; {path} line {line}: {error}; repair or delete the line"
            ) from None
    return rows


def write_results(path: Path, rows: Sequence[ResultsRow]) -> None:
    """Replace the whole file. Numbers are written so that they read back exactly.

    Raises:
        TrainingError: epochs that do not increase.
    """
    epochs = [row["epoch"] for row in rows]
    if any(a >= b for a, b in pairwise(epochs)):
        raise TrainingError(f"epochs of results.csv must increase; got {epochs}; add rows in the order of epochs")
    text = io.StringIO()
    columns = REID_COLUMNS if rows and "val_map" in rows[-1] else COLUMNS
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    for row in cast(Sequence[Mapping[str, Any]], rows):
        # Through Python's own types: numpy's repr is "np.float64(0.1)".
        numbers = {name: None if value is None else repr(float(value)) for name, value in row.items()}
        table.writerow(numbers | {"epoch": int(row["epoch"])})
    write_atomic(path, text.getvalue())


def add_result(path: Path, row: ResultsRow) -> list[ResultsRow]:
    """Append an epoch; it replaces that epoch and any later one in the file.

    Returns:
        All rows of the file.
    """
    rows = [*(earlier for earlier in read_results(path) if earlier["epoch"] < row["epoch"]), row]
    write_results(path, rows)
    return rows


def truncate_results(path: Path, last_epoch: int) -> list[ResultsRow]:
    """Delete the rows after `last_epoch`, from which a run resumes.

    Returns:
        The remaining rows.
    """
    rows = read_results(path)
    kept = [row for row in rows if row["epoch"] <= last_epoch]
    if len(kept) < len(rows):
        write_results(path, kept)
    return kept
