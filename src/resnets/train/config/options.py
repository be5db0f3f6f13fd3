"""The groups of a recipe's options. Each checks itself; together they are `TrainConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from resnets.errors import ConfigError

__all__ = [
    "BY_OPTIMISER",
    "AverageConfig",
    "CacheConfig",
    "LossConfig",
    "OptimConfig",
    "SaveConfig",
    "ScheduleConfig",
    "require",
]

BY_OPTIMISER: dict[str, dict[str, Any]] = {  # what `TrainConfig.from_options` takes where nobody names it
    "adamw": {"lr": 1e-3, "weight_decay": 0.05},
    "lamb": {"lr": 5e-3, "lr_batch": 2048, "weight_decay": 0.02},
    "muon": {"weight_decay": 0.01},
}


def require(options: object, rules: dict[str, tuple[bool, str]]) -> None:
    """Raise ConfigError for the first field whose rule is not kept: name -> (kept, what it must be)."""
    for name, (kept, rule) in rules.items():
        if not kept:
            raise ConfigError(f"{name} must be {rule}; got {getattr(options, name)!r}")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights move.

    Args:
        opt: `sgd`, `adamw`, `lamb` or `muon`.
        lr: peak learning rate; where it is not named, 0.1 (`sgd`, `muon`), 0.001 (`adamw`), or 0.005 for a batch of
            2048 (`lamb`).
        lr_batch: the batch that `lr` is meant for; another batch gets it in proportion (`sgd`) or by the square root
            (`adamw`, `lamb`, `muon`). `None` takes `lr` as it is.
        momentum: of SGD and Muon; nesterov: whether SGD's is Nesterov's (Muon's is).
        betas: of AdamW and LAMB, both moments'; eps: of AdamW and LAMB, added to the root.
        weight_decay: of weights, where it is not named, 5e-4 (`sgd`), 0.01 (`muon`), 0.05 (`adamw`) or 0.02
            (`lamb`); decay_norms: whether norms and biases are decayed too.
        clip_grad: longest gradient, over all weights together; `None` for none.
        accumulate: batches that run one after the other for one update, their gradients averaged: a large batch in
            little memory. Batch norms see the small ones.
    """

    opt: Literal["sgd", "adamw", "lamb", "muon"] = "sgd"
    lr: float = 0.1
    lr_batch: int | None = 128
    momentum: float = 0.9
    nesterov: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 5e-4
    decay_norms: bool = False
    clip_grad: float | None = None
    accumulate: int = 1

    def __post_init__(self) -> None:
        require(
            self,
            {
                "lr": (self.lr > 0, "above 0"),
                "lr_batch": (self.lr_batch is None or self.lr_batch >= 1, "at least 1"),
                "momentum": (0 <= self.momentum < 1, "in [0, 1)"),
                "betas": (all(0 <= beta < 1 for beta in self.betas), "two numbers in [0, 1)"),
                "eps": (self.eps > 0, "above 0"),
                "weight_decay": (self.weight_decay >= 0, "at least 0"),
                "clip_grad": (self.clip_grad is None or self.clip_grad > 0, "above 0"),
                "accumulate": (self.accumulate >= 1, "at least 1"),
            },
        )

    def lr_for(self, batch_size: int) -> float:
        """The peak learning rate for updates of `batch_size` images."""
        if self.lr_batch is None:
            return self.lr
        share = batch_size / self.lr_batch
        return float(self.lr * (share if self.opt == "sgd" else share**0.5))


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate goes over a phase.

    Args:
        sched: after the warm-up: half a `cosine`, a straight line (`linear`), `step`s, or `constant`; `onecycle` is a
            cosine up over 30 % of the phase and a cosine down, in place of the warm-up.
        warmup_epochs: of linear rise, at most half the phase.
        min_lr: where it ends, as a share of the peak.
        milestones: epochs after which `step` multiplies the rate; gamma: by what.
    """

    sched: Literal["cosine", "linear", "step", "onecycle", "constant"] = "cosine"
    warmup_epochs: float = 2.0
    min_lr: float = 0.0
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1

    def __post_init__(self) -> None:
        rises = all(a < b for a, b in zip(self.milestones, self.milestones[1:], strict=False))
        require(
            self,
            {
                "warmup_epochs": (self.warmup_epochs >= 0, "at least 0"),
                "min_lr": (0 <= self.min_lr < 1, "a share of the peak in [0, 1)"),
                "milestones": (rises and all(m > 0 for m in self.milestones), "epochs that rise"),
                "gamma": (0 < self.gamma < 1, "in (0, 1)"),
            },
        )
        if (self.sched == "step") != bool(self.milestones):
            raise ConfigError(
                f"sched=step and milestones go together; got {self.sched} and {self.milestones}; set both or neither"
            )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised.

    Args:
        loss: `ce`, cross-entropy; `bce`, a yes or no for every class (ResNet strikes back); `focal`, cross-entropy that
            looks away from what is easy (Lin et al. 2017).
        label_smoothing: label smoothing in [0, 1).
        focal_gamma: of `focal`; 0 is cross-entropy.
        bce_threshold: `bce` counts a mixed label above this as a yes, before smoothing; `None` leaves it a share.
        class_weights: `none`; `balanced`, in inverse proportion to a class's images; or one number a class.
    """

    loss: Literal["ce", "bce", "focal"] = "ce"
    label_smoothing: float = 0.1
    focal_gamma: float = 2.0
    bce_threshold: float | None = None
    class_weights: Literal["none", "balanced"] | tuple[float, ...] = "none"

    def __post_init__(self) -> None:
        weights: Any = self.class_weights
        listed = isinstance(weights, tuple) and len(weights) > 1 and min(weights) >= 0 < max(weights)
        require(
            self,
            {
                "label_smoothing": (0 <= self.label_smoothing < 1, "in [0, 1)"),
                "focal_gamma": (self.focal_gamma >= 0, "at least 0"),
                "bce_threshold": (self.bce_threshold is None or 0 <= self.bce_threshold < 1, "in [0, 1)"),
                "class_weights": (
                    weights in ("none", "balanced") or listed,
                    "none, balanced, or a number of at least 0 for each class",
                ),
            },
        )


