import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from resnets.evaluate import metrics

# Six images of three classes; class 2 is never predicted:
#   true       0 0 0 1 1 2
#   predicted  0 0 1 1 0 1
LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTIONS = np.array([0, 0, 1, 1, 0, 1])
CONFUSION = np.array([[2, 1, 0], [1, 1, 0], [0, 1, 0]])


@st.composite
def outputs(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any]]:
    """Small (labels (N,), logits (N, C)) with some equal logits."""
    n, c = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    logits = draw(st.lists(st.integers(-4, 4), min_size=n * c, max_size=n * c))
    labels = draw(st.lists(st.integers(0, c - 1), min_size=n, max_size=n))
    return np.array(labels), np.array(logits, np.float32).reshape(n, c)


def test_confusion_matrix_by_hand() -> None:
    assert_array_equal(metrics.confusion_matrix(LABELS, PREDICTIONS, 3), CONFUSION)


def test_per_class_by_hand_with_a_class_never_predicted() -> None:
    classes = metrics.per_class(CONFUSION)
    assert_allclose(classes.precision, [2 / 3, 1 / 3, 0])  # the last is 0/0
    assert_allclose(classes.recall, [2 / 3, 1 / 2, 0])  # the last is 0/1
    assert_allclose(classes.f1, [2 / 3, 2 / 5, 0])
    assert_array_equal(classes.support, [3, 2, 1])
    assert_array_equal(classes.predicted, [3, 3, 0])


def test_macro_average_leaves_out_classes_without_images() -> None:
    for confusion, mean in (
        (CONFUSION, (2 / 3 + 1 / 2 + 0) / 3),
        (np.array([[3, 1, 0], [0, 0, 0], [0, 0, 2]]), (3 / 4 + 1) / 2),
    ):
        classes = metrics.per_class(confusion)
        assert metrics.macro_average(classes.recall, classes.support) == pytest.approx(mean)
    assert metrics.macro_average(np.array([1.0, 0.5, 0.2]), np.array([4, 0, 1])) == pytest.approx(0.6)


def test_most_confused_orders_by_count_then_by_class() -> None:
    matrix = np.array([[9, 1, 4], [4, 9, 0], [0, 7, 9]])
    assert metrics.most_confused(matrix, 3) == [(2, 1, 7), (0, 2, 4), (1, 0, 4)]
    assert metrics.most_confused(np.diag([3, 4]), 5) == []
    assert matrix[0, 0] == 9  # the caller's matrix is unchanged


def test_top_k_by_hand() -> None:
    scores = np.array([[5.0, 4, 3, 2], [5, 4, 3, 2], [5, 4, 3, 2], [5, 4, 3, 2]])
    labels = np.array([0, 1, 1, 3])
    assert [metrics.top_k_accuracy(labels, scores, k) for k in (1, 2, 3, 4, 9)] == [0.25, 0.75, 0.75, 1, 1]


def test_top_k_of_equal_scores_is_at_chance_level() -> None:
    constant = np.zeros((10, 10))
    labels = np.arange(10)
    assert metrics.top_k_accuracy(labels, constant, 1) == 0.1
    assert metrics.top_k_accuracy(labels, constant, 5) == 0.5


def test_cross_entropy_by_hand() -> None:
    labels = np.array([0, 1])
    logits = np.log(np.array([[0.5, 0.3, 0.2], [0.6, 0.25, 0.15]]))
    assert metrics.cross_entropy(labels, logits) == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert metrics.cross_entropy(labels, np.zeros((2, 3))) == pytest.approx(math.log(3))


def test_cross_entropy_of_large_logits_is_finite() -> None:
    assert metrics.cross_entropy(np.array([1]), np.array([[1e4, 0.0]], np.float32)) == pytest.approx(1e4)


def test_metrics_do_not_depend_on_the_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 4, 50), rng.normal(size=(50, 4))
    whole = metrics.cross_entropy(labels, logits), metrics.top_k_accuracy(labels, logits, 2)
    monkeypatch.setattr(metrics, "CHUNK_ROWS", 7)
    assert (metrics.cross_entropy(labels, logits), metrics.top_k_accuracy(labels, logits, 2)) == pytest.approx(whole)


def test_calibration_error_by_hand() -> None:
    # Bin (0.6, 0.667]: two at 0.65, one correct: gap |1 - 1.30| = 0.30. Bin (0.933, 1]: two at 1.0, one correct: 1.
    confidences = np.array([0.65, 0.65, 1.0, 1.0])
    correct = np.array([True, False, True, False])
    assert metrics.expected_calibration_error(confidences, correct) == pytest.approx((0.30 + 1) / 4)
    assert metrics.expected_calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0


def test_calibration_bins_include_their_upper_edge() -> None:
    # With two bins, 0.5 lies in (0, 0.5], apart from 0.6: gaps 0.5 and 0.6 do not cancel.
    gap = metrics.expected_calibration_error(np.array([0.5, 0.6]), np.array([True, False]), bins=2)
    assert gap == pytest.approx((0.5 + 0.6) / 2)


def test_wilson_interval_matches_published_cases() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3.
    assert metrics.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert metrics.wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert metrics.wilson_interval(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert metrics.wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_contains_the_accuracy_and_is_symmetric(counts: tuple[int, int]) -> None:
    correct, n = counts
    low, high = metrics.wilson_interval(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    assert low < high
    assert metrics.wilson_interval(n - correct, n) == pytest.approx((1 - high, 1 - low))
    narrow = metrics.wilson_interval(correct * 4, n * 4)  # more images, so a narrower interval
    assert low <= narrow[0]
    assert narrow[1] <= high


@given(outputs())
def test_laws_of_the_metrics(output: tuple[NDArray[Any], NDArray[Any]]) -> None:
    labels, logits = output
    n, c = logits.shape
    predictions = logits.argmax(axis=1)
    matrix = metrics.confusion_matrix(labels, predictions, c)
    probabilities = metrics.softmax(logits)
    confidences = probabilities.max(axis=1)
    correct = predictions == labels

    assert_array_equal(matrix.sum(axis=1), np.bincount(labels, minlength=c))
    assert np.trace(matrix) == correct.sum()
    by_k = [metrics.top_k_accuracy(labels, logits, k) for k in range(1, c + 1)]
    assert by_k == sorted(by_k)
    assert by_k[0] == correct.mean()
    assert by_k[-1] == 1
    assert_allclose(probabilities.sum(axis=1), 1)
    loss = metrics.cross_entropy(labels, logits)
    assert loss == pytest.approx(-np.log(probabilities[np.arange(n), labels]).mean())
    assert metrics.cross_entropy(labels, logits + 3) == pytest.approx(loss)
    ece = metrics.expected_calibration_error(confidences, correct)
    # By the triangle inequality no binning finds less than one bin does.
    assert abs(confidences.mean() - correct.mean()) <= ece + 1e-12
    assert ece <= 1
    classes = metrics.per_class(matrix)
    low, high = np.minimum(classes.precision, classes.recall), np.maximum(classes.precision, classes.recall)
    assert np.all((low - 1e-12 <= classes.f1) & (classes.f1 <= high + 1e-12))
    # Accuracy is recall weighted by support.
    assert (classes.recall * classes.support).sum() / n == pytest.approx(correct.mean())
