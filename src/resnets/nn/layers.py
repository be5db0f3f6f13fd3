"""Operations that torch lacks, or pads or normalises by another rule.

Shape letters: N batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnets.arch.nodes import Padding

__all__ = [
    "AvgMaxPool2d",
    "ClipAvgPool2d",
    "CosineLinear",
    "BlurPool2d",
    "Conv2dPadded",
    "DropPath",
    "FrozenBatchNorm2d",
    "GeM",
    "IBN",
    "PadChannels",
    "Pool2dPadded",
    "StdConv2d",
]


@torch.fx.wrap  # padding depends on the input's size; a tracer treats it as one operation
def pad_by_rule(x: Tensor, padding: Padding, reach: int, stride: int, value: float = 0.0) -> Tensor:
    """Pad (N, C, H, W) for a window of `reach` cells by a rule that torch's convolutions and pools lack."""
    height, width = x.shape[-2:]
    if padding == "same":  # TensorFlow: the total depends on the input's size; the odd cell is padded after
        totals = [max((-(-size // stride) - 1) * stride + reach - size, 0) for size in (width, height)]
        sides = [side for total in totals for side in (total // 2, total - total // 2)]
    else:
        before, after = padding if isinstance(padding, tuple) else (padding, padding)
        sides = [before, after, before, after]
    return F.pad(x, sides, value=value) if any(sides) else x


class Conv2dPadded(nn.Conv2d):
    """Convolution with one-sided padding or TensorFlow's SAME. (N, C, H, W) -> (N, C', H', W')."""

    def __init__(self, *args: int, rule: Padding, **options: int | bool) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.rule = rule

    def forward(self, input: Tensor) -> Tensor:
        reach = self.dilation[0] * (self.kernel_size[0] - 1) + 1
        return super().forward(pad_by_rule(input, self.rule, reach, self.stride[0]))


class StdConv2d(Conv2dPadded):
    """Convolution with filters standardised to mean 0 and variance 1 (Qiao et al. 2019)."""

    def __init__(self, *args: int, rule: Padding, eps: float, **options: int | bool) -> None:
        super().__init__(*args, rule=rule, **options)
        self.eps = eps

    def forward(self, input: Tensor) -> Tensor:
        reach = self.dilation[0] * (self.kernel_size[0] - 1) + 1
        # As a batch norm over filters, which is timm's arithmetic to the last bits.
        filters = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(filters, None, None, training=True, momentum=0.0, eps=self.eps).reshape_as(self.weight)
        padded = pad_by_rule(input, self.rule, reach, self.stride[0])
        return self._conv_forward(padded, weight, self.bias)  # type: ignore[no-any-return]


class Pool2dPadded(nn.Module):
    """Pool with one-sided padding, TensorFlow's SAME, or zeros. (N, C, H, W) -> (N, C, H', W').

    Maximum pools pad with minus infinity unless `zeros`; average pools with zeros that are counted, as timm's.
    """

    def __init__(self, kind: str, kernel: int, stride: int, rule: Padding, ceil: bool, zeros: bool) -> None:
        super().__init__()
        self.kind, self.kernel, self.stride, self.rule, self.ceil = kind, kernel, stride, rule, ceil
        self.fill = 0.0 if zeros or kind == "avg" else float("-inf")

    def forward(self, x: Tensor) -> Tensor:
        x = pad_by_rule(x, self.rule, self.kernel, self.stride, self.fill)
        pool = F.max_pool2d if self.kind == "max" else F.avg_pool2d
        return pool(x, self.kernel, self.stride, ceil_mode=self.ceil)

    def extra_repr(self) -> str:
        return f"{self.kind}, kernel={self.kernel}, stride={self.stride}, padding={self.rule}, fill={self.fill}"


class BlurPool2d(nn.Module):
    """3x3 binomial filter with a stride, edges reflected (Zhang 2019). (N, C, H, W) -> (N, C, H/stride, W/stride)."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        line = x.new_tensor([0.25, 0.5, 0.25])  # no buffer, which would stay on the meta device
        channels = x.shape[1]
        weight = (line[:, None] * line).expand(channels, 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), weight, stride=self.stride, groups=channels)

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


class AvgMaxPool2d(nn.Module):
    """Global average and maximum.

    Args:
        kind: `avgmax`, their mean, or `sumavgmax`, their sum, (N, C, H, W) -> (N, C, 1, 1); or `catavgmax`,
            concatenated, -> (N, 2 C, 1, 1).
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        average, maximum = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
        if self.kind == "catavgmax":
            return torch.cat((average, maximum), 1)
        return (1.0 if self.kind == "sumavgmax" else 0.5) * (average + maximum)

    def extra_repr(self) -> str:
        return self.kind


class ClipAvgPool2d(nn.Module):
    """Global average, clipped to [0, 1], as in fast-reid. (N, C, H, W) -> (N, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, 1).clamp(0.0, 1.0)


class GeM(nn.Module):
    """Generalised-mean pooling with a learnt power (Radenovic et al. 2018). (N, C, H, W) -> (N, C, 1, 1)."""

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.initial, self.eps = p, eps
        self.p = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.p, self.initial)

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(self.p.dtype, torch.float32)  # 60**3 is infinite in float16
        p = self.p.to(wide)
        return F.adaptive_avg_pool2d(x.to(wide).clamp(min=self.eps).pow(p), 1).pow(1 / p).to(x.dtype)


class CosineLinear(nn.Linear):
    """Scaled cosine similarities of the input and each row of the weights. (N, D) -> (N, classes)."""

    def __init__(self, in_features: int, out_features: int, scale: float) -> None:
        super().__init__(in_features, out_features, bias=False)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(self.weight.dtype, torch.float32)  # float16 has no room for the eps of `normalize`
        similarities = F.linear(F.normalize(x.to(wide), dim=1), F.normalize(self.weight.to(wide), dim=1))
        return (self.scale * similarities).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale:g}"


class IBN(nn.Module):
    """Instance norm on the first half of the channels, another norm on the rest (Pan et al. 2018). Keeps the shape.

    Args:
        channels: C.
        rest: norm of the last `C - C // 2` channels; default: a batch norm.
        eps: of the instance norm.
    """

    def __init__(self, channels: int, rest: nn.Module | None = None, eps: float = 1e-5) -> None:
        super().__init__()
        self.split = channels // 2
        self.IN = nn.InstanceNorm2d(self.split, eps, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.split) if rest is None else rest

    def forward(self, x: Tensor) -> Tensor:
        first, rest = x[:, : self.split].contiguous(), x[:, self.split :].contiguous()
        return torch.cat((self.IN(first), self.BN(rest)), dim=1)


class FrozenBatchNorm2d(nn.Module):
    """Batch norm with constant statistics and affine terms, in training too. Keeps the shape.

    For batches that are too small for statistics, as in detection; names and arithmetic are torchvision's.
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
    """Option A shortcut (He et al. 2015): subsample, pad channels with zeros.

    (N, C, H, W) -> (N, before + C + after, H/stride, W/stride).
    """

    def __init__(self, stride: int, before: int, after: int) -> None:
        super().__init__()
        self.stride, self.before, self.after = stride, before, after

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, before={self.before}, after={self.after}"


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): training zeroes a sample's branch with probability `rate`; shape kept."""

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
