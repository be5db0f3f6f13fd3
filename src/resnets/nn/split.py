"""Split a network into a frozen prefix, whose features can be cached, and the suffix that trains on them.

Both call the network's own modules in the order of its `forward`; nothing is copied.

Legend: N batch, C channels, H height, W width, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnets.arch.config import ResNetConfig
from resnets.arch.nodes import Chain, Flatten, Node, children, join
from resnets.arch.parts import CLASSIFIER, forward_steps, group_of, parts
from resnets.errors import UnknownNameError
from resnets.nn.checks import check_input, check_windows
from resnets.nn.layers import Pool2dPadded
from resnets.nn.model import Network
from resnets.nn.modes import evaluation_mode

__all__ = ["Prefix", "Suffix", "split_at"]


@dataclass(frozen=True)
class _Step:
    """One operation of `forward`: a module and its path, or a function, whose path is empty."""

    path: str
    run: Callable[[Tensor], Tensor]


class Prefix:
    """The network up to a freeze point. (N, C, H, W) images -> features: a map (N, C', H', W') or embeddings (N, D).

    Attributes:
        model: the whole network.
        modules: the modules that run, in order.
    """

    def __init__(self, model: Network, steps: list[_Step]) -> None:
        self.model, self._steps = model, steps
        self.modules = [step.run for step in steps if isinstance(step.run, nn.Module)]

    def __call__(self, x: Tensor) -> Tensor:
        check_input(x, self.model.config.in_chans)
        for step in self._steps:
            x = step.run(x)
        return x

    @contextmanager
    def inference(self, amp: torch.dtype | None = None, device: str = "cpu") -> Iterator[None]:
        """Evaluation mode and `torch.inference_mode` within a `with`; modes are restored after it.

        Args:
            amp: autocast dtype; `None` disables autocast.
            device: device type, for autocast.
        """
        with (
            evaluation_mode(*self.modules),
            torch.inference_mode(),
            torch.autocast(device, amp, enabled=amp is not None),
        ):
            yield

    def output_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Shape of the features of one image of (H, W) pixels: (C, H', W') or (D,). Runs a black image."""
        like = next(self.model.parameters())
        image = torch.zeros(1, self.model.config.in_chans, *size, dtype=like.dtype, device=like.device)
        with self.inference(device=like.device.type):
            return tuple(self(image).shape[1:])


class Suffix(nn.Module):
    """The rest of the network, with the modes of the whole. Features of a `Prefix` -> logits (N, num_classes).

    Attributes:
        model: the whole network.
    """

    def __init__(self, model: Network, steps: list[_Step]) -> None:
        super().__init__()
        self.model, self._steps = model, steps

    def forward(self, x: Tensor) -> Tensor:
        for step in self._steps:
            x = step.run(x)
        return x


def split_at(model: Network, freeze_point: str) -> tuple[Prefix, Suffix]:
    """Split a network into two functions such that `suffix(prefix(x))` is `model(x)`.

    Pools, activations and flattening after it go to the prefix, too: they have no weights and make its features
    smaller. A network frozen up to its last stage, or to the backbone, thus caches embeddings (N, D).

    Args:
        freeze_point: a value of `Phase.freeze` other than `none`.

    Raises:
        UnknownNameError: the network has no such freeze point.
    """
    names = parts(model.plan)
    known = tuple(name for name in names if name != CLASSIFIER)
    if freeze_point not in known:
        raise UnknownNameError("freeze point", freeze_point, known)
    frozen = known[: known.index(freeze_point) + 1]
    forward = list(_forward_steps(model))
    cut = 0
    for number, step in enumerate(forward, start=1):
        if step.path and group_of(step.path, names) in frozen:
            cut = number
    while cut < len(forward) and _can_precede_cut(forward[cut].run):
        cut += 1
    return Prefix(model, forward[:cut]), Suffix(model, forward[cut:])


def _forward_steps(model: Network) -> Iterator[_Step]:
    """The operations of `forward` in order."""
    for path in forward_steps(model.plan):
        yield _Step(path, model.get_submodule(path))
    config = model.config
    if config.global_pool == "none":
        return
    for path, node in _head_nodes(model.plan.nodes[-1], model.plan.nodes[-1].name):
        if isinstance(node, Flatten):
            yield _Step("", _flatten)
            if isinstance(config, ResNetConfig) and config.global_pool == "window":
                yield _Step("", _WindowCheck(model.num_features, config.img_size))
            if isinstance(config, ResNetConfig) and config.drop_rate:
                yield _Step("", lambda x: F.dropout(x, config.drop_rate, model.training))
        else:
            yield _Step(path, model.get_submodule(path))


def _head_nodes(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    if isinstance(node, Chain):
        for name, child in children(node):
            yield from _head_nodes(child, join(path, name))
    else:
        yield path, node


def _can_precede_cut(run: Callable[[Tensor], Tensor]) -> bool:
    """Whether an operation may move into the prefix: no weights, not random, and its output is no larger."""
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
