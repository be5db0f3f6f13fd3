"""Foreign networks written down a second time, as plain functions over a file's tensors: nothing here knows a plan.

They are told by what their authors' code does with a tensor of that name, so that other depths, options and odd sizes
than the golden files have can be held against ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Habits", "resnet", "resnetv2"]

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Habits:
    """What a codebase does that its tensors do not show."""

    pool: Callable[[Tensor], Tensor] = lambda x: F.max_pool2d(x, 3, 2, 1)
    stem_relu: bool = True
    stride_in_first: bool = False
    last_stride: int = 2
    dilate_from: int = 9  # the first stage (from 1) that dilates in place of its stride
    stem: str = ""
    se: str = "se"


def norm(t: Tensors, name: str, x: Tensor) -> Tensor:
    if f"{name}.IN.weight" in t:
        half = t[f"{name}.IN.weight"].numel()
        parts = (norm(t, f"{name}.IN", x[:, :half]), norm(t, f"{name}.BN", x[:, half:]))
        return torch.cat(parts, 1)
    weight, bias = t[f"{name}.weight"], t[f"{name}.bias"]
    if f"{name}.running_mean" in t:
        return F.batch_norm(x, t[f"{name}.running_mean"], t[f"{name}.running_var"], weight, bias, eps=1e-5)
    if any(other.endswith("running_mean") for other in t):  # an instance norm beside batch norms
        return F.instance_norm(x, weight=weight, bias=bias, eps=1e-5)
    return F.group_norm(x, 32, weight, bias, eps=1e-5)


def conv(t: Tensors, name: str, x: Tensor, stride: int = 1, dilation: int = 1, standardise: bool = False) -> Tensor:
    weight = t[f"{name}.weight"]
    if standardise:
        flat = weight.flatten(1)
        flat = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, keepdim=True, unbiased=False) + 1e-8).sqrt()
        weight = flat.reshape(weight.shape)
    groups = x.shape[1] // weight.shape[1]
    padding = dilation * (weight.shape[-1] - 1) // 2
    return F.conv2d(x, weight, t.get(f"{name}.bias"), stride, padding, dilation, groups)


def average_down(x: Tensor, stride: int, dilation: int) -> Tensor:
    """timm: 2x2, rounded up, cells outside not counted; at stride 1 (dilated) with zeros after, which count."""
    if stride == 1 and dilation == 1:
        return x
    if dilation > 1:
        return F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 1)
    return F.avg_pool2d(x, 2, stride, ceil_mode=True, count_include_pad=False)


def attention(t: Tensors, name: str, x: Tensor) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    if f"{name}.fc1.weight" in t:
        gate = conv(t, f"{name}.fc2", F.relu(conv(t, f"{name}.fc1", mean)))
    elif f"{name}.fc.0.weight" in t:
        gate = F.linear(F.relu(F.linear(mean.flatten(1), t[f"{name}.fc.0.weight"])), t[f"{name}.fc.2.weight"])
        gate = gate[:, :, None, None]
    elif f"{name}.conv.weight" in t:
        kernel = t[f"{name}.conv.weight"]
        gate = F.conv1d(mean.flatten(1)[:, None], kernel, padding=kernel.shape[-1] // 2)[:, 0, :, None, None]
    else:
        return x
    return x * torch.sigmoid(gate)


def stem(t: Tensors, x: Tensor, habits: Habits) -> Tensor:
    first = f"{habits.stem}conv1"
    if habits.stem and f"{habits.stem}conv3.weight" in t:  # Cadene's SENet-154
        for number, stride in ((1, 2), (2, 1), (3, 1)):
            x = F.relu(norm(t, f"{habits.stem}bn{number}", conv(t, f"{habits.stem}conv{number}", x, stride)))
        return x
    if f"{first}.0.weight" in t:
        x = F.relu(norm(t, f"{first}.1", conv(t, f"{first}.0", x, 2)))
        x = F.relu(norm(t, f"{first}.4", conv(t, f"{first}.3", x)))
        x = conv(t, f"{first}.6", x)
    else:
        x = conv(t, first, x, 2)
    x = norm(t, f"{habits.stem}bn1", x)
    return F.relu(x) if habits.stem_relu else x


def resnet(t: Tensors, x: Tensor, habits: Habits) -> Tensor:
    """Post-activation, in the manner of torchvision's names; the last map, or logits where there is `fc`."""
    x = habits.pool(stem(t, x, habits))
    stage, dilation = 1, 1
    while f"layer{stage}.0.conv1.weight" in t:
        stride = 1 if stage == 1 else 2
        if f"layer{stage + 1}.0.conv1.weight" not in t and stage > 1:
            stride = habits.last_stride
        before = dilation
        if stage >= habits.dilate_from:
            dilation, stride = dilation * stride, 1
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in t:
            name = f"layer{stage}.{block}"
            step, first = (stride, before) if block == 0 else (1, dilation)
            shortcut = x
            if f"{name}.downsample.2.weight" in t:
                shortcut = norm(
                    t, f"{name}.downsample.2", conv(t, f"{name}.downsample.1", average_down(x, step, dilation))
                )
            elif f"{name}.downsample.0.weight" in t:
                side = t[f"{name}.downsample.0.weight"].shape[-1]
                shortcut = conv(t, f"{name}.downsample.0", x, step, first if side > 1 else 1)
                shortcut = norm(t, f"{name}.downsample.1", shortcut)
            if f"{name}.conv3.weight" in t:
                outer, middle = (step, 1) if habits.stride_in_first else (1, step)
                y = F.relu(norm(t, f"{name}.bn1", conv(t, f"{name}.conv1", x, outer)))
                y = F.relu(norm(t, f"{name}.bn2", conv(t, f"{name}.conv2", y, middle, first)))
                y = norm(t, f"{name}.bn3", conv(t, f"{name}.conv3", y))
            else:
                y = F.relu(norm(t, f"{name}.bn1", conv(t, f"{name}.conv1", x, step, first)))
                y = norm(t, f"{name}.bn2", conv(t, f"{name}.conv2", y, 1, dilation))
            y = attention(t, f"{name}.{habits.se}", y) + shortcut
            x = F.relu(norm(t, f"{name}.IN", y) if f"{name}.IN.weight" in t else y)
            block += 1
        stage += 1
    for head in ("fc", "last_linear"):
        if f"{head}.weight" in t:
            return F.linear(x.mean((2, 3)), t[f"{head}.weight"], t[f"{head}.bias"])
    return x


