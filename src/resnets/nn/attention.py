"""Attention modules at the end of a residual branch: they multiply it by a gate in (0, 1) computed from it.

Shape letters: N batch, C channels, H height, W width, R squeezed channels (usually C / 16).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["CBAM", "ECA", "ChannelGate", "NonLocal", "SELayer", "SEModule", "SpatialGate"]


class SELayer(nn.Module):
    """Squeeze and excitation, as in IBN-Net: mean, linear, ReLU, linear, sigmoid (Hu et al. 2018). Keeps the shape.

    The linear layers have no bias.
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
    """Squeeze and excitation, as in Caffe and timm: mean, 1x1, ReLU, 1x1, sigmoid (Hu et al. 2018). Keeps the shape.

    The convolutions have a bias.
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
    """Efficient channel attention: mean, 1-D convolution over channels, sigmoid (Wang et al. 2020). Keeps the shape.

    Args:
        kernel: number of neighbouring channels that a gate depends on, odd.
    """

    def __init__(self, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.mean((2, 3))[:, None])  # (N, 1, C)
        return x * cast(Tensor, self.gate(y))[:, 0, :, None, None]


class ChannelGate(nn.Module):
    """Channel half of CBAM: mean and maximum, 1x1, ReLU, 1x1, summed, sigmoid. Keeps the shape.

    Mean and maximum pass side by side, as two cells, so that each layer runs once, as hooks and attribution require.
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
    """Spatial half of CBAM: mean and maximum over channels, 7x7, norm, sigmoid. Keeps the shape.

    Args:
        norm: norm of one channel; default: a batch norm.
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
    """Convolutional block attention: channel gate, then spatial gate (Woo et al. 2018). Keeps the shape.

    Args:
        norm: norm in the spatial gate; default: a batch norm.
    """

    def __init__(self, channels: int, squeezed: int, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.channel = ChannelGate(channels, squeezed)
        self.spatial = SpatialGate(norm)


class NonLocal(nn.Module):
    """Self-attention over positions (Wang et al. 2018), without softmax, in fast-reid's form. Keeps the shape.

    Args:
        layers: `g`, `theta` and `phi`, 1x1 convolutions to I inner channels, and `W`, back to C channels with a norm.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, module in layers.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        values, queries, keys = (self.get_submodule(name)(x).flatten(2) for name in ("g", "theta", "phi"))  # (N, I, P)
        weights = queries.transpose(1, 2) @ keys / keys.shape[2]  # (N, P, P)
        mixed = (weights @ values.transpose(1, 2)).transpose(1, 2)  # (N, I, P)
        out: Tensor = self.get_submodule("W")(mixed.reshape(x.shape[0], -1, x.shape[2], x.shape[3]))
        return out + x
