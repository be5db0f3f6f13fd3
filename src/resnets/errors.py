"""Exceptions of `resnets`, all derived from `ResnetsError`.

    ResnetsError
    ├── ConfigError              invalid or contradictory network config, recipe or option
    │   └── UnknownNameError     unknown model, option, recipe, ...; suggests the nearest names
    ├── ShapeError               input size or channels that the network cannot process
    ├── WeightsError             missing, damaged or mismatched weights file or model folder
    ├── DataError                missing, unreadable or inconsistent data set
    │   └── ImageError           one image that cannot be decoded
    ├── DeviceError              device that is not available on this machine
    ├── TrainingError            training run that cannot start, resume or continue
    └── MissingExtraError        optional dependency that is not installed

Each message is one line: rule; got value; remedy. The command prints it to stderr and exits with 1.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = [
    "ResnetsError",
    "ConfigError",
    "UnknownNameError",
    "ShapeError",
    "WeightsError",
    "DataError",
    "ImageError",
    "DeviceError",
    "TrainingError",
    "MissingExtraError",
    "nearest",
    "printable",
    "require_extra",
]


UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
MAX_LENGTH = 4000  # of a message; names in files have any length


class ResnetsError(Exception):
    """Base class of all expected errors. The text is one line that can be printed, whatever names it quotes."""

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > MAX_LENGTH:
            text = f"{text[: MAX_LENGTH * 3 // 4]} ... {text[-MAX_LENGTH // 4 :]}"
        return printable(text)


def printable(text: str, keep: str = "") -> str:
    """One line of `text` without control characters, which terminals obey: they are escaped, white space is a space.

    Args:
        keep: characters that stay as they are.
    """

    def replace(found: re.Match[str]) -> str:
        if found[0] in keep:
            return found[0]
        return " " if found[0] in "\t\n\r" else found[0].encode("unicode_escape").decode()

    return UNPRINTABLE.sub(replace, text)


class ConfigError(ResnetsError, ValueError):
    """A network config, recipe or option is invalid, or contradicts another one."""


class UnknownNameError(ConfigError):
    """A name is not among the known names.

    Args:
        kind: kind of name, such as `"model"` or `"option"`.
        name: the unknown name.
        known: all valid names; the message suggests the nearest ones.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(set(known))
        self.nearest = nearest(name, names)
        if self.nearest:
            remedy = f"did you mean {' or '.join(self.nearest)}?"
        elif len(names) <= 20:
            remedy = f"use one of {', '.join(names)}"
        else:
            lists = {
                "training option": "resnets recipes --options",
                "model option": "resnets info --help",
                "named weights": "resnets models --pretrained",
            }
            remedy = f"see `{lists.get(kind, 'resnets models')}`"
        super().__init__(f"unknown {kind}; got {name!r}; {remedy}")


class ShapeError(ResnetsError, ValueError):
    """An array, image or input has a size or a number of channels that does not fit."""


class WeightsError(ResnetsError):
    """A weights file or model folder is missing, damaged or does not fit the network."""


class DataError(ResnetsError):
    """A data set is missing, unreadable or inconsistent."""


class ImageError(DataError):
    """One image cannot be decoded.

    Args:
        where: path of the image, or `shard#row`.
        reason: short description of the defect.
    """

    def __init__(self, where: str, reason: str) -> None:
        self.where, self.reason = where, reason
        super().__init__(f"cannot decode image; {where}: {reason}; repair or remove it, or pass --skip-bad")


class DeviceError(ResnetsError, RuntimeError):
    """A device is not available on this machine."""


class TrainingError(ResnetsError):
    """A training run cannot start, resume or continue."""


class MissingExtraError(ResnetsError, ImportError):
    """An optional dependency is not installed.

    Args:
        what: feature that requires it, such as `"Parquet data"`.
        extra: extra of this package that installs it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an extra; it is not installed; pip install 'resnets[{extra}]'")


@contextmanager
def require_extra(what: str, extra: str) -> Iterator[None]:
    """Import an optional dependency within it: `with require_extra("a Keras file", "keras"): import h5py`.

    Raises:
        MissingExtraError: it is not installed; see there for the arguments.
        ResnetsError: it is installed, but cannot be imported.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(what, extra) from error
    except ImportError as error:
        raise ResnetsError(
            f"{what} needs an extra; importing it failed ({error}); free memory, or reinstall 'resnets[{extra}]'"
        ) from error


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` of the `known` names other than `name`: completions of it first, then the most similar ones."""
    names = [other for other in known if other != name]
    completions = [other for other in names if len(name) > 2 and other.startswith(name)]
    similar = difflib.get_close_matches(name, names, n=count, cutoff=0.5)
    return list(dict.fromkeys([*completions, *similar]))[:count]
