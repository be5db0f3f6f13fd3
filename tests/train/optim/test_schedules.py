"""Learning rates step by step, computed by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnets.data.open import open_dataset
from resnets.errors import ConfigError
from resnets.train.config.options import OptimConfig, ScheduleConfig
from resnets.train.config.resolve import resolve_config
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.config.train_config import TrainConfig
from resnets.train.freeze.phases import ResolvedPhase
from resnets.train.optim.schedules import PhaseSchedule


def make(
    kind: str, steps: int, *, warmup: int = 0, peak: float = 1.0, first_epoch: int = 0, **options: Any
) -> PhaseSchedule:
    """Schedule of a phase with one step per epoch."""
    config = ScheduleConfig(sched=kind, **options)  # type: ignore[arg-type]
    return PhaseSchedule(config, ResolvedPhase(epochs=steps, lr=peak, warmup_epochs=warmup, first_epoch=first_epoch), 1)


def lrs(kind: str, steps: int, **options: Any) -> list[float]:
    schedule = make(kind, steps, **options)
    return [schedule(step + schedule.first) for step in range(steps)]


def test_warmup_and_cosine_by_hand() -> None:
    schedule = make("cosine", 11, warmup=3, peak=0.4)
    assert [schedule(step) for step in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert schedule(7) == pytest.approx(0.2)  # half way down
    assert schedule(10) == pytest.approx(0.4 * 0.5 * (1 + math.cos(math.pi * 7 / 8)))
    assert schedule(11) == pytest.approx(0)
    constant = make("constant", 11, warmup=3, peak=0.4)
    assert [constant(step) for step in (3, 10)] == [0.4, 0.4]


def test_cosine_ends_at_min_lr() -> None:
    assert lrs("cosine", 4) == pytest.approx([1, 0.5 + 0.25 * math.sqrt(2), 0.5, 0.5 - 0.25 * math.sqrt(2)])
    schedule = make("cosine", 10, peak=2.0, min_lr=0.1)
    assert schedule(5) == pytest.approx(2 * 0.55)
    assert schedule(10) == schedule(99) == pytest.approx(0.2)


def test_linear() -> None:
    assert lrs("linear", 5) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert lrs("linear", 5, min_lr=0.5) == pytest.approx([1, 0.9, 0.8, 0.7, 0.6])
    assert lrs("linear", 6, warmup=2) == pytest.approx([1 / 3, 2 / 3, 1, 0.75, 0.5, 0.25])
    assert make("linear", 5, min_lr=0.5)(50) == 0.5


def test_step_multiplies_by_gamma_at_milestones() -> None:
    assert lrs("step", 6, milestones=(2, 4)) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert lrs("step", 4, milestones=(1,), gamma=0.5, warmup=1) == pytest.approx([0.5, 0.5, 0.5, 0.5])
    assert lrs("step", 3, milestones=(1, 6, 8), first_epoch=6) == pytest.approx(
        [0.01, 0.01, 0.001]
    )  # earlier phases count


def test_onecycle_rises_and_falls() -> None:
    seen = lrs("onecycle", 100)
    assert seen[0] == pytest.approx(1 / 25)
    assert seen[15] == pytest.approx((1 + 1 / 25) / 2)  # half way up a cosine
    assert seen[30] == max(seen) == 1
    assert seen[65] == pytest.approx((1 + 1e-4 / 25) / 2)
    assert make("onecycle", 100)(100) == pytest.approx(1e-4 / 25)
    assert seen[:31] == sorted(seen[:31])
    assert seen[30:] == sorted(seen[30:], reverse=True)


@given(
    kind=st.sampled_from(["cosine", "linear", "onecycle", "constant"]),
    steps=st.integers(1, 200),
    warmup=st.integers(0, 100),
    min_lr=st.floats(0, 0.9),
)
def test_learning_rates_are_above_zero_and_at_most_the_peak(kind: str, steps: int, warmup: int, min_lr: float) -> None:
    schedule = make(kind, steps, peak=0.3, warmup=warmup, min_lr=min_lr)
    for step in range(steps):
        assert 0 < schedule(step) <= 0.3 * (1 + 1e-9)


def test_lr_scales_with_the_batch_size() -> None:
    assert OptimConfig(lr=0.1, lr_batch=128).lr_for(512) == pytest.approx(0.4)
    assert OptimConfig(opt="adamw", lr=1e-3, lr_batch=128).lr_for(512) == pytest.approx(2e-3)  # by the square root
    assert OptimConfig(opt="lamb", lr=5e-3, lr_batch=2048).lr_for(512) == pytest.approx(2.5e-3)
    assert OptimConfig(lr=0.1, lr_batch=None).lr_for(512) == 0.1


def resolved(images: Path, **options: Any) -> ResolvedConfig:
    return resolve_config(TrainConfig.from_options(data=str(images), **options), open_dataset(images))


def test_a_phase_has_its_own_warmup_and_schedule(images: Path) -> None:
    """Epochs 2 to 5 of 10 steps each: warm-up of half an epoch, a drop after epoch 4 of the run."""
    phases = [{"epochs": 2}, {"epochs": 4, "lr": 0.2, "warmup_epochs": 0.5}]
    config = resolved(images, phases=phases, sched="step", milestones=(1.0, 4.0), warmup_epochs=9)
    lr = PhaseSchedule(config.schedule, config.phases[1], 10)
    assert lr(20) == pytest.approx(0.2 / 6)
    assert lr(25) == pytest.approx(0.02)  # after the first milestone
    assert lr(39) == pytest.approx(0.02)
    assert lr(40) == pytest.approx(0.002)


def test_warmup_takes_at_most_half_a_phase(images: Path) -> None:
    config = resolved(images, epochs=2, warmup_epochs=50)
    lr = PhaseSchedule(config.schedule, config.phases[0], 10)
    assert lr(10) == max(lr(step) for step in range(20))


@pytest.mark.parametrize(
    "options",
    [
        {"min_lr": 1.0},
        {"min_lr": -0.1},
        {"warmup_epochs": -1.0},
        {"sched": "step"},
        {"milestones": (3.0,)},
        {"sched": "step", "milestones": (3.0, 2.0)},
        {"sched": "step", "milestones": (0.0,)},
        {"sched": "step", "milestones": (1.0,), "gamma": 1.0},
    ],
)
def test_invalid_options_are_errors(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        ScheduleConfig(**options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
