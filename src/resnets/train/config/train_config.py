"""Configuration of a training run, the same for flags, keywords, recipes and files.

Options are in groups (`optim.lr`). No two groups share a name, so that the last part (`lr`) is enough everywhere.
A plain value for a group sets its first option: `freeze: layer3`. The prefix `model_args.` of fields of the network's
configuration is optional. Importing this module imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Interval
from typing_extensions import Doc

from resnets.arch.networks import convert_overrides, network_options
from resnets.arch.preprocessing import Depth, Interpolation
from resnets.data.augment.config import AugmentConfig, MixConfig, Sampling
from resnets.errors import ConfigError, TrainingError, UnknownNameError
from resnets.options.declarations import DefaultText, ImageSize, Option, hints_of, options_of
from resnets.options.grammar import EMPTY_WORDS, TRUTH_WORDS, parse_tree
from resnets.options.validate import Options, build, convert, convert_fields
from resnets.train.config.layers import Nested, overlay
from resnets.train.config.options import AverageConfig, CacheConfig, LossConfig, OptimConfig, SaveConfig, ScheduleConfig
from resnets.train.config.reid_options import ReidConfig
from resnets.train.freeze.phases import NONE, FreezeConfig, Phase

__all__ = [
    "GROUPS",
    "RunOptions",
    "TrainConfig",
    "grouped_options",
    "nested",
    "option_names",
    "read_args",
    "write_args",
]

GROUPS: dict[str, type] = {
    "optim": OptimConfig,
    "schedule": ScheduleConfig,
    "loss": LossConfig,
    "augment": AugmentConfig,
    "mix": MixConfig,
    "sampling": Sampling,
    "average": AverageConfig,
    "freeze": FreezeConfig,
    "reid": ReidConfig,
    "cache": CacheConfig,
    "save": SaveConfig,
}

Count = Annotated[int, Ge(1)]


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """Options of a run before and after `resolve_config`: what `TrainConfig` and `ResolvedConfig` share."""

    data: Annotated[
        str,
        Doc(
            "Training data. `digits`, a folder {train,val,test}/CLASS/*, a CSV, WebDataset or Parquet shards, or "
            "packed data."
        ),
    ]
    task: Annotated[
        Literal["classify", "reid"],
        Doc(
            "What to train for. `classify`, classes; `reid`, embeddings that find the same object again in other "
            "images, from identities (re-identification, retrieval)."
        ),
    ] = "classify"
    model: Annotated[
        str | None,
        Doc("Network, see `resnets models`. The default is resnet20_cifar for images up to 64 pixels."),
        DefaultText("resnet20_cifar or resnet18"),
    ] = None
    pretrained: Annotated[
        str | None,
        Doc("Model to start from: starter, named weights, file or folder."),
        DefaultText("none"),
    ] = None
    recipe: Annotated[
        str | None,
        Doc("Name or YAML file, see `resnets recipes`. The other options override it."),
        DefaultText("finetune if pretrained"),
    ] = None
    epochs: Annotated[Count, Doc("Number of epochs.")] = 30
    batch_size: Annotated[
        Count | None,
        Doc(
            "Images per batch. Over all processes, see `accumulate`; smaller where an epoch would have under 32 steps."
        ),
        DefaultText("128, or 32 for large images"),
    ] = None
    train_sizes: Annotated[
        tuple[tuple[Annotated[float, Interval(ge=0, lt=1)], Count], ...],
        Doc(
            "Training sizes over the run (progressive resizing). Each with the fraction of the run at which it "
            "starts: ((0, 128), (0.7, 176)); validation always uses `img_size`."
        ),
    ] = ()
    folds: Annotated[int | None, Ge(2), Doc("Cross-validation: hold out one of N folds, not `val_fraction`.")] = None
    fold: Annotated[int, Ge(0), Doc("Index of the fold to hold out, from 0.")] = 0
    seed: Annotated[int, Interval(ge=0, lt=2**32), Doc("Seed of initial weights, order, split and augmentation.")] = 0
    amp: Annotated[
        Literal["auto", "bf16", "fp16", "off"],
        Doc("Mixed precision. `auto` uses bfloat16 where the device computes in it."),
    ] = "auto"
    channels_last: Annotated[bool, Doc("Channels-last memory format, which is faster for convolutions.")] = True
    compile: Annotated[
        Literal["off", "default", "reduce-overhead", "max-autotune"],
        Doc("Mode of torch.compile. `reduce-overhead` and `max-autotune` use CUDA graphs."),
    ] = "off"
    deterministic: Annotated[
        bool,
        Doc(
            "Use only CUDA kernels that give the same bits every time, so that a resumed run equals one that was not "
            "stopped. Slower; CPUs always do."
        ),
    ] = False
    grad_checkpointing: Annotated[
        bool,
        Doc("Compute the activations inside residual blocks again in the backward pass: less memory, more time."),
    ] = False
    sync_bn: Annotated[bool, Doc("Synchronise batch-norm statistics over all processes. Requires CUDA.")] = False
    device: Annotated[str, Doc("Device: auto, cpu, cuda, cuda:1 or mps.")] = "auto"
    workers: Annotated[
        int | None, Ge(0), Doc("Number of workers that decode large images."), DefaultText("one per core")
    ] = None
    workers_kind: Annotated[
        Literal["processes", "threads"],
        Doc("Kind of the workers. `threads` suit packed data and few cores, and copy nothing."),
    ] = "processes"
    skip_bad: Annotated[
        bool, Doc("Skip images that cannot be decoded. They are listed in quarantine.txt; otherwise they are an error.")
    ] = False
    tensorboard: Annotated[bool, Doc("Write TensorBoard events into the run folder.")] = False
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    sampling: Sampling = field(default_factory=Sampling)
    average: AverageConfig = field(default_factory=AverageConfig)
    phases: Annotated[
        tuple[Phase, ...],
        Doc(
            "Phases of the run, in place of `epochs` and `freeze`. Each with `epochs` and any of `freeze`, `lr`, "
            "`warmup_epochs`, `layer_decay`, `bn_stats`, `bn_affine`; see docs/training.md."
        ),
    ] = ()
    reid: ReidConfig = field(default_factory=ReidConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    save: SaveConfig = field(default_factory=SaveConfig)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunOptions):
    """Options of a training run: data, model, recipe and environment."""

    model_args: Annotated[
        dict[str, Any], Doc("Fields of the network's configuration to change."), DefaultText("none")
    ] = field(default_factory=dict)
    img_size: Annotated[
        ImageSize | None,
        Doc("Image size in pixels, N or HxW."),
        DefaultText("by the images"),
    ] = None
    channels: Annotated[
        Literal["RGB", "L"] | Count | None,
        Doc("Colour channels, or number of bands."),
        DefaultText("those of the images"),
    ] = None
    depth: Annotated[Depth | None, Doc("Depth of the pixels."), DefaultText("that of the images")] = None
    crop_pct: Annotated[
        Annotated[float, Interval(gt=0, le=1)] | None,
        Doc("Fraction of the resized image that the validation crop keeps."),
        DefaultText("by the size"),
    ] = None
    interpolation: Annotated[
        Interpolation | None, Doc("Interpolation of the preprocessing."), DefaultText("by the size")
    ] = None
    val_fraction: Annotated[
        float,
        Interval(ge=0, lt=1),
        Doc("Fraction held out if there is no val split. For validation; with task=reid, of identities."),
    ] = 0.1
    output: Annotated[str, Doc("Folder in which the run folder is created.")] = "runs"
    name: Annotated[str | None, Doc("Name of the run folder."), DefaultText("by model and data")] = None
    augment: dict[str, Any] = field(default_factory=dict)  # fields of AugmentConfig; the others depend on the images
    freeze: FreezeConfig = field(default_factory=FreezeConfig)

    def check_rules(self) -> None:
        starts = [start for start, _ in self.train_sizes]
        if starts and (starts != sorted(set(starts)) or starts[0] != 0):
            raise ConfigError(
                f"train_sizes must start at 0 and rise; got {self.train_sizes}; write ((0, 128), (0.7, 176))"
            )
        if self.fold >= (self.folds or 1):
            raise ConfigError(f"fold must be below folds; got {self.fold} with folds={self.folds}; count from 0")
        if self.name is not None and (self.name in ("", ".", "..") or "/" in self.name):
            raise ConfigError(f"name must be a folder name; got {self.name!r}; use output for the folder around it")
        if self.task == "reid":
            self._check_reid()
        elif self.reid != ReidConfig():
            raise ConfigError("options of re-identification require task=reid; got task=classify; add --task reid")

    def _check_reid(self) -> None:
        if self.mix.mixup or self.mix.cutmix:
            raise ConfigError(
                f"task=reid compares whole images; got mixup={self.mix.mixup:g} and cutmix={self.mix.cutmix:g}; set 0"
            )
        if self.loss.class_weights != "none":
            raise ConfigError("task=reid shows identities equally often; got class_weights; leave them out")
        if self.sampling.num_instances == 0 and self.reid.metric_loss != "none":
            raise ConfigError(
                f"metric_loss={self.reid.metric_loss} needs several images of an identity in a batch; got "
                "num_instances=0; set 4, or metric_loss=none"
            )

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W) that `img_size` means."""
        return (self.img_size, self.img_size) if isinstance(self.img_size, int) else self.img_size

    @classmethod
    def from_options(cls, *layers: Mapping[str, Any], **options: Any) -> TrainConfig:
        """Build the configuration from layers of options; a later layer overrides, see `layers.overlay`.

        Args:
            layers: such as a recipe's settings, then the options of a command line; names as in `nested`.
            options: the last layer.

        Raises:
            UnknownNameError: an unknown option; the message names the nearest.
            ConfigError: a value of the wrong type or out of bounds, or options that contradict each other.
        """
        given = [nested(layer) for layer in (*layers, options) if layer]
        merged: Nested = {}
        for layer in given:
            merged = overlay(merged, layer)
        AugmentConfig(**merged.get("augment", {}))
        merged["optim"] = OptimConfig.with_defaults(merged.get("optim", {}))
        groups = {group: kind(**merged[group]) for group, kind in GROUPS.items() if group in merged}
        config = build(cls, {**merged, **groups, "augment": merged.get("augment", {})})
        if config.phases:
            total = sum(phase.epochs for phase in config.phases)
            if "epochs" in merged and config.epochs != total:
                raise ConfigError(
                    f"epochs must be the sum of all phases, {total}; got {config.epochs}; leave one of them out"
                )
            config = replace(config, epochs=total)
        if given:
            _check_unfreezing(config, given[-1].get("freeze", {}))
        return config


