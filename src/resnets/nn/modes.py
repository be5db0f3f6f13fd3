"""Temporary changes of training and evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluation_mode"]


@contextmanager
def evaluation_mode(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode within a `with`, and restore the mode of each of their submodules after it."""
    modes = [(child, child.training) for module in modules for child in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for child, training in modes:
            child.training = training  # not train(), which would set its submodules too
