"""Model folders that timm or the Hugging Face hub wrote: `config.json` in timm's fields, and the weights beside it.

timm's fields: `architecture` (its name of the network), `model_args` (options in its spelling), `pretrained_cfg`
(`input_size`, `mean`, `std`, `interpolation`, `crop_pct`, `crop_mode`, `license`, ...), `label_names`. Files of its
early days have `pretrained_cfg`'s fields at the top.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from resnets.arch.preprocessing import CropMode, Interpolation, Preprocessing
from resnets.arch.variants import VARIANTS
from resnets.errors import ConfigError, UnknownNameError, WeightsError
from resnets.weights.dialects import DIALECTS
from resnets.weights.folder.bundle import Bundle
from resnets.weights.load import import_weights
from resnets.weights.report import LoadReport

__all__ = ["ARCHITECTURES", "read_preprocessing", "read_timm_folder"]

WEIGHTS = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")

# timm's names of networks that we have under another.
ARCHITECTURES = {
    "legacy_seresnet50": "se_resnet50",
    "legacy_seresnet101": "se_resnet101",
    "legacy_seresnet152": "se_resnet152",
    "legacy_seresnext50_32x4d": "se_resnext50_32x4d",
    "legacy_seresnext101_32x4d": "se_resnext101_32x4d",
    "legacy_senet154": "senet154",
}

# timm's own `senet154` pools as its other networks do; under this name we have Caffe's.
DIFFERENT = {"senet154": {"stem_pool": "max"}}


def read_timm_folder(
    folder: Path, values: Mapping[str, Any], *, dialect: str = "auto", variant: str = "auto", **options: Any
) -> tuple[Bundle, LoadReport]:
    """The network of a folder with what its `config.json` says of it.

    Args:
        folder: where the weights are.
        values: the content of `config.json`.
        dialect, variant, **options: as for `import_weights`, in place of what the file says.

    Raises:
        WeightsError: no weights, or a description that is not timm's.
        ConfigError: options of a network that we do not have.
    """
    architecture = values.get("architecture")
    preprocessing, args = values.get("pretrained_cfg", values), values.get("model_args") or {}
    if not isinstance(architecture, str) or not isinstance(preprocessing, Mapping) or not isinstance(args, Mapping):
        raise WeightsError(
            f"a model folder's config.json has our fields or timm's (architecture, pretrained_cfg); {folder} has "
            "neither; give its weights file instead"
        )
    name = architecture.partition(".")[0]
    legacy = name in ARCHITECTURES
    if variant == "auto" and (name in VARIANTS or legacy):
        variant = ARCHITECTURES.get(name, name)
        options = DIFFERENT.get(name, {}) | options
    try:
        if dialect == "auto" and "timm" in DIALECTS and not legacy:
            dialect = "timm"
        model, report = import_weights(
            _weights(folder), dialect=dialect, variant=variant, **{**_plain_args(args), **options}
        )
    except UnknownNameError as error:
        raise WeightsError(f"{folder} is a network that we have no option for; {error}") from None
    labels = preprocessing.get("label_names") or values.get("label_names") or values.get("labels") or ()
    tag = preprocessing.get("tag")
    bundle = Bundle(
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
    """The preprocessing in timm's fields; what it leaves out is as timm has it by default.

    Raises:
        WeightsError: values that are no preprocessing.
    """
    interpolation = preprocessing.get("interpolation") or "bicubic"
    mode = preprocessing.get("crop_mode") or "center"
    try:
        if interpolation == "random":  # timm's word for one drawn in training
            interpolation = "bilinear"
        if interpolation not in get_args(Interpolation) or mode not in get_args(CropMode):
            raise ConfigError(f"interpolation {interpolation!r} and crop_mode {mode!r} are not among ours")
        fields: dict[str, Any] = {
            "size": tuple(preprocessing.get("input_size") or (3, 224, 224))[1:],
            "crop_mode": mode,
            "crop_pct": preprocessing.get("crop_pct") or 0.875,
            "interpolation": interpolation,
        }
        fields |= {name: tuple(preprocessing[name]) for name in ("mean", "std") if preprocessing.get(name)}
        if in_chans == 1:
            fields["channels"] = "L"
            grey = Preprocessing()
            fields |= {name: _one(fields.get(name) or getattr(grey, name)) for name in ("mean", "std")}
        elif in_chans != 3:
            raise ConfigError(f"an image has 1 or 3 channels, and the network takes {in_chans}")
        return Preprocessing(**fields)
    except (ConfigError, TypeError, ValueError) as error:
        raise WeightsError(
            f"config.json must say how images are prepared; {error}; in {where}; give its weights file instead"
        ) from None


def _one(values: tuple[float, ...]) -> tuple[float]:
    return (round(sum(values) / len(values), 6),)


def _weights(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"a model folder holds its weights ({', '.join(WEIGHTS)}); {folder} has none; put them there")


def _plain_args(args: Mapping[str, Any]) -> dict[str, Any]:
    """`model_args` without what the tensors say themselves."""
    return {str(name): value for name, value in args.items() if name not in ("num_classes", "in_chans")}


def _classes(labels: object, count: int) -> tuple[str, ...]:
    """One name a logit: timm's list, or its table from number to name; numbers where it has none or others."""
    if isinstance(labels, Mapping):
        labels = [labels.get(str(index), labels.get(index, str(index))) for index in range(count)]
    names = tuple(map(str, labels)) if isinstance(labels, list | tuple) else ()
    return names if len(names) == count else tuple(map(str, range(count)))
