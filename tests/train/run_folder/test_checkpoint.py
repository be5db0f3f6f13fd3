from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import get_config
from resnets.errors import TrainingError
from resnets.nn.model import Network, build_model
from resnets.runtime.console import Console
from resnets.train.config.options import AverageConfig, LossConfig, OptimConfig, SaveConfig
from resnets.train.loop.metrics import EpochMetrics
from resnets.train.loop.train_step import TrainStep
from resnets.train.optim.averages import WeightAverage
from resnets.train.optim.losses import ClassificationLoss
from resnets.train.optim.optimizers import build_optimizer
from resnets.train.run_folder.checkpoint import RunProgress, checkpoint_tensors, checkpoints, read_checkpoint
from resnets.train.run_folder.checkpointer import Checkpointer
from resnets.train.run_folder.paths import RunFolder

CONFIG = get_config("resnet20_cifar", depths=(1, 1, 1))


def make(seed: int = 0, opt: str = "sgd", network: NetworkConfig = CONFIG) -> TrainStep:
    torch.manual_seed(seed)
    model: Network = build_model(network)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = WeightAverage(model, AverageConfig(ema=0.9))
    optimizer = build_optimizer(model, OptimConfig(opt=opt))  # type: ignore[arg-type]
    return TrainStep(model, optimizer, lambda step: 0.01, ClassificationLoss(LossConfig()), average=average)


def make_checkpointer(folder: Path) -> Checkpointer:
    run = RunFolder(folder)
    run.checkpoints.mkdir(exist_ok=True)
    return Checkpointer(run, SaveConfig(keep=2), Console(silent=True))


def save(folder: Path, train_step: TrainStep) -> Path:
    """The path of a new checkpoint of the run in `folder`."""
    make_checkpointer(folder).save(RunProgress(), train_step, EpochMetrics(train_step.device))
    return folder / "checkpoints" / f"step-{train_step.step:09d}.safetensors"


def restore(path: Path, train_step: TrainStep) -> None:
    checkpointer = make_checkpointer(path.parent.parent)
    checkpointer.restore(read_checkpoint(path), train_step, EpochMetrics(train_step.device))


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 3, 16, 16, generator=generator), torch.randint(0, 10, (8,), generator=generator)


@pytest.mark.parametrize("opt", ["sgd", "adamw", "lamb", "muon"])
def test_a_restored_run_continues_to_the_same_bits(tmp_path: Path, opt: str) -> None:
    whole, again = make(opt=opt), make(seed=1, opt=opt)
    for step in range(6):
        whole(*batch(step))
        if step == 2:
            progress, metrics = RunProgress(epoch=1, best_score=(0.5, -1.0)), EpochMetrics(whole.device)
            progress = make_checkpointer(tmp_path).save(progress, whole, metrics)
    (path,) = checkpoints(tmp_path / "checkpoints")
    assert read_checkpoint(path).progress == progress
    assert (progress.epoch, progress.step, progress.best_score, progress.average_updates) == (1, 3, (0.5, -1.0), 3)
    restore(path, again)
    for step in range(3, 6):
        again(*batch(step))
    one, two = (checkpoint_tensors(run.model, run.optimizer, run.average) for run in (whole, again))
    assert any(name.startswith("average.") for name in one)
    assert set(one) == set(two)
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


def test_momentum_has_the_memory_format_of_its_parameter(tmp_path: Path) -> None:
    train_step, other = make(), make()
    train_step(*batch(0))
    restore(save(tmp_path, train_step), other)
    parameter = other.model.get_parameter("layer1.0.conv1.weight")
    assert other.optimizer.state[parameter]["momentum_buffer"].stride() == parameter.stride()


def test_missing_damaged_and_foreign_checkpoints_are_errors(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="undamaged checkpoint"):
        read_checkpoint(tmp_path / "step-000000000.safetensors")
    path = save(tmp_path, make())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(TrainingError, match="undamaged checkpoint"):
        read_checkpoint(path)
    path.write_bytes(content)
    with pytest.raises(TrainingError, match="same network"):
        restore(path, make(network=get_config("resnet20_cifar")))


def test_the_last_checkpoints_are_kept_and_no_other_files(tmp_path: Path) -> None:
    train_step = make()
    for train_step.step in (0, 5, 100, 20_000):
        save(tmp_path, train_step)
    folder = tmp_path / "checkpoints"
    assert [path.name for path in checkpoints(folder)] == ["step-000000100.safetensors", "step-000020000.safetensors"]
    assert len(list(folder.iterdir())) == 2


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
    train_step = make()
    train_step(*batch(0))
    train_step.step = 7
    path = save(tmp_path, train_step)
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
    path = save(tmp_path, make())
    save_file(load_file(path), path, {"resnets": header})
    with pytest.raises(TrainingError, match="undamaged checkpoint"):
        read_checkpoint(path)
