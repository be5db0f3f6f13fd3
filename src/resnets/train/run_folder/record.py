"""What a run says of itself: to the person who watches, and in the models that it leaves."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path
from typing import Any

import torch

from resnets.data.dataset import Dataset
from resnets.evaluate.evaluation import Evaluation
from resnets.evaluate.results import ResultsRow
from resnets.nn.model import Network
from resnets.runtime.console import counted, duration
from resnets.train.config.resolve import Settings
from resnets.train.config.summary import phase_rows, recipe_words
from resnets.train.config.train_config import TrainConfig
from resnets.train.freeze.phases import NONE
from resnets.train.loop.epoch import EpochResult
from resnets.train.run_folder.checkpoint import RunProgress
from resnets.version import __version__
from resnets.weights.folder.bundle import Bundle

__all__ = ["announce", "describe_event", "epoch_line", "make_bundle", "make_row", "memory_mib", "size_at"]


def make_bundle(
    model: Network,
    settings: Settings,
    dataset: Dataset,
    progress: RunProgress,
    amp: torch.dtype | None,
    evaluation: Evaluation | None,
) -> Bundle:
    """The model as it stands, with where it comes from."""
    config = settings.config
    figures: dict[str, Any] = {"epochs_done": progress.epoch}
    if evaluation is not None:
        figures |= {"val_top1": evaluation.top1, "val_loss": evaluation.loss, "val_images": len(evaluation)}
    recipe = {
        "recipe": config.recipe,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "opt": config.optim.opt,
        "lr": config.optim.lr,
        "weight_decay": config.optim.weight_decay,
        "sched": config.schedule.sched,
        "loss": config.loss.loss,
        "label_smoothing": config.loss.label_smoothing,
        "ema": config.average.ema or None,
        "freeze": None if config.freeze.freeze == NONE else config.freeze.freeze,
        "pretrained": config.pretrained,
        "amp": _precision(amp),
    }
    return Bundle(
        model=model,
        preprocessing=settings.preprocessing,
        classes=dataset.classes,
        name=config.model or "custom",
        provenance={
            "data": dataset.name,
            "train_images": len(dataset.splits["train"]),
            "recipe": {key: value for key, value in recipe.items() if value is not None or key == "pretrained"},
            "training": recipe_words(settings),
            **({"phases": phases} if (phases := phase_rows(config)) else {}),
            "metrics": figures,
            "seed": config.seed,
            "date": date.today().isoformat(),
            "resnets": __version__,
            "torch": torch.__version__.partition("+")[0],
        },
    )


def announce(
    settings: Settings,
    dataset: Dataset,
    progress: RunProgress,
    folder: Path,
    device: torch.device,
    amp: torch.dtype | None,
) -> Iterator[str]:
    """Lines that say what is about to happen."""
    config = settings.config
    splits = ", ".join(f"{len(images):,} {split}" for split, images in dataset.splits.items())
    size = "x".join(map(str, settings.preprocessing.size))
    yield f"{config.model} on {dataset.name}: {len(dataset.classes)} classes, {splits}; {size} pixels"
    yield (
        f"{counted(config.epochs, 'epoch')}, batch {config.batch_size}, peak learning rate {config.optim.lr:g}, "
        f"{_precision(amp, 'float32')} on {device}; run folder {folder}"
    )
    for note in settings.notes:
        yield f"note: {note}"
    if config.recipe:
        yield f"recipe {config.recipe}"
    if config.pretrained:
        yield f"starting from {config.pretrained}"
    if config.phases[0].freeze != NONE:
        frozen = config.phases[0]
        yield f"frozen up to {frozen.freeze} for {counted(frozen.epochs, 'epoch')}; --dry-run shows what trains when"
    if progress.batch:
        yield f"resuming after {counted(progress.batch, 'step')} of epoch {progress.epoch + 1}"
    elif progress.epoch:
        yield f"resuming after epoch {progress.epoch}"


def make_row(
    epoch: int, trained: EpochResult, evaluation: Evaluation | None, seconds: float, device: torch.device
) -> ResultsRow:
    """An epoch, counted from 1, as `results.csv` has it."""
    return {
        "epoch": epoch,
        "lr": trained.lr,
        "train_loss": trained.loss,
        "train_top1": trained.top1,
        "val_loss": evaluation.loss if evaluation else None,
        "val_top1": evaluation.top1 if evaluation else None,
        "val_top5": evaluation.top5 if evaluation else None,
        "images_per_second": trained.images_per_second,
        "seconds": seconds,
        "memory_mib": memory_mib(device),
    }


def epoch_line(row: ResultsRow, epochs: int, best: bool, seconds: float) -> str:
    """An epoch in one line."""
    epoch = int(row["epoch"] or 0)
    parts = [
        f"epoch {epoch:>{len(str(epochs))}}/{epochs}",
        f"loss {row['train_loss']:.3f}",
        f"train {100 * (row['train_top1'] or 0):.2f} %",
    ]
    if row["val_top1"] is not None:
        parts.append(f"val {100 * row['val_top1']:.2f} %" + (" best" if best else "     "))
    parts.append(f"{row['images_per_second']:,.0f} images/s")
    left = seconds / epoch * (epochs - epoch)
    parts.append(f"{duration(left)} left" if epoch < epochs else "done")
    return "  ".join(parts)


def describe_event(path: Path, text: str) -> None:
    """Add a line with the time to a run's events; a disk that has no room for the note does not end the run."""
    with suppress(OSError), path.open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"{datetime.now().isoformat(timespec='seconds')}  {text}\n")


def memory_mib(device: torch.device) -> int:
    """The most memory that this process has held so far, in MiB: the card's, or the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) // 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // (2**20 if sys.platform == "darwin" else 2**10)


def size_at(config: TrainConfig, size: tuple[int, int], epoch: int) -> tuple[int, int] | None:
    """(H, W) to train at in an epoch, counted from 0; `None` for the preprocessing's own, `size`."""
    sides = [side for share, side in config.train_sizes if share * config.epochs <= epoch]
    if not sides:
        return None
    return sides[-1], max(1, round(sides[-1] * size[1] / size[0]))


def _precision(amp: torch.dtype | None, none: str = "off") -> str:
    return str(amp).removeprefix("torch.") if amp else none
