"""Averaged weights against averages computed by hand, and recomputed batch-norm statistics."""

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


def change(model: nn.Module, step: int) -> None:
    """Change all weights and statistics, and count a batch."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            else:
                tensor += 1


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("warmup", [False, True])
@pytest.mark.parametrize("every", [1, 3])
def test_ema_by_hand(warmup: bool, every: int) -> None:
    model = Net()
    average = WeightAverage(model, AverageConfig(ema=0.9, ema_warmup=warmup, ema_every=every))
    expected: dict[str, torch.Tensor] = {}
    count = 0
    for step in range(1, 14):
        change(model, step)
        average.after_step(step)
        if step % every:
            continue
        decay = min(0.9, (1 + count) / (10 + count)) if warmup else 0.9
        live = {name: one.double() for name, one in snapshot(model).items() if one.is_floating_point()}
        expected = {name: decay * expected[name] + (1 - decay) * one if expected else one for name, one in live.items()}
        count += 1
    assert average.count == count == 13 // every
    assert set(average.tensors) == {"conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"}
    for name, mean in average.tensors.items():
        torch.testing.assert_close(mean.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_swa_is_the_mean_of_the_last_epochs() -> None:
    model = Net()
    average = WeightAverage(model, AverageConfig(swa_epochs=3))
    kept = []
    for epoch in range(5):
        change(model, epoch)
        average.after_step(epoch + 1)
        taken = average.after_epoch(5 - epoch - 1)
        assert taken == (epoch >= 2)
        if taken:
            kept.append(snapshot(model)["conv.weight"].double())
    torch.testing.assert_close(average.tensors["conv.weight"].double(), sum(kept) / 3, rtol=1e-6, atol=1e-6)


def test_without_an_average_nothing_changes() -> None:
    model = Net()
    average = WeightAverage(model, AverageConfig())
    average.after_step(1)
    assert not average.after_epoch(0)
    before = snapshot(model)
    with average.applied():
        assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


@pytest.mark.parametrize("fails", [False, True])
def test_applied_restores_the_weights(fails: bool) -> None:
    model = Net()
    average = WeightAverage(model, AverageConfig(ema=0.5))
    for step in (1, 2):
        change(model, step)
        average.after_step(step)
    before, addresses = snapshot(model), {name: one.data_ptr() for name, one in model.state_dict().items()}

    def use() -> None:
        with average.applied():
            torch.testing.assert_close(model.conv.weight, average.tensors["conv.weight"])
            assert not torch.equal(model.conv.weight, before["conv.weight"])
            model.train()
            model(torch.randn(4, 3, 2, 2))  # counts a batch and updates statistics
            if fails:
                raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            use()
    else:
        use()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        assert tensor.data_ptr() == addresses[name]
    assert model.conv.weight.requires_grad


def test_a_restored_average_continues_to_the_same_bits() -> None:
    model = Net()
    whole = WeightAverage(model, AverageConfig(ema=0.9))
    for step in (1, 2, 3):
        change(model, step)
        whole.after_step(step)
    again = WeightAverage(model, AverageConfig(ema=0.9))
    again.restore({name: tensor.clone() for name, tensor in whole.tensors.items()}, whole.count)
    change(model, 4)
    whole.after_step(4)
    again.after_step(4)
    assert all(torch.equal(one, again.tensors[name]) for name, one in whole.tensors.items())
    again.restore({}, 0)
    assert not again.tensors


@pytest.mark.parametrize("every", [1, 2])
def test_averages_of_frozen_tensors_are_skipped(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen, unfrozen, frozen again and restored: equal to the bit to an average that skips nothing."""
    updated: list[int] = []
    lerp = torch._foreach_lerp_

    def counting(means: list[torch.Tensor], live: list[torch.Tensor], share: float) -> None:
        updated.append(len(means))
        lerp(means, live, share)

    monkeypatch.setattr(torch, "_foreach_lerp_", counting)
    model = Net()
    config = AverageConfig(ema=0.9, ema_warmup=True, ema_every=every)
    skipping, plain = WeightAverage(model, config), WeightAverage(model, config)
    frozen = ("conv.weight", "bn.bias")
    for step in range(1, 25):
        freezing = step < 9 or step >= 13
        if step in (1, 9, 13):
            skipping.skip_frozen(frozen if freezing else ())
        if step in (5, 21):
            before, skipping = skipping, WeightAverage(model, config)
            skipping.skip_frozen(frozen)
            skipping.restore({name: tensor.clone() for name, tensor in before.tensors.items()}, before.count)
        kept = snapshot(model)
        change(model, step)
        if freezing:
            with torch.no_grad():
                for name in frozen:
                    model.state_dict()[name].copy_(kept[name])
        updated.clear()
        skipping.after_step(step)
        if step % every == 0:
            assert updated == ([] if step == every else [3] if step < 9 else [5])
            assert skipping.frozen_is_current == (step < 13)  # later, they approach the frozen tensors
        plain.after_step(step)
        for name, mean in plain.tensors.items():
            assert torch.equal(skipping.tensors[name], mean), (step, name)
            assert torch.equal(torch.signbit(skipping.tensors[name]), torch.signbit(mean))


def noise(count: int) -> list[torch.Tensor]:
    """`count` batches, the same every time."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(8, 3, 4, 4, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("count", [3, MAX_BATCHES + 2])
def test_statistics_are_averages_over_batches(count: int) -> None:
    model, images = Net(), noise(count)
    change(model, 1)
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


def test_statistics_are_of_micro_batches() -> None:
    model, images = Net(), noise(3)
    halves = [half for x in images for half in x.tensor_split(2)]
    model.train()
    update_bn(model, images, micro_batches=2)
    split = snapshot(model)
    update_bn(model, halves)
    assert all(torch.equal(one, split[name]) for name, one in model.state_dict().items())


def test_frozen_statistics_are_not_recomputed() -> None:
    model = Net()
    change(model, 1)
    model.train()
    model.bn.eval()
    before = snapshot(model)
    update_bn(model, noise(2))
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert not model.bn.training


def test_recomputing_statistics_of_applied_averages_changes_no_weights() -> None:
    model = Net()
    model.train()
    average = WeightAverage(model, AverageConfig(swa_epochs=2))
    for step in (1, 2):
        change(model, step)
        average.after_epoch(2 - step)
    before = snapshot(model)
    with average.applied():
        update_bn(model, noise(2))
        assert int(model.bn.num_batches_tracked) == 2  # type: ignore[arg-type]
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
