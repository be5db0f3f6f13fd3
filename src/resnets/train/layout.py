"""The memory layout that a network trains in."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["pick_layout"]

ONEDNN_BLOCK = 16  # channels that oneDNN's kernels take at once, with AVX-512


def pick_layout(model: nn.Module, device: torch.device, channels_last: bool) -> torch.memory_format:
    """Channels last where it is wanted and sound, else torch's usual order.

    On CPUs the weight gradient of a strided 1x1 convolution over fewer than 16 channels writes past its buffer in
    channels last: wrong gradients, or a crash (oneDNN issue 6035, seen with torch 2.13). Only very narrow networks
    have such a shortcut.
    """
    if not channels_last:
        return torch.contiguous_format
    unsound = device.type == "cpu" and any(
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels // module.groups < ONEDNN_BLOCK
        for module in model.modules()
    )
    return torch.contiguous_format if unsound else torch.channels_last
