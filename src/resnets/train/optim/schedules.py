"""Learning-rate schedules with warm-up."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

__all__ = ["WarmupSchedule"]

PCT_START, INITIAL, FINAL = 0.3, 1 / 25, 1e-4  # of `onecycle`, as in torch's `OneCycleLR` (Smith 2018)


@dataclass(frozen=True, kw_only=True)
class WarmupSchedule:
    """Learning rate of each step of a phase: linear warm-up, then a schedule. See `ScheduleConfig`.

    Args:
        kind: `cosine` (Loshchilov and Hutter 2017), `linear`, `step`, `onecycle` (without the warm-up) or `constant`.
        peak: highest learning rate.
        warmup_steps: number of steps of linear warm-up.
        total_steps: number of steps of the phase.
        min_lr: final learning rate of `cosine` and `linear`, as a fraction of the peak.
        milestones: steps at which `step` multiplies the learning rate by `gamma`.
        gamma: factor of `step`.
    """

    kind: str
    peak: float
    warmup_steps: int
    total_steps: int
    min_lr: float = 0.0
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1

    def __call__(self, step: int) -> float:
        """Learning rate of a step of the phase, counted from 0."""
        return self.peak * self._factor(step)

    def _factor(self, step: int) -> float:
        if self.kind == "onecycle":
            top = PCT_START * self.total_steps
            if step < top:
                return _cosine(INITIAL, 1.0, step / top)
            return _cosine(1.0, FINAL * INITIAL, (step - top) / max(self.total_steps - top, 1))
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        if self.kind == "constant":
            return 1.0
        if self.kind == "step":
            return float(self.gamma ** bisect.bisect_right(self.milestones, step))
        progress = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        if self.kind == "linear":
            return 1.0 + (self.min_lr - 1.0) * min(progress, 1.0)
        return _cosine(1.0, self.min_lr, progress)


def _cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine from `start` to `end`."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
