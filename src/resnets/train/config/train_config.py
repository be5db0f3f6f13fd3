"""What a training run is told: one strict configuration, whether it comes from flags, keywords, a recipe or a file.

Options stand in groups (`optim.lr`); since no two groups share a name, the last part (`lr`) is enough everywhere.
A group that is given one plain value means its first option: `freeze: layer3`. A field left `None` is worked out
from the data; a run's `args.yaml` holds the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from resnets.atomic import write_atomic
from resnets.data.augment.auto import parse_policy
from resnets.data.augment.config import AugmentConfig
from resnets.data.augment.mixup import MixConfig
from resnets.data.sampler import Sampling
from resnets.errors import ConfigError, TrainingError, UnknownNameError
from resnets.options.validate import checked
from resnets.options.yaml_text import load_yaml
from resnets.train.config.layers import Nested, filled, overlay
from resnets.train.config.options import (
    AverageConfig,
    CacheConfig,
    LossConfig,
    OptimConfig,
    SaveConfig,
    ScheduleConfig,
    require,
)
from resnets.train.freeze.phases import NONE, FreezeConfig, Phase

__all__ = ["GROUPS", "TrainConfig", "nested", "option_names", "parse_settings", "read_args", "read_yaml", "write_args"]

GROUPS: dict[str, type] = {
    "optim": OptimConfig,
    "schedule": ScheduleConfig,
    "loss": LossConfig,
    "augment": AugmentConfig,
    "mix": MixConfig,
    "sampling": Sampling,
    "average": AverageConfig,
    "freeze": FreezeConfig,
    "cache": CacheConfig,
    "save": SaveConfig,
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The recipe and its surroundings.

    Args:
        data: `digits`, a folder `{train,val,test}/class/*`, a CSV, WebDataset or Parquet shards, a packed folder.
        model: a variant name; `None`: `resnet20_cifar` for images up to 64 pixels, else `resnet18`.
        model_args: fields of the network's configuration to change, such as `{"shortcut": "B"}`.
        pretrained: a model reference (`starter`, a file, a folder) whose weights to start from.
        recipe: the named recipe (or its file) that the rest came from; only for the record.
        epochs: passes over the training images.
        batch_size: images that run together, over all processes, see `optim.accumulate`; `None`: 128 for small
            images and 32 for large ones, less where the data would make fewer than 32 steps an epoch.
        img_size: pixels a side, or (H, W); `None`: that of the images if they are all alike and small, else 224.
        train_sizes: other sizes to train at, each with the share of the run from which it holds: ((0, 128),
            (0.7, 176)); validation is at `img_size` always.
        channels: `RGB`, `L`, or how many bands; `None`: what the images have.
        depth: `uint8`, `uint16` or `float32`; `None`: what the images have.
        crop_pct, interpolation: of validation, see `Preprocessing`; `None` as usual for the size.
        val_fraction: share of the training images held out where the data has no `val` split.
        folds: hold out one part of so many instead; fold: which, from 0.
        seed: of weights, order and augmentation.
        amp: mixed precision: `auto` (bfloat16 where the device computes in it), `bf16`, `fp16` or `off`.
        channels_last: the memory layout that convolutions like.
        compile: torch.compile's mode, or `off`; `reduce-overhead` and `max-autotune` use CUDA graphs.
        sync_bn: batch statistics over all processes.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        workers: who decode large images; `None`: one a core.
        workers_kind: `processes`, or `threads`, which suit packed data and few cores and copy nothing.
        skip_bad: leave out images that do not decode, listed in `quarantine.txt`, instead of stopping.
        tensorboard: write events for TensorBoard into the run folder too.
        output: the folder of runs; name: this run's folder in it, `None`: after model and data.
        optim, schedule, loss, mix, sampling, average, cache, save: see their classes.
        augment: fields of `AugmentConfig`; those left out follow from the images.
        freeze: what does not train at first.
        phases: the same in full, in place of `epochs` and `freeze`: a list of mappings, each with `epochs` and any of
            `freeze`, `lr`, `warmup_epochs`, `layer_decay`, `bn_stats`, `bn_affine`; see docs/training.md, "Freezing".
    """

    data: str
    model: str | None = None
    model_args: dict[str, Any] = field(default_factory=dict)
    pretrained: str | None = None
    recipe: str | None = None
    epochs: int = 30
    batch_size: int | None = None
    img_size: int | tuple[int, int] | None = None
    train_sizes: tuple[tuple[float, int], ...] = ()
    channels: Literal["RGB", "L"] | int | None = None
    depth: Literal["uint8", "uint16", "float32"] | None = None
    crop_pct: float | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "box", "lanczos"] | None = None
    val_fraction: float = 0.1
    folds: int | None = None
    fold: int = 0
    seed: int = 0
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto"
    channels_last: bool = True
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = "off"
    sync_bn: bool = False
    device: str = "auto"
    workers: int | None = None
    workers_kind: Literal["processes", "threads"] = "processes"
    skip_bad: bool = False
    tensorboard: bool = False
    output: str = "runs"
    name: str | None = None
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: dict[str, Any] = field(default_factory=dict)
    mix: MixConfig = field(default_factory=MixConfig)
    sampling: Sampling = field(default_factory=Sampling)
    average: AverageConfig = field(default_factory=AverageConfig)
    freeze: FreezeConfig = field(default_factory=FreezeConfig)
    phases: tuple[Phase, ...] = ()
    cache: CacheConfig = field(default_factory=CacheConfig)
    save: SaveConfig = field(default_factory=SaveConfig)

    def __post_init__(self) -> None:
        size, starts, sides = (
            self.size,
            [start for start, _ in self.train_sizes],
            [side for _, side in self.train_sizes],
        )
        require(
            self,
            {
                "epochs": (self.epochs >= 1, "at least 1"),
                "batch_size": (self.batch_size is None or self.batch_size >= 1, "at least 1"),
                "img_size": (size is None or (len(size) == 2 and min(size) >= 1), "pixels a side, or (H, W)"),
                "train_sizes": (
                    not starts
                    or (starts == sorted(set(starts)) and starts[0] == 0 and starts[-1] < 1 and min(sides) >= 1),
                    "shares of the run that rise from 0 to below 1, each with a size of at least 1 pixel",
                ),
                "crop_pct": (self.crop_pct is None or 0 < self.crop_pct <= 1, "in (0, 1]"),
                "val_fraction": (0 <= self.val_fraction < 1, "in [0, 1)"),
                "folds": (self.folds is None or self.folds >= 2, "at least 2"),
                "fold": (0 <= self.fold < (self.folds or 1), "below folds"),
                "seed": (0 <= self.seed < 2**32, "in [0, 2**32)"),
                "workers": (self.workers is None or self.workers >= 0, "at least 0"),
                "amp": (self.amp in ("auto", "bf16", "fp16", "off"), "auto, bf16, fp16 or off"),
                "name": (
                    self.name is None or (self.name not in ("", ".", "..") and "/" not in self.name),
                    "a folder name",
                ),
            },
        )

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W) that `img_size` means."""
        return (self.img_size, self.img_size) if isinstance(self.img_size, int) else self.img_size

    @property
    def update_size(self) -> int:
        """Images of one update."""
        return (self.batch_size or 1) * self.optim.accumulate

    @classmethod
    def from_options(cls, *layers: Mapping[str, Any], **options: Any) -> TrainConfig:
        """The configuration of these options, checked strictly; a later layer has the last word, see `layering`.

        Args:
            layers: such as a recipe's settings, then a person's choices; names as in `nested`.
            options: the last layer.

        Raises:
            UnknownNameError: an option that there is not; the nearest are named.
            ConfigError: a value of the wrong type or against its rule, or options that contradict each other.
        """
        said = [nested(layer) for layer in (*layers, options) if layer]
        merged: Nested = {}
        for layer in said:
            merged = overlay(merged, layer)
        checked(AugmentConfig, merged.get("augment", {}), "augment")
        config = checked(cls, filled(merged))
        if config.phases:
            total = sum(phase.epochs for phase in config.phases)
            if "epochs" in merged and config.epochs != total:
                raise ConfigError(
                    f"epochs are those of all phases together, {total}; got {config.epochs}; leave one of them out"
                )
            config = replace(config, epochs=total)
        if said:
            _check_unfreezing(config, said[-1].get("freeze", {}))
        return config


def _check_unfreezing(config: TrainConfig, said: Mapping[str, Any]) -> None:
    """Of freezing, the last word must mean something; a recipe's may wait for a `freeze`."""
    if "freeze" in said or {config.freeze.freeze, *(phase.freeze for phase in config.phases)} != {NONE}:
        return
    usual = FreezeConfig()
    for name in ("freeze_epochs", "unfreeze", "unfreeze_lr", "unfreeze_lr_share"):
        if said.get(name, getattr(usual, name)) != getattr(usual, name):
            raise ConfigError(
                f"{name} is for a frozen network; got {said[name]}, and nothing is frozen; add freeze=backbone"
            )


