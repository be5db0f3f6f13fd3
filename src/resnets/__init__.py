"""Residual networks from one description: built, understood, trained, measured and served.

    model = resnets.create_model("resnet50", num_classes=10)
    run = resnets.train("images/", model="resnet18")
    bundle = resnets.load("runs/images")

Names are looked up when they are first used, so that `import resnets` costs next to nothing and imports no torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from resnets.version import __version__

if TYPE_CHECKING:
    from resnets.api import Bundle, create_model, evaluate, load, predict, train
    from resnets.arch.config import ResNetConfig
    from resnets.arch.describe import describe
    from resnets.arch.plan import plan
    from resnets.arch.preprocessing import Preprocessing
    from resnets.arch.variants import get_config, list_models
    from resnets.arch.vgg import VGGConfig
    from resnets.errors import ResnetsError
    from resnets.nn.model import VGG, FeatureExtractor, ResNet
    from resnets.weights.convert import convert
    from resnets.weights.export import save_weights
    from resnets.weights.load import import_weights

__all__ = [
    # what a network is
    "ResNetConfig",
    "VGGConfig",
    "get_config",
    "list_models",
    "plan",
    "describe",
    # the network
    "ResNet",
    "VGG",
    "FeatureExtractor",
    "create_model",
    # other codebases' weights
    "import_weights",
    "save_weights",
    "convert",
    # from images to a trained model and back
    "Preprocessing",
    "Bundle",
    "load",
    "train",
    "evaluate",
    "predict",
    # the rest
    "ResnetsError",
    "__version__",
]

_HOMES = {
    "ResNetConfig": "resnets.arch.config",
    "get_config": "resnets.arch.variants",
    "list_models": "resnets.arch.variants",
    "plan": "resnets.arch.plan",
    "describe": "resnets.arch.describe",
    "VGGConfig": "resnets.arch.vgg",
    "ResNet": "resnets.nn.model",
    "VGG": "resnets.nn.model",
    "FeatureExtractor": "resnets.nn.model",
    "import_weights": "resnets.weights.load",
    "save_weights": "resnets.weights.export",
    "convert": "resnets.weights.convert",
    "create_model": "resnets.api",
    "Preprocessing": "resnets.arch.preprocessing",
    "Bundle": "resnets.api",
    "load": "resnets.api",
    "train": "resnets.api",
    "evaluate": "resnets.api",
    "predict": "resnets.api",
    "ResnetsError": "resnets.errors",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """This package's own type, for one rule: `resnets.train` is the function `train`, whatever is imported.

    Importing `resnets.train.loop.epoch` makes Python bind the subpackage to the same name, over the function. Inner
    modules are reached as `from resnets.train.loop.epoch import ...`.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
