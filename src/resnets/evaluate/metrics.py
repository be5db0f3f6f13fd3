"""The figures of classification, in numpy, all of them accumulated in float64.

Shapes: N images, C classes. Classes are numbered 0 to C-1; shares and probabilities lie in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnets.errors import DataError, ShapeError

__all__ = [
    "PerClass",
    "balanced_accuracy",
    "confusion_matrix",
    "cross_entropy",
    "expected_calibration_error",
    "macro_average",
    "most_confused",
    "per_class",
    "softmax",
    "top_k_accuracy",
    "wilson_interval",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROWS = 4096  # rows in float64 at a time: ImageNet's 50,000 x 1,000 logits would be 400 MB at once


@dataclass(frozen=True, kw_only=True, eq=False)
class PerClass:
    """Precision, recall and F1 of each class.

    0/0 is 0: the precision of a class never predicted, the recall of a class without images. `support` and
    `predicted` tell such a zero from an earned one.

    Args:
        precision, recall, f1: (C,) shares.
        support: (C,) images that are of the class.
        predicted: (C,) images that were called so.
    """

    precision: Floats
    recall: Floats
    f1: Floats
    support: Ints
    predicted: Ints


def confusion_matrix(labels: NDArray[Any], predictions: NDArray[Any], num_classes: int) -> Ints:
    """How many images of each class were called what.

    Args:
        labels: (N,) true classes.
        predictions: (N,) predicted classes.
        num_classes: C.

    Returns:
        (C, C) counts: rows are true classes, columns predicted ones.

    Raises:
        ShapeError: labels and predictions differ in length.
        DataError: a class outside 0 to C-1.
    """
    if labels.ndim != 1 or labels.shape != predictions.shape:
        raise ShapeError(f"labels and predictions must both be (N,); got {labels.shape} and {predictions.shape}")
    _check_classes(labels, num_classes)
    _check_classes(predictions, num_classes)
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

    scikit-learn's macro average also counts, as 0, a class that was predicted but has no image.

    Args:
        values: (C,) a figure of each class.
        support: (C,) images of each class.

    Raises:
        DataError: no class has an image.
    """
    present = support > 0
    if not present.any():
        raise DataError("an average over classes needs at least one image; got none; check the labels")
    return float(np.asarray(values, np.float64)[present].mean())


def balanced_accuracy(confusion: NDArray[Any]) -> float:
    """Mean recall over the classes that have images, from a (C, C) confusion matrix."""
    classes = per_class(confusion)
    return macro_average(classes.recall, classes.support)


def most_confused(confusion: NDArray[Any], count: int) -> list[tuple[int, int, int]]:
    """The pairs most often taken one for the other, as (true, predicted, images), most first.

    Equal counts stand in the order of the classes; pairs that never occur are left out.
    """
    wrong = confusion.astype(np.int64)  # a copy
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    rows, columns = np.unravel_index(order, wrong.shape)
    pairs = zip(rows.tolist(), columns.tolist(), wrong[rows, columns].tolist(), strict=True)
    return [pair for pair in pairs if pair[2]]


def top_k_accuracy(labels: NDArray[Any], scores: NDArray[Any], k: int = 1) -> float:
    """Share of images whose class is among the `k` highest scores.

    Equal scores rank in the order of the classes, so k=1 agrees with `argmax`, and a network that answers the
    same everywhere gains nothing from it.

    Args:
        labels: (N,) true classes.
        scores: (N, C) logits or probabilities.
        k: from 1; all C or more answer 1.0.

    Raises:
        ShapeError, DataError: as `cross_entropy`.
    """
    _check(labels, scores)
    classes = np.arange(scores.shape[1])
    correct = 0
    for rows in _chunks(len(labels)):
        truth, part = labels[rows, None], scores[rows]
        own = np.take_along_axis(part, truth, axis=1)  # (n, 1)
        rank = ((part > own) | ((part == own) & (classes < truth))).sum(axis=1)
        correct += int((rank < k).sum())
    return correct / len(labels)


