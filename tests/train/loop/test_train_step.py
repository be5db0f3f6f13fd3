"""Train step: micro-batches, out of memory, mixed precision, gradient clipping."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from resnets.data.augment.config import MixConfig
from resnets.data.sampler import batch_bounds
from resnets.errors import TrainingError
from resnets.nn.batch_norm import split_batch
from resnets.nn.model import Network, build_model
from resnets.runtime.shard import Shard
from resnets.train.config.options import LossConfig, OptimConfig
from resnets.train.loop.train_step import TrainStep
from resnets.train.optim.losses import ClassificationLoss
from resnets.train.optim.optimizers import build_optimizer
from tests.train.nets import SMALL, images

PLAIN = replace(SMALL, norm="group", norm_groups=8)  # images do not see each other
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 0.25, 3.0])


def make(
    config: object = PLAIN, *, loss: ClassificationLoss | None = None, opt: str = "sgd", **options: object
) -> TrainStep:
    torch.manual_seed(0)
    model: Network = build_model(config)  # type: ignore[arg-type]
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.train()
    optimizer = build_optimizer(model, OptimConfig(opt=opt))  # type: ignore[arg-type]
    return TrainStep(model, optimizer, lambda step: 0.05, loss or ClassificationLoss(LossConfig()), **options)  # type: ignore[arg-type]


def gradients(train_step: TrainStep) -> dict[str, Tensor]:
    return {name: one.grad.clone() for name, one in train_step.model.named_parameters() if one.grad is not None}


def weights(train_step: TrainStep) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in train_step.model.state_dict().items()}


@pytest.mark.parametrize("parts", [2, 3, 5, 64])
@pytest.mark.parametrize("kind", ["ce", "bce", "focal"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mixing", [None, MixConfig(mixup=0.4)])
def test_micro_batches_have_the_gradients_of_the_whole_batch(
    parts: int, kind: str, weighted: bool, mixing: MixConfig | None
) -> None:
    """Eleven images make parts of uneven size."""
    x, y = images(11)
    loss = ClassificationLoss(LossConfig(loss=kind), WEIGHTS if weighted else None)  # type: ignore[arg-type]
    whole, pieces = make(loss=loss, mixing=mixing), make(loss=loss, mixing=mixing, micro_batches=parts)
    (loss_a, hits_a), (loss_b, hits_b) = whole(x, y), pieces(x, y)
    assert float(loss_a) == pytest.approx(float(loss_b), rel=1e-6)
    assert int(hits_a) == int(hits_b)
    for name, one in gradients(whole).items():
        torch.testing.assert_close(gradients(pieces)[name], one, rtol=1e-5, atol=1e-6, msg=name)


def test_gradients_of_processes_average_to_those_of_the_whole_batch() -> None:
    """With a different number of images in each process."""
    x, y = images(9)
    whole = make()
    whole(x, y)
    shares = []
    for first, last in ((0, 5), (5, 9)):
        half = make()
        half(x[first:last], y[first:last], (last - first) * 2 / 9)
        shares.append(gradients(half))
    for name, one in gradients(whole).items():
        torch.testing.assert_close((shares[0][name] + shares[1][name]) / 2, one, rtol=1e-5, atol=1e-6, msg=name)


class Narrow(nn.Module):
    """A network with room for `room` images."""

    def __init__(self, model: nn.Module, room: int, error: Exception | None = None) -> None:
        super().__init__()
        self.model, self.room, self.seen = model, room, list[int]()
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.room:
            raise self.error
        return self.model(x)  # type: ignore[no-any-return]


CPU_ERROR = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"


@pytest.mark.parametrize("error", [None, RuntimeError(CPU_ERROR)])
def test_out_of_memory_doubles_the_micro_batches_until_they_fit(error: Exception | None) -> None:
    x, y = images(12)
    messages: list[str] = []
    train_step = make(on_message=messages.append)
    train_step.network = narrow = Narrow(train_step.model, 3, error)
    manual = make(micro_batches=4)
    for _ in range(2):
        manual(x, y)
        train_step(x, y)
    assert train_step.micro_batches == 4
    assert narrow.seen == [12, 6, 3, 3, 3, 3, 3, 3, 3, 3]  # it is tried once, not at every step
    assert [line.split(":")[0] for line in messages] == ["out of memory at step 1"] * 2
    assert "batches of 12 are now split into 4 micro-batches" in messages[-1]
    assert "batch-norm statistics are those of the micro-batches" in messages[-1]
    for name, one in weights(manual).items():
        assert torch.equal(weights(train_step)[name], one), name


def test_a_failed_attempt_leaves_no_gradient_behind() -> None:
    """Its first micro-batches have added gradients already."""
    x, y = images(8)
    train_step, manual = make(micro_batches=2), make(micro_batches=4)
    calls = 0

    def network(inputs: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train_step.model(inputs)  # type: ignore[no-any-return]

    train_step.network = network
    train_step(x, y)
    manual(x, y)
    for name, one in gradients(manual).items():
        assert torch.equal(gradients(train_step)[name], one), name


def test_random_layers_draw_the_same_in_each_attempt() -> None:
    config = replace(PLAIN, drop_rate=0.5, drop_path_rate=0.4)
    x, y = images(8)
    train_step, manual = make(config), make(config, micro_batches=2)
    train_step.network = Narrow(train_step.model, 4)
    train_step(x, y)
    manual(x, y)
    for name, one in weights(manual).items():
        assert torch.equal(weights(train_step)[name], one), name


@pytest.mark.parametrize("count", [2, 3, 7, 16])
def test_no_memory_for_two_images_is_one_line(count: int) -> None:
    train_step = make()
    train_step.network = narrow = Narrow(train_step.model, 1)
    with pytest.raises(TrainingError, match=r"memory for at least 2 images; out of memory on cpu") as caught:
        train_step(*images(count))
    assert "\n" not in str(caught.value)
    assert min(narrow.seen) >= 2


def test_a_real_failed_allocation_is_recognised() -> None:
    x, y = images(4)
    train_step = make()

    def network(inputs: Tensor) -> Tensor:
        if len(inputs) > 2:
            torch.empty(2**59)  # 2 EiB
        return train_step.model(inputs)  # type: ignore[no-any-return]

    train_step.network = network
    train_step(x, y)
    assert train_step.micro_batches == 2


def test_other_errors_are_raised() -> None:
    train_step = make()
    train_step.network = Narrow(train_step.model, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        train_step(*images(4))


@given(count=st.integers(2, 200), batch=st.integers(2, 40), parts=st.integers(1, 50), shards=st.integers(1, 4))
def test_no_micro_batch_is_a_single_image(count: int, batch: int, parts: int, shards: int) -> None:
    if batch < 2 * shards and shards > 1:
        return  # refused
    for first, last in batch_bounds(count, batch, shards=shards):
        for rank in range(shards):
            start, end = Shard(rank=rank, world_size=shards).local_range(first, last)
            pieces = split_batch(torch.zeros(end - start), parts)
            assert min(map(len, pieces)) >= 2
            assert sum(map(len, pieces)) == end - start


def test_batch_norm_trains_on_any_last_batch() -> None:
    """Maps of one cell, where a batch of one is an error in torch."""
    config = replace(SMALL, img_size=4)
    train_step = make(config)
    x, y = (part[:13] for part in images(13))
    x = x[:, :, :2, :2].contiguous()
    for batch in (2, 3, 4, 6, 12):
        for parts in (1, 2, 8):
            train_step.micro_batches = parts
            for first, last in batch_bounds(13, batch):
                loss, _ = train_step(x[first:last], y[first:last])
                assert loss.isfinite()


def test_gradient_clipping_equals_torch() -> None:
    x, y = images(8)
    ours, plain = make(clip_grad=0.1), make()
    ours(x, y)
    plain.optimizer.step = lambda: None  # type: ignore[method-assign, assignment]
    plain.scaler.step = lambda optimizer: None  # type: ignore[method-assign, misc]
    plain(x, y)
    tensors = list(plain.model.parameters())
    norm = nn.utils.clip_grad_norm_(tensors, 0.1)
    assert norm > 0.1
    for one, two in zip(ours.model.parameters(), tensors, strict=True):
        assert one.grad is not None
        assert two.grad is not None
        assert torch.equal(one.grad, two.grad)
    length = math.sqrt(sum(float((one**2).sum()) for one in gradients(ours).values()))
    assert length == pytest.approx(0.1, rel=1e-3)


def test_gradient_clipping_skips_frozen_parameters() -> None:
    train_step = make(clip_grad=0.1)
    frozen = train_step.model.fc.weight  # type: ignore[union-attr]
    assert isinstance(frozen, nn.Parameter)
    frozen.requires_grad_(False)
    before = frozen.clone()
    train_step(*images(4))
    assert frozen.grad is None
    assert torch.equal(frozen, before)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_float16_scales_the_loss_and_nothing_else(clip: float | None) -> None:
    x, y = images(8)
    half, single = make(amp=torch.float16, clip_grad=clip), make(clip_grad=clip)
    half.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    losses = [(float(half(x, y)[0]), float(single(x, y)[0])) for _ in range(3)]
    for a, b in losses:
        assert a == pytest.approx(b, rel=0.02)
    for name, one in weights(single).items():
        torch.testing.assert_close(weights(half)[name], one, rtol=0.05, atol=5e-3, msg=name)


def test_a_gradient_too_large_for_float16_is_skipped() -> None:
    train_step = make(amp=torch.float16)
    train_step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = weights(train_step)
    train_step(*images(4))
    for name, one in weights(train_step).items():
        assert torch.equal(one, before[name]), name
    assert train_step.scaler.get_scale() == 2.0**39
    assert train_step.step == 1


def test_learning_rate_is_the_schedules_times_lr_scale() -> None:
    train_step = make()
    train_step.lr_scale = 0.25
    train_step(*images(2))
    assert train_step.lr == pytest.approx(0.0125)
    assert {group["lr"] for group in train_step.optimizer.param_groups} == {train_step.lr}
