"""Averaged weights: exponential moving average (EMA) and stochastic weight averaging (SWA)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from resnets.train.config.options import AverageConfig

__all__ = ["WeightAverage"]


class WeightAverage:
    """EMA or SWA of a network's floating-point tensors, batch-norm statistics included.

    Attributes:
        tensors: averages by name, float32; empty before the first update.
        count: number of updates.
    """

    def __init__(self, model: nn.Module, config: AverageConfig) -> None:
        self._model, self._config = model, config
        self.tensors: dict[str, Tensor] = {}
        self.count = 0
        self._frozen: frozenset[str] = frozenset()
        self._updated: list[str] | None = None  # names that an update changes; None: to be determined

    def skip_frozen(self, names: Iterable[str]) -> None:
        """From now on, skip the tensors of these names, which are frozen, once their averages equal them."""
        self._frozen, self._updated = frozenset(names), None

    @property
    def frozen_is_current(self) -> bool:
        """Whether the averages of frozen tensors are known to equal them; true before the first update."""
        return not self.tensors or (self._updated is not None and self._frozen.isdisjoint(self._updated))

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Update the EMA, if enabled, after optimizer step `step`, counted from 1."""
        if not self._config.ema or step % self._config.ema_every:
            return
        decay = self._config.ema
        if self._config.ema_warmup:
            decay = min(decay, (1 + self.count) / (10 + self.count))
        self._update(1 - decay)

    @torch.no_grad()
    def after_epoch(self, epochs_left: int) -> bool:
        """Update the SWA after an epoch, if it is among the last `swa_epochs`; returns whether it is."""
        if epochs_left >= self._config.swa_epochs:
            return False
        self._update(1 / (self.count + 1))
        return True

    def restore(self, tensors: Mapping[str, Tensor], count: int) -> None:
        """Restore `tensors` and `count`, as from a checkpoint."""
        self.tensors, self.count, self._updated = {}, count, None
        if count:
            self.tensors = {
                name: torch.empty_like(tensor).copy_(tensors[name]) for name, tensor in self._model_tensors().items()
            }

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Load the averaged weights into the network for the length of a `with`."""
        if not self.tensors:
            yield
            return
        state = self._model.state_dict()  # with counts of batches, which recomputing statistics changes
        own = {name: tensor.clone() for name, tensor in state.items()}
        with torch.no_grad():
            try:
                for name, average in self.tensors.items():
                    state[name].copy_(average)
                yield
            finally:
                for name, tensor in own.items():
                    state[name].copy_(tensor)

    def _update(self, weight: float) -> None:
        """Move the averages by `weight` towards the network's tensors."""
        current = self._model_tensors()
        if not self.tensors:
            self.tensors = {name: tensor.clone() for name, tensor in current.items()}
        if self._updated is None:
            self._updated = [
                name
                for name, average in self.tensors.items()
                if name not in self._frozen or not torch.equal(average, current[name])
            ]
        if self.count:
            averages = [self.tensors[name] for name in self._updated]
            torch._foreach_lerp_(averages, [current[name] for name in self._updated], weight)
        self.count += 1

    def _model_tensors(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self._model.state_dict().items() if tensor.is_floating_point()}
