"""A short `repr` of dataclasses with many options."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

__all__ = ["short_repr"]


def short_repr(instance: Any) -> str:
    """`repr` with the fields that differ from their defaults, and those that the class lists in `always_shown`."""
    shown = []
    for field in fields(instance):
        value = getattr(instance, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if default is MISSING or value != default or field.name in getattr(instance, "always_shown", ()):
            shown.append(f"{field.name}={value!r}")
    return f"{type(instance).__name__}({', '.join(shown)})"
