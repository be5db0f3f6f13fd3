"""What is minimised: cross-entropy, a yes or no for every class, focal loss; hard, smoothed or mixed labels alike.

Legend: N batch, K classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnets.data.augment.mixup import soft_targets
from resnets.train.config.options import LossConfig

__all__ = ["ClassificationLoss", "class_weights"]

LEAST = 1e-12  # weight of a batch; one of no more weighs nothing


class ClassificationLoss(nn.Module):
    """Logits (N, K) and labels -> the mean loss.

    Labels are (N,) int64 classes, or (N, K) shares that sum to one, as mixing makes them. Weighted by class, the mean
    is over the weights, as torch's `cross_entropy` has it, and zero where all weigh nothing. A yes or no for every
    class is summed over the classes, all with the weight of the image.

    Args:
        config: which loss, and how smoothed.
        weights: (K,), one a class; `None` for all alike.
    """

    weights: Tensor | None

    def __init__(self, config: LossConfig, weights: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        config, logits = self.config, logits.float()
        if config.loss == "ce" and labels.ndim == 1:  # torch's own kernel
            if self.weights is None:
                return F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
            whole = F.cross_entropy(
                logits, labels, self.weights, reduction="sum", label_smoothing=config.label_smoothing
            )
            return self._mean(whole, labels)
        shares = self.targets(labels, logits.shape[1])
        if config.loss == "bce":
            each = F.binary_cross_entropy_with_logits(logits, shares, reduction="none").sum(1)  # (N,)
            return self._mean((each if self.weights is None else each * self._weigh(labels)).sum(), labels)
        log_shares = F.log_softmax(logits, 1)
        by_class = -shares * log_shares  # (N, K)
        if config.loss == "focal":
            by_class = by_class * (1 - log_shares.exp()).clamp(min=1e-12) ** config.focal_gamma
        if self.weights is None:
            return by_class.sum(1).mean()
        return self._mean((by_class * self.weights).sum(), labels)

    def normalizer(self, labels: Tensor) -> Tensor | int:
        """What the mean over `labels` divides by: images, or their weights; so a batch is the mean of its parts."""
        return len(labels) if self.weights is None else self._weigh(labels).sum().clamp(min=LEAST)

    def targets(self, labels: Tensor, classes: int) -> Tensor:
        """(N, K) float32 shares of `labels`: `bce`'s yes or no, if it asks for that, then smoothed."""
        shares = soft_targets(labels, classes) if labels.ndim == 1 else labels.float()
        if self.config.loss == "bce" and self.config.bce_threshold is not None:
            shares = (shares > self.config.bce_threshold).to(shares)
        smoothing = self.config.label_smoothing
        return shares * (1 - smoothing) + smoothing / classes if smoothing else shares

    def _weigh(self, labels: Tensor) -> Tensor:
        """(N,) weights of the images; of a mixed one, by its shares."""
        assert self.weights is not None
        return self.weights[labels] if labels.ndim == 1 else (labels * self.weights).sum(1)

    def _mean(self, whole: Tensor, labels: Tensor) -> Tensor:
        mass = self.normalizer(labels)
        return whole / mass if isinstance(mass, int) else whole / mass * (mass > LEAST)


def class_weights(config: LossConfig, labels: npt.NDArray[np.int64], classes: int) -> Tensor | None:
    """(K,) float32 weights of the classes, as the configuration says; `None` for all alike.

    Balanced ones are in inverse proportion to a class's images, and 1 on the mean over all images.

    Args:
        labels: (M,) of the training images; classes: K.
    """
    if config.class_weights == "none":
        return None
    if isinstance(config.class_weights, tuple):
        return torch.tensor(config.class_weights, dtype=torch.float32)
    counts = np.bincount(labels, minlength=classes)
    balanced = np.where(counts > 0, len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0)
    return torch.from_numpy(balanced.astype(np.float32))
