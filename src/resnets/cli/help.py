"""Help pages: plain text under bold headings, options in groups. Rich's boxes cost a tenth of a second each time."""

from __future__ import annotations

import os
import sys
from typing import Any

from typer.core import TyperCommand, TyperGroup

__all__ = ["VerbHelp", "VerbListHelp"]

WIDEST = 100  # columns of a help page, where the terminal has them


def bold(text: str) -> str:
    """`text` in bold where a person reads it in a terminal (NO_COLOR obeyed)."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text


class VerbHelp(TyperCommand):
    """A verb whose options are listed in groups, by their `rich_help_panel`."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """With help pages as wide as the terminal, up to `WIDEST`."""
        return super().make_context(info_name, args, parent, max_content_width=WIDEST, **extra)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Without the braces that typer puts around what is required."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                panel = getattr(parameter, "rich_help_panel", None)
                usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
                groups.setdefault(panel or usual, []).append(record)
        for title, records in sorted(groups.items(), key=lambda group: group[0] == "Options"):
            with formatter.section(bold(title)):
                formatter.write_dl(records)


class VerbListHelp(TyperGroup):
    """The list of verbs, above the options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        rows = [(bold(name), self.commands[name].get_short_help_str(200)) for name in self.list_commands(ctx)]
        with formatter.section(bold("Verbs")):
            formatter.write_dl(rows)
        records = [parameter.get_help_record(ctx) for parameter in self.get_params(ctx)]
        with formatter.section(bold("Options")):
            formatter.write_dl([record for record in records if record is not None])
