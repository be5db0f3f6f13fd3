"""Model folder contents of a run: the network and its provenance."""

from __future__ import annotations

from datetime import date
from typing import Any

import torch

from resnets.data.dataset import Dataset
from resnets.evaluate.evaluation import Evaluation
from resnets.nn.model import Network
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.config.summary import phase_rows, recipe_words
from resnets.train.freeze.phases import NONE
from resnets.train.run_folder.checkpoint import RunProgress
from resnets.train.run_folder.log import precision_name
from resnets.version import __version__
from resnets.weights.folder.bundle import Bundle

__all__ = ["make_bundle"]


def make_bundle(
    model: Network,
    config: ResolvedConfig,
    dataset: Dataset,
    progress: RunProgress,
    amp: torch.dtype | None,
    evaluation: Evaluation | None,
) -> Bundle:
    """The model as it stands, with where it comes from."""
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
        "freeze": None if config.phases[0].freeze == NONE else config.phases[0].freeze,
        "pretrained": config.pretrained,
        "amp": precision_name(amp),
    }
    return Bundle(
        model=model,
        preprocessing=config.preprocessing,
        classes=dataset.classes,
        name=config.model,
        provenance={
            "data": dataset.name,
            "train_images": len(dataset.splits["train"]),
            "recipe": {key: value for key, value in recipe.items() if value is not None or key == "pretrained"},
            "training": recipe_words(config),
            **({"phases": phases} if (phases := phase_rows(config)) else {}),
            "figures": figures,
            "seed": config.seed,
            "date": date.today().isoformat(),
            "resnets": __version__,
            "torch": torch.__version__.partition("+")[0],
        },
    )
