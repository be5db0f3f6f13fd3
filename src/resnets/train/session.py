"""A run from inside: what is left on the disk after every epoch can be loaded, whatever happens on the way."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch

from resnets.data.batches import Batches
from resnets.data.dataset import Dataset
from resnets.data.loading import make_batches
from resnets.errors import ResnetsError, TrainingError
from resnets.evaluate.evaluation import Evaluation
from resnets.evaluate.results import Row, add_result, keep_results, read_results
from resnets.evaluate.run import evaluate_model
from resnets.nn.model import Network
from resnets.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from resnets.train.folder import RunFolder
from resnets.train.interrupt import Interrupts
from resnets.train.layout import pick_layout
from resnets.train.loop import Stepper, pick_amp, pick_device, run_epoch
from resnets.train.optim import Schedule, build_optimizer
from resnets.train.progress import Display, counted, duration
from resnets.train.settings import Settings
from resnets.train.summary import write_summary
from resnets.version import __version__
from resnets.weights.bundle import Bundle, read_folder
from resnets.weights.create import create_model

__all__ = ["Session", "TrainResult"]

VALIDATION_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run left.

    Args:
        folder: the run folder; `best` in it is the model to use.
        best_epoch: counted from 1.
        evaluation: the best model on the validation pictures, `None` where the data has none.
        results: a row an epoch.
        seconds: of training and validation.
        stopped: the signal that ended the run early, or `None`.
    """

    folder: Path
    best_epoch: int
    evaluation: Evaluation | None
    results: list[Row]
    seconds: float
    stopped: signal.Signals | None = None

    @property
    def best(self) -> Path:
        """The best model's folder, to be given to `load`."""
        return self.folder / "best"


