"""Reading model folders of timm and the Hugging Face hub: `config.json` in timm's fields, and the weights beside it.

timm's fields: `architecture` (its name of the network), `model_args` (options in its spelling), `pretrained_cfg`
(`input_size`, `mean`, `std`, `interpolation`, `crop_pct`, `crop_mode`, `license`, ...), `label_names`. Old files
have the fields of `pretrained_cfg` at the top level.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from resnets.arch.networks import NetworkConfig
from resnets.arch.preprocessing import CropMode, Interpolation, Preprocessing
from resnets.arch.variants import VARIANTS
from resnets.errors import ConfigError, UnknownNameError, WeightsError
from resnets.weights.folder.bundle import Bundle
from resnets.weights.load import import_weights
from resnets.weights.report import LoadReport

__all__ = ["ARCHITECTURES", "read_preprocessing", "read_timm_folder"]

WEIGHTS = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")

# timm's names of networks that have another name here; their files are Cadene's.
ARCHITECTURES = {
    "legacy_seresnet50": "se_resnet50",
    "legacy_seresnet101": "se_resnet101",
    "legacy_seresnet152": "se_resnet152",
    "legacy_seresnext50_32x4d": "se_resnext50_32x4d",
    "legacy_seresnext101_32x4d": "se_resnext101_32x4d",
    "legacy_senet154": "senet154",
}

# timm's own `senet154` pools as its other networks do; here the name means Caffe's.
TIMM_DIFFERS: dict[str, dict[str, Any]] = {"senet154": {"stem_pool": "max"}}


def read_timm_folder(
    folder: Path,
    values: Mapping[str, Any],
    kind: type[Bundle] = Bundle,
    *,
    dialect: str = "auto",
    variant: str | NetworkConfig = "auto",
    min_filled: float = 1.0,
    **options: Any,
) -> tuple[Bundle, LoadReport]:
    """Read the network of a timm folder, and what its `config.json` states about it.

    Args:
        folder: where the weights are.
        values: the content of `config.json`.
        kind: class of the bundle.
        dialect, variant, min_filled, **options: as for `import_weights`, in place of what the file states.
    """
    architecture = values.get("architecture")
    preprocessing, args = values.get("pretrained_cfg", values), values.get("model_args") or {}
    if not isinstance(architecture, str) or not isinstance(preprocessing, Mapping) or not isinstance(args, Mapping):
        raise WeightsError(
            f"a model folder's config.json has our fields or timm's (architecture, pretrained_cfg); {folder} has "
            "neither; pass its weights file instead"
        )
    name = architecture.partition(".")[0]
    if variant == "auto" and (name in VARIANTS or name in ARCHITECTURES):
        variant = ARCHITECTURES.get(name, name)
        options = TIMM_DIFFERS.get(name, {}) | options
    if dialect == "auto" and name not in ARCHITECTURES:
        dialect = "timm"
    stated = {str(key): value for key, value in args.items() if key not in ("num_classes", "in_chans")}
    try:
        model, report = import_weights(
            _weights_file(folder), dialect=dialect, variant=variant, min_filled=min_filled, **{**stated, **options}
        )
    except UnknownNameError as error:
        raise WeightsError(f"{folder} is a network that we have no option for; {error}") from None
    labels = preprocessing.get("label_names") or values.get("label_names") or values.get("labels") or ()
    tag = preprocessing.get("tag")
    bundle = kind(
        model=model,
        preprocessing=read_preprocessing(preprocessing, model.config.in_chans, folder),
        classes=_classes(labels, model.num_classes),
        name=report.variant,
        license=str(preprocessing.get("license") or "unknown"),
        provenance={
            "weights": str(folder),
            "architecture": architecture + (f".{tag}" if tag and "." not in architecture else ""),
            "import": report.to_dict(),
        },
    )
    return bundle, report


def read_preprocessing(preprocessing: Mapping[str, Any], in_chans: int, where: Path) -> Preprocessing:
    """The preprocessing in timm's fields; timm's defaults apply to fields that are absent."""
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
        fields |= {name: tuple(preprocessing[name]) for name in ("mean", "std") if preprocessing.get(name)}
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


def _weights_file(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"a model folder holds its weights ({', '.join(WEIGHTS)}); {folder} has none; put them there")


def _classes(labels: object, count: int) -> tuple[str, ...]:
    """One name per logit: timm's list, or its mapping from number to name; numbers where neither fits."""
    if isinstance(labels, Mapping):
        labels = [labels.get(str(index), labels.get(index, str(index))) for index in range(count)]
    names = tuple(map(str, labels)) if isinstance(labels, list | tuple) else ()
    return names if len(names) == count else tuple(map(str, range(count)))
