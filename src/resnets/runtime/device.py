"""Device, mixed-precision type and memory layout that a network runs with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from resnets.errors import TrainingError

__all__ = ["pick_amp", "pick_device", "pick_layout"]

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


def pick_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda`, `cuda:1` or `mps` means here.

    Raises:
        TrainingError: no such device on this machine.
    """
    here: Sequence[str] = ["cpu"]
    if torch.cuda.is_available():
        here = ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count())), *here]
    elif torch.backends.mps.is_available():
        here = ["mps", *here]
    if name == "auto":
        return torch.device(here[0])
    if name not in here:
        raise TrainingError(f"device must be one that is here; got {name!r}; here are {', '.join(['auto', *here])}")
    return torch.device(name)


def pick_amp(name: str, device: torch.device) -> torch.dtype | None:
    """The type that mixed precision computes in, `None` for none. `auto` takes bfloat16 where the device has it."""
    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
        return torch.bfloat16 if fast else None
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "off": None}[name]
