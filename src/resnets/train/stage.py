"""A phase as it runs: what is frozen, how the rest learns, and where its batches come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from resnets.data.batches import Batches
from resnets.data.dataset import ImageSet
from resnets.data.sampling import Epochs
from resnets.nn.model import Network
from resnets.train.cache import CachedBatches, CacheLimits, PrefixCache, fill_cache
from resnets.train.config import TrainConfig
from resnets.train.freeze import Frozen, apply_phase, lr_scales
from resnets.train.optim import build_optimizer
from resnets.train.phases import PhaseAt
from resnets.train.prefix import Suffix, split_at
from resnets.train.schedule import Schedule

__all__ = ["Stage", "enter", "keep_answers"]

GB = 2**30


@dataclass(kw_only=True)
class Stage:
    """A phase of a run.

    Args:
        at: which one, and its first epoch.
        frozen: what does not move, with the proof.
        optimizer: of all tensors, grouped as the phase's rates are.
        schedule: learning rate by the run's step.
        batches: pictures, or the frozen part's answers.
        suffix: what runs on those answers; `None` where the whole network does.
    """

    at: PhaseAt
    frozen: Frozen
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float]
    batches: Batches
    suffix: Suffix | None = None


def enter(
    config: TrainConfig, at: PhaseAt, model: Network, batches: Batches, before: torch.optim.Optimizer | None
) -> Stage:
    """Freeze and thaw as the phase says; the optimiser keeps what it remembers from the phase before."""
    frozen = apply_phase(model, at.phase)
    optimizer = build_optimizer(model, config.optim, lr_scales(model, at.phase))
    if before is not None:
        optimizer.state.update(before.state)
    return Stage(
        at=at, frozen=frozen, optimizer=optimizer, schedule=_schedule(config, at, len(batches)), batches=batches
    )


def _schedule(config: TrainConfig, at: PhaseAt, per_epoch: int) -> Callable[[int], float]:
    options, phase = config.schedule, at.phase
    first, total = at.first * per_epoch, phase.epochs * per_epoch
    warmup = options.warmup_epochs if phase.warmup_epochs is None else phase.warmup_epochs
    inner = Schedule(
        kind=options.sched,
        peak=phase.lr or config.optim.lr,
        warmup_steps=min(round(warmup * per_epoch), total // 2),
        total_steps=total,
        least=options.min_lr,
        drops=tuple(round((milestone - at.first) * per_epoch) for milestone in options.milestones),
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
    folder: Path,
    amp: torch.dtype | None,
    layout: torch.memory_format,
    progress: Callable[[int], None],
    start: Callable[[int], None],
    stop: Callable[[], bool],
) -> str | None:
    """Compute what the frozen part answers once, and let the stage run on that.

    Args:
        plain: makes batches of every picture once an epoch, in any order, varied as the run varies them.
        size: (H, W) of the pictures.
        folder: where a large cache may lie.
        start: told how many pictures are to come; progress: how many came; stop: whether to leave.

    Returns:
        What was done, in words; `None` if nothing was.
    """
    phase, options = stage.at.phase, config.cache
    epochs = phase.epochs
    if options.cache == "off" or not stage.frozen.cacheable or epochs <= options.views or config.train_sizes:
        return None
    if any(config.mix.active(stage.at.first + epoch) for epoch in range(epochs)):
        return None
    prefix, suffix = split_at(stage.frozen.model, phase.freeze)
    device = next(stage.frozen.model.parameters()).device
    cache = PrefixCache.create(
        options.views,
        len(images),
        prefix.shape(size),
        limits=CacheLimits(
            memory_bytes=int(options.cache_memory_gb * GB), file_bytes=int(options.cache_disk_gb * GB), folder=folder
        ),
        dtype=amp or (torch.bfloat16 if options.cache_16bit else torch.float32),  # what the frozen part answers
        channels_last=layout == torch.channels_last,
        device=device,
    )
    if cache is None:
        return None
    start(options.views * len(images))
    filled = fill_cache(
        cache, prefix, plain(), first=stage.at.first, amp=amp, layout=layout, progress=progress, stop=stop
    )
    if not filled:
        cache.close()
        return None
    orders = Epochs(images.labels, config.update_size, config.seed, sampling=config.sampling)
    stage.batches = CachedBatches(
        cache, images.labels, orders, first=stage.at.first, device=device, dtype=amp or torch.float32
    )
    stage.suffix = suffix
    kept = cache.bytes_for(options.views, len(images), cache.row, cache.dtype) / 2**20
    return (
        f"frozen up to {phase.freeze}: its answers are kept, {options.views} views of each picture, "
        f"{kept:,.0f} MiB in {'memory' if cache.home == 'memory' else 'a file'}"
    )
