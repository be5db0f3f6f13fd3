"""The current phase of a run: what is frozen, how the rest is optimised, and the batches it trains on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from resnets.data.dataset import ImageSet
from resnets.data.loader import Batches
from resnets.data.sampler import TrainSampler
from resnets.nn.model import Network
from resnets.nn.split import Prefix, Suffix, split_at
from resnets.runtime.console import Console
from resnets.runtime.formatting import plural
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.freeze.feature_cache import (
    CachedFeatureBatches,
    CacheLimits,
    CacheSpaceError,
    FeatureCache,
    cache_in_order,
    fill_cache,
)
from resnets.train.freeze.frozen_part import apply_phase, lr_scales
from resnets.train.freeze.phases import NONE, ResolvedPhase
from resnets.train.loop.train_step import TrainStep
from resnets.train.optim.optimizers import build_optimizer
from resnets.train.optim.schedules import PhaseSchedule

__all__ = ["ActivePhase"]

GIB = 2**30


class ActivePhase:
    """A phase while it runs. Creating it freezes and unfreezes the network's parameters.

    Args:
        batches: of training images.
        previous: optimizer of the phase before, whose state (momentum, ...) carries over.

    Attributes:
        frozen: what does not change, and the check that it has not.
        optimizer: over all parameters, grouped by learning rate.
        schedule: learning rate by step of the run.
        batches: of training images, or of their cached features.
        suffix: the part of the network that trains on cached features; `None` while the whole network runs.
    """

    def __init__(
        self,
        config: ResolvedConfig,
        phase: ResolvedPhase,
        model: Network,
        batches: Batches,
        previous: torch.optim.Optimizer | None = None,
    ) -> None:
        self.config, self.phase, self.batches = config, phase, batches
        self.frozen = apply_phase(model, phase)
        self.optimizer = build_optimizer(model, config.optim, lr_scales(model, phase))
        if previous is not None:
            self.optimizer.state.update(previous.state)
        self.schedule = PhaseSchedule(config.schedule, phase, len(batches))
        self.suffix: Suffix | None = None
        self._cache_tried = False
        self._prefix: Prefix | None = None
        self._val_features: CachedFeatureBatches | None = None
        self._val_limits: CacheLimits | None = None  # for validation features; None once tried

    def cache_features(
        self,
        images: ImageSet,
        plain_batches: Callable[[], Batches],
        train_step: TrainStep,
        folder: Path,
        console: Console,
        stop: Callable[[], bool],
    ) -> bool:
        """Compute the features of the frozen part once, so that only the rest of the network runs in each epoch.

        Prints whether features are cached, or why they are not, if the phase freezes anything. Later calls do nothing.

        Args:
            images: of the training split.
            plain_batches: makes batches that hold every image once an epoch, augmented as in training.
            train_step: its mixed precision and memory format are those of the features.
            folder: for a cache that does not fit into memory.
            console: for progress and messages.
            stop: checked before each batch; returns whether to give up, without a message.

        Returns:
            Whether `batches` and `suffix` are now those of cached features.
        """
        config, phase, options = self.config, self.phase, self.config.cache
        if self._cache_tried or options.cache == "off" or phase.freeze == NONE:
            return False
        self._cache_tried = True
        if reason := self._cache_obstacle(train_step.processes.world_size):
            return self._report_no_cache(console, reason)
        amp, layout, device = train_step.amp, train_step.layout, train_step.device
        views = min(options.views, phase.epochs - 1)
        prefix, suffix = split_at(self.frozen.model, phase.freeze)
        shape = prefix.output_shape(config.preprocessing.size)
        dtype = amp or (torch.bfloat16 if options.cache_16bit else torch.float32)
        limits = CacheLimits(
            memory_bytes=int(options.cache_memory_gb * GIB), file_bytes=int(options.cache_disk_gb * GIB), folder=folder
        )
        channels_last = layout == torch.channels_last
        try:
            cache = FeatureCache(
                views, len(images), shape, limits=limits, dtype=dtype, channels_last=channels_last, device=device
            )
        except CacheSpaceError as error:
            return self._report_no_cache(console, str(error))
        console.start("caching features", views * len(images))
        filled = fill_cache(
            cache,
            prefix,
            plain_batches(),
            first_epoch=phase.first_epoch,
            amp=amp,
            layout=layout,
            progress=console.advance,
            stop=stop,
        )
        console.stop()
        if not filled:
            return False
        sampler = TrainSampler(images.labels, config.update_size, config.seed, sampling=config.sampling)
        self.batches = CachedFeatureBatches(
            cache, images.labels, sampler, first_epoch=phase.first_epoch, device=device, dtype=amp or torch.float32
        )
        self._prefix, self.suffix, self._val_limits = prefix, suffix, limits.beside(cache)
        console.info(
            f"frozen up to {phase.freeze}: features cached, {plural(views, 'view')} per image, "
            f"{cache.nbytes / 2**20:,.0f} MiB {'in memory' if cache.location == 'memory' else 'on disk'}"
        )
        return True

    def cached_validation(self, batches: Batches, console: Console) -> tuple[Suffix, Batches] | None:
        """The rest of the network and the cached features of the validation images, computed on the first call.

        Args:
            batches: of the validation images, in order.

        Returns:
            Their outputs equal those of the whole network to the bit. `None` if training features are not cached, or
            there is no room for those of validation.
        """
        if self._prefix is not None and self._val_limits is not None:
            try:
                self._val_features = cache_in_order(self._prefix, batches, self._val_limits)
            except CacheSpaceError as error:
                console.info(f"feature cache off for validation: {error}")
            self._val_limits = None
        return (self.suffix, self._val_features) if self.suffix and self._val_features else None

    def _cache_obstacle(self, processes: int) -> str | None:
        """Why features of this phase cannot be cached."""
        config, phase = self.config, self.phase
        if processes > 1:
            return "several processes train"
        if config.task == "reid":
            return "losses of re-identification need the features before the neck"
        if not self.frozen.cacheable:
            return "batch norms of the frozen part are updated"
        if phase.epochs < 2:
            return "the phase has one epoch"
        if config.train_sizes:
            return "train_sizes changes the image size"
        epochs = range(phase.first_epoch, phase.first_epoch + phase.epochs)
        return "mixup or CutMix is enabled" if any(config.mix.active(epoch) for epoch in epochs) else None

    def _report_no_cache(self, console: Console, reason: str) -> bool:
        console.info(f"frozen up to {self.phase.freeze}: feature cache off: {reason}")
        return False