def _check_unfreezing(config: TrainConfig, given: Mapping[str, Any]) -> None:
    """Options of the last layer that concern unfreezing require a frozen part; a recipe's may wait for `freeze`."""
    if "freeze" in given or {config.freeze.freeze, *(phase.freeze for phase in config.phases)} != {NONE}:
        return
    default = FreezeConfig()
    for name in ("freeze_epochs", "unfreeze", "unfreeze_lr", "unfreeze_lr_share"):
        if given.get(name, getattr(default, name)) != getattr(default, name):
            raise ConfigError(
                f"{name} requires a frozen network; got {given[name]} with freeze=none; add freeze=backbone"
            )


def option_names() -> dict[str, str]:
    """Bare name of each option -> its full name: `lr` -> `optim.lr`."""
    top = {one.name: one.name for one in fields(TrainConfig) if one.name not in GROUPS}
    return top | {one.name: f"{group}.{one.name}" for group, kind in GROUPS.items() for one in fields(kind)}


def grouped_options() -> dict[str, list[Option]]:
    """Group -> its options as declared; the group `""` holds those of `TrainConfig` itself."""
    top = [one for one in options_of(TrainConfig) if one.name not in GROUPS]
    return {"": top} | {group: options_of(kind) for group, kind in GROUPS.items()}


