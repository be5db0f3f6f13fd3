"""The groups of training options. Each validates itself; together they form `TrainConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, MinLen
from typing_extensions import Doc

from resnets.errors import ConfigError
from resnets.options.declarations import DefaultText
from resnets.options.validate import Options

__all__ = [
    "AverageConfig",
    "CacheConfig",
    "LossConfig",
    "OptimConfig",
    "SaveConfig",
    "ScheduleConfig",
]

Count = Annotated[int, Ge(1)]
Share = Annotated[float, Interval(ge=0, lt=1)]

BY_OPTIMIZER: dict[str, dict[str, Any]] = {  # defaults of `TrainConfig.from_options` that depend on the optimizer
    "sgd": {"lr": 0.1, "lr_batch": 128, "weight_decay": 5e-4},
    "muon": {"lr": 0.1, "lr_batch": 128, "weight_decay": 0.01},
    "adamw": {"lr": 1e-3, "lr_batch": 128, "weight_decay": 0.05},
    "lamb": {"lr": 5e-3, "lr_batch": 2048, "weight_decay": 0.02},
}


def _by_optimizer(name: str) -> DefaultText:
    """Default of an option by optimizer, such as `0.1; adamw 0.001; lamb 0.005`; sgd's comes first."""
    usual = BY_OPTIMIZER["sgd"][name]
    others = [f"{opt} {values[name]:g}" for opt, values in BY_OPTIMIZER.items() if values[name] != usual]
    return DefaultText("; ".join([f"{usual:g}", *others]))


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Options):
    """Optimizer, gradient accumulation and gradient clipping."""

    opt: Annotated[Literal["sgd", "adamw", "lamb", "muon"], Doc("Optimizer.")] = "sgd"
    lr: Annotated[float, Gt(0), Doc("Peak learning rate."), _by_optimizer("lr")] = BY_OPTIMIZER["sgd"]["lr"]
    lr_batch: Annotated[
        Count | None,
        Doc(
            "Batch size that `lr` is meant for. For another batch size `lr` is scaled in proportion (sgd) or by the "
            "square root (adamw, lamb, muon); `none` uses `lr` unscaled, as does naming `lr` alone."
        ),
        _by_optimizer("lr_batch"),
    ] = BY_OPTIMIZER["sgd"]["lr_batch"]
    momentum: Annotated[Share, Doc("Momentum of sgd and muon.")] = 0.9
    nesterov: Annotated[bool, Doc("Nesterov momentum in sgd. Muon always uses it.")] = True
    betas: Annotated[tuple[Share, Share], Doc("Decay rates of both moments, in adamw and lamb.")] = (0.9, 0.999)
    eps: Annotated[float, Gt(0), Doc("Added to the denominator, in adamw and lamb.")] = 1e-8
    weight_decay: Annotated[float, Ge(0), Doc("Weight decay."), _by_optimizer("weight_decay")] = BY_OPTIMIZER["sgd"][
        "weight_decay"
    ]
    decay_norms: Annotated[bool, Doc("Apply weight decay to norms and biases too.")] = False
    clip_grad: Annotated[float | None, Gt(0), Doc("Maximum gradient norm over all weights together.")] = None
    accumulate: Annotated[
        Count,
        Doc(
            "Micro-batches whose gradients are averaged for one optimizer step. A large batch in little memory; batch "
            "norms see the micro-batches."
        ),
    ] = 1

    @staticmethod
    def with_defaults(options: dict[str, Any]) -> dict[str, Any]:
        """`options` of this group, with their optimizer's defaults for learning rate and weight decay."""
        return {**BY_OPTIMIZER[options.get("opt", "sgd")], **options}

    def lr_for(self, batch_size: int) -> float:
        """Peak learning rate for optimizer steps of `batch_size` images."""
        if self.lr_batch is None:
            return self.lr
        share = batch_size / self.lr_batch
        return float(self.lr * (share if self.opt == "sgd" else share**0.5))


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(Options):
    """Learning-rate schedule of a phase."""

    sched: Annotated[
        Literal["cosine", "linear", "step", "onecycle", "constant"],
        Doc(
            "LR schedule. After the warm-up: half a `cosine`, a straight line (`linear`), `step`s or "
            "`constant`; `onecycle` rises over 30 % of the phase and falls, both as a cosine, without a warm-up."
        ),
    ] = "cosine"
    warmup_epochs: Annotated[float, Ge(0), Doc("Epochs of linear warm-up. At most half the phase.")] = 2.0
    min_lr: Annotated[Share, Doc("Final learning rate as a fraction of the peak.")] = 0.0
    milestones: Annotated[
        tuple[Annotated[float, Gt(0)], ...], Doc("Epochs after which `step` lowers the learning rate.")
    ] = ()
    gamma: Annotated[float, Interval(gt=0, lt=1), Doc("Factor by which `step` multiplies the learning rate.")] = 0.1

    def check_rules(self) -> None:
        if not all(a < b for a, b in zip(self.milestones, self.milestones[1:], strict=False)):
            raise ConfigError(f"milestones must rise; got {self.milestones}")
        if (self.sched == "step") != bool(self.milestones):
            raise ConfigError(
                f"sched=step and milestones require each other; got {self.sched} and {self.milestones}; "
                "set both or neither"
            )


