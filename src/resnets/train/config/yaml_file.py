"""YAML files of options: recipes, and the `args.yaml` and `resolved.yaml` of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from resnets.atomic import write_atomic
from resnets.errors import TrainingError
from resnets.options.yaml_text import load_yaml
from resnets.small_files import read_small_text

__all__ = ["read_yaml", "write_yaml"]


def write_yaml(path: Path, values: Mapping[str, Any], comment: str) -> None:
    """Write options, for people and for `read_yaml`, below a line of comment. Tuples become lists."""
    write_atomic(
        path, f"# {comment}\n" + yaml.safe_dump(json.loads(json.dumps(values)), sort_keys=False, allow_unicode=True)
    )


def read_yaml(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """Read the options in a YAML file.

    Args:
        path: the file.
        what: the file in words, such as `a recipe`, and the remedy if it cannot be read; for the message.

    Raises:
        TrainingError: the file is missing, is not YAML, repeats a key, or holds no options.
    """
    try:
        values = load_yaml(read_small_text(path))
    except OSError as error:
        raise TrainingError(f"{what} must be a YAML file; {path}: {error.strerror}; {remedy}") from None
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise TrainingError(f"{what} must be YAML without repeated keys; {path}: {reason}; correct it") from None
    if not isinstance(values, dict) or not values:
        raise TrainingError(f"{what} must be a mapping of options; {path} has none; write NAME: VALUE lines")
    return values
