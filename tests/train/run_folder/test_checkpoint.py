from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from resnets.arch.variants import get_config
from resnets.errors import TrainingError
from resnets.nn.model import Network, build_model
from resnets.train.config.options import AverageConfig, LossConfig, OptimConfig
from resnets.train.loop.train_step import TrainStep
from resnets.train.optim.averages import WeightAverage
from resnets.train.optim.losses import ClassificationLoss
from resnets.train.optim.optimizers import build_optimizer
from resnets.train.run_folder.checkpoint import (
    Checkpoint,
    RunProgress,
    checkpoint_tensors,
    checkpoints,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)

CONFIG = get_config("resnet20_cifar", depths=(1, 1, 1))


def make(seed: int = 0, opt: str = "sgd") -> tuple[Network, TrainStep]:
    torch.manual_seed(seed)
    model: Network = build_model(CONFIG)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = WeightAverage(model, AverageConfig(ema=0.9))
    optimizer = build_optimizer(model, OptimConfig(opt=opt))  # type: ignore[arg-type]
    return model, TrainStep(model, optimizer, lambda step: 0.01, ClassificationLoss(LossConfig()), average=average)


def save(folder: Path, progress: RunProgress, model: Network, train_step: TrainStep) -> Path:
    tensors = checkpoint_tensors(model, train_step.optimizer, train_step.average)
    return save_checkpoint(Checkpoint(progress=progress, tensors=tensors), folder)


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 3, 16, 16, generator=generator), torch.randint(0, 10, (8,), generator=generator)


@pytest.mark.parametrize("opt", ["sgd", "adamw", "lamb", "muon"])
def test_a_restored_run_continues_to_the_same_bits(tmp_path: Path, opt: str) -> None:
    whole, train_step = make(opt=opt)
    assert train_step.average is not None
    for step in range(6):
        train_step(*batch(step))
        if step == 2:
            progress = RunProgress(epoch=1, step=3, best_top1=0.5, average_updates=train_step.average.count)
            path = save(tmp_path, progress, whole, train_step)
    again, other = make(seed=1, opt=opt)
    checkpoint = read_checkpoint(path)
    assert checkpoint.progress == progress
    load_checkpoint(checkpoint, path, again, other.optimizer, other.average)
    other.step = checkpoint.progress.step
    for step in range(3, 6):
        other(*batch(step))
    for (name, one), two in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    assert other.average is not None
    for name, mean in train_step.average.tensors.items():
        assert torch.equal(mean, other.average.tensors[name]), name


def test_momentum_has_the_memory_format_of_its_parameter(tmp_path: Path) -> None:
    model, train_step = make()
    train_step(*batch(0))
    path = save(tmp_path, RunProgress(), model, train_step)
    again, other = make()
    load_checkpoint(read_checkpoint(path), path, again, other.optimizer)
    parameter = again.get_parameter("layer1.0.conv1.weight")
    assert other.optimizer.state[parameter]["momentum_buffer"].stride() == parameter.stride()


def test_missing_damaged_and_foreign_checkpoints_are_errors(tmp_path: Path) -> None:
    model, train_step = make()
    with pytest.raises(TrainingError, match="undamaged checkpoint"):
        read_checkpoint(tmp_path / "step-000000000.safetensors")
    path = save(tmp_path, RunProgress(), model, train_step)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(TrainingError, match="undamaged checkpoint"):
        read_checkpoint(path)
    path.write_bytes(content)
    other = build_model(get_config("resnet20_cifar"))
    with pytest.raises(TrainingError, match="same network"):
        load_checkpoint(read_checkpoint(path), path, other, build_optimizer(other, OptimConfig()))


def test_the_last_checkpoints_are_kept_and_no_other_files(tmp_path: Path) -> None:
    model, train_step = make()
    for step in (0, 5, 100, 20_000):
        save(tmp_path, RunProgress(step=step), model, train_step)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000000100.safetensors", "step-000020000.safetensors"]
    assert len(list(tmp_path.iterdir())) == 2


def flip_bit(content: bytearray, data: int) -> None:
    content[data + 1000] ^= 1


def zero_data(content: bytearray, data: int) -> None:
    content[data:] = bytes(len(content) - data)


def change_progress(content: bytearray, _: int) -> None:
    place = content.index(b'\\"step\\": 7')
    content[place : place + 11] = b'\\"step\\": 8'


@pytest.mark.parametrize("damage", [flip_bit, zero_data, change_progress])
def test_a_checkpoint_whose_bytes_have_changed_is_damaged(
    tmp_path: Path, damage: Callable[[bytearray, int], None]
) -> None:
    """Even if safetensors can read it."""
    model, train_step = make()
    train_step(*batch(0))
    path = save(tmp_path, RunProgress(step=7), model, train_step)
    content = bytearray(path.read_bytes())
    damage(content, 8 + struct.unpack("<Q", content[:8])[0])
    path.write_bytes(content)
    with safe_open(path, framework="pt") as file:
        assert file.keys()
    with pytest.raises(TrainingError, match=r"undamaged checkpoint; .*digest") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("header", ["{}", '{"schema": 1, "progress": {}, "digest": ""}', "no JSON"])
def test_a_checkpoint_without_a_valid_header_is_damaged(tmp_path: Path, header: str) -> None:
    model, train_step = make()
    path = save(tmp_path, RunProgress(), model, train_step)
    save_file(load_file(path), path, {"resnets": header})
    with pytest.raises(TrainingError, match="undamaged checkpoint"):
        read_checkpoint(path)
