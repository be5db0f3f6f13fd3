"""The checkpointer: decides when to write checkpoints, and restores a training run from one."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace

import torch
from safetensors import SafetensorError

from resnets.atomic import describe_write_error
from resnets.errors import TrainingError
from resnets.runtime.console import Console
from resnets.train.config.options import SaveConfig
from resnets.train.loop.metrics import EpochMetrics
from resnets.train.loop.train_step import TrainStep
from resnets.train.run_folder.checkpoint import (
    Checkpoint,
    RunProgress,
    checkpoint_tensors,
    checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from resnets.train.run_folder.paths import RunFolder
from resnets.weights.folder.storage import current_folder

__all__ = ["Checkpointer", "latest_checkpoint"]


class Checkpointer:
    """Writes and restores checkpoints of a run."""

    def __init__(self, run: RunFolder, config: SaveConfig, console: Console) -> None:
        self.run, self.config, self.console = run, config, console
        self._last_save = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether a checkpoint is to be written after this step, by `every_steps`."""
        every = self.config.every_steps
        return bool(every and step % every == 0)

    def overdue(self) -> bool:
        """Whether the last checkpoint is older than `every_minutes`, by the clock of this process."""
        return time.monotonic() - self._last_save > 60 * self.config.every_minutes

    def save(
        self, progress: RunProgress, train_step: TrainStep, metrics: EpochMetrics, *, required: bool = True
    ) -> RunProgress:
        """Write a checkpoint, and delete all but the last `keep` and those of later steps, which are damaged.

        All processes call it; the main process writes.

        Args:
            progress: of the run, without the counts of the train step and the metrics, which are added here.
            train_step: with the network, optimizer and averaged weights to save.
            metrics: of the current epoch.
            required: raise if it cannot be written; otherwise print a warning, since another one will follow.

        Returns:
            The completed progress.

        Raises:
            TrainingError: it is required and cannot be written; earlier checkpoints are unchanged.
        """
        average, processes = train_step.average, train_step.processes
        assert average is not None
        seen = torch.tensor(metrics.seen, device=metrics.correct.device)
        sums = metrics.loss_sum.clone(), metrics.correct.clone(), seen
        processes.all_reduce_sum(*sums)
        scaler, loss = train_step.scaler.state_dict(), train_step.loss.state(processes.all_reduce_sum)
        progress = replace(
            progress,
            step=train_step.step,
            micro_batches=train_step.micro_batches,
            lr_scale=train_step.lr_scale,
            average_updates=average.count,
            loss_sum=float(sums[0]),
            correct=int(sums[1]),
            seen=int(seen),
            loss_scale=scaler.get("scale", progress.loss_scale),
            loss_scale_growth=scaler.get("_growth_tracker", progress.loss_scale_growth),
        )

        def write() -> bool:
            tensors = checkpoint_tensors(train_step.model, train_step.optimizer, average)
            tensors |= {f"loss.{key}": tensor.cpu() for key, tensor in loss.items()}
            tensors["trace"] = torch.tensor([loss.float().cpu() for loss in metrics.trace])
            path = self.run.checkpoints / f"step-{progress.step:09d}.safetensors"
            try:
                for leftover in path.parent.glob(".step-*.tmp"):  # of a killed process
                    leftover.unlink(missing_ok=True)
                write_checkpoint(Checkpoint(progress=progress, tensors=tensors), path)
                found = checkpoints(path.parent)
                position = found.index(path) + 1
                for old in (*found[: max(position - self.config.keep, 0)], *found[position:]):
                    old.unlink(missing_ok=True)
            except (OSError, SafetensorError) as error:
                reason = describe_write_error(error)
                message = f"cannot write a checkpoint; {path}: {reason}"
                if required:
                    resume = f"; then continue with --resume {self.run.shell_path}" if self.run.path.exists() else ""
                    raise TrainingError(message + resume) from None
                self.console.warning(f"warning: {message}; training continues, the previous checkpoint remains")
                return False
            return True

        if processes.run_on_main(write):
            metrics.trace.clear()
        self._last_save = time.monotonic()
        return progress

    def restore(self, checkpoint: Checkpoint, train_step: TrainStep, metrics: EpochMetrics) -> None:
        """Load a checkpoint; the phase of its epoch must be active.

        Raises:
            TrainingError: it is of another network.
        """
        progress, model, optimizer = checkpoint.progress, train_step.model, train_step.optimizer
        try:
            model.load_state_dict(checkpoint.group("model"))
        except RuntimeError:
            raise TrainingError(
                f"resuming needs the same network; {self.run.checkpoints} has another; start a new run"
            ) from None
        parameters = dict(model.named_parameters())
        optimizer.state.clear()
        for key, tensor in checkpoint.group("optimizer").items():
            slot, _, name = key.partition(".")
            parameter = parameters[name]
            if tensor.shape == parameter.shape:
                # In the memory format of the parameter (channels_last), or the fused step falls back to a slow path.
                tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
            elif optimizer.defaults.get("fused"):
                tensor = tensor.to(parameter.device)  # fused optimizers keep step counts beside their parameters
            optimizer.state[parameter][slot] = tensor
        if train_step.average is not None:
            train_step.average.restore(checkpoint.group("average"), progress.average_updates)
        train_step.step, train_step.lr_scale = progress.step, progress.lr_scale
        train_step.micro_batches = progress.micro_batches
        if train_step.scaler.is_enabled():
            state = {"scale": progress.loss_scale, "_growth_tracker": progress.loss_scale_growth}
            train_step.scaler.load_state_dict(train_step.scaler.state_dict() | state)
        # The saved values are sums over all processes; they continue in the main process.
        is_main = train_step.processes.is_main_process
        train_step.loss.load_state(checkpoint.group("loss"), is_main_process=is_main)
        metrics.loss_sum.fill_(progress.loss_sum if is_main else 0.0)
        metrics.correct.fill_(progress.correct if is_main else 0)
        metrics.seen = progress.seen if is_main else 0
        metrics.trace.clear()


def latest_checkpoint(run: RunFolder, console: Console) -> Checkpoint | None:
    """The latest undamaged checkpoint of a run; `None` if the run has none, and no epoch was finished.

    Raises:
        TrainingError: all checkpoints are damaged or deleted.
    """
    found = checkpoints(run.checkpoints)
    if not found and (run.results.exists() or current_folder(run.last).exists()):
        raise TrainingError(
            f"a run is resumed from a checkpoint; {run.checkpoints} has none, although epochs were finished; start a "
            f"new run, from the weights with --pretrained {shlex.quote(str(run.last))}"
        )
    for number, path in enumerate(reversed(found), start=1):
        try:
            return read_checkpoint(path)
        except TrainingError as error:
            if number == len(found):
                raise
            console.warning(f"warning: {error}; using the checkpoint before it")
    return None
