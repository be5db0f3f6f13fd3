"""Residual networks in PyTorch: build, inspect, train, evaluate and convert them.

    model = resnets.create_model("resnet50", num_classes=10)
    run = resnets.train("images/", model="resnet18")
    bundle = resnets.load("runs/images")

`__init__.pyi` lists the public names. Each is imported when it is first used, so that `import resnets` does not import
torch. Start with `api` for the library, and with `cli/app` for the command.
"""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

# Public name -> module that defines it.
_MODULES = {
    alias.name: node.module
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom) and node.module
    for alias in node.names
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Type of this package that keeps `resnets.train` and `resnets.evaluate` functions.

    Importing a submodule such as `resnets.train.loop.epoch` makes Python set the attribute `train` of the package to
    the subpackage; this class ignores that.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
