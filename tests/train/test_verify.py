"""Replays: that a run is reproducible, and where it is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from resnets import api
from resnets.errors import TrainingError
from resnets.train.optim.losses import ClassificationLoss
from resnets.train.run_folder.checkpoint import checkpoints, read_checkpoint, write_checkpoint
from tests.conftest import Command
from tests.train.run_folder.test_resume import RUNS
from tests.train.runs import start, stop_at, without_report

__all__ = ["without_report"]


def edit(path: Path, key: str, change: Any) -> None:
    """Change one tensor of a checkpoint and its digest, and nothing else."""
    checkpoint = read_checkpoint(path)
    tensors = checkpoint.tensors | {key: change(checkpoint.tensors[key].clone())}
    write_checkpoint(replace(checkpoint, tensors=tensors), path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", [name for name in RUNS if name != "streamed"])
def test_every_kind_of_run_is_reproducible(images: Path, tmp_path: Path, name: str) -> None:
    folder = start(images, tmp_path, **RUNS[name]).folder
    before = contents(folder)
    result = api.verify(folder, quiet=True)
    assert result.identical, result.message
    assert result.steps > 0
    assert "every loss to the last bit, and all" in result.message
    assert contents(folder) == before  # nothing is written


def test_a_replay_over_the_end_of_an_epoch_with_swa(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation at the end of an epoch does not change training."""
    options = RUNS["swa"] | {"every_steps": None, "epochs": 4}
    folder = start(images, tmp_path, **options).folder
    two = checkpoints(folder / "checkpoints")
    assert [path.name for path in two] == ["step-000000015.safetensors", "step-000000020.safetensors"]
    assert api.verify(folder, quiet=True).identical


def test_a_shorter_replay_compares_losses_alone(images: Path, tmp_path: Path) -> None:
    folder = start(images, tmp_path, every_steps=None).folder
    result = api.verify(folder, steps=2, quiet=True)
    assert (result.identical, result.steps) == (True, 2)
    assert "tensors" not in result.message


@pytest.mark.parametrize(
    ("key", "part"),
    [
        ("model.layer1.0.conv1.weight", "the loss of step"),
        ("optimizer.momentum_buffer.fc.weight", "the loss of step"),
        ("model.bn1.running_mean", "tensors, the first average.bn1.running_mean"),
        ("average.fc.bias", "tensors, the first average.fc.bias"),
    ],
)
def test_a_changed_bit_is_found(images: Path, tmp_path: Path, key: str, part: str, command: Command) -> None:
    folder = start(images, tmp_path, ema=0.9, every_steps=None).folder
    older, _ = checkpoints(folder / "checkpoints")

    def flip(tensor: torch.Tensor) -> torch.Tensor:
        tensor.view(-1).view(torch.int32)[0] ^= 1 << 20
        return tensor

    edit(older, key, flip)
    result = api.verify(folder, quiet=True)
    assert not result.identical
    assert result.message.startswith("different: ")
    assert part in result.message
    done = command("train", "--resume", folder, "--verify", 100)
    assert done.code == 1
    assert result.message in done.out
    done = command("train", "--resume", folder, "--verify", 100, "--json")
    assert json.loads(done.out) == {"identical": False, "steps": result.steps, "message": result.message}


def test_a_changed_image_is_found(tmp_path: Path) -> None:
    from tests.images import write_images

    root = write_images(tmp_path / "data", {"train": 8, "val": 2})
    folder = start(root, tmp_path, batch_size=8).folder
    assert api.verify(folder, quiet=True).identical
    (root / "train" / "red" / "000.png").write_bytes((root / "train" / "blue" / "001.png").read_bytes())
    assert not api.verify(folder, quiet=True).identical


def test_a_stopped_run_can_be_verified(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stop_at(images, tmp_path, 8, monkeypatch)
    result = api.verify(folder, quiet=True)
    assert (result.identical, result.steps) == (True, 2), result.message


def test_a_run_with_a_rollback_can_be_verified(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its checkpoint has the learning rate after the rollback."""
    wrong, loss = 0, ClassificationLoss.forward

    def once(self: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal wrong
        wrong += 1
        return loss(self, logits, labels) * (float("nan") if wrong == 8 else 1.0)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationLoss, "forward", once)
        folder = stop_at(images, tmp_path, 9, patch)
    result = api.verify(folder, quiet=True)
    assert result.identical, result.message


def test_a_replay_needs_two_checkpoints(images: Path, tmp_path: Path) -> None:
    folder = start(images, tmp_path, keep=1, epochs=1).folder
    with pytest.raises(TrainingError, match="a replay needs two checkpoints") as caught:
        api.verify(folder, quiet=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(TrainingError, match=r"no args\.yaml"):
        api.verify(tmp_path / "nothing", quiet=True)
