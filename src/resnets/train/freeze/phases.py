"""Phases of a run: what is frozen in each, how fast the rest learns, and what batch norms do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from typing_extensions import Doc

from resnets.arch.parts import BACKBONE
from resnets.errors import ConfigError, UnknownNameError
from resnets.options.declarations import DefaultText
from resnets.options.validate import Options

__all__ = ["NONE", "BatchNormMode", "FreezeConfig", "Phase", "ResolvedPhase", "check_freeze", "make_phases"]

NONE = "none"
BatchNormMode = Literal["auto", "train", "frozen"]

Freeze = Annotated[
    str,
    Doc(
        "Freeze the network up to this part: stem, layer1, ..., or backbone. In a VGG the stages are `block1`, ...; "
        "`backbone` is all but the classifier; `none` freezes nothing."
    ),
]
LayerDecay = Annotated[
    float,
    Interval(gt=0, le=1),
    Doc("Layer-wise learning rate decay. Each layer learns at this fraction of the next layer's learning rate."),
]
BatchNormStats = Annotated[
    BatchNormMode,
    Doc(
        "Running statistics of batch norms. `auto` keeps those of the frozen part; `train` updates all; `frozen` keeps "
        "all. Batch norms with kept statistics use them, as in evaluation."
    ),
]
BatchNormAffine = Annotated[
    BatchNormMode,
    Doc("Weights and biases of batch norms. `auto` freezes those of the frozen part; `train` none; `frozen` all."),
]


@dataclass(frozen=True, kw_only=True)
class Phase(Options):
    """Consecutive epochs that train the same part of the network."""

    epochs: Annotated[int, Ge(1), Doc("Number of epochs.")]
    freeze: Freeze = NONE
    lr: Annotated[float | None, Gt(0), Doc("Peak learning rate."), DefaultText("the run's")] = None
    warmup_epochs: Annotated[float | None, Ge(0), Doc("Epochs of linear warm-up."), DefaultText("the run's")] = None
    layer_decay: LayerDecay = 1.0
    bn_stats: BatchNormStats = "auto"
    bn_affine: BatchNormAffine = "auto"


@dataclass(frozen=True, kw_only=True)
class FreezeConfig(Options):
    """Freezing and unfreezing. All but `freeze`, `layer_decay` and `bn_*` has no effect with `freeze=none`."""

    freeze: Freeze = NONE
    freeze_epochs: Annotated[int | None, Ge(1), Doc("Unfreeze after N epochs."), DefaultText("never")] = None
    unfreeze: Annotated[
        Literal["all", "stages"],
        Doc(
            "How to unfreeze. `all` at once; or by `stages`, from the classifier back to the input, for equally many "
            "epochs each, the remainder last (Howard and Ruder 2018)."
        ),
    ] = "all"
    unfreeze_lr: Annotated[
        float | None, Gt(0), Doc("Peak learning rate after unfreezing."), DefaultText("the run's")
    ] = None
    unfreeze_lr_share: Annotated[
        float | None,
        Gt(0),
        Doc("Peak learning rate after unfreezing, as a fraction of the run's. Instead of `unfreeze_lr`."),
        DefaultText("1"),
    ] = None
    freeze_random: Annotated[bool, Doc("Allow freezing initial weights, which no training has made useful.")] = False
    layer_decay: LayerDecay = 1.0
    bn_stats: BatchNormStats = "auto"
    bn_affine: BatchNormAffine = "auto"

    def check_rules(self) -> None:
        if self.unfreeze_lr is not None and self.unfreeze_lr_share is not None:
            raise ConfigError(
                f"unfreeze_lr and unfreeze_lr_share exclude each other; got {self.unfreeze_lr} and "
                f"{self.unfreeze_lr_share}; leave one out"
            )

    def with_peak_lr(self, lr: float) -> FreezeConfig:
        """With `unfreeze_lr` in place of `unfreeze_lr_share`, for a run with the peak learning rate `lr`."""
        if self.unfreeze_lr_share is None:
            return self
        return replace(self, unfreeze_lr=self.unfreeze_lr_share * lr, unfreeze_lr_share=None)


@dataclass(frozen=True, kw_only=True)
class ResolvedPhase(Phase):
    """A phase without open values.

    Args:
        first_epoch: of the phase, counted from 0.
        lr: peak learning rate.
        warmup_epochs: linear warm-up at the start of the phase.
    """

    first_epoch: int
    lr: float
    warmup_epochs: float

    @classmethod
    def sequence(cls, phases: Iterable[Phase], lr: float, warmup_epochs: float) -> Iterator[ResolvedPhase]:
        """Resolve the phases of a run: `lr` and `warmup_epochs` are the run's, for phases without their own."""
        first = 0
        for phase in phases:
            yield cls(
                **vars(phase)
                | {
                    "first_epoch": first,
                    "lr": lr if phase.lr is None else phase.lr,
                    "warmup_epochs": warmup_epochs if phase.warmup_epochs is None else phase.warmup_epochs,
                }
            )
            first += phase.epochs


