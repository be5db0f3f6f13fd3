"""Choice of device, mixed-precision dtype and memory format."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from resnets.errors import DeviceError

__all__ = ["choose_kernels", "pick_amp", "pick_device", "pick_layout", "why_inexact"]

ONEDNN_BLOCK = 16  # channels per block of oneDNN's AVX-512 kernels


def pick_device(name: str) -> torch.device:
    """Choose the device to run on; of several GPUs, it also becomes torch's current one.

    Args:
        name: `auto` (CUDA, else MPS, else the CPU), `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises:
        DeviceError: this machine has no such device.
    """
    available = ["cpu"]
    if torch.cuda.is_available():
        available = ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count())), *available]
    elif torch.backends.mps.is_available():
        available = ["mps", *available]
    if name == "auto":
        return torch.device(available[0])
    if name not in available:
        raise DeviceError(f"the device must be available; got {name!r}; choose {', '.join(['auto', *available])}")
    device = torch.device(name)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # else pinned memory and capabilities would be those of the first GPU
    return device


def pick_amp(name: str, device: torch.device) -> torch.dtype | None:
    """Choose the dtype of mixed precision (automatic mixed precision, AMP).

    Args:
        name: `bf16`, `fp16`, `off` or `auto`: bfloat16 where the device computes it natively, float16 on older GPUs,
            none otherwise.
        device: device that the network runs on.

    Returns:
        The autocast dtype; `None` without mixed precision.
    """
    if name == "auto":
        if device.type == "cuda":
            # GPUs before Ampere (V100, T4) emulate bfloat16, slower than float32.
            native = torch.cuda.is_bf16_supported(including_emulation=False)
            return torch.bfloat16 if native else torch.float16
        # torch 2.9 cannot list the capabilities of a CPU; `--amp bf16` still enables bfloat16 there.
        get_capabilities = getattr(torch.cpu, "get_capabilities", dict) if device.type == "cpu" else dict
        capabilities: Mapping[str, Any] = get_capabilities()
        return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else None
    if name not in ("bf16", "fp16", "off"):
        raise DeviceError(f"mixed precision must be off, auto, bf16 or fp16; got {name!r}")
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "off": None}[name]


def pick_layout(model: nn.Module, device: torch.device, channels_last: bool) -> torch.memory_format:
    """Choose the memory format: channels last where requested and safe, else contiguous (NCHW).

    In channels last, oneDNN's weight gradient of a strided 1x1 convolution with fewer than 16 input channels writes
    past its buffer on CPUs: wrong gradients, or a crash (oneDNN issue 6035, seen with torch 2.13). Only very narrow
    networks have such a shortcut.

    Args:
        model: network that will be trained.
        device: device that it runs on.
        channels_last: whether channels last is requested.
    """
    if not channels_last:
        return torch.contiguous_format
    unsafe = device.type == "cpu" and any(
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels // module.groups < ONEDNN_BLOCK
        for module in model.modules()
    )
    return torch.contiguous_format if unsafe else torch.channels_last


@contextmanager
def choose_kernels(device: torch.device, *, deterministic: bool) -> Iterator[None]:
    """Within it, CUDA kernels are the fastest ones, or those that give the same bits every time.

    Without `deterministic`, cuDNN times its kernels for each shape and keeps the fastest (`cudnn.benchmark`); some of
    them add in an order that varies. CPUs always give the same bits. Torch's settings are restored at the end.

    Args:
        device: device that the network runs on.
        deterministic: use only deterministic kernels (`torch.use_deterministic_algorithms`).

    Raises:
        DeviceError: an operation of the network has no deterministic kernel, such as the pool of a VGG.
    """
    if device.type != "cuda":
        yield
        return
    benchmark, before = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        torch.backends.cudnn.benchmark = not deterministic
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
            torch.use_deterministic_algorithms(True)
        yield
    except RuntimeError as error:
        if "deterministic implementation" not in str(error):
            raise
        operation = str(error).partition(" does not have")[0]
        raise DeviceError(
            f"deterministic kernels must exist for the network; {operation} has none on {device.type}; leave "
            "deterministic out, or use --device cpu"
        ) from None
    finally:
        torch.backends.cudnn.benchmark = benchmark
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


def why_inexact(device: torch.device, *, deterministic: bool) -> str | None:
    """Why the same steps may give other bits on `device`, and what to do; `None` where they cannot."""
    if device.type == "cpu" or (device.type == "cuda" and deterministic):
        return None
    remedy = "--set deterministic=true" if device.type == "cuda" else "--device cpu"
    return (
        f"kernels on {device.type} may add in another order each time; with {remedy} results are equal to the last bit"
    )
