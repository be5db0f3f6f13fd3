"""Losses against torch's, or against the formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from resnets.data.augment.mixup import soft_targets
from resnets.train.config.options import LossConfig
from resnets.train.optim.losses import ClassificationLoss, class_weights

CLASSES = 5
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 0.25, 3.0])


def batch(count: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, CLASSES, generator=generator)
    return logits.requires_grad_(), torch.randint(0, CLASSES, (count,), generator=generator)


def mixed(labels: Tensor, share: float = 0.7) -> Tensor:
    soft = soft_targets(labels, CLASSES)
    return soft.lerp(soft.flip(0), 1 - share)


def assert_loss(
    config: LossConfig, labels: Tensor, logits: Tensor, expected: Tensor, weights: Tensor | None = None
) -> None:
    """Assert that value and gradient are as expected."""
    (wanted,) = torch.autograd.grad(expected, logits)
    value = ClassificationLoss(config, weights)(logits, labels)
    (gradient,) = torch.autograd.grad(value, logits)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_equals_torch(smoothing: float, weights: Tensor | None) -> None:
    logits, labels = batch()
    expected = F.cross_entropy(logits, labels, weights, label_smoothing=smoothing)
    assert_loss(LossConfig(label_smoothing=smoothing), labels, logits, expected, weights)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_mixed_labels_equals_torch(smoothing: float) -> None:
    logits, labels = batch()
    expected = F.cross_entropy(logits, mixed(labels), label_smoothing=smoothing)
    assert_loss(LossConfig(label_smoothing=smoothing), mixed(labels), logits, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_one_hot_labels_equal_class_indices(smoothing: float, weights: Tensor | None) -> None:
    logits, labels = batch()
    for kind in ("ce", "bce", "focal"):
        loss = ClassificationLoss(LossConfig(loss=kind, label_smoothing=smoothing), weights)
        torch.testing.assert_close(loss(logits, soft_targets(labels, CLASSES)), loss(logits, labels))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("soft", [False, True])
def test_binary_cross_entropy(weights: Tensor | None, soft: bool) -> None:
    logits, labels = batch()
    given = mixed(labels) if soft else labels
    shares = (mixed(labels) if soft else F.one_hot(labels, CLASSES)) * 0.9 + 0.1 / CLASSES
    each = F.binary_cross_entropy_with_logits(logits, shares, reduction="none").sum(1)
    expected = each.mean()
    if weights is not None:  # weighted by the class of the image
        image_weights = (mixed(labels) * weights).sum(1) if soft else weights[labels]
        expected = (each * image_weights).sum() / image_weights.sum()
    assert_loss(LossConfig(loss="bce", label_smoothing=0.1), given, logits, expected, weights)


def test_probabilities_above_the_threshold_are_one() -> None:
    logits, labels = batch(15)
    targets = (mixed(labels) > 0.2).float()
    assert set(targets.sum(1).tolist()) == {1.0, 2.0}  # the middle image is mixed with itself
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(labels)
    assert_loss(LossConfig(loss="bce", label_smoothing=0.0, bce_threshold=0.2), mixed(labels), logits, expected)


@pytest.mark.parametrize("threshold", [0.0, 0.2])
@pytest.mark.parametrize("soft", [False, True])
def test_smoothing_follows_the_threshold(threshold: float, soft: bool) -> None:
    logits, labels = batch(15)
    given = mixed(labels) if soft else labels
    targets = (mixed(labels) > threshold).float() if soft else soft_targets(labels, CLASSES)
    smooth = targets * 0.9 + 0.1 / CLASSES
    expected = F.binary_cross_entropy_with_logits(logits, smooth, reduction="sum") / len(labels)
    assert_loss(LossConfig(loss="bce", label_smoothing=0.1, bce_threshold=threshold), given, logits, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("soft", [False, True])
def test_focal_loss_with_gamma_zero_is_cross_entropy(smoothing: float, weights: Tensor | None, soft: bool) -> None:
    logits, labels = batch()
    given = mixed(labels) if soft else labels
    expected = ClassificationLoss(LossConfig(label_smoothing=smoothing), weights)(logits, given)
    assert_loss(LossConfig(loss="focal", focal_gamma=0.0, label_smoothing=smoothing), given, logits, expected, weights)


def test_focal_loss_by_hand() -> None:
    """-(1 - p)^2 log p, Lin et al. 2017, equation 4, for p = 0.8, 0.5 and 0.1."""
    chances = torch.tensor([0.8, 0.5, 0.1])
    logits = torch.stack((chances.log(), (1 - chances).log()), 1)
    expected = -sum((1 - p) ** 2 * math.log(p) for p in (0.8, 0.5, 0.1)) / 3
    loss = ClassificationLoss(LossConfig(loss="focal", label_smoothing=0.0))
    assert float(loss(logits, torch.zeros(3, dtype=torch.int64))) == pytest.approx(expected, rel=1e-6)
    weighted = ClassificationLoss(LossConfig(loss="focal", label_smoothing=0.0), torch.tensor([1.0, 4.0]))
    by_weight = -(0.2**2 * math.log(0.8) + 4 * 0.5**2 * math.log(0.5)) / 5
    assert float(weighted(logits[:2], torch.tensor([0, 1]))) == pytest.approx(by_weight, rel=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_of_a_confident_output_has_a_gradient(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [-200.0, 0.0]], requires_grad=True)
    loss = ClassificationLoss(LossConfig(loss="focal", focal_gamma=gamma, label_smoothing=0.0))(
        logits, torch.tensor([0, 0])
    )
    torch.autograd.backward(loss)
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_class_weights_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 3])
    assert class_weights(LossConfig(), labels, 4) is None
    balanced = class_weights(LossConfig(class_weights="balanced"), labels, 4)
    assert balanced is not None
    assert balanced == pytest.approx([10 / 18, 10 / 9, 0.0, 10 / 3])  # N / (present classes * images)
    assert float(np.array(balanced)[labels].mean()) == pytest.approx(1.0)
    assert class_weights(LossConfig(class_weights=(1.0, 2.0, 0.0, 4.0)), labels, 4) == (1, 2, 0, 4)


def test_balanced_weights_give_all_classes_the_same_influence() -> None:
    labels = torch.tensor([0] * 9 + [1])
    weights = class_weights(LossConfig(class_weights="balanced"), labels.numpy(), 2)
    logits = torch.tensor([[2.0, 0.0]] * 10)  # always "class 0"
    each = F.cross_entropy(logits, labels, reduction="none")
    expected = (each[:9].mean() + each[9]) / 2
    loss = ClassificationLoss(LossConfig(label_smoothing=0.0), torch.tensor(weights))
    torch.testing.assert_close(loss(logits, labels), expected)


def test_a_batch_of_weight_zero_has_no_loss_and_gradient() -> None:
    logits, _ = batch(4)
    for kind in ("ce", "focal", "bce"):
        loss = ClassificationLoss(LossConfig(loss=kind), torch.tensor([0.0, 1, 1, 1, 1]))
        labels = torch.zeros(4, dtype=torch.int64)
        for given in (labels, soft_targets(labels, CLASSES)):
            value = loss(logits, given)
            (gradient,) = torch.autograd.grad(value, logits)
            assert value == 0, kind
            assert not gradient.any(), kind


@pytest.mark.parametrize("kind", ["ce", "bce", "focal"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_micro_batches_combine_to_the_batch(kind: str, soft: bool, weights: Tensor | None) -> None:
    logits, labels = batch(11)
    given = mixed(labels) if soft else labels
    loss = ClassificationLoss(LossConfig(loss=kind), weights)  # type: ignore[arg-type]
    pairs = list(zip(logits.tensor_split(3), given.tensor_split(3), strict=True))
    parts = sum(loss(x, y) * loss.normalizer(y) for x, y in pairs) / loss.normalizer(given)
    torch.testing.assert_close(parts, loss(logits, given))


def test_half_precision_is_computed_in_float32() -> None:
    logits, labels = batch()
    for kind in ("ce", "bce", "focal"):
        loss = ClassificationLoss(LossConfig(loss=kind))
        value = loss(logits.detach().bfloat16(), labels)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, loss(logits.detach().bfloat16().float(), labels))
