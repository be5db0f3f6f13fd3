from __future__ import annotations

from pathlib import Path

import pytest
import torch

from resnets.arch.variants import get_config
from resnets.errors import TrainingError
from resnets.nn.model import ResNet, build_model
from resnets.train.average import Average
from resnets.train.checkpoint import Progress, load_state, read_state, save_state, states
from resnets.train.losses import Loss
from resnets.train.optim import build_optimizer
from resnets.train.options import AverageConfig, LossConfig, OptimConfig
from resnets.train.schedule import Schedule
from resnets.train.step import Stepper

CONFIG = get_config("resnet20_cifar", depths=(1, 1, 1))


def make(seed: int = 0, opt: str = "sgd") -> tuple[ResNet, Stepper]:
    torch.manual_seed(seed)
    model = build_model(CONFIG).to(memory_format=torch.channels_last)
    schedule = Schedule(kind="cosine", peak=0.01, warmup_steps=1, total_steps=20)
    average = Average(model, AverageConfig(ema=0.9))
    optimizer = build_optimizer(model, OptimConfig(opt=opt))  # type: ignore[arg-type]
    return model, Stepper(model, optimizer, schedule, Loss(LossConfig()), average=average)


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 3, 16, 16, generator=generator), torch.randint(0, 10, (8,), generator=generator)


@pytest.mark.parametrize("opt", ["sgd", "adamw", "lamb", "muon"])
def test_a_restored_run_goes_on_to_the_same_bits(tmp_path: Path, opt: str) -> None:
    whole, stepper = make(opt=opt)
    assert stepper.average is not None
    for step in range(6):
        stepper(*batch(step))
        if step == 2:
            progress = Progress(epoch=1, step=3, best_top1=0.5, averaged=stepper.average.count)
            path = save_state(tmp_path, progress, whole, stepper.optimizer, average=stepper.average)
    again, other = make(seed=1, opt=opt)
    state = read_state(path)
    assert state.progress == progress
    load_state(state, path, again, other.optimizer, other.average)
    other.step = state.progress.step
    for step in range(3, 6):
        other(*batch(step))
    for (name, one), two in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    assert other.average is not None
    for name, mean in stepper.average.tensors.items():
        assert torch.equal(mean, other.average.tensors[name]), name


def test_momentum_keeps_the_memory_layout_of_its_parameter(tmp_path: Path) -> None:
    model, stepper = make()
    stepper(*batch(0))
    path = save_state(tmp_path, Progress(), model, stepper.optimizer)
    again, other = make()
    load_state(read_state(path), path, again, other.optimizer)
    parameter = again.layer1[0].conv1.weight
    assert other.optimizer.state[parameter]["momentum_buffer"].stride() == parameter.stride()


def test_damaged_missing_and_foreign_states_are_one_line(tmp_path: Path) -> None:
    model, stepper = make()
    with pytest.raises(TrainingError, match="whole state"):
        read_state(tmp_path / "step-000000000.safetensors")
    path = save_state(tmp_path, Progress(), model, stepper.optimizer)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(TrainingError, match="whole state"):
        read_state(path)
    path.write_bytes(content)
    other = build_model(get_config("resnet20_cifar"))
    with pytest.raises(TrainingError, match="same network"):
        load_state(read_state(path), path, other, build_optimizer(other, OptimConfig()))


def test_the_last_states_are_kept_and_nothing_beside_them(tmp_path: Path) -> None:
    model, stepper = make()
    for step in (0, 5, 100, 20_000):
        save_state(tmp_path, Progress(step=step), model, stepper.optimizer, keep=2)
    assert [path.name for path in states(tmp_path)] == ["step-000000100.safetensors", "step-000020000.safetensors"]
    assert len(list(tmp_path.iterdir())) == 2
