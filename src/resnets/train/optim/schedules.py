"""Learning-rate schedules with warm-up."""

from __future__ import annotations

import bisect
import math

from resnets.train.config.options import ScheduleConfig
from resnets.train.freeze.phases import ResolvedPhase

__all__ = ["PhaseSchedule"]

PCT_START, INITIAL, FINAL = 0.3, 1 / 25, 1e-4  # of `onecycle`, as in torch's `OneCycleLR` (Smith 2018)


class PhaseSchedule:
    """Learning rate of each step of a phase: linear warm-up, then `cosine` (Loshchilov and Hutter 2017) or another.

    Args:
        config: kind of schedule. Its milestones are epochs of the run.
        phase: with its peak learning rate and warm-up, which is shortened to half the phase.
        steps_per_epoch: number of optimizer steps.
    """

    def __init__(self, config: ScheduleConfig, phase: ResolvedPhase, steps_per_epoch: int) -> None:
        self.config, self.peak = config, phase.lr
        self.first, self.steps = phase.first_epoch * steps_per_epoch, phase.epochs * steps_per_epoch
        self.warmup_steps = min(round(phase.warmup_epochs * steps_per_epoch), self.steps // 2)
        self.milestones = [round((epoch - phase.first_epoch) * steps_per_epoch) for epoch in config.milestones]

    def __call__(self, step: int) -> float:
        """Learning rate of a step of the run, counted from 0."""
        return self.peak * self._factor(step - self.first)

    def _factor(self, step: int) -> float:
        config = self.config
        if config.sched == "onecycle":
            top = PCT_START * self.steps
            if step < top:
                return _cosine(INITIAL, 1.0, step / top)
            return _cosine(1.0, FINAL * INITIAL, (step - top) / max(self.steps - top, 1))
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        if config.sched == "constant":
            return 1.0
        if config.sched == "step":
            return float(config.gamma ** bisect.bisect_right(self.milestones, step))
        progress = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        if config.sched == "linear":
            return 1.0 + (config.min_lr - 1.0) * min(progress, 1.0)
        return _cosine(1.0, config.min_lr, progress)


def _cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine from `start` to `end`."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
