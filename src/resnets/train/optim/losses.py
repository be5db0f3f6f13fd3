"""Classification losses: cross-entropy, binary cross-entropy and focal loss, of hard, smoothed and mixed labels.

Legend: N batch, K classes, M training images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnets.data.augment.mixup import soft_targets
from resnets.errors import ConfigError
from resnets.train.config.options import LossConfig

__all__ = ["ClassificationLoss", "class_weights"]

EPS = 1e-12


class ClassificationLoss(nn.Module):
    """Mean loss of a batch. Logits (N, K) and labels -> scalar.

    Labels are class indices (N,), int64, or class probabilities (N, K), as mixup makes them. With class weights, the
    mean is weighted, as in torch's `cross_entropy`, and 0 if all weights are 0. Binary cross-entropy is summed over
    the classes and weighted by the label's class.

    Args:
        config: kind of loss and label smoothing.
        weights: (K,) class weights; `None` for equal weights.
    """

    weights: Tensor | None
    fewest_images = 2  # of a micro-batch: batch norm cannot train on one

    def __init__(self, config: LossConfig, weights: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        config, logits = self.config, logits.float()
        if config.loss == "ce" and labels.ndim == 1:  # torch's kernel
            if self.weights is None:
                return F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
            total = F.cross_entropy(
                logits, labels, self.weights, reduction="sum", label_smoothing=config.label_smoothing
            )
            return self._mean(total, labels)
        targets = self.targets(labels, logits.shape[1])
        if config.loss == "bce":
            losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)  # (N,)
            if self.weights is not None:
                losses = losses * self._image_weights(labels)
            return self._mean(losses.sum(), labels)
        log_probs = F.log_softmax(logits, 1)
        by_class = -targets * log_probs  # (N, K)
        if config.loss == "focal":
            by_class = by_class * (1 - log_probs.exp()).clamp(min=EPS) ** config.focal_gamma
        if self.weights is None:
            return by_class.sum(1).mean()
        return self._mean((by_class * self.weights).sum(), labels)

    def begin_step(self) -> None:
        """Before a step, or when it is run again. Nothing is kept between micro-batches."""

    def end_step(self, all_reduce_sum: Callable[..., None]) -> None:
        """After a step."""

    def end_epoch(self, all_reduce_sum: Callable[..., None]) -> str | None:
        """After an epoch; returns a warning for the user, or `None`."""
        return None

    def logits(self, outputs: Tensor) -> Tensor:
        """The logits (N, K) in the outputs of the network."""
        return outputs

    def state(self, all_reduce_sum: Callable[..., None]) -> dict[str, Tensor]:
        """What a checkpoint holds beside network and optimizer."""
        return {}

    def load_state(self, state: Mapping[str, Tensor], *, is_main_process: bool) -> None:
        """Restore what `state` returned."""

    def normalizer(self, labels: Tensor) -> Tensor | int:
        """The divisor of the mean: number of images, or sum of their weights. Combines means of micro-batches."""
        return len(labels) if self.weights is None else self._image_weights(labels).sum().clamp(min=EPS)

    def of_uniform_predictions(self, classes: int) -> float:
        """The loss of a network that finds all K classes equally likely, which is that of one that learned nothing."""
        count = min(classes, 64)
        device = None if self.weights is None else self.weights.device
        return float(self(torch.zeros(count, classes, device=device), torch.arange(count, device=device)))

    def targets(self, labels: Tensor, classes: int) -> Tensor:
        """(N, K) float32 target probabilities: thresholded if `bce_threshold` is set, then smoothed."""
        targets = soft_targets(labels, classes) if labels.ndim == 1 else labels.float()
        if self.config.loss == "bce" and self.config.bce_threshold is not None:
            targets = (targets > self.config.bce_threshold).to(targets)
        smoothing = self.config.label_smoothing
        return targets * (1 - smoothing) + smoothing / classes if smoothing else targets

    def _image_weights(self, labels: Tensor) -> Tensor:
        """(N,) weights of the images; of a mixed image, weighted by its class probabilities."""
        assert self.weights is not None
        return self.weights[labels] if labels.ndim == 1 else (labels * self.weights).sum(1)

    def _mean(self, total: Tensor, labels: Tensor) -> Tensor:
        normalizer = self.normalizer(labels)
        return total / normalizer if isinstance(normalizer, int) else total / normalizer * (normalizer > EPS)


def class_weights(config: LossConfig, labels: npt.NDArray[np.int64], classes: int) -> tuple[float, ...] | None:
    """K class weights; `None` for equal weights.

    Balanced weights are in inverse proportion to the number of images of a class, with mean 1 over all images.

    Args:
        config: with `class_weights`.
        labels: (M,) of the training images.
        classes: K.

    Raises:
        ConfigError: another number of weights than of classes.
    """
    if config.class_weights == "none":
        return None
    if isinstance(config.class_weights, tuple):
        if len(config.class_weights) != classes:
            raise ConfigError(
                f"class_weights are one a class; got {len(config.class_weights)} for {classes} classes; "
                "give all or none"
            )
        return config.class_weights
    counts = np.bincount(labels, minlength=classes)
    balanced = np.where(counts > 0, len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0)
    return tuple(balanced.astype(np.float32).tolist())
