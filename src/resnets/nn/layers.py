"""Operations that torch does not have, or has under another rule.

Shape letters: N batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnets.arch.nodes import Padding

__all__ = ["Conv2dPadded", "DropPath", "FrozenBatchNorm2d", "MaxPool2dPadded", "PadChannels"]


def pad_by_rule(x: Tensor, padding: Padding, reach: int, stride: int, value: float = 0.0) -> Tensor:
    """Pad (N, C, H, W) for a window of `reach` cells, where torch's own symmetric padding does not serve."""
    height, width = x.shape[-2:]
    if padding == "same":  # TensorFlow: the total depends on the input's size, and the odd cell goes after
        totals = [max((-(-size // stride) - 1) * stride + reach - size, 0) for size in (width, height)]
        sides = [side for total in totals for side in (total // 2, total - total // 2)]
    else:
        before, after = padding if isinstance(padding, tuple) else (padding, padding)
        sides = [before, after, before, after]
    return F.pad(x, sides, value=value) if any(sides) else x


class Conv2dPadded(nn.Conv2d):
    """A convolution whose padding is one-sided or TensorFlow's SAME. (N, C, H, W) -> (N, C', H', W')."""

    def __init__(self, *args: int, rule: Padding, **options: int | bool) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.rule = rule

    def forward(self, input: Tensor) -> Tensor:
        reach = self.dilation[0] * (self.kernel_size[0] - 1) + 1
        return super().forward(pad_by_rule(input, self.rule, reach, self.stride[0]))


class MaxPool2dPadded(nn.Module):
    """A max pool whose padding is one-sided or TensorFlow's SAME. (N, C, H, W) -> (N, C, H', W')."""

    def __init__(self, kernel: int, stride: int, rule: Padding, ceil: bool) -> None:
        super().__init__()
        self.kernel, self.stride, self.rule, self.ceil = kernel, stride, rule, ceil

    def forward(self, x: Tensor) -> Tensor:
        x = pad_by_rule(x, self.rule, self.kernel, self.stride, value=float("-inf"))
        return F.max_pool2d(x, self.kernel, self.stride, ceil_mode=self.ceil)


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation whose statistics and affine terms are constants, in training too. Shape kept.

    Detection backbones use it, where batches are too small for statistics; names and sums are torchvision's.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.empty(num_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        nn.init.zeros_(self.running_mean)
        nn.init.ones_(self.running_var)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.to(x.dtype)[:, None, None] + shift.to(x.dtype)[:, None, None]

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}"


class PadChannels(nn.Module):
    """The option A shortcut of He et al. 2015: (N, C, H, W) -> (N, before + C + after, H/stride, W/stride)."""

    def __init__(self, stride: int, before: int, after: int) -> None:
        super().__init__()
        self.stride, self.before, self.after = stride, before, after

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, before={self.before}, after={self.after}"


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): training zeroes a sample's branch with probability `rate`. Shape kept."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        mask = torch.empty((x.shape[0], 1, 1, 1), dtype=x.dtype, device=x.device).bernoulli_(keep)
        return x * mask.div_(keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