def softmax(logits: NDArray[Any]) -> Floats:
    """(N, C) probabilities of (N, C) logits, in float64."""
    exponent = np.asarray(logits, np.float64)
    powers = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def cross_entropy(labels: NDArray[Any], logits: NDArray[Any]) -> float:
    """Mean negative log likelihood, in nats.

    Log probabilities are logits too, and give the same figure.

    Args:
        labels: (N,) true classes.
        logits: (N, C), before the softmax.

    Raises:
        ShapeError: not (N,) and (N, C).
        DataError: no image, or a label outside 0 to C-1.
    """
    _check(labels, logits)
    total = 0.0
    for rows in _chunks(len(labels)):
        part = np.asarray(logits[rows], np.float64)
        peak = part.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(part - peak).sum(axis=1)) + peak[:, 0]
        total += float((log_sum - np.take_along_axis(part, labels[rows, None], axis=1)[:, 0]).sum())
    return total / len(labels)


def expected_calibration_error(confidences: NDArray[Any], correct: NDArray[Any], bins: int = 15) -> float:
    """How far confidence lies from accuracy: the mean gap over bins of equal width, weighted by images.

    Bins are (low, high], as in Guo et al., "On Calibration of Modern Neural Networks", 2017.

    Args:
        confidences: (N,) probability of the predicted class.
        correct: (N,) whether the prediction was right.
        bins: how many the range [0, 1] is cut into.

    Returns:
        A share: 0 when confidence is accuracy in every bin.

    Raises:
        ShapeError: the two differ in length.
        DataError: no image.
    """
    if confidences.ndim != 1 or confidences.shape != correct.shape:
        raise ShapeError(f"confidences and correct must both be (N,); got {confidences.shape} and {correct.shape}")
    if not len(confidences):
        raise DataError("calibration needs at least one image; got none; check the split")
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    place = np.searchsorted(edges, confidences, side="left")
    gaps = np.bincount(place, weights=correct.astype(np.float64) - confidences, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidences))


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Where the true accuracy lies, given `correct` out of `n`: Wilson's score interval (1927).

    Unlike the normal approximation it stays in [0, 1] and has a width at 0 % and at 100 %.

    Args:
        correct: 0 to `n`.
        n: images, at least 1.
        confidence: in (0, 1).

    Returns:
        (low, high), shares.

    Raises:
        DataError: a count or a confidence outside its range.
    """
    if n < 1 or not 0 <= correct <= n:
        raise DataError(f"an interval needs 0 <= correct <= n and n >= 1; got {correct} of {n}; check the counts")
    if not 0 < confidence < 1:
        raise DataError(f"confidence must lie between 0 and 1; got {confidence}; the usual one is 0.95")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = correct / n
    centre = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # The ends are exact in theory at 0 and n; rounding must not say otherwise.
    low = 0.0 if correct == 0 else (centre - reach) / scale
    high = 1.0 if correct == n else (centre + reach) / scale
    return low, high


def _check(labels: NDArray[Any], scores: NDArray[Any]) -> None:
    if labels.ndim != 1 or scores.ndim != 2 or len(labels) != len(scores):
        raise ShapeError(f"labels must be (N,) and scores (N, C); got {labels.shape} and {scores.shape}")
    if not len(labels):
        raise DataError("a metric needs at least one image; got none; check the split")
    _check_classes(labels, scores.shape[1])


def _check_classes(values: NDArray[Any], num_classes: int) -> None:
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < num_classes:
        raise DataError(
            f"class numbers must lie in 0 to {num_classes - 1}; got {int(values.min())} to {int(values.max())}; "
            "check that the network and the data have the same classes"
        )


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, start + ROWS) for start in range(0, n, ROWS))


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> Floats:
    """Element by element, with 0/0 as 0."""
    result: Floats = np.divide(above, below, out=np.zeros(len(above)), where=below > 0)
    return result
