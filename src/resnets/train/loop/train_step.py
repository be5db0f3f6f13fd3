"""One training step: forward, backward and optimizer update, with mixed precision and micro-batches.

Legend: N batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from resnets.data.augment.config import MixConfig
from resnets.data.augment.mixup import mix, soft_targets
from resnets.errors import TrainingError
from resnets.nn.batch_norm import split_batch
from resnets.runtime.failures import is_out_of_memory
from resnets.runtime.processes import Processes
from resnets.train.optim.averages import WeightAverage
from resnets.train.optim.losses import ClassificationLoss
from resnets.train.optim.optimizers import set_lr
from resnets.train.optim.reid_loss import ReidLoss

__all__ = ["TrainStep"]

DIVERGED = 2.0  # times the loss of uniform predictions


class TrainStep:
    """Updates the weights of a network once per call.

    Args:
        model: the network to train, on its device and in its final memory layout.
        optimizer: over the parameters of `model`.
        schedule: learning rate by step of the run, counted from 0.
        loss: of the outputs of `network` and labels.
        network: called in place of `model`, such as its compiled or DistributedDataParallel form, or its last part.
        mixing: mixup and CutMix; `None` for neither.
        clip_grad: largest norm of the gradient over all parameters.
        micro_batches: number of micro-batches that a batch is split into, whose gradients are accumulated. Doubled
            whenever the device is out of memory.
        average: of the weights, updated after every step.
        amp: autocast dtype; `None` for no mixed precision.
        layout: memory format of the images, which is that of the weights.
        seed: with the step number, seeds stochastic depth, dropout and mixing.
        processes: that train together.
        on_message: called with messages for the user.

    Attributes:
        step: number of steps done.
        lr: learning rate of the last step.
        lr_scale: factor on every learning rate, lowered by a rollback.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Callable[[int], float],
        loss: ClassificationLoss | ReidLoss,
        *,
        network: Callable[[Tensor], Any] | None = None,
        mixing: MixConfig | None = None,
        clip_grad: float | None = None,
        micro_batches: int = 1,
        average: WeightAverage | None = None,
        amp: torch.dtype | None = None,
        layout: torch.memory_format = torch.channels_last,
        seed: int = 0,
        processes: Processes | None = None,
        on_message: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.model, self.optimizer, self.schedule, self.loss = model, optimizer, schedule, loss
        self.network: Any = network or model
        self.mixing, self.clip_grad, self.micro_batches, self.average = mixing, clip_grad, micro_batches, average
        self.amp, self.layout, self.seed, self.on_message = amp, layout, seed, on_message
        self.processes = processes or Processes()
        self.device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp == torch.float16)
        self.step, self.lr_scale, self.lr = 0, 1.0, 0.0
        self._classes, self._diverged = 0, False

    def __call__(self, x: Tensor, y: Tensor, grad_scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """Run one step.

        Args:
            x: (N, C, H, W) images, or the features that a frozen part computed from them.
            y: (N,) int64 labels.
            grad_scale: factor on the gradient of the mean loss. Processes average their gradients, so it is the number
                of processes times the share of the batch in this process: 1 if the shares are equal.

        Returns:
            The mean loss, and the number of correct predictions (for a mixed image, of its larger part).

        Raises:
            TrainingError: out of memory with micro-batches of two images.
        """
        self.lr = self.schedule(self.step) * self.lr_scale
        set_lr(self.optimizer, self.lr)
        while True:
            # Seeded anew for each attempt, so that a step draws the same numbers however often it runs out of memory.
            torch.manual_seed(((self.seed << 31) + self.step) ^ (self.processes.rank << 48))
            try:
                loss, correct = self._backward(x, y, grad_scale)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self.processes.world_size > 1:
                    raise
                self._double_micro_batches(len(y))
        if self.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            trained = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
            nn.utils.clip_grad_norm_(trained, self.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.loss.end_step(self.processes.all_reduce_sum)
        self.step += 1
        if self.average is not None:
            self.average.after_step(self.step)
        return loss, correct

    def _backward(self, x: Tensor, y: Tensor, grad_scale: float | Tensor) -> tuple[Tensor, Tensor]:
        """Set the gradients to those of the batch's mean loss, times `grad_scale`."""
        self.loss.begin_step()
        self.optimizer.zero_grad(set_to_none=True)
        labels = y
        if self.mixing is not None and x.ndim == 4:
            soft = soft_targets(y, int(self.model.num_classes))  # type: ignore[arg-type]
            x, mixed = mix(x, soft, self.mixing, seed=self.seed, step=self.step)
            labels = y if mixed is soft else mixed
        if x.ndim == 4:
            x = x.contiguous(memory_format=self.layout)
        count = self.micro_batches
        micro_batches = list(zip(split_batch(x, count), split_batch(labels, count), strict=True))
        total_weight = self.loss.normalizer(labels)
        if isinstance(total_weight, Tensor) and self.processes.world_size > 1:  # class weights differ between processes
            local = total_weight * bool(grad_scale)
            total = local.clone()
            self.processes.all_reduce_sum(total)
            grad_scale = local * self.processes.world_size / total
        losses, correct = [], []
        for number, (inputs, targets) in enumerate(micro_batches, start=1):
            weight = self.loss.normalizer(targets) / total_weight
            last = number == len(micro_batches)
            with nullcontext() if last else self.processes.no_sync(self.network):
                with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
                    outputs = self.network(inputs)
                loss, logits = self.loss(outputs, targets), self.loss.logits(outputs)  # (N, K)
                self.scaler.scale(loss * (weight * grad_scale)).backward()
            losses.append(loss.detach() * weight)
            self._classes = logits.shape[1]
            classes = targets if targets.ndim == 1 else targets.argmax(1)
            correct.append((logits.detach().argmax(1) == classes).sum())
        if len(losses) == 1:
            return losses[0], correct[0]
        return torch.stack(losses).sum(), torch.stack(correct).sum()

    def warn_after_epoch(self, loss: float, epoch: int) -> None:
        """Send a message if the mean `loss` of an epoch, counted from 0, shows that the network does not learn.

        That it is far above that of uniform predictions is sent once until it is lower again: such a run goes on, since
        the loss may still fall.
        """
        uniform = self.loss.of_uniform_predictions(self._classes) if self._classes else 0.0
        diverged = loss > DIVERGED * uniform > 0
        if diverged and not self._diverged:
            self.on_message(
                f"warning: training diverges; the loss of epoch {epoch + 1} is {loss:.4g}, that of uniform predictions"
                f" {uniform:.4g}; if it stays so, try a lower --lr"
            )
        self._diverged = diverged
        if (warning := self.loss.end_epoch(self.processes.all_reduce_sum)) is not None and not diverged:
            self.on_message(warning)

    def _double_micro_batches(self, batch_size: int) -> None:
        fewest = self.loss.fewest_images
        if self.micro_batches >= batch_size // fewest:
            raise TrainingError(
                f"a step needs memory for at least {fewest} images; out of memory on {self.device} with "
                f"{-(-batch_size // self.micro_batches)}; use smaller images, a smaller network or another device"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.micro_batches = min(2 * self.micro_batches, batch_size // fewest)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.on_message(
            f"out of memory at step {self.step + 1}: batches of {batch_size} are now split into {self.micro_batches} "
            "micro-batches with accumulated gradients; batch-norm statistics are those of the micro-batches"
        )