def make_phases(config: FreezeConfig, total_epochs: int, freeze_points: Sequence[str]) -> tuple[Phase, ...]:
    """The phases of a freezing configuration.

    Args:
        config: with `unfreeze_lr` resolved by `with_peak_lr`.
        total_epochs: of the run.
        freeze_points: of the network, see `arch.parts.freeze_points`.

    Raises:
        UnknownNameError: the network has no such part.
        ConfigError: the phases need more epochs.
    """
    check_freeze(config.freeze, freeze_points)
    phase = partial(Phase, layer_decay=config.layer_decay, bn_stats=config.bn_stats, bn_affine=config.bn_affine)
    if config.freeze == NONE:  # other options may be left from a recipe
        return (phase(epochs=total_epochs),)
    frozen = total_epochs if config.freeze_epochs is None else config.freeze_epochs
    if frozen > total_epochs:
        raise ConfigError(
            f"freeze_epochs must be at most the run's epochs, {total_epochs}; got {frozen}; lower it or train longer"
        )
    first, left = phase(epochs=frozen, freeze=config.freeze), total_epochs - frozen
    if not left:
        return (first,)
    steps = _unfreeze_steps(config.freeze, freeze_points) if config.unfreeze == "stages" else (NONE,)
    if left < len(steps):
        raise ConfigError(
            f"unfreezing by stages from {config.freeze} needs at least {len(steps)} epochs; got {left} after "
            f"{frozen} frozen ones; train longer, lower freeze_epochs or set unfreeze=all"
        )
    each = left // len(steps)
    lengths = [each] * (len(steps) - 1) + [left - each * (len(steps) - 1)]
    unfrozen = (
        phase(epochs=length, freeze=step, lr=config.unfreeze_lr) for length, step in zip(lengths, steps, strict=True)
    )
    return (first, *unfrozen)


def _unfreeze_steps(freeze: str, freeze_points: Sequence[str]) -> tuple[str, ...]:
    """Values of `freeze` of the phases after it, down to none; the backbone's tail unfreezes with the last stage."""
    stages = [name for name in freeze_points if name != BACKBONE]
    frozen = stages[: stages.index(freeze)] if freeze in stages else stages[:-1]
    return (*reversed(frozen), NONE)


def check_freeze(freeze: str, freeze_points: Sequence[str]) -> None:
    """Raise UnknownNameError or ConfigError unless a network with these freeze points can be frozen up to `freeze`."""
    known = (NONE, *freeze_points)
    if freeze not in known:
        error = UnknownNameError("value of freeze", freeze, known)
        if error.nearest:
            raise error
        raise ConfigError(f"freeze must be a part of the network; got {freeze!r}; choose from {', '.join(known)}")
