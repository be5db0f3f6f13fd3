"""Opening the model that a reference stands for: every kind of reference through one function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnets.arch.networks import NetworkConfig
from resnets.arch.preprocessing import Preprocessing
from resnets.errors import ConfigError, WeightsError
from resnets.nn.model import Network
from resnets.weights.dialects import get_dialect
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.config_json import read_json
from resnets.weights.folder.model_folder import read_bundle
from resnets.weights.folder.storage import CONFIG, TENSORS, current_folder
from resnets.weights.folder.timm_folder import read_timm_folder
from resnets.weights.folder.transformers_folder import is_transformers, read_transformers_folder
from resnets.weights.hub import fetch
from resnets.weights.load import import_weights
from resnets.weights.registry import NAMED_WEIGHTS, get_weights
from resnets.weights.report import LoadReport
from resnets.weights.resolve import Reference, resolve

__all__ = ["OpenedModel", "load_bundle", "open_model"]

GRAY_MEAN, GRAY_STD = (0.449,), (0.226,)  # the means of ImageNet's three


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A model, and how it was read.

    Args:
        reference: what it was read from.
        model: the network, in evaluation mode.
        report: how its tensors were read; `None` for a model folder of ours.
        bundle: the network with what its source states about it; `None` for a weights file of a network whose
            preprocessing cannot be assumed.
        preprocessing_assumed: whether the preprocessing is the usual one of the dialect, as files do not state it.
    """

    reference: Reference
    model: Network
    report: LoadReport | None = None
    bundle: Bundle | None = None
    preprocessing_assumed: bool = False

    def require_bundle(self) -> Bundle:
        """The bundle, or a `WeightsError` where there is none."""
        if self.bundle is None:
            raise WeightsError(
                f"a weights file does not state its preprocessing; {self.reference.text} takes "
                f"{self.model.config.in_chans} channels; use import_weights and build a Bundle with a Preprocessing"
            )
        return self.bundle


def open_model(
    reference: Reference,
    kind: type[Bundle] = Bundle,
    *,
    dialect: str = "auto",
    variant: str | NetworkConfig = "auto",
    min_filled: float = 1.0,
    allow_nonfinite: bool = False,
    options: dict[str, Any] | None = None,
) -> OpenedModel:
    """Read the model of a reference; named weights are downloaded if they are not in the cache.

    A weights file states neither class names nor preprocessing: classes are numbered, the preprocessing is the usual
    one of the dialect, and the provenance records that.

    Args:
        reference: from `resolve`.
        kind: class of the bundle.
        dialect, variant, min_filled, options: as for `import_weights`; not for model folders of ours.
        allow_nonfinite: as for `import_weights`.

    Raises:
        WeightsError: a network's name alone, a failed download, or a folder or file that cannot be used.
        ConfigError: options that are unknown, or given for a model folder of ours.
    """
    path = reference.path
    if path is None:
        here = f" (for the folder, write ./{reference.text})" if Path(reference.text).exists() else ""
        published = [one for one in NAMED_WEIGHTS if one.startswith(f"{reference.text}.")]
        listed = f"pass {', '.join(published)}, or " if published else "train it, or pass `starter`, "
        raise WeightsError(
            f"a model with weights is required; {reference.text} is a network without any{here}; "
            f"{listed}a weights file, a model folder or a run folder"
        )
    arguments: dict[str, Any] = {"dialect": dialect, "variant": variant, "min_filled": min_filled, **(options or {})}
    if reference.kind in ("named", "file"):
        return _open_file(reference, kind, path, arguments | {"allow_nonfinite": allow_nonfinite})
    folder = current_folder(path)
    values = read_json(folder / CONFIG)
    if "resnets" not in values:
        read = read_transformers_folder if is_transformers(values) else read_timm_folder
        try:
            bundle, report = read(folder, values, kind, allow_nonfinite=allow_nonfinite, **arguments)
        except WeightsError as error:
            if Path(reference.text).name != TENSORS:
                raise
            file = replace(reference, kind="file", path=folder / TENSORS)
            opened = _open_file(file, kind, folder / TENSORS, arguments | {"allow_nonfinite": allow_nonfinite})
            assert opened.report is not None
            notes = (*opened.report.notes, f"the config.json beside the file is not used: {error}")
            return replace(opened, report=replace(opened.report, notes=notes))
        return OpenedModel(reference=reference, model=bundle.model, bundle=bundle, report=report)
    if given := [name for name, value in arguments.items() if value not in ("auto", 1.0) or name in (options or {})]:
        raise ConfigError(f"config.json of our model folders determines the network; got {', '.join(given)}; drop them")
    bundle = read_bundle(folder, kind, allow_nonfinite=allow_nonfinite)
    return OpenedModel(reference=reference, model=bundle.model, bundle=bundle)


def load_bundle(reference: str | Path, kind: type[Bundle] = Bundle, *, allow_nonfinite: bool = False) -> Bundle:
    """The bundle of a model reference, of class `kind`, in evaluation mode."""
    return open_model(resolve(reference), kind, allow_nonfinite=allow_nonfinite).require_bundle()


def _open_file(reference: Reference, kind: type[Bundle], path: Path, arguments: dict[str, Any]) -> OpenedModel:
    weights = get_weights(reference.text) if reference.kind == "named" else None
    if weights is not None:
        path = fetch(weights.url, weights.sha256)
        if arguments["variant"] == "auto":
            arguments["variant"] = weights.variant
    model, report = import_weights(path, **arguments)
    opened = OpenedModel(reference=reference, model=model, report=report)
    preprocessing = weights.preprocessing if weights else _usual_preprocessing(model.config, report.dialect)
    if preprocessing is None:
        return opened
    if weights is None and report.preprocessing:
        preprocessing = replace(preprocessing, **report.preprocessing)
    if weights is None:
        note = f"classes are numbered, and preprocessing is assumed from the {report.dialect} dialect"
        if "mean" in report.preprocessing:
            note = "classes are numbered; the normalisation is the file's, channel order and crop are assumed"
        provenance: dict[str, Any] = {"weights": path.name, "import": report.to_dict()}
        provenance["note"] = f"the file states no classes and not all of the preprocessing: {note}"
    else:
        provenance = {"weights": weights.name, "url": weights.url, "sha256": weights.sha256, "import": report.to_dict()}
        if weights.top1 is not None:
            provenance["metrics"] = {"imagenet top-1": weights.top1 / 100}
    bundle = kind(
        model=model,
        preprocessing=preprocessing,
        classes=tuple(map(str, range(model.num_classes))),
        name=weights.variant if weights else report.variant,
        license=weights.license if weights else "unknown",
        provenance=provenance,
    )
    return replace(opened, bundle=bundle, preprocessing_assumed=weights is None and "mean" not in report.preprocessing)


def _usual_preprocessing(config: NetworkConfig, dialect: str) -> Preprocessing | None:
    """What a dialect's networks are trained with; `None` for an input of other than 1 or 3 channels."""
    if config.in_chans not in (1, 3):
        return None
    size = (config.img_size, config.img_size)
    small = config.img_size < 64  # such networks take whole images
    preprocessing = Preprocessing(size=size, crop_pct=1.0) if small else Preprocessing(size=size)
    if config.in_chans == 1:
        return replace(preprocessing, channels="L", mean=GRAY_MEAN, std=GRAY_STD)
    return replace(preprocessing, **get_dialect(dialect).preprocessing(config))
