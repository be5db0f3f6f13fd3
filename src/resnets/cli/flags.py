"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["MODEL", "BatchSize", "Device", "Json", "Markdown", "SkipBad", "Workers"]

MODEL = typer.Option("--model", metavar="MODEL", help="starter, a weights file, a model folder or a run folder.")

BatchSize = Annotated[int, typer.Option(metavar="N", min=1, help="Images per batch.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, with exact numbers.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be decoded.")]
Workers = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Processes or threads that decode images (default: one per core)."),
]
