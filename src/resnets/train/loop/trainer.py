"""A run from inside: what is left on the disk at any moment can be loaded and gone on with, whatever happens."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from resnets.data.batches import Batches
from resnets.data.dataset import Dataset
from resnets.data.loader import make_batches
from resnets.errors import ResnetsError, TrainingError
from resnets.evaluate.evaluation import Evaluation
from resnets.evaluate.loop import evaluate_model
from resnets.evaluate.results import ResultsRow, add_result, read_results, truncate_results
from resnets.nn.model import Network
from resnets.runtime.console import Console, counted
from resnets.runtime.processes import World
from resnets.train.config.resolve import Settings
from resnets.train.config.summary import freeze_words
from resnets.train.freeze.phases import phase_at
from resnets.train.loop.engine import Engine
from resnets.train.loop.epoch import EpochResult, NotFiniteError
from resnets.train.loop.interrupts import Interrupts
from resnets.train.run_folder.checkpoint import RunProgress, State
from resnets.train.run_folder.folder import RunFolder
from resnets.train.run_folder.keeper import Keeper
from resnets.train.run_folder.record import announce, describe_event, epoch_line, make_bundle, make_row
from resnets.train.run_folder.report import write_summary
from resnets.train.run_folder.tracker import Tracker
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.model_folder import read_bundle, save_bundle
from resnets.weights.folder.storage import current_folder

__all__ = ["Trainer", "TrainResult"]

VALIDATION_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run left.

    Args:
        folder: the run folder; `best` in it is the model to use.
        best_epoch: counted from 1.
        evaluation: the best model on the validation images, `None` where the data has none.
        results: a row an epoch.
        seconds: of training and validation.
        stopped: the signal that ended the run early, or `None`.
    """

    folder: Path
    best_epoch: int
    evaluation: Evaluation | None
    results: list[ResultsRow]
    seconds: float
    stopped: signal.Signals | None = None

    @property
    def best(self) -> Path:
        """The best model's folder, to be given to `load`."""
        return self.folder / "best"