def resnetv2(t: Tensors, x: Tensor, dilate_from: int = 9) -> Tensor:
    """timm's resnetv2: pre-activation; BiT where there are no statistics and the stem is one convolution."""
    bit = "norm.running_mean" not in t and "stem.conv.weight" in t
    deep = "stem.conv1.weight" in t
    if deep:
        x = F.relu(norm(t, "stem.norm1", conv(t, "stem.conv1", x, 2)))
        x = F.relu(norm(t, "stem.norm2", conv(t, "stem.conv2", x)))
        x = conv(t, "stem.conv3", x)
    else:
        x = conv(t, "stem.conv", x, 2, standardise=bit)
    x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2) if bit else F.max_pool2d(x, 3, 2, 1)
    stage, dilation = 0, 1
    while f"stages.{stage}.blocks.0.conv1.weight" in t:
        stride, before = 1 if stage == 0 else 2, dilation
        if stage + 1 >= dilate_from:
            dilation, stride = dilation * stride, 1
        block = 0
        while f"{(name := f'stages.{stage}.blocks.{block}')}.conv1.weight" in t:
            step, first = (stride, before) if block == 0 else (1, dilation)
            y = F.relu(norm(t, f"{name}.norm1", x))
            if f"{name}.downsample.conv.weight" in t:
                source = average_down(y, step, dilation) if deep else y
                x = conv(t, f"{name}.downsample.conv", source, 1 if deep else step, standardise=bit)
            three = f"{name}.conv3.weight" in t
            y = conv(t, f"{name}.conv1", y, 1 if three else step, 1 if three else first, bit)
            y = F.relu(norm(t, f"{name}.norm2", y))
            y = conv(t, f"{name}.conv2", y, step if three else 1, first if three else dilation, bit)
            if three:
                y = conv(t, f"{name}.conv3", F.relu(norm(t, f"{name}.norm3", y)), standardise=bit)
            x, block = x + y, block + 1
        stage += 1
    x = F.relu(norm(t, "norm", x)).mean((2, 3), keepdim=True)
    return conv(t, "head.fc", x).flatten(1)
