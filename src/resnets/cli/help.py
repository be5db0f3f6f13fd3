"""Help pages as plain text with bold headings and grouped options; rich's panels would add 0.1 s to each call."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from typer.core import TyperCommand, TyperGroup

__all__ = ["VerbHelp", "VerbListHelp"]

MAX_WIDTH = 100  # columns of a help page in a wide terminal


def bold(text: str) -> str:
    """Format `text` in bold if stdout is a terminal; NO_COLOR is obeyed."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text


class VerbHelp(TyperCommand):
    """Verb whose help page lists its options in groups, by their `rich_help_panel`."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Make a context whose help pages are as wide as the terminal, up to `MAX_WIDTH`."""
        return super().make_context(info_name, args, parent, max_content_width=MAX_WIDTH, **extra)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Remove the braces that typer puts around required arguments."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                group = "Arguments" if parameter.param_type_name == "argument" else "Options"
                name, text = record
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or group, []).append((name, _plain(text)))
        for title, records in sorted(groups.items(), key=lambda group: group[0] == "Options"):
            with formatter.section(bold(title)):
                formatter.write_dl(records)


class VerbListHelp(TyperGroup):
    """List of verbs, above the options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        rows = [(bold(name), self.commands[name].get_short_help_str(200)) for name in self.list_commands(ctx)]
        with formatter.section(bold("Verbs")):
            formatter.write_dl(rows)
        records = [parameter.get_help_record(ctx) for parameter in self.get_params(ctx)]
        with formatter.section(bold("Options")):
            formatter.write_dl([record for record in records if record is not None])


def _plain(text: str) -> str:
    """Replace typer's `[default: 128; x>=1]` by `(default: 128)`, and remove `[required]`, which the usage shows."""
    text, _, extra = text.partition("  [")
    default = re.search(r"default: ([^;\]]+)", extra)
    return f"{text.removesuffix('.')} (default: {default[1]})." if default else text
