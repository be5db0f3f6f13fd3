from __future__ import annotations

import io
import re
import sys

import pytest

from resnets.runtime import console as progress
from resnets.runtime.console import Console
from resnets.runtime.formatting import format_duration, plural


class Terminal(io.StringIO):
    """A standard error that a person reads."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """What was drawn, without colours and movements of the cursor."""
        return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue()))


class Clock:
    """A time that the test sets."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_bar_shows_rate_time_left_loss_and_memory(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, columns: int
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for name, value in (("COLUMNS", str(columns)), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    console = Console()
    console.start("epoch 3/30", 50_000)
    clock.now = 8.0
    console.advance(16_000, "loss 0.531, 1,812 MiB")
    assert console._bar is not None
    console._bar.refresh()
    console.info("a line [bold]above[/bold] the bar")
    console.stop()
    drawn = [line for line in terminal.lines() if "images/s" in line]
    assert drawn
    assert all(len(line.rstrip()) <= columns for line in drawn)
    assert "a line [bold]above[/bold] the bar" in terminal.getvalue()
    assert "2,000 images/s  17 s left" in drawn[-1]
    if columns >= 80:
        for words in ("epoch 3/30 ", " 32 %  2,000 images/s ", " loss 0.531, 1,812 MiB"):
            assert words in drawn[-1]


def test_a_log_file_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    console = Console()
    console.start("epoch 1/2", 1000)
    console.skip(100)
    for second in range(1, 91):
        clock.now = float(second)
        console.advance(10, "loss 1.5, 300 MiB")
    console.stop()
    err = capsys.readouterr().err
    assert err.splitlines() == [
        "  epoch 1/2: 210 of 1,000, 10 images/s, 1 min 19 s left, loss 1.5, 300 MiB",
        "  epoch 1/2: 710 of 1,000, 10 images/s, 29 s left, loss 1.5, 300 MiB",
    ]


def test_quiet_and_silent(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    for console in (Console(quiet=True), Console(quiet=True, silent=True)):
        console.start("epoch 1/2", 10)
        clock.now += 1000
        console.advance(5)
        console.info("nothing")
        console.warning("a warning")
        console.stop()
    assert capsys.readouterr() == ("", "a warning\n")


def test_words_of_numbers() -> None:
    assert [plural(n, "epoch") for n in (0, 1, 1200)] == ["0 epochs", "1 epoch", "1,200 epochs"]
    assert [format_duration(s) for s in (0.4, 59.4, 59.6, 200, 3599.6, 7500)] == [
        "0 s", "59 s", "1 min 00 s", "3 min 20 s", "1 h 00 min", "2 h 05 min",
    ]  # fmt: skip
