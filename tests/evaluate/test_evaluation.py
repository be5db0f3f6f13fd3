import json
import math

import numpy as np
import pytest

from resnets.errors import DataError, ShapeError
from resnets.evaluate import metrics
from resnets.evaluate.evaluation import Evaluation, Mistake


def evaluation(**changes):
    """Four images, three classes: right at 0.8, wrong at 0.7, wrong at 0.9, right at 0.5."""
    fields = {
        "labels": np.array([0, 1, 2, 1]),
        "logits": np.log(
            np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.06, 0.9, 0.04], [0.25, 0.5, 0.25]], np.float32)
        ),
        "indices": np.array([10, 11, 12, 13]),
        "classes": ("ant", "bee", "cow"),
    }
    return Evaluation(**(fields | changes))


def test_summary_by_hand_is_json():
    summary = evaluation().summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["images"] == 4
    assert summary["correct"] == 2
    assert summary["top1"] == 0.5
    assert (summary["k"], summary["topk"]) == (3, 1.0)
    assert summary["loss"] == pytest.approx(-math.log(0.8 * 0.2 * 0.04 * 0.5) / 4, rel=1e-5)
    assert summary["balanced_accuracy"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert summary["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert summary["ece"] == pytest.approx((0.2 + 0.7 + 0.9 + 0.5) / 4, rel=1e-5)
    low, high = summary["top1_interval_95"]
    assert low < 0.5 < high


def test_topk_takes_five_of_many_classes():
    logits = np.tile(np.arange(8, dtype=np.float32), (2, 1))  # the classes 3 to 7 lead
    many = evaluation(labels=np.array([2, 3]), logits=logits, indices=np.arange(2), classes=tuple(map(str, range(8))))
    assert (many.k, many.topk, many.top1) == (5, 0.5, 0)


def test_worst_are_the_most_confident_mistakes():
    worst = evaluation().worst(5)
    assert [mistake.index for mistake in worst] == [12, 11]
    assert worst[0] == Mistake(
        index=12,
        label=2,
        prediction=1,
        confidence=pytest.approx(0.9),
        label_confidence=pytest.approx(0.04),
    )
    assert [mistake.index for mistake in evaluation().worst(1)] == [12]


def test_worst_breaks_ties_by_index_and_may_be_empty():
    same = np.array([[2, 0], [2, 0], [2, 0]], np.float32)
    ties = evaluation(labels=np.array([1, 1, 1]), logits=same, indices=np.array([5, 3, 4]), classes=("a", "b"))
    assert [mistake.index for mistake in ties.worst()] == [3, 4, 5]
    perfect = evaluation(labels=np.array([0, 0, 1, 1]))
    assert perfect.worst() == []


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"classes": ("ant", "bee")}, ShapeError),
        ({"indices": np.arange(3)}, ShapeError),
        ({"labels": np.array([0, 1, 2, 3])}, DataError),
        ({"labels": np.array([0, 1, 2, -1])}, DataError),
    ],
)
def test_refuses_what_does_not_fit(changes, error):
    with pytest.raises(error):
        evaluation(**changes)


def test_refuses_no_images():
    none = np.array([], np.int64)
    with pytest.raises(DataError, match="at least one image"):
        evaluation(labels=none, indices=none, logits=np.zeros((0, 3), np.float32))


def test_confidences_cross_the_border_of_a_chunk(monkeypatch):
    whole = evaluation().confidences
    monkeypatch.setattr(metrics, "ROWS", 3)
    np.testing.assert_allclose(evaluation().confidences, whole)