class Trainer:
    """One run, from wherever it stands to its report.

    Args:
        run: its folder.
        settings: what it does.
        dataset: the images, those that do not decode left out.
        console: where its progress goes.
        world: the processes that train it.
        state: where it stands; `None` for its very start.
    """

    def __init__(
        self,
        run: RunFolder,
        settings: Settings,
        dataset: Dataset,
        console: Console,
        *,
        world: World | None = None,
        state: State | None = None,
    ) -> None:
        self.run, self.settings, self.dataset, self.console = run, settings, dataset, console
        self.world, self.config = world or World(), settings.config
        self.interrupts = Interrupts()
        self.keeper = Keeper(run, self.config.save, console)
        self.progress = state.progress if state else RunProgress()
        self.engine = Engine(
            settings,
            dataset,
            self.world,
            console,
            run.state,
            epoch=self.progress.epoch,
            fresh=state is None,
            say=self._event,
            stop=self._stopped,
        )
        self.validation: Batches | None = None
        if "val" in dataset.splits:
            self.validation = make_batches(
                dataset.splits["val"],
                settings.preprocessing,
                batch_size=VALIDATION_BATCH,
                device=self.engine.device,
                workers=self.config.workers,
                kind=self.config.workers_kind,
                shard=self.world.shard,
            )
        if state is not None:
            self.keeper.restore(state, self.engine)
        self._began = time.perf_counter() - self.progress.seconds

    def check_unfinished(self) -> None:
        """Raise TrainingError if there is nothing left to do: one that was killed at its very end lacks its report."""
        if not self.run.report.exists():
            return
        if self.progress.epoch >= self.config.epochs:
            raise TrainingError(
                f"only an unfinished run can be resumed; {self.run.path} has done its "
                f"{counted(self.config.epochs, 'epoch')}; train anew with more --epochs"
            )
        if self._out_of_patience():
            raise TrainingError(
                f"only an unfinished run can be resumed; {self.run.path} ended after {self.config.save.patience} "
                "epochs without a better validation; train anew with more --set patience=N"
            )

    def _done(self) -> bool:
        return self.progress.epoch >= self.config.epochs or self._out_of_patience()

    def _out_of_patience(self) -> bool:
        """Too many epochs without a better one, counted anew in every phase: what has just unfrozen gets its chance."""
        patience, done = self.config.save.patience, self.progress.epoch
        if patience is None or "val" not in self.dataset.splits or done >= self.config.epochs:
            return False
        return done - max(self.progress.best_epoch, phase_at(self.config.phases, done).first) >= patience

    def go(self) -> TrainResult:
        """The epochs that are left, then the report."""
        engine = self.engine
        for line in announce(self.settings, self.dataset, self.progress, self.run.path, engine.device, engine.amp):
            self.console.say(line)
        self.tracker = Tracker(None, self.settings, self.progress.epoch)
        self.world.from_first(self._open_records)
        with self.interrupts:
            try:
                if not self.progress.step:  # something to go back to, or on with, from the start
                    self._save()
                engine.keep_answers()
                while not self._done() and not self.world.any(self._stopped())[0]:
                    try:
                        self._epoch()
                    except NotFiniteError as error:
                        self._go_back(error)
                    if self._out_of_patience():
                        self._event(
                            f"no better validation since epoch {self.progress.best_epoch}: "
                            f"ended after epoch {self.progress.epoch}"
                        )
            finally:
                self.console.stop()
                self.tracker.close()
        self.world.from_first(self._leave_a_model)
        caught = self.world.gather(self.interrupts.caught)
        return self._finish(next((one for one in caught if one is not None), None))

    def _open_records(self) -> None:
        truncate_results(self.run.results, self.progress.epoch)
        self.run.report.unlink(missing_ok=True)  # of a run that was stopped; its presence says that all is done
        if self.config.tensorboard:
            self.tracker = Tracker(self.run.tensorboard, self.settings, self.progress.epoch)

    def _leave_a_model(self) -> None:
        """Of a run that was stopped in its first epoch."""
        if not current_folder(self.run.best).exists():
            save_bundle(self._bundle(None), self.run.best)

    def replay(self, until: int) -> list[torch.Tensor]:
        """Train up to step `until` of the run and write nothing.

        Returns:
            The mean loss of every step.
        """
        engine = self.engine
        engine.keep_answers()
        while engine.train_step.step < until:
            epoch = self._enter_epoch()
            if engine.run(epoch, self.progress.batch, lambda: engine.train_step.step >= until) is None:
                break
            engine.close(epoch)
            self.progress = replace(self.progress, epoch=epoch + 1, batch=0)
        return engine.meter.trace

    def _stopped(self) -> bool:
        return self.interrupts.caught is not None

    def _save(self, *, needed: bool = True) -> None:
        self.progress = self.keeper.save(self.progress, self.engine, needed=needed)
        self.world.forget()  # that it was late

    def _epoch(self) -> None:
        epoch, started = self._enter_epoch(), time.perf_counter()
        if self._stopped() and self.world.size == 1:  # perhaps while a cache was filled, without which steps differ
            return
        with self._naming_what_stays():
            trained = self._train(epoch)
            self.console.stop()
            if trained is None:
                return
            self.engine.require_finite(epoch, self.engine.steps)
            self.engine.frozen.verify()
            self.engine.close(epoch)
            with self.engine.measured(epoch):
                evaluation = self._validate(self.engine.model)
                row, best = self._keep_models(trained, evaluation, time.perf_counter() - started)
            self._save()
        self.console.say(epoch_line(row, self.config.epochs, best, self.progress.seconds))

    def _enter_epoch(self) -> int:
        """The epoch that comes next, counted from 0, in the phase that it belongs to."""
        epoch = self.progress.epoch
        if self.engine.enter(epoch):
            phase = self.engine.stage.at.phase
            self.console.say(
                f"epoch {epoch + 1}: {freeze_words(phase)}, peak learning rate {phase.lr or self.config.optim.lr:g}"
            )
            self.engine.keep_answers()
        return epoch

    def _train(self, epoch: int) -> EpochResult | None:
        engine, bounds = self.engine, self.engine.stage.batches.bounds
        self.console.start(f"epoch {epoch + 1}/{self.config.epochs}", bounds[-1][1])
        if done := self.progress.batch:
            self.console.skip(bounds[done - 1][1])
        leaving = False

        def pause(done: int) -> None:
            nonlocal leaving
            leaving, late = self.world.soon(self._stopped(), self.keeper.late())
            if leaving or late or self.keeper.due(engine.train_step.step):
                engine.require_finite(epoch, done)
                self.progress = replace(self.progress, batch=done, seconds=self._seconds())
                self._save(needed=leaving)

        return engine.run(epoch, self.progress.batch, lambda: leaving, pause)

    @contextmanager
    def _naming_what_stays(self) -> Iterator[None]:
        """What goes wrong within an epoch leaves the state before it."""
        try:
            yield
        except NotFiniteError:
            raise
        except ResnetsError as error:
            raise TrainingError(f"{error}; {self._what_stays()}") from error

    def _what_stays(self) -> str:
        done = self.progress.epoch
        return f"the models and state after epoch {done} stay in {self.run.path}" if done else "no epoch was done"

    def _go_back(self, error: NotFiniteError) -> None:
        """To the last good state with half the learning rate, a few times; then it is an error."""
        self.console.stop()
        names = [self.dataset.splits["train"].name(int(place)) for place in error.indices[:8]]
        text = f"{error}; first images of the batch: {', '.join(names)}"
        self.world.from_first(lambda: describe_event(self.run.events, text))
        times = self.progress.rollbacks + 1
        state = self.world.from_first(self.keeper.newest)
        if times > self.config.save.rollbacks or state is None:
            raise TrainingError(f"{error}; {self._what_stays()}") from error
        self.progress = replace(state.progress, rollbacks=times)
        engine = self.engine
        engine.enter(self.progress.epoch)
        self.keeper.restore(state, engine)
        engine.keep_answers()  # of the weights that are good
        engine.train_step.lr_scale = 0.5**times
        # On the disk at once, so that a run killed now goes on at the lower rate; with the losses before it, to verify.
        engine.meter.trace = list(state.tensors["trace"])
        self._save(needed=False)
        self._event(
            f"{error}; went back to step {self.progress.step} of epoch {self.progress.epoch + 1}, "
            f"with {engine.train_step.lr_scale:g} of the learning rate"
        )

    def _event(self, text: str) -> None:
        """Say what happened, and leave it in the run folder."""
        self.console.say(text)
        self.world.from_first(lambda: describe_event(self.run.events, text))

    def _keep_models(
        self, trained: EpochResult, evaluation: Evaluation | None, seconds: float
    ) -> tuple[ResultsRow, bool]:
        """The models and the row of an epoch on the disk; its state comes after them, and never promises too much."""
        before, epoch = self.progress, self.progress.epoch + 1
        best = evaluation is None or (evaluation.top1, -evaluation.loss) > (before.best_top1, -before.best_loss)
        self.progress = replace(before, epoch=epoch, batch=0, seconds=self._seconds())
        if best:
            self.progress = replace(
                self.progress,
                best_epoch=epoch,
                best_top1=evaluation.top1 if evaluation else -1.0,
                best_loss=evaluation.loss if evaluation else float("inf"),
            )
        row = make_row(epoch, trained, evaluation, seconds, self.engine.device)

        def write() -> None:
            bundle = self._bundle(evaluation)
            if best:
                save_bundle(bundle, self.run.best)
            save_bundle(bundle, self.run.last)
            add_result(self.run.results, row)
            self.tracker.epoch(row)

        self.world.from_first(write)
        return row, best

    def _bundle(self, evaluation: Evaluation | None) -> Bundle:
        engine = self.engine
        return make_bundle(engine.model, self.settings, self.dataset, self.progress, engine.amp, evaluation)

    def _seconds(self) -> float:
        return time.perf_counter() - self._began

    def _validate(self, model: Network) -> Evaluation | None:
        """In float32 whatever the training's precision, so that the figure is the one that `val` prints."""
        if self.validation is None:
            return None
        network, batches = self.engine.to_measure(model, self.validation)
        return evaluate_model(
            network, batches, self.dataset.classes, device=self.engine.device, gather=self.world.gather
        )

    def _finish(self, stopped: signal.Signals | None) -> TrainResult:
        best = self.world.from_first(lambda: read_bundle(self.run.best))
        evaluation = self._validate(best.model.to(self.engine.device)) if self.progress.epoch else None
        results = self.world.from_first(lambda: read_results(self.run.results))
        self.world.from_first(
            lambda: write_summary(self.run, self.settings, self.dataset, evaluation, results, self.progress)
        )
        return TrainResult(
            folder=self.run.path,
            best_epoch=self.progress.best_epoch,
            evaluation=evaluation,
            results=results,
            seconds=self.progress.seconds,
            stopped=stopped,
        )
