"""The training loop: epochs of steps, a validation after each, one code path for every device and precision.

Legend: N batch, C channels, H height, W width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnets.data.batches import Batches
from resnets.errors import TrainingError
from resnets.train.optim import Schedule

__all__ = ["EpochResult", "Stepper", "pick_amp", "pick_device", "run_epoch"]


@dataclass(frozen=True)
class EpochResult:
    """An epoch of training: mean loss and share of correct pictures (as the weights moved), and the rate."""

    loss: float
    top1: float
    images_per_second: float
    lr: float


class Stepper:
    """Forward, backward, update: one call a batch.

    Args:
        model: on its device, in the memory layout it is to have.
        optimizer: over its parameters.
        schedule: the learning rate of each step.
        smoothing: label smoothing.
        amp: autocast to this type; `None` computes as the weights are.
        layout: of the pictures in memory; the weights' own.
        seed: with the step's number, of whatever torch draws inside the network (stochastic depth, dropout).
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        *,
        smoothing: float = 0.0,
        amp: torch.dtype | None = None,
        layout: torch.memory_format = torch.channels_last,
        seed: int = 0,
    ) -> None:
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        self.smoothing, self.amp, self.layout, self.seed = smoothing, amp, layout, seed
        self.device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp == torch.float16)
        self.step = 0
        self.lr = 0.0

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """One update from pictures (N, C, H, W) and labels (N,); answers mean loss and number correct."""
        torch.manual_seed((self.seed << 31) + self.step)
        self.lr = self.schedule(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        with self._autocast():
            logits = self.model(x.contiguous(memory_format=self.layout))  # (N, classes)
        loss = F.cross_entropy(logits.float(), y, label_smoothing=self.smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        return loss.detach(), (logits.detach().argmax(1) == y).sum()

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, self.amp, enabled=self.amp is not None)


def run_epoch(
    stepper: Stepper,
    batches: Batches,
    epoch: int,
    *,
    on_step: Callable[[int, float], None],
    stop: Callable[[], bool],
) -> EpochResult | None:
    """Train one epoch.

    Args:
        epoch: counted from 0; with the run's seed, it decides the order and the augmentation.
        on_step: called with the number of pictures and the mean loss so far.
        stop: asked before each step whether to leave.

    Returns:
        The epoch's figures, or `None` if `stop` said so before its end.

    Raises:
        TrainingError: the loss is NaN or infinite.
    """
    stepper.model.train()
    # Reading a number off an accelerator waits for it: there, look at the loss only now and then.
    every = 1 if stepper.device.type == "cpu" else 16
    loss_sum = torch.zeros((), dtype=torch.float64, device="cpu" if stepper.device.type == "mps" else stepper.device)
    correct = torch.zeros((), dtype=torch.int64, device=stepper.device)
    seen, pending, started = 0, 0, time.perf_counter()
    for number, (x, y, _) in enumerate(_until(batches.epoch(epoch), stop), start=1):
        loss, hits = stepper(x, y)
        loss_sum += loss.double().to(loss_sum.device) * len(y)
        correct += hits
        seen, pending = seen + len(y), pending + len(y)
        if number % every == 0 or number == len(batches):
            mean = float(loss_sum) / seen
            if not torch.isfinite(loss_sum):
                raise TrainingError(
                    f"the loss must stay finite; got {float(loss)} at epoch {epoch + 1}, step {number} of "
                    f"{len(batches)}, learning rate {stepper.lr:.4g}; try a lower --lr, or --amp off"
                )
            on_step(pending, mean)
            pending = 0
    if stop():
        return None
    seconds = time.perf_counter() - started
    return EpochResult(float(loss_sum) / seen, int(correct) / seen, seen / seconds, stepper.lr)


def _until(items: Iterable[Any], stop: Callable[[], bool]) -> Iterator[Any]:
    for item in items:
        if stop():
            return
        yield item


def pick_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda`, `cuda:1` or `mps` means here.

    Raises:
        TrainingError: no such device on this machine.
    """
    here: Sequence[str] = ["cpu"]
    if torch.cuda.is_available():
        here = ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count())), *here]
    elif torch.backends.mps.is_available():
        here = ["mps", *here]
    if name == "auto":
        return torch.device(here[0])
    if name not in here:
        raise TrainingError(f"device must be one that is here; got {name!r}; here are {', '.join(['auto', *here])}")
    return torch.device(name)


def pick_amp(name: str, device: torch.device) -> torch.dtype | None:
    """The type that mixed precision computes in, `None` for none. `auto` takes bfloat16 where the device has it."""
    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
        return torch.bfloat16 if fast else None
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "off": None}[name]
