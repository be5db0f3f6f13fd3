"""An epoch of steps, from any of its batches on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from resnets.data.loader import Batches
from resnets.errors import TrainingError
from resnets.train.loop.train_step import TrainStep

__all__ = ["EpochResult", "Meter", "NotFiniteError", "run_epoch"]

SELDOM = 16  # steps


@dataclass(frozen=True)
class EpochResult:
    """An epoch of training: mean loss and share of correct images (as the weights moved), and the rate."""

    loss: float
    top1: float
    images_per_second: float
    lr: float


class NotFiniteError(TrainingError):
    """A loss that is NaN or infinite.

    Args:
        message: one line.
        indices: places in the split of the images in the batch where it was seen.
    """

    def __init__(self, message: str, indices: Tensor) -> None:
        self.indices = indices
        super().__init__(message)


class Meter:
    """What an epoch has come to so far; exact, so that it can be put down and taken up again.

    Args:
        device: where the loss is.

    Attributes:
        loss_sum: of the images' losses; correct, seen: images; trace: the mean loss of every step; indices: places
        in the split of the last step's images.
    """

    def __init__(self, device: torch.device) -> None:
        self.loss_sum = torch.zeros((), dtype=torch.float64, device="cpu" if device.type == "mps" else device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.seen = 0
        self.trace: list[Tensor] = []
        self.indices = torch.zeros(0, dtype=torch.int64)

    def add(self, loss: Tensor, hits: Tensor, indices: Tensor) -> None:
        """Count a step's mean loss and hits."""
        self.loss_sum += loss.double().to(self.loss_sum.device) * len(indices)
        self.correct += hits
        self.seen += len(indices)
        self.trace.append(loss)
        self.indices = indices


def run_epoch(
    train_step: TrainStep,
    batches: Batches,
    epoch: int,
    *,
    on_step: Callable[[int, float], None],
    stop: Callable[[], bool],
    meter: Meter | None = None,
    start: int = 0,
    size: tuple[int, int] | None = None,
    pause: Callable[[int], None] = lambda done: None,
) -> EpochResult | None:
    """Train an epoch, or what is left of it. The network's mode is the caller's.

    Args:
        epoch: counted from 0; with the run's seed, it decides the order and the augmentation.
        on_step: called with the number of images and the mean loss so far.
        stop: asked after each step whether to leave.
        meter: what the epoch came to before batch `start`.
        start: the batch to go on with, from 0.
        size: (H, W) to train at, in place of the preprocessing's.
        pause: called after each step but the last, with the number of batches that are done: a place to write state.

    Returns:
        The epoch's figures, or `None` if `stop` said so before its end.

    Raises:
        NotFiniteError: the loss is NaN or infinite.
    """
    meter, world = meter or Meter(train_step.device), train_step.world
    # To read a number off an accelerator is to wait for it, and to ask other processes too: now and then is enough.
    look = 1 if train_step.device.type == "cpu" else SELDOM
    ask = look if world.size == 1 else SELDOM
    seen, pending, started = 0, 0, time.perf_counter()
    for number, (x, y, indices) in enumerate(batches.epoch(epoch, start=start, size=size), start=start + 1):
        first, last = batches.bounds[number - 1]
        own = world.takes(last - first)  # 0 where a small rest is shared by others
        loss, hits = train_step(x, y, own * world.size / (last - first))
        meter.add(loss, hits if own else hits * 0, indices[:own])
        seen, pending = seen + last - first, pending + last - first
        ends = number == len(batches)
        if (number % ask == 0 or ends) and world.any(not torch.isfinite(meter.loss_sum))[0]:
            losses = world.gather(float(loss))
            worst = next((value for value in losses if not isfinite(value)), losses[0])
            raise NotFiniteError(
                f"the loss must stay finite; got {worst} at epoch {epoch + 1}, step {number} of {len(batches)}, "
                f"learning rate {train_step.lr:.4g}; try a lower --lr, or --amp off",
                indices,
            )
        if number % look == 0 or ends:
            on_step(pending, float(meter.loss_sum) / max(meter.seen, 1))
            pending = 0
        if not ends:
            pause(number)
            if stop():
                return None
    world.sum(meter.loss_sum, meter.correct)
    total = batches.bounds[-1][1] - batches.bounds[0][0]
    seconds = max(time.perf_counter() - started, 1e-9)
    return EpochResult(float(meter.loss_sum) / total, int(meter.correct) / total, seen / seconds, train_step.lr)
