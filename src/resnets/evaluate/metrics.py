"""Classification metrics in numpy, accumulated in float64. `Evaluation` validates their arguments.

Legend: N images, at least 1; C classes, numbered 0 to C-1. Accuracies and probabilities lie in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PerClass",
    "confusion_matrix",
    "cross_entropy",
    "expected_calibration_error",
    "macro_average",
    "most_confused",
    "per_class",
    "softmax",
    "top_k_accuracy",
    "top_probability",
    "wilson_interval",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CHUNK_ROWS = 4096  # rows converted to float64 at a time; ImageNet's 50,000 x 1,000 logits would take 400 MB at once


@dataclass(frozen=True, kw_only=True, eq=False)
class PerClass:
    """Precision, recall and F1 of each class.

    0/0 is 0: the precision of a class that is never predicted, the recall of a class without images. `support` and
    `predicted` distinguish such a 0 from a measured one.

    Args:
        precision, recall, f1: (C,) in [0, 1].
        support: (C,) number of images of the class.
        predicted: (C,) number of images predicted as the class.
    """

    precision: Floats
    recall: Floats
    f1: Floats
    support: Ints
    predicted: Ints


def confusion_matrix(labels: NDArray[Any], predictions: NDArray[Any], num_classes: int) -> Ints:
    """Count the images of each true class by predicted class.

    Args:
        labels: (N,) true classes.
        predictions: (N,) predicted classes.
        num_classes: C.

    Returns:
        (C, C) counts: rows are true classes, columns predicted classes.
    """
    cells = labels.astype(np.int64) * num_classes + predictions.astype(np.int64)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def per_class(confusion: NDArray[Any]) -> PerClass:
    """Precision, recall, F1 and support of each class, from a (C, C) confusion matrix."""
    hits = np.diagonal(confusion).astype(np.float64)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return PerClass(
        precision=_ratio(hits, predicted),
        recall=_ratio(hits, support),
        f1=_ratio(2 * hits, support + predicted),
        support=support.astype(np.int64),
        predicted=predicted.astype(np.int64),
    )


def macro_average(values: NDArray[Any], support: NDArray[Any]) -> float:
    """Mean over the classes that have images.

    scikit-learn's macro average differs: it includes, as 0, a class that is predicted but has no images.

    Args:
        values: (C,) a metric of each class.
        support: (C,) number of images of each class.
    """
    return float(np.asarray(values, np.float64)[support > 0].mean())


def most_confused(confusion: NDArray[Any], count: int) -> list[tuple[int, int, int]]:
    """The most frequent confusions as (true class, predicted class, images), most frequent first.

    Ties are in class order; pairs without images are left out.
    """
    errors = confusion.astype(np.int64)  # a copy
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:count]
    rows, columns = np.unravel_index(order, errors.shape)
    pairs = zip(rows.tolist(), columns.tolist(), errors[rows, columns].tolist(), strict=True)
    return [pair for pair in pairs if pair[2]]


def top_k_accuracy(labels: NDArray[Any], scores: NDArray[Any], k: int = 1) -> float:
    """Fraction of images whose class is among the `k` highest scores.

    Equal scores rank in class order, so that k=1 agrees with `argmax` and a constant output scores at chance level.

    Args:
        labels: (N,) true classes.
        scores: (N, C) logits or probabilities.
        k: at least 1; the result is 1.0 for C or more.
    """
    classes = np.arange(scores.shape[1])
    correct = 0
    for rows in _chunks(len(labels)):
        truth, chunk = labels[rows, None], scores[rows]
        own = np.take_along_axis(chunk, truth, axis=1)  # (n, 1)
        rank = ((chunk > own) | ((chunk == own) & (classes < truth))).sum(axis=1)
        correct += int((rank < k).sum())
    return correct / len(labels)


def softmax(logits: NDArray[Any]) -> Floats:
    """(N, C) probabilities of (N, C) logits, in float64."""
    exponent = np.asarray(logits, np.float64)
    powers = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def top_probability(logits: NDArray[Any]) -> Floats:
    """(N,) probability of the most likely class, from (N, C) logits."""
    return np.concatenate([softmax(logits[rows]).max(axis=1) for rows in _chunks(len(logits))])


def cross_entropy(labels: NDArray[Any], logits: NDArray[Any]) -> float:
    """Mean negative log likelihood, in nats.

    Args:
        labels: (N,) true classes.
        logits: (N, C) logits or log probabilities.
    """
    total = 0.0
    for rows in _chunks(len(labels)):
        chunk = np.asarray(logits[rows], np.float64)
        peak = chunk.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(chunk - peak).sum(axis=1)) + peak[:, 0]
        total += float((log_sum - np.take_along_axis(chunk, labels[rows, None], axis=1)[:, 0]).sum())
    return total / len(labels)


def expected_calibration_error(confidences: NDArray[Any], correct: NDArray[Any], bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over bins of equal width, weighted by the images of each bin.

    Bins are (low, high], as in Guo et al., "On Calibration of Modern Neural Networks", 2017.

    Args:
        confidences: (N,) probability of the predicted class.
        correct: (N,) whether the prediction is correct.
        bins: number of bins over [0, 1].

    Returns:
        A value in [0, 1]; 0 where accuracy equals mean confidence in every bin.
    """
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    bin_index = np.searchsorted(edges, confidences, side="left")
    gaps = np.bincount(bin_index, weights=correct.astype(np.float64) - confidences, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidences))


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """95 % confidence interval of an accuracy of `correct` out of `n` (Wilson's score interval, 1927).

    Unlike the normal approximation it stays within [0, 1] and has a width at 0 % and at 100 %.

    Args:
        correct: 0 to `n`.
        n: number of images, at least 1.

    Returns:
        (low, high), in [0, 1].
    """
    z = 1.959963984540054  # 97.5 % quantile of the normal distribution
    accuracy = correct / n
    centre = accuracy + z * z / (2 * n)
    half_width = z * math.sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At 0 and n the ends are exactly 0 and 1; rounding could miss them.
    low = 0.0 if correct == 0 else (centre - half_width) / scale
    high = 1.0 if correct == n else (centre + half_width) / scale
    return low, high


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK_ROWS) for start in range(0, n, CHUNK_ROWS))


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """Elementwise quotient, with 0/0 as 0."""
    quotient: Floats = np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)
    return quotient
