"""The proof that a run repeats itself: its last steps, made again from the state before them, to the last bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from resnets.errors import TrainingError
from resnets.runtime.console import counted
from resnets.train.loop.trainer import Trainer
from resnets.train.run_folder.checkpoint import Checkpoint, checkpoints, read_checkpoint

__all__ = ["Verdict", "check_replay", "last_two_checkpoints"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a replay came to.

    Args:
        same: whether everything that was compared was equal, bit for bit.
        steps: that were replayed.
        what: was compared, or where the first difference was; one line.
    """

    same: bool
    steps: int
    what: str


def last_two_checkpoints(folder: Path) -> tuple[Checkpoint, Checkpoint]:
    """The last two states of a run.

    Raises:
        TrainingError: there is only one.
    """
    found = checkpoints(folder)
    if len(found) < 2:
        raise TrainingError(
            f"a replay needs two states of a run; {folder} has {len(found)}; train on, or with --set keep=2"
        )
    return read_checkpoint(found[-2]), read_checkpoint(found[-1])


def check_replay(trainer: Trainer, last: Checkpoint, steps: int) -> Verdict:
    """Replay up to `steps` steps and compare every loss with the recorded one, and at the end the state.

    Args:
        trainer: at the state before `last`.
    """
    first = trainer.engine.train_step.step
    until = min(first + steps, last.progress.step)
    losses = torch.stack([loss.float().cpu() for loss in trainer.replay(until)])
    recorded = last.tensors["trace"][: len(losses)]
    steps = len(losses)
    different = torch.nonzero(losses.view(torch.int32) != recorded.view(torch.int32))
    if len(different):
        at = int(different[0])
        return Verdict(
            same=False,
            steps=steps,
            what=f"different: the loss of step {first + at + 1} is {losses[at]:.9g}, and was {recorded[at]:.9g}",
        )
    what = f"the same: {counted(steps, 'step')} from step {first + 1} on, every loss to the last bit"
    if until < last.progress.step:
        return Verdict(same=True, steps=steps, what=what)
    now = trainer.engine.tensors()
    wrong = [key for key, tensor in last.tensors.items() if key != "trace" and not _equal(tensor, now.get(key))]
    if wrong:
        return Verdict(
            same=False, steps=steps, what=f"different: {len(wrong)} of {len(now)} tensors, the first {wrong[0]}"
        )
    return Verdict(same=True, steps=steps, what=f"{what}, and all {len(now)} tensors of the state")


def _equal(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    """Bit for bit; a NaN is equal to itself."""
    if other is None or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one.contiguous().view(-1).view(torch.uint8), other.contiguous().view(-1).view(torch.uint8))