def option_names() -> dict[str, str]:
    """Where each option stands: its bare name -> its full one, `lr` -> `optim.lr`."""
    top = {one.name: one.name for one in fields(TrainConfig) if one.name not in GROUPS}
    return top | {one.name: f"{group}.{one.name}" for group, kind in GROUPS.items() for one in fields(kind)}


def nested(options: Mapping[str, Any], *, network: Iterable[str] = ()) -> Nested:
    """Options under their groups: `{"lr": 1, "optim.opt": "sgd"}` -> `{"optim": {"lr": 1, "opt": "sgd"}}`.

    Args:
        network: fields of networks, which may stand without `model_args.` too.

    Raises:
        UnknownNameError: an option that there is not; the nearest are named.
    """
    places, found = option_names(), Nested()
    fits = {*network}
    inner: Mapping[str, Any] | None
    for key, value in options.items():
        group, _, name = str(key).partition(".")
        if group in GROUPS and not name:
            inner = value if isinstance(value, Mapping) else {fields(GROUPS[group])[0].name: value}
        elif group in (*GROUPS, "model_args") and name:
            inner = {name: value}
        elif key in places:
            group, _, name = places[key].partition(".")
            inner = {name: value} if name else None
        elif key in fits:
            group, inner = "model_args", {key: value}
        else:
            raise UnknownNameError("training option", str(key), {*places, *places.values(), *fits})
        if inner is None:
            found[group] = value
            continue
        for name in inner if group in GROUPS else ():
            if places.get(name) != f"{group}.{name}":
                known = [full for full in places.values() if full.startswith(group)]
                raise UnknownNameError("training option", f"{group}.{name}", known)
        found.setdefault(group, {}).update(inner)
    if (policy := found.get("augment", {}).get("policy")) is not None:
        rest = {name: value for name, value in found["augment"].items() if name != "policy"}
        found["augment"] = {**parse_policy("none" if policy in (False, "off") else str(policy)), **rest}
    for name in ("amp", "compile"):
        if found.get(name) is False:  # Python's word for off
            found[name] = "off"
    if found.get("cache", {}).get("cache") is False:
        found["cache"] = {**found["cache"], "cache": "off"}
    known = [one.name for one in fields(Phase)]
    phases = found.get("phases")
    for phase in phases if isinstance(phases, list | tuple) else ():
        for key in phase if isinstance(phase, Mapping) else ():
            if key not in known:
                raise UnknownNameError("option of a phase", str(key), known)
    return found


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Options from `key=value` texts: `mixup=0.2`, `optim.betas=0.9,0.99`, and of the network `shortcut=B`.

    Raises:
        UnknownNameError: neither a training option nor a field of a network.
        ConfigError: no `=`, or no YAML after it.
    """
    from resnets.arch.networks import FAMILIES
    from resnets.arch.overrides import parse_overrides

    network = {one.name for family in FAMILIES.values() for one in fields(family)}
    places, found = option_names(), Nested()
    for text in texts:
        key, equals, value = text.partition("=")
        name = key.strip().replace("-", "_")
        if not equals:
            raise ConfigError(f"a setting is key=value; got {text!r}; write, for example, label_smoothing=0.1")
        if name.removeprefix("model_args.") in network and name not in places:
            found.setdefault("model_args", {}).update(parse_overrides([text.strip().removeprefix("model_args.")]))
            continue
        try:
            inner = value if value.strip().startswith(("[", "{")) or "," not in value else f"[{value}]"
            one = nested({name: load_yaml(inner)}, network=network)
        except yaml.YAMLError:
            raise ConfigError(f"a setting's value is YAML; got {text!r}; write, for example, betas=0.9,0.99") from None
        for group, values in one.items():
            found[group] = {**found.get(group, {}), **values} if group in GROUPS else values
    return found


def write_args(path: Path, config: TrainConfig) -> None:
    """Write a run's configuration as YAML, to be read by people and by `read_args`."""
    write_atomic(path, yaml.safe_dump(_plain(asdict(config)), sort_keys=False, allow_unicode=True))


def _plain(value: Any) -> Any:
    """Tuples as lists, which is how YAML has them."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        TrainingError: no such file, no YAML, or no mapping.
    """
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise TrainingError(f"{what}; {path}: {type(error).__name__}; is it there, and YAML?") from None
    if not isinstance(values, dict):
        raise TrainingError(f"{what}; {path} holds no mapping of options; write NAME: VALUE lines")
    return values


def read_args(path: Path) -> TrainConfig:
    """The configuration in an `args.yaml`, checked strictly.

    Raises:
        TrainingError: no such file, no YAML, an unknown key or a value of the wrong type.
    """
    values = read_yaml(path, "a run folder holds args.yaml")
    try:
        return TrainConfig.from_options(values)
    except ConfigError as error:
        raise TrainingError(f"args.yaml holds training options; {path}: {error}; mend the line") from None
