"""Metrics while an epoch runs, the result of an epoch, and the result of a run."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from resnets.evaluate.evaluation import Evaluation
from resnets.evaluate.results import ResultsRow
from resnets.retrieve.validation import ReidValidation

__all__ = ["EpochMetrics", "EpochResult", "TrainResult"]


class EpochMetrics:
    """Running sums of an epoch, exact, so that a checkpoint can store and restore them.

    Args:
        device: of the loss.
        trace: mean loss of every step since the last checkpoint.

    Attributes:
        loss_sum: over images.
        correct: number of correct predictions.
        seen: number of images.
        indices: positions in the split of the last step's images.
    """

    def __init__(self, device: torch.device, trace: list[Tensor] | None = None) -> None:
        self.loss_sum = torch.zeros((), dtype=torch.float64, device="cpu" if device.type == "mps" else device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.seen = 0
        self.trace: list[Tensor] = [] if trace is None else trace
        self.indices = torch.zeros(0, dtype=torch.int64)

    def add(self, loss: Tensor, correct: Tensor, indices: Tensor) -> None:
        """Add a step's mean loss and number of correct predictions."""
        self.loss_sum += loss.double().to(self.loss_sum.device) * len(indices)
        self.correct += correct
        self.seen += len(indices)
        self.trace.append(loss)
        self.indices = indices


@dataclass(frozen=True)
class EpochResult:
    """Metrics of a training epoch: mean loss and top-1 accuracy while the weights changed, and its last step's lr."""

    loss: float
    top1: float
    images_per_second: float
    lr: float


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Result of a training run.

    Args:
        folder: the run folder; `best` in it is the model to use.
        best_epoch: epoch of the best model, from 1.
        evaluation: of the best model on the validation images; `None` if the data has none, or of another task.
        task: `classify` or `reid`.
        reid: with `task=reid`, of the best model on the identities that validate.
        results: one row per epoch.
        seconds: spent on training and validation.
        stopped: the signal that ended the run early, or `None`.
    """

    folder: Path
    best_epoch: int
    evaluation: Evaluation | None
    results: list[ResultsRow]
    seconds: float
    reid: ReidValidation | None = None
    task: str = "classify"
    stopped: signal.Signals | None = None

    @property
    def best(self) -> Path:
        """Folder of the best model, for `load`."""
        return self.folder / "best"
