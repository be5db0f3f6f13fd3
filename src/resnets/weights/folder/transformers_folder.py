"""Reading model folders of Hugging Face transformers: `config.json` with `model_type: resnet`, the image processor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnets.arch.networks import NetworkConfig
from resnets.arch.preprocessing import Interpolation, Preprocessing
from resnets.errors import ConfigError, WeightsError
from resnets.weights.dialects.transformers import TRANSFORMERS
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.config_json import read_json
from resnets.weights.folder.foreign import class_names, weights_file
from resnets.weights.load import import_weights
from resnets.weights.report import LoadReport

__all__ = ["is_transformers", "read_transformers_folder"]

PROCESSOR = "preprocessor_config.json"
RESAMPLE: dict[Any, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}  # of Pillow
SQUASHED = 384  # ConvNextImageProcessor crops smaller images, and squashes those of this size and larger


def is_transformers(values: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is of a network of transformers."""
    return "architecture" not in values and isinstance(values.get("model_type"), str)


def read_transformers_folder(
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
    """Read the network of a folder, and what `config.json` and the image processor state about it.

    Args:
        folder: where the weights are.
        values: the content of `config.json`.
        kind: class of the bundle.
        dialect, variant, min_filled, allow_nonfinite, **options: as for `import_weights`, in place of what the file
            states.
    """
    if values.get("model_type") != "resnet":
        raise WeightsError(
            f"folders of transformers are read whose model_type is resnet; {folder} has {values['model_type']!r}; no "
            "network here is one"
        )
    stated = {name: values[name] for name in TRANSFORMERS.options if name in values}
    model, report = import_weights(
        weights_file(folder),
        dialect="transformers" if dialect == "auto" else dialect,
        variant=variant,
        min_filled=min_filled,
        allow_nonfinite=allow_nonfinite,
        **{**stated, **options},
    )
    labels = values.get("id2label")
    path = folder / PROCESSOR
    processor = read_json(path) if path.is_file() else None
    bundle = kind(
        model=model,
        preprocessing=_preprocessing(processor or {}, model.config.in_chans, path),
        classes=class_names(labels, model.num_classes),
        name=report.variant,
        provenance={
            "weights": str(folder),
            "import": report.to_dict(),
            **({} if processor else {"note": f"without {PROCESSOR}, the preprocessing is assumed to be ImageNet's"}),
        },
    )
    return bundle, report


def _preprocessing(values: Mapping[str, Any], in_chans: int, path: Path) -> Preprocessing:
    """The preprocessing of an image processor; ImageNet's where it states none."""
    try:
        fields: dict[str, Any] = {"interpolation": RESAMPLE[values.get("resample", 2)], **_crop(values)}
        if not values.get("do_rescale", True):
            fields["value_range"] = (0, 255)
        if in_chans not in (1, 3):
            raise ConfigError(f"an image has 1 or 3 channels, and the network takes {in_chans}")
        if in_chans == 1:
            fields |= {"channels": "L", "mean": (0.449,), "std": (0.226,)}
        if not values.get("do_normalize", True):
            fields |= {"mean": (0,) * in_chans, "std": (1,) * in_chans}
        elif "image_mean" in values:
            fields |= {"mean": tuple(values["image_mean"]), "std": tuple(values["image_std"])}
        return Preprocessing(**fields)
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{PROCESSOR} must describe the preprocessing; {error!r}; in {path}; remove it, and pass --preprocessing"
        ) from None


def _crop(values: Mapping[str, Any]) -> dict[str, Any]:
    size, crop = values.get("size", 224), values.get("crop_size")
    if isinstance(size, int):
        size = {"shortest_edge": size}
    if not values.get("do_resize", True):
        raise ConfigError("do_resize=false takes images of any size")
    if "height" in size:
        return {"size": (size["height"], size["width"]), "crop_mode": "squash", "crop_pct": 1.0}
    edge = size["shortest_edge"]
    if crop is not None and values.get("do_center_crop", True):
        height, width = (crop, crop) if isinstance(crop, int) else (crop["height"], crop["width"])
        return {"size": (height, width), "crop_pct": min(height, width) / edge}
    if edge >= SQUASHED:
        return {"size": (edge, edge), "crop_mode": "squash", "crop_pct": 1.0}
    return {"size": (edge, edge), "crop_pct": values.get("crop_pct", 0.875)}