@dataclass(frozen=True, kw_only=True)
class AverageConfig:
    """Averaged weights, which are what is measured and kept where they are asked for.

    Args:
        ema: decay a step of an exponential moving average of the weights, such as 0.999; 0 for none.
        ema_warmup: let the decay rise, (1 + n) / (10 + n) after n steps at most, so that short runs profit.
        ema_every: steps between two updates.
        swa_epochs: mean of the weights after each of the last so many epochs (Izmailov et al. 2018), its batch-norm
            statistics measured anew; 0 for none.
    """

    ema: float = 0.0
    ema_warmup: bool = True
    ema_every: int = 1
    swa_epochs: int = 0

    def __post_init__(self) -> None:
        require(
            self,
            {
                "ema": (0 <= self.ema < 1, "in [0, 1)"),
                "ema_every": (self.ema_every >= 1, "at least 1"),
                "swa_epochs": (self.swa_epochs >= 0, "at least 0"),
            },
        )
        if self.ema and self.swa_epochs:
            raise ConfigError(f"one average is kept; got ema {self.ema} and swa_epochs {self.swa_epochs}; choose one")


@dataclass(frozen=True, kw_only=True)
class SaveConfig:
    """When a run writes its state, and when it gives up.

    Args:
        every_minutes: between two states within an epoch; one is written after every epoch too.
        every_steps: optimiser steps between two states within an epoch; `None` goes by the clock alone.
        keep: states that are kept, the last ones.
        patience: epochs without a better validation after which the run ends; `None` runs to the end.
        rollbacks: times that a loss which is not finite may send the run back to its last good state, the learning
            rate halved; after that it is an error.
    """

    every_minutes: float = 5.0
    every_steps: int | None = None
    keep: int = 2
    patience: int | None = None
    rollbacks: int = 2

    def __post_init__(self) -> None:
        require(
            self,
            {
                "every_minutes": (self.every_minutes > 0, "above 0"),
                "every_steps": (self.every_steps is None or self.every_steps >= 1, "at least 1"),
                "keep": (self.keep >= 1, "at least 1"),
                "patience": (self.patience is None or self.patience >= 1, "at least 1"),
                "rollbacks": (self.rollbacks >= 0, "at least 0"),
            },
        )


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Whether what a frozen part answers is computed once and kept.

    Args:
        cache: `auto` keeps it wherever a phase freezes the first part of the network with its statistics for more than
            one epoch, and the answers fit; `off` runs every image through the frozen part every epoch.
        views: variations of each image that are kept, fewer than the phase has epochs, which take them in turn.
        cache_memory_gb: most that may be kept in memory; cache_disk_gb: most in a file in the run's folder instead.
        cache_16bit: keep numbers of 16 bits: half the room.
    """

    cache: Literal["auto", "off"] = "auto"
    views: int = 4
    cache_memory_gb: float = 2.0
    cache_disk_gb: float = 16.0
    cache_16bit: bool = False

    def __post_init__(self) -> None:
        require(
            self,
            {
                "views": (self.views >= 1, "at least 1"),
                "cache_memory_gb": (self.cache_memory_gb >= 0, "at least 0"),
                "cache_disk_gb": (self.cache_disk_gb >= 0, "at least 0"),
            },
        )
