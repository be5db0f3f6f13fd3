"""What all reports share: the template environment, and images as data URIs."""

from __future__ import annotations

import base64
from typing import Any

import jinja2

from resnets.errors import printable

__all__ = ["data_uri", "html_environment"]


def html_environment(*packages: str) -> jinja2.Environment:
    """Templates of some packages; everything is escaped, and control characters in texts are dropped.

    Args:
        packages: whose folders `templates` are searched in turn.
    """
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package) for package in packages]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_without_controls,
    )


def data_uri(content: bytes, kind: str = "png") -> str:
    """An image file as the value of `src`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _without_controls(value: Any) -> Any:
    """Text of the user without control characters, such as those that reverse the direction of what follows."""
    return printable(value, keep="\n\t") if type(value) is str else value