@dataclass(frozen=True, kw_only=True)
class LossConfig(Options):
    """Loss function."""

    loss: Annotated[
        Literal["ce", "bce", "focal"],
        Doc(
            "Loss function. `ce`, cross-entropy; `bce`, binary cross-entropy of each class (ResNet strikes back); "
            "`focal`, cross-entropy that weighs easy images less (Lin et al. 2017)."
        ),
    ] = "ce"
    label_smoothing: Annotated[Share, Doc("Label smoothing.")] = 0.1
    focal_gamma: Annotated[float, Ge(0), Doc("Gamma of `focal`. 0 is cross-entropy.")] = 2.0
    bce_threshold: Annotated[
        Share | None,
        Doc("`bce` sets a mixed label above this to 1, before smoothing. `none` keeps the mixed label."),
    ] = None
    class_weights: Annotated[
        Literal["none", "balanced"] | Annotated[tuple[Annotated[float, Ge(0)], ...], MinLen(2)],
        Doc("Class weights. `balanced`, in inverse proportion to the images of a class; or one number a class."),
    ] = "none"

    def check_rules(self) -> None:
        if isinstance(self.class_weights, tuple) and not max(self.class_weights) > 0:
            raise ConfigError(f"class_weights must have a weight above 0; got {self.class_weights}; raise one of them")


@dataclass(frozen=True, kw_only=True)
class AverageConfig(Options):
    """Averages of the weights. Where enabled, the averaged weights are validated and saved."""

    ema: Annotated[
        Share, Doc("Decay of an exponential moving average of the weights, such as 0.999. 0 disables it.")
    ] = 0.0
    ema_warmup: Annotated[
        bool, Doc("Limit the decay to (1 + n) / (10 + n) after n steps. Short runs profit from it.")
    ] = True
    ema_every: Annotated[Count, Doc("Steps between two updates of the moving average.")] = 1
    swa_epochs: Annotated[
        int,
        Ge(0),
        Doc(
            "Average the weights of the last N epochs (stochastic weight averaging, Izmailov et al. 2018). Batch-norm "
            "statistics are recomputed; 0 disables it."
        ),
    ] = 0

    def check_rules(self) -> None:
        if self.ema and self.swa_epochs:
            raise ConfigError(
                f"ema and swa_epochs exclude each other; got {self.ema} and {self.swa_epochs}; choose one"
            )


@dataclass(frozen=True, kw_only=True)
class SaveConfig(Options):
    """Checkpoints, early stopping and recovery."""

    every_minutes: Annotated[
        float, Gt(0), Doc("Minutes between two checkpoints within an epoch. Each epoch ends with one too.")
    ] = 5.0
    every_steps: Annotated[
        Count | None,
        Doc("Optimizer steps between two checkpoints within an epoch."),
        DefaultText("by every_minutes alone"),
    ] = None
    keep: Annotated[Count, Doc("Number of checkpoints to keep.")] = 2
    patience: Annotated[Count | None, Doc("Stop after N epochs without a better validation."), DefaultText("never")] = (
        None
    )
    rollbacks: Annotated[
        int,
        Ge(0),
        Doc(
            "Number of times that a non-finite loss restores the last good checkpoint with half the learning rate. "
            "After that it is an error."
        ),
    ] = 2


@dataclass(frozen=True, kw_only=True)
class CacheConfig(Options):
    """Cache of the frozen part's features."""

    cache: Annotated[
        Literal["auto", "off"],
        Doc(
            "Feature cache. `auto` caches the output of the frozen part where a phase freezes the first part of the "
            "network with its statistics for more than one epoch and the features fit; `off` computes it every epoch."
        ),
    ] = "auto"
    views: Annotated[
        Count, Doc("Augmented views of each image to cache. Fewer than the phase's epochs; used in turn.")
    ] = 4
    cache_memory_gb: Annotated[float, Ge(0), Doc("Maximum size of the cache in memory, in GB.")] = 2.0
    cache_disk_gb: Annotated[float, Ge(0), Doc("Maximum size of the cache on disk, in GB, if memory is short.")] = 16.0
    cache_16bit: Annotated[bool, Doc("Cache 16-bit floats, in half the space.")] = False
