"""The command as a whole: help, exit codes, error messages and streams."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer

from resnets.cli import app, info, models
from resnets.errors import DataError
from tests.conftest import Command


def test_help_lists_every_verb(command: Command) -> None:
    result = command("--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Usage: resnets [OPTIONS] VERB ...")
    for verb, summary in app.VERBS.items():
        assert f"  {verb} " in result.out
        assert summary in result.out
    assert command().out == result.out
    assert "\033" not in result.out


VERBS = [[verb] for verb in app.VERBS if verb != "data"] + [["data", "pack"], ["data", "check"]]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_help_of_each_verb(command: Command, verb: list[str]) -> None:
    result = command(*verb, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: resnets {' '.join(verb)} ")
    assert "--help" in result.out
    assert "--json" in result.out


def test_help_in_a_terminal_is_bold_unless_no_color(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert "\033[1mVerbs\033[0m:" in command("--help").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in command("--help").out


def test_version(command: Command) -> None:
    from resnets.version import __version__

    assert command("--version") == (0, f"{__version__}\n", "")


USAGE_ERRORS = [
    (["modles"], "'modles'. Did you mean 'models'?"),
    (["zzz"], "'zzz'"),
    (["info", "resnet18", "--img-siz", "3"], "--img-siz (Possible options: --img-size)"),
    (["info", "resnet18", "--layer"], "--layer (Possible options: --layers)"),
    (["models", "--zzz"], "--zzz"),
    (["--versoin"], "--versoin (Possible options: --version)"),
    (["info"], "missing argument"),
    (["info", "resnet18", "--num-classes", "many"], "'--num-classes'"),
    (["info", "resnet18", "--img-size"], "'--img-size' requires an argument"),
    (["models", "a", "b"], "unexpected extra argument"),
]


@pytest.mark.parametrize(("argv", "message"), USAGE_ERRORS, ids=[" ".join(argv) for argv, _ in USAGE_ERRORS])
def test_usage_errors(command: Command, argv: list[str], message: str) -> None:
    """Exit code 2 and nothing on stdout; on stderr the error, the usage and where to find help."""
    result = command(*argv)
    assert (result.code, result.out) == (2, "")
    first, *rest = result.err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert rest[-1].startswith("more: resnets")
    assert len(rest) <= 3


def let_models_raise(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
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
def test_expected_errors_are_one_line(
    command: Command, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    let_models_raise(monkeypatch, error)
    assert command("models") == (code, "", f"{line}\n")


def test_bugs_keep_their_traceback(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    let_models_raise(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        command("models")


def test_exit_code_of_a_verb(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    let_models_raise(monkeypatch, typer.Exit(7))
    assert command("models").code == 7
    monkeypatch.setattr(models, "run", lambda: 5)
    assert command("models").code == 5
    let_models_raise(monkeypatch, BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert command("models") == (141, "", "")


def test_options_are_grouped_in_help(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(
        name: str,
        lr: Annotated[float, typer.Option(help="Learning rate.", rich_help_panel="Optimiser")] = 0.1,
        plain: Annotated[bool, typer.Option("--plain", help="Nothing else.")] = False,
    ) -> None:
        """Run."""

    monkeypatch.setattr(info, "run", run)
    out = command("info", "--help").out
    assert out.index("Arguments:") < out.index("Optimiser:") < out.index("--lr") < out.index("Options:")
    assert out.index("Options:") < out.index("--plain")


def test_python_m_resnets() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "resnets", "models", "nothing"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert "'nothing'" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_closed_pipe_is_no_error() -> None:
    """`resnets ... | head -1` leaves more unread than the buffer of a pipe holds."""
    script = f"{sys.executable} -m resnets info resnet1202_cifar --json --layers | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_help_shows_defaults_in_parentheses(command: Command) -> None:
    out = " ".join(command("val", "--help").out.split())
    assert "(default: 128)" in out
    assert "[default" not in out
    assert "[required]" not in command("info", "--help").out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("verb", ["models", "info resnet18 --json", "predict IMAGE --csv", "predict IMAGE"])
def test_a_full_disk_under_stdout_is_named(verb: str, images: Path) -> None:
    image = str(next(images.rglob("*.png")))
    argv = [sys.executable, "-m", "resnets", *(image if word == "IMAGE" else word for word in verb.split())]
    with open("/dev/full", "w") as full:
        run = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == "error: No space left on device: standard output"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_under_stderr_does_not_end_the_work(images: Path) -> None:
    image = str(next(images.rglob("*.png")))
    with open("/dev/full", "w") as full:
        argv = [sys.executable, "-m", "resnets", "predict", image]
        run = subprocess.run(argv, stdout=subprocess.PIPE, stderr=full, text=True)
    assert run.returncode == 0
    assert "model: starter" in run.stdout
