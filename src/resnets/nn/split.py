"""A network cut in two: the frozen part, whose answers can be kept, and the part that trains on them.

Both run the network's own modules, in its own order; nothing is copied.

Legend: N batch, C channels, H height, W width, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnets.arch.config import ResNetConfig
from resnets.arch.nodes import Chain, Flatten, Node, children, join
from resnets.arch.parts import CLASSIFIER, forward_steps, group_of, parts
from resnets.errors import UnknownNameError
from resnets.nn.layers import Pool2dPadded
from resnets.nn.model import Network, check_input, check_windows
from resnets.nn.modes import evaluation_mode

__all__ = ["Prefix", "Suffix", "Tail", "split_at"]


@dataclass(frozen=True)
class _Step:
    """One operation of `forward`: a module under its path, or a function of no module."""

    path: str
    run: Callable[[Tensor], Tensor]


class Prefix:
    """The network up to a place. (N, C, H, W) -> what the rest reads, a map or the embedding (N, D).

    Attributes:
        model: the whole network.
        modules: those that run, in order.
    """

    def __init__(self, model: Network, run: list[_Step]) -> None:
        self.model, self._run = model, run
        self.modules = [step.run for step in run if isinstance(step.run, nn.Module)]

    def __call__(self, x: Tensor) -> Tensor:
        check_input(x, self.model.config.in_chans)
        for step in self._run:
            x = step.run(x)
        return x

    @contextmanager
    def computing(self, amp: torch.dtype | None = None, device: str = "cpu") -> Iterator[None]:
        """Within it, the prefix answers as in evaluation, without gradients; modes are put back at the end.

        Args:
            amp: autocast to this type; `None` computes as the weights are.
            device: type of the device that computes.
        """
        with ExitStack() as modes:
            for module in self.modules:
                modes.enter_context(evaluation_mode(module))
            with torch.inference_mode(), torch.autocast(device, amp, enabled=amp is not None):
                yield

    def shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """What it answers for one image of (H, W) pixels: (C, H', W') or (D,). Computes a black image."""
        like = next(self.model.parameters())
        image = torch.zeros(1, self.model.config.in_chans, *size, dtype=like.dtype, device=like.device)
        with self.computing(device=like.device.type):
            return tuple(self(image).shape[1:])


class Suffix:
    """The rest of the network. What a `Prefix` answers -> logits (N, num_classes).

    Attributes:
        model: the whole network; its mode decides on dropout before the classifier, as in `forward`.
    """

    def __init__(self, model: Network, run: list[_Step]) -> None:
        self.model, self._run = model, run

    def __call__(self, x: Tensor) -> Tensor:
        for step in self._run:
            x = step.run(x)
        return x

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those of its modules, frozen or not."""
        for step in self._run:
            if isinstance(step.run, nn.Module):
                yield from step.run.parameters()


class Tail(nn.Module):
    """A `Suffix` as a module, for whoever sets modes: they are the whole network's."""

    def __init__(self, suffix: Suffix) -> None:
        super().__init__()
        self.model, self._suffix = suffix.model, suffix

    def forward(self, x: Tensor) -> Tensor:
        return self._suffix(x)


def split_at(model: Network, place: str) -> tuple[Prefix, Suffix]:
    """The network as two functions: `suffix(prefix(x))` is `model(x)`.

    Pools, activations and flattening behind `place` go to the prefix: they have no weights and make its answer
    smaller. So a network frozen up to its last stage, or to the backbone, has the embedding (N, D) cached.

    Args:
        place: as in `Phase.freeze`, not `none`.

    Raises:
        UnknownNameError: the network has no such place.
    """
    names = parts(model.plan)
    known = tuple(name for name in names if name != CLASSIFIER)
    if place not in known:
        raise UnknownNameError("place to freeze up to", place, known)
    frozen = known[: known.index(place) + 1]
    run = list(_steps(model))
    cut = 0
    for number, step in enumerate(run, start=1):
        if step.path and group_of(step.path, names) in frozen:
            cut = number
    while cut < len(run) and _is_free(run[cut].run):
        cut += 1
    return Prefix(model, run[:cut]), Suffix(model, run[cut:])


def _steps(model: Network) -> Iterator[_Step]:
    """Everything that `forward` does, one after the other."""
    for path in forward_steps(model.plan):
        yield _Step(path, model.get_submodule(path))
    config = model.config
    if config.global_pool == "none":
        return
    for path, node in _head(model.plan.nodes[-1], model.plan.nodes[-1].name):
        if isinstance(node, Flatten):
            yield _Step("", _flatten)
            if isinstance(config, ResNetConfig) and config.global_pool == "window":
                yield _Step("", _WindowCheck(model.num_features, config.img_size))
            if isinstance(config, ResNetConfig) and config.drop_rate:
                yield _Step("", _HeadDropout(model, config.drop_rate))
        else:
            yield _Step(path, model.get_submodule(path))


def _head(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    if isinstance(node, Chain):
        for name, child in children(node):
            yield from _head(child, join(path, name))
    else:
        yield path, node


def _is_free(run: Callable[[Tensor], Tensor]) -> bool:
    """Whether an operation may move into the prefix: no weights, nothing random, and nothing made larger."""
    if isinstance(run, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
        return run.output_size == 1
    kinds = (nn.Identity, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, Pool2dPadded, _WindowCheck)
    return run is _flatten or isinstance(run, kinds)


def _flatten(x: Tensor) -> Tensor:
    return x.flatten(1)


@dataclass(frozen=True)
class _WindowCheck:
    features: int
    size: int

    def __call__(self, x: Tensor) -> Tensor:
        check_windows(x, self.features, self.size)
        return x


@dataclass(frozen=True)
class _HeadDropout:
    """The dropout before a residual network's classifier, which is a function and no module there."""

    model: Network
    rate: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.rate, self.model.training)
