"""Proof that a run is reproducible: its last steps, replayed from a checkpoint, are the same to the bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from resnets.errors import TrainingError
from resnets.runtime.device import why_inexact
from resnets.runtime.formatting import plural
from resnets.train.loop.trainer import Trainer
from resnets.train.run_folder.checkpoint import Checkpoint, checkpoint_tensors, checkpoints, read_checkpoint

__all__ = ["ReplayResult", "replay_and_compare", "last_two_checkpoints"]


@dataclass(frozen=True, kw_only=True)
class ReplayResult:
    """Result of a replay.

    Args:
        identical: whether everything that was compared is equal, bit for bit.
        steps: number of steps replayed.
        message: what was compared, or the first difference; one line.
    """

    identical: bool
    steps: int
    message: str


def last_two_checkpoints(folder: Path) -> tuple[Checkpoint, Checkpoint]:
    """The last two checkpoints of a run; raises TrainingError if it has fewer."""
    found = checkpoints(folder)
    if len(found) < 2:
        raise TrainingError(
            f"a replay needs two checkpoints; {folder} has {len(found)}; train longer, or with --set keep=2"
        )
    return read_checkpoint(found[-2]), read_checkpoint(found[-1])


def replay_and_compare(trainer: Trainer, last: Checkpoint, steps: int) -> ReplayResult:
    """Replay up to `steps` steps and compare each loss with the recorded one, and at the end all tensors.

    Args:
        trainer: at the checkpoint before `last`.
    """
    first = trainer.train_step.step
    until = min(first + steps, last.progress.step)
    losses = torch.stack([loss.float().cpu() for loss in trainer.replay(until)])
    recorded = last.tensors["trace"][: len(losses)]
    different = torch.nonzero(losses.view(torch.int32) != recorded.view(torch.int32))
    identical = not len(different)
    message = f"identical: {plural(len(losses), 'step')} from step {first + 1} on, every loss to the last bit"
    if not identical:
        at = int(different[0])
        message = f"different: the loss of step {first + at + 1} is {losses[at]:.9g}, and was {recorded[at]:.9g}"
    elif until == last.progress.step:
        now = checkpoint_tensors(trainer.model, trainer.train_step.optimizer, trainer.average)
        wrong = [key for key, one in last.tensors.items() if key != "trace" and not _equal_bits(one, now.get(key))]
        identical, message = not wrong, f"{message}, and all {len(now)} tensors"
        if wrong:
            message = f"different: {len(wrong)} of {len(now)} tensors, the first {wrong[0]}"
    reason = why_inexact(trainer.device, deterministic=trainer.config.deterministic)
    if not identical and reason:
        message = f"{message}; {reason}"
    return ReplayResult(identical=identical, steps=len(losses), message=message)


def _equal_bits(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    """Whether tensors are equal bit for bit; a NaN equals itself."""
    if other is None or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one.contiguous().view(-1).view(torch.uint8), other.contiguous().view(-1).view(torch.uint8))
