from __future__ import annotations

from pathlib import Path

import pytest
import torch

from resnets.arch.variants import get_config
from resnets.errors import TrainingError
from resnets.nn.model import ResNet, build_model
from resnets.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from resnets.train.loop import Stepper
from resnets.train.optim import Schedule, build_optimizer

CONFIG = get_config("resnet20_cifar", depths=(1, 1, 1))


def make(seed: int = 0) -> tuple[ResNet, Stepper]:
    torch.manual_seed(seed)
    model = build_model(CONFIG).to(memory_format=torch.channels_last)
    schedule = Schedule(kind="cosine", peak=0.1, warmup_steps=1, total_steps=20)
    return model, Stepper(model, build_optimizer(model, momentum=0.9, weight_decay=1e-3), schedule)


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 3, 16, 16, generator=generator), torch.randint(0, 10, (8,), generator=generator)


def test_a_restored_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole, stepper = make()
    for step in range(6):
        stepper(*batch(step))
        if step == 2:
            save_checkpoint(
                tmp_path / "c.safetensors", whole, stepper.optimizer, Progress(epoch=1, step=3, best_top1=0.5)
            )
    again, other = make(seed=1)
    progress = load_checkpoint(tmp_path / "c.safetensors", again, other.optimizer)
    assert progress == Progress(epoch=1, step=3, best_top1=0.5)
    other.step = progress.step
    for step in range(3, 6):
        other(*batch(step))
    for (name, one), two in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two), name


def test_momentum_keeps_the_memory_layout_of_its_parameter(tmp_path: Path) -> None:
    model, stepper = make()
    stepper(*batch(0))
    save_checkpoint(tmp_path / "c.safetensors", model, stepper.optimizer, Progress())
    again, other = make()
    load_checkpoint(tmp_path / "c.safetensors", again, other.optimizer)
    parameter = again.layer1[0].conv1.weight
    assert other.optimizer.state[parameter]["momentum_buffer"].stride() == parameter.stride()


def test_damaged_missing_and_foreign_checkpoints_are_one_line(tmp_path: Path) -> None:
    model, stepper = make()
    path = tmp_path / "c.safetensors"
    with pytest.raises(TrainingError, match="whole checkpoint"):
        load_checkpoint(path, model, stepper.optimizer)
    save_checkpoint(path, model, stepper.optimizer, Progress())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(TrainingError, match="whole checkpoint"):
        load_checkpoint(path, model, stepper.optimizer)
    path.write_bytes(content)
    other = build_model(get_config("resnet20_cifar"))
    with pytest.raises(TrainingError, match="same network"):
        load_checkpoint(path, other, build_optimizer(other, momentum=0.9, weight_decay=0))


def test_nothing_is_left_beside_a_checkpoint(tmp_path: Path) -> None:
    model, stepper = make()
    save_checkpoint(tmp_path / "c.safetensors", model, stepper.optimizer, Progress())
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.safetensors"]
