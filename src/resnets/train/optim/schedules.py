"""The learning rate, step by step."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

__all__ = ["WarmupSchedule"]

RISE, FIRST, LAST = 0.3, 1 / 25, 1e-4  # of `onecycle`: share of the steps that rise, and both ends (Smith 2018)


@dataclass(frozen=True, kw_only=True)
class WarmupSchedule:
    """The learning rate of each step of a phase, as `ScheduleConfig` says it.

    Args:
        kind: `cosine` (Loshchilov and Hutter 2017), `linear`, `step`, `onecycle` or `constant`.
        peak: the highest rate.
        warmup_steps: of linear rise up to it.
        total_steps: of the phase.
        min_lr: where `cosine` and `linear` end, as a share of the peak.
        milestones: steps at which `step` multiplies the rate by `gamma`.
    """

    kind: str
    peak: float
    warmup_steps: int
    total_steps: int
    min_lr: float = 0.0
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1

    def __call__(self, step: int) -> float:
        """The learning rate of step `step` of the phase, counted from 0."""
        return self.peak * self._share(step)

    def _share(self, step: int) -> float:
        if self.kind == "onecycle":
            top = RISE * self.total_steps
            if step < top:
                return _cosine(FIRST, 1.0, step / top)
            return _cosine(1.0, LAST * FIRST, (step - top) / max(self.total_steps - top, 1))
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        if self.kind == "constant":
            return 1.0
        if self.kind == "step":
            return float(self.gamma ** bisect.bisect_right(self.milestones, step))
        done = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        if self.kind == "linear":
            return 1.0 + (self.min_lr - 1.0) * min(done, 1.0)
        return _cosine(1.0, self.min_lr, done)


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
