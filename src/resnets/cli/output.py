"""Output of the verbs on stdout: text, JSON, and tables.

Tables are drawn by rich in a terminal, and as plain aligned columns or Markdown elsewhere. Numbers are never truncated
or wrapped: in a terminal too narrow for a table, large counts are rounded to three digits and texts wrap; beyond that
the table is wider than the terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from unicodedata import combining, east_asian_width

from resnets.errors import printable
from resnets.runtime.formatting import format_count, format_percent

if TYPE_CHECKING:
    from resnets.evaluate.evaluation import Evaluation

__all__ = ["Column", "format_top1", "markdown", "print_json", "print_table", "print_text", "stdout_errors"]

Cells = Sequence[str]
WRAPPED_WIDTH = 16  # minimum width of a column that wraps


@dataclass(frozen=True)
class Column:
    """Column of a table.

    Args:
        title: heading.
        right: whether cells are aligned to the right, as numbers are.
        wrap: whether texts may wrap in a narrow terminal.
        rounds: whether counts such as `25,557,032` may become `25.6M` in a narrow terminal.
    """

    title: str
    right: bool = False
    wrap: bool = False
    rounds: bool = False


def print_text(text: str) -> None:
    """Print a result to stdout; of several processes under torchrun, only the first one prints."""
    if os.environ.get("RANK", "0") == "0":
        with stdout_errors():
            print(printable(text, keep="\n") if sys.stdout.isatty() else text)


@contextmanager
def stdout_errors() -> Iterator[None]:
    """Name stdout in the errors of writing to it, which have no file name."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from None


def print_json(value: Any) -> None:
    """Print `value` as indented JSON.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    print_text(text.encode(errors="backslashreplace").decode())  # file names that are not UTF-8 become \udcXX


def print_table(
    columns: Sequence[Column], rows: Sequence[Cells], *, footer: Cells | None = None, styles: Sequence[str] = ()
) -> None:
    """Print a table to stdout.

    Args:
        columns: one for each cell of a row.
        rows: cells, as text.
        footer: totals, under a rule.
        styles: rich style of each row in a terminal: `bold`, `dim` or empty.
    """
    if sys.stdout.isatty():
        _print_rich(columns, [[printable(cell) for cell in row] for row in rows], footer, styles)
    else:
        print_text(_plain(columns, rows, footer))


def markdown(columns: Sequence[Column], rows: Sequence[Cells]) -> str:
    """Format a table as Markdown."""
    titles, *body = [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (_titles(columns), *rows)
    ]
    rule = "|" + "|".join("---:" if column.right else "---" for column in columns) + "|"
    return "\n".join([titles, rule, *body])


def format_top1(evaluation: Evaluation) -> str:
    """Top-1 accuracy with its counts and interval: `top-1 99.16 % (356/359), 95 % interval 97.57 to 99.72`."""
    low, high = evaluation.top1_interval
    return (
        f"top-1 {format_percent(evaluation.top1)} ({evaluation.correct:,}/{len(evaluation):,}),"
        f" 95 % interval {100 * low:.2f} to {100 * high:.2f}"
    )


def _titles(columns: Sequence[Column]) -> Cells:
    return [column.title for column in columns]


def _plain(columns: Sequence[Column], rows: Sequence[Cells], footer: Cells | None) -> str:
    every = [_titles(columns), *rows, *([footer] if footer else [])]
    widths = _widths(every)
    lines = [
        "  ".join(
            _padding(cell, width) + cell if column.right else cell + _padding(cell, width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in every
    ]
    rule = "-" * _total(widths)
    lines.insert(1, rule)
    if footer:
        lines.insert(-1, rule)
    return "\n".join(lines)


def _print_rich(columns: Sequence[Column], rows: Sequence[Cells], footer: Cells | None, styles: Sequence[str]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = Console(file=sys.stdout, highlight=False)
    every = [*rows, *([footer] if footer else [])]
    if terminal.width < _total(_widths([_titles(columns), *every])):
        every = [[_rounded(column, cell) for column, cell in zip(columns, row, strict=True)] for row in every]
    widths = _widths([_titles(columns), *every])
    limits = [WRAPPED_WIDTH if column.wrap else width for column, width in zip(columns, widths, strict=True)]
    min_width = _total([min(pair) for pair in zip(widths, limits, strict=True)])
    if terminal.width < min_width:
        terminal = Console(
            file=sys.stdout, highlight=False, width=min_width, height=25
        )  # rich measures the terminal if one is missing

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(Text(column.title), justify=justify, no_wrap=not column.wrap, overflow="fold")
    for index, cells in enumerate(every):
        if footer and index == len(rows):
            table.add_section()
            table.add_row(*map(Text, cells), style="bold")
        else:
            table.add_row(*map(Text, cells), style=styles[index] if styles else None)
    terminal.print(table, crop=False)


def _widths(rows: Sequence[Cells]) -> list[int]:
    return [max(map(_width, cells)) for cells in zip(*rows, strict=True)]


def _padding(cell: str, width: int) -> str:
    return " " * (width - _width(cell))


def _width(text: str) -> int:
    """Columns of a terminal that a text takes: two for each Chinese, Japanese or Korean letter and emoji."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _total(widths: Sequence[int]) -> int:
    """Width of a table, with two spaces between columns."""
    return sum(widths) + 2 * (len(widths) - 1)


def _rounded(column: Column, cell: str) -> str:
    digits = cell.replace(",", "")
    return format_count(int(digits)) if column.rounds and digits.isdigit() else cell
