"""Resolved settings of a run: the result of `resolve_config`, saved as `resolved.yaml`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from resnets.arch.networks import NetworkConfig, config_from_dict, config_to_dict
from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment.config import AugmentConfig
from resnets.errors import ConfigError, TrainingError
from resnets.options.validate import validate
from resnets.train.config.train_config import Count, RunOptions
from resnets.train.config.yaml_file import read_yaml, write_yaml
from resnets.train.freeze.phases import ResolvedPhase

__all__ = ["ResolvedConfig", "read_resolved", "write_resolved"]


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig(RunOptions):
    """All settings of a training run. Nothing is left to be inferred from the data.

    `device`, `amp` and `workers` stay as requested, since they depend on the machine, and a run may be resumed on
    another one. `epochs` is the sum over all phases, and `optim.lr` the peak learning rate for this batch size.

    Args:
        model: variant name, or name of the model that training starts from.
        phases: what is frozen when; one phase if nothing is ever frozen or unfrozen.
        network: configuration of the network that is built.
        preprocessing: from a decoded image to the input of the network.
        augment: augmentation of the training images.
        class_weights: weight of each class in the loss; `None` for equal weights.
        recipe_changes: options that differ from those of the recipe: name -> (value, the recipe's value).
        notes: warnings about the network at this image size, and how the pretrained model differs from the data.
        fresh_classifier: whether the classifier of the pretrained model starts anew although it has as many classes,
            since they are others.
    """

    model: str
    batch_size: Count
    phases: tuple[ResolvedPhase, ...]
    network: NetworkConfig
    preprocessing: Preprocessing
    augment: AugmentConfig
    class_weights: tuple[float, ...] | None
    recipe_changes: dict[str, tuple[Any, Any]]
    notes: tuple[str, ...]
    fresh_classifier: bool = False

    def check_rules(self) -> None:
        """Raise ConfigError for settings that `resolve_config` cannot have made."""
        first = 0
        for phase in self.phases:
            if phase.first_epoch != first:
                raise ConfigError(f"first_epoch of a phase must be {first} here; got {phase.first_epoch}")
            first += phase.epochs
        if first != self.epochs:
            raise ConfigError(f"phases must have {self.epochs} epochs together; got {first}")
        if self.class_weights is not None and len(self.class_weights) != self.network.num_classes:
            raise ConfigError(
                f"class_weights must be one per class, {self.network.num_classes}; got {len(self.class_weights)}"
            )

    @property
    def update_size(self) -> int:
        """Number of images per optimizer update."""
        return self.batch_size * self.optim.accumulate

    def phase_at(self, epoch: int) -> ResolvedPhase:
        """The phase of `epoch`, counted from 0; the last one for all later epochs."""
        return next(phase for phase in reversed(self.phases) if phase.first_epoch <= epoch)

    def train_size(self, epoch: int) -> tuple[int, int] | None:
        """(H, W) of the training images in `epoch`, counted from 0; `None` for the preprocessing's size."""
        sides = [side for share, side in self.train_sizes if share * self.epochs <= epoch]
        return self.scaled_size(sides[-1]) if sides else None

    def scaled_size(self, height: int) -> tuple[int, int]:
        """(H, W) of the preprocessing's size, scaled to `height` pixels."""
        size = self.preprocessing.size
        return height, max(1, round(height * size[1] / size[0]))

    def to_dict(self) -> dict[str, Any]:
        """All settings, in the types of YAML and JSON."""
        values = asdict(self)
        values |= {"network": config_to_dict(self.network), "preprocessing": self.preprocessing.to_dict()}
        plain: dict[str, Any] = json.loads(json.dumps(values))  # tuples become lists
        return plain


def write_resolved(path: Path, config: ResolvedConfig) -> None:
    """Write a run's `resolved.yaml`."""
    write_yaml(path, config.to_dict(), "Settings of this run, inferred from args.yaml and the data. Do not edit.")


def read_resolved(path: Path) -> ResolvedConfig:
    """Read what `write_resolved` wrote.

    Raises:
        TrainingError: the file is missing or incomplete, or has an unknown or invalid option.
    """
    values = read_yaml(path, "resolved.yaml of a run", "restore it")
    try:
        values["network"] = config_from_dict(values["network"])
        values["preprocessing"] = Preprocessing.from_dict(values["preprocessing"])
        return validate(ResolvedConfig, {one.name: values[one.name] for one in fields(ResolvedConfig)} | values)
    except (ConfigError, KeyError, TypeError) as error:
        raise TrainingError(f"resuming needs resolved.yaml as it was written; {path}: {error}; restore it") from None
