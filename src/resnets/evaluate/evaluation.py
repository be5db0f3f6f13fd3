"""`Evaluation`: the logits of a network on a labelled split and the metrics computed from them. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnets.errors import DataError, ShapeError
from resnets.evaluate import metrics

__all__ = ["Evaluation", "Misclassification"]


@dataclass(frozen=True, kw_only=True)
class Misclassification:
    """One image whose predicted class differs from its label.

    Args:
        index: index of the image in its data set.
        label: index of the true class.
        prediction: index of the predicted class.
        confidence: probability of the predicted class, in [0, 1].
        label_confidence: probability of the true class, in [0, 1].
    """

    index: int
    label: int
    prediction: int
    confidence: float
    label_confidence: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Labels and logits of N images over C classes; each metric is computed on first access and cached.

    Args:
        labels: (N,) int64, true classes.
        logits: (N, C) float32.
        indices: (N,) int64, index of each image in its data set.
        classes: C class names.

    Raises:
        ShapeError: arrays or class names of different lengths.
        DataError: no images, or a label outside 0 to C-1.
    """

    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    indices: NDArray[np.int64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        n, c = len(self.labels), len(self.classes)
        shapes = (self.labels.shape, self.logits.shape, self.indices.shape)
        if shapes != ((n,), (n, c), (n,)):
            raise ShapeError(
                f"labels, logits and indices must be (N,), (N, {c}) and (N,) for {c} classes; got {shapes}"
            )
        if not n:
            raise DataError("evaluation needs at least one image; got none; check the split")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= c:
            raise DataError(
                f"labels must lie in 0 to {c - 1}; got {low} to {high}; check that the network and the data have the "
                "same classes"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def predictions(self) -> NDArray[np.int64]:
        """(N,) class with the highest logit; the lowest class index on ties."""
        return np.asarray(self.logits.argmax(axis=1), np.int64)

    @cached_property
    def confidences(self) -> NDArray[np.float64]:
        """(N,) probability of the predicted class."""
        return metrics.top_probability(self.logits)

    @cached_property
    def correct(self) -> int:
        """Number of correctly classified images."""
        return int((self.predictions == self.labels).sum())

    @property
    def top1(self) -> float:
        """Top-1 accuracy, in [0, 1]."""
        return self.correct / len(self)

    @cached_property
    def top1_interval(self) -> tuple[float, float]:
        """(low, high) of the 95 % confidence interval of `top1` (Wilson)."""
        return metrics.wilson_interval(self.correct, len(self))

    @cached_property
    def top5(self) -> float | None:
        """Top-5 accuracy, in [0, 1]; `None` with five classes or fewer, where it is always 1."""
        return metrics.top_k_accuracy(self.labels, self.logits, 5) if len(self.classes) > 5 else None

    @cached_property
    def loss(self) -> float:
        """Mean cross-entropy in nats, without label smoothing or class weights."""
        return metrics.cross_entropy(self.labels, self.logits)

    @property
    def score(self) -> tuple[float, float]:
        """What the best epoch of a run is chosen by: top-1 accuracy, then the lower loss."""
        return self.top1, -self.loss

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """(C, C) confusion matrix: rows are true classes, columns predicted classes."""
        return metrics.confusion_matrix(self.labels, self.predictions, len(self.classes))

    @cached_property
    def per_class(self) -> metrics.PerClass:
        """Precision, recall, F1 and support of each class."""
        return metrics.per_class(self.confusion)

    @cached_property
    def macro_f1(self) -> float:
        """Mean F1 over the classes that have images."""
        return metrics.macro_average(self.per_class.f1, self.per_class.support)

    @cached_property
    def balanced_accuracy(self) -> float:
        """Mean recall over the classes that have images."""
        return metrics.macro_average(self.per_class.recall, self.per_class.support)

    @cached_property
    def ece(self) -> float:
        """Expected calibration error over 15 bins, in [0, 1]."""
        return metrics.expected_calibration_error(self.confidences, self.predictions == self.labels)

    def most_confident_errors(self, k: int = 24) -> list[Misclassification]:
        """The `k` misclassified images with the highest confidence, in descending order; ties by image index."""
        errors = np.flatnonzero(self.predictions != self.labels)
        order = errors[np.lexsort((self.indices[errors], -self.confidences[errors]))][:k]
        return [
            Misclassification(
                index=int(self.indices[row]),
                label=int(self.labels[row]),
                prediction=int(self.predictions[row]),
                confidence=float(self.confidences[row]),
                label_confidence=float(probabilities[self.labels[row]]),
            )
            for row, probabilities in zip(order, metrics.softmax(self.logits[order]), strict=True)
        ]

    def class_table(self) -> list[dict[str, Any]]:
        """The metrics of each class, JSON-serialisable: class, images, predicted, precision, recall, f1.

        What cannot be measured is None: the recall of a class without images, the precision of a class that is never
        predicted, and the F1 of a class with neither.
        """
        by_class = self.per_class
        return [
            {
                "class": name,
                "images": int(by_class.support[i]),
                "predicted": int(by_class.predicted[i]),
                "precision": float(by_class.precision[i]) if by_class.predicted[i] else None,
                "recall": float(by_class.recall[i]) if by_class.support[i] else None,
                "f1": float(by_class.f1[i]) if by_class.support[i] or by_class.predicted[i] else None,
            }
            for i, name in enumerate(self.classes)
        ]

    def summary(self) -> dict[str, Any]:
        """The main metrics, JSON-serialisable."""
        return {
            "images": len(self),
            "num_classes": len(self.classes),
            "correct": self.correct,
            "top1": self.top1,
            "top1_interval_95": list(self.top1_interval),
            "top5": self.top5,
            "loss": self.loss,
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
            "ece": self.ece,
        }
