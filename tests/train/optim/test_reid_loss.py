"""The loss of re-identification, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from resnets.train.config.options import LossConfig
from resnets.train.config.reid_options import ReidConfig
from resnets.train.optim.embedding_losses import triplet_loss
from resnets.train.optim.losses import ClassificationLoss
from resnets.train.optim.margin_logits import cosine_similarities, margin_logits
from resnets.train.optim.reid_loss import ReidLoss, ReidOutputs

LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def alone(*tensors: Tensor) -> None:
    """The sum over processes, where there is one."""


def loss(scale: float = 1.0, **options: Any) -> ReidLoss:
    return ReidLoss(
        ReidConfig(**options), ClassificationLoss(LossConfig(label_smoothing=0.1)), num_classes=3, num_features=4,
        scale=scale,
    )  # fmt: skip


def outputs() -> ReidOutputs:
    generator = torch.Generator().manual_seed(0)
    before, after, logits = (torch.randn(6, size, generator=generator) for size in (4, 5, 3))
    return ReidOutputs(before.requires_grad_(), after.requires_grad_(), logits.requires_grad_())


def identity(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, LABELS, label_smoothing=0.1)


def test_the_sum_of_weighted_losses() -> None:
    found = outputs()
    total = loss(id_weight=0.5, metric_weight=2.0, metric_margin=0.7)(found, LABELS)
    assert torch.isclose(total, 0.5 * identity(found.logits) + 2 * triplet_loss(found.before, LABELS, margin=0.7))


def test_the_embeddings_that_are_compared() -> None:
    found = outputs()
    after = loss(metric_features="after", id_weight=0)(found, LABELS)
    assert torch.isclose(after, triplet_loss(found.after, LABELS))
    assert not torch.isclose(after, loss(id_weight=0)(found, LABELS))


def test_every_output_gets_a_gradient_even_at_weight_zero() -> None:
    """DistributedDataParallel waits for all of them."""
    found = outputs()
    loss(id_weight=0)(found, LABELS).backward()
    assert found.logits.grad is not None
    assert found.before.grad is not None


def test_margins_apply_to_cosine_similarities() -> None:
    weight = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    found = outputs()
    similarities = cosine_similarities(found.after, weight)
    scaled = found._replace(logits=30 * similarities)
    total = loss(scale=30, id_margin="arcface", metric_loss="none")(scaled, LABELS)
    assert torch.isclose(total, identity(margin_logits(similarities, LABELS, "arcface", scale=30, margin=0.5)))
    assert total > identity(scaled.logits)


def test_centres_move_as_in_the_paper() -> None:
    """Two images at 2 and 4 from a centre at 0 move it by 0.5 * (2 + 4) / (1 + 2) = 1; others stay."""
    one = loss(center_weight=1.0, metric_loss="none", id_weight=1)
    one.centers.zero_()
    before = torch.tensor([[2.0, 0, 0, 0], [4.0, 0, 0, 0]], requires_grad=True)
    value = one(ReidOutputs(before, before, torch.zeros(2, 3)), torch.tensor([1, 1]))
    assert math.isclose(float(value.detach()), math.log(3) + (4 + 16) / 2, rel_tol=1e-5)
    assert not one.centers.any()  # until the step is done
    one.end_step(alone)
    assert one.centers[:, 0].tolist() == [0, 1, 0]


def test_a_step_that_is_run_again_counts_once() -> None:
    one, found = loss(center_weight=0.1), outputs()
    for _ in range(3):
        one.begin_step()
        value = one(found, LABELS)
    one.end_step(alone)
    assert one.sums[2] == 6
    assert float(one.sums[0]) == pytest.approx(6 * float(identity(found.logits).detach()))
    assert torch.isfinite(value)


def test_state_survives() -> None:
    one, other = loss(center_weight=0.1), loss(center_weight=0.1)
    one(outputs(), LABELS)
    one.end_step(alone)
    other.load_state(one.state(alone), is_main_process=True)
    assert torch.equal(one.centers, other.centers)
    assert torch.equal(one.sums, other.sums)
    other.load_state(one.state(alone), is_main_process=False)
    assert not other.sums.any()  # they are sums over all processes


@pytest.mark.parametrize(
    ("options", "value"), [({}, 0.3), ({"metric_margin": 0.5}, 0.5), ({"soft_margin": True}, math.log(2))]
)
def test_a_collapse_is_reported(options: dict[str, Any], value: float) -> None:
    one = loss(**options)
    same = torch.ones(6, 4)
    one(ReidOutputs(same, same, torch.zeros(6, 3)), LABELS)
    one.end_step(alone)
    message = one.end_epoch(alone)
    assert message is not None
    assert f"{value:.4f}" in message
    assert "mining=soft" in message
    one(outputs(), LABELS)
    one.end_step(alone)
    assert one.end_epoch(alone) is None


def test_micro_batches_hold_two_identities() -> None:
    """Out of memory splits batches; one identity alone would have a triplet loss of 0."""
    config, id_loss = ReidConfig(), ClassificationLoss(LossConfig())
    assert id_loss.fewest_images == 2
    assert ReidLoss(config, id_loss, 3, 4).fewest_images == 2
    assert ReidLoss(config, id_loss, 3, 4, instances=4).fewest_images == 8
