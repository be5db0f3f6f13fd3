"""Residual blocks. They share one `forward`; each class states its list of operations."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from resnets.nn.checkpointing import checkpointed
from resnets.nn.layers import DropPath

__all__ = ["BLOCKS", "BasicBlock", "Bottleneck", "PreActBasicBlock", "PreActBottleneck", "ResidualBlock"]


class ResidualBlock(nn.Module):
    """Operations before the fork, branch plus shortcut, operations after the sum. (N, C, H, W) -> (N, C', H/s, W/s).

    The operations are attributes of the block, named as in torchvision (`conv1`, `bn1`, ...), in the order they run.

    Args:
        pre: operations before the shortcut branches off, by name.
        body: operations of the residual branch, by name.
        downsample: projection of the shortcut; `None` for the identity.
        post: operations after the sum, by name.
        drop_path: probability of stochastic depth, in [0, 1).

    Attributes:
        grad_checkpointing: whether its activations are computed again in the backward pass.
    """

    grad_checkpointing = False

    def __init__(
        self,
        pre: Mapping[str, nn.Module],
        body: Mapping[str, nn.Module],
        downsample: nn.Sequential | None,
        post: Mapping[str, nn.Module],
        drop_path: float,
    ) -> None:
        super().__init__()
        self._pre, self._body, self._post = tuple(pre), tuple(body), tuple(post)
        for name, module in (*pre.items(), *body.items()):
            self.add_module(name, module)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.downsample = downsample
        for name, module in post.items():
            self.add_module(name, module)

    def _run(self, names: tuple[str, ...], x: Tensor) -> Tensor:
        for name in names:
            x = self._modules[name](x)  # type: ignore[misc]  # set in __init__
        return x

    def forward(self, x: Tensor) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpointed(self, self._forward, x)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        x = self._run(self._pre, x)
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.drop_path(self._run(self._body, x)) + shortcut  # (N, C', H/s, W/s)
        return self._run(self._post, x)


class BasicBlock(ResidualBlock):
    """3x3, norm, act, 3x3, norm, + shortcut, act (He et al. 2015)."""


class Bottleneck(ResidualBlock):
    """1x1, norm, act, 3x3, norm, act, 1x1, norm, + shortcut, act (He et al. 2015)."""


class PreActBasicBlock(ResidualBlock):
    """norm, act, 3x3, norm, act, 3x3, + shortcut (He et al. 2016)."""


class PreActBottleneck(ResidualBlock):
    """norm, act, 1x1, norm, act, 3x3, norm, act, 1x1, + shortcut (He et al. 2016)."""


BLOCKS: dict[str, type[ResidualBlock]] = {
    block.__name__: block for block in (BasicBlock, Bottleneck, PreActBasicBlock, PreActBottleneck)
}
