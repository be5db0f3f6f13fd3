"""Batch-norm statistics measured anew, for weights that no training step has seen: an average of others."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from resnets.data.batches import Batches
from resnets.evaluate.run import evaluation_mode
from resnets.train.step import in_parts

__all__ = ["measure_statistics"]

BATCHES = 64


def measure_statistics(
    model: nn.Module,
    batches: Batches,
    epoch: int,
    *,
    size: tuple[int, int] | None = None,
    parts: int = 1,
    layout: torch.memory_format = torch.channels_last,
    amp: torch.dtype | None = None,
) -> None:
    """Set the running means and variances to the mean over up to `BATCHES` training batches of an epoch.

    Only those of batch norms in training mode: frozen ones keep theirs. Modes and momenta are put back; nothing else of
    the network changes.

    Args:
        size: (H, W) of the epoch's pictures; `None` for the contract's.
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
            for number, (x, _, _) in enumerate(batches.epoch(epoch, size=size)):
                if number == BATCHES:
                    break
                with torch.autocast(x.device.type, amp, enabled=amp is not None):
                    for piece in in_parts(x.contiguous(memory_format=layout), parts):
                        model(piece)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
