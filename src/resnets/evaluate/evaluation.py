"""What a network answered on a split, and every figure that follows from it. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnets.errors import DataError, ShapeError
from resnets.evaluate import metrics

__all__ = ["Evaluation", "Mistake"]


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One image that was called something else than it is.

    Args:
        index: its place in the data set.
        label, prediction: true and predicted class.
        confidence: probability of the prediction.
        label_confidence: probability that the true class got.
    """

    index: int
    label: int
    prediction: int
    confidence: float
    label_confidence: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Labels and logits of N images over C classes; the figures are worked out when first asked for.

    Args:
        labels: (N,) int64, true classes.
        logits: (N, C) float32.
        indices: (N,) int64, each image's place in the data set.
        classes: C names.

    Raises:
        ShapeError: arrays or names that do not fit each other.
        DataError: no image, or a label that is no class.
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
        if n == 0:
            raise DataError("an evaluation needs at least one image; got none; check the split")
        if not 0 <= int(self.labels.min()) <= int(self.labels.max()) < c:
            raise DataError(
                f"labels must lie in 0 to {c - 1}; got {self.labels.min()} to {self.labels.max()}; "
                "check that the network and the data have the same classes"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def predictions(self) -> NDArray[np.int64]:
        """(N,) class with the highest logit; the first of equals."""
        return np.asarray(self.logits.argmax(axis=1), np.int64)

    @cached_property
    def confidences(self) -> NDArray[np.float64]:
        """(N,) probability of the predicted class."""
        parts = [self.logits[start : start + metrics.ROWS] for start in range(0, len(self), metrics.ROWS)]
        return np.concatenate([metrics.softmax(part).max(axis=1) for part in parts])

    @cached_property
    def correct(self) -> int:
        """Images whose class was predicted."""
        return int((self.predictions == self.labels).sum())

    @property
    def top1(self) -> float:
        """Share of images whose class was predicted."""
        return self.correct / len(self)

    @property
    def k(self) -> int:
        """The k of `topk`: 5, or the number of classes if that is smaller."""
        return min(5, len(self.classes))

    @cached_property
    def topk(self) -> float:
        """Share of images whose class is among the `k` highest logits."""
        return metrics.top_k_accuracy(self.labels, self.logits, self.k)

    @cached_property
    def loss(self) -> float:
        """Mean cross-entropy in nats, without label smoothing or class weights."""
        return metrics.cross_entropy(self.labels, self.logits)

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """(C, C) counts: rows are true classes, columns predicted ones."""
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
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of `top1`, (low, high)."""
        return metrics.wilson_interval(self.correct, len(self))

    @cached_property
    def ece(self) -> float:
        """Expected calibration error over 15 bins, a share."""
        return metrics.expected_calibration_error(self.confidences, self.predictions == self.labels)

    def worst(self, k: int = 24) -> list[Mistake]:
        """The `k` most confident mistakes, most confident first; equals in the order of their indices."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        order = wrong[np.lexsort((self.indices[wrong], -self.confidences[wrong]))][:k]
        shares = metrics.softmax(self.logits[order])  # (k, C)
        return [
            Mistake(
                index=int(self.indices[place]),
                label=int(self.labels[place]),
                prediction=int(self.predictions[place]),
                confidence=float(self.confidences[place]),
                label_confidence=float(share[self.labels[place]]),
            )
            for place, share in zip(order, shares, strict=True)
        ]

    def summary(self) -> dict[str, Any]:
        """The headline figures, as JSON can hold them."""
        return {
            "images": len(self),
            "num_classes": len(self.classes),
            "correct": self.correct,
            "top1": self.top1,
            "top1_interval_95": list(self.interval),
            "topk": self.topk,
            "k": self.k,
            "loss": self.loss,
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
            "ece": self.ece,
        }
