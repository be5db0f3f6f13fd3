"""The command itself: finds the verb, runs it, and turns what goes wrong into one line and an exit code.

To add a verb: write `cli/NAME.py` with a function `run` (typer's annotations; its docstring is the help) that
imports what is heavy inside itself, and add a line to `VERBS`. Only the verb that was asked for is imported.
`run` answers nothing or an exit code. A verb with verbs of its own (`resnets data pack`) has a typer `app` instead of
`run`. A verb in `VERBS` whose file is not there yet is left out.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from resnets.cli.help import VerbHelp, VerbListHelp
from resnets.errors import ResnetsError, nearest
from resnets.version import __version__

__all__ = ["VERBS", "main"]

VERBS = {
    "models": "List the networks that have a name.",
    "info": "Show a network's layers, shapes, parameters and cost.",
    "train": "Train a network on a folder of images.",
    "val": "Measure a trained model on labelled images.",
    "predict": "Say what is in images.",
    "data": "Pack images for fast training, or check them.",
    "convert": "Open weights of any codebase as a model folder.",
    "recipes": "List the training recipes, or show one.",
}

EXAMPLES = """
\b
Examples:
  resnets info resnet50 --img-size 352
  resnets train digits --model resnet20_cifar
  resnets predict cat.jpg --model runs/pets
"""

UsageError: Any = typer.BadParameter.__bases__[0]  # its parent, which only some versions of typer name in public

EXPECTED, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141  # the last two as a shell reports SIGINT and SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and answer its exit code.

    Args:
        argv: the words after `resnets`; by default those of this process.

    Returns:
        0; 1 for an expected error; 2 for a usage error; 130 when interrupted; 141 when the reader went away.
    """
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="surrogateescape")  # a file name that is no UTF-8 comes out as it is
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except typer.Exit as exit_:
        return exit_.exit_code
    except UsageError as error:
        _complain(_usage_message(error), _usage_hint(error))
        return USAGE
    except ResnetsError as error:
        _complain(str(error))
        return EXPECTED
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # `resnets models | head -1`: nobody reads on. What is still buffered must not fail again at exit.
        if sys.stdout is sys.__stdout__ and sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        _complain(_system_message(error))
        return EXPECTED


def _run(words: list[str]) -> int:
    wanted = next((word for word in words if not word.startswith("-")), None)
    verbs = {verb: line for verb, line in VERBS.items() if find_spec(f"resnets.cli.{verb}")}
    if wanted is not None and wanted not in verbs:
        near = nearest(wanted, verbs)
        remedy = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(verbs)}"
        _complain(f"unknown verb; got {wanted!r}; {remedy}", "more: resnets --help")
        return USAGE
    command: Any = typer.main.get_command(_app(verbs, wanted))
    with command.make_context("resnets", words) as context:
        answer = command.invoke(context)
    return answer if isinstance(answer, int) else 0


def _app(verbs: dict[str, str], wanted: str | None) -> typer.Typer:
    app = typer.Typer(
        cls=VerbListHelp,
        add_completion=False,
        rich_markup_mode=None,
        subcommand_metavar="VERB ...",
        epilog=EXAMPLES,
    )
    app.callback()(_top)
    for verb, line in verbs.items():
        module: Any = import_module(f"resnets.cli.{verb}") if verb == wanted else None
        if hasattr(module, "app"):
            app.add_typer(module.app, name=verb, short_help=line)
            continue
        function: Callable[..., Any] = _absent if module is None else module.run
        app.command(verb, cls=VerbHelp, short_help=line)(function)
    return app


def _absent() -> None:
    """Stands for a verb that was not asked for, so that `--help` lists it."""


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Residual networks from one description: built, understood, trained, measured and served.

    Results go to stdout (with --json for programs), everything else to stderr.
    """


def _complain(message: str, *hints: str) -> None:
    if os.environ.get("WORLD_SIZE", "1") != "1":  # started by torchrun: one of the processes says it
        from resnets.runtime.processes import should_report_error

        if not should_report_error():
            return
    message = " ".join(message.split())
    print(*(f"error: {message}", *filter(None, hints)), sep="\n", file=sys.stderr, flush=True)


def _usage_message(error: Any) -> str:
    option, context = getattr(error, "option_name", None), error.ctx
    message: str = error.format_message().rstrip(".")
    if option is None or context is None or not message.lower().startswith("no such option"):
        return message[:1].lower() + message[1:]
    known = [name.lstrip("-") for parameter in context.command.params for name in parameter.opts]
    near = nearest(option.lstrip("-"), [*known, "help"])
    remedy = f"did you mean {' or '.join('--' + name for name in near)}?" if near else "see the list of options"
    return f"unknown option; got {option}; {remedy}"


def _usage_hint(error: Any) -> str:
    if error.ctx is None:
        return "more: resnets --help"
    return f"{error.ctx.get_usage()}\nmore: {error.ctx.command_path} --help"


def _system_message(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return f"{reason}: {error.filename}" if error.filename else reason
