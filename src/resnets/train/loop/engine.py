"""The moving parts of a run: network, optimiser, averages, and the phase that they are in. Nothing here is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from resnets.data.augment.config import Sampling
from resnets.data.batches import Batch, Batches
from resnets.data.dataset import Dataset
from resnets.data.loader import make_batches
from resnets.nn.batch_norm import measure_statistics
from resnets.nn.model import Network
from resnets.nn.split import Tail
from resnets.runtime.console import Console
from resnets.runtime.device import pick_amp, pick_device, pick_layout
from resnets.runtime.processes import World
from resnets.train.config.resolve import Settings
from resnets.train.freeze.frozen import Frozen
from resnets.train.freeze.phases import phase_at
from resnets.train.loop.epoch import EpochResult, Meter, NotFiniteError, run_epoch
from resnets.train.loop.phase import Stage, enter, keep_answers, keep_measured
from resnets.train.loop.train_step import TrainStep
from resnets.train.optim.averages import Average
from resnets.train.optim.losses import Loss, class_weights
from resnets.train.run_folder.checkpoint import state_tensors
from resnets.train.run_folder.record import memory_mib, size_at
from resnets.weights.create import create_model

__all__ = ["Engine"]


class Engine:
    """What trains.

    Args:
        settings: of the run.
        dataset: its images.
        world: the processes that train it.
        console: where progress goes.
        folder: where the frozen part's answers may lie while they are needed.
        epoch: the one to begin in, counted from 0.
        fresh: whether first weights are to be made; a state has them already.
        say: told what a person should know.
        stop: whether somebody wants the run to end.

    Attributes:
        model, average, meter, train_step: what a state is taken from and put back into.
        stage: the phase that the run is in.
    """

    def __init__(
        self,
        settings: Settings,
        dataset: Dataset,
        world: World,
        console: Console,
        folder: Path,
        *,
        epoch: int,
        fresh: bool,
        say: Callable[[str], None],
        stop: Callable[[], bool],
    ) -> None:
        self.settings, self.world, self.console, self.folder = settings, world, console, folder
        config = self.config = settings.config
        self.images, self.stop = dataset.splits["train"], stop
        self.device = pick_device(world.device(config.device))
        self.amp = pick_amp(config.amp, self.device)
        self.batches = self._batches(config.sampling, config.update_size)
        self.model = self._model(config.pretrained if fresh else None)
        self.average = Average(self.model, config.average)
        self.meter = Meter(self.device)
        weights = class_weights(config.loss, self.images.labels, len(dataset.classes))
        self.stage = self._stage(epoch, None)
        self.train_step = TrainStep(
            self.model,
            self.stage.optimizer,
            self.stage.schedule,
            Loss(config.loss, weights).to(self.device),
            clip_grad=config.optim.clip_grad,
            parts=config.optim.accumulate,
            average=self.average,
            amp=self.amp,
            layout=self.layout,
            seed=config.seed,
            world=world,
            say=say,
        )
        self._connect()

    def _batches(self, sampling: Sampling, size: int) -> Batches:
        config = self.config
        return make_batches(
            self.images,
            self.settings.preprocessing,
            augment=self.settings.augment,
            batch_size=size,
            seed=config.seed,
            device=self.device,
            workers=config.workers,
            kind=config.workers_kind,
            sampling=sampling,
            shard=self.world.shard,
        )

    def _model(self, pretrained: str | None) -> Network:
        torch.manual_seed(self.config.seed)
        model = create_model(self.settings.network, pretrained=pretrained)
        assert isinstance(model, Network)
        self.layout = pick_layout(model, self.device, self.config.channels_last)
        return model.to(self.device, memory_format=self.layout)  # type: ignore[call-overload, no-any-return]

    def _stage(self, epoch: int, before: torch.optim.Optimizer | None) -> Stage:
        at = phase_at(self.config.phases, min(epoch, self.config.epochs - 1))
        return enter(self.config, at, self.model, self.batches, before)

    def _connect(self) -> None:
        """Let the train_step run the stage."""
        self.train_step.optimizer, self.train_step.schedule = self.stage.optimizer, self.stage.schedule
        network = self.world.wrap(self.model, sync_bn=self.config.sync_bn)
        if self.config.compile != "off":
            network.compile(mode=None if self.config.compile == "default" else self.config.compile)
        self.train_step.network = self.stage.suffix or network
        self.average.hold(self.frozen.tensors())

    @property
    def frozen(self) -> Frozen:
        """What does not move in this phase."""
        return self.stage.frozen

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return len(self.stage.batches)

    def enter(self, epoch: int) -> bool:
        """Be in the phase of an epoch; whether that is another than before."""
        if phase_at(self.config.phases, epoch).index == self.stage.at.index:
            return False
        self.stage = self._stage(epoch, self.stage.optimizer)
        self._connect()
        return True

    def keep_answers(self) -> None:
        """Compute the frozen part's answers once, if the phase has such a part; say so, or why not."""
        if self.stage.suffix is not None:
            return
        said = keep_answers(
            self.stage,
            self.config,
            self.images,
            lambda: self._batches(Sampling(), self.config.batch_size or 1),
            self.settings.preprocessing.size,
            processes=self.world.size,
            folder=self.folder,
            amp=self.amp,
            layout=self.layout,
            progress=self.console.advance,
            start=lambda count: self.console.start("frozen part", count),
            stop=self.stop,
        )
        self.console.stop()
        if said:
            self.console.say(said)
        if self.stage.batches is not self.batches:
            self._connect()

    def to_measure(self, model: Network, batches: Batches) -> tuple[nn.Module, Iterable[Batch]]:
        """What to run on what, to know what `model` answers to the images of `batches`: to the bit the same.

        Where the network that trains is measured and its frozen part's answers are kept, the rest of it on those that
        are kept of these images.
        """
        stage = self.stage
        own = model is self.model and self.average.rests
        if own and stage.suffix is not None and self.config.compile == "off":  # compiled, it computes otherwise
            if said := keep_measured(stage, batches):
                self.console.say(said)
            if (kept := stage.measured) is not None:
                return Tail(stage.suffix), kept.epoch(0)
        return model, batches.epoch(0)

    def run(
        self, epoch: int, start: int, stop: Callable[[], bool], pause: Callable[[int], None] = lambda done: None
    ) -> EpochResult | None:
        """An epoch from batch `start` on; see `run_epoch`."""
        self.train_step.mixing = self.config.mix if self.config.mix.active(epoch) else None
        self.frozen.train_mode()
        self.frozen.remember()
        return run_epoch(
            self.train_step,
            self.stage.batches,
            epoch,
            on_step=self._advance,
            stop=stop,
            meter=self.meter,
            start=start,
            size=size_at(self.config, self.settings.preprocessing.size, epoch),
            pause=pause,
        )

    def _advance(self, count: int, loss: float) -> None:
        self.console.advance(count, f"loss {loss:.3f}, {memory_mib(self.device):,} MiB")

    def close(self, epoch: int) -> None:
        """What an epoch does to the state once its last step is made."""
        self.world.same_buffers(self.model)
        self.average.after_epoch(self.config.epochs - epoch - 1)
        trace, self.meter = self.meter.trace, Meter(self.device)
        self.meter.trace = trace

    @contextmanager
    def measured(self, epoch: int) -> Iterator[None]:
        """Within it the network has the weights that are measured and kept: averaged ones, where asked for."""
        with self.average.applied():
            if self.config.average.swa_epochs and self.average.count:
                size = size_at(self.config, self.settings.preprocessing.size, epoch)
                measure_statistics(
                    self.model,
                    (batch.x for batch in self.batches.epoch(epoch, size=size)),
                    parts=self.train_step.parts,
                    layout=self.layout,
                    amp=self.amp,
                )
            self.world.same_buffers(self.model)  # an average is of each process's own statistics
            yield

    def require_finite(self, epoch: int, done: int) -> None:
        """Before anything is kept: a step may spoil the weights although its own loss was still a number.

        Raises:
            NotFiniteError: a tensor of the network or of the optimiser's memory is not finite.
        """
        moving = (*self.model.state_dict().values(), *self._remembered(), self.meter.loss_sum)
        checks = [torch.isfinite(tensor).all() for tensor in moving if tensor.is_floating_point()]
        if self.world.any(not torch.stack([check.to(self.device) for check in checks]).all())[0]:
            raise NotFiniteError(
                f"the weights must stay finite; got others at epoch {epoch + 1}, after step {done} of "
                f"{self.steps}, learning rate {self.train_step.lr:.4g}; try a lower --lr, or --amp off",
                self.meter.indices,
            )

    def _remembered(self) -> Iterator[torch.Tensor]:
        """What the optimiser remembers."""
        for slots in self.train_step.optimizer.state.values():
            yield from (value for value in slots.values() if isinstance(value, torch.Tensor))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that moves in training, as it is now and as a state holds it."""
        return state_tensors(self.model, self.train_step.optimizer, self.average)
