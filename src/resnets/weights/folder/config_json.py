"""Reading `config.json`: our part of it, its schema version, and its agreement with timm's fields. Needs no torch."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from resnets.arch.networks import NetworkConfig, config_from_dict
from resnets.arch.preprocessing import Preprocessing
from resnets.errors import ConfigError, WeightsError
from resnets.small_files import read_small_text

__all__ = ["SCHEMA", "check_preprocessing", "network_config", "read_config", "read_json", "timm_preprocessing"]

SCHEMA = 1


def timm_preprocessing(preprocessing: Preprocessing) -> dict[str, Any]:
    """The preprocessing in timm's fields, whose mean and std always belong to values in [0, 1]."""
    low, high = preprocessing.value_range
    return {
        "input_size": [preprocessing.num_channels, *preprocessing.size],
        "interpolation": preprocessing.interpolation,
        "crop_pct": preprocessing.crop_pct,
        "crop_mode": preprocessing.crop_mode,
        "mean": [(mean - low) / (high - low) for mean in preprocessing.mean],
        "std": [std / (high - low) for std in preprocessing.std],
    }


def read_json(path: Path) -> dict[str, Any]:
    """Content of a `config.json`, of ours or of timm's."""
    try:
        values = json.loads(read_small_text(path), object_pairs_hook=_without_repeats)
    except FileNotFoundError:
        raise WeightsError(f"a model folder holds config.json; {path} does not exist; check the path") from None
    except OSError as error:
        raise WeightsError(f"cannot read {path}; {error.strerror}; check the path") from None
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not JSON; {error}; write the folder again") from None
    if not isinstance(values, dict):
        raise WeightsError(f"config.json must be an object; {path} holds a {type(values).__name__}; write it again")
    return values


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; ValueError if a key stands twice, since one of the values would be lost."""
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"{twice!r} stands twice")
    return values


def read_config(path: Path) -> dict[str, Any]:
    """Content of a `config.json` that `save_bundle` wrote."""
    values = read_json(path)
    ours = values.get("resnets")
    if not isinstance(ours, dict):
        raise WeightsError(
            f'{path} has no "resnets" part; it was not written by resnets; give its weights file instead'
        )
    schema = ours.get("schema")
    if schema != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        remedy = "update resnets" if newer else "write the folder again"
        raise WeightsError(f"a model folder of schema {SCHEMA} can be read; {path} has {schema!r}; {remedy}")
    return values


def network_config(values: dict[str, Any], path: Path) -> NetworkConfig:
    """The network's config in what `read_config` returned."""
    try:
        return config_from_dict(values["resnets"]["config"])
    except (ConfigError, KeyError, TypeError) as error:
        raise WeightsError(f"config.json must describe a network; {error} in {path}; write the folder again") from None


def check_preprocessing(values: dict[str, Any], preprocessing: Preprocessing, path: Path) -> None:
    """Check that the preprocessing was not edited, and that timm's fields agree with it."""
    stated = values["resnets"]["preprocessing_hash"]
    if stated != preprocessing.hash:
        raise WeightsError(
            f"the preprocessing must be the one that the model was saved with; {path} states {stated} and holds "
            f"{preprocessing.hash}; undo the edit, or save the bundle with the new preprocessing"
        )
    for key, value in timm_preprocessing(preprocessing).items():
        if values["pretrained_cfg"].get(key) != value:
            raise WeightsError(
                f"pretrained_cfg and resnets.preprocessing must agree; {path} differs in {key}; undo the edit"
            )
