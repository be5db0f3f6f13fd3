"""Everything that `resnets` raises on purpose.

    ResnetsError
    ├── ConfigError          a network description that cannot be built
    │   └── UnknownNameError a name that is in no table (names the nearest ones)
    ├── ShapeError           an input too small for, or unlike, what a network takes
    ├── WeightsError         a weights file or model folder that cannot be used
    ├── DataError            images or data sets that cannot be read
    │   └── ImageError       one image that does not decode
    ├── TrainingError        a run that cannot go on (NaN, an unfinished run folder, ...)
    └── MissingExtraError    an optional dependency that is not installed

Messages are one line: the rule; what came; what to do. The command prints them and exits with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ResnetsError",
    "ConfigError",
    "UnknownNameError",
    "ShapeError",
    "WeightsError",
    "DataError",
    "ImageError",
    "TrainingError",
    "MissingExtraError",
    "nearest",
]


class ResnetsError(Exception):
    """Base of all expected errors."""


class ConfigError(ResnetsError, ValueError):
    """A network description, recipe or option that contradicts itself or a rule."""


class UnknownNameError(ConfigError):
    """A name that stands in no table.

    Args:
        kind: what was looked for, such as `"model"` or `"option"`.
        name: what came.
        known: all names there are; the nearest of them are offered.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.nearest = nearest(name, known)
        remedy = f"did you mean {' or '.join(self.nearest)}?" if self.nearest else "see the list of names"
        super().__init__(f"unknown {kind}; got {name!r}; {remedy}")


class ShapeError(ResnetsError, ValueError):
    """An input whose size or channels the network cannot take."""


class WeightsError(ResnetsError):
    """A weights file or model folder that is missing, damaged or does not fit."""


class DataError(ResnetsError):
    """A data set that cannot be used as it is."""


class ImageError(DataError):
    """One image that does not decode.

    Args:
        where: the path, or `shard#row`, of the image.
        reason: why, in a few words.
    """

    def __init__(self, where: str, reason: str) -> None:
        self.where, self.reason = where, reason
        super().__init__(f"cannot decode image; {where}: {reason}; repair or remove it, or pass --skip-bad")


class TrainingError(ResnetsError):
    """A run that cannot start or cannot go on."""


class MissingExtraError(ResnetsError, ImportError):
    """An optional dependency is missing.

    Args:
        what: what needs it, such as `"Parquet data"`.
        extra: the extra of ours that brings it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an extra; it is not installed; pip install 'resnets[{extra}]'")


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` of the `known` names: those that `name` is the beginning of, then those that look most like it."""
    names = list(known)
    longer = [other for other in names if len(name) > 2 and other.startswith(name)]
    alike = difflib.get_close_matches(name, names, n=count, cutoff=0.5)
    return list(dict.fromkeys([*longer, *alike]))[:count]
