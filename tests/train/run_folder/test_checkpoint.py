from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from resnets.arch.variants import get_config
from resnets.errors import TrainingError
from resnets.nn.model import ResNet, build_model
from resnets.train.config.options import AverageConfig, LossConfig, OptimConfig
from resnets.train.loop.train_step import TrainStep
from resnets.train.optim.averages import WeightAverage
from resnets.train.optim.losses import ClassificationLoss
from resnets.train.optim.optimizers import build_optimizer
from resnets.train.optim.schedules import WarmupSchedule
from resnets.train.run_folder.checkpoint import (
    RunProgress,
    checkpoints,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)

CONFIG = get_config("resnet20_cifar", depths=(1, 1, 1))


def make(seed: int = 0, opt: str = "sgd") -> tuple[ResNet, TrainStep]:
    torch.manual_seed(seed)
    model = build_model(CONFIG).to(memory_format=torch.channels_last)
    schedule = WarmupSchedule(kind="cosine", peak=0.01, warmup_steps=1, total_steps=20)
    average = WeightAverage(model, AverageConfig(ema=0.9))
    optimizer = build_optimizer(model, OptimConfig(opt=opt))  # type: ignore[arg-type]
    return model, TrainStep(model, optimizer, schedule, ClassificationLoss(LossConfig()), average=average)


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 3, 16, 16, generator=generator), torch.randint(0, 10, (8,), generator=generator)


@pytest.mark.parametrize("opt", ["sgd", "adamw", "lamb", "muon"])
def test_a_restored_run_goes_on_to_the_same_bits(tmp_path: Path, opt: str) -> None:
    whole, train_step = make(opt=opt)
    assert train_step.average is not None
    for step in range(6):
        train_step(*batch(step))
        if step == 2:
            progress = RunProgress(epoch=1, step=3, best_top1=0.5, average_updates=train_step.average.count)
            path = save_checkpoint(tmp_path, progress, whole, train_step.optimizer, average=train_step.average)
    again, other = make(seed=1, opt=opt)
    state = read_checkpoint(path)
    assert state.progress == progress
    load_checkpoint(state, path, again, other.optimizer, other.average)
    other.step = state.progress.step
    for step in range(3, 6):
        other(*batch(step))
    for (name, one), two in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    assert other.average is not None
    for name, mean in train_step.average.tensors.items():
        assert torch.equal(mean, other.average.tensors[name]), name


def test_momentum_keeps_the_memory_layout_of_its_parameter(tmp_path: Path) -> None:
    model, train_step = make()
    train_step(*batch(0))
    path = save_checkpoint(tmp_path, RunProgress(), model, train_step.optimizer)
    again, other = make()
    load_checkpoint(read_checkpoint(path), path, again, other.optimizer)
    parameter = again.layer1[0].conv1.weight
    assert other.optimizer.state[parameter]["momentum_buffer"].stride() == parameter.stride()


def test_damaged_missing_and_foreign_states_are_one_line(tmp_path: Path) -> None:
    model, train_step = make()
    with pytest.raises(TrainingError, match="whole state"):
        read_checkpoint(tmp_path / "step-000000000.safetensors")
    path = save_checkpoint(tmp_path, RunProgress(), model, train_step.optimizer)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(TrainingError, match="whole state"):
        read_checkpoint(path)
    path.write_bytes(content)
    other = build_model(get_config("resnet20_cifar"))
    with pytest.raises(TrainingError, match="same network"):
        load_checkpoint(read_checkpoint(path), path, other, build_optimizer(other, OptimConfig()))


def test_the_last_states_are_kept_and_nothing_beside_them(tmp_path: Path) -> None:
    model, train_step = make()
    for step in (0, 5, 100, 20_000):
        save_checkpoint(tmp_path, RunProgress(step=step), model, train_step.optimizer, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000000100.safetensors", "step-000020000.safetensors"]
    assert len(list(tmp_path.iterdir())) == 2


def _flip(content: bytearray, data: int) -> None:
    content[data + 1000] ^= 1


def _zero(content: bytearray, data: int) -> None:
    content[data:] = bytes(len(content) - data)


def _other_progress(content: bytearray, _: int) -> None:
    place = content.index(b'\\"step\\": 7')
    content[place : place + 11] = b'\\"step\\": 8'


@pytest.mark.parametrize("damage", [_flip, _zero, _other_progress])
def test_a_state_whose_bytes_have_changed_is_damaged(tmp_path: Path, damage: Callable[[bytearray, int], None]) -> None:
    """The file is one that safetensors reads."""
    model, train_step = make()
    train_step(*batch(0))
    path = save_checkpoint(tmp_path, RunProgress(step=7), model, train_step.optimizer, average=train_step.average)
    content = bytearray(path.read_bytes())
    damage(content, 8 + struct.unpack("<Q", content[:8])[0])
    path.write_bytes(content)
    with safe_open(path, framework="pt") as file:
        assert file.keys()
    with pytest.raises(TrainingError, match=r"whole state; .* not what was written; start") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_state_without_a_digest_is_read(tmp_path: Path) -> None:
    """As they were written before there was one."""
    model, train_step = make()
    train_step(*batch(0))
    progress = RunProgress(step=1, seconds=0.1)
    path = save_checkpoint(tmp_path, progress, model, train_step.optimizer)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["resnets"])
    tensors = read_checkpoint(path).tensors
    assert len(header.pop("digest")) == 32
    save_file(tensors, path, {"resnets": json.dumps(header)})
    again = read_checkpoint(path)
    assert again.progress == progress
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in tensors.items())
