"""A run's pictures and its report, drawn from what the run measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from resnets.atomic import write_atomic
from resnets.data.dataset import Dataset
from resnets.data.transform import decode_channels
from resnets.evaluate import plots
from resnets.evaluate.evaluation import Evaluation
from resnets.evaluate.report import write_report
from resnets.evaluate.results import Row
from resnets.train.checkpoint import Progress
from resnets.train.folder import RunFolder
from resnets.train.progress import duration
from resnets.train.settings import Settings

__all__ = ["write_summary"]


def write_summary(
    run: RunFolder,
    settings: Settings,
    dataset: Dataset,
    evaluation: Evaluation | None,
    results: Sequence[Row],
    progress: Progress,
) -> None:
    """Write `plots/` and `report.html`; `evaluation` is the best model's, on the validation pictures."""
    images: dict[int, Any] = {}
    names: dict[int, str] = {}
    if results:
        write_atomic(run.plots / "curves.png", plots.curves(results))
    if evaluation is not None:
        write_atomic(run.plots / "confusion.png", plots.confusion(evaluation.confusion, dataset.classes))
        for mistake in evaluation.worst():
            validation = dataset.splits["val"]
            images[mistake.index] = validation.image(mistake.index, decode_channels(settings.contract))
            names[mistake.index] = validation.name(mistake.index)
    rates = [row["images_per_second"] for row in results if row["images_per_second"]]
    config = settings.config
    write_report(
        run.report,
        title=f"{config.model} on {dataset.name}",
        facts={
            "Model": config.model,
            "Data": dataset.name,
            "Epochs": f"{progress.epoch} of {config.epochs}",
            "Best epoch": progress.best_epoch,
            "Time": duration(progress.seconds),
            "Images a second": f"{np.median(rates):,.0f}" if rates else "-",
        },
        settings=asdict(config) | {"preprocessing": settings.contract.to_dict()},
        splits={
            split: np.bincount(images.labels, minlength=len(dataset.classes)).tolist()
            for split, images in dataset.splits.items()
        },
        results=results,
        evaluation=evaluation,
        images=images,
        names=names,
        next_command=f"resnets predict PICTURE --model {run.path}",
    )
