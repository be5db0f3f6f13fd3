"""The trainer: set-up, the epochs of a run with validation and checkpoints, and recovery from failures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from resnets.data.dataset import Dataset
from resnets.data.loader import Batches, make_batches
from resnets.errors import TrainingError
from resnets.evaluate.evaluation import Evaluation
from resnets.evaluate.loop import NotFiniteLogitsError
from resnets.evaluate.results import ResultsRow, add_result, read_results, truncate_results
from resnets.nn.batch_norm import update_bn
from resnets.nn.model import Network
from resnets.retrieve.validation import ReidValidation
from resnets.runtime.console import Console
from resnets.runtime.device import choose_kernels, pick_amp, pick_device, pick_layout
from resnets.runtime.failures import describe_failure
from resnets.runtime.processes import Processes
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.config.summary import describe_freeze
from resnets.train.loop.epoch import NotFiniteError, require_finite, run_epoch
from resnets.train.loop.interrupts import Interrupts
from resnets.train.loop.metrics import EpochMetrics, EpochResult, TrainResult
from resnets.train.loop.phase import ActivePhase
from resnets.train.loop.tasks import Validation, make_task
from resnets.train.loop.train_step import TrainStep
from resnets.train.optim.averages import WeightAverage
from resnets.train.run_folder.bundle import make_bundle
from resnets.train.run_folder.checkpoint import Checkpoint, RunProgress
from resnets.train.run_folder.checkpointer import Checkpointer, latest_checkpoint
from resnets.train.run_folder.log import epoch_line, log_event, peak_memory_mib, results_row, start_lines
from resnets.train.run_folder.paths import RunFolder
from resnets.train.run_folder.report import write_run_report
from resnets.train.run_folder.tensorboard import TensorBoardLogger
from resnets.weights.create import create_model
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.model_folder import read_bundle, save_bundle
from resnets.weights.folder.storage import current_folder

__all__ = ["Trainer"]

VALIDATION_BATCH = 128


class Trainer:
    """Trains the network of a run, from the start or from a checkpoint. `fit` runs everything.

    Whenever the process ends, even by SIGKILL, the run folder holds models that load and a checkpoint from which the
    run continues to the same bits. With several processes, all call the same methods; the main process writes.

    Args:
        dataset: the images, without those that cannot be decoded.
        checkpoint: to continue from; `None` starts from initial or pretrained weights.
    """

    def __init__(
        self,
        run: RunFolder,
        config: ResolvedConfig,
        dataset: Dataset,
        console: Console,
        *,
        processes: Processes | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.run, self.config, self.dataset, self.console = run, config, dataset, console
        self.processes = processes or Processes()
        self.progress = checkpoint.progress if checkpoint else RunProgress()
        self.interrupts = Interrupts()
        self.checkpointer = Checkpointer(run, config.save, console)
        self.device = pick_device(self.processes.local_device(config.device))
        self.amp = pick_amp(config.amp, self.device)
        loader = partial(
            make_batches,
            preprocessing=config.preprocessing,
            device=self.device,
            workers=config.workers,
            workers_kind=config.workers_kind,
            shard=self.processes.shard,
            on_message=self.log_event,
        )
        self.val_batches: Batches | None = None
        if "val" in dataset.splits:
            self.val_batches = loader(dataset.splits["val"], batch_size=VALIDATION_BATCH)
        train_loader = partial(loader, dataset.splits["train"], augment=config.augment, seed=config.seed)
        self.train_batches = train_loader(batch_size=config.update_size, sampling=config.sampling)
        self._make_plain_batches = partial(train_loader, batch_size=config.batch_size)  # each image once an epoch
        torch.manual_seed(config.seed)
        model = create_model(config.network, pretrained=None if checkpoint else config.pretrained)
        assert isinstance(model, Network)
        if config.fresh_classifier and checkpoint is None:
            model.reset_classifier(config.network.num_classes)
        if config.grad_checkpointing:
            model.set_grad_checkpointing()
        self.layout = pick_layout(model, self.device, config.channels_last)
        self.model: Network = model.to(self.device, memory_format=self.layout)  # type: ignore[call-overload]
        self.average = WeightAverage(self.model, config.average)
        self.metrics = EpochMetrics(self.device)
        self.phase = ActivePhase(config, config.phase_at(self.progress.epoch), self.model, self.train_batches)
        self.task = make_task(config, dataset, self.model)
        self.train_step = TrainStep(
            self.model,
            self.phase.optimizer,
            self.phase.schedule,
            self.task.loss,
            clip_grad=config.optim.clip_grad,
            micro_batches=config.optim.accumulate,
            average=self.average,
            amp=self.amp,
            layout=self.layout,
            seed=config.seed,
            processes=self.processes,
            on_message=self.log_event,
        )
        self._connect_phase()
        if checkpoint is not None:
            self.checkpointer.restore(checkpoint, self.train_step, self.metrics)
        self._started = time.perf_counter() - self.progress.seconds

    def fit(self) -> TrainResult:
        """Train the remaining epochs and write the report."""
        for line in start_lines(self.config, self.dataset, self.progress, self.run.path, self.device, self.amp):
            self.console.info(line)
        self.tensorboard = TensorBoardLogger(None, self.config, self.progress.epoch)
        self.processes.run_on_main(self._open_results)
        with self._kernels():
            with self.interrupts:
                try:
                    if not self.progress.step:  # so that the first epoch can be resumed and rolled back, too
                        self.save_checkpoint()
                    while not self.is_finished() and not self.processes.any(self.is_interrupted())[0]:
                        try:
                            self.fit_epoch()
                        except NotFiniteError as error:
                            self.roll_back(error)
                finally:
                    self.console.stop()
                    self.tensorboard.close()
            return self._finish()

    def _kernels(self) -> AbstractContextManager[None]:
        return choose_kernels(self.device, deterministic=self.config.deterministic)

    def fit_epoch(self) -> None:
        """Train one epoch, validate, and write the models and a checkpoint."""
        epoch, started = self.progress.epoch, time.perf_counter()
        try:
            trained = self.train_epoch(epoch, self.checkpoint_if_due)
            if trained is None:  # interrupted; a checkpoint was written, unless no step was made
                return
            require_finite(self.train_step, self.metrics, epoch, len(self.phase.batches))
            self.phase.frozen.verify()
            self.end_epoch(epoch)
            with self.averaged_weights(epoch):
                evaluation = self.validate(self.model)
                row, is_best = self.save_models(trained, evaluation, time.perf_counter() - started)
            self.save_checkpoint()
        except (NotFiniteError, BrokenPipeError):
            raise
        except Exception as error:
            failure = describe_failure(error)
            if failure is None:
                raise
            if isinstance(error, NotFiniteLogitsError):
                failure = f"training diverged, try a lower --lr; {failure}"
            raise TrainingError(f"{failure}; {self.run.describe_kept(epoch)}") from error
        self.console.info(epoch_line(row, self.config.epochs, is_best, self.progress.seconds))
        if self.is_out_of_patience():
            best = self.progress.best_epoch
            self.log_event(f"early stopping after epoch {epoch + 1}: no better validation since epoch {best}")

    def enter_phase(self, epoch: int) -> None:
        """Enter the phase of `epoch`, unless the run is in it already."""
        phase = self.config.phase_at(epoch)
        if phase == self.phase.phase:
            return
        self.phase = ActivePhase(self.config, phase, self.model, self.train_batches, self.phase.optimizer)
        self._connect_phase()
        self.console.info(f"epoch {epoch + 1}: {describe_freeze(phase)}, peak learning rate {phase.lr:g}")

    def _connect_phase(self) -> None:
        """Make the train step use the phase's optimizer, schedule and part of the network."""
        self.train_step.optimizer, self.train_step.schedule = self.phase.optimizer, self.phase.schedule
        network = self.processes.wrap_model(self.task.network(self.model), sync_bn=self.config.sync_bn)
        if self.config.compile != "off":
            network.compile(mode=None if self.config.compile == "default" else self.config.compile)
        self.train_step.network = self.phase.suffix or network
        self.average.skip_frozen(self.phase.frozen.tensors())

    def cache_features(self) -> None:
        """Compute the features of the frozen part once, if the phase allows it; later calls do nothing."""
        images, folder = self.dataset.splits["train"], self.run.checkpoints
        batches, stop = self._make_plain_batches, self.is_interrupted
        if self.phase.cache_features(images, batches, self.train_step, folder, self.console, stop):
            self._connect_phase()

    def train_epoch(self, epoch: int, after_step: Callable[[int], bool] = lambda done: False) -> EpochResult | None:
        """Train an epoch, counted from 0, or the rest of it after a resume; `None` if stopped. See `run_epoch`."""
        self.enter_phase(epoch)
        self.cache_features()
        if self.is_interrupted() and self.processes.world_size == 1:
            return None  # perhaps while features were cached, without which the steps would differ
        bounds = self.phase.batches.bounds
        done = self.progress.batch
        images = bounds[done - 1][1] if done else 0
        self.console.start(f"epoch {epoch + 1}/{self.config.epochs}", bounds[-1][1], initial=images)
        self.train_step.mixing = self.config.mix if self.config.mix.active(epoch) else None
        self.phase.frozen.train_mode()
        self.phase.frozen.record_fingerprint()
        try:
            return run_epoch(
                self.train_step,
                self.phase.batches,
                epoch,
                metrics=self.metrics,
                start=done,
                size=self.config.train_size(epoch),
                on_progress=self.show_progress,
                after_step=after_step,
            )
        finally:
            self.console.stop()

    def show_progress(self, images: int, loss: float) -> None:
        """Advance the progress bar by a number of images."""
        self.console.advance(images, f"loss {loss:.3f}, {peak_memory_mib(self.device):,} MiB")

    def checkpoint_if_due(self, batch: int) -> bool:
        """Write a checkpoint within an epoch, after `batch` batches, if one is due; return whether to stop."""
        stop, late = self.processes.any_nonblocking(self.is_interrupted(), self.checkpointer.overdue())
        if stop or late or self.checkpointer.due(self.train_step.step):
            require_finite(self.train_step, self.metrics, self.progress.epoch, batch)
            self.progress = replace(self.progress, batch=batch, seconds=self._seconds())
            self.save_checkpoint(required=stop)
        return stop

    def end_epoch(self, epoch: int) -> None:
        """Update the averaged weights and reset the metrics after the last step of an epoch."""
        self.processes.broadcast_buffers(self.model)
        self.average.after_epoch(self.config.epochs - epoch - 1)
        self.metrics = EpochMetrics(self.device, self.metrics.trace)

    @contextmanager
    def averaged_weights(self, epoch: int) -> Iterator[None]:
        """Within it, the network has the weights to validate and save: averaged ones, where an average is kept."""
        with self.average.applied():
            if self.config.average.swa_epochs and self.average.count:
                update_bn(
                    self.model,
                    (batch.x for batch in self.train_batches.epoch(epoch, size=self.config.train_size(epoch))),
                    micro_batches=self.train_step.micro_batches,
                    layout=self.layout,
                    amp=self.amp,
                )
            self.processes.broadcast_buffers(self.model)  # the processes have different statistics
            yield

    def validate(self, model: Network) -> Validation | None:
        """Evaluate on the validation split, in float32 as `resnets val` does; `None` if there is no such split."""
        if self.val_batches is None:
            return None
        inputs: tuple[nn.Module, Batches] = model, self.val_batches
        # Cached features are those of the frozen part's own weights, and a compiled network rounds differently.
        if model is self.model and self.average.frozen_is_current and self.config.compile == "off":
            inputs = self.phase.cached_validation(self.val_batches, self.console) or inputs
        network, batches = inputs
        return self.task.validate(network, batches, self.device, self.processes.all_gather)

    def save_models(
        self, trained: EpochResult, evaluation: Validation | None, seconds: float
    ) -> tuple[ResultsRow, bool]:
        """Write the models and the results of an epoch, before its checkpoint; return the row, and if it is best."""
        epoch, score = self.progress.epoch + 1, (-1.0, -float("inf")) if evaluation is None else evaluation.score
        is_best = evaluation is None or score > self.progress.best_score
        self.progress = replace(self.progress, epoch=epoch, batch=0, seconds=self._seconds())
        if is_best:
            self.progress = replace(self.progress, best_epoch=epoch, best_score=score)
        row = results_row(epoch, trained, evaluation, seconds, self.device, reid=self.config.task == "reid")

        def write() -> None:
            bundle = self._make_bundle(evaluation)
            if is_best:
                save_bundle(bundle, self.run.best)
            save_bundle(bundle, self.run.last)
            add_result(self.run.results, row)
            self.tensorboard.log_epoch(row)

        self.processes.run_on_main(write)
        return row, is_best

    def _make_bundle(self, evaluation: Validation | None) -> Bundle:
        return make_bundle(self.model, self.config, self.dataset, self.progress, self.amp, evaluation)

    def save_checkpoint(self, *, required: bool = True) -> None:
        """Write a checkpoint; where it is not `required`, a failure is a warning."""
        self.progress = self.checkpointer.save(self.progress, self.train_step, self.metrics, required=required)
        self.processes.discard_pending()  # that a checkpoint was late

    def roll_back(self, error: NotFiniteError) -> None:
        """Return to the last checkpoint and halve the learning rate.

        Raises:
            TrainingError: after more than `rollbacks` times, or without a checkpoint.
        """
        names = [self.dataset.splits["train"].name(int(index)) for index in error.indices[:8]]
        self._write_event(f"{error}; first images of the batch: {', '.join(names)}")
        times = self.progress.rollbacks + 1
        checkpoint = self.processes.run_on_main(lambda: latest_checkpoint(self.run, self.console))
        if times > self.config.save.rollbacks or checkpoint is None:
            raise TrainingError(f"{error}; {self.run.describe_kept(self.progress.epoch)}") from error
        self.progress = replace(checkpoint.progress, rollbacks=times)
        self.enter_phase(self.progress.epoch)
        self.checkpointer.restore(checkpoint, self.train_step, self.metrics)
        self.train_step.lr_scale = 0.5**times
        # Saved at once for a run that is killed now; with the losses before it, for `verify`.
        self.metrics.trace = list(checkpoint.tensors["trace"])
        self.save_checkpoint(required=False)
        self.log_event(
            f"{error}; went back to step {self.progress.step} of epoch {self.progress.epoch + 1}, "
            f"with {self.train_step.lr_scale:g} of the learning rate"
        )

    def replay(self, until: int) -> list[torch.Tensor]:
        """Train up to step `until` without writing anything; returns the mean loss of each step."""
        with self._kernels():
            while self.train_step.step < until:
                epoch = self.progress.epoch
                if self.train_epoch(epoch, lambda done: self.train_step.step >= until) is None:
                    break
                self.end_epoch(epoch)
                self.progress = replace(self.progress, epoch=epoch + 1, batch=0)
        return self.metrics.trace

    def is_interrupted(self) -> bool:
        """Whether this process received a signal to stop."""
        return self.interrupts.caught is not None

    def is_finished(self) -> bool:
        """Whether no epoch is left to train."""
        return self.progress.epoch >= self.config.epochs or self.is_out_of_patience()

    def is_out_of_patience(self) -> bool:
        """Whether validation has not improved for `patience` epochs, counted anew in each phase."""
        patience, done = self.config.save.patience, self.progress.epoch
        if patience is None or "val" not in self.dataset.splits or done >= self.config.epochs:
            return False
        return done - max(self.progress.best_epoch, self.config.phase_at(done).first_epoch) >= patience

    def log_event(self, text: str) -> None:
        """Print a message and add it to the events of the run folder."""
        self.console.info(text)
        self._write_event(text)

    def _write_event(self, text: str) -> None:
        self.processes.run_on_main(lambda: log_event(self.run.events, text))

    def _seconds(self) -> float:
        return time.perf_counter() - self._started

    def _open_results(self) -> None:
        if self.progress.epoch and not self.run.results.exists():
            self.console.warning(f"warning: results.csv is missing; it begins again after epoch {self.progress.epoch}")
        truncate_results(self.run.results, self.progress.epoch)
        self.run.report.unlink(missing_ok=True)  # a report marks a finished run
        if self.config.tensorboard:
            self.tensorboard = TensorBoardLogger(self.run.tensorboard, self.config, self.progress.epoch)

    def _finish(self) -> TrainResult:
        """Evaluate the best model and write the report."""

        def read_best() -> Bundle:
            if not current_folder(self.run.best).exists():  # interrupted in the first epoch
                save_bundle(self._make_bundle(None), self.run.best)
            return read_bundle(self.run.best)

        best = self.processes.run_on_main(read_best)
        caught = self.processes.all_gather(self.interrupts.caught)
        evaluation = self.validate(best.model.to(self.device)) if self.progress.epoch else None
        results = self.processes.run_on_main(lambda: read_results(self.run.results))
        self.processes.run_on_main(
            lambda: write_run_report(self.run, self.config, self.dataset, evaluation, results, self.progress)
        )
        return TrainResult(
            folder=self.run.path,
            best_epoch=self.progress.best_epoch,
            evaluation=evaluation if isinstance(evaluation, Evaluation) else None,
            reid=evaluation if isinstance(evaluation, ReidValidation) else None,
            task=self.config.task,
            results=results,
            seconds=self.progress.seconds,
            stopped=next((one for one in caught if one is not None), None),
        )
