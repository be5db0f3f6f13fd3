from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from resnets.arch.variants import get_config
from resnets.data.loader import Batch
from resnets.errors import TrainingError
from resnets.nn.model import build_model
from resnets.train.config.options import LossConfig, OptimConfig
from resnets.train.loop.epoch import run_epoch
from resnets.train.loop.train_step import TrainStep
from resnets.train.optim.losses import ClassificationLoss
from resnets.train.optim.optimizers import build_optimizer


class Fixed:
    """The same batches every epoch."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches
        ends = [sum(len(batch.y) for batch in batches[: number + 1]) for number in range(len(batches))]
        self.bounds = list(zip([0, *ends], ends, strict=False))

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int, *, start: int = 0, size: tuple[int, int] | None = None) -> Iterator[Batch]:
        yield from self.batches[start:]


def batches(count: int, size: int = 4, value: float = 1.0) -> Fixed:
    torch.manual_seed(0)
    return Fixed(
        [
            Batch(value * torch.randn(size, 3, 8, 8), torch.randint(0, 10, (size,)), torch.arange(size))
            for _ in range(count)
        ]
    )


def train_step(lr: float = 0.1, **options: object) -> TrainStep:
    torch.manual_seed(0)
    model = build_model(get_config("resnet20_cifar", depths=(1, 1, 1), drop_path_rate=0.3))
    optimizer = build_optimizer(model, OptimConfig(weight_decay=0.0))
    return TrainStep(model, optimizer, lambda step: lr, ClassificationLoss(LossConfig(label_smoothing=0.0)), **options)  # type: ignore[arg-type]


def test_metrics_of_an_epoch_are_means_over_images() -> None:
    steps, seen = train_step(), []
    result = run_epoch(steps, batches(3), 0, on_progress=lambda n, loss: seen.append((n, loss)))
    assert result is not None
    assert [count for count, _ in seen] == [4, 4, 4]
    assert result.loss == pytest.approx(seen[-1][1])
    assert 0 <= result.top1 <= 1
    assert result.lr == 0.1
    assert steps.step == 3


def test_a_loss_that_is_not_finite_is_an_error_with_its_step() -> None:
    with pytest.raises(TrainingError, match=r"epoch 3, step 1 of 2.*lower --lr"):
        run_epoch(train_step(), batches(2, value=float("nan")), 2)


def test_after_step_stops_the_epoch() -> None:
    steps = train_step()
    assert run_epoch(steps, batches(5), 0, after_step=lambda done: done == 2) is None
    assert steps.step == 2


def test_stochastic_depth_depends_on_seed_and_step_alone() -> None:
    def after(noise: int) -> torch.Tensor:
        steps = train_step(seed=3)
        for x, y, _ in batches(2).epoch(0):
            torch.manual_seed(noise)  # whatever else drew numbers meanwhile
            steps(x, y)
        return steps.model.fc.weight.detach().clone()  # type: ignore[union-attr, operator]

    assert torch.equal(after(1), after(2))


def test_bfloat16_steps_are_close_to_float32_steps() -> None:
    losses = []
    for amp in (None, torch.bfloat16):
        result = run_epoch(train_step(amp=amp), batches(2), 0)
        assert result is not None
        losses.append(result.loss)
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[0] != losses[1]
