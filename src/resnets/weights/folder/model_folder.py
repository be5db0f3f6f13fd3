"""Saving and reading a bundle: `config.json`, `model.safetensors` and the model card in one folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from resnets.arch.networks import config_from_dict, config_to_dict
from resnets.arch.preprocessing import Preprocessing
from resnets.atomic import describe_write_error, write_atomic
from resnets.errors import ConfigError, WeightsError
from resnets.nn.model import build_model
from resnets.version import __version__
from resnets.weights.fill import fill
from resnets.weights.finite import check_finite, check_variances
from resnets.weights.folder.bundle import Bundle, check_class_names
from resnets.weights.folder.config_json import SCHEMA, check_preprocessing, read_config
from resnets.weights.folder.model_card import model_card
from resnets.weights.folder.storage import CARD, CONFIG, TENSORS, current_folder, replacing_folder
from resnets.weights.folder.timm_config import timm_call, timm_config_json
from resnets.weights.readers.files import read_safetensors
from resnets.weights.report import shorten
from resnets.weights.slots import slots

__all__ = ["read_bundle", "save_bundle", "write_calibration"]


def save_bundle(bundle: Bundle, folder: Path | str) -> Path:
    """Write a model folder, whole or not at all; an existing one is replaced.

    Raises:
        WeightsError: no permission, a full disk, or a folder that holds other files and no model of ours.
    """
    bundle.check_classes()
    _check_tensors(bundle)
    folder = Path(folder).expanduser().resolve()
    tensors = {name: _stored(tensor) for name, tensor in bundle.model.state_dict().items()}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(folder) as new:
            save_file(tensors, new / TENSORS, metadata={"format": "pt"})
            (new / CONFIG).write_text(json.dumps(_config_json(bundle), indent=2) + "\n", encoding="utf-8")
            (new / CARD).write_text(model_card(bundle, folder.name), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        text = describe_write_error(error, "another folder")
        raise WeightsError(f"cannot write the model folder; {folder}: {text}") from None
    return folder


def write_calibration(folder: Path | str, calibration: dict[str, Any]) -> None:
    """Replace the calibration in a model folder; everything else in it stays as it is.

    Raises:
        WeightsError: no model folder of ours, or one that cannot be written.
    """
    path = current_folder(Path(folder)) / CONFIG
    values = read_config(path)
    values["resnets"]["calibration"] = calibration
    try:
        write_atomic(path, json.dumps(values, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise WeightsError(f"cannot write {path}: {describe_write_error(error, 'another folder')}") from None


def _check_tensors(bundle: Bundle) -> None:
    """Raise ConfigError unless the network has the tensors of its config, from which it will be built again."""
    shapes = {name: tuple(tensor.shape) for name, tensor in bundle.model.state_dict().items()}
    planned = {slot.key: slot.shape for slot in slots(bundle.model.plan)}
    wrong = [name for name in {**planned, **shapes} if shapes.get(name) != planned.get(name)]
    if wrong:
        raise ConfigError(
            f"a network is saved as its config describes it; this one differs in {shorten(wrong)}; assign layers of "
            "the same kind, or save its state_dict() with torch"
        )


def read_bundle(folder: Path | str, kind: type[Bundle] = Bundle, *, allow_nonfinite: bool = False) -> Bundle:
    """Read a model folder that `save_bundle` wrote, bit for bit; the network is in evaluation mode.

    Args:
        folder: the model folder.
        kind: class of the result.
        allow_nonfinite: accept weights that are NaN or infinite, and variances below zero.

    Raises:
        WeightsError: a file that is missing, damaged or of a newer version, tensors that are not the network's, or
            a preprocessing that was edited.
    """
    folder = current_folder(Path(folder))
    values = read_config(folder / CONFIG)
    ours = values["resnets"]
    tensors = read_safetensors(folder / TENSORS)
    try:
        config = config_from_dict(ours["config"])
        preprocessing = Preprocessing.from_dict(ours["preprocessing"])
        check_preprocessing(values, preprocessing, folder / CONFIG)
        if sum(config.depths) > len(tensors):  # before anything of that size is built
            raise ConfigError(f"{sum(config.depths)} blocks cannot come from {len(tensors)} tensors")
        model = build_model(config, init=False)
        fill(model, tensors, str(folder / TENSORS))
        if not allow_nonfinite:
            check_finite(tensors, str(folder / TENSORS))
            check_variances(tensors, str(folder / TENSORS))
        return kind(
            model=model.eval(),
            preprocessing=preprocessing,
            classes=check_class_names(tuple(map(str, values["label_names"]))),
            name=str(ours.get("name", values["architecture"])),
            license=str(values["pretrained_cfg"]["license"]),
            provenance=dict(ours["provenance"]),
            calibration=ours["calibration"],
        )
    except KeyError as error:
        raise WeightsError(f"{folder / CONFIG} lacks {error}; write the folder again") from None
    except (AttributeError, ConfigError, TypeError, ValueError) as error:
        raise WeightsError(f"{folder / CONFIG} does not describe a model; {error}; write the folder again") from None


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous()


def _config_json(bundle: Bundle) -> dict[str, Any]:
    """Content of `config.json`: timm's fields, computed from ours, and ours under the one key `resnets`."""
    config, preprocessing = bundle.config, bundle.preprocessing
    return timm_config_json(bundle, timm_call(config)) | {
        "resnets": {
            "schema": SCHEMA,
            "version": __version__,
            "name": bundle.name,
            "config": config_to_dict(config),
            "preprocessing": preprocessing.to_dict(),
            "preprocessing_hash": preprocessing.hash,
            "provenance": bundle.provenance,
            "calibration": bundle.calibration,
        },
    }
