from __future__ import annotations

import io
import re
import sys
import time
from contextlib import suppress

import pytest

from resnets.runtime.console import Console


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """The printed lines, without colours and cursor movements."""
        return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue()))


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_bar_shows_throughput_time_left_and_note(monkeypatch: pytest.MonkeyPatch, clock: Clock, columns: int) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for name, value in (("COLUMNS", str(columns)), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    console = Console()
    with console.progress("epoch 3/30", 50_000):
        clock.now = 8.0
        console.advance(16_000, "loss 0.531, 1,812 MiB")
        console.info("a line [bold]above[/bold] the bar")
    drawn = [line for line in terminal.lines() if "images/s" in line]
    assert drawn
    assert all(len(line.rstrip()) <= columns for line in drawn)
    assert "a line [bold]above[/bold] the bar" in terminal.getvalue()
    assert "2,000 images/s  17 s left" in drawn[-1]
    if columns >= 80:
        for part in ("epoch 3/30 ", " 32 %  2,000 images/s ", " loss 0.531, 1,812 MiB"):
            assert part in drawn[-1]


def test_log_file_gets_lines_at_growing_intervals(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    """Images done before the start count for the position, but not for the throughput."""
    console = Console()
    console.start("epoch 1/2", 1000, initial=100)
    for second in range(1, 91):
        clock.now = float(second)
        console.advance(10, "loss 1.5, 300 MiB")
    console.stop()
    assert capsys.readouterr().err.splitlines() == [
        "  epoch 1/2: 210 of 1,000, 10 images/s, 1 min 19 s left, loss 1.5, 300 MiB",
        "  epoch 1/2: 710 of 1,000, 10 images/s, 29 s left, loss 1.5, 300 MiB",
    ]


@pytest.mark.parametrize(
    ("console", "printed"), [(Console(quiet=True), "a warning\n"), (Console(silent=True), "")], ids=["quiet", "silent"]
)
def test_quiet_prints_only_warnings_and_silent_nothing(
    console: Console, printed: str, capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    with console.progress("epoch 1/2", 10):
        clock.now = 1000
        console.update(5)
        console.info("a message")
        console.warning("a warning")
    assert capsys.readouterr() == ("", printed)


def test_progress_stops_when_the_block_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []
    monkeypatch.setattr(Console, "stop", lambda self: stopped.append(True))
    with pytest.raises(KeyError), Console(quiet=True).progress("epoch 1/2", 10):
        raise KeyError
    assert stopped == [True]


def test_messages_that_cannot_be_written_do_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:  # line by line, as stderr is
        monkeypatch.setattr(sys, "stderr", full)
        console = Console()
        console.warning("no room for this")
        console.info("nor this")
        with console.progress("working", 10) as bar:
            bar.update(5)
        assert console.silent
        with suppress(OSError):
            full.close()
