"""Matching the classes of a data set with those of a model."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from reprlib import repr as short
from typing import Any, Literal

import numpy as np
import yaml

from resnets.data.dataset import ImageSet
from resnets.errors import ConfigError, DataError, nearest
from resnets.options.yaml_text import load_yaml
from resnets.small_files import read_small_text

__all__ = ["LabelKind", "match_classes", "read_class_map", "relabel"]

LabelKind = Literal["name", "index"]
ClassMap = Mapping[str, str | int | None]


def match_classes(
    classes: Sequence[str],
    known: Sequence[str],
    *,
    model: str,
    class_map: ClassMap | None = None,
    ignore_extra: bool = False,
    labels: LabelKind = "name",
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The model's class index of each class of the data, -1 for classes to leave out.

    Args:
        classes: of the data.
        known: of the model, by index.
        model: its name, for messages.
        class_map: class of the data -> class of the model, or its index where no class has that name; None leaves the
            class out. Classes that it does not name are matched by `labels`.
        ignore_extra: leave out classes that the model does not have.
        labels: match by `name`, or take the data's class names as an `index` into the model's classes.

    Raises:
        DataError: a class that the model does not have, or none in common.
        ConfigError: a map that names a class which the data or the model does not have.
    """
    index = {name: i for i, name in enumerate(known)}
    wanted: dict[str, str | int | None] = dict(class_map or {})
    for name, target in wanted.items():
        if name not in classes:
            raise ConfigError(f"a class map must name classes of the data; got {name!r}{_hint(name, classes)}")
        if target is not None and _index(target, index) is None:
            raise ConfigError(f"a class map must lead to classes of {model}; got {target!r}{_hint(str(target), known)}")
    found: list[int] = []
    extra: list[str] = []
    for name in classes:
        if name in wanted:
            target = wanted[name]
            found.append(-1 if target is None else _checked(_index(target, index)))
            continue
        match = index.get(name) if labels == "name" else _number(name, len(known))
        found.append(-1 if match is None else match)
        extra += [name] if match is None else []
    if extra and not ignore_extra:
        raise DataError(_unknown(extra, classes, known, model, labels))
    if all(match < 0 for match in found):
        raise DataError(f"data and model must have a class in common; {model} knows {_listed(known)}; pass --class-map")
    return np.array(found, np.int64)


def _index(target: str | int, index: Mapping[str, int]) -> int | None:
    if str(target) in index:
        return index[str(target)]
    return target if isinstance(target, int) and 0 <= target < len(index) else None


def _checked(value: int | None) -> int:
    assert value is not None
    return value


def _number(name: str, count: int) -> int | None:
    return int(name) if name.isdecimal() and len(name) < 10 and int(name) < count else None


def _unknown(extra: Sequence[str], classes: Sequence[str], known: Sequence[str], model: str, labels: LabelKind) -> str:
    rule = f"the model must have all classes of the data; {_listed(extra)} not among the {len(known)} of {model}"
    if labels == "name" and all(_number(name, len(known)) is not None for name in classes):
        return f"{rule}; pass --labels index if these numbers count the model's classes, or --class-map FILE"
    return f"{rule}; pass --ignore-extra to leave these images out, or --class-map FILE"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more


def _hint(name: str, known: Sequence[str]) -> str:
    close = nearest(name, known)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else f"; known: {_listed(known)}"


def relabel(images: ImageSet, match: np.ndarray[Any, np.dtype[np.int64]]) -> ImageSet:
    """The images with the model's class indices as labels, without those of classes that are left out."""
    labels = match[images.labels]
    kept = images.subset(np.flatnonzero(labels >= 0))
    return replace(kept, labels=labels[labels >= 0])


def read_class_map(path: str | Path) -> dict[str, str | int | None]:
    """Read a class map: YAML or JSON `data class: model class`, or CSV rows `data class,model class`.

    An empty or null model class leaves the class out.

    Raises:
        ConfigError: the file cannot be read, is no mapping, or names a class twice.
    """
    path = Path(path)
    rule = "a class map is a YAML or JSON mapping, or CSV rows, of data class to model class"
    try:
        text = read_small_text(path)
        if path.suffix.lower() == ".csv":
            rows = [row for row in csv.reader(text.splitlines()) if row]
            if any(len(row) != 2 for row in rows):
                raise ConfigError(f"{rule}; a row of {path} has not two cells; correct it")
            values: Any = {row[0]: row[1] or None for row in rows}
            if len(values) < len(rows):
                raise ConfigError(f"{rule}; {path} has a class twice; remove one row")
        else:
            values = load_yaml(text)
    except OSError as error:
        raise ConfigError(f"{rule}; {path}: {error.strerror}; check the path") from error
    except (ValueError, yaml.YAMLError, csv.Error) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{rule}; {path}: {' '.join(str(error).split())}; correct it") from error
    if not isinstance(values, dict) or not values:
        raise ConfigError(f"{rule}; {path} has none; write `cat: tabby` lines")
    for name, target in values.items():
        scalar = isinstance(name, str | int) and (target is None or isinstance(target, str | int))
        if not scalar or isinstance(name, bool) or isinstance(target, bool):
            raise ConfigError(f"{rule}; {path} has {short(name)}: {short(target)}; put it in quotes")
    return {str(name): target for name, target in values.items()}
