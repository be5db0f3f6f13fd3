"""Every training option with its default and its line of documentation, read off the classes that hold them."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any

from resnets.train.config.train_config import GROUPS, TrainConfig

__all__ = ["OptionDoc", "option_docs"]


@dataclass(frozen=True, kw_only=True)
class OptionDoc:
    """An option as a person looks it up.

    Args:
        name: as `--set` takes it; group: where it stands, empty for the top.
        default: as YAML has it.
        text: what it does.
    """

    name: str
    group: str
    default: str
    text: str


def option_docs() -> list[OptionDoc]:
    """All options, group by group; those that hold a group are left out."""
    found = _of(TrainConfig, "")
    for group, kind in GROUPS.items():
        found += _of(kind, group)
    return found


def _of(kind: type[Any], group: str) -> list[OptionDoc]:
    texts = _texts(kind)
    return [
        OptionDoc(name=one.name, group=group, default=_default(one), text=texts.get(one.name, ""))
        for one in fields(kind)
        if group or one.name not in GROUPS
    ]


def _texts(kind: type[Any]) -> dict[str, str]:
    """Field -> its words in the docstring's `Args`. `a, b: both` and `a: one; b: other` name several."""
    names = {one.name for one in fields(kind)}
    arguments = inspect.getdoc(kind) or ""
    arguments = arguments.partition("Args:\n")[2].partition("\nRaises:")[0]
    entries = re.split(r"\n(?= {4}\S)", arguments.rstrip())
    texts = {}
    for entry in entries:
        head, _, words = " ".join(entry.split()).partition(": ")
        here = [name.strip() for name in head.split(",")]
        pieces = re.split(rf"; (?=(?:{'|'.join(sorted(names))}): )", words)
        for name in here:
            texts[name] = pieces[0]
        for piece in pieces[1:]:
            name, _, rest = piece.partition(": ")
            texts[name] = rest
    return {name: text for name, text in texts.items() if name in names}


def _default(one: Field[Any]) -> str:
    if one.default is MISSING:
        return "" if one.default_factory is MISSING else str(one.default_factory())
    if one.default is None or isinstance(one.default, bool):
        return {None: "null", True: "true", False: "false"}[one.default]
    if isinstance(one.default, tuple):
        return (
            "[" + ", ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in one.default) + "]"
        )
    return str(one.default)
