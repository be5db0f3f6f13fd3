"""What a run trains for: its loss, the outputs of the network that the loss takes, and its validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn

from resnets.data.dataset import Dataset
from resnets.data.loader import Batches
from resnets.evaluate.evaluation import Evaluation
from resnets.evaluate.loop import evaluate_model
from resnets.nn.model import Network, ResNet
from resnets.retrieve.validation import ReidValidation, validate_reid
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.optim.losses import ClassificationLoss
from resnets.train.optim.reid_loss import ReidLoss, ReidNetwork

__all__ = ["Classification", "Reidentification", "Task", "Validation", "make_task"]

Validation = Evaluation | ReidValidation
Gather = Callable[[Any], list[Any]]


class Task(Protocol):
    """A kind of training.

    Attributes:
        loss: of the outputs of `network` and labels.
    """

    loss: ClassificationLoss | ReidLoss

    def network(self, model: Network) -> nn.Module:
        """The module to train, which shares the parameters of `model`."""
        ...

    def validate(self, model: nn.Module, batches: Batches, device: torch.device, gather: Gather) -> Validation:
        """Evaluate a network on the validation images.

        Args:
            model: a network, or what computes the same outputs.
            batches: of this process.
            gather: collects results of all processes.
        """
        ...


class Classification:
    """Training of a classifier, validated by its accuracy."""

    def __init__(self, config: ResolvedConfig, dataset: Dataset) -> None:
        self._classes = dataset.classes
        self.loss: ClassificationLoss | ReidLoss = _id_loss(config)

    def network(self, model: Network) -> nn.Module:
        return model

    def validate(self, model: nn.Module, batches: Batches, device: torch.device, gather: Gather) -> Evaluation:
        return evaluate_model(model, batches.epoch(0), self._classes, device=device, gather=gather)


class Reidentification:
    """Training of embeddings, validated by the mean average precision of identities that are not trained on."""

    def __init__(self, config: ResolvedConfig, dataset: Dataset, model: Network) -> None:
        assert isinstance(model, ResNet)
        self._images = dataset.splits.get("val")
        self.loss: ClassificationLoss | ReidLoss = ReidLoss(
            config.reid,
            _id_loss(config),
            num_classes=model.num_classes,
            num_features=model.num_pooled_features,
            scale=model.config.classifier_scale,
            instances=config.sampling.num_instances or 0,
        )

    def network(self, model: Network) -> nn.Module:
        assert isinstance(model, ResNet)
        return ReidNetwork(model)

    def validate(self, model: nn.Module, batches: Batches, device: torch.device, gather: Gather) -> ReidValidation:
        assert self._images is not None
        assert isinstance(model, Network)
        return validate_reid(model, batches.epoch(0), self._images, device=device, gather=gather)


def make_task(config: ResolvedConfig, dataset: Dataset, model: Network) -> Task:
    """The task of a run; its loss is on the device of `model`."""
    task = Reidentification(config, dataset, model) if config.task == "reid" else Classification(config, dataset)
    task.loss.to(next(model.parameters()).device)
    return task


def _id_loss(config: ResolvedConfig) -> ClassificationLoss:
    weights = None if config.class_weights is None else torch.tensor(config.class_weights)
    return ClassificationLoss(config.loss, weights)
