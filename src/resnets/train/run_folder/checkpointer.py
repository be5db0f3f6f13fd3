"""When a run's state is written, and what it is taken from and put back into."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from resnets.errors import TrainingError
from resnets.runtime.console import Console
from resnets.train.config.options import SaveConfig
from resnets.train.loop.metrics import EpochMetrics
from resnets.train.loop.train_step import TrainStep
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

    def save(
        self, progress: RunProgress, train_step: TrainStep, metrics: EpochMetrics, *, required: bool = True
    ) -> RunProgress:
        """Write the state; every process calls it, the first one writes.

        Args:
            progress: of the run; what the train step and metrics hold is filled in.
            required: raise where it cannot be written; else say so and go on, as there will be another.

        Returns:
            The progress as it was written.
        """
        average, processes = train_step.average, train_step.processes
        assert average is not None
        seen = torch.tensor(metrics.seen, device=metrics.correct.device)
        sums = metrics.loss_sum.clone(), metrics.correct.clone(), seen
        processes.all_reduce_sum(*sums)
        scaler = train_step.scaler.state_dict()
        progress = replace(
            progress,
            step=train_step.step,
            parts=train_step.micro_batches,
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
                    trace=metrics.trace,
                    keep=self.config.keep,
                )
            except TrainingError as error:
                if required:
                    raise
                self.console.say(f"warning: {error}; the run goes on, its state before stays", always=True)
                return False
            return True

        if processes.run_on_main(write):
            metrics.trace.clear()
        self._last = time.monotonic()
        return progress

    def latest(self) -> Checkpoint | None:
        """The last state that is whole, see `newest`."""
        return latest_checkpoint(self.run, self.console)

    def restore(self, state: Checkpoint, train_step: TrainStep, metrics: EpochMetrics) -> None:
        """Put a state back; the run must be in the state's phase."""
        load_checkpoint(state, self.run.checkpoints, train_step.model, train_step.optimizer, train_step.average)
        progress, is_main = state.progress, train_step.processes.is_main_process
        train_step.step, train_step.micro_batches, train_step.lr_scale = (
            progress.step,
            progress.parts,
            progress.lr_scale,
        )
        if train_step.scaler.is_enabled():
            train_step.scaler.load_state_dict(
                train_step.scaler.state_dict() | {"scale": progress.scale, "_growth_tracker": progress.scale_growth}
            )
        # Sums over all processes; the first one carries on with them.
        metrics.loss_sum.fill_(progress.loss_sum if is_main else 0.0)
        metrics.correct.fill_(progress.correct if is_main else 0)
        metrics.seen = progress.seen if is_main else 0
        metrics.trace.clear()


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
