"""Flags whose help, choices and default come from the declaration of an option."""

from __future__ import annotations

from typing import Any

import typer

from resnets.options.declarations import Option

__all__ = ["flag"]


def flag(option: Option, panel: str, metavar: str | None = None, *names: str) -> Any:
    """A typer option.

    Args:
        option: as `options_of` lists it.
        panel: heading on the help page.
        metavar: word for the value; without one the choices stand in its place.
        names: of the flag, such as `--skip-bad`; by default that of the parameter.
    """
    text = option.summary(list_choices=metavar is not None)
    return typer.Option(*names, metavar=metavar or "|".join(option.choices), help=text, rich_help_panel=panel)
