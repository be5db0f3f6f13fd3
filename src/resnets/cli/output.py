"""What every verb prints with: tables, JSON, Markdown to stdout; warnings to stderr.

A table is drawn by rich in a terminal and in plain aligned columns otherwise. Numbers are never cut or wrapped: in
a terminal too narrow for the table long ones are rounded to three digits, texts fold, and beyond that the table is
wider than the terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Column", "Line", "markdown", "print_json", "print_table", "print_text", "short", "warn"]

FOLDED_WIDTH = 16  # what a column that folds keeps at the least


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table.

    Args:
        title: its heading.
        right: its cells are numbers and stand to the right.
        fold: its texts may be broken over lines where room is short.
        rounds: its counts, such as `25,557,032`, may become `25.6M` where room is short.
    """

    title: str
    right: bool = False
    fold: bool = False
    rounds: bool = False


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of a table: its cells, and how a terminal shows it."""

    cells: Sequence[str]
    style: Literal["", "bold", "dim"] = ""


def print_json(value: Any) -> None:
    """`value` as indented JSON; what is not a JSON number (NaN) is an error of ours."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    print_text(text.encode(errors="backslashreplace").decode())  # a file name that is no UTF-8 becomes \udcXX


def print_text(text: str) -> None:
    """A result, to stdout; of several processes under torchrun, the first one's."""
    if os.environ.get("RANK", "0") == "0":
        print(text)


def warn(message: str) -> None:
    """A warning, to stderr."""
    print(f"warning: {message}", file=sys.stderr)


def short(count: float, unit: str = "") -> str:
    """A count in three digits and a letter: `25.6M`; with a unit, `4.09 GMACs`."""
    gap = " " if unit else ""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            digits = max(0, 3 - len(str(round(count / size))))
            return f"{count / size:.{digits}f}{gap}{letter}{unit}"
    return f"{count:g}{gap}{unit}"


def print_table(columns: Sequence[Column], lines: Sequence[Line], footer: Sequence[str] | None = None) -> None:
    """A table to stdout, `footer` (totals) under a rule."""
    if sys.stdout.isatty():
        _print_rich(columns, lines, footer)
    else:
        print_text(_plain(columns, lines, footer))


def markdown(columns: Sequence[Column], lines: Sequence[Line]) -> str:
    """The table as Markdown."""
    rows = [[column.title for column in columns], *(line.cells for line in lines)]
    written = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    rule = "|" + "|".join("---:" if column.right else "---" for column in columns) + "|"
    return "\n".join([written[0], rule, *written[1:]])


def _plain(columns: Sequence[Column], lines: Sequence[Line], footer: Sequence[str] | None) -> str:
    rows = [[column.title for column in columns], *(line.cells for line in lines), *([footer] if footer else [])]
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]

    def joined(row: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        return "  ".join(cells).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    body = [joined(line.cells) for line in lines]
    return "\n".join([joined(rows[0]), rule, *body, *([rule, joined(footer)] if footer else [])])


def _print_rich(columns: Sequence[Column], lines: Sequence[Line], footer: Sequence[str] | None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = Console(file=sys.stdout, highlight=False)
    rows = [line.cells for line in lines] + ([footer] if footer else [])
    if terminal.width < _width(columns, rows):
        rows = [[_rounded(column, cell) for column, cell in zip(columns, row, strict=True)] for row in rows]
    least = _width(columns, rows, FOLDED_WIDTH)
    if terminal.width < least:
        terminal = Console(file=sys.stdout, highlight=False, width=least, height=25)  # both, or rich asks the terminal

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(Text(column.title), justify=justify, no_wrap=not column.fold, overflow="fold")
    for line, cells in zip(lines, rows, strict=False):
        table.add_row(*map(Text, cells), style=line.style or None)
    if footer:
        table.add_section()
        table.add_row(*map(Text, rows[-1]), style="bold")
    terminal.print(table, crop=False)


def _width(columns: Sequence[Column], rows: Sequence[Sequence[str]], folded: int | None = None) -> int:
    """Cells of a terminal that the table takes; with `folded`, when texts that fold are that wide at the most."""
    widths = [max(len(column.title), *(len(row[at]) for row in rows)) for at, column in enumerate(columns)]
    if folded is not None:
        widths = [min(width, folded) if column.fold else width for width, column in zip(widths, columns, strict=True)]
    return sum(widths) + 2 * (len(widths) - 1)


def _rounded(column: Column, cell: str) -> str:
    digits = cell.replace(",", "")
    return short(int(digits)) if column.rounds and digits.isdigit() else cell