class Session:
    """One run from its first or a later epoch to its report.

    Args:
        run: its folder.
        settings: what it does.
        dataset: the pictures, those that do not decode left out.
        display: where its progress goes.
        fresh: whether weights are to be made; a checkpoint has them already, see `restore`.
    """

    def __init__(
        self, run: RunFolder, settings: Settings, dataset: Dataset, display: Display, *, fresh: bool = True
    ) -> None:
        self.run, self.settings, self.dataset, self.display = run, settings, dataset, display
        config = self.config = settings.config
        self.device = pick_device(config.device)
        self.amp = pick_amp(config.amp, self.device)
        self.batches = make_batches(
            dataset.splits["train"],
            settings.contract,
            augment=settings.augment,
            batch_size=config.batch_size or 1,
            seed=config.seed,
            device=self.device,
            workers=config.workers,
        )
        self.validation: Batches | None = None
        if "val" in dataset.splits:
            self.validation = make_batches(
                dataset.splits["val"],
                settings.contract,
                batch_size=VALIDATION_BATCH,
                device=self.device,
                workers=config.workers,
            )
        self.model = self._model(config.pretrained if fresh else None)  # a checkpoint has the weights
        self.stepper = Stepper(
            self.model,
            build_optimizer(self.model, momentum=config.momentum, weight_decay=config.weight_decay),
            Schedule(
                kind=config.sched,
                peak=config.lr or 0.0,
                warmup_steps=min(
                    round(config.warmup_epochs * len(self.batches)), len(self.batches) * config.epochs // 2
                ),
                total_steps=len(self.batches) * config.epochs,
            ),
            smoothing=config.smoothing,
            amp=self.amp,
            layout=self.layout,
            seed=config.seed,
        )
        self.progress = Progress()

    def _model(self, pretrained: str | None) -> Network:
        torch.manual_seed(self.config.seed)
        model = create_model(self.settings.network, pretrained=pretrained)
        assert isinstance(model, Network)
        self.layout = pick_layout(model, self.device, self.config.channels_last)
        return model.to(self.device, memory_format=self.layout)  # type: ignore[call-overload, no-any-return]

    def restore(self) -> None:
        """Take weights, optimiser and place from the run's checkpoint."""
        self.progress = load_checkpoint(self.run.checkpoint, self.model, self.stepper.optimizer)
        if self.progress.epoch >= self.config.epochs:
            raise TrainingError(
                f"only an unfinished run can be resumed; {self.run.path} has done its "
                f"{counted(self.config.epochs, 'epoch')}; train anew with more --epochs"
            )
        self.stepper.step = self.progress.step
        keep_results(self.run.results, self.progress.epoch)

    def go(self) -> TrainResult:
        """The epochs that are left, then the report."""
        self._announce()
        with Interrupts() as interrupts:
            try:
                while self.progress.epoch < self.config.epochs and not interrupts.caught:
                    self._epoch(interrupts)
            finally:
                self.display.stop()
        if not self.run.best.exists():  # stopped in the first epoch: what there is can be loaded all the same
            self._bundle(None).save(self.run.best)
        return self._finish(interrupts.caught)

    def _epoch(self, interrupts: Interrupts) -> None:
        epoch, started = self.progress.epoch, time.perf_counter()
        pictures = len(self.dataset.splits["train"])
        self.display.start(f"epoch {epoch + 1}/{self.config.epochs}", pictures)
        with self._naming_what_stays():
            trained = run_epoch(
                self.stepper,
                self.batches,
                epoch,
                on_step=lambda count, loss: self.display.advance(count, f"loss {loss:.3f}"),
                stop=lambda: interrupts.caught is not None,
            )
            self.display.stop()
            if trained is None:
                return
            evaluation = self._validate(self.model)
        row: Row = {
            "epoch": epoch + 1,
            "lr": trained.lr,
            "train_loss": trained.loss,
            "train_top1": trained.top1,
            "val_loss": evaluation.loss if evaluation else None,
            "val_top1": evaluation.top1 if evaluation else None,
            "val_top5": evaluation.topk if evaluation and evaluation.k == 5 else None,
            "images_per_second": trained.images_per_second,
            "seconds": time.perf_counter() - started,
        }
        self._record(row, evaluation, time.perf_counter() - started)

    @contextmanager
    def _naming_what_stays(self) -> Iterator[None]:
        """What goes wrong within an epoch leaves the state after the one before it."""
        try:
            yield
        except ResnetsError as error:
            done = self.progress.epoch
            stays = f"the models and state after epoch {done} stay in {self.run.path}" if done else "no epoch was done"
            raise TrainingError(f"{error}; {stays}") from error

    def _record(self, row: Row, evaluation: Evaluation | None, seconds: float) -> None:
        """Everything that an epoch leaves on the disk; the checkpoint last, so that it never promises too much."""
        before = self.progress
        epoch = before.epoch + 1
        best = evaluation is None or (evaluation.top1, -evaluation.loss) > (before.best_top1, -before.best_loss)
        self.progress = replace(before, epoch=epoch, step=self.stepper.step, seconds=before.seconds + seconds)
        if best:
            self.progress = replace(
                self.progress,
                best_epoch=epoch,
                best_top1=evaluation.top1 if evaluation else -1.0,
                best_loss=evaluation.loss if evaluation else float("inf"),
            )
        bundle = self._bundle(evaluation)
        if best:
            bundle.save(self.run.best)
        bundle.save(self.run.last)
        add_result(self.run.results, row)
        save_checkpoint(self.run.checkpoint, self.model, self.stepper.optimizer, self.progress)
        self._say_epoch(row, best)

    def _validate(self, model: Network) -> Evaluation | None:
        """In float32 whatever the training's precision, so that the figure is the one that `val` prints."""
        if self.validation is None:
            return None
        return evaluate_model(model, self.validation.epoch(0), self.dataset.classes, device=self.device)

    def _bundle(self, evaluation: Evaluation | None) -> Bundle:
        config = self.config
        figures: dict[str, Any] = {"epochs_done": self.progress.epoch}
        if evaluation is not None:
            figures |= {"val_top1": evaluation.top1, "val_loss": evaluation.loss, "val_images": len(evaluation)}
        return Bundle(
            model=self.model,
            preprocessing=self.settings.contract,
            classes=self.dataset.classes,
            name=config.model or "custom",
            provenance={
                "data": self.dataset.name,
                "train_images": len(self.dataset.splits["train"]),
                "recipe": {
                    "epochs": config.epochs,
                    "batch_size": config.batch_size,
                    "lr": config.lr,
                    "weight_decay": config.weight_decay,
                    "smoothing": config.smoothing,
                    "pretrained": config.pretrained,
                    "amp": str(self.amp).removeprefix("torch.") if self.amp else "off",
                },
                "figures": figures,
                "seed": config.seed,
                "date": date.today().isoformat(),
                "resnets": __version__,
                "torch": torch.__version__.partition("+")[0],
            },
        )

    def _announce(self) -> None:
        splits = ", ".join(f"{len(images):,} {split}" for split, images in self.dataset.splits.items())
        size = "x".join(map(str, self.settings.contract.size))
        precision = str(self.amp).removeprefix("torch.") if self.amp else "float32"
        config = self.config
        self.display.say(
            f"{config.model} on {self.dataset.name}: {len(self.dataset.classes)} classes, {splits}; {size} pixels\n"
            f"{counted(config.epochs, 'epoch')}, batch {config.batch_size}, "
            f"peak learning rate {config.lr:g}, {precision} on {self.device}; run folder {self.run.path}"
        )
        for note in self.settings.notes:
            self.display.say(f"note: {note}")
        if config.pretrained:
            self.display.say(f"starting from {config.pretrained}")
        if self.progress.epoch:
            self.display.say(f"resuming after epoch {self.progress.epoch}")

    def _say_epoch(self, row: Row, best: bool) -> None:
        left = self.progress.seconds / self.progress.epoch * (self.config.epochs - self.progress.epoch)
        parts = [
            f"epoch {self.progress.epoch:>{len(str(self.config.epochs))}}/{self.config.epochs}",
            f"loss {row['train_loss']:.3f}",
            f"train {100 * (row['train_top1'] or 0):.2f} %",
        ]
        if row["val_top1"] is not None:
            parts.append(f"val {100 * row['val_top1']:.2f} %" + (" best" if best else "     "))
        parts.append(f"{row['images_per_second']:,.0f} images/s")
        parts.append(f"{duration(left)} left" if self.progress.epoch < self.config.epochs else "done")
        self.display.say("  ".join(parts))

    def _finish(self, stopped: signal.Signals | None) -> TrainResult:
        best = read_folder(self.run.best)
        evaluation = self._validate(best.model.to(self.device)) if self.progress.epoch else None
        results = read_results(self.run.results)
        result = TrainResult(
            folder=self.run.path,
            best_epoch=self.progress.best_epoch,
            evaluation=evaluation,
            results=results,
            seconds=self.progress.seconds,
            stopped=stopped,
        )
        write_summary(self.run, self.settings, self.dataset, evaluation, results, self.progress)
        return result
