"""The command as a whole: help, exit codes, one line an error, streams."""

from __future__ import annotations

import errno
import subprocess
import sys
from typing import Annotated

import pytest
import typer

from resnets.cli import app, info, models
from resnets.errors import DataError
from tests.conftest import Command


def test_help_lists_every_verb(command: Command) -> None:
    answer = command("--help")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("Usage: resnets [OPTIONS] VERB ...")
    for verb, line in app.VERBS.items():
        assert f"  {verb} " in answer.out
        assert line in answer.out
    assert command().out == answer.out
    assert "\033" not in answer.out


WORDS = [[verb] for verb in app.VERBS if verb != "data"] + [["data", "pack"], ["data", "check"]]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_each_verb_explains_itself(command: Command, words: list[str]) -> None:
    answer = command(*words, "--help")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"Usage: resnets {' '.join(words)} ")
    assert "--help" in answer.out
    assert "--json" in answer.out


def test_help_in_a_terminal_is_bold_unless_no_color(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(app.sys.stdout, "isatty", lambda: True, raising=False)
    assert "\033[1mVerbs\033[0m:" in command("--help").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in command("--help").out


def test_version(command: Command) -> None:
    from resnets.version import __version__

    assert command("--version") == (0, f"{__version__}\n", "")


USAGE = [
    (["modles"], "error: unknown verb; got 'modles'; did you mean models?"),
    (["zzz"], "error: unknown verb; got 'zzz'; there are models, info"),
    (["info", "resnet18", "--img-siz", "3"], "error: unknown option; got --img-siz; did you mean --img-size?"),
    (["info", "resnet18", "--layer"], "error: unknown option; got --layer; did you mean --layers?"),
    (["models", "--zzz"], "error: unknown option; got --zzz; see the list of options"),
    (["--versoin"], "error: unknown option; got --versoin; did you mean --version?"),
    (["info"], "error: missing argument"),
    (["info", "resnet18", "--num-classes", "many"], "error: invalid value for '--num-classes'"),
    (["info", "resnet18", "--img-size"], "error: option '--img-size' requires an argument"),
    (["models", "a", "b"], "error: got unexpected extra argument"),
]


@pytest.mark.parametrize(("argv", "line"), USAGE, ids=[" ".join(argv) for argv, _ in USAGE])
def test_usage_errors(command: Command, argv: list[str], line: str) -> None:
    """Exit 2, nothing on stdout; the error first, then how to call it, and where to read more."""
    answer = command(*argv)
    assert (answer.code, answer.out) == (2, "")
    first, *rest = answer.err.splitlines()
    assert first.startswith(line)
    assert rest[-1].startswith("more: resnets")
    assert len(rest) <= 3


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run() -> None:
        raise error

    monkeypatch.setattr(models, "run", run)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("rule; got\nvalue; remedy"), 1, "error: rule; got value; remedy"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/x"), 1, "error: Permission denied: runs/x"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "error: No space left on device"),
        (OSError("something odd"), 1, "error: something odd"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (typer.Abort(), 130, "error: interrupted"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_goes_wrong_is_one_line(
    command: Command, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    raising(monkeypatch, error)
    assert command("models") == (code, "", f"{line}\n")


def test_a_bug_keeps_its_traceback(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        command("models")


def test_exit_codes_of_a_verb(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, typer.Exit(7))
    assert command("models").code == 7
    monkeypatch.setattr(models, "run", lambda: 5)
    assert command("models").code == 5
    raising(monkeypatch, BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert command("models") == (141, "", "")


def test_options_are_grouped_in_help(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(
        name: str,
        lr: Annotated[float, typer.Option(help="Learning rate.", rich_help_panel="Optimiser")] = 0.1,
        plain: Annotated[bool, typer.Option("--plain", help="Nothing else.")] = False,
    ) -> None:
        """Do it."""

    monkeypatch.setattr(info, "run", run)
    out = command("info", "--help").out
    assert out.index("Arguments:") < out.index("Optimiser:") < out.index("--lr") < out.index("Options:")
    assert out.index("Options:") < out.index("--plain")


def test_a_verb_without_a_file_is_left_out(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.VERBS, "dream", "Not written yet.")
    assert "dream" not in command("--help").out
    assert command("dream").code == 2


def test_python_m_resnets() -> None:
    done = subprocess.run([sys.executable, "-m", "resnets", "models", "nothing"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: unknown model; got 'nothing'")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
def test_a_reader_that_goes_away() -> None:
    """`resnets ... | head -1`: more than a pipe's buffer is left unread, and nobody hears of it."""
    script = f"{sys.executable} -m resnets info resnet1202_cifar --json --layers | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("{\n", "")
