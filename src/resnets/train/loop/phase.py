"""A phase as it runs: what is frozen, how the rest learns, and where its batches come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from resnets.data.batches import Batches
from resnets.data.dataset import ImageSet
from resnets.data.sampler import Epochs
from resnets.nn.model import Network
from resnets.nn.split import Prefix, Suffix, split_at
from resnets.runtime.console import counted
from resnets.train.config.train_config import TrainConfig
from resnets.train.freeze.feature_cache import (
    CachedFeatureBatches,
    CacheLimits,
    CacheSpaceError,
    FeatureCache,
    cache_in_order,
    fill_cache,
)
from resnets.train.freeze.frozen_part import FrozenPart, apply_phase, lr_scales
from resnets.train.freeze.phases import NONE, CurrentPhase, Phase
from resnets.train.optim.optimizers import build_optimizer
from resnets.train.optim.schedules import WarmupSchedule

__all__ = ["Stage", "enter", "keep_answers", "keep_measured"]

GB = 2**30


@dataclass(kw_only=True)
class Stage:
    """A phase of a run.

    Args:
        at: which one, and its first epoch.
        frozen: what does not move, with the proof.
        optimizer: of all tensors, grouped as the phase's rates are.
        schedule: learning rate by the run's step.
        batches: images, or the frozen part's answers.
        suffix: what runs on those answers; `None` where the whole network does.
        prefix: what gave them.
        measured: what it answers to the validation images, once they came; room: what that may take.
    """

    at: CurrentPhase
    frozen: FrozenPart
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float]
    batches: Batches
    suffix: Suffix | None = None
    prefix: Prefix | None = None
    measured: Batches | None = None
    room: CacheLimits | None = None


def enter(
    config: TrainConfig, at: CurrentPhase, model: Network, batches: Batches, before: torch.optim.Optimizer | None
) -> Stage:
    """Freeze and unfreeze as the phase says; the optimiser keeps what it remembers from the phase before."""
    frozen = apply_phase(model, at.phase)
    optimizer = build_optimizer(model, config.optim, lr_scales(model, at.phase))
    if before is not None:
        optimizer.state.update(before.state)
    return Stage(
        at=at, frozen=frozen, optimizer=optimizer, schedule=_schedule(config, at, len(batches)), batches=batches
    )


def _schedule(config: TrainConfig, at: CurrentPhase, per_epoch: int) -> Callable[[int], float]:
    options, phase = config.schedule, at.phase
    first, total = at.first * per_epoch, phase.epochs * per_epoch
    warmup = options.warmup_epochs if phase.warmup_epochs is None else phase.warmup_epochs
    inner = WarmupSchedule(
        kind=options.sched,
        peak=phase.lr or config.optim.lr,
        warmup_steps=min(round(warmup * per_epoch), total // 2),
        total_steps=total,
        min_lr=options.min_lr,
        milestones=tuple(round((milestone - at.first) * per_epoch) for milestone in options.milestones),
        gamma=options.gamma,
    )
    return lambda step: inner(step - first)


def keep_answers(
    stage: Stage,
    config: TrainConfig,
    images: ImageSet,
    plain: Callable[[], Batches],
    size: tuple[int, int],
    *,
    processes: int,
    folder: Path,
    amp: torch.dtype | None,
    layout: torch.memory_format,
    progress: Callable[[int], None],
    start: Callable[[int], None],
    stop: Callable[[], bool],
) -> str | None:
    """Compute what the frozen part answers once, and let the stage run on that.

    Args:
        plain: makes batches of every image once an epoch, in any order, varied as the run varies them.
        size: (H, W) of the images.
        processes: that train together.
        folder: where a large cache may lie.
        start: told how many images are to come; progress: how many came; stop: whether to leave.

    Returns:
        What was done, or why it was not, in words; `None` where nothing is frozen, nobody wants it or `stop` said so.
    """
    phase, options = stage.at.phase, config.cache
    if options.cache == "off" or phase.freeze == NONE:
        return None
    if reason := _obstacle(stage, config, processes):
        return _whole(phase, reason)
    views = min(options.views, phase.epochs - 1)
    prefix, suffix = split_at(stage.frozen.model, phase.freeze)
    row, dtype = prefix.output_shape(size), amp or (torch.bfloat16 if options.cache_16bit else torch.float32)
    device = next(stage.frozen.model.parameters()).device
    limits = CacheLimits(
        memory_bytes=int(options.cache_memory_gb * GB), file_bytes=int(options.cache_disk_gb * GB), folder=folder
    )
    try:
        cache = FeatureCache.create(
            views,
            len(images),
            row,
            limits=limits,
            dtype=dtype,  # what the frozen part answers
            channels_last=layout == torch.channels_last,
            device=device,
        )
    except CacheSpaceError as error:
        return _whole(phase, str(error))
    if cache is None:
        needed = FeatureCache.bytes_for(views, len(images), row, dtype) / 2**20
        return _whole(phase, f"they take {needed:,.0f} MiB; see cache_memory_gb, cache_disk_gb, views and cache_16bit")
    start(views * len(images))
    filled = fill_cache(
        cache, prefix, plain(), first=stage.at.first, amp=amp, layout=layout, progress=progress, stop=stop
    )
    if not filled:
        cache.close()
        return None
    orders = Epochs(images.labels, config.update_size, config.seed, sampling=config.sampling)
    stage.batches = CachedFeatureBatches(
        cache, images.labels, orders, first=stage.at.first, device=device, dtype=amp or torch.float32
    )
    stage.prefix, stage.suffix, stage.room = prefix, suffix, limits.beside(cache)
    return (
        f"frozen up to {phase.freeze}: its answers are kept, {counted(views, 'view')} of each image, "
        f"{cache.size / 2**20:,.0f} MiB in {'memory' if cache.home == 'memory' else 'a file'}"
    )


def keep_measured(stage: Stage, batches: Batches) -> str | None:
    """Compute what the frozen part answers to the images that measure it, once, if the stage runs on its answers.

    Args:
        batches: all of these images in order, none varied.

    Returns:
        Why it was not done, in words; `None` if it was, or was tried before.
    """
    if stage.measured is not None or stage.prefix is None or stage.room is None:
        return None
    try:
        stage.measured = cache_in_order(stage.prefix, batches, stage.room)
        reason = "cache_memory_gb and cache_disk_gb have no room for it"
    except CacheSpaceError as error:
        reason = str(error)
    stage.room = None
    if stage.measured is not None:
        return None
    return f"what the frozen part answers to validation images is not kept: {reason}"


def _obstacle(stage: Stage, config: TrainConfig, processes: int) -> str | None:
    """Why what the frozen part answers cannot be kept."""
    epochs = range(stage.at.first, stage.at.first + stage.at.phase.epochs)
    if processes > 1:
        return "several processes train"
    if not stage.frozen.cacheable:
        return "its batch norms move"
    if len(epochs) < 2:
        return "it is frozen for one epoch"
    if config.train_sizes:
        return "images change their size"
    return "images are mixed" if any(config.mix.active(epoch) for epoch in epochs) else None


def _whole(phase: Phase, reason: str) -> str:
    return f"frozen up to {phase.freeze}: its answers are not kept, each epoch computes them anew: {reason}"
