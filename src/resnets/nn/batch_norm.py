"""Recompute batch-norm statistics, for weights that no training step has seen, such as averaged ones."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from resnets.nn.modes import evaluation_mode

__all__ = ["MAX_BATCHES", "split_batch", "update_bn"]

MAX_BATCHES = 64


def update_bn(
    model: nn.Module,
    inputs: Iterable[Tensor],
    *,
    micro_batches: int = 1,
    layout: torch.memory_format = torch.channels_last,
    amp: torch.dtype | None = None,
) -> None:
    """Set running means and variances to their average over up to `MAX_BATCHES` batches.

    Like `torch.optim.swa_utils.update_bn`, but batch norms in evaluation mode (frozen ones) keep their statistics, and
    dropout and stochastic depth are off. Modes and momenta are restored.

    Args:
        inputs: batches of training images, each (N, C, H, W).
        micro_batches: per batch, as in training.
        layout: memory format of the images.
        amp: autocast dtype; `None` disables autocast.
    """
    norms = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and module.training
    ]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    with evaluation_mode(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative average
            norm.train()
        with torch.no_grad():
            for x in islice(inputs, MAX_BATCHES):
                with torch.autocast(x.device.type, amp, enabled=amp is not None):
                    for micro_batch in split_batch(x.contiguous(memory_format=layout), micro_batches):
                        model(micro_batch)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def split_batch(x: Tensor, micro_batches: int) -> tuple[Tensor, ...]:
    """Split a batch into micro-batches; into fewer if one would have a single image, which batch norm cannot train on.

    Args:
        x: (N, ...).
    """
    count = max(1, min(micro_batches, len(x) // 2))
    return x.tensor_split(count) if count > 1 else (x,)
