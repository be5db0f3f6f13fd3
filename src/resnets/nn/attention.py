"""Attention at the end of a residual branch: the branch times a gate in (0, 1) that it computes itself.

Shape letters: N batch, C channels, H height, W width, R squeezed channels.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["CBAM", "ECA", "ChannelGate", "SELayer", "SEModule", "SpatialGate"]


class SELayer(nn.Module):
    """Squeeze and excitation with linear layers, without bias (Hu et al. 2018, as in IBN-Net). Shape kept.

    Args:
        channels: C.
        squeezed: R, usually C / 16.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, squeezed, bias=False), nn.ReLU(), nn.Linear(squeezed, channels, bias=False)
        )
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x.mean((2, 3)))  # (N, C)
        return x * cast(Tensor, self.gate(y))[:, :, None, None]


class SEModule(nn.Module):
    """Squeeze and excitation with 1x1 convolutions, with bias (Hu et al. 2018, as Caffe's and timm's). Shape kept.

    Args:
        channels: C.
        squeezed: R, usually C / 16.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.ReLU()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc2(self.act(self.fc1(x.mean((2, 3), keepdim=True))))  # (N, C, 1, 1)
        return x * cast(Tensor, self.gate(y))


class ECA(nn.Module):
    """Efficient channel attention: each channel looks at its neighbours (Wang et al. 2020). Shape kept.

    Args:
        kernel: how many channels one looks at, odd.
    """

    def __init__(self, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.mean((2, 3))[:, None])  # (N, 1, C)
        return x * cast(Tensor, self.gate(y))[:, 0, :, None, None]


class ChannelGate(nn.Module):
    """CBAM's first half: mean and maximum of each channel through the same two layers. Shape kept.

    They go through side by side, as two cells: each layer runs once, as hooks and attribution need it.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1, bias=False)
        self.act = nn.ReLU()
        self.fc2 = nn.Conv2d(squeezed, channels, 1, bias=False)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat((x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)), dim=3)  # (N, C, 1, 2)
        y = self.fc2(self.act(self.fc1(both))).sum(3, keepdim=True)  # (N, C, 1, 1)
        return x * cast(Tensor, self.gate(y))


class SpatialGate(nn.Module):
    """CBAM's second half: mean and maximum over the channels through a 7x7 and a norm. Shape kept.

    Args:
        norm: of the one channel; `None` makes a batch norm.
    """

    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Sequential()
        self.conv.add_module("conv", nn.Conv2d(2, 1, 7, padding=3, bias=False))
        self.conv.add_module("bn", nn.BatchNorm2d(1) if norm is None else norm)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), dim=1)  # (N, 2, H, W)
        return x * cast(Tensor, self.gate(self.conv(y)))


class CBAM(nn.Sequential):
    """Convolutional block attention: a gate for channels, then one for places (Woo et al. 2018). Shape kept.

    Args:
        channels: C.
        squeezed: R, usually C / 16.
        norm: of the gate for places; `None` makes a batch norm.
    """

    def __init__(self, channels: int, squeezed: int, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.channel = ChannelGate(channels, squeezed)
        self.spatial = SpatialGate(norm)
