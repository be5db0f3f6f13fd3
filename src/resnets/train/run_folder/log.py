"""Log of a run: lines on the console, rows of `results.csv` and lines of `events.txt`."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import numpy as np
import torch

from resnets.data.dataset import Dataset
from resnets.evaluate.evaluation import Evaluation
from resnets.evaluate.results import ResultsRow
from resnets.retrieve.validation import ReidValidation
from resnets.runtime.device import why_inexact
from resnets.runtime.formatting import format_duration, plural
from resnets.small_files import require_regular_file
from resnets.train.config.recipes import FOR_PRETRAINED
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.config.summary import describe_freeze
from resnets.train.freeze.phases import NONE
from resnets.train.loop.metrics import EpochResult
from resnets.train.run_folder.checkpoint import RunProgress

__all__ = ["class_counts_line", "epoch_line", "log_event", "peak_memory_mib", "results_row", "start_lines"]

LISTED_CLASSES = 12


def start_lines(
    config: ResolvedConfig,
    dataset: Dataset,
    progress: RunProgress,
    folder: Path | None,
    device: torch.device,
    amp: torch.dtype | None,
) -> Iterator[str]:
    """Lines for the console before the first epoch; `folder` is `None` for a run that is only planned."""
    splits = ", ".join(f"{len(images):,} {split}" for split, images in dataset.splits.items())
    size = "x".join(map(str, config.preprocessing.size))
    kinds = f"{config.network.num_classes} classes"
    if config.task == "reid":
        held_out = len(dataset.classes) - config.network.num_classes
        kinds = f"{config.network.num_classes} identities to train on and {held_out} others to validate on"
    yield f"{config.model} on {dataset.name}: {kinds}, {splits}; {size} pixels"
    yield (
        f"{plural(config.epochs, 'epoch')}, batch {config.batch_size}, peak learning rate {config.optim.lr:g}, "
        f"{str(amp or 'float32').removeprefix('torch.')} on {device}"
        + (f"; run folder {folder}" if folder is not None else "")
    )
    for note in config.notes:
        yield f"note: {note}"
    if config.pretrained:
        yield f"starting from {config.pretrained}"
    if config.recipe == FOR_PRETRAINED and config.pretrained:
        yield f"recipe {config.recipe}, the default with pretrained weights; --recipe none trains all layers at once"
    elif config.recipe:
        yield f"recipe {config.recipe}"
    phase = config.phases[0]
    if phase.freeze != NONE:
        more = "; --dry-run shows what trains when" if folder is not None else ""
        yield f"{describe_freeze(phase)} for {plural(phase.epochs, 'epoch')}{more}"
    if progress.batch:
        yield f"resuming after {plural(progress.batch, 'step')} of epoch {progress.epoch + 1}"
    elif progress.epoch:
        yield f"resuming after epoch {progress.epoch}"
    reason = why_inexact(device, deterministic=config.deterministic)
    if (progress.batch or progress.epoch) and reason:
        yield f"note: order, augmentation and state are exact, but {reason}"


def class_counts_line(dataset: Dataset, config: ResolvedConfig) -> str:
    """Training images of each class; of many classes, of the smallest and the largest."""
    counts = np.bincount(dataset.splits["train"].labels, minlength=config.network.num_classes)
    order = np.argsort(counts, kind="stable") if len(counts) > LISTED_CLASSES else np.arange(len(counts))
    texts = [f"{dataset.classes[index]} {counts[index]:,}" for index in order]
    if len(counts) > LISTED_CLASSES:
        texts = [*texts[:3], "...", *texts[-3:]]
    return f"training images per {'identity' if config.task == 'reid' else 'class'}: {', '.join(texts)}"


def results_row(
    epoch: int,
    trained: EpochResult,
    evaluation: Evaluation | ReidValidation | None,
    seconds: float,
    device: torch.device,
    *,
    reid: bool,
) -> ResultsRow:
    """Row of `results.csv` for an epoch, counted from 1, of a classifier or of re-identification."""
    row: ResultsRow = {
        "epoch": epoch,
        "lr": trained.lr,
        "train_loss": trained.loss,
        "train_top1": trained.top1,
        "images_per_second": trained.images_per_second,
        "seconds": seconds,
        "memory_mib": peak_memory_mib(device),
    }
    if reid:
        found = evaluation.metrics if isinstance(evaluation, ReidValidation) else None
        row["val_map"] = found.map if found else None
        row["val_rank1"] = float(found.cmc[0]) if found else None
        row["val_minp"] = found.minp if found else None
    else:
        classified = evaluation if isinstance(evaluation, Evaluation) else None
        row["val_loss"] = classified.loss if classified else None
        row["val_top1"] = classified.top1 if classified else None
        row["val_top5"] = classified.top5 if classified else None
    return row


def epoch_line(row: ResultsRow, epochs: int, is_best: bool, seconds: float) -> str:
    """Line for the console after an epoch.

    Args:
        epochs: of the run.
        is_best: whether its model is the best so far.
        seconds: that all epochs have taken so far.
    """
    epoch = int(row["epoch"] or 0)
    parts = [
        f"epoch {epoch:>{len(str(epochs))}}/{epochs}",
        f"loss {row['train_loss']:.3f}",
        f"train {100 * (row['train_top1'] or 0):.2f} %",
    ]
    mark = " best" if is_best else "     "
    if (top1 := row.get("val_top1")) is not None:
        parts.append(f"val {100 * top1:.2f} %{mark}")
    if (found := row.get("val_map")) is not None:
        parts.append(f"val mAP {100 * found:.2f} %, rank-1 {100 * (row.get('val_rank1') or 0):.2f} %{mark}")
    parts.append(f"{row['images_per_second']:,.0f} images/s")
    parts.append(f"{format_duration(seconds / epoch * (epochs - epoch))} left" if epoch < epochs else "done")
    return "  ".join(parts)


def log_event(path: Path, text: str) -> None:
    """Append a line with the time to a run's `events.txt`. A full disk is ignored, so that it does not end the run."""
    with suppress(OSError):
        if path.exists():  # a pipe would wait for a reader
            require_regular_file(path)
        with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{datetime.now().isoformat(timespec='seconds')}  {text}\n")


def peak_memory_mib(device: torch.device) -> int:
    """Peak memory of this process in MiB: GPU memory on CUDA, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) // 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)
