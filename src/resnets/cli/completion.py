"""Shell completion: typer's scripts for bash, zsh, fish and PowerShell, and the values that options complete.

The script of the shell runs the command with `_RESNETS_COMPLETE` set at each press of the tab key, so nothing here may
import torch. Where no value is offered, the shell completes file names.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable
from typing import Any

from typer.completion import shell_complete

__all__ = [
    "INSTRUCTION", "complete", "completer", "model_names", "network_names", "pretrained_names", "recipe_names",
    "typed_words",
]  # fmt: skip

INSTRUCTION = "_RESNETS_COMPLETE"  # environment variable that holds complete_bash, complete_zsh, ...


def typed_words() -> list[str]:
    """Words after `resnets` on the line to be completed, as the shell's script passes them."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    try:
        return shlex.split(line)[1:]
    except ValueError:  # a quote that is still open
        return line.split()[1:]


def complete(command: Any, instruction: str) -> int:
    """Print the words that complete the line; returns the exit code."""
    return shell_complete(command, {}, "resnets", INSTRUCTION, instruction)


def completer(values: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """An option's `autocompletion`: the values that start with what was typed."""

    def matching(incomplete: str) -> list[str]:
        return [value for value in values() if value.startswith(incomplete)]

    return matching


def network_names() -> list[str]:
    """Names of networks."""
    from resnets.arch.variants import list_models

    return list_models()


def pretrained_names() -> list[str]:
    """Names of weights: the starter and the published ones."""
    from resnets.weights.registry import list_pretrained

    return ["starter", *list_pretrained()]


def model_names() -> list[str]:
    """Names of networks and of weights."""
    return [*pretrained_names(), *network_names()]


def recipe_names() -> list[str]:
    """Names of the included recipes."""
    from resnets.train.config.recipes import list_recipes

    return list_recipes()
