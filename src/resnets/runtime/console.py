"""Messages and progress on stderr: a progress bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resnets.errors import printable
from resnets.runtime.formatting import format_duration

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Console"]

FIRST_LINE = 10.0  # seconds until the first progress line in a log file
LINE_INTERVAL = 60.0  # minimum seconds between two lines


class Console:
    """Messages and progress on stderr, never on stdout.

    Args:
        quiet: print warnings only.
        silent: print nothing, as in all but one of several processes.
    """

    def __init__(self, quiet: bool = False, *, silent: bool = False) -> None:
        self.quiet, self.silent = quiet or silent, silent
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._description = ""
        self._total = self._done = self._initial = 0
        self._start_time = self._next_line = 0.0

    def info(self, text: str) -> None:
        """Print one line, unless quiet."""
        if not self.quiet:
            self._print(text)

    def warning(self, text: str) -> None:
        """Print one line, unless silent."""
        if not self.silent:
            self._print(text)

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Console]:
        """Show the progress of a block that processes `total` images."""
        self.start(description, total)
        try:
            yield self
        finally:
            self.stop()

    def start(self, description: str, total: int, *, initial: int = 0) -> None:
        """Start to show progress.

        Args:
            description: short name of the work, shown before the bar.
            total: number of images.
            initial: number of images processed earlier; they do not count towards the throughput.
        """
        self._description, self._total = description, total
        self._done = self._initial = initial
        self._start_time, self._next_line = time.perf_counter(), FIRST_LINE
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.percentage:>3.0f} %  {task.fields[note]}"),  # one column, truncated at its end
                console=RichConsole(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(description, total=total, note="")
            self._bar.start()

    def advance(self, count: int, note: str = "") -> None:
        """Count `count` more images as processed; `note` is shown after throughput and time left."""
        self.update(self._done + count, note)

    def update(self, done: int, note: str = "") -> None:
        """Set the number of processed images to `done`; `note` is shown after throughput and time left."""
        self._done = done
        if self.quiet:
            return
        seconds = time.perf_counter() - self._start_time
        rate = (done - self._initial) / max(seconds, 1e-9)
        left = format_duration((self._total - done) / max(rate, 1e-9))
        notes = [f"{rate:,.0f} images/s", f"{left} left", *([note] if note else [])]
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, note="  ".join(notes))
        elif seconds > self._next_line and done < self._total:
            self._print(f"  {self._description}: {done:,} of {self._total:,}, {', '.join(notes)}")
            self._next_line = max(self._next_line * 2, LINE_INTERVAL)

    def stop(self) -> None:
        """Remove the progress bar."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None

    def _print(self, text: str) -> None:
        text = printable(text)
        try:
            if self._bar is not None:
                self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
            else:
                print(text, file=sys.stderr, flush=True)
        except OSError:  # the disk of a log is full, its reader or the terminal has gone: work goes on without messages
            self.quiet = self.silent = True
