"""Small networks of every kind, for what must hold for all of them."""

from __future__ import annotations

from dataclasses import replace

import torch

from resnets.arch.config import ResNetConfig
from resnets.arch.vgg import VGGConfig
from resnets.nn.model import Network, build_model

__all__ = ["CONFIGS", "IMAGE", "make", "images"]

IMAGE = 24  # pixels a side
SMALL = ResNetConfig(
    block="basic", depths=(1, 2), widths=(16, 24), stem="3x3", stem_width=16, num_classes=5, img_size=IMAGE
)

CONFIGS: dict[str, ResNetConfig | VGGConfig] = {
    "basic": SMALL,
    "bottleneck, deep stem": replace(SMALL, block="bottleneck", stem="deep", stem_width=32),
    "pre-activation": replace(SMALL, pre_activation=True, drop_path_rate=0.4),
    "random": replace(SMALL, drop_rate=0.5, drop_path_rate=0.4),
    "IBN and CBAM": replace(SMALL, ibn=("a", "b"), attention="cbam"),
    "SE and GeM": replace(SMALL, attention="se", attention_reduction=4, global_pool="gem"),
    "group norm, windows": replace(SMALL, norm="group", norm_groups=8, global_pool="window", pool_window=2),
    "frozen norm, blur": replace(SMALL, norm="frozen_batch", antialias=True),
    "VGG": VGGConfig(depths=(1, 2), widths=(16, 24), norm="batch", hidden=16, num_classes=5, img_size=IMAGE),
}


def make(name: str, seed: int = 0) -> Network:
    """The network `name`, in channels_last, its running statistics not those of a fresh one."""
    torch.manual_seed(seed)
    model = build_model(CONFIGS[name])
    for key, buffer in model.named_buffers():
        if key.endswith("running_mean"):
            buffer.normal_(std=0.1)
        elif key.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def images(count: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 3, H, W) noise and (N,) labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, IMAGE, IMAGE, generator=generator)
    return x.contiguous(memory_format=torch.channels_last), torch.randint(0, 5, (count,), generator=generator)
