"""The models of a run, the best and the last: what is saved, and whether it can be read when the run is resumed."""

from __future__ import annotations

from datetime import date
from typing import Any

import torch

from resnets.data.dataset import Dataset
from resnets.errors import TrainingError, WeightsError
from resnets.evaluate.evaluation import Evaluation
from resnets.nn.model import Network
from resnets.retrieve.validation import ReidValidation
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.config.summary import phase_rows, run_summary
from resnets.train.run_folder.checkpoint import RunProgress
from resnets.train.run_folder.paths import RunFolder
from resnets.version import __version__
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.model_folder import read_bundle
from resnets.weights.folder.storage import remove_leftovers

__all__ = ["check_models", "make_bundle"]


def check_models(run: RunFolder, progress: RunProgress) -> None:
    """Before a run is resumed: delete what killed saves left, and check that the best model can be read at the end.

    Raises:
        TrainingError: it is damaged or missing.
    """
    for folder in (run.best, run.last):
        remove_leftovers(folder)
    if progress.best_epoch:
        try:
            read_bundle(run.best)
        except WeightsError as error:
            raise TrainingError(
                f"a run is resumed with its best model, of epoch {progress.best_epoch}; it cannot be read ({error}); "
                f"restore {run.best}"
            ) from None


def make_bundle(
    model: Network,
    config: ResolvedConfig,
    dataset: Dataset,
    progress: RunProgress,
    amp: torch.dtype | None,
    evaluation: Evaluation | ReidValidation | None,
) -> Bundle:
    """The network with its preprocessing, classes and provenance: data, settings, metrics and versions."""
    metrics: dict[str, Any] = {"epochs_done": progress.epoch}
    if isinstance(evaluation, Evaluation):
        metrics |= {"val_top1": evaluation.top1, "val_loss": evaluation.loss, "val_images": len(evaluation)}
    elif evaluation is not None:
        found = evaluation.metrics
        metrics |= {"val_map": found.map, "val_rank1": float(found.cmc[0]), "val_images": len(evaluation)}
    return Bundle(
        model=model,
        preprocessing=config.preprocessing,
        classes=dataset.classes[: config.network.num_classes],  # without identities that only validate
        name=config.model,
        provenance={
            "data": dataset.name,
            "train_images": len(dataset.splits["train"]),
            "training": run_summary(config),
            **({"phases": phases} if (phases := phase_rows(config)) else {}),
            "metrics": metrics,
            "amp": str(amp or "off").removeprefix("torch."),
            "seed": config.seed,
            "date": date.today().isoformat(),
            "resnets": __version__,
            "torch": torch.__version__.partition("+")[0],
        },
    )
