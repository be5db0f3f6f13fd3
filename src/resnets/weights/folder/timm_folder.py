"""Model folders of timm and the Hugging Face hub, read and written: timm's fields in `config.json`, weights beside it.

timm's fields: `architecture` (its name of the network), `model_args` (options in its spelling), `pretrained_cfg`
(`input_size`, `mean`, `std`, `interpolation`, `crop_pct`, `crop_mode`, `license`, ...), `label_names`. Old files
have the fields of `pretrained_cfg` at the top level.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from safetensors import SafetensorError
from safetensors.torch import save_file

from resnets.arch.networks import NetworkConfig
from resnets.arch.preprocessing import CropMode, Interpolation, Preprocessing
from resnets.atomic import describe_write_error
from resnets.errors import ConfigError, UnknownNameError, WeightsError
from resnets.weights.dialects import get_dialect
from resnets.weights.dialects.timm import STEM_OPTIONS
from resnets.weights.dialects.timm_networks import timm_architecture, timm_network
from resnets.weights.export import call_for, foreign_tensors
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.foreign import class_names, weights_file
from resnets.weights.folder.model_card import model_card
from resnets.weights.folder.storage import CARD, CONFIG, TENSORS, replacing_folder
from resnets.weights.folder.timm_config import timm_config_json
from resnets.weights.load import import_weights
from resnets.weights.report import LoadReport, shorten

__all__ = ["read_preprocessing", "read_timm_folder", "save_timm_folder"]

TRAINING_OPTIONS = ("drop_rate", "drop_path_rate", "zero_init_last")  # timm's names are ours


def read_timm_folder(
    folder: Path,
    values: Mapping[str, Any],
    kind: type[Bundle] = Bundle,
    *,
    dialect: str = "auto",
    variant: str | NetworkConfig = "auto",
    min_filled: float = 1.0,
    allow_nonfinite: bool = False,
    **options: Any,
) -> tuple[Bundle, LoadReport]:
    """Read the network of a timm folder, and what its `config.json` states about it.

    Args:
        folder: where the weights are.
        values: the content of `config.json`.
        kind: class of the bundle.
        dialect, variant, min_filled, allow_nonfinite, **options: as for `import_weights`, in place of what the file
            states.
    """
    architecture = values.get("architecture")
    preprocessing, args = values.get("pretrained_cfg", values), values.get("model_args") or {}
    if not isinstance(architecture, str) or not isinstance(preprocessing, Mapping) or not isinstance(args, Mapping):
        raise WeightsError(
            f"a model folder's config.json has our fields or timm's (architecture, pretrained_cfg); {folder} has "
            "neither; pass its weights file instead"
        )
    if variant == "auto":
        variant = _network(architecture, folder)
    if dialect == "auto":
        dialect = "cadene" if architecture.startswith("legacy_") else "timm"
    stated = {str(key): value for key, value in args.items() if key not in ("num_classes", "in_chans")}
    own = {*get_dialect(dialect).options, *STEM_OPTIONS, *TRAINING_OPTIONS}
    if foreign := [name for name in stated if name not in own]:
        raise WeightsError(
            f"model_args hold arguments of timm's networks that have an option here; {folder} has {shorten(foreign)}; "
            "pass its weights file instead, and the network as variant="
        )
    try:
        model, report = import_weights(
            weights_file(folder),
            dialect=dialect,
            variant=variant,
            min_filled=min_filled,
            allow_nonfinite=allow_nonfinite,
            **{**stated, **options},
        )
    except UnknownNameError as error:
        raise WeightsError(f"{folder} is a network that we have no option for; {error}") from None
    labels = preprocessing.get("label_names") or values.get("label_names") or values.get("labels") or ()
    tag = preprocessing.get("tag")
    bundle = kind(
        model=model,
        preprocessing=read_preprocessing(preprocessing, model.config, folder),
        classes=class_names(labels, model.num_classes),
        name=report.variant,
        license=str(preprocessing.get("license") or "unknown"),
        provenance={
            "weights": str(folder),
            "architecture": architecture + (f".{tag}" if tag and "." not in architecture else ""),
            "import": report.to_dict(),
        },
    )
    return bundle, report


def save_timm_folder(bundle: Bundle, folder: Path | str) -> Path:
    """Write a folder as timm writes it: its `config.json`, weights with its names, and the model card.

    Raises:
        WeightsError: timm cannot build the network, no permission, a full disk, or a folder with other files.
    """
    call = call_for(bundle.config, "timm")
    folder = Path(folder).expanduser().resolve()
    tensors = foreign_tensors(bundle.model, "timm")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(folder) as new:
            save_file(tensors, new / TENSORS, metadata={"format": "pt"})
            text = json.dumps(timm_config_json(bundle, call), indent=2) + "\n"
            (new / CONFIG).write_text(text, encoding="utf-8")
            (new / CARD).write_text(model_card(bundle, folder.name), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot write the folder; {folder}: {describe_write_error(error, 'another')}") from None
    return folder


def _network(architecture: str, folder: Path) -> NetworkConfig:
    """What timm builds under the name that a folder states.

    Raises:
        WeightsError: a network that cannot be built here, or a name that timm's ResNets and VGGs do not have.
    """
    try:
        return timm_network(timm_architecture(architecture))
    except ConfigError as error:
        raise WeightsError(
            f"a folder of timm holds the network that its config.json names; {error}; in {folder}; if it is another "
            "network, pass variant= (--variant)"
        ) from None


def read_preprocessing(preprocessing: Mapping[str, Any], config: NetworkConfig, where: Path) -> Preprocessing:
    """The preprocessing in timm's fields; absent ones are what timm has for the family."""
    in_chans, usual = config.in_chans, get_dialect("timm").preprocessing(config)
    interpolation = preprocessing.get("interpolation") or "bicubic"
    mode = preprocessing.get("crop_mode") or "center"
    try:
        if interpolation == "random":  # drawn for each image in timm's training
            interpolation = "bilinear"
        if interpolation not in get_args(Interpolation) or mode not in get_args(CropMode):
            raise ConfigError(f"interpolation {interpolation!r} with crop_mode {mode!r} is not supported")
        fields: dict[str, Any] = {
            "size": tuple(preprocessing.get("input_size") or (3, 224, 224))[1:],
            "crop_mode": mode,
            "crop_pct": preprocessing.get("crop_pct") or 0.875,
            "interpolation": interpolation,
        }
        stated = {name: preprocessing.get(name) or usual.get(name) for name in ("mean", "std")}
        fields |= {name: tuple(values) for name, values in stated.items() if values}
        if in_chans == 1:
            fields["channels"] = "L"
            rgb = Preprocessing()
            fields |= {name: _mean(fields.get(name) or getattr(rgb, name)) for name in ("mean", "std")}
        elif in_chans != 3:
            raise ConfigError(f"an image has 1 or 3 channels, and the network takes {in_chans}")
        return Preprocessing(**fields)
    except (ConfigError, TypeError, ValueError) as error:
        raise WeightsError(
            f"config.json must describe the preprocessing; {error}; in {where}; pass its weights file instead"
        ) from None


def _mean(values: tuple[float, ...]) -> tuple[float]:
    return (round(sum(values) / len(values), 6),)
