"""Residual blocks. All share one forward; what a class adds is a name and its list of operations."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from resnets.nn.layers import DropPath

__all__ = ["BLOCKS", "BasicBlock", "Bottleneck", "PreActBasicBlock", "PreActBottleneck", "ResidualBlock"]


class ResidualBlock(nn.Module):
    """`post(body(p) + downsample(p))` with `p = pre(x)`. (N, C, H, W) -> (N, C', H/s, W/s).

    The operations are attributes of the block itself, named as torchvision names them, in the order they run;
    `downsample` is `None` where the shortcut is the identity.
    """

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
            x = self._modules[name](x)  # type: ignore[misc]  # never None: set in __init__
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self._run(self._pre, x)
        shortcut = x if self.downsample is None else self.downsample(x)
        return self._run(self._post, self.drop_path(self._run(self._body, x)) + shortcut)


class BasicBlock(ResidualBlock):
    """3x3, norm, act, 3x3, norm, plus the shortcut, act."""


class Bottleneck(ResidualBlock):
    """1x1, norm, act, 3x3, norm, act, 1x1, norm, plus the shortcut, act."""


class PreActBasicBlock(ResidualBlock):
    """norm, act, 3x3, norm, act, 3x3, plus the shortcut."""


class PreActBottleneck(ResidualBlock):
    """norm, act, 1x1, norm, act, 3x3, norm, act, 1x1, plus the shortcut."""


BLOCKS: dict[str, type[ResidualBlock]] = {
    block.__name__: block for block in (BasicBlock, Bottleneck, PreActBasicBlock, PreActBottleneck)
}
