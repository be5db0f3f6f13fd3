"""Options that several verbs share, and options made from the declarations of a config."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from resnets.cli.completion import completer, pretrained_names
from resnets.options.declarations import Option

__all__ = [
    "MODEL", "AllowNonfinite", "Amp", "BatchSize", "Device", "Json", "Markdown", "SkipBad", "Workers", "declared",
]  # fmt: skip

MODEL = typer.Option(
    "--model",
    metavar="MODEL",
    help="starter, named weights, a weights file, a model folder or a run folder.",
    autocompletion=completer(pretrained_names),
)

AllowNonfinite = Annotated[
    bool, typer.Option("--allow-nonfinite", help="Accept weights that are NaN or infinite, and negative variances.")
]
BatchSize = Annotated[int, typer.Option(metavar="N", min=1, help="Images per batch.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="Device: auto, cpu, cuda, cuda:1 or mps.")]
Amp = Annotated[
    str,
    typer.Option(
        metavar="off|auto|bf16|fp16",
        help="Mixed precision: auto is bfloat16 where the device computes in it, else off.",
        autocompletion=completer(lambda: ("off", "auto", "bf16", "fp16")),
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, with exact numbers.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be decoded.")]
Workers = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Processes or threads that decode images (default: one per core)."),
]


def declared(
    option: Option,
    panel: str,
    metavar: str | None = None,
    *names: str,
    values: Callable[[], Iterable[str]] | None = None,
) -> Any:
    """A typer option.

    Args:
        option: as `options_of` lists it.
        panel: heading on the help page.
        metavar: placeholder for the value; by default the choices.
        names: of the flag, such as `--skip-bad`; by default that of the parameter.
        values: what the shell completes; by default the choices.
    """
    text = option.summary(list_choices=metavar is not None)
    return typer.Option(
        *names,
        metavar=metavar or "|".join(option.choices),
        help=text,
        rich_help_panel=panel,
        autocompletion=completer(values or (lambda: option.choices)),
    )
