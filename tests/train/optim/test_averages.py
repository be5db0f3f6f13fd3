"""Averaged weights against averages by hand, and what measuring them leaves behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resnets.nn.batch_norm import MAX_BATCHES, update_bn
from resnets.train.config.options import AverageConfig
from resnets.train.optim.averages import WeightAverage


class Net(nn.Module):
    """A weight and a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))  # type: ignore[no-any-return]


def move(model: nn.Module, step: int) -> None:
    """New weights and statistics, and a batch counted."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            else:
                tensor += 1


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("every", [1, 3])
def test_exponential_average_by_hand(warm: bool, every: int) -> None:
    model = Net()
    average = WeightAverage(model, AverageConfig(ema=0.9, ema_warmup=warm, ema_every=every))
    expected: dict[str, torch.Tensor] = {}
    count = 0
    for step in range(1, 14):
        move(model, step)
        average.after_step(step)
        if step % every:
            continue
        decay = min(0.9, (1 + count) / (10 + count)) if warm else 0.9
        live = {name: one.double() for name, one in snapshot(model).items() if one.is_floating_point()}
        expected = {name: decay * expected[name] + (1 - decay) * one if expected else one for name, one in live.items()}
        count += 1
    assert average.count == count == 13 // every
    assert set(average.tensors) == {"conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"}
    for name, mean in average.tensors.items():
        torch.testing.assert_close(mean.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_the_mean_of_the_last_epochs() -> None:
    model = Net()
    average = WeightAverage(model, AverageConfig(swa_epochs=3))
    kept = []
    for epoch in range(5):
        move(model, epoch)
        average.after_step(epoch + 1)
        taken = average.after_epoch(5 - epoch - 1)
        assert taken == (epoch >= 2)
        if taken:
            kept.append(snapshot(model)["conv.weight"].double())
    torch.testing.assert_close(average.tensors["conv.weight"].double(), sum(kept) / 3, rtol=1e-6, atol=1e-6)


def test_no_average_is_no_change() -> None:
    model = Net()
    average = WeightAverage(model, AverageConfig())
    average.after_step(1)
    assert not average.after_epoch(0)
    before = snapshot(model)
    with average.applied():
        assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_there_comes_back(fails: bool) -> None:
    model = Net()
    average = WeightAverage(model, AverageConfig(ema=0.5))
    for step in (1, 2):
        move(model, step)
        average.after_step(step)
    before, places = snapshot(model), {name: one.data_ptr() for name, one in model.state_dict().items()}

    def use() -> None:
        with average.applied():
            torch.testing.assert_close(model.conv.weight, average.tensors["conv.weight"])
            assert not torch.equal(model.conv.weight, before["conv.weight"])
            model.train()
            model(torch.randn(4, 3, 2, 2))  # counts a batch and moves statistics
            if fails:
                raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            use()
    else:
        use()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        assert tensor.data_ptr() == places[name]
    assert model.conv.weight.requires_grad


def test_a_restored_average_goes_on_to_the_same_bits() -> None:
    model = Net()
    whole = WeightAverage(model, AverageConfig(ema=0.9))
    for step in (1, 2, 3):
        move(model, step)
        whole.after_step(step)
    again = WeightAverage(model, AverageConfig(ema=0.9))
    again.restore({name: tensor.clone() for name, tensor in whole.tensors.items()}, whole.count)
    move(model, 4)
    whole.after_step(4)
    again.after_step(4)
    assert all(torch.equal(one, again.tensors[name]) for name, one in whole.tensors.items())
    again.restore({}, 0)
    assert not again.tensors


@pytest.mark.parametrize("every", [1, 2])
def test_the_mean_of_what_does_not_move_is_left_alone(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held, unfrozen and held again, put down and taken up: to the bit what it is when nothing is known to be held."""
    moved: list[int] = []
    lerp = torch._foreach_lerp_

    def counting(means: list[torch.Tensor], live: list[torch.Tensor], share: float) -> None:
        moved.append(len(means))
        lerp(means, live, share)

    monkeypatch.setattr(torch, "_foreach_lerp_", counting)
    model = Net()
    config = AverageConfig(ema=0.9, ema_warmup=True, ema_every=every)
    told, plain = WeightAverage(model, config), WeightAverage(model, config)
    held = ("conv.weight", "bn.bias")
    for step in range(1, 25):
        holding = step < 9 or step >= 13
        if step in (1, 9, 13):
            told.skip_frozen(held if holding else ())
        if step in (5, 21):
            before, told = told, WeightAverage(model, config)
            told.skip_frozen(held)
            told.restore({name: tensor.clone() for name, tensor in before.tensors.items()}, before.count)
        kept = snapshot(model)
        move(model, step)
        if holding:
            with torch.no_grad():
                for name in held:
                    model.state_dict()[name].copy_(kept[name])
        moved.clear()
        told.after_step(step)
        if step % every == 0:
            assert moved == ([] if step == every else [3] if step < 9 else [5])
            assert told.frozen_is_current == (step < 13)  # from there on, the mean of what is held is on its way
        plain.after_step(step)
        for name, mean in plain.tensors.items():
            assert torch.equal(told.tensors[name], mean), (step, name)
            assert torch.equal(torch.signbit(told.tensors[name]), torch.signbit(mean))


def noise(count: int) -> list[torch.Tensor]:
    """`count` batches, the same every time."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(8, 3, 4, 4, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("count", [3, MAX_BATCHES + 2])
def test_statistics_are_the_mean_over_batches(count: int) -> None:
    model, images = Net(), noise(count)
    move(model, 1)
    model.bn.momentum = 0.25
    model.train()
    update_bn(model, images)
    maps = [model.conv(x).double() for x in images[:MAX_BATCHES]]
    mean = torch.stack([one.mean((0, 2, 3)) for one in maps]).mean(0)
    var = torch.stack([one.var((0, 2, 3)) for one in maps]).mean(0)
    torch.testing.assert_close(model.bn.running_mean.double(), mean, rtol=1e-4, atol=1e-5)  # type: ignore[union-attr]
    torch.testing.assert_close(model.bn.running_var.double(), var, rtol=1e-4, atol=1e-5)  # type: ignore[union-attr]
    assert model.bn.momentum == 0.25
    assert model.training
    assert model.bn.training


def test_statistics_are_measured_in_micro_batches() -> None:
    model, images = Net(), noise(3)
    halves = [half for x in images for half in x.tensor_split(2)]
    model.train()
    update_bn(model, images, micro_batches=2)
    split = snapshot(model)
    update_bn(model, halves)
    assert all(torch.equal(one, split[name]) for name, one in model.state_dict().items())


def test_frozen_statistics_are_not_measured_anew() -> None:
    model = Net()
    move(model, 1)
    model.train()
    model.bn.eval()
    before = snapshot(model)
    update_bn(model, noise(2))
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert not model.bn.training


def test_measuring_with_the_mean_applied_leaves_no_trace() -> None:
    model = Net()
    model.train()
    average = WeightAverage(model, AverageConfig(swa_epochs=2))
    for step in (1, 2):
        move(model, step)
        average.after_epoch(2 - step)
    before = snapshot(model)
    with average.applied():
        update_bn(model, noise(2))
        assert int(model.bn.num_batches_tracked) == 2  # type: ignore[arg-type]
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
