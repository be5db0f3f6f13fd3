"""What the folders of other codebases share: the weights file, and class names in one of the usual forms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from resnets.errors import WeightsError
from resnets.weights.folder.bundle import check_class_names

__all__ = ["class_names", "weights_file"]

WEIGHTS = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")


def weights_file(folder: Path) -> Path:
    """The weights in a folder."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"a model folder holds its weights ({', '.join(WEIGHTS)}); {folder} has none; put them there")


def class_names(labels: object, count: int) -> tuple[str, ...]:
    """One name per logit: a list, or a mapping from number to name; numbers where neither fits."""
    if isinstance(labels, Mapping):
        labels = [labels.get(str(index), labels.get(index, str(index))) for index in range(count)]
    names = tuple(map(str, labels)) if isinstance(labels, list | tuple) else ()
    return check_class_names(names) if len(names) == count else tuple(map(str, range(count)))
