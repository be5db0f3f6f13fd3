"""Plots and HTML report of a finished run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnets.arch.preprocessing import Preprocessing
from resnets.atomic import write_atomic
from resnets.data.dataset import Dataset, ImageSet
from resnets.data.transform import decode_channels
from resnets.errors import TrainingError
from resnets.evaluate.evaluation import Evaluation
from resnets.evaluate.report.confusion import plot_confusion
from resnets.evaluate.report.curves import plot_curves, plot_rates
from resnets.evaluate.report.page import Report, write_report
from resnets.evaluate.results import ResultsRow
from resnets.retrieve.validation import ReidValidation
from resnets.runtime.failures import describe_failure
from resnets.runtime.formatting import format_duration
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.config.summary import describe_recipe, phase_rows, phase_spans, run_summary
from resnets.train.run_folder.checkpoint import RunProgress
from resnets.train.run_folder.paths import RunFolder

__all__ = ["displayable_image", "next_command", "write_run_report"]

MAX_LISTED = 12  # classes for which each class weight is printed


def write_run_report(
    run: RunFolder,
    config: ResolvedConfig,
    dataset: Dataset,
    evaluation: Evaluation | ReidValidation | None,
    results: Sequence[ResultsRow],
    progress: RunProgress,
) -> None:
    """Write `plots/` and `report.html`.

    Args:
        evaluation: of the best model on the validation images; `None` without validation.

    Raises:
        TrainingError: the disk or memory is full; the models stay, and resuming the run writes the report.
    """
    with _failures_named(run):
        images: dict[int, NDArray[np.uint8]] = {}
        names: dict[int, str] = {}
        spans, classes = phase_spans(config), len(dataset.classes)
        events = run.events.read_text("utf-8", errors="replace").splitlines() if run.events.exists() else []
        plots: dict[str, bytes] = {}
        if results:
            plots = {"curves": plot_curves(results, spans), "rates": plot_rates(results, spans)}
        classified = evaluation if isinstance(evaluation, Evaluation) else None
        if classified is not None:
            plots["confusion"] = plot_confusion(classified.confusion, dataset.classes)
            validation = dataset.splits["val"]
            for error in classified.most_confident_errors():
                images[error.index] = displayable_image(validation, error.index, config.preprocessing)
                names[error.index] = validation.name(error.index)
        for name, png in plots.items():
            write_atomic(run.plots / f"{name}.png", png)
        write_report(
            run.report,
            Report(
                title=f"{config.model} on {dataset.name}",
                facts=_facts(config, dataset, results, progress) | _reid_facts(evaluation),
                recipe=run_summary(config),
                about=describe_recipe(config),
                phases=phase_rows(config),
                events=events,
                settings=config.to_dict(),
                data=_data_facts(config, dataset),
                splits={
                    name: np.bincount(one.labels, minlength=classes).tolist() for name, one in dataset.splits.items()
                },
                plots=plots,
                evaluation=classified,
                images=images,
                names=names,
                next_command=next_command(config, run.shell_path),
            ),
        )


def next_command(config: ResolvedConfig, folder: str) -> str:
    """What a user does with the model of a run; `folder` is quoted for a shell."""
    return f"resnets reid DATA --model {folder}" if config.task == "reid" else f"resnets predict IMAGE --model {folder}"


def _reid_facts(evaluation: Evaluation | ReidValidation | None) -> dict[str, Any]:
    """Metrics of the best model, for a run of re-identification."""
    if not isinstance(evaluation, ReidValidation):
        return {}
    found = evaluation.metrics
    return {
        "mAP": f"{100 * found.map:.2f} %",
        "Rank-1": f"{100 * float(found.cmc[0]):.2f} %",
        "mINP": f"{100 * found.minp:.2f} %",
        "Validation images": f"{evaluation.images:,}",
        "Held-out identities": f"{evaluation.identities:,}",
    }


@contextmanager
def _failures_named(run: RunFolder) -> Iterator[None]:
    """Say of an error of the machine that the models stay, and how to write the report later."""
    try:
        yield
    except Exception as error:
        failure = describe_failure(error)
        if failure is None:
            raise
        raise TrainingError(
            f"cannot write the report; {failure}; the models are in {run.path};"
            f" `resnets train --resume {run.shell_path}` writes it later"
        ) from error


def _facts(
    config: ResolvedConfig, dataset: Dataset, results: Sequence[ResultsRow], progress: RunProgress
) -> dict[str, Any]:
    speeds = [speed for row in results if (speed := row["images_per_second"])]
    peak = max((mib for row in results if (mib := row.get("memory_mib"))), default=None)
    facts = {
        "Model": config.model,
        "Data": dataset.name,
        "Epochs": f"{progress.epoch} of {config.epochs}",
        "Best epoch": progress.best_epoch or None,
        "Time": format_duration(progress.seconds),
        "Images per second": f"{np.median(speeds):,.0f}" if speeds else None,
        "Memory": (f"{peak:,.0f} MiB" if peak < 1024 else f"{peak / 1024:.1f} GiB") if peak else None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _data_facts(config: ResolvedConfig, dataset: Dataset) -> dict[str, str]:
    preprocessing = config.preprocessing
    height, width = preprocessing.size
    bands = f"{preprocessing.channels} bands" if isinstance(preprocessing.channels, int) else preprocessing.channels
    facts = {
        ("Identities" if config.task == "reid" else "Classes"): f"{config.network.num_classes:,}",
        "Network input": f"{height}x{width} pixels, {bands}, {preprocessing.dtype}",
        "Validation images": (
            f"{preprocessing.crop_mode} crop, {100 * preprocessing.crop_pct:.3g} %, {preprocessing.interpolation}"
        ),
    }
    if config.folds:
        facts["Held out"] = f"fold {config.fold} (from 0) of {config.folds}"
    elif "val" not in dataset.splits:
        facts["Validation images"] = "none: the last epoch counts as the best"
    if config.class_weights is not None:
        kind = "balanced" if config.loss.class_weights == "balanced" else "as given"
        facts["Class weights"] = f"{kind}: {_listed(dataset.classes, config.class_weights)}"
    if config.sampling.num_instances:
        facts["Sampling"] = f"{config.sampling.num_instances} images of each identity in a batch"
    if config.sampling.balanced:
        facts["Sampling"] = "balanced: all classes equally often"
    if dataset.splits["train"].groups is not None:
        facts["Groups"] = "all images of a group are in one split"
    return facts


def _listed(classes: Sequence[str], weights: Sequence[float]) -> str:
    pairs = [f"{name}: {weight:.3g}" for name, weight in zip(classes, weights, strict=True)]
    return ", ".join(pairs) if len(pairs) <= MAX_LISTED else f"{min(weights):.3g} to {max(weights):.3g}"


def displayable_image(images: ImageSet, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """An image as (H, W, 1) or (H, W, 3) uint8: its first one or three channels, stretched unless they are uint8."""
    pixels = images.image(index, decode_channels(preprocessing), preprocessing.dtype)
    pixels = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1]
    if preprocessing.dtype == "uint8":
        return np.asarray(pixels, np.uint8)
    values = pixels.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    return np.asarray((values - low) / max(high - low, 1e-12) * 255, np.uint8)
