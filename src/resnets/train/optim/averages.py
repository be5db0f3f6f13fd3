"""Averages of a network's tensors over training: exponential, or of the last epochs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from resnets.train.config.options import AverageConfig

__all__ = ["WeightAverage"]


class WeightAverage:
    """The mean of a network's tensors; batch-norm statistics are tensors like the others.

    Args:
        model: the network as it trains.
        config: which average.

    Attributes:
        tensors: the mean so far, by name, float32; empty before the first update.
        count: updates so far.
    """

    def __init__(self, model: nn.Module, config: AverageConfig) -> None:
        self._model, self._config = model, config
        self.tensors: dict[str, Tensor] = {}
        self.count = 0
        self._held: frozenset[str] = frozenset()
        self._moving: list[str] | None = None  # None: to be found out

    def skip_frozen(self, names: Iterable[str]) -> None:
        """From now on these tensors of the network do not move: where the mean is equal to them already, it stays."""
        self._held, self._moving = frozenset(names), None

    @property
    def frozen_is_current(self) -> bool:
        """Whether the mean of what does not move is known to be equal to it; true before the first update."""
        return not self.tensors or (self._moving is not None and self._held.isdisjoint(self._moving))

    def _live(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self._model.state_dict().items() if tensor.is_floating_point()}

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Follow the weights after optimiser step `step`, counted from 1, where an exponential average is kept."""
        if not self._config.ema or step % self._config.ema_every:
            return
        decay = self._config.ema
        if self._config.ema_warmup:
            decay = min(decay, (1 + self.count) / (10 + self.count))
        self._towards(1 - decay)

    @torch.no_grad()
    def after_epoch(self, left: int) -> bool:
        """Take the weights of an epoch into the mean, if it is one of the last; `left` epochs follow it."""
        if left >= self._config.swa_epochs:
            return False
        self._towards(1 / (self.count + 1))
        return True

    def _towards(self, share: float) -> None:
        live = self._live()
        if not self.tensors:
            self.tensors = {name: tensor.clone() for name, tensor in live.items()}
        if self._moving is None:
            self._moving = [
                name
                for name, mean in self.tensors.items()
                if name not in self._held or not torch.equal(mean, live[name])
            ]
        if self.count:
            torch._foreach_lerp_([self.tensors[name] for name in self._moving], [live[n] for n in self._moving], share)
        self.count += 1

    def restore(self, tensors: Mapping[str, Tensor], count: int) -> None:
        """Take over what `tensors` and `count` were."""
        self.tensors, self.count, self._moving = {}, count, None
        if count:
            self.tensors = {name: torch.empty_like(live).copy_(tensors[name]) for name, live in self._live().items()}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network with the mean in place of its own tensors, for the length of a `with`."""
        if not self.tensors:
            yield
            return
        every = self._model.state_dict()  # counts too: whoever measures statistics anew counts batches
        own = {name: tensor.clone() for name, tensor in every.items()}
        with torch.no_grad():
            try:
                for name, mean in self.tensors.items():
                    every[name].copy_(mean)
                yield
            finally:
                for name, tensor in own.items():
                    every[name].copy_(tensor)
