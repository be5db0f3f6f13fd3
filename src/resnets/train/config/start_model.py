"""How the model that training starts from differs from the data, and what follows for its classifier."""

from __future__ import annotations

from resnets.arch.preprocessing import Preprocessing
from resnets.data.dataset import Dataset
from resnets.weights.folder.bundle import Bundle

__all__ = ["compare_with_start"]


def compare_with_start(
    start: Bundle, dataset: Dataset, preprocessing: Preprocessing, wanted: tuple[str, ...]
) -> tuple[list[str], bool]:
    """Notes for the user, and whether the classifier must start anew although its number of classes fits.

    Args:
        start: the model of `--pretrained`.
        dataset: the data.
        preprocessing: of the run.
        wanted: the classes to train.
    """
    notes, fresh = [], False
    has = start.classes
    if len(has) != len(wanted):
        notes.append(f"the classifier starts anew: {start.name} has {len(has):,} classes, the data {len(wanted):,}")
    elif has != wanted and has != tuple(map(str, range(len(has)))):  # numbers stand for unknown classes
        old, new = next(pair for pair in zip(has, wanted, strict=True) if pair[0] != pair[1])
        notes.append(f"the classifier starts anew: its classes are others, such as {old!r} in place of {new!r}")
        fresh = True
    hint = dataset.preprocessing_hint
    if hint.channels == "L" and preprocessing.channels == "RGB":
        notes.append(f"the images are grayscale, {start.name} takes RGB: each channel gets the same values")
    if 2 * max(preprocessing.size) <= min(hint.size):
        size, images = ("x".join(map(str, one)) for one in (preprocessing.size, hint.size))
        notes.append(f"images of about {images} pixels are resized to {size}, the size of {start.name}; see --img-size")
    return notes, fresh
