import json
import math
from typing import Any

import numpy as np
import pytest

from resnets.errors import DataError, ShapeError
from resnets.evaluate import metrics
from resnets.evaluate.evaluation import Evaluation, Misclassification


def evaluation(**changes: Any) -> Evaluation:
    """Four images, three classes: correct at 0.8, wrong at 0.7, wrong at 0.9, correct at 0.5."""
    fields: dict[str, Any] = {
        "labels": np.array([0, 1, 2, 1]),
        "logits": np.log(
            np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.06, 0.9, 0.04], [0.25, 0.5, 0.25]], np.float32)
        ),
        "indices": np.array([10, 11, 12, 13]),
        "classes": ("ant", "bee", "cow"),
    }
    return Evaluation(**(fields | changes))


def test_summary_matches_hand_computed_metrics_and_is_json() -> None:
    summary = evaluation().summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["images"] == 4
    assert summary["correct"] == 2
    assert summary["top1"] == 0.5
    assert summary["top5"] is None
    assert summary["loss"] == pytest.approx(-math.log(0.8 * 0.2 * 0.04 * 0.5) / 4, rel=1e-5)
    assert summary["balanced_accuracy"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert summary["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert summary["ece"] == pytest.approx((0.2 + 0.7 + 0.9 + 0.5) / 4, rel=1e-5)
    low, high = summary["top1_interval_95"]
    assert low < 0.5 < high


def test_top5_counts_the_five_highest_logits() -> None:
    logits = np.tile(np.arange(8, dtype=np.float32), (2, 1))  # classes 3 to 7 have the highest logits
    many = evaluation(labels=np.array([2, 3]), logits=logits, indices=np.arange(2), classes=tuple(map(str, range(8))))
    assert (many.top5, many.top1) == (0.5, 0)


@pytest.mark.parametrize(("classes", "top5"), [(5, None), (6, 1.0)])
def test_top5_needs_more_than_five_classes(classes: int, top5: float | None) -> None:
    names = tuple(map(str, range(classes)))
    one = evaluation(
        labels=np.array([1]), logits=np.zeros((1, classes), np.float32), indices=np.zeros(1, np.int64), classes=names
    )
    assert one.top5 == top5


def test_most_confident_errors_are_in_descending_confidence() -> None:
    errors = evaluation().most_confident_errors(5)
    assert [error.index for error in errors] == [12, 11]
    first = errors[0]
    assert isinstance(first, Misclassification)
    assert (first.index, first.label, first.prediction) == (12, 2, 1)
    assert (first.confidence, first.label_confidence) == pytest.approx((0.9, 0.04))
    assert [error.index for error in evaluation().most_confident_errors(1)] == [12]


def test_most_confident_errors_break_ties_by_index_and_may_be_empty() -> None:
    same = np.array([[2, 0], [2, 0], [2, 0]], np.float32)
    ties = evaluation(labels=np.array([1, 1, 1]), logits=same, indices=np.array([5, 3, 4]), classes=("a", "b"))
    assert [error.index for error in ties.most_confident_errors()] == [3, 4, 5]
    perfect = evaluation(labels=np.array([0, 0, 1, 1]))
    assert perfect.most_confident_errors() == []


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"classes": ("ant", "bee")}, ShapeError),
        ({"indices": np.arange(3)}, ShapeError),
        ({"labels": np.array([0, 1, 2, 3])}, DataError),
        ({"labels": np.array([0, 1, 2, -1])}, DataError),
    ],
)
def test_mismatched_arrays_and_labels_are_rejected(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        evaluation(**changes)


def test_an_evaluation_without_images_is_rejected() -> None:
    none = np.array([], np.int64)
    with pytest.raises(DataError, match="at least one image"):
        evaluation(labels=none, indices=none, logits=np.zeros((0, 3), np.float32))


def test_confidences_do_not_depend_on_the_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluation().confidences
    monkeypatch.setattr(metrics, "CHUNK_ROWS", 3)
    np.testing.assert_allclose(evaluation().confidences, whole)
