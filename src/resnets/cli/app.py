"""Entry point of the command: imports the requested verb, runs it, and turns errors into one line and an exit code.

To add a verb, write `cli/NAME.py` with a function `run` (typer's annotations; its docstring is the help page; heavy
imports belong inside it) and add a line to `VERBS`. `run` returns `None` or an exit code. A verb with subcommands
(`resnets data pack`) defines a typer `app` instead of `run`.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any

import typer

from resnets.cli.completion import INSTRUCTION, complete, typed_words
from resnets.cli.help import VerbHelp, VerbListHelp
from resnets.cli.output import stdout_errors
from resnets.runtime.failures import describe_failure
from resnets.version import __version__

__all__ = ["VERBS", "main"]

VERBS = {
    "models": "List the named networks.",
    "info": "Show a network's layers, output shapes, parameters and MACs.",
    "train": "Train a network on a folder of images.",
    "val": "Evaluate a model on labelled images.",
    "predict": "Classify images.",
    "embed": "Compute the embeddings of images.",
    "search": "Find similar images, and near duplicates.",
    "reid": "Evaluate re-identification.",
    "data": "Check a data set, or pack it for fast training.",
    "convert": "Convert weights of other codebases to a model folder.",
    "recipes": "List the training recipes, or show one.",
}

EXAMPLES = """
\b
Examples:
  resnets info resnet50 --img-size 352
  resnets train digits --model resnet20_cifar
  resnets predict cat.jpg --model runs/pets
"""

UsageError: Any = typer.BadParameter.__bases__[0]  # its parent class, which only some versions of typer export


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments after `resnets`; by default those of this process.

    Returns:
        Exit code: 0; 1 for an expected error; 2 for a usage error; 130 when interrupted; 141 when the reader of
        stdout has gone (the last two as a shell reports SIGINT and SIGPIPE).
    """
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if sys.stdout is None or sys.stderr is None:
        _open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # File names that are not UTF-8 are printed as they are; what another encoding lacks, as an escape.
        utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")
    try:
        if instruction := os.environ.get(INSTRUCTION):
            return complete(typer.main.get_command(_app(_verb(typed_words()))), instruction)
        code = _run(arguments)
        with stdout_errors():
            sys.stdout.flush()
        return code
    except typer.Exit as exit_:
        return exit_.exit_code
    except UsageError as error:
        message = _setting_hint(error, arguments) or error.format_message()
        _print_error(message[:1].lower() + message[1:].rstrip("."), _usage_hint(error))
        return 2
    except (KeyboardInterrupt, typer.Abort):
        _print_error("interrupted")
        return 130
    except BrokenPipeError:
        # `resnets models | head -1`: what is still buffered must not fail again at exit.
        if sys.stdout is sys.__stdout__ and sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        failure = describe_failure(error)
        if failure is None:
            raise
        _print_error(failure)
        return 1


def _open_standard_streams() -> None:
    """Where stdin, stdout or stderr was closed, discard what is written: else a file that is opened gets its number."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _verb(arguments: list[str]) -> str | None:
    return next((argument for argument in arguments if not argument.startswith("-")), None)


def _run(arguments: list[str]) -> int:
    command: Any = typer.main.get_command(_app(_verb(arguments)))
    with command.make_context("resnets", arguments) as context:
        code = command.invoke(context)
    return code if isinstance(code, int) else 0


def _app(requested: str | None) -> typer.Typer:
    """Command with all verbs, of which only the requested one is imported."""
    app = typer.Typer(
        cls=VerbListHelp,
        rich_markup_mode=None,
        subcommand_metavar="VERB ...",
        epilog=EXAMPLES,
    )
    app.callback()(_top)
    for verb, summary in VERBS.items():
        module: Any = import_module(f"resnets.cli.{verb}") if verb == requested else None
        subcommands = getattr(module, "app", None)
        if subcommands is not None:
            app.add_typer(subcommands, name=verb, short_help=summary)
        else:
            app.command(verb, cls=VerbHelp, short_help=summary)(_not_imported if module is None else module.run)
    return app


def _not_imported() -> None:
    """Placeholder for a verb that is only listed by `--help`."""


def _print_version(requested: bool) -> None:
    if requested:
        print(__version__)
        raise typer.Exit


def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Residual networks in PyTorch: build, inspect, train, evaluate and convert them.

    Results go to stdout (as JSON with --json), progress and messages to stderr.
    """


def _print_error(message: str, hint: str | None = None) -> None:
    if os.environ.get("WORLD_SIZE", "1") != "1":  # started by torchrun: only one of the processes prints the error
        from resnets.runtime.processes import should_report_error

        if not should_report_error():
            return
    lines = [f"error: {' '.join(message.split())}", *([hint] if hint else [])]
    with suppress(OSError):  # nobody can be told
        print(*lines, sep="\n", file=sys.stderr, flush=True)


def _setting_hint(error: Any, arguments: list[str]) -> str | None:
    """The message for an unknown flag of `train` that is an option without a flag of its own."""
    flag = getattr(error, "option_name", None)
    if flag is None or error.ctx is None or error.ctx.info_name != "train":
        return None
    from dataclasses import fields

    from resnets.arch.config import ResNetConfig
    from resnets.train.config.train_config import option_names

    name = flag.lstrip("-").replace("-", "_")
    if name not in (*option_names(), *(field.name for field in fields(ResNetConfig))):
        return None
    given = [argument for argument in arguments if argument.split("=")[0] == flag][:1]
    after = arguments[arguments.index(given[0]) + 1 :] if given else []
    value = given[0].partition("=")[2] if given and "=" in given[0] else next(iter(after), "-")
    value = "VALUE" if value.startswith("-") else value
    return f"{flag} has no flag of its own; use --set {shlex.quote(f'{name}={value}')}"


def _usage_hint(error: Any) -> str:
    if error.ctx is None:
        return "more: resnets --help"
    return f"{error.ctx.get_usage()}\nmore: {error.ctx.command_path} --help"
