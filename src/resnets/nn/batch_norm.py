"""Batch-norm statistics measured anew, for weights that no training step has seen: an average of others."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from resnets.nn.modes import evaluation_mode

__all__ = ["split_batch", "update_bn"]

BATCHES = 64


def update_bn(
    model: nn.Module,
    inputs: Iterable[Tensor],
    *,
    parts: int = 1,
    layout: torch.memory_format = torch.channels_last,
    amp: torch.dtype | None = None,
) -> None:
    """Set the running means and variances to the mean over up to `BATCHES` batches.

    Only those of batch norms in training mode: frozen ones keep theirs. Modes and momenta are put back; nothing else of
    the network changes.

    Args:
        inputs: batches of training images, each (N, C, H, W).
        parts: pieces in which a batch runs, as in training.
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
            norm.momentum = None  # a plain mean
            norm.train()
        with torch.no_grad():
            for x in islice(inputs, BATCHES):
                with torch.autocast(x.device.type, amp, enabled=amp is not None):
                    for piece in split_batch(x.contiguous(memory_format=layout), parts):
                        model(piece)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def split_batch(x: Tensor, parts: int) -> tuple[Tensor, ...]:
    """A batch in `parts` pieces, but none of one image, which batch norms cannot train on."""
    parts = max(1, min(parts, len(x) // 2))
    return x.tensor_split(parts) if parts > 1 else (x,)
