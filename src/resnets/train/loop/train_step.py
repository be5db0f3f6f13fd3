"""One step of training: forward, backward, update, whatever the device, the precision and the memory.

Legend: N batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from resnets.data.augment.config import MixConfig
from resnets.data.augment.mixup import mix, soft_targets
from resnets.errors import TrainingError
from resnets.nn.batch_norm import in_parts
from resnets.runtime.processes import World
from resnets.train.optim.averages import Average
from resnets.train.optim.losses import Loss
from resnets.train.optim.optimizers import set_lr

__all__ = ["TrainStep", "is_out_of_memory"]


class TrainStep:
    """Called with a batch, moves the weights once.

    Args:
        model: whose weights move: on its device, in the memory layout it is to have.
        optimizer: over its tensors.
        schedule: the learning rate of a step of the run, counted from 0.
        loss: of logits and labels.
        network: what is called in place of `model`: compiled, spread over processes, or only its last part.
        mixing: how batches are mixed; `None` for not at all.
        clip_grad: longest gradient over all tensors together.
        parts: pieces in which a batch runs through the network, one after the other; grows where memory is short.
        average: of the weights, which follows every step.
        amp: autocast to this type; `None` computes as the weights are.
        layout: of the images in memory; the weights' own.
        seed: with the step's number, of whatever is drawn for a batch: stochastic depth, dropout, mixing.
        world: the processes that make a step together.
        say: told what a person should know.

    Attributes:
        step: steps that are done; lr_scale: of every learning rate, lowered after a loss that was not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Callable[[int], float],
        loss: Loss,
        *,
        network: Callable[[Tensor], Tensor] | None = None,
        mixing: MixConfig | None = None,
        clip_grad: float | None = None,
        parts: int = 1,
        average: Average | None = None,
        amp: torch.dtype | None = None,
        layout: torch.memory_format = torch.channels_last,
        seed: int = 0,
        world: World | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.model, self.optimizer, self.schedule, self.loss = model, optimizer, schedule, loss
        self.network: Any = network or model
        self.mixing, self.clip_grad, self.parts, self.average = mixing, clip_grad, parts, average
        self.amp, self.layout, self.seed, self.say = amp, layout, seed, say
        self.world = world or World()
        self.device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp == torch.float16)
        self.step, self.lr_scale, self.lr = 0, 1.0, 0.0

    def __call__(self, x: Tensor, y: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """One update.

        Args:
            x: (N, C, H, W) images, or what a frozen part made of them; y: (N,) int64 labels.
            share: what the gradient of their mean loss is multiplied by. Processes average theirs, so it is the number
                of processes times the part of the batch that is here: 1 where parts are equal.

        Returns:
            The mean loss of these images, and how many the network got right (of a mixed one, its larger part).

        Raises:
            TrainingError: not even two images at a time fit into memory.
        """
        self.lr = self.schedule(self.step) * self.lr_scale
        set_lr(self.optimizer, self.lr)
        while True:
            # Mixing draws nothing from torch; what torch draws is the same however often a step is tried.
            torch.manual_seed(((self.seed << 31) + self.step) ^ (self.world.rank << 48))
            try:
                loss, hits = self._gradients(x, y, share)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error) or self.world.size > 1:
                    raise
                self._halve(len(y))
        if self.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            trained = [tensor for tensor in self.model.parameters() if tensor.grad is not None]
            nn.utils.clip_grad_norm_(trained, self.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        if self.average is not None:
            self.average.after_step(self.step)
        return loss, hits

    def _gradients(self, x: Tensor, y: Tensor, share: float | Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the batch's mean loss, times `share`, in the tensors' `grad`."""
        self.optimizer.zero_grad(set_to_none=True)
        labels = y
        if self.mixing is not None and x.ndim == 4:
            soft = soft_targets(y, self._classes())
            x, mixed = mix(x, soft, self.mixing, seed=self.seed, step=self.step)
            labels = y if mixed is soft else mixed
        if x.ndim == 4:
            x = x.contiguous(memory_format=self.layout)
        losses, hits = [], []
        pieces, whole = list(self._pieces(x, labels)), self.loss.mass(labels)
        if isinstance(whole, Tensor) and self.world.size > 1:  # as many images weigh more here than there
            here = whole * bool(share)
            everywhere = here.clone()
            self.world.sum(everywhere)
            share = here * self.world.size / everywhere
        for number, (inputs, targets) in enumerate(pieces, start=1):
            weight = self.loss.mass(targets) / whole
            with self.world.alone(self.network) if number < len(pieces) else nullcontext():
                with self._autocast():
                    logits = self.network(inputs)  # (N, K)
                loss = self.loss(logits, targets)
                self.scaler.scale(loss * (weight * share)).backward()
            losses.append(loss.detach() * weight)
            best = targets if targets.ndim == 1 else targets.argmax(1)
            hits.append((logits.detach().argmax(1) == best).sum())
        return (losses[0], hits[0]) if len(losses) == 1 else (torch.stack(losses).sum(), torch.stack(hits).sum())

    def _pieces(self, x: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(in_parts(x, self.parts), in_parts(labels, self.parts), strict=True)

    def _halve(self, count: int) -> None:
        if self.parts >= count // 2:
            raise TrainingError(
                f"a step needs memory for two images at least; out of memory on {self.device} with "
                f"{-(-count // self.parts)}; use smaller images, a smaller network or another device"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.parts *= 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.say(
            f"out of memory at step {self.step + 1}: batches of {count} now run in {self.parts} parts, their gradients "
            "summed; batch norms see the smaller parts"
        )

    def _classes(self) -> int:
        return int(self.model.num_classes)  # type: ignore[arg-type]

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, self.amp, enabled=self.amp is not None)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out: CUDA has a class for it; the CPU's allocator has words."""
    return isinstance(error, torch.OutOfMemoryError) or (
        "DefaultCPUAllocator" in str(error) and "you tried to allocate" in str(error)
    )
