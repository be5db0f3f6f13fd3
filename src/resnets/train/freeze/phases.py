"""A run as a row of phases: what is frozen in each, how fast the rest learns, and what batch norms do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from resnets.arch.parts import BACKBONE
from resnets.errors import ConfigError, UnknownNameError

__all__ = ["NONE", "FreezeConfig", "Moves", "Phase", "PhaseAt", "check_phases", "phase_at", "phases_of"]

NONE = "none"
Moves = Literal["auto", "train", "frozen"]
"""Of batch norms: `auto`, frozen exactly in the frozen part; `train`, none frozen; `frozen`, all of the network."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Epochs in a row that train the same part of a network.

    Args:
        epochs: how many, 1 or more.
        freeze: up to where the network is frozen, from the input on: `none`; `stem`, `layer1`.. (a VGG's `block1`..),
            each with all before it; or `backbone`, all but the classifier.
        lr: peak learning rate; `None`: the run's.
        warmup_epochs: linear warm-up at the start of the phase; `None`: the run's.
        layer_decay: in (0, 1]; each layer learns at this share of the rate of the layer behind it, see `lr_scales`.
        bn_stats: whether running means and variances of batch norms move; where they do not, batch norms compute
            with them, as in evaluation.
        bn_affine: whether their weights and biases train.

    Raises:
        ConfigError: a value outside its rule.
    """

    epochs: int
    freeze: str = NONE
    lr: float | None = None
    warmup_epochs: float | None = None
    layer_decay: float = 1.0
    bn_stats: Moves = "auto"
    bn_affine: Moves = "auto"

    def __post_init__(self) -> None:
        _check(
            epochs=(self.epochs, self.epochs >= 1, "at least 1"),
            lr=(self.lr, self.lr is None or self.lr > 0, "above 0"),
            warmup_epochs=(self.warmup_epochs, self.warmup_epochs is None or self.warmup_epochs >= 0, "at least 0"),
            layer_decay=(self.layer_decay, 0 < self.layer_decay <= 1, "in (0, 1]"),
            bn_stats=(self.bn_stats, self.bn_stats in ("auto", "train", "frozen"), "auto, train or frozen"),
            bn_affine=(self.bn_affine, self.bn_affine in ("auto", "train", "frozen"), "auto, train or frozen"),
        )


@dataclass(frozen=True, kw_only=True)
class FreezeConfig:
    """Freezing in a few words, as flags say it.

    Args:
        freeze: up to where the network is frozen, from the input on: `none`; `stem`, `layer1`.. (a VGG's `block1`..);
            or `backbone`, all but the classifier. With `none`, what else is said of unfreezing means nothing.
        freeze_epochs: for how many epochs; `None`: all of them.
        unfreeze: what happens then: `all` at once, or `stages`, one place after the other from the classifier back to
            the input, for equally many epochs each (Howard and Ruder 2018), the odd ones last.
        unfreeze_lr: peak learning rate from then on; `None`: the run's.
        unfreeze_lr_share: the same as a share of the run's, in place of `unfreeze_lr`.
        layer_decay: in (0, 1]; each layer learns at this share of the rate of the layer behind it.
        bn_stats: whether running statistics of batch norms move: `auto`, all but those of the frozen part; `train`,
            all; `frozen`, none; bn_affine: whether their weights and biases train, in the same words.

    Raises:
        ConfigError: a value outside its rule.
    """

    freeze: str = NONE
    freeze_epochs: int | None = None
    unfreeze: Literal["all", "stages"] = "all"
    unfreeze_lr: float | None = None
    unfreeze_lr_share: float | None = None
    layer_decay: float = 1.0
    bn_stats: Moves = "auto"
    bn_affine: Moves = "auto"

    def __post_init__(self) -> None:
        _check(
            freeze_epochs=(self.freeze_epochs, self.freeze_epochs is None or self.freeze_epochs >= 1, "at least 1"),
            unfreeze=(self.unfreeze, self.unfreeze in ("all", "stages"), "all or stages"),
            unfreeze_lr=(self.unfreeze_lr, self.unfreeze_lr is None or self.unfreeze_lr > 0, "above 0"),
            unfreeze_lr_share=(
                self.unfreeze_lr_share,
                self.unfreeze_lr_share is None or self.unfreeze_lr_share > 0,
                "above 0",
            ),
        )
        if self.unfreeze_lr is not None and self.unfreeze_lr_share is not None:
            raise ConfigError(
                f"unfreeze_lr or its share of the run's is given; got {self.unfreeze_lr} and unfreeze_lr_share "
                f"{self.unfreeze_lr_share}; leave one out"
            )
        self._phase(1)

    def at_peak(self, lr: float) -> FreezeConfig:
        """The same with its rate as a number, for a run whose peak learning rate is `lr`."""
        if self.unfreeze_lr_share is None:
            return self
        return replace(self, unfreeze_lr=self.unfreeze_lr_share * lr, unfreeze_lr_share=None)

    def _phase(self, epochs: int, freeze: str = NONE, lr: float | None = None) -> Phase:
        return Phase(
            epochs=epochs,
            freeze=freeze,
            lr=lr,
            layer_decay=self.layer_decay,
            bn_stats=self.bn_stats,
            bn_affine=self.bn_affine,
        )


@dataclass(frozen=True, kw_only=True)
class PhaseAt:
    """The phase that an epoch belongs to.

    Args:
        index: which one, from 0.
        phase: itself.
        first: its first epoch, from 0.
    """

    index: int
    phase: Phase
    first: int


def phases_of(config: FreezeConfig, total_epochs: int, places: Sequence[str]) -> tuple[Phase, ...]:
    """The phases that `config` means.

    Args:
        config: `at_peak` of the run.
        total_epochs: of the run.
        places: of the network, from `places.places(plan)`.

    Raises:
        UnknownNameError: the network has no such place.
        ConfigError: fewer epochs than the phases need.
    """
    _check_place(config.freeze, places)
    if config.freeze == NONE:  # the other flags may still stand there from a recipe
        return (config._phase(total_epochs),)
    frozen = total_epochs if config.freeze_epochs is None else config.freeze_epochs
    if frozen > total_epochs:
        raise ConfigError(
            f"freeze_epochs must be at most the run's epochs, {total_epochs}; got {frozen}; lower it or train longer"
        )
    first, left = config._phase(frozen, config.freeze), total_epochs - frozen
    if not left:
        return (first,)
    steps = _unfreezing(config.freeze, places) if config.unfreeze == "stages" else (NONE,)
    if left < len(steps):
        raise ConfigError(
            f"unfreezing by stages from {config.freeze} takes {len(steps)} epochs or more; got {left} after "
            f"{frozen} frozen ones; train longer, freeze for fewer or unfreeze all"
        )
    share = left // len(steps)
    lengths = [share] * (len(steps) - 1) + [left - share * (len(steps) - 1)]
    unfrozen = [config._phase(length, step, config.unfreeze_lr) for length, step in zip(lengths, steps, strict=True)]
    return (first, *unfrozen)


def check_phases(phases: Sequence[Phase], total_epochs: int, places: Sequence[str]) -> None:
    """Raise unless the phases fit the run and the network.

    Raises:
        UnknownNameError: the network has no such place.
        ConfigError: the phases' epochs do not add up to `total_epochs`.
    """
    for phase in phases:
        _check_place(phase.freeze, places)
    if sum(phase.epochs for phase in phases) != total_epochs:
        spelt = " + ".join(str(phase.epochs) for phase in phases) or "none"
        raise ConfigError(
            f"the phases' epochs must add up to the run's {total_epochs}; got {spelt}; change one of them"
        )


def phase_at(phases: Sequence[Phase], epoch: int) -> PhaseAt:
    """The phase of `epoch`, counted from 0."""
    first = 0
    for index, phase in enumerate(phases):
        if epoch < first + phase.epochs:
            return PhaseAt(index=index, phase=phase, first=first)
        first += phase.epochs
    raise AssertionError(f"epoch {epoch} lies behind the last of {first}")


def _unfreezing(freeze: str, places: Sequence[str]) -> tuple[str, ...]:
    """What is frozen step by step once `freeze` unfreezes; the backbone's tail unfreezes with the last stage."""
    stages = [place for place in places if place != BACKBONE]
    frozen = stages[: stages.index(freeze)] if freeze in stages else stages[:-1]
    return (*reversed(frozen), NONE)


def _check_place(place: str, places: Sequence[str]) -> None:
    if place not in (NONE, *places):
        error = UnknownNameError("place to freeze up to", place, (NONE, *places))
        if error.nearest:
            raise error
        raise ConfigError(f"freeze must be a place of the network; got {place!r}; it has {', '.join((NONE, *places))}")


def _check(**rules: tuple[object, bool, str]) -> None:
    for name, (value, kept, rule) in rules.items():
        if not kept:
            raise ConfigError(f"{name} must be {rule}; got {value!r}")
