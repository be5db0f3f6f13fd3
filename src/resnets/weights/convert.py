"""From any model to a model folder of ours, or to a weights file in another codebase's names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnets.arch.preprocessing import Preprocessing
from resnets.atomic import write_atomic
from resnets.errors import ConfigError, WeightsError
from resnets.nn.model import Network
from resnets.weights.adapt import AdaptReport, adapt
from resnets.weights.dialects import get_dialect
from resnets.weights.export import save_weights
from resnets.weights.folder.bundle import Bundle, read_folder
from resnets.weights.folder.config_json import read_json
from resnets.weights.folder.storage import CONFIG, standing
from resnets.weights.folder.timm import read_timm_folder
from resnets.weights.hub import fetch
from resnets.weights.partial import import_partly
from resnets.weights.registry import NAMED
from resnets.weights.report import LoadReport
from resnets.weights.resolve import assumed_preprocessing, resolve

__all__ = ["Conversion", "convert"]


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was understood of a model, and what was written.

    Args:
        model: the network.
        report: how its tensors were read; `None` for a model folder of ours.
        adapted: what another number of classes changed.
        preprocessing: of its images; `None` where nothing says it and no folder is written.
        assumed_preprocessing: whether that is only what the dialect's networks usually have.
        classes: names of the logits.
        written: the model folder or the weights file; `None` where nothing was asked for.
        map: the file with the mapping.
    """

    model: Network
    report: LoadReport | None
    adapted: AdaptReport | None
    preprocessing: Preprocessing | None
    assumed_preprocessing: bool
    classes: tuple[str, ...]
    written: Path | None = None
    map: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it but the network, as JSON can hold it."""
        return {
            "report": self.report.to_dict() if self.report else None,
            "adapted": self.adapted.to_dict() if self.adapted else None,
            "config": self.model.config.to_dict(),
            "preprocessing": self.preprocessing.to_dict() if self.preprocessing else None,
            "preprocessing_assumed": self.assumed_preprocessing,
            "classes": list(self.classes),
            "written": str(self.written) if self.written else None,
            "map": str(self.map) if self.map else None,
        }


def convert(
    source: Path | str,
    output: Path | str | None = None,
    *,
    dialect: str = "auto",
    variant: str = "auto",
    to: str | None = None,
    num_classes: int | None = None,
    labels: Path | str | None = None,
    map: Path | str | None = None,
    min_filled: float = 1.0,
    options: Mapping[str, Any] | None = None,
) -> Conversion:
    """Understand a model, and write it as a model folder, or in another codebase's names.

    Args:
        source: a weights file, a model folder of ours or of timm's, a run folder, named weights, or `starter`.
        output: the model folder, or with `to` the `.safetensors` or `.npz` file; `None` writes nothing.
        dialect, variant: whose naming a file follows and which network it is, where that must be said.
        to: the dialect to write in.
        num_classes: another number of classes: a fresh classifier; 0 leaves it out.
        labels: a file of class names, a line each, or a JSON list.
        map: a JSON file for the mapping of every key.
        min_filled: the share of the network that a file must give.
        options: what tensors cannot tell, in the dialect's spelling or as fields of `NetworkConfig`.

    Raises:
        WeightsError, ConfigError: as `import_weights`, `save_weights` and `Bundle.save`; then nothing is written.
    """
    if to is not None and output is None:
        raise ConfigError(f"a dialect is written to a file; got to={to!r} without an output; name a .safetensors file")
    wanted = {"dialect": dialect, "variant": variant, **(options or {})}
    found, report, assumed = _opened(source, wanted, min_filled, folder=output is not None and to is None)
    adapted = None
    if num_classes is not None and num_classes != found.model.num_classes:
        config = found.model.config.with_overrides(num_classes=num_classes)
        model, adapted = adapt(found.model, config, where=str(source))
        found = replace(found, model=model, classes=tuple(str(index) for index in range(num_classes)))
    if labels is not None:
        found = replace(found, classes=_read_labels(Path(labels), found.model.num_classes))
    written = None
    if map is not None:
        _check_place(Path(map))
    if output is not None and to is not None:
        written = save_weights(found.model, output, dialect=to)
    elif output is not None:
        assert found.preprocessing is not None
        extra = {"adapted": adapted.to_dict()} if adapted else {}
        written = Bundle(
            model=found.model,
            preprocessing=found.preprocessing,
            classes=found.classes,
            name=found.name,
            license=found.license,
            provenance={**found.provenance, **extra},
            calibration=found.calibration if adapted is None else None,
        ).save(output)
    if map is not None:
        write_atomic(Path(map), json.dumps(_mapping(found.model, report, to), indent=2) + "\n")
    return Conversion(
        model=found.model,
        report=report,
        adapted=adapted,
        preprocessing=found.preprocessing,
        assumed_preprocessing=assumed,
        classes=found.classes,
        written=written,
        map=Path(map) if map is not None else None,
    )


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The parts of a bundle, before they are held against each other."""

    model: Network
    preprocessing: Preprocessing | None
    classes: tuple[str, ...]
    name: str
    license: str = "unknown"
    provenance: dict[str, Any]
    calibration: dict[str, Any] | None = None


