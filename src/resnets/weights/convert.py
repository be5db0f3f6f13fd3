"""Conversion of any model to a model folder, or to a weights file with another codebase's names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnets.arch.preprocessing import NORMALISATIONS, Preprocessing
from resnets.atomic import write_atomic
from resnets.errors import ConfigError, UnknownNameError, WeightsError
from resnets.nn.model import Network
from resnets.small_files import read_small_text
from resnets.weights.adapt import adapt
from resnets.weights.dialects import get_dialect
from resnets.weights.export import FORMATS, call_for, save_weights
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.model_folder import save_bundle
from resnets.weights.folder.timm_folder import save_timm_folder
from resnets.weights.key_map import read_key_map
from resnets.weights.open import open_model
from resnets.weights.readers import SUFFIXES
from resnets.weights.report import AdaptReport, LoadReport
from resnets.weights.resolve import resolve

__all__ = ["Conversion", "convert"]

MAX_MAPPING = 2**26  # bytes of a mapping that is replaced


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """Result of a conversion.

    Args:
        model: the network.
        report: how its tensors were read; `None` for a model folder of ours.
        adapted: what another number of classes changed.
        preprocessing: of its images; `None` where it is unknown and no folder is written.
        preprocessing_assumed: whether that is only the usual one of the dialect.
        classes: names of the logits.
        written: the model folder or the weights file; `None` where no output was requested.
        call: with another codebase's names, the call that builds the network there; `None` where it is not known.
        map: the file with the key mapping.
    """

    model: Network
    report: LoadReport | None
    adapted: AdaptReport | None
    preprocessing: Preprocessing | None
    preprocessing_assumed: bool
    classes: tuple[str, ...]
    written: Path | None = None
    call: str | None = None
    map: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Every field but the network, as JSON can hold it."""
        return {
            "report": self.report.to_dict() if self.report else None,
            "adapted": self.adapted.to_dict() if self.adapted else None,
            "config": self.model.config.to_dict(),
            "preprocessing": self.preprocessing.to_dict() if self.preprocessing else None,
            "preprocessing_assumed": self.preprocessing_assumed,
            "classes": list(self.classes),
            "written": str(self.written) if self.written else None,
            "call": self.call,
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
    preprocessing: str | None = None,
    labels: Path | str | None = None,
    map: Path | str | None = None,
    min_filled: float = 1.0,
    allow_nonfinite: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Conversion:
    """Read a model, and write it as a model folder or with another codebase's names.

    Args:
        source: a weights file, a model folder of ours or of timm's, a run folder, named weights, or `starter`.
        output: the model folder, or with `to` the `.safetensors` or `.npz` file; with `to="timm"` also a folder, as
            timm writes it; `None` writes nothing.
        dialect, variant: naming and network of a file, where they cannot be detected.
        to: the dialect to write.
        num_classes: another number of classes: a fresh classifier; 0 leaves it out.
        preprocessing: what the network was trained with, a key of `NORMALISATIONS`, where the file does not state it.
        labels: a file of class names, one per line, or a JSON list.
        map: a `.json` file to write the mapping of every key to; or a `.yaml` file of renames to read (see
            `key_map.py`).
        min_filled: share of the network's values that a file must give.
        allow_nonfinite: accept weights that are NaN or infinite, and variances below zero.
        options: what tensors do not determine, in the dialect's spelling or as config fields.

    Raises:
        WeightsError, ConfigError: as `open_model`, `save_weights` and `save_bundle`; then nothing is written.
    """
    if to is not None and output is None:
        raise ConfigError(f"a dialect is written to a file; got to={to!r} without an output; name a .safetensors file")
    suffix = Path(output).suffix.lower() if output is not None else ""
    if suffix in SUFFIXES and (to is None or suffix not in FORMATS):
        raise ConfigError(
            f"without to= (--to) a folder is written, and with it a {' or '.join(FORMATS)} file; got {output}; "
            f"{'name a folder, or pass --to' if to is None else 'rename it'}"
        )
    key_map, mapping = _read_or_write(map)
    opened = open_model(
        resolve(source),
        dialect=dialect,
        variant=variant,
        min_filled=min_filled,
        allow_nonfinite=allow_nonfinite,
        options=dict(options or {}) | ({"key_map": key_map} if key_map is not None else {}),
    )
    model, bundle, report = opened.model, opened.bundle, opened.report
    adapted = None
    if num_classes is not None and num_classes != model.num_classes:
        model, adapted = adapt(model, model.config.with_overrides(num_classes=num_classes), where=str(source))
    classes = tuple(str(index) for index in range(model.num_classes))
    if labels is not None:
        classes = _read_labels(Path(labels), model.num_classes)
    elif bundle is not None and adapted is None:
        classes = bundle.classes
    assumed = opened.preprocessing_assumed
    if preprocessing is not None:
        bundle, assumed = _normalised(opened.require_bundle(), preprocessing), False
    written = call = None
    if output is not None and to is not None:
        call = call_for(model.config, to)
    if output is not None and to == "timm" and Path(output).suffix.lower() not in FORMATS:
        bundle = replace(bundle or opened.require_bundle(), model=model, classes=classes)
        written = save_timm_folder(bundle, output)
        call = replace(call, architecture=f"local-dir:{written}", arguments={}) if call else None
    elif output is not None and to is not None:
        written = save_weights(model, output, dialect=to)
    elif output is not None:
        bundle = replace(bundle or opened.require_bundle(), model=model, classes=classes)
        if adapted is not None:
            provenance = {**bundle.provenance, "adapted": adapted.to_dict()}
            bundle = replace(bundle, provenance=provenance, calibration=None)
        written = save_bundle(bundle, output)
    if mapping is not None:
        write_atomic(mapping, json.dumps(_mapping(model, report, to), indent=2) + "\n")
    return Conversion(
        model=model,
        report=report,
        adapted=adapted,
        preprocessing=bundle.preprocessing if bundle is not None else None,
        preprocessing_assumed=assumed,
        classes=classes,
        written=written,
        call=None if call is None else call.call,
        map=mapping,
    )


def _normalised(bundle: Bundle, name: str) -> Bundle:
    """The bundle with a named treatment of the image's values."""
    if name not in NORMALISATIONS:
        raise UnknownNameError("preprocessing", name, NORMALISATIONS)
    provenance = {**bundle.provenance, "note": f"the preprocessing is {name}, as it was passed"}
    return replace(bundle, preprocessing=replace(bundle.preprocessing, **NORMALISATIONS[name]), provenance=provenance)


def _read_or_write(map: Path | str | None) -> tuple[dict[str, str | None] | None, Path | None]:
    """The renames in a `.yaml` file; or the `.json` file that the mapping is written to."""
    if map is None:
        return None, None
    path = Path(map)
    if path.suffix.lower() in (".yaml", ".yml"):
        return read_key_map(path), None
    if path.suffix.lower() != ".json":
        raise ConfigError(
            f"map is a .yaml file of renames, which is read, or a .json file, which is written; got {map}; rename it"
        )
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"the mapping is written to a file in an existing folder; got {map}; pass another path")
    if path.exists() and not _is_mapping(path):
        raise ConfigError(f"the mapping replaces only an earlier one; {map} holds something else; pass another path")
    return None, path


def _is_mapping(path: Path) -> bool:
    """Whether a file is a mapping that `convert` wrote."""
    try:
        values = json.loads(path.read_bytes()[:MAX_MAPPING])
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and "dialect" in values


def _read_labels(path: Path, count: int) -> tuple[str, ...]:
    try:
        text = read_small_text(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise WeightsError(f"cannot read labels; {path}: {reason}; write one class name per line") from None
    names: Any = text.splitlines()
    if path.suffix.lower() == ".json":
        try:
            names = json.loads(text)
        except (ValueError, RecursionError):
            names = None
        if isinstance(names, dict):
            names = [names.get(str(index)) for index in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise WeightsError(f"labels are one name per line, or a JSON list of names; {path} is neither; correct it")
    if len(names) != count:
        raise WeightsError(f"each logit has one class name; {path} has {len(names)} for {count} logits; correct it")
    return tuple(name.strip() for name in names)


def _mapping(model: Network, report: LoadReport | None, to: str | None) -> dict[str, Any]:
    """Each key of the file to ours, and with `to` each of our keys to the written one."""
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
