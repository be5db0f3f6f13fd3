"""What stands in `config.json`: timm's fields, computed from ours, and ours under the one key `resnets`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import config_to_dict
from resnets.arch.nodes import Conv, walk
from resnets.arch.preprocessing import Preprocessing
from resnets.arch.shapes import trace
from resnets.errors import ShapeError, WeightsError
from resnets.version import __version__

if TYPE_CHECKING:
    from resnets.weights.folder.bundle import Bundle

__all__ = ["SCHEMA", "check_preprocessing", "read_config", "read_json", "timm_preprocessing", "to_config"]

SCHEMA = 1


def to_config(bundle: Bundle) -> dict[str, Any]:
    """The content of `config.json` for a bundle, as JSON can hold it."""
    config, preprocessing = bundle.config, bundle.preprocessing
    return {
        "architecture": bundle.name,
        "num_classes": config.num_classes,
        "num_features": bundle.model.num_features,
        "global_pool": "" if config.global_pool == "none" else config.global_pool,  # timm's word for no pooling
        "label_names": list(bundle.classes),
        "model_args": {"output_stride": stride} if (stride := getattr(config, "output_stride", None)) else {},
        "pretrained_cfg": {
            **timm_preprocessing(preprocessing),
            "num_classes": config.num_classes,
            "pool_size": _pool_size(bundle),
            "first_conv": next(path for path, node in walk(bundle.model.plan) if isinstance(node, Conv)),
            "classifier": "fc" if isinstance(config, ResNetConfig) else "classifier.6",
            "license": bundle.license,
        },
        "resnets": {
            "schema": SCHEMA,
            "version": __version__,
            "config": config_to_dict(config),
            "preprocessing": preprocessing.to_dict(),
            "preprocessing_hash": preprocessing.hash,
            "provenance": bundle.provenance,
            "calibration": bundle.calibration,
        },
    }


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
    """What stands in a `config.json`.

    Raises:
        WeightsError: missing, unreadable, or no table.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"a model folder holds config.json; {path} does not exist; check the path") from None
    except OSError as error:
        raise WeightsError(f"cannot read {path}; {error.strerror}; check its permissions") from None
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not JSON; {error}; write the folder again") from None
    if not isinstance(values, dict):
        raise WeightsError(f'{path} has no "resnets" part; it holds a {type(values).__name__}; write the folder again')
    return values


def read_config(path: Path) -> dict[str, Any]:
    """What we wrote to a `config.json`.

    Raises:
        WeightsError: as `read_json`; no part of ours, or one of a newer version.
    """
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


def check_preprocessing(values: dict[str, Any], preprocessing: Preprocessing, path: Path) -> None:
    stated = values["resnets"]["preprocessing_hash"]
    if stated != preprocessing.hash:
        raise WeightsError(
            f"the preprocessing must be the one that the model was saved with; {path} states {stated} and holds "
            f"{preprocessing.hash}; undo the edit, or save the bundle with the new preprocessing"
        )
    for key, value in timm_preprocessing(preprocessing).items():
        if values["pretrained_cfg"].get(key) != value:
            raise WeightsError(
                f"pretrained_cfg and resnets.preprocessing must say the same; {path} differs in {key}; undo the edit"
            )


def _pool_size(bundle: Bundle) -> list[int] | None:
    """(H, W) of the map before the head; `None` for an input that is too small for the network."""
    try:
        records = trace(bundle.model.plan, (bundle.config.in_chans, *bundle.preprocessing.size))
    except ShapeError:
        return None
    return list(next(record.source.shape[1:] for record in records if record.path == "avgpool"))