def _opened(
    source: Path | str, wanted: dict[str, Any], min_filled: float, *, folder: bool
) -> tuple[_Found, LoadReport | None, bool]:
    """The model, how it was read, and whether its preprocessing is only assumed."""
    text, report = str(source), None
    if text in NAMED and isinstance(source, str):
        weights = NAMED[text]
        wanted = {**wanted, "variant": weights.variant} if wanted["variant"] == "auto" else wanted
        model, report = import_partly(fetch(weights.url, weights.sha256), min_filled=min_filled, **wanted)
        bundle = _numbered(model, report, text)
        return replace(bundle, preprocessing=weights.preprocessing, license=weights.license), report, False
    path = Path(text).expanduser()
    if text == "starter" or path.is_dir() or standing(path).is_dir():
        found = resolve(source)
        assert found.path is not None
        place = standing(found.path)
        values = read_json(place / CONFIG)
        if "resnets" in values:
            bundled = read_folder(place)
            if asked := {key: value for key, value in wanted.items() if value != "auto"}:
                raise ConfigError(
                    f"a model folder of ours says itself what it is; got {', '.join(asked)}; drop these options"
                )
        else:
            bundled, report = read_timm_folder(place, values, **wanted)
        parts = {name: getattr(bundled, name) for name in _Found.__dataclass_fields__}
        return _Found(**parts), report, False
    model, report = import_partly(path, min_filled=min_filled, **wanted)
    bundle = _numbered(model, report, text)
    if folder or model.config.in_chans in (1, 3):
        bundle = replace(bundle, preprocessing=assumed_preprocessing(model.config, report.dialect, path))
    return bundle, report, True


def _numbered(model: Network, report: LoadReport, source: str) -> _Found:
    return _Found(
        model=model,
        preprocessing=None,
        classes=tuple(str(index) for index in range(model.num_classes)),
        name=report.variant,
        provenance={"weights": source, "import": report.to_dict()},
    )


def _read_labels(path: Path, count: int) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise WeightsError(f"cannot read labels; {path}: {reason}; give a line for each class") from None
    names: Any = text.splitlines()
    if path.suffix.lower() == ".json":
        try:
            names = json.loads(text)
        except (ValueError, RecursionError):
            names = None
        if isinstance(names, dict):
            names = [names.get(str(index)) for index in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise WeightsError(f"labels are a name a line, or a JSON list of names; {path} has others; write them so")
    if len(names) != count:
        raise WeightsError(f"each logit has one class name; {path} has {len(names)} for {count} logits; correct it")
    return tuple(name.strip() for name in names)


def _mapping(model: Network, report: LoadReport | None, to: str | None) -> dict[str, Any]:
    """Every key of theirs to ours, and with `to` every key of ours to what was written."""
    mapping: dict[str, Any] = {"dialect": report.dialect if report else "resnets"}
    if report is not None:
        absent = set(report.missing)
        theirs = get_dialect(report.dialect).key_map(model.plan)
        renamed = {key: name for name, key in report.renames.items()}
        mapping["read"] = {renamed.get(key, name): key for key, name in theirs.items() if key not in absent}
        mapping["missing"], mapping["unexpected"] = list(report.missing), list(report.unexpected)
        mapping["dropped"] = list(report.dropped)
    if to is not None:
        names = get_dialect(to).key_map(model.plan)
        mapping["to"], mapping["written"] = to, {key: names[key] for key in model.state_dict() if key in names}
    return mapping


def _check_place(path: Path) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"the mapping is written to a file in a folder that is there; got {path}; name another")
