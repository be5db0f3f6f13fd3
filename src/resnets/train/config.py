"""What a training run is told. A field left `None` is worked out from the data; `args.yaml` holds the result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from resnets.atomic import write_atomic
from resnets.errors import ConfigError, TrainingError, UnknownNameError

__all__ = ["TrainConfig", "read_args", "write_args"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The recipe and its surroundings.

    Args:
        data: `digits`, a folder `{train,val,test}/class/*`, or a folder of Parquet shards.
        model: a variant name; `None`: `resnet20_cifar` for pictures up to 64 pixels, else `resnet18`.
        model_args: fields of `ResNetConfig` to change, such as `{"shortcut": "B"}`.
        pretrained: a model reference (`starter`, a file, a folder) whose weights to start from.
        epochs: passes over the training pictures.
        batch_size: pictures a step; `None`: 128 for small pictures and 32 for large ones, less where the data
            would make fewer than 32 steps an epoch.
        lr: peak learning rate; `None`: 0.1 for 128 pictures a step, in proportion to the batch.
        momentum, weight_decay: of SGD with Nesterov momentum; norms and biases are not decayed.
        warmup_epochs: of linear warm-up; sched: what follows, `cosine` or `constant`.
        smoothing: label smoothing in [0, 1).
        img_size: pixels a side, or (H, W); `None`: that of the pictures if they are all alike and small, else 224.
        flip: mirror half of the pictures; `None`: yes, but for `digits`.
        pad: padding before a random crop of the same size, in pixels; `None`: an eighth of a small picture's side.
        cutout: side of a square blanked out, in pixels; 0 for none.
        val_fraction: share of the training pictures held out where the data has no `val` split.
        seed: of weights, order and augmentation.
        amp: mixed precision: `auto` (bfloat16 where the device computes in it), `bf16`, `fp16` or `off`.
        channels_last: the memory layout that convolutions like.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        workers: decoding processes for large pictures; `None`: the processor's cores.
        skip_bad: leave out pictures that do not decode, listed in `quarantine.txt`, instead of stopping.
        output: the folder of runs; name: this run's folder in it, `None`: after model and data.
    """

    data: str
    model: str | None = None
    model_args: dict[str, Any] = field(default_factory=dict)
    pretrained: str | None = None
    epochs: int = 30
    batch_size: int | None = None
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_epochs: float = 2.0
    sched: Literal["cosine", "constant"] = "cosine"
    smoothing: float = 0.1
    img_size: int | tuple[int, int] | None = None
    flip: bool | None = None
    pad: int | None = None
    cutout: int = 0
    val_fraction: float = 0.1
    seed: int = 0
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto"
    channels_last: bool = True
    device: str = "auto"
    workers: int | None = None
    skip_bad: bool = False
    output: str = "runs"
    name: str | None = None

    def __post_init__(self) -> None:
        rules = {
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch_size": (self.batch_size is None or self.batch_size >= 1, "at least 1"),
            "lr": (self.lr is None or self.lr > 0, "above 0"),
            "momentum": (0 <= self.momentum < 1, "in [0, 1)"),
            "weight_decay": (self.weight_decay >= 0, "at least 0"),
            "warmup_epochs": (self.warmup_epochs >= 0, "at least 0"),
            "smoothing": (0 <= self.smoothing < 1, "in [0, 1)"),
            "img_size": (
                self.size is None or (len(self.size) == 2 and min(self.size) >= 1),
                "pixels a side, or (H, W)",
            ),
            "pad": (self.pad is None or self.pad >= 0, "at least 0"),
            "cutout": (self.cutout >= 0, "at least 0"),
            "val_fraction": (0 <= self.val_fraction < 1, "in [0, 1)"),
            "seed": (0 <= self.seed < 2**32, "in [0, 2**32)"),
            "workers": (self.workers is None or self.workers >= 0, "at least 0"),
            "sched": (self.sched in ("cosine", "constant"), "cosine or constant"),
            "amp": (self.amp in ("auto", "bf16", "fp16", "off"), "auto, bf16, fp16 or off"),
            "name": (self.name is None or (self.name not in ("", ".", "..") and "/" not in self.name), "a folder name"),
        }
        for name, (kept, rule) in rules.items():
            if not kept:
                raise ConfigError(f"{name} must be {rule}; got {getattr(self, name)!r}")

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W) that `img_size` means."""
        return (self.img_size, self.img_size) if isinstance(self.img_size, int) else self.img_size

    @classmethod
    def from_options(cls, **options: Any) -> TrainConfig:
        """The configuration of these options; an unknown one is an error that names the nearest."""
        cls.check_names(options)
        return cls(**options)

    @classmethod
    def check_names(cls, names: Iterable[str]) -> None:
        """Raises UnknownNameError for a name that is no field."""
        known = [one.name for one in fields(cls)]
        for name in names:
            if name not in known:
                raise UnknownNameError("training option", name, known)


def write_args(path: Path, config: TrainConfig) -> None:
    """Write a run's configuration as YAML, to be read by people and by `read_args`."""
    write_atomic(path, yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True))


def read_args(path: Path) -> TrainConfig:
    """The configuration in an `args.yaml`, checked strictly.

    Raises:
        TrainingError: no such file, no YAML, an unknown key or a value of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise TrainingError(f"a run folder holds args.yaml; {path}: {type(error).__name__}; is it a run?") from None
    try:
        if isinstance(values, dict):
            TrainConfig.check_names(map(str, values))
        return TypeAdapter(TrainConfig).validate_python(values)  # `5e-4`, which is text in YAML, becomes a number
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ")
        raise TrainingError(
            f"args.yaml holds training options; {path}: {f'{where}: ' if where else ''}{what}; mend the line"
        ) from None
    except ConfigError as error:
        raise TrainingError(f"args.yaml holds training options; {path}: {error}") from None
