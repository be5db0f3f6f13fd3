"""When a run's state is written, and what it is taken from and put back into."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from resnets.errors import TrainingError
from resnets.runtime.console import Console
from resnets.train.config.options import SaveConfig
from resnets.train.loop.engine import Engine
from resnets.train.run_folder.checkpoint import (
    Checkpoint,
    RunProgress,
    checkpoints,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from resnets.train.run_folder.paths import RunFolder

__all__ = ["Checkpointer", "latest_checkpoint"]


class Checkpointer:
    """Writes and reads the states of a run.

    Args:
        run: its folder.
        config: how often, and how many are kept.
        console: told of a state that could not be written.
    """

    def __init__(self, run: RunFolder, config: SaveConfig, console: Console) -> None:
        self.run, self.config, self.console = run, config, console
        self._last = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether a state is to be written after this step, within an epoch, whatever the clock says."""
        often = self.config.every_steps
        return bool(often and step % often == 0)

    def overdue(self) -> bool:
        """Whether the last state was written too long ago, by the clock of this process."""
        return time.monotonic() - self._last > 60 * self.config.every_minutes

    def save(self, progress: RunProgress, engine: Engine, *, needed: bool = True) -> RunProgress:
        """Write the state; every process calls it, the first one writes.

        Args:
            progress: of the run; what the engine knows better is filled in.
            needed: raise where it cannot be written; else say so and go on, as there will be another.

        Returns:
            The progress as it was written.
        """
        train_step, average, meter, world = engine.train_step, engine.average, engine.meter, engine.world
        seen = torch.tensor(meter.seen, device=meter.correct.device)
        sums = meter.loss_sum.clone(), meter.correct.clone(), seen
        world.sum(*sums)
        scaler = train_step.scaler.state_dict()
        progress = replace(
            progress,
            step=train_step.step,
            parts=train_step.parts,
            lr_scale=train_step.lr_scale,
            averaged=average.count,
            loss_sum=float(sums[0]),
            correct=int(sums[1]),
            seen=int(seen),
            scale=scaler.get("scale", progress.scale),
            scale_growth=scaler.get("_growth_tracker", progress.scale_growth),
        )

        def write() -> bool:
            try:
                save_checkpoint(
                    self.run.checkpoints,
                    progress,
                    train_step.model,
                    train_step.optimizer,
                    average=average,
                    trace=meter.trace,
                    keep=self.config.keep,
                )
            except TrainingError as error:
                if needed:
                    raise
                self.console.say(f"warning: {error}; the run goes on, its state before stays", always=True)
                return False
            return True

        if world.from_first(write):
            meter.trace.clear()
        self._last = time.monotonic()
        return progress

    def latest(self) -> Checkpoint | None:
        """The last state that is whole, see `newest`."""
        return latest_checkpoint(self.run, self.console)

    def restore(self, state: Checkpoint, engine: Engine) -> None:
        """Put a state back; the engine must be in the state's phase."""
        train_step, average, meter = engine.train_step, engine.average, engine.meter
        load_checkpoint(state, self.run.checkpoints, train_step.model, train_step.optimizer, average)
        progress, world = state.progress, train_step.world
        train_step.step, train_step.parts, train_step.lr_scale = progress.step, progress.parts, progress.lr_scale
        if train_step.scaler.is_enabled():
            train_step.scaler.load_state_dict(
                train_step.scaler.state_dict() | {"scale": progress.scale, "_growth_tracker": progress.scale_growth}
            )
        # Sums over all processes; the first one carries on with them.
        meter.loss_sum.fill_(progress.loss_sum if world.first else 0.0)
        meter.correct.fill_(progress.correct if world.first else 0)
        meter.seen = progress.seen if world.first else 0
        meter.trace.clear()


def latest_checkpoint(run: RunFolder, console: Console) -> Checkpoint | None:
    """The last state of a run that is whole; `None` if the run has none.

    Raises:
        TrainingError: there are states, and none is whole.
    """
    found = checkpoints(run.checkpoints)
    for number, path in enumerate(reversed(found), start=1):
        try:
            return read_checkpoint(path)
        except TrainingError as error:
            if number == len(found):
                raise
            console.say(f"warning: {error}; taking the state before it", always=True)
    return None