def nested(options: Mapping[str, Any]) -> Nested:
    """Sort options into their groups and convert them to their types.

    Args:
        options: by bare or full name, or by group; values or their text: `{"lr": "1", "optim.opt": "sgd"}`.

    Returns:
        Such as `{"optim": {"lr": 1.0, "opt": "sgd"}}`.

    Raises:
        UnknownNameError: an unknown option; the message names the nearest.
        ConfigError: a value of the wrong type or out of bounds.
    """
    names, of_network, found = option_names(), network_options(), Nested()
    for key, value in ((str(key), value) for key, value in options.items()):
        group, _, name = (key if key in GROUPS else names.get(key, key)).partition(".")
        if group not in (*GROUPS, "model_args") and key not in names:
            if key not in of_network:
                raise UnknownNameError("training option", key, {*names, *names.values(), *of_network})
            group, name = "model_args", key
        if name:
            found[group] = {**found.get(group, {}), name: value}
        elif group in GROUPS:
            found[group] = {**found.get(group, {}), **_group_values(group, value)}
        else:
            found[group] = value
    return {key: _converted(key, value) for key, value in found.items()}


def _group_values(group: str, value: Any) -> Mapping[str, Any]:
    """The options of a group given as a mapping, its text, or one plain value for the group's first option."""
    if isinstance(value, str) and value.startswith("{"):
        value = parse_tree(value)
    return value if isinstance(value, Mapping) else {fields(GROUPS[group])[0].name: value}


def _converted(key: str, value: Any) -> Any:
    """A group's options, or a single option, in their types."""
    if key not in GROUPS:
        value = convert(hints_of(TrainConfig)[key], value, key)
        return convert_overrides(value) if key == "model_args" else value
    if key == "augment" and isinstance(value.get("policy"), str):
        from resnets.data.augment.auto import parse_policy

        word = value["policy"].lower()
        rest = {name: one for name, one in value.items() if name != "policy"}
        off = word in EMPTY_WORDS or TRUTH_WORDS.get(word) is False
        value = {**parse_policy("none" if off else word), **rest}
    return convert_fields(hints_of(GROUPS[key]), value, key, option="training option")


def write_args(path: Path, config: TrainConfig) -> None:
    """Write a run's `args.yaml`."""
    from resnets.train.config.yaml_file import write_yaml

    write_yaml(
        path, config.to_dict(), "Options as requested; a recipe for new runs. This run resumes with resolved.yaml."
    )


def read_args(path: Path) -> TrainConfig:
    """Read the configuration in an `args.yaml`.

    Raises:
        TrainingError: the file is missing or not YAML, or has an unknown or invalid option.
    """
    from resnets.train.config.yaml_file import read_yaml

    values = read_yaml(path, "args.yaml of a run", "restore it")
    try:
        return TrainConfig.from_options(values)
    except ConfigError as error:
        raise TrainingError(f"args.yaml must hold training options; {path}: {error}; correct the line") from None
