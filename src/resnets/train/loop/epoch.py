"""The epoch loop: training steps over the batches of an epoch, from any batch on."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import isfinite

import torch
from torch import Tensor

from resnets.data.loader import Batches
from resnets.errors import TrainingError
from resnets.train.loop.metrics import EpochMetrics, EpochResult
from resnets.train.loop.train_step import TrainStep

__all__ = ["NotFiniteError", "require_finite", "run_epoch"]

CHECK_EVERY = 16  # steps; reading a number from a GPU, or from other processes, waits for all work that is queued


class NotFiniteError(TrainingError):
    """A loss or weight that is NaN or infinite.

    Args:
        message: one line.
        indices: positions in the training split of the images in the last batch.
    """

    def __init__(self, message: str, indices: Tensor) -> None:
        self.indices = indices
        super().__init__(message)


def run_epoch(
    train_step: TrainStep,
    batches: Batches,
    epoch: int,
    *,
    metrics: EpochMetrics | None = None,
    start: int = 0,
    size: tuple[int, int] | None = None,
    on_progress: Callable[[int, float], None] = lambda images, loss: None,
    after_step: Callable[[int], bool] = lambda done: False,
) -> EpochResult | None:
    """Train one epoch, or the rest of it. The caller sets the network's mode.

    Args:
        epoch: counted from 0; with the run's seed, determines order and augmentation.
        metrics: of the batches before `start`, updated in place.
        start: first batch, from 0.
        size: (H, W) of the training images in place of the preprocessing's.
        on_progress: called with the number of images since its last call and the mean loss so far.
        after_step: called after each step but the last with the number of batches done; returns whether to stop.

    Returns:
        The metrics of the epoch, or `None` if `after_step` stopped it.

    Raises:
        NotFiniteError: the loss is NaN or infinite.
    """
    metrics, processes = metrics or EpochMetrics(train_step.device), train_step.processes
    read_every = 1 if train_step.device.type == "cpu" else CHECK_EVERY
    check_every = read_every if processes.world_size == 1 else CHECK_EVERY
    images, unreported, started = 0, 0, time.perf_counter()
    for number, (x, y, indices) in enumerate(batches.epoch(epoch, start=start, size=size), start=start + 1):
        first, last = batches.bounds[number - 1]
        local = processes.shard.local_count(last - first)  # 0 if other processes share a small last batch
        loss, correct = train_step(x, y, local * processes.world_size / (last - first))
        metrics.add(loss, correct if local else correct * 0, indices[:local])
        images, unreported = images + last - first, unreported + last - first
        ends = number == len(batches)
        if (number % check_every == 0 or ends) and processes.any(not torch.isfinite(metrics.loss_sum))[0]:
            losses = processes.all_gather(float(loss))
            worst = next((value for value in losses if not isfinite(value)), losses[0])
            raise NotFiniteError(
                f"training diverged; the loss is {worst} at epoch {epoch + 1}, step {number} of {len(batches)}, "
                f"learning rate {train_step.lr:.4g}; try a lower --lr, or --amp off",
                indices,
            )
        if number % read_every == 0 or ends:
            on_progress(unreported, float(metrics.loss_sum) / max(metrics.seen, 1))
            unreported = 0
        if not ends and after_step(number):
            return None
    processes.all_reduce_sum(metrics.loss_sum, metrics.correct)
    total = batches.bounds[-1][1] - batches.bounds[0][0]
    seconds, mean = max(time.perf_counter() - started, 1e-9), float(metrics.loss_sum) / total
    train_step.warn_after_epoch(mean, epoch)
    return EpochResult(mean, int(metrics.correct) / total, images / seconds, train_step.lr)


def require_finite(train_step: TrainStep, metrics: EpochMetrics, epoch: int, batch: int) -> None:
    """Raise NotFiniteError unless network and optimizer state are finite; a step with a finite loss can spoil them.

    `epoch`, counted from 0, and `batch`, the number of batches done in it, are for the message.
    """
    slots = (value for state in train_step.optimizer.state.values() for value in state.values())
    optimizer = (value for value in slots if isinstance(value, Tensor))
    tensors = (*train_step.model.state_dict().values(), *optimizer, metrics.loss_sum)
    checks = [torch.isfinite(tensor).all() for tensor in tensors if tensor.is_floating_point()]
    if train_step.processes.any(not torch.stack([check.to(train_step.device) for check in checks]).all())[0]:
        raise NotFiniteError(
            f"training diverged; weights are NaN or infinite at epoch {epoch + 1}, after step {batch}, "
            f"learning rate {train_step.lr:.4g}; try a lower --lr, or --amp off",
            metrics.indices,
        )
