"""What a person sees of a run: a bar in a terminal, plain lines elsewhere, nothing from a quiet library call."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

__all__ = ["Console", "counted", "duration"]


class Console:
    """Messages and progress on stderr, never on stdout.

    Args:
        quiet: say nothing but what is said `always`.
        silent: nor that.
    """

    def __init__(self, quiet: bool = False, *, silent: bool = False) -> None:
        self.quiet, self.silent = quiet, silent
        self.live = not quiet and sys.stderr.isatty()
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._started, self._done, self._skipped, self._total, self._next = 0.0, 0, 0, 0, 0.0
        self._what = ""

    def say(self, text: str, *, always: bool = False) -> None:
        """One line; `always` says it to quiet callers too."""
        if self.silent or (self.quiet and not always):
            return
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def start(self, what: str, total: int) -> None:
        """Begin to count `total` images of work called `what`."""
        self._started = time.perf_counter()
        self._what, self._done, self._skipped, self._total, self._next = what, 0, 0, total, 10.0
        if self.live:
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.percentage:>3.0f} %  {task.fields[state]}"),  # in one, to be cut at its end
                console=RichConsole(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(what, total=total, state="")
            self._bar.start()

    def skip(self, count: int) -> None:
        """`count` images were done before; they say nothing of the rate."""
        self._skipped = self._done = count

    def advance(self, count: int, note: str = "") -> None:
        """`count` more images are done; `note` stands beside the bar."""
        self._done += count
        if self.quiet:
            return
        seconds = time.perf_counter() - self._started
        rate = (self._done - self._skipped) / max(seconds, 1e-9)
        speed, left = f"{rate:,.0f} images/s", f"{duration((self._total - self._done) / max(rate, 1e-9))} left"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, state=f"{speed}  {left}  {note}".rstrip())
        elif seconds > self._next and self._done < self._total:  # a log file gets a line now and then
            line = f"  {self._what}: {self._done:,} of {self._total:,}, {speed}, {left}"
            self.say(f"{line}, {note}" if note else line)
            self._next = max(self._next * 2, 60.0)

    def stop(self) -> None:
        """The work is done, or has failed: take the bar away."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None


def counted(number: int, what: str) -> str:
    """`1 epoch`, `30 epochs`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
